"""Steps along the levels of a Laplacian pyramid, against loops over the levels in plain NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import SHALLOW

import jaxstyle
from jaxstyle import Adam, Optax, minimize
from jaxstyle.laplacian import fold, unfold


def interpolation(old, new):
    """`(new, old)`: a bilinear resizing of one axis, whose neighbors are clipped to the picture."""
    matrix = np.zeros((new, old))
    for i in range(new):
        position = max((i + 0.5) * old / new - 0.5, 0)
        first = int(position)
        matrix[i, first] += 1 - (position - first)
        matrix[i, min(first + 1, old - 1)] += position - first
    return matrix


def resize(image, shape):
    rows, columns = (interpolation(image.shape[i], shape[i]) for i in range(2))
    return np.einsum("ih,jw,hwc->ijc", rows, columns, image)


def resize_back(image, shape):
    """The transpose of a resizing from `shape`."""
    rows, columns = (interpolation(shape[i], image.shape[i]) for i in range(2))
    return np.einsum("ih,jw,ijc->hwc", rows, columns, image)


SHAPES = [  # of a picture of 13 x 22, until the long edge has 2 pixels
    (13, 22),
    (6, 11),
    (3, 5),
    (1, 2),
]


def fold_by_hand(pyramid):
    image = pyramid[-1]
    for detail in reversed(pyramid[:-1]):
        image = detail + resize(image, detail.shape)
    return image


def fold_back(gradient):
    """The gradient by each level."""
    found = [gradient]
    for shape in SHAPES[1:]:
        found.append(resize_back(found[-1], shape))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_picture_is_divided_and_put_together(dtype):
    with jax.enable_x64(dtype == "float64"):
        image = np.random.default_rng(0).normal(size=(13, 22, 3))
        found = unfold(jnp.asarray(image, dtype), 8)
        assert [each.shape[:2] for each in found] == SHAPES
        expected, here = [], image
        for shape in SHAPES[1:]:
            smaller = resize(here, shape)
            expected.append(here - resize(smaller, here.shape))
            here = smaller
        atol = 1e-5 if dtype == "float32" else 1e-12
        for level, by_hand in zip(found, [*expected, here], strict=True):
            np.testing.assert_allclose(level, by_hand, atol=atol)
        np.testing.assert_allclose(fold(found), image, atol=atol)
        assert len(unfold(jnp.asarray(image, dtype), 2)) == 3


def waves(x, target):
    return jnp.sum((x - target) ** 2) + jnp.sum(jnp.cos(3 * x))


def test_adam_steps_along_the_levels():
    """Each level has its own moments; the variables are kept as levels, unlike in the solver."""
    rng = np.random.default_rng(1)
    start, target = rng.uniform(size=(2, 13, 22, 3))
    pyramid = [each.astype(float) for each in np_unfold(start)]
    first, second = ([np.zeros_like(each) for each in pyramid] for _ in range(2))
    losses = []
    for count in range(1, 9):
        image = fold_by_hand(pyramid)
        gradients = fold_back(2 * (image - target) - 3 * np.sin(3 * image))
        for i, gradient in enumerate(gradients):
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.99 * second[i] + 0.01 * gradient**2
            mean, square = first[i] / (1 - 0.9**count), second[i] / (1 - 0.99**count)
            pyramid[i] = pyramid[i] - 0.02 * mean / (np.sqrt(square) + 1e-8)
        image = fold_by_hand(pyramid)
        losses.append(np.sum((image - target) ** 2) + np.sum(np.cos(3 * image)))
    with jax.enable_x64(True):
        solver = Adam(num_steps=8, coordinates="laplacian")
        arguments = jnp.asarray(start), jnp.asarray(target)
        found, trace = minimize(waves, *arguments, solver=solver)
        np.testing.assert_allclose(trace.loss, losses, rtol=1e-10)
        np.testing.assert_allclose(found, image, atol=1e-10)
        plain = minimize(waves, *arguments, solver=Adam(num_steps=8))[1]
        assert np.abs(np.array(plain.loss) - losses).max() > 1e-2 * abs(losses[0])
        # A transformation that reads the variables and the loss finds the levels.
        chain = optax.chain(optax.scale_by_adam(b2=0.99), optax.scale(-0.02))
        same = Optax(chain, num_steps=8, coordinates="laplacian")
        np.testing.assert_allclose(minimize(waves, *arguments, solver=same)[1].loss, losses)
        decayed = Optax(optax.chain(chain, optax.add_decayed_weights(-0.1)), num_steps=1,
                        coordinates="laplacian")  # fmt: skip
        without = Optax(chain, num_steps=1, coordinates="laplacian")
        ends = [minimize(waves, *arguments, solver=each)[0] for each in (decayed, without)]
        np.testing.assert_allclose(ends[1] - ends[0], 0.1 * start, atol=1e-10)
        batch = jax.vmap(lambda x: minimize(waves, x, arguments[1], solver=solver)[0])
        np.testing.assert_allclose(batch(arguments[0][None])[0], found, atol=1e-10)


def np_unfold(image):
    found = []
    for shape in SHAPES[1:]:
        smaller = resize(image, shape)
        found.append(image - resize(smaller, image.shape))
        image = smaller
    return [*found, image]


def test_a_run_in_windows_in_a_batch_and_from_a_checkpoint(double):
    """Through a pyramid, whose larger size has one level more."""
    params, pictures = double
    pair = pictures(0, 32, 48), pictures(1, 32, 40)
    solver = Adam(num_steps=3, average=0.9, clip=True, keep_moments=True, coordinates="laplacian")
    pyramid = jaxstyle.Pyramid(coarsest=24, steps=(3,))
    recipe = dataclasses.replace(SHALLOW, grain=0.0, solver=solver, pyramid=pyramid)
    kept = {}

    def keep(found):
        leaves = jax.device_get(jax.tree.leaves(found.state))
        kept[int(found.stage), int(found.steps)] = found._replace(state=leaves)

    whole = dict(jaxstyle.stylize_steps(params, *pair, recipe=recipe, every=2, keep=keep))
    rest = dict(
        jaxstyle.stylize_steps(params, *pair, recipe=recipe, every=2, checkpoint=kept[1, 2])
    )
    jax.tree.map(np.testing.assert_array_equal, rest[6], whole[6])
    recipe = dataclasses.replace(recipe, pyramid=None)
    one = jaxstyle.stylize(params, *pair, recipe=recipe)
    tiled = jaxstyle.stylize(params, *pair, recipe=recipe, tile=16)
    np.testing.assert_allclose(tiled.image, one.image, atol=1e-7)
    batch = jaxstyle.stylize_batch(params, *(each[None] for each in pair), recipe=recipe)
    np.testing.assert_allclose(batch.image[0], one.image, atol=1e-7)


def test_moments_of_levels_are_carried_to_those_of_the_nearest_size():
    solver = Adam(num_steps=2, keep_moments=True, coordinates="laplacian")
    fun = lambda x: (jnp.sum(jnp.sin(x)), ())  # noqa: E731
    start = jnp.linspace(0, 1, 8 * 12).reshape(8, 12, 1)
    state = jax.jit(lambda x: solver.advance(fun, solver.start(fun, x), 2))(start)
    larger = solver.start(fun, jax.image.resize(start, (16, 24, 1), "linear"))
    moments = solver.warm_start(larger, solver.carried(state)).inner.transformation[0]
    before = state.inner.transformation[0]
    assert [each.shape for each in moments.mu] == [(16, 24, 1), (8, 12, 1), (4, 6, 1), (2, 3, 1)]
    np.testing.assert_array_equal(moments.mu[1], before.mu[0])
    np.testing.assert_array_equal(moments.nu[3], before.nu[2])
    expected = jax.image.resize(before.mu[0], (16, 24, 1), "cubic")
    np.testing.assert_allclose(moments.mu[0], expected, rtol=1e-6)
    assert int(moments.count) == int(before.count) == 2


def test_settings_are_checked():
    for make, hint in (
        (lambda: Adam(coordinates="fourier"), "is not one of pixels, laplacian"),
        (lambda: Adam(levels=0), "levels of Adam must be positive"),
        (lambda: Optax(optax.sgd(1.0), levels=1.5), "levels of Optax must be a whole number"),
        (
            lambda: minimize(jnp.sum, jnp.ones(4), solver=Adam(coordinates="laplacian")),
            r"of \(H, W, c\), not of shape \(4,\)",
        ),
    ):
        with pytest.raises(ValueError, match=hint):
            make()
