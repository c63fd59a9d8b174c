"""Other networks than VGG19, and a term with a weight map, in all that the package does."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from networks import Encoder, Keep, make_encoder, make_recipe

import jaxstyle
from jaxstyle import terms
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io.recipe_codec import build_recipe

OF_VGG16 = ("relu1_1", "relu2_1")


@pytest.fixture(scope="module")
def params16():
    """Random parameters of VGG16's shapes, in float64."""
    rng = np.random.default_rng(0)
    params = {}
    for name, (kernel, bias) in jaxstyle.VGG16.conv_shapes.items():
        scale = np.sqrt(2 / np.prod(kernel[:3])) * (1 / 60 if name == "conv1_1" else 1)
        params[name] = {
            "kernel": scale * rng.standard_normal(kernel),
            "bias": 0.1 * rng.standard_normal(bias),
        }
    return {"params": params}


@pytest.fixture
def own(params16):
    """Name -> network, parameters and two layers; in float64, in which the test computes."""
    with jax.enable_x64(True):
        yield {
            "VGG16": (jaxstyle.VGG16(), jax.tree.map(jnp.asarray, params16), OF_VGG16),
            "encoder": (*make_encoder(), ("stem", "sixth")),
        }


def mask_of(shape):
    height, width = shape
    return jnp.linspace(0, 2, height * width, dtype=float).reshape(shape)


def test_every_layer_of_vgg16_agrees_with_numpy(own, monkeypatch):
    network, params, _ = own["VGG16"]
    image = reference.as_float(reference.synthetic_image(33, 34))
    monkeypatch.setattr(reference, "CONVOLUTIONS_PER_BLOCK", (2, 2, 3, 3, 3))
    expected = reference.vgg19(jax.tree.map(np.asarray, params["params"]), image)
    found = jax.jit(network.apply)(params, jnp.asarray(image))
    assert set(found) == set(network.layers) == {"image", *expected}
    assert len(network.conv_shapes) == 13
    for name, value in expected.items():
        close = 1e-10 * np.abs(value).max()
        np.testing.assert_allclose(found[name], value, rtol=0, atol=close, err_msg=name)


def test_parameters_of_another_vgg_are_refused(random_params, own):
    network, params, _ = own["VGG16"]
    network.check_params(params, ("relu5_1",))
    with pytest.raises(ValueError, match="conv3_4, conv4_4, conv5_4, which VGG16 does not have"):
        network.check_params(random_params, ("relu5_1",))
    with pytest.raises(ValueError, match="all convolutions up to relu5_1"):
        jaxstyle.VGG19().check_params(params, ("relu5_1",))
    with pytest.raises(ValueError, match=r"unknown layers \['relu3_4'\]"):
        dataclasses.replace(
            jaxstyle.recipes.GATYS,
            network=network,
            terms=(terms.Content(("relu3_4",)), terms.GramStyle()),
        )
    assert network != jaxstyle.VGG19()
    assert hash(network) == hash(jaxstyle.VGG16())


@pytest.mark.parametrize("layer", ["stem", "half", "sixth"])
def test_strides_and_reach_of_the_encoder(layer, own, pictures):
    """What the tests below rest on: a position's gradient ends where the network says."""
    network, params, _ = own["encoder"]
    image = jnp.asarray(pictures(0, 60, 60), float)
    i = 3

    def one(image):
        return network.apply(params, image, (layer,))[layer][i, i].sum()

    seen = np.flatnonzero(np.abs(jax.grad(one)(image)).sum((1, 2)))
    first, reach = i * network.stride(layer), network.reach(layer)
    assert seen[0] == first - reach
    assert seen[-1] <= first + network.stride(layer) - 1 + reach


@pytest.mark.parametrize("name", ["VGG16", "encoder"])
def test_windows_are_the_whole(name, own, pictures):
    """Value and gradient; of an odd size, with masks and a weight map of another size."""
    network, params, layers = own[name]
    content, style, image = (jnp.asarray(pictures(i, 75, 61), float) for i in range(3))
    recipe = make_recipe(network, layers, mask_of((20, 31)))
    masks = np.random.default_rng(0).uniform(size=(2, 75, 61))
    style_masks = (None, masks[0])

    @functools.partial(jax.jit, static_argnums=1)
    def value_and_grad(image, tile, params, mask):
        def value(image, mask):
            chosen = (dataclasses.replace(recipe.terms[0], mask=mask), *recipe.terms[1:])
            targets = jaxstyle.prepare_targets(
                network, params, chosen, content, (style, content),
                masks=masks, style_masks=style_masks, tile=tile,
            )  # fmt: skip
            return jaxstyle.evaluate(
                network, params, chosen, targets, recipe.weights, image, tile=tile
            )

        return jax.value_and_grad(value, (0, 1), has_aux=True)(image, mask)

    (whole, of_terms), expected = value_and_grad(image, None, params, recipe.terms[0].mask)
    (found, of_windows), grads = value_and_grad(image, 20, params, recipe.terms[0].mask)
    assert all(float(loss) > 0 for loss in of_terms.values())
    np.testing.assert_allclose(found, whole, rtol=1e-9)
    for term in of_terms:
        np.testing.assert_allclose(of_windows[term], of_terms[term], rtol=1e-9)
    for own_grad, other in zip(grads, expected, strict=True):
        assert jnp.any(other != 0)
        np.testing.assert_allclose(own_grad, other, atol=1e-9 * float(jnp.abs(other).max()))


@pytest.mark.long
@pytest.mark.parametrize("name", ["VGG16", "encoder"])
def test_runs(name, own, pictures):
    """A pair, the same in windows, and in a batch; from two sizes of a pyramid."""
    network, params, layers = own[name]
    contents, styles = (
        np.stack([pictures(seed, 36, 30).astype(float) for seed in seeds])
        for seeds in ((0, 1), (2, 3))
    )
    pyramid = jaxstyle.Pyramid(coarsest=18, steps=(2,))
    recipe = make_recipe(network, layers, mask_of((36, 30)), pyramid=pyramid)
    batch = jaxstyle.stylize_batch(params, contents, styles, recipe=recipe)
    windows = jaxstyle.stylize(params, contents[1], styles[1], recipe=recipe, tile=12)
    single = jaxstyle.stylize(params, contents[1], styles[1], recipe=recipe)
    assert single.trace.shape == (10,)
    assert float(single.loss) < float(single.trace[2])  # that of the start at the full size
    for found in (windows, jax.tree.map(lambda leaf: leaf[1], batch)):
        np.testing.assert_allclose(found.trace, single.trace, rtol=1e-6)
        np.testing.assert_allclose(found.image, single.image, atol=1e-6)


@pytest.mark.long
def test_another_weight_map_is_another_picture_of_the_same_program(own, pictures):
    network, params, _ = own["encoder"]
    content, style = (pictures(i, 30, 36).astype(float) for i in range(2))
    half = jnp.zeros((30, 36)).at[:, 18:].set(1.0)
    recipe = make_recipe(
        network,
        ("stem", "image"),
        half,
        weights={"keep": 1e3, "style": 1.0, "total_variation": 0.0},
        solver=jaxstyle.LBFGS(num_steps=20),
    )
    kept = jaxstyle.stylize(params, content, style, recipe=recipe).image
    change = np.abs(np.asarray(kept) - content).mean((0, 2))
    assert change[24:].mean() < 0.5 * change[:12].mean()
    compiled = []

    def listen(event, *_, **__):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    mirrored = dataclasses.replace(recipe, terms=(
        dataclasses.replace(recipe.terms[0], mask=half[:, ::-1]), *recipe.terms[1:]
    ))  # fmt: skip
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        other = jaxstyle.stylize(params, content, style, recipe=mirrored).image
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
    change = np.abs(np.asarray(other) - content).mean((0, 2))
    assert change[:12].mean() < 0.5 * change[24:].mean()
    # Arrays are traced: a sweep over maps is a vmap.
    paint = lambda mask: jaxstyle.stylize(  # noqa: E731
        params, content, style,
        recipe=dataclasses.replace(recipe, terms=(
            dataclasses.replace(recipe.terms[0], mask=mask), *recipe.terms[1:])),
    ).image  # fmt: skip
    both = jax.vmap(paint)(jnp.stack([half, half[:, ::-1]]))
    np.testing.assert_allclose(both, jnp.stack([kept, other]), atol=1e-6)


def test_recipes_as_text():
    recipe = dataclasses.replace(
        jaxstyle.recipes.GATYS, network=jaxstyle.VGG16(padding="reflect", dtype=jnp.bfloat16)
    )
    description = jaxstyle.io.describe_recipe(recipe)
    assert description["network"]["type"] == "VGG16"
    assert build_recipe(description) == recipe
    with pytest.raises(jaxstyle.io.InputError, match="another network than VGG19"):
        vgg_of(recipe)
    with pytest.raises(jaxstyle.io.InputError, match="holds an array"):
        jaxstyle.io.describe_recipe(make_recipe(jaxstyle.VGG16(), OF_VGG16, jnp.ones((3, 3))))


def test_starts_from_the_mean_color(own, pictures):
    network, params, layers = own["encoder"]
    recipe = make_recipe(network, layers, jnp.ones((30, 36)), init="mean")
    content, style = (pictures(i, 30, 36).astype(float) for i in range(2))
    steps = jaxstyle.stylize_steps(
        params, content, style, recipe=recipe, key=jax.random.key(0), every=1
    )
    _, first = next(steps)
    np.testing.assert_allclose(first.image, 0.5, atol=1e-4)


def test_mistakes(own, pictures):
    network, params, layers = own["encoder"]
    recipe = make_recipe(network, layers, jnp.ones((30, 36)))
    picture = pictures(0, 30, 36).astype(float)
    with pytest.raises(ValueError, match="too small for sixth, stem, image: at least 5x5"):
        jaxstyle.stylize(params, picture[:4], picture, recipe=recipe)
    with pytest.raises(ValueError, match=r"unknown layers .*: .* out of image, stem, half, sixth"):
        jaxstyle.prepare_targets(network, params, (terms.Content(),), picture, None)

    class Wrong(Keep):
        def position_weights(self, shape):
            return self.mask[1:]

    wrong = (Wrong(recipe.terms[0].mask, "stem"),)
    with pytest.raises(ValueError, match="position_weights of keep must have shape"):
        jaxstyle.evaluate(network, params, wrong, {"keep": None}, {"keep": 1.0}, picture)
    with pytest.raises(ValueError, match=r"inherits from jaxstyle\.Network"):
        jaxstyle.prepare_targets(object(), params, recipe.terms, picture, picture)
    with pytest.raises(ValueError, match=r"inherits from jaxstyle\.terms\.Term"):
        jaxstyle.prepare_targets(network, params, (object(),), picture, picture)
    with pytest.raises(ValueError, match="not a network"):
        dataclasses.replace(recipe, network="vgg19")

    @dataclasses.dataclass(frozen=True)
    class Unregistered(terms.Content):
        mask: object = None

    with pytest.raises(ValueError, match="must be registered"):
        dataclasses.replace(recipe, terms=(Unregistered(("stem",), mask=jnp.ones(3)),),
                            weights={"content": 1.0})  # fmt: skip
    assert Encoder(network.graph) == network
    assert Keep.reach == 0
