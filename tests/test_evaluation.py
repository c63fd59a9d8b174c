"""Targets and the weighted sum of terms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxstyle
from jaxstyle import terms

NETWORK = jaxstyle.VGG19()
SHALLOW = (
    terms.Content(layers=("relu2_1",), reduction="mean"),
    terms.GramStyle(layers=("relu1_1", "relu2_1"), layer_weights=(0.25, 0.75)),
    terms.TotalVariation(power=1.25, reduction="mean"),
)
WEIGHTS = {"content": 0.5, "style": 2.0, "total_variation": 3.0}
TWO = {"layers": ("relu1_1", "relu2_1"), "layer_weights": (0.25, 0.75)}
STYLE_TERMS = {
    "gatys": SHALLOW[1],
    "wasserstein": terms.Wasserstein2Style(**TWO),
    "mrf": terms.MRFStyle(**TWO),
}


@pytest.fixture(scope="module")
def problem(random_params, pictures):
    content, style, image = pictures(0), pictures(1, 24, 28), jnp.asarray(pictures(2))
    targets = jaxstyle.prepare_targets(NETWORK, random_params, SHALLOW, content, style)
    return random_params, content, style, image, targets


def test_value_is_the_sum_of_formulas(problem):
    params, content, style, image, targets = problem
    value, per_term = jaxstyle.evaluate(NETWORK, params, SHALLOW, targets, WEIGHTS, image)

    def features(x):
        found = NETWORK.apply(params, x, ("relu1_1", "relu2_1"))
        return {name: np.asarray(found[name], np.float64) for name in ("relu1_1", "relu2_1")}

    of_image, of_content, of_style = features(image), features(content), features(style)
    gram = lambda f: np.einsum("hwi,hwj->ij", f, f) / (f.shape[0] * f.shape[1])  # noqa: E731
    style_loss = sum(
        w * np.sum((gram(of_image[n]) - gram(of_style[n])) ** 2) / (4 * of_image[n].shape[2] ** 2)
        for n, w in (("relu1_1", 0.25), ("relu2_1", 0.75))
    )
    x = np.asarray(image, np.float64)
    dx, dy = x[:-1, 1:] - x[:-1, :-1], x[1:, :-1] - x[:-1, :-1]
    expected = {
        "content": np.mean((of_image["relu2_1"] - of_content["relu2_1"]) ** 2),
        "style": style_loss,
        "total_variation": np.sum((dx**2 + dy**2) ** 1.25) / (x.shape[0] * x.shape[1]),
    }
    for name, loss in expected.items():
        np.testing.assert_allclose(per_term[name], loss, rtol=1e-5)
    np.testing.assert_allclose(value, sum(WEIGHTS[n] * e for n, e in expected.items()), rtol=1e-5)


def test_under_jit_and_vmap_over_images_and_weights(problem):
    params, _, _, image, targets = problem

    def value(image, weights):
        return jaxstyle.evaluate(NETWORK, params, SHALLOW, targets, weights, image)[0]

    expected = value(image, WEIGHTS)
    np.testing.assert_allclose(jax.jit(value)(image, WEIGHTS), expected, rtol=1e-5)
    images = jnp.stack([image, image[::-1], 1 - image])
    loop = [value(each, WEIGHTS) for each in images]
    np.testing.assert_allclose(jax.vmap(value, (0, None))(images, WEIGHTS), loop, rtol=1e-5)
    sweep = {name: jnp.asarray([1.0, 2.0, 5.0]) * w for name, w in WEIGHTS.items()}
    np.testing.assert_allclose(
        jax.vmap(value, (None, 0))(image, sweep), np.array([1, 2, 5]) * expected, rtol=1e-5
    )


def test_gradients_reach_image_weights_and_parameters(problem):
    params, _, _, image, targets = problem

    def value(image, weights, params):
        return jaxstyle.evaluate(NETWORK, params, SHALLOW, targets, weights, image)

    (_, per_term), grads = jax.value_and_grad(value, (0, 1, 2), has_aux=True)(
        image, WEIGHTS, params
    )
    assert grads[0].shape == image.shape
    for name, loss in per_term.items():
        np.testing.assert_allclose(grads[1][name], loss, rtol=1e-6)
    conv1_1, conv5_1 = (grads[2]["params"][name]["kernel"] for name in ("conv1_1", "conv5_1"))
    assert jnp.any(conv1_1 != 0)
    assert not jnp.any(conv5_1)
    # A directional derivative, forwards, against the gradient.
    tangent = jnp.cos(jnp.arange(image.size, dtype=jnp.float32)).reshape(image.shape)
    forward = jax.jvp(lambda x: value(x, WEIGHTS, params)[0], (image,), (tangent,))[1]
    np.testing.assert_allclose(forward, jnp.vdot(grads[0], tangent), rtol=1e-4)


def test_gradient_in_float64_is_the_difference_quotient(problem):
    params, content, style, image, _ = problem
    with jax.enable_x64(True):
        params, content, style, image = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64), (params, content, style, image)
        )
        targets = jaxstyle.prepare_targets(NETWORK, params, SHALLOW, content, style)

        @jax.jit
        def evaluate(x, params, targets):
            return jaxstyle.evaluate(NETWORK, params, SHALLOW, targets, WEIGHTS, x)[0]

        def value(x):
            return evaluate(x, params, targets)

        assert value(image).dtype == jnp.float64
        direction = jnp.cos(jnp.arange(image.size, dtype=jnp.float64)).reshape(image.shape)
        # Small, for between two kinks of the ReLUs the objective is smooth.
        h = 1e-7
        quotient = (value(image + h * direction) - value(image - h * direction)) / (2 * h)
        np.testing.assert_allclose(jnp.vdot(jax.grad(value)(image), direction), quotient, rtol=1e-5)


def test_several_styles_average_their_statistics(problem, pictures):
    params, _, style, image, _ = problem
    styles = (style, pictures(5, 40, 24))
    style_term = SHALLOW[1:2]
    both = jaxstyle.prepare_targets(
        NETWORK, params, style_term, None, styles, style_weights=[3.0, 1.0]
    )
    each = [jaxstyle.prepare_targets(NETWORK, params, style_term, None, s) for s in styles]
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, *each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), both, expected)

    # The gradient is that of the weighted sum of the losses, as other programs have it.
    def gradient(targets):
        value = lambda x: jaxstyle.evaluate(  # noqa: E731
            NETWORK, params, style_term, targets, {"style": 1.0}, x
        )[0]
        return jax.grad(value)(image)

    np.testing.assert_allclose(
        gradient(both),
        0.75 * gradient(each[0]) + 0.25 * gradient(each[1]),
        rtol=1e-3,
        atol=1e-4 * float(jnp.abs(gradient(both)).max()),
    )


def test_styles_are_mixed_by_layer(problem, pictures):
    params, _, style, _, _ = problem
    other = pictures(5, 40, 24)
    term = SHALLOW[1:2]
    mixed = jaxstyle.prepare_targets(
        NETWORK,
        params,
        term,
        None,
        (style, other),
        style_weights={"relu1_1": [1, 0], "relu2_1": [0, 2]},
    )
    fine, coarse = (
        jaxstyle.prepare_targets(NETWORK, params, term, None, each) for each in (style, other)
    )
    np.testing.assert_allclose(mixed["style"]["relu1_1"], fine["style"]["relu1_1"], rtol=1e-6)
    np.testing.assert_allclose(mixed["style"]["relu2_1"], coarse["style"]["relu2_1"], rtol=1e-6)
    with pytest.raises(ValueError, match="relu1_1, relu2_1"):
        jaxstyle.prepare_targets(
            NETWORK, params, term, None, (style, other), style_weights={"relu3_1": [1.0, 0.0]}
        )


def guided(problem, name, masks, style_masks=None, styles=2):
    params, content, style, _, _ = problem
    term = STYLE_TERMS[name]
    images = (style, style[::-1, ::-1] ** 2)[:styles]
    targets = jaxstyle.prepare_targets(
        NETWORK, params, (term,), content, images, masks=masks, style_masks=style_masks
    )

    def value(x):
        return jaxstyle.evaluate(NETWORK, params, (term,), targets, {"style": 1.0}, x)[0]

    return value


@pytest.mark.parametrize("name", STYLE_TERMS)
def test_a_region_leaves_alone_what_it_does_not_see(name, problem):
    """Of both regions one is empty of style: its pixels, out of reach of the other's, are still."""
    *_, image, _ = problem
    height, width = image.shape[:2]
    masks = np.zeros((2, height, width), np.float32)
    masks[0, :, : width // 4] = 1
    masks[1, : height // 4, : width // 4] = 0.5
    grad = jax.jit(jax.grad(guided(problem, name, masks)))(image)
    assert jnp.all(jnp.isfinite(grad))
    assert jnp.any(grad[:, : width // 4] != 0)
    # relu2_1 sees 2 * (1 + 1) + 1 + 1 pixels further; a patch one position, of 2 pixels, more.
    np.testing.assert_array_equal(grad[:, width // 4 + 10 :], 0)


@pytest.mark.parametrize("name", STYLE_TERMS)
def test_a_region_of_everything_is_no_region(name, problem):
    *_, image, _ = problem
    everywhere = np.ones((1, *image.shape[:2]), np.float32)
    style_mask = [np.ones(problem[2].shape[:2], np.float32)]
    plain, whole = (
        jax.jit(jax.value_and_grad(guided(problem, name, masks, of_style, styles=1)))(image)
        for masks, of_style in ((None, None), (everywhere, style_mask))
    )
    np.testing.assert_allclose(whole[0], plain[0], rtol=1e-4)
    scale = float(jnp.abs(plain[1]).max())
    np.testing.assert_allclose(whole[1], plain[1], atol=1e-3 * scale)


def test_regions_are_weighted_grams(problem):
    """Gatys et al. 2017, section 4, in NumPy."""
    params, _, style, image, _ = problem
    rng = np.random.default_rng(3)
    masks = rng.uniform(size=(2, *image.shape[:2])).astype(np.float32)
    style_masks = [rng.uniform(size=style.shape[:2]).astype(np.float32), None]
    value = guided(problem, "gatys", masks, style_masks)(image)
    layers = ("relu1_1", "relu2_1")

    def features(x):
        found = NETWORK.apply(params, x, layers)
        return {name: np.asarray(found[name], np.float64) for name in layers}

    def gram(f, weight):
        return np.einsum("hwi,hwj,hw->ij", f, f, weight) / weight.sum()

    def shrink(mask, layer):
        if layer == "relu1_1":
            return mask
        height, width = (n // 2 for n in mask.shape)
        return mask[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))

    expected = 0.0
    styles = (style, style[::-1, ::-1] ** 2)
    of_image = features(image)
    for mask, each, style_mask in zip(masks, styles, style_masks, strict=True):
        of_style = features(each)
        own = np.ones(style.shape[:2]) if style_mask is None else style_mask
        for layer, factor in zip(layers, (0.25, 0.75), strict=True):
            difference = gram(of_image[layer], shrink(mask, layer)) - gram(
                of_style[layer], shrink(own, layer)
            )
            loss = np.sum(difference**2) / (4 * len(difference) ** 2)
            # Equal shares of 1/2, times 2 styles, times the area.
            expected += factor * mask.mean() * loss
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_one_region_of_a_mixture_of_styles(problem):
    """Its target is that of the mixture, also with shares by layer; its weight is its area."""
    params, _, style, image, _ = problem
    term = STYLE_TERMS["gatys"]
    styles = style, style[::-1, ::-1] ** 2
    shares = {"relu1_1": [0.25, 0.75]}
    mask = np.random.default_rng(3).uniform(size=(1, *image.shape[:2])).astype(np.float32)
    value, mixed = {}, {}
    for name, masks in (("mask", mask), ("whole", np.ones_like(mask)), ("none", None)):
        targets = jaxstyle.prepare_targets(
            NETWORK, params, (term,), None, styles, style_weights=shares, masks=masks
        )
        value[name], _ = jaxstyle.evaluate(NETWORK, params, (term,), targets, {"style": 1.0}, image)
        mixed[name] = targets["style"]
    np.testing.assert_allclose(value["whole"], value["none"], rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, mixed["mask"].targets[0], mixed["none"])
    # A mixture of one style is that style with its region.
    one = guided(problem, "gatys", mask, styles=1)(image)
    of_two = jaxstyle.prepare_targets(
        NETWORK, params, (term,), None, styles, style_weights=[1.0, 0.0], masks=mask
    )
    other, _ = jaxstyle.evaluate(NETWORK, params, (term,), of_two, {"style": 1.0}, image)
    np.testing.assert_allclose(other, one, rtol=1e-5)


def test_an_empty_region_has_no_gradient(problem):
    *_, image, _ = problem
    masks = np.zeros((2, *image.shape[:2]), np.float32)
    for name in STYLE_TERMS:
        value, grad = jax.jit(jax.value_and_grad(guided(problem, name, masks)))(image)
        assert float(value) == 0
        np.testing.assert_array_equal(grad, 0)


def test_normalized_gradients_have_the_norm_of_their_weight(problem):
    params, content, style, image, _ = problem
    layers = {"layers": ("image",), "layer_weights": (3.0,)}
    for term in (
        terms.GramStyle(**layers, normalize_gradients=True),
        terms.Content(**layers, normalize_gradients=True),
    ):
        targets = jaxstyle.prepare_targets(NETWORK, params, (term,), content, style)

        def value(x, term=term, targets=targets):
            weights = {term.name: jnp.float32(0.5)}
            return jaxstyle.evaluate(NETWORK, params, (term,), targets, weights, x)[0]

        def other(x, term=term, targets=targets):
            plain = (dataclasses.replace(term, normalize_gradients=False),)
            return jaxstyle.evaluate(NETWORK, params, plain, targets, {term.name: 0.5}, x)[0]

        assert float(value(image)) == pytest.approx(float(other(image)))
        grad, direction = jax.grad(value)(image), jax.grad(other)(image)
        np.testing.assert_allclose(jnp.sum(jnp.abs(grad)), 1.5, rtol=1e-4)
        scale = jnp.sum(jnp.abs(direction)) / 1.5
        np.testing.assert_allclose(grad * scale, direction, rtol=1e-4)


def test_normalized_gradients_have_the_sign_of_their_weight(problem):
    params, content, style, image, _ = problem
    term = terms.Content(layers=("image",), normalize_gradients=True)
    targets = jaxstyle.prepare_targets(NETWORK, params, (term,), content, style)

    def gradient(weight):
        value = lambda x: jaxstyle.evaluate(  # noqa: E731
            NETWORK, params, (term,), targets, {"content": jnp.float32(weight)}, x
        )[0]
        return jax.grad(value)(image)

    np.testing.assert_allclose(jnp.sum(jnp.abs(gradient(0.5))), 0.5, rtol=1e-4)
    np.testing.assert_allclose(gradient(-0.5), -gradient(0.5), rtol=1e-6)


def test_terms_are_values():
    assert terms.GramStyle() == terms.GramStyle()
    assert hash(terms.Content(reduction="mean")) == hash(terms.Content(reduction="mean"))
    assert terms.TotalVariation() != terms.TotalVariation(power=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        terms.Content().name = "x"


def test_mistakes_name_the_valid_choices(problem):
    params, content, style, image, targets = problem
    wrong = (terms.Content(layers=("relu9_9",)),)
    with pytest.raises(ValueError, match="relu4_2"):
        jaxstyle.prepare_targets(NETWORK, params, wrong, content, style)
    with pytest.raises(ValueError, match="relu4_2"):
        dataclasses.replace(jaxstyle.recipes.GATYS, terms=(*wrong, terms.GramStyle()))
    with pytest.raises(ValueError, match="layer_weights"):
        terms.GramStyle(layers=("relu1_1",))
    with pytest.raises(ValueError, match="half_sum, sum, mean, scaled"):
        terms.Content(reduction="product")
    with pytest.raises(ValueError, match="content, style, total_variation"):
        jaxstyle.evaluate(NETWORK, params, SHALLOW, targets, {"content": 1.0}, image)
    with pytest.raises(ValueError, match="different names"):
        jaxstyle.prepare_targets(NETWORK, params, SHALLOW[:1] * 2, content, style)
    with pytest.raises(ValueError, match="needs a style image"):
        jaxstyle.prepare_targets(NETWORK, params, SHALLOW, content, None)
    with pytest.raises(ValueError, match="2 styles"):
        jaxstyle.prepare_targets(
            NETWORK, params, SHALLOW, content, (style, style), style_weights=[1.0]
        )
    with pytest.raises(ValueError, match="1 styles"):
        jaxstyle.prepare_targets(
            NETWORK, params, SHALLOW, content, style, masks=np.ones((2, *content.shape[:2]))
        )
    with pytest.raises(ValueError, match="masks of shape"):
        jaxstyle.prepare_targets(NETWORK, params, SHALLOW, content, style, masks=np.ones((1, 3, 3)))
    with pytest.raises(ValueError, match="style mask of shape"):
        jaxstyle.prepare_targets(
            NETWORK, params, SHALLOW, content, style, style_masks=[np.ones((3, 3))]
        )
    misspelt = terms.TotalVariation()
    object.__setattr__(misspelt, "layers", ("relu1",))
    with pytest.raises(ValueError, match=r"unknown layers \['relu1'\]: .*relu1_1"):
        jaxstyle.evaluate(
            NETWORK, params, (misspelt,), {misspelt.name: None}, {misspelt.name: 1.0}, image
        )
    with pytest.raises(ValueError, match="too few for patches"):
        jaxstyle.prepare_targets(NETWORK, params, (terms.MRFStyle(),), None, style[:8, :8])


class Pixels(jaxstyle.Network):
    """A network of no layers, for what does not depend on them: nothing to compile."""

    layers = ("image",)

    def stride(self, layer):
        return 1

    def reach(self, layer):
        return 0

    def minimum_size(self, layers):
        return 1

    def apply(self, params, image, layers):
        del params, layers
        return {"image": image}


PIXELS = {"layers": ("image",), "layer_weights": (1.0,)}


@pytest.mark.parametrize("name", ["masks", "bool masks", "style_weights", "weights", "tile"])
def test_a_float32_picture_has_a_float32_loss_with_x64(name, pictures):
    content, style = pictures(0), pictures(1)
    term = terms.GramStyle(**PIXELS)
    masks = np.zeros((2, *content.shape[:2]))
    masks[0, :, ::2] = masks[1, :, 1::2] = 1
    settings = {
        "masks": {"masks": masks, "style_masks": [masks[0], None]},
        "bool masks": {"masks": masks > 0},
        "style_weights": {"style_weights": np.array([1.0, 3.0])},
    }.get(name, {})
    weights = {"style": np.float64(3) if name == "weights" else 3}

    def value():
        targets = jaxstyle.prepare_targets(
            Pixels(), {}, (term,), content, (style, content), **settings
        )
        return jaxstyle.evaluate(
            Pixels(), {}, [term], targets, weights, content, tile=16 if name == "tile" else None
        )

    expected = value()
    with jax.enable_x64(True):
        found = value()
        with jax.numpy_dtype_promotion("strict"):
            jax.tree.map(np.testing.assert_array_equal, value(), found)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert own.dtype == jnp.float32
        np.testing.assert_allclose(own, other, rtol=1e-4)


@pytest.mark.float16
def test_masks_in_half_precision_are_averaged_in_float32(pictures):
    """The area of a region is a sum over more pixels than float16 can count."""
    style = pictures(1)
    mask = np.full((1, 120, 120), 0.3, np.float16)  # sums to 4,320; float16 stops near 1,024
    bound = mask.size * np.finfo(np.float32).eps  # of a sum, one addend after the other
    targets = jaxstyle.prepare_targets(
        Pixels(), {}, (terms.GramStyle(**PIXELS),), None, style, masks=mask
    )
    np.testing.assert_allclose(targets["style"].factors, np.float16(0.3).astype(float), rtol=bound)
    loss = jaxstyle.evaluate(
        Pixels(), {}, (terms.GramStyle(**PIXELS),), targets, {"style": 1.0}, np.ones((120, 120, 3))
    )[0]
    gram = np.asarray(targets["style"].targets[0]["image"], np.float64)
    expected = float(np.float16(0.3)) * np.sum((1 - gram) ** 2) / 36
    amplified = 2 * np.max(1 / np.abs(1 - gram))  # a relative error of 1 in a square of 1 - gram
    np.testing.assert_allclose(loss, expected, rtol=(2 + amplified) * bound)


@pytest.mark.float16
def test_normalized_gradients_of_half_precision_features():
    """In float16 the sum of what is normalised is infinite, and so are its elements."""

    class Half(Pixels):
        def apply(self, params, image, layers):
            return {"image": image.astype(jnp.float16)}

    image = np.random.default_rng(0).uniform(size=(16, 16, 3)).astype(np.float32)
    term = terms.Content(**PIXELS, normalize_gradients=True)
    targets = jaxstyle.prepare_targets(Half(), {}, (term,), 1 - image, None)

    def value(x):
        return jaxstyle.evaluate(Half(), {}, (term,), targets, {"content": 1e6}, x)[0]

    # Each of 768 elements is some 1e3, rounded to 11 bits.
    norm = jnp.sum(jnp.abs(jax.grad(value)(image)))
    np.testing.assert_allclose(norm, 1e6, rtol=2**-10)


def test_wrong_arguments_name_what_is_expected(problem, pictures):
    params, content, style, image, targets = problem
    prepare = lambda *args, **kw: lambda: jaxstyle.prepare_targets(NETWORK, *args, **kw)  # noqa: E731
    evaluate = lambda *args, **kw: lambda: jaxstyle.evaluate(NETWORK, *args, **kw)  # noqa: E731
    both, inner = (style, style), params["params"]
    shifted = {"params": {**inner, "conv1_1": inner["conv1_2"]}}
    deep = {"content": 1.0}, {"content": {"relu5_1": content}}
    for call, message in (
        (evaluate(params, (), {}, {}, image), "at least one term"),
        (prepare(params, (), content, style), "at least one term"),
        (prepare(params, SHALLOW[0], content, style), r"\(term,\) for a single one"),
        (evaluate(params, SHALLOW[0], targets, WEIGHTS, image), r"\(term,\) for a single one"),
        (prepare(params, (terms.Content,), content, style), "is not a term"),
        (prepare(params, ("style",), content, style), "is not a term"),
        (prepare({}, SHALLOW, content, style), "load_params"),
        (prepare(None, SHALLOW, content, style), "load_params"),
        (prepare(inner, SHALLOW, content, style), 'pass {"params": params}'),
        (evaluate(inner, SHALLOW, targets, WEIGHTS, image), 'pass {"params": params}'),
        (prepare(shifted, SHALLOW, content, style), "up to relu2_1 in their shapes"),
        (evaluate(params, SHALLOW, targets, {"style": 1.0}, image), "weights for style, but"),
        (evaluate(params, SHALLOW, targets, None, image), "weights must be a mapping"),
        (evaluate(params, SHALLOW, None, WEIGHTS, image), "targets must be a mapping"),
        (evaluate(params, SHALLOW, {}, WEIGHTS, image), "targets for nothing"),
        (evaluate(params, SHALLOW, targets, {**WEIGHTS, "style": np.ones(2)}, image), "style"),
        (evaluate(params, SHALLOW, targets, {**WEIGHTS, "style": None}, image), "style"),
        (evaluate(params, SHALLOW, targets, {**WEIGHTS, "style": 1j}, image), "real"),
        (evaluate(params, SHALLOW[:1], *reversed(deep), image), "prepare_targets"),
        (evaluate(params, SHALLOW, targets, WEIGHTS, image[None]), "vmap"),
        (evaluate(params, SHALLOW, targets, WEIGHTS, None), "H, W, 3"),
        (evaluate(params, SHALLOW, targets, WEIGHTS, np.uint8(255 * image)), "floating point"),
        (evaluate(params, SHALLOW, targets, WEIGHTS, image, tile=0), "positive"),
        (evaluate(params, SHALLOW, targets, WEIGHTS, image, tile=8.5), "whole number"),
        (prepare(params, SHALLOW, np.uint8(255 * content), style), "floating point"),
        (prepare(params, SHALLOW, content, np.stack(both)), "tuple"),
        (prepare(params, SHALLOW, content, both, style_weights=(0, 0)), "one of them positive"),
        (prepare(params, SHALLOW, content, both, style_weights=(2, -1)), "none negative"),
        (prepare(params, SHALLOW, content, both, style_weights=(np.nan, 1)), "finite"),
        (prepare(params, SHALLOW, content, both, style_weights={"relu1_1": (0, 0)}), "positive"),
        (prepare(params, SHALLOW, content, both, style_weights="ab"), "numbers"),
        (
            prepare(params, SHALLOW, content, style, masks=np.ones((1, 32, 40), np.uint8)),
            "floating point",
        ),
        (prepare(params, SHALLOW, content, style, masks=np.ones((32, 40))), "S, H, W"),
        (
            prepare(params, SHALLOW, content, style, style_masks=[np.full((24, 28), 255)]),
            "floating point",
        ),
        (
            lambda: jaxstyle.prepare_targets(jaxstyle.VGG19, params, SHALLOW, content, style),
            "VGG19",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
