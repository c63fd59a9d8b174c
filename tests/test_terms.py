"""Terms on small features: additive, differentiable, under jit and vmap, in float32 and float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import terms

SHAPES = {"image": (12, 16, 3), "relu1_1": (12, 16, 5), "relu2_1": (6, 8, 4)}
TWO = {"layers": ("relu1_1", "relu2_1"), "layer_weights": (0.25, 0.75)}
STYLE_TERMS = {
    "gatys": terms.GramStyle(**TWO),
    "mean": terms.GramStyle(**TWO, reduction="mean"),
    "scaled": terms.GramStyle(**TWO, reduction="scaled"),
    "keras": terms.GramStyle(**TWO, reduction="keras"),
    "means": terms.MomentStyle(**TWO, order=1),
    "moments": terms.MomentStyle(**TWO),
    "wasserstein": terms.Wasserstein2Style(**TWO, iterations=40),
    "colors": terms.Wasserstein2Style(("image",), (1.0,), iterations=40),
    "mrf": terms.MRFStyle(**TWO),
}
OTHER_TERMS = {
    "half_sum": terms.Content(**TWO),
    "sum": terms.Content(**TWO, reduction="sum"),
    "content_mean": terms.Content(**TWO, reduction="mean"),
    "scaled_content": terms.Content(**TWO, reduction="scaled"),
    "local_affine": terms.LocalAffine(reduction="mean"),
    "squared": terms.TotalVariation(),
    "keras_variation": terms.TotalVariation(power=1.25, pixel_range=255.0),
    "isotropic": terms.TotalVariation(power=0.5, reduction="mean"),
    "nine_point": terms.NinePointVariation(),
}
ALL_TERMS = STYLE_TERMS | OTHER_TERMS


def features(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(np.abs(rng.normal(size=shape)) + rng.uniform(size=shape[2]), dtype)
        for name, shape in SHAPES.items()
    }


def target_of(term, *seen):
    if term.target_image == "style":
        shares = {layer: jnp.full(len(seen), 1 / len(seen)) for layer in SHAPES}
        # One program, since each operation by itself would be a program of its own.
        make = lambda seen: [term.statistics(each, None, None) for each in seen]  # noqa: E731
        return jax.jit(lambda seen: term.target(make(seen), shares))(seen)
    return {layer: seen[0][layer] for layer in term.layers} if term.target_image else None


def loss_of(term, target, weight=None):
    return lambda seen: term.loss(term.statistics(seen, target, weight), target)


@pytest.mark.parametrize("name", ALL_TERMS)
def test_statistics_of_parts_make_the_loss_of_the_whole(name):
    """Idea 2: every term's statistics over disjoint parts add up to those of the image."""
    term = ALL_TERMS[name]
    seen, target = features(0), target_of(term, features(1))
    rng = np.random.default_rng(2)
    part = {n: (rng.uniform(size=s[:2]) > 0.4).astype("float32") for n, s in SHAPES.items()}
    rest = {name: 1 - mask for name, mask in part.items()}
    ones = jax.tree.map(np.ones_like, part)

    @jax.jit
    def losses(seen, target, part, rest, ones):
        sums = [term.statistics(seen, target, mask) for mask in (part, rest)]
        added = term.loss(jax.tree.map(jnp.add, *sums), target)
        return added, loss_of(term, target, ones)(seen), loss_of(term, target)(seen)

    with jax.enable_x64(True):
        seen, target, part, rest, ones = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64 if leaf.dtype.kind == "f" else None),
            (seen, target, part, rest, ones),
        )
        added, weighted, plain = losses(seen, target, part, rest, ones)
    np.testing.assert_allclose(added, plain, rtol=1e-9)
    np.testing.assert_allclose(weighted, plain, rtol=1e-9)


@pytest.mark.parametrize("name", ALL_TERMS)
def test_under_grad_jit_and_vmap(name):
    term = ALL_TERMS[name]
    target = target_of(term, features(1))
    value_and_grad = jax.jit(jax.value_and_grad(loss_of(term, target)))
    value_alone = jax.jit(loss_of(term, target))
    both = [features(0), features(3)]
    batch = jax.vmap(value_and_grad)(jax.tree.map(lambda *leaves: np.stack(leaves), *both))
    batch = jax.device_get(batch)
    for i, seen in enumerate(both):
        value, grad = value_and_grad(seen)
        assert value > 0
        np.testing.assert_allclose(value_alone(seen), value, rtol=1e-4)
        np.testing.assert_allclose(batch[0][i], value, rtol=1e-4)
        for layer in SHAPES:
            scale = float(jnp.abs(grad[layer]).max())
            np.testing.assert_allclose(batch[1][layer][i], grad[layer], atol=1e-3 * scale)


@pytest.mark.parametrize("name", ALL_TERMS)
def test_gradients_in_float64_are_difference_quotients(name):
    term = ALL_TERMS[name]
    with jax.enable_x64(True):
        seen, target = features(0, np.float64), target_of(term, features(1, np.float64))
        value = jax.jit(loss_of(term, target))
        assert value(seen).dtype == jnp.float64
        direction = features(5, np.float64)
        # Small, for between two changes of nearest patches the loss is smooth.
        h = 1e-6
        ahead, behind = (
            value({n: np.asarray(a) + sign * h * np.asarray(direction[n]) for n, a in seen.items()})
            for sign in (1, -1)
        )
        grad = jax.jit(jax.grad(value))(seen)
        along = sum(np.vdot(grad[layer], direction[layer]) for layer in SHAPES)
        np.testing.assert_allclose(along, (ahead - behind) / (2 * h), rtol=1e-5)


@pytest.mark.parametrize("name", STYLE_TERMS)
def test_the_style_itself_has_nothing_to_gain(name):
    term = STYLE_TERMS[name]
    seen = features(0)
    loss = jax.jit(lambda seen, target: loss_of(term, target)(seen))
    worst = loss(seen, target_of(term, features(1)))
    assert abs(float(loss(seen, target_of(term, seen)))) < 1e-3 * float(worst)
    # The same style twice is that style.
    twice = loss(seen, target_of(term, features(1), features(1)))
    np.testing.assert_allclose(twice, worst, rtol=1e-4)


@pytest.mark.parametrize("reduction", ["gatys", "mean", "scaled", "keras"])
def test_pixels_are_a_layer_as_others_are(reduction):
    image = features(0)["image"]
    styles = [features(1)["image"], features(2)["image"]]
    term = terms.GramStyle(layers=("image",), layer_weights=(1.0,), reduction=reduction)
    shares = {"image": jnp.array([0.25, 0.75])}
    statistics = [term.statistics({"image": style}, None, None) for style in styles]
    target = term.target(statistics, shares)

    def gram(x):
        flat = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
        return flat.T @ flat / len(flat)

    expected = 0.25 * gram(styles[0]) + 0.75 * gram(styles[1])
    np.testing.assert_allclose(target["image"], expected, rtol=1e-5)
    error = gram(image) - expected
    squares, channels = np.sum(error**2), image.shape[-1]
    losses = {
        "gatys": squares / (4 * channels**2),
        "mean": squares / channels**2,
        "scaled": squares / np.sum(np.abs(error)),
        "keras": squares / 36,  # as many positions as the image has
    }
    found = term.loss(term.statistics({"image": image}, target, None), target)
    np.testing.assert_allclose(found, losses[reduction], rtol=1e-4)


def test_patches_under_a_grey_mask_are_the_lightest():
    term = terms.MRFStyle(layers=("relu3_1",), layer_weights=(1.0,))
    shape = (7, 8)
    seen = {"relu3_1": jnp.asarray(np.random.default_rng(0).normal(size=(*shape, 4)))}
    mask = np.full(shape, 0.2, np.float32)
    mask[3:5, 2:6] = 0.4
    _, allowed = term.statistics(seen, None, {"relu3_1": jnp.asarray(mask)})["relu3_1"]
    np.testing.assert_array_equal(allowed.reshape(shape[0] - 2, -1), mask[1:-1, 1:-1] > 0.3)


@pytest.mark.parametrize("name", STYLE_TERMS)
def test_an_empty_region_is_finite(name):
    term = STYLE_TERMS[name]
    empty = {layer: jnp.zeros(shape[:2]) for layer, shape in SHAPES.items()}
    value, grad = jax.jit(jax.value_and_grad(loss_of(term, target_of(term, features(1)), empty)))(
        features(0)
    )
    assert np.isfinite(value)
    for layer in SHAPES:
        np.testing.assert_array_equal(grad[layer], 0)


def test_moments_are_means_and_deviations():
    term = STYLE_TERMS["moments"]
    seen, style = features(0), features(1)
    expected = 0.0
    for layer, factor in zip(term.layers, term.layer_weights, strict=True):
        flat, other = (np.asarray(f[layer], np.float64).reshape(-1, SHAPES[layer][2])
                       for f in (seen, style))  # fmt: skip
        for moment in (np.mean, np.std):
            expected += factor * np.mean((moment(flat, axis=0) - moment(other, axis=0)) ** 2)
    np.testing.assert_allclose(loss_of(term, target_of(term, style))(seen), expected, rtol=1e-4)


def test_wasserstein_distance_is_that_of_gaussians():
    term = STYLE_TERMS["wasserstein"]
    seen, style = features(0), features(1)

    def root(a):
        values, vectors = np.linalg.eigh(a)
        return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

    expected = 0.0
    for layer, factor in zip(term.layers, term.layer_weights, strict=True):
        flat, other = (np.asarray(f[layer], np.float64).reshape(-1, SHAPES[layer][2])
                       for f in (seen, style))  # fmt: skip
        ridge = 1e-4 * np.eye(flat.shape[1])
        k, target = (np.cov(each.T, bias=True) + ridge for each in (flat, other))
        cross = np.trace(root(root(target) @ k @ root(target)))
        expected += factor * np.mean((flat.mean(0) - other.mean(0)) ** 2)
        expected += factor * (np.trace(k) + np.trace(target) - 2 * cross) / flat.shape[1]
    np.testing.assert_allclose(loss_of(term, target_of(term, style))(seen), expected, rtol=1e-3)


def test_nearest_patches_in_numpy():
    term = terms.MRFStyle(("relu2_1",), (1.0,))
    coarse = dataclasses.replace(term, stride=2, reduction="sum")
    seen, style = (np.asarray(features(i)["relu2_1"], np.float64) for i in (0, 1))

    def patches(x, stride=1):
        return [
            x[i : i + 3, j : j + 3].ravel()
            for i in range(0, 4, stride)
            for j in range(0, 6, stride)
        ]

    for each, stride, reduce in ((term, 1, np.mean), (coarse, 2, np.sum)):
        squares = []
        for own in patches(seen):
            best = max(patches(style, stride), key=lambda p: own @ p / np.linalg.norm(p))
            squares.append((own - best) ** 2)
        found = loss_of(each, target_of(each, features(1)))(features(0))
        np.testing.assert_allclose(found, reduce(squares), rtol=1e-5)


def test_settings_are_checked():
    for make, hint in (
        (lambda: terms.MomentStyle(order=3), "1 or 2"),
        (lambda: terms.Wasserstein2Style(epsilon=-1.0), "epsilon"),
        (lambda: terms.Wasserstein2Style(iterations=0), "iterations"),
        (lambda: terms.LocalAffine(epsilon=0.0), "positive"),
        (lambda: terms.MRFStyle(size=2), "odd"),
        (lambda: terms.MRFStyle(stride=0), "stride must be positive"),
        (lambda: terms.MRFStyle(reduction="half"), "mean, sum"),
        (lambda: terms.MRFStyle(layers=("relu1_1",)), "layer_weights"),
        (lambda: terms.TotalVariation(pixel_range=0.0), "pixel_range"),
        (lambda: terms.GramStyle(reduction="sum"), "gatys, mean, scaled, keras"),
    ):
        with pytest.raises(ValueError, match=hint):
            make()
    few = {"relu3_1": jnp.ones((2, 5, 3)), "relu4_1": jnp.ones((1, 2, 3))}
    with pytest.raises(ValueError, match="too few for patches"):
        terms.MRFStyle().statistics(few, None, None)
    assert dataclasses.replace(terms.MRFStyle(), size=3) == terms.MRFStyle()


@pytest.mark.parametrize("name", ALL_TERMS)
def test_under_strict_settings_and_x64(name):
    """Strict promotion of dtypes and ranks, and no NaN or infinity on the way; masks are float64.

    A mask of float64, as NumPy makes them, does not make a float32 loss float64.
    """
    term = ALL_TERMS[name]
    rng = np.random.default_rng(4)
    masks = {n: rng.uniform(size=shape[:2]) for n, shape in SHAPES.items()}

    @jax.jit
    def value_and_grad(seen, style, masks):
        shares = {layer: jnp.asarray([0.25, 0.75]) for layer in SHAPES}
        target = style[0] if term.target_image == "content" else None
        if term.target_image == "style":
            target = term.target([term.statistics(each, None, None) for each in style], shares)
        return jax.value_and_grad(loss_of(term, target, masks))(seen)

    arguments = features(0), [features(1), features(2)], masks
    expected = value_and_grad(*arguments)
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
        jax.debug_infs(True),
    ):
        on_device = jax.device_put(arguments)
        # On a GPU, `debug_nans` itself reads the results.
        with jax.transfer_guard("disallow"), jax.transfer_guard_device_to_host("allow"):
            found = value_and_grad(*on_device)
    for leaf in jax.tree.leaves(found):
        assert leaf.dtype == jnp.float32
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for layer, grad in expected[1].items():
        scale = float(jnp.abs(grad).max())
        np.testing.assert_allclose(found[1][layer], grad, atol=1e-4 * scale)


@pytest.mark.parametrize("name", ["gatys", "moments", "wasserstein", "squared"])
def test_half_precision_loses_nothing_but_the_features_own_rounding(name):
    term = ALL_TERMS[name]
    half = [{n: f.astype(jnp.bfloat16) for n, f in features(i).items()} for i in (0, 1)]
    exact = [{n: f.astype(jnp.float32) for n, f in each.items()} for each in half]
    mask = {n: jnp.full(shape[:2], 0.3, jnp.bfloat16) for n, shape in SHAPES.items()}
    wide = {n: each.astype(jnp.float32) for n, each in mask.items()}
    found, expected = (
        loss_of(term, target_of(term, style), weight)(seen)
        for (seen, style), weight in ((half, mask), (exact, wide))
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_mixed_styles_are_not_rounded_to_low_precision():
    """A TPU rounds the operands of products to bfloat16 by default; an average is no product."""
    term = STYLE_TERMS["wasserstein"]
    sums = [term.statistics(features(i), None, None) for i in (1, 2)]
    shares = {layer: jnp.asarray([0.3, 0.7]) for layer in SHAPES}
    assert "dot_general" not in jax.jit(terms.mix).lower(sums, shares).as_text()
    found = terms.mix(sums, shares)["relu1_1"][1]
    flat = [np.asarray(features(i)["relu1_1"], np.float64).reshape(-1, 5) for i in (1, 2)]
    expected = sum(s * f.T @ f / len(f) for s, f in zip((0.3, 0.7), flat, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_settings_become_hashable():
    listed = terms.GramStyle(layers=["relu1_1"], layer_weights=[np.float64(2)])
    assert listed == terms.GramStyle(layers=("relu1_1",), layer_weights=(2.0,))
    assert hash(listed) == hash(terms.GramStyle(layers=("relu1_1",), layer_weights=(2.0,)))
    assert type(listed.layer_weights[0]) is float  # NumPy's would make a loss float64 with x64
    assert type(terms.TotalVariation(power=np.float64(2)).power) is float
    one = {"layers": ("relu1_1",)}
    for make, hint in (
        (
            lambda: terms.GramStyle(**one, layer_weights=jnp.ones(1)),
            "layer_weights must be a tuple",
        ),
        (lambda: terms.GramStyle(**one, layer_weights=np.ones(1)), "layer_weights must be a tuple"),
        (lambda: terms.GramStyle(**one, layer_weights=(jnp.ones(()),)), "number, not an array"),
        (lambda: terms.GramStyle(**one, layer_weights=("1",)), "finite number"),
        (lambda: terms.GramStyle(**one, layer_weights=(np.nan,)), "finite number"),
        (lambda: terms.Content(layers="relu1_1"), "layers must be a tuple"),
        (lambda: terms.Content(layers=(1,)), "names of layers"),
        (lambda: terms.Content(("relu1_1",) * 2, (1.0, 1.0)), "once only"),
        (lambda: terms.Content(normalize_gradients=jnp.ones(())), "True or False"),
        (lambda: terms.Content(name=None), "name must be a text"),
        (lambda: terms.NinePointVariation(name=""), "name must be a text"),
        (lambda: terms.TotalVariation(power=jnp.ones(())), "power must be a number"),
        (lambda: terms.Wasserstein2Style(epsilon=np.inf), "epsilon must be a finite"),
        (lambda: terms.Wasserstein2Style(iterations=2.5), "whole number"),
        (lambda: terms.MRFStyle(size=3.0), "whole number"),
        (lambda: terms.Content(reduction=["sum"]), "half_sum, sum, mean, scaled"),
    ):
        with pytest.raises(ValueError, match=hint):
            make()


@pytest.mark.parametrize("name", ALL_TERMS)
def test_a_target_of_other_terms_is_refused(name):
    term = ALL_TERMS[name]
    if term.target_image is None:
        return
    seen = features(0)
    for target in ({"relu5_1": jnp.ones((4, 4))}, ()):
        with pytest.raises(ValueError, match="what prepare_targets returns"):
            loss_of(term, target)(seen)
