"""Window by window against the whole image: values, gradients, borders, masks, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxstyle
from jaxstyle import terms
from jaxstyle.tiling import make_tiling

SHALLOW = (
    terms.Content(layers=("relu2_1",), reduction="mean"),
    terms.GramStyle(("relu1_1", "relu2_1", "relu3_1"), (0.2, 0.3, 0.5)),
    terms.NinePointVariation(),
)
WEIGHTS = {"content": 1.0, "style": 5.0, "total_variation": 0.1}


def compare(network, term_list, weights, params, images, tiles, masks=None, style_masks=None):
    """Value and gradient, whole and by windows, in float64, where rounding turns no ReLU."""
    with jax.enable_x64(True):
        double = lambda leaf: jnp.asarray(leaf, jnp.float64)  # noqa: E731
        params, (content, style, image), masks, style_masks = jax.tree.map(
            double, (params, images, masks, style_masks)
        )
        styles = (style, style[::-1] ** 2) if masks is not None else style

        def value_and_grad(tile):
            def value(x, params, content, styles):
                targets = jaxstyle.prepare_targets(
                    network, params, term_list, content, styles, masks=masks,
                    style_masks=style_masks, tile=tile,
                )  # fmt: skip
                return jaxstyle.evaluate(
                    network, params, term_list, targets, weights, x, tile=tile
                )[0]

            return jax.jit(jax.value_and_grad(value))(image, params, content, styles)

        whole, expected = value_and_grad(None)
        for tile in tiles:
            found, grad = value_and_grad(tile)
            np.testing.assert_allclose(found, whole, rtol=1e-9)
            np.testing.assert_allclose(grad, expected, atol=1e-9 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize(
    ("pooling", "padding"),
    [
        ("max", "zero"),
        pytest.param("average", "replicate", marks=pytest.mark.slow),
        pytest.param("l2", "reflect", marks=pytest.mark.long),
        pytest.param("average", "zero", marks=pytest.mark.slow),
        pytest.param("l2", "replicate", marks=pytest.mark.slow),
    ],
)
def test_windows_of_any_size_are_the_whole(pooling, padding, random_params, pictures):
    # XLA's own convolution, which small windows have, is slow in float64: few layers, few pixels.
    two = terms.GramStyle(("relu1_1", "relu2_1"), (0.4, 0.6))
    images = [jnp.asarray(pictures(i, 45, 37)) for i in range(3)]
    network = jaxstyle.VGG19(pooling=pooling, padding=padding)
    term_list = (SHALLOW[0], two, SHALLOW[2])
    compare(network, term_list, WEIGHTS, random_params, images, [16, 1000])


@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.slow), True])
def test_windows_of_a_picture_that_wraps(masked, random_params, pictures):
    """They see the opposite edges, as the whole does; the style has a size and edges of its own."""
    images = [
        jnp.asarray(pictures(i, *size)) for i, size in enumerate([(48, 40), (45, 37), (48, 40)])
    ]
    network = jaxstyle.VGG19(pooling="average", padding="wrap")
    style = terms.GramStyle(("relu1_1", "relu2_1"), (0.4, 0.6))
    masks = jnp.linspace(0, 1, 48 * 40 * 2).reshape(2, 48, 40) if masked else None
    compare(
        network, (terms.LocalAffine(name="content"), style, SHALLOW[2]), WEIGHTS, random_params,
        images, [16], masks,
    )  # fmt: skip


def test_a_picture_that_wraps_is_moved_without_a_change(random_params, pictures):
    """Value and gradient of all kinds of terms, also of those that read neighbors."""
    term_list = (SHALLOW[0], terms.GramStyle(("relu2_1",), (1.0,)), SHALLOW[2])
    term_list += (terms.LocalAffine(), terms.MRFStyle(("relu2_1",), (1.0,), name="patches"))
    weights = {**WEIGHTS, "local_affine": 1.0, "patches": 1.0}
    network = jaxstyle.VGG19(pooling="average", padding="wrap")

    @jax.jit
    def value_and_grad(x, params, content, style):
        def value(x):
            targets = jaxstyle.prepare_targets(network, params, term_list, content, style)
            return jaxstyle.evaluate(network, params, term_list, targets, weights, x)[0]

        return jax.value_and_grad(value)(x)

    move = lambda image: jnp.roll(image, (6, -14), (0, 1))  # noqa: E731
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), random_params)
        content, style, image = (jnp.asarray(pictures(i, 24, 32), jnp.float64) for i in range(3))
        value, grad = value_and_grad(image, params, content, style)
        moved, moved_grad = value_and_grad(move(image), params, move(content), style)
        np.testing.assert_allclose(moved, value, rtol=1e-9)
        np.testing.assert_allclose(moved_grad, move(grad), atol=1e-9 * float(jnp.abs(grad).max()))


def test_windows_of_a_picture_that_wraps_need_whole_strides():
    network = jaxstyle.VGG19(padding="wrap")
    with pytest.raises(ValueError, match="multiples of 4 px"):
        make_tiling(network, (64, 66, 3), 16, ("relu3_1",), {})


@pytest.mark.parametrize(
    "style",
    [
        terms.GramStyle(SHALLOW[1].layers, (0.2, 0.3, 0.5), reduction="keras"),
        pytest.param(
            terms.GramStyle(SHALLOW[1].layers, (0.2, 0.3, 0.5), reduction="scaled"),
            marks=pytest.mark.slow,
        ),
        pytest.param(terms.MomentStyle(SHALLOW[1].layers, (0.2, 0.3, 0.5)), marks=pytest.mark.slow),
        terms.Wasserstein2Style(SHALLOW[1].layers, (0.2, 0.3, 0.5)),
    ],
    ids=["keras", "scaled", "moments", "wasserstein"],
)
def test_every_additive_term(style, random_params, pictures):
    images = [jnp.asarray(pictures(i, 70, 86)) for i in range(3)]
    others = (
        terms.Content(layers=("relu1_2", "relu2_1"), layer_weights=(0.5, 0.5), reduction="scaled"),
        terms.TotalVariation(power=0.5, reduction="mean"),
    )
    compare(jaxstyle.VGG19(), (others[0], style, others[1]), WEIGHTS, random_params, images, [32])


def test_masks(random_params, pictures):
    images = [jnp.asarray(pictures(i, 70, 86)) for i in range(3)]
    rng = np.random.default_rng(0)
    masks = jnp.asarray(rng.uniform(size=(2, 70, 86)), jnp.float32)
    style_masks = (None, jnp.asarray(rng.uniform(size=(70, 86)), jnp.float32))
    compare(jaxstyle.VGG19(), SHALLOW, WEIGHTS, random_params, images, [32], masks, style_masks)


def test_nearest_patches_by_windows(double):
    """The style's patches are no sum, so its target is made of the whole style."""
    params, pictures = double
    content, style, image = (jnp.asarray(pictures(i, 62, 51)) for i in range(3))
    network, term_list = jaxstyle.VGG19(), (terms.MRFStyle(("relu2_1",), (1.0,)),)
    with pytest.raises(ValueError, match="style is not a sum"):
        jaxstyle.prepare_targets(network, params, term_list, None, style, tile=32)

    @jax.jit
    def both(image, params, targets):
        return [
            jax.value_and_grad(
                lambda x, tile=tile: jaxstyle.evaluate(
                    network, params, term_list, targets, {"style": 1.0}, x, tile=tile
                )[0]
            )(image)
            for tile in (None, 24)
        ]

    targets = jaxstyle.prepare_targets(network, params, term_list, content, style)
    (whole, expected), (found, grad) = both(image, params, targets)
    np.testing.assert_allclose(found, whole, rtol=1e-9)
    np.testing.assert_allclose(grad, expected, atol=1e-9 * float(jnp.abs(expected).max()))


def test_normalised_gradients_are_refused(random_params, pictures):
    style = terms.GramStyle(("relu1_1",), (1.0,), normalize_gradients=True)
    targets = jaxstyle.prepare_targets(jaxstyle.VGG19(), random_params, (style,), None, pictures(0))
    with pytest.raises(ValueError, match="leave out tile"):
        jaxstyle.evaluate(
            jaxstyle.VGG19(), random_params, (style,), targets, {"style": 1.0}, pictures(1), tile=16
        )
    with pytest.raises(ValueError, match="positive"):
        make_tiling(jaxstyle.VGG19(), (64, 64), 0, ("relu1_1",), {})


def test_memory_is_that_of_a_window(random_params, pictures):
    """XLA's own plan: scratch memory grows with the window, and not with the image."""

    def scratch(height, tile):
        content = jnp.zeros((height, 128, 3))
        network, term_list = jaxstyle.VGG19(), SHALLOW[1:]
        weights = {"style": 1.0, "total_variation": 1.0}
        targets = jaxstyle.prepare_targets(
            network, random_params, term_list, None, jnp.asarray(pictures(1))
        )

        def value(x, params):
            return jaxstyle.evaluate(network, params, term_list, targets, weights, x, tile=tile)[0]

        compiled = jax.jit(jax.grad(value)).lower(content, random_params).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = scratch(512, 64), scratch(2048, 64)
    assert large < small + 16 * 1536 * 128 * 3 * 4
    assert scratch(512, None) > 2 * small


def test_receptive_field_by_looking(random_params, pictures):
    """A position's gradient is zero beyond its radius, and not before."""
    image = jnp.asarray(pictures(0, 96, 96))
    for layer in ("conv1_2", "relu2_1", "pool2", "relu3_2"):

        @jax.jit
        def one(x, params, layer=layer):
            features = jaxstyle.VGG19(pooling="average").apply(params, x, (layer,))[layer]
            return features[features.shape[0] // 2, features.shape[1] // 2].sum()

        # Winograd's convolution leaves rounding errors all over its tiles.
        with jax.default_matmul_precision("highest"):
            seen = np.flatnonzero(np.abs(jax.grad(one)(image, random_params)).sum((1, 2)))
        stride = jaxstyle.VGG19().stride(layer)
        middle = 96 // stride // 2 * stride
        radius = jaxstyle.VGG19().reach(layer)
        assert seen[0] == middle - radius
        assert seen[-1] == middle + stride - 1 + radius
    assert jaxstyle.VGG19().reach("relu5_1") == 70


@pytest.mark.parametrize("size", [16, 17, 64, 100, 127, 128, 333])
@pytest.mark.parametrize("tile", [1, 16, 50, 64])
def test_every_position_is_owned_once(size, tile):
    layers = ("relu1_1", "relu3_1")
    rows = make_tiling(jaxstyle.VGG19(), (size, 64), tile, layers, {}).rows
    count = np.zeros(size, int)
    for start, (first, last) in zip(rows.starts, rows.owned, strict=True):
        count[first:last] += 1
        assert start % 16 == 0  # tiles of 4 x 4 outputs of the deepest layer, each of 4 x 4 pixels
        assert start >= 0
        assert start + rows.window <= size
        # What an owned position sees is in the window, or outside of the image.
        assert start <= max(first - jaxstyle.VGG19().reach("relu3_1"), 0)
        assert start + rows.window >= min(last + jaxstyle.VGG19().reach("relu3_1"), size)
    np.testing.assert_array_equal(count, 1)


def test_a_run_by_windows_is_the_same_run(double):
    """With bounds that hold many pixels."""
    params, pictures = double
    recipe = jaxstyle.Recipe(
        name="test",
        source="test",
        description="test",
        terms=SHALLOW,
        weights=WEIGHTS,
        solver=jaxstyle.LBFGS(num_steps=5, bounds=(0.35, 0.65)),
    )
    whole, tiled = (
        jaxstyle.stylize(params, pictures(0, 60, 80), pictures(1), recipe=recipe, tile=tile)
        for tile in (None, 32)
    )
    np.testing.assert_allclose(tiled.trace, whole.trace, rtol=1e-6)
    np.testing.assert_allclose(tiled.image, whole.image, atol=1e-6)
    assert np.ptp(whole.trace) > 1e-3 * whole.trace[0]  # the picture moves
    held = (whole.image == 0.35) | (whole.image == 0.65)
    assert 0.1 < held.mean() < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gatys", "johnson", "crowson-w2"])
@pytest.mark.parametrize("shape", [(200, 296), (509, 771)])
def test_whole_recipes_by_windows(name, shape, params, pictures):
    """The real network, down to relu5_1; no border of a window is worse than its inside."""
    images = [jnp.asarray(pictures(i, *shape)) for i in range(3)]
    recipe = jaxstyle.recipes.RECIPES[name]
    tiles = [128, 160, 256] if shape == (200, 296) else [160]
    compare(recipe.network, recipe.terms, dict(recipe.weights), params, images, tiles)
