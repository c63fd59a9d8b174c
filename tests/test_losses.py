"""Losses against plain NumPy, their derivatives, and their behaviour under jit and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxstyle
from jaxstyle import losses

RNG = np.random.default_rng(1)
F = RNG.normal(size=(5, 7, 4))
P = RNG.normal(size=(5, 7, 4))
WEIGHT = RNG.uniform(size=(5, 7))


def numpy_gram(f):
    flat = f.reshape(-1, f.shape[-1])
    return sum(np.outer(row, row) for row in flat) / len(flat)


def numpy_total_variation(x, power, weight=None):
    total = 0.0
    height, width, channels = x.shape
    for i in range(height - 1):
        for j in range(width - 1):
            for c in range(channels):
                dx, dy = x[i, j + 1, c] - x[i, j, c], x[i + 1, j, c] - x[i, j, c]
                total += (dx**2 + dy**2) ** power * (1 if weight is None else weight[i, j])
    return total


GRAM, TARGET_GRAM = numpy_gram(F), numpy_gram(P)
CASES = {
    "gram_matrix": (jaxstyle.gram_matrix, (F,), GRAM),
    "gram_sum": (losses.gram_sum, (F, WEIGHT), np.einsum("hwi,hwj,hw->ij", F, F, WEIGHT)),
    "content_loss": (jaxstyle.content_loss, (F, P), 0.5 * np.sum((F - P) ** 2)),
    "squared_error_sum": (
        losses.squared_error_sum,
        (F, P, WEIGHT),
        np.sum((F - P) ** 2 * WEIGHT[..., None]),
    ),
    "style_loss": (
        jaxstyle.style_loss,
        (GRAM, TARGET_GRAM),
        np.sum((GRAM - TARGET_GRAM) ** 2) / (4 * 4**2),
    ),
    "total_variation": (jaxstyle.total_variation, (F,), numpy_total_variation(F, 1)),
    "total_variation_keras": (
        lambda x: jaxstyle.total_variation(x, power=1.25),
        (F,),
        numpy_total_variation(F, 1.25),
    ),
    "total_variation_isotropic": (
        lambda x, w: losses.total_variation_sum(x, w, power=0.5),
        (F, WEIGHT),
        numpy_total_variation(F, 0.5, WEIGHT),
    ),
    "median_filter": (
        lambda x: jaxstyle.median_filter(x, 3),
        (F,),
        np.stack(
            [
                np.median(
                    [
                        np.pad(F[..., c], 1, mode="edge")[i : i + 5, j : j + 7]
                        for i in range(3)
                        for j in range(3)
                    ],
                    axis=0,
                )
                for c in range(4)
            ],
            -1,
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_numpy(name, dtype):
    fun, arguments, expected = CASES[name]
    with jax.enable_x64(dtype == "float64"):
        arguments = [jnp.asarray(a, dtype) for a in arguments]
        value = fun(*arguments)
        assert value.dtype == dtype
        # Relative to the largest element: the small ones of a Gram matrix are sums that cancel.
        close = {
            "rtol": 0,
            "atol": (1e-6 if dtype == "float32" else 1e-14) * np.abs(expected).max(),
        }
        np.testing.assert_allclose(value, expected, **close)
        np.testing.assert_allclose(jax.jit(fun)(*arguments), value, **close)
        batch = [jnp.stack([a, 2 * a, a - 1]) for a in arguments]
        each = jnp.stack([fun(*[b[i] for b in batch]) for i in range(3)])
        close["atol"] *= np.abs(each).max() / np.abs(expected).max()
        np.testing.assert_allclose(jax.vmap(fun)(*batch), each, **close)


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    fun, arguments, _ = CASES[name]
    with jax.enable_x64(True):
        check_grads(fun, [jnp.asarray(a) for a in arguments], order=2, eps=1e-5)


@pytest.mark.parametrize("power", [0.5, 0.75, 1.0, 1.25])
def test_total_variation_of_a_flat_image_has_a_zero_gradient(power):
    fun = lambda x: jaxstyle.total_variation(x, power=power)  # noqa: E731
    value, grad = jax.value_and_grad(fun)(jnp.full((6, 6, 3), 0.3))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


def test_sums_over_parts_add_up():
    """What tiling and masks rest on: weights that share out the positions share out the sums."""
    part = (RNG.uniform(size=(5, 7)) > 0.5).astype(np.float32)
    f, p = jnp.asarray(F, jnp.float32), jnp.asarray(P, jnp.float32)
    for fun in (
        losses.gram_sum,
        lambda f, w=None: losses.squared_error_sum(f, p, w),
        lambda f, w=None: losses.total_variation_sum(f, w, power=0.5),
    ):
        np.testing.assert_allclose(fun(f, part) + fun(f, 1 - part), fun(f), rtol=1e-5)


def test_bfloat16_features_are_summed_in_float32():
    f = jnp.asarray(RNG.normal(size=(64, 64, 8)), jnp.bfloat16)
    exact = numpy_gram(np.asarray(f, np.float64))
    gram = losses.gram_matrix(f)
    assert gram.dtype == jnp.float32
    np.testing.assert_allclose(gram, exact, atol=1e-5)
    zero = jnp.zeros_like(f)
    loss = losses.content_loss(f, zero)
    np.testing.assert_allclose(loss, 0.5 * np.sum(np.asarray(f, np.float64) ** 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("fun", "arguments", "message"),
    [
        (jaxstyle.gram_matrix, [(2, 3)], "h, w, c"),
        (jaxstyle.gram_matrix, [(1, 2, 3, 4)], "vmap"),
        (jaxstyle.content_loss, [(2, 3, 4), (2, 3, 5)], "shape"),
        (jaxstyle.style_loss, [(4, 4), (3, 3)], "shape"),
        (jaxstyle.total_variation, [(4, 4)], "H, W, c"),
        (jaxstyle.median_filter, [(4, 4)], "H, W, c"),
    ],
)
def test_wrong_shapes(fun, arguments, message):
    with pytest.raises(ValueError, match=message):
        fun(*[jnp.zeros(shape) for shape in arguments])
