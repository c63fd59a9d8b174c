"""Nearest neighbors: the losses of rows, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import losses
from jaxstyle.losses import nearest

RNG = np.random.default_rng(3)
# Positive, as features after a ReLU: centering them changes which are the nearest.
X, S = RNG.uniform(size=(50, 6)) + 1, RNG.uniform(size=(30, 6)) * [1, 2, 3, 1, 1, 1]


def by_hand(x, s, center):
    """Indices, mean distance, and its gradient with the means held."""
    mean_x, mean_s = (each.mean(0) * center for each in (x, s))
    chosen, total, gradient = [], 0.0, np.zeros_like(x)
    for i, row in enumerate(x - mean_x):
        norm = np.linalg.norm(row)
        cosines = [row @ t / (norm * np.linalg.norm(t)) for t in s - mean_s]
        chosen.append(int(np.argmax(cosines)))
        t = (s - mean_s)[chosen[-1]] / np.linalg.norm((s - mean_s)[chosen[-1]])
        total += 1 - cosines[chosen[-1]]
        gradient[i] = -(t - cosines[chosen[-1]] * row / norm) / norm
    return chosen, total / len(x), gradient / len(x)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_indices_value_and_gradient(dtype, center, monkeypatch):
    monkeypatch.setattr(nearest, "_HELD", 30 * 16)  # 16 rows at a time, and 2 are left
    chosen, value, gradient = by_hand(X, S, center)
    with jax.enable_x64(dtype == "float64"):
        x, s = jnp.asarray(X, dtype), jnp.asarray(S, dtype)
        found = jax.jit(losses.nearest_rows, static_argnames="center")(x, s, center=center)
        np.testing.assert_array_equal(found, chosen)
        fun = jax.jit(jax.value_and_grad(lambda x: losses.nearest_loss(x, s, center=center)))
        bound = 1e-4 if dtype == "float32" else 1e-10
        np.testing.assert_allclose(fun(x)[0], value, rtol=bound)
        np.testing.assert_allclose(fun(x)[1], gradient, atol=bound * np.abs(gradient).max())
        batch = jax.vmap(fun)(jnp.stack([x[::-1], x]))
        np.testing.assert_allclose(batch[0][1], value, rtol=bound)
        np.testing.assert_allclose(batch[1][0][::-1], batch[1][1], atol=bound * 0.01)


def test_some_rows_may_not_be_chosen():
    """They count for the mean neither."""
    allowed = np.arange(len(S)) % 3 > 0
    for center in (False, True):
        found = losses.nearest_rows(X, S, center=center, allowed=allowed)
        expected = np.flatnonzero(allowed)[by_hand(X, S[allowed], center)[0]]
        np.testing.assert_array_equal(found, expected)


def test_rows_of_zeros_have_no_direction():
    rows = jnp.zeros((2, 3)).at[1].set([1.0, 0, 0])
    value, gradient = jax.value_and_grad(losses.nearest_loss)(rows, rows)
    assert float(value) == 0.5
    np.testing.assert_array_equal(gradient, 0)


def test_the_matrix_of_all_pairs_is_not_differentiated(monkeypatch):
    """Nor held: the largest array of the program is one of the arguments."""
    monkeypatch.setattr(nearest, "_HELD", 2**10)
    rows, style = jnp.ones((512, 8)), jnp.ones((1024, 8))
    text = jax.jit(jax.grad(losses.nearest_loss)).lower(rows, style).as_text()
    assert "1024x8xf32" in text
    assert not any(shape in text for shape in ("512x1024", "1024x512"))
