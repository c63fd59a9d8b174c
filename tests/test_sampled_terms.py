"""The losses of Kolkin et al. 2019 and the sliced ones as terms, at drawn positions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from test_sampling import read_plainly

import jaxstyle
from jaxstyle import sampling, terms

NETWORK = jaxstyle.VGG19(pooling="average", padding="replicate")
LAYERS = ("image", "relu1_1", "relu2_1")
SAMPLES = {"samples": 24, "style_samples": 31}
SLICED = {"layers": LAYERS[1:], "layer_weights": (1.0, 2.0), **SAMPLES}
TERMS = (
    terms.SelfSimilarity(LAYERS, samples=24),
    terms.RelaxedEMD(LAYERS, **SAMPLES),
    terms.SampleMoments(LAYERS, scale=0.5, **SAMPLES),
    terms.Palette(**SAMPLES),
    terms.SlicedStyle(**SLICED, directions=5, name="sliced"),
    terms.SlicedStyle(**SLICED, directions="axes", name="axes"),
)
WEIGHTS = {term.name: 1.0 for term in TERMS}


@pytest.fixture(scope="module")
def compute(random_params):
    """Value and gradient, with the losses of the terms; one program for each kind of arguments."""

    @functools.partial(jax.jit, static_argnames="tile")
    def losses(image, content, style, tile=None):
        targets = jaxstyle.prepare_targets(
            NETWORK, random_params, TERMS, content, style, key=jax.random.key(3), tile=tile
        )
        return jaxstyle.evaluate(NETWORK, random_params, TERMS, targets, WEIGHTS, image, tile=tile)

    return jax.jit(jax.value_and_grad(losses, has_aux=True), static_argnames="tile")


def test_losses_are_those_of_the_formulas_on_the_rows_that_were_drawn(
    compute, random_params, pictures
):
    """Rows are read one position at a time, and losses are computed in NumPy."""
    content, style, image = (jnp.asarray(pictures(i, 33, 30)) for i in range(3))
    (_, found), _ = compute(image, content, style)
    key = sampling.key_data(jax.random.key(3))
    positions = sampling.draw_positions(key, 24, (33, 30))
    of_style = sampling.draw_positions(sampling.style_key(key, 0), 31, (33, 30))
    apply = jax.jit(lambda x: NETWORK.apply(random_params, x, LAYERS))

    def rows(picture, where):
        features = jax.tree.map(np.float64, apply(picture))
        return {i: read_plainly(features[i], NETWORK.stride(i), where) for i in LAYERS}

    x, p, s = rows(image, positions), rows(content, positions), rows(style, of_style)

    def columns(rows, scale=1):
        return np.concatenate([rows["image"], *(scale * rows[layer] for layer in LAYERS[1:])], 1)

    typed = jax.random.wrap_key_data(key, impl="threefry2x32")
    expected = {
        "content": reference.self_similarity(columns(x), columns(p)),
        "style": reference.relaxed_emd(reference.cosine_distances(columns(x), columns(s))),
        "moments": reference.moments_of_rows(columns(x, 0.5), columns(s, 0.5)),
        "palette": reference.relaxed_emd(reference.palette_distances(x["image"], s["image"])),
        "sliced": 0.0,
        "axes": 0.0,
    }
    for i, layer in enumerate(LAYERS[1:]):
        own, other = (each[layer] / s[layer].mean() for each in (x, s))
        drawn = jax.random.fold_in(jax.random.fold_in(typed, 2), i)
        directions = np.float64(jax.random.normal(drawn, (own.shape[1], 5), jnp.float32))
        directions /= np.linalg.norm(directions, axis=0)
        for name, along in (("sliced", directions), ("axes", np.eye(own.shape[1]))):
            expected[name] += (i + 1) * reference.sliced_wasserstein(own, other, along)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_windows_compute_what_the_whole_does(compute, pictures):
    """Value and gradient, with the same draws."""
    arguments = [jnp.asarray(pictures(i, 33, 30)) for i in range(3)]
    (_, whole), expected = compute(*arguments)
    (_, found), grad = compute(*arguments, tile=16)
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(grad, expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_in_windows_no_features_of_the_whole_content_are_kept(random_params, pictures):
    """But the content, of which evaluation computes them, also without windows."""
    content, image = (jnp.asarray(pictures(i, 33, 30)) for i in range(2))
    term = dataclasses.replace(TERMS[0], layers=LAYERS[:2])

    def targets(tile):
        return jaxstyle.prepare_targets(
            NETWORK, random_params, (term,), content, None, key=jax.random.key(0), tile=tile
        )

    windows, whole = targets(16), jax.eval_shape(lambda: targets(None))
    assert {name: maps.shape for name, maps in windows["content"].target.items()} == {
        "image": (33, 30, 3)
    }
    assert set(whole["content"].target) == {"image", "relu1_1"}

    @jax.jit
    def losses(image):
        return [
            jaxstyle.evaluate(NETWORK, random_params, (term,), each, {"content": 1.0}, image)[0]
            for each in (windows, targets(None))
        ]

    np.testing.assert_allclose(*losses(image), rtol=1e-5)


def test_a_batch_is_a_loop(compute, pictures):
    batch = [jnp.stack([pictures(i + n, 33, 30) for i in range(2)]) for n in (0, 3, 6)]
    (_, losses), grads = jax.jit(jax.vmap(compute))(*batch)
    for i in range(2):
        (_, alone), grad = compute(*(each[i] for each in batch))
        for name, value in alone.items():
            np.testing.assert_allclose(losses[name][i], value, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(grads[i], grad, atol=1e-5 * float(jnp.abs(grad).max()))


def test_nothing_is_drawn_where_a_region_has_the_weight_0(random_params, pictures):
    """Pixels there have no gradient, and those of the painting do not change the losses."""
    content, style, image = (jnp.asarray(pictures(i, 24, 20)) for i in range(3))
    of_colors = [dataclasses.replace(term, layers=("image",)) for term in TERMS[1:3]]
    colors = (*of_colors, terms.Palette(**SAMPLES))
    mask = jnp.zeros((1, 24, 20)).at[0, 3:9, 7:].set(0.5)
    inside = mask[0] > 0

    @jax.jit
    def both(style):
        def value(image):
            targets = jaxstyle.prepare_targets(
                NETWORK, random_params, colors, content, style,
                masks=mask, style_masks=(mask[0],), key=jax.random.key(1),
            )  # fmt: skip
            weights = {term.name: 1.0 for term in colors}
            return jaxstyle.evaluate(NETWORK, random_params, colors, targets, weights, image)[0]

        return jax.value_and_grad(value)(image)

    value, grad = both(style)
    assert (grad[inside] != 0).any()
    np.testing.assert_array_equal(grad[~inside], 0)
    other, _ = both(jnp.where(inside[..., None], style, 1 - style))
    assert other == value
    changed, _ = both(jnp.where(inside[..., None], 1 - style, style))
    assert changed != value


def test_the_same_key_paints_the_same_picture(random_params, pictures):
    recipe = dataclasses.replace(
        jaxstyle.recipes.GATYS,
        terms=(terms.RelaxedEMD(LAYERS[:2], **SAMPLES),),
        weights={"style": 1.0},
        network=NETWORK,
        solver=jaxstyle.Adam(num_steps=4),
    )
    content, style = (jnp.asarray(pictures(i, 20, 16)) for i in range(2))
    one, again, other = (
        jaxstyle.stylize(random_params, content, style, recipe=recipe, key=jax.random.key(seed))
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one.image, again.image)
    assert (one.image != other.image).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: terms.SelfSimilarity(samples=0), "samples must be a whole number"),
        (lambda: terms.RelaxedEMD(style_samples=0), "style_samples must be"),
        (lambda: terms.RelaxedEMD(layers="relu1_1"), "layers must be a tuple"),
        (lambda: terms.SampleMoments(scale=0.0), "scale must be positive"),
        (lambda: terms.Palette(redraw=-1), "redraw must be"),
        (lambda: terms.SlicedStyle(directions=0), "directions must be"),
        (lambda: terms.SlicedStyle(directions="rows"), "directions must be"),
        (lambda: terms.SlicedStyle(layers=("relu1_1",)), "12 layer_weights for 1 layers"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
