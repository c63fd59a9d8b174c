"""Targets and the weighted sum of terms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxstyle
from jaxstyle import terms
from jaxstyle.objective import layers_of

NETWORK = jaxstyle.VGG19()
SHALLOW = (
    terms.Content(layers=("relu2_1",), reduction="mean"),
    terms.GramStyle(layers=("relu1_1", "relu2_1"), layer_weights=(0.25, 0.75)),
    terms.TotalVariation(power=1.25, reduction="mean"),
)
WEIGHTS = {"content": 0.5, "style": 2.0, "total_variation": 3.0}


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

        def value(x):
            return jaxstyle.evaluate(NETWORK, params, SHALLOW, targets, WEIGHTS, x)[0]

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
    both = jaxstyle.prepare_targets(NETWORK, params, style_term, None, styles, [3.0, 1.0])
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


def test_statistics_of_parts_make_the_loss_of_the_whole(problem):
    """Idea 2: every term's statistics over disjoint parts add up to those of the image."""
    params, _, _, image, targets = problem
    features = NETWORK.apply(params, image, layers_of(SHALLOW))
    rng = np.random.default_rng(0)
    part = {n: (rng.uniform(size=f.shape[:2]) > 0.4).astype("float32") for n, f in features.items()}
    rest = {name: 1 - mask for name, mask in part.items()}
    for term in SHALLOW:
        target = targets[term.name]
        whole = term.loss(term.statistics(features, target, None), target)
        sums = [term.statistics(features, target, mask) for mask in (part, rest)]
        added = term.loss(jax.tree.map(jnp.add, *sums), target)
        np.testing.assert_allclose(added, whole, rtol=1e-5)


def test_terms_are_values():
    assert terms.GramStyle() == terms.GramStyle()
    assert hash(terms.Content(reduction="mean")) == hash(terms.Content(reduction="mean"))
    assert terms.TotalVariation() != terms.TotalVariation(power=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        terms.Content().name = "x"


def test_mistakes_name_the_valid_choices(problem):
    params, content, style, image, targets = problem
    with pytest.raises(ValueError, match="relu4_2"):
        terms.Content(layers=("relu9_9",))
    with pytest.raises(ValueError, match="layer_weights"):
        terms.GramStyle(layers=("relu1_1",))
    with pytest.raises(ValueError, match="half_sum, mean"):
        terms.Content(reduction="sum")
    with pytest.raises(ValueError, match="content, style, total_variation"):
        jaxstyle.evaluate(NETWORK, params, SHALLOW, targets, {"content": 1.0}, image)
    with pytest.raises(ValueError, match="different names"):
        jaxstyle.prepare_targets(NETWORK, params, SHALLOW[:1] * 2, content, style)
    with pytest.raises(ValueError, match="needs a style image"):
        jaxstyle.prepare_targets(NETWORK, params, SHALLOW, content, None)
    with pytest.raises(ValueError, match="2 styles"):
        jaxstyle.prepare_targets(NETWORK, params, SHALLOW, content, (style, style), [1.0])
