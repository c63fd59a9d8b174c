"""Nearest neighbors: the losses of rows and the terms, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_sampling import read_plainly

import jaxstyle
from jaxstyle import losses, sampling
from jaxstyle.losses import nearest
from jaxstyle.terms import NearestStyle

RNG = np.random.default_rng(3)
# Positive, as features after a ReLU: centering them changes which are the nearest.
X, S = RNG.uniform(size=(50, 6)) + 1, RNG.uniform(size=(30, 6)) * [1, 2, 3, 1, 1, 1]


def by_hand(x, s, center):
    """Indices, mean distance, and its gradient."""
    mean_x, mean_s = (each.mean(0) * center for each in (x, s))
    chosen, total, gradient = [], 0.0, np.zeros_like(x)
    for i, row in enumerate(x - mean_x):
        norm = np.linalg.norm(row)
        cosines = [row @ t / (norm * np.linalg.norm(t)) for t in s - mean_s]
        chosen.append(int(np.argmax(cosines)))
        t = (s - mean_s)[chosen[-1]] / np.linalg.norm((s - mean_s)[chosen[-1]])
        total += 1 - cosines[chosen[-1]]
        gradient[i] = -(t - cosines[chosen[-1]] * row / norm) / norm
    gradient -= gradient.mean(0) * center  # rows that move together change nothing
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
    allowed = np.arange(len(S)) % 3 > 0
    found = losses.nearest_rows(X, S, allowed=allowed)
    expected = np.flatnonzero(allowed)[by_hand(X, S[allowed], center=False)[0]]
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


TERM = NearestStyle(
    groups=(("relu1_1", "relu2_1"), ("image",)),
    group_weights=(1.0, 0.5),
    samples=60,
    style_samples=40,
    center=True,
    rotations=True,
)


@pytest.mark.parametrize("center", [True, pytest.param(False, marks=pytest.mark.long)])
def test_each_group_is_compared_with_the_style_and_its_rotations(center, random_params, pictures):
    term = jaxstyle.terms.NearestStyle(**{**vars(TERM), "center": center})
    network = jaxstyle.VGG19()
    style, image = jnp.asarray(pictures(1, 26, 35)), jnp.asarray(pictures(2, 33, 30))
    drawn = jaxstyle.prepare_targets(
        network, random_params, (term,), None, style, key=jax.random.key(5)
    )
    found, _ = jaxstyle.evaluate(network, random_params, (term,), drawn, {"style": 1.0}, image)

    def rows(picture, key, number):
        positions = sampling.draw_positions(key, number, picture.shape)
        maps = network.apply(random_params, picture, term.layers)
        return {
            layer: read_plainly(np.asarray(maps[layer], float), network.stride(layer), positions)
            for layer in term.layers
        }

    key = sampling.key_data(jax.random.key(5))
    of_style = sampling.style_key(key, 0)
    turns = [rows(style, of_style, 40)]
    turns += [rows(jnp.rot90(style, k), sampling.fold_in(of_style, k), 40) for k in (1, 2, 3)]
    own, expected = rows(image, key, 60), 0.0
    for group, weight in zip(term.groups, term.group_weights, strict=True):
        x = np.concatenate([own[layer] for layer in group], 1)
        s = [np.concatenate([turn[layer] for layer in group], 1) for turn in turns]
        assert len(drawn["style"].target[group[0]]) == 160
        expected += weight * by_hand(x, np.concatenate(s), center)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.long
def test_windows_of_rotated_styles_are_the_whole(double):
    params, pictures = double
    style, image = jnp.asarray(pictures(1, 48, 26)), jnp.asarray(pictures(2, 40, 48))
    network = jaxstyle.VGG19(pooling="average")
    terms = (jaxstyle.terms.NearestStyle(**{**vars(TERM), "groups": (("relu1_1",), ("image",))}),)

    def value(x, tile):
        targets = jaxstyle.prepare_targets(
            network, params, terms, None, style, key=jax.random.key(3), tile=tile
        )
        return jaxstyle.evaluate(network, params, terms, targets, {"style": 1.0}, x, tile=tile)[0]

    both = jax.jit(jax.value_and_grad(value), static_argnums=1)
    whole, expected = both(image, None)
    found, grad = both(image, 16)
    np.testing.assert_allclose(found, whole, rtol=1e-10)
    np.testing.assert_allclose(grad, expected, atol=1e-10 * np.abs(expected).max())


def test_settings_are_checked():
    for settings, hint in (
        ({"groups": ("relu1_1",)}, "tuples of layers in a tuple"),
        ({"groups": ()}, "tuples of layers in a tuple"),
        ({"groups": ((1,),)}, "names of layers"),
        ({"groups": (("relu1_1", "relu1_1"),)}, "name each layer once only"),
        ({"group_weights": (1.0, 2.0)}, "2 group_weights, 1 groups"),
        ({"group_weights": ("much",)}, "group_weights must be a finite number"),
        ({"center": 1}, "center must be True or False"),
        ({"rotations": "all"}, "rotations must be True or False"),
        ({"samples": 0}, "samples must be a whole number from 1"),
        ({"name": ""}, "name must be a text"),
    ):
        with pytest.raises(ValueError, match=hint):
            NearestStyle(**settings)
