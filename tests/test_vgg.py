"""VGG19 against plain NumPy and against PyTorch's stored values."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import SHARED_IMAGES, load_golden
from PIL import Image

import jaxstyle
from jaxstyle import terms
from jaxstyle.network.vgg import CONV_LAYERS

# Rounding, about 1e3 eps after 16 layers, turns the sign of that share of the ReLUs. So many of the
# gradient's independent parts are wrong, which makes its error the share's square root.
FLOAT32 = (1e3 * np.finfo(np.float32).eps) ** 0.5
PHOTO = "content/tubingen.jpg"
PAINTING = "style/van_gogh_starry_night.jpg"


@pytest.fixture(scope="module")
def golden_params(params):
    """The pretrained weights, if they are the ones that the stored values were made with."""
    norms = load_golden("vgg19")["kernel_norms"]
    kernels = [np.asarray(params["params"][name]["kernel"], np.float64) for name in CONV_LAYERS]
    own = [np.linalg.norm(kernel) for kernel in kernels]
    if not np.allclose(norms, own, rtol=1e-6):
        pytest.skip("the stored values belong to the 8-bit weights, the cached ones are others")
    return params


@functools.cache
def crop(picture: str, box: tuple[int, ...], digest: str, seed: int = 0) -> np.ndarray:
    """The uint8 pixels that PyTorch had: a synthetic picture, or a part of a real one."""
    top, left, height, width = box
    if picture == "synthetic":
        pixels = reference.synthetic_image(height, width, seed)
    else:
        if not (SHARED_IMAGES / picture).exists():
            pytest.skip(f"no real pictures: {SHARED_IMAGES / picture} is absent")
        with Image.open(SHARED_IMAGES / picture) as image:
            whole = np.asarray(image.convert("RGB"))
        pixels = whole[top : top + height, left : left + width]
    if hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() != digest:
        pytest.skip("this JPEG decoder makes other pixels than the one of the stored values")
    return pixels


@pytest.mark.parametrize(
    ("pooling", "padding", "size"),
    [
        ("max", "zero", (33, 45)),
        ("average", "replicate", (35, 32)),
        ("l2", "zero", (32, 33)),
        ("max", "reflect", (64, 65)),
    ],
)
def test_every_layer_agrees_with_numpy(pooling, padding, size, random_params):
    """All 37 layers, in float64, on random parameters."""
    image = reference.as_float(reference.synthetic_image(*size))
    arrays = jax.tree.map(lambda a: np.asarray(a, np.float64), random_params["params"])
    expected = reference.vgg19(arrays, image, pooling=pooling, padding=padding)
    with jax.enable_x64(True):
        features = jax.jit(jaxstyle.VGG19(pooling=pooling, padding=padding).apply)(
            {"params": jax.tree.map(jnp.asarray, arrays)}, jnp.asarray(image)
        )
    assert set(features) == set(jaxstyle.LAYERS) == {"image", *expected}
    np.testing.assert_array_equal(features["image"], image)
    for name, value in expected.items():
        assert features[name].dtype == jnp.float64
        np.testing.assert_allclose(
            features[name], value, rtol=0, atol=1e-10 * np.abs(value).max(), err_msg=name
        )


@pytest.mark.parametrize("picture", ["synthetic", "photo"])
def test_every_layer_agrees_with_pytorch(picture, golden_params):
    """All 16 conv, 16 relu and 5 pool outputs on the real weights, to 1e-4 in float32."""
    golden = load_golden("vgg19")
    source = PHOTO if picture == "photo" else picture
    pixels = crop(source, tuple(golden[f"{picture}/box"]), str(golden[f"{picture}/sha256"]))
    image = jnp.asarray(reference.as_float(pixels, np.float32))
    modes = [key.removesuffix("/norms") for key in golden if key.endswith("/norms")]
    tested = 0
    for mode in modes:
        name, pooling, padding = mode.split("/")
        if name != picture or padding == "replicate-first":
            continue
        network = jaxstyle.VGG19(pooling=pooling, padding=padding)
        features = jax.jit(network.apply)(golden_params, image)
        for i, layer in enumerate(golden["layers"]):
            feature = np.asarray(features[str(layer)])
            assert feature.shape == tuple(golden[f"{picture}/shapes"][i])
            norm = golden[f"{mode}/norms"][i]
            np.testing.assert_allclose(np.linalg.norm(feature), norm, rtol=1e-4)
            values = feature.ravel()[golden[f"{picture}/indices"][i]]
            expected = golden[f"{mode}/values"][i]
            error = np.linalg.norm(values - expected) / np.linalg.norm(expected)
            assert error < 1e-4, (mode, layer, error)
        tested += 1
    assert tested >= 2


# Recipes that share a network share a program, and its forward pass.
SAME_NETWORK = {"max": ("gatys-notebook", "gokalp-kim"), "average": ("gatys",)}


@functools.partial(jax.jit, static_argnums=0)
def targets_of(names, params, content, style):
    recipes = [jaxstyle.recipes.RECIPES[name] for name in names]
    return [
        jaxstyle.prepare_targets(recipe.network, params, recipe.terms, content, style)
        for recipe in recipes
    ]


@functools.partial(jax.jit, static_argnums=0)
def values_and_gradients(names, params, targets, image):
    def value(x, name, target):
        recipe = jaxstyle.recipes.RECIPES[name]
        return jaxstyle.evaluate(recipe.network, params, recipe.terms, target, recipe.weights, x)

    both = jax.value_and_grad(value, has_aux=True)
    return [both(image, *each) for each in zip(names, targets, strict=True)]


@pytest.mark.parametrize("pooling", SAME_NETWORK)
@pytest.mark.parametrize(
    ("case", "dtype", "precision"),
    [
        ("synthetic", "float64", None),
        ("photo", "float32", None),
        *[
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [
                ("synthetic", "float64", "highest"),
                ("synthetic", "float32", None),
                ("photo", "float64", None),
                ("equal", "float64", None),
            ]
        ],
        pytest.param("photo", "float64", "highest", marks=pytest.mark.slow),
        pytest.param("equal", "float64", "highest", marks=pytest.mark.slow),
        pytest.param("equal", "float32", None, marks=pytest.mark.slow),
    ],
)
def test_recipes_agree_with_pytorch(case, dtype, precision, pooling, golden_params):
    """Loss, every term and the pixel gradient of the recipes on the real weights.

    The gradient of a network with ReLUs jumps where rounding turns a sign; in float64 none turns.
    """
    names = SAME_NETWORK[pooling]
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision(precision):
        images = crops_of(case, dtype)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), golden_params)
        targets = targets_of(names, params, *images[1:])
        found = values_and_gradients(names, params, targets, images[0])
    found = jax.tree.map(np.asarray, found)
    for name, ((value, per_term), gradient) in zip(names, found, strict=True):
        compare_with_pytorch(case, name, value, per_term, gradient)


def crops_of(case, dtype):
    """The image, the content and the style that PyTorch had."""
    golden, images = load_golden("losses"), []
    for role in ("image", "content", "style"):
        source = "synthetic" if case == "synthetic" else PAINTING if role == "style" else PHOTO
        key = f"{case}/{role}"
        seed = int(golden[f"{key}/seed"])
        pixels = crop(source, tuple(golden[f"{key}/box"]), str(golden[f"{key}/sha256"]), seed)
        images.append(jnp.asarray(reference.as_float(pixels, dtype)))
    return images


def compare_with_pytorch(case, name, value, per_term, gradient):
    golden, recipe = load_golden("losses"), jaxstyle.recipes.RECIPES[name]
    values_to, gradient_to = (1e-4, FLOAT32) if gradient.dtype == np.float32 else (1e-6, 1e-6)
    prefix = f"{case}/{name}"
    stored = [str(term) for term in golden[f"{prefix}/terms"]]
    values = dict(zip(stored, golden[f"{prefix}/values"], strict=True))
    weights = dict(zip(stored, golden[f"{prefix}/weights"], strict=False))
    np.testing.assert_allclose(value, values["total"], rtol=values_to)
    np.testing.assert_allclose(per_term["content"], values["content"], rtol=values_to)
    np.testing.assert_allclose(
        recipe.weights["style"] * per_term["style"], values["style"], rtol=values_to
    )
    assert weights["content"] == pytest.approx(recipe.weights["content"])
    total = stored.index("total")
    norm = golden[f"{prefix}/gradient_norms"][total]
    np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=gradient_to)
    sampled = gradient.ravel()[golden[f"{case}/indices"]]
    expected = golden[f"{prefix}/gradients"][total]
    assert np.linalg.norm(sampled - expected) / np.linalg.norm(expected) < gradient_to


def test_the_total_variation_of_the_keras_example_agrees_with_pytorch():
    golden = load_golden("losses")
    key = "synthetic/image"
    pixels = crop("synthetic", tuple(golden[f"{key}/box"]), str(golden[f"{key}/sha256"]))
    image = jnp.asarray(reference.as_float(pixels, np.float32))
    term = terms.TotalVariation(power=1.25)
    statistics = lambda x: term.loss(  # noqa: E731
        term.statistics({"image": 255 * x}, None, None), None
    )
    names = list(golden["synthetic/keras-example/terms"])
    value, gradient = jax.value_and_grad(statistics)(image)
    index = names.index("tv")
    np.testing.assert_allclose(value, golden["synthetic/keras-example/values"][index], rtol=1e-4)
    assert float(jnp.linalg.norm(gradient.ravel())) > 0


def test_computation_stops_at_the_deepest_layer(random_params, pictures):
    image = jnp.asarray(pictures(0))
    shallow = {"params": {name: random_params["params"][name] for name in CONV_LAYERS[:3]}}
    features = jaxstyle.VGG19().apply(shallow, image, ("relu2_1", "conv1_1"))
    assert set(features) == {"image", "conv1_1", "relu2_1"}
    assert set(jaxstyle.VGG19().apply({}, image, ())) == {"image"}
    assert set(jaxstyle.VGG19().apply({}, image, ("image",))) == {"image"}


def test_batches_and_dtypes(random_params, pictures):
    images = jnp.stack([pictures(i) for i in range(3)])

    def apply(params, image, network):
        return network.apply(params, image, ("relu3_1",))["relu3_1"]

    jitted = jax.jit(apply, static_argnums=2)
    loop = jnp.stack([jitted(random_params, image, jaxstyle.VGG19()) for image in images])
    batch = jax.jit(jax.vmap(apply, (None, 0, None)), static_argnums=2)
    found = batch(random_params, images, jaxstyle.VGG19())
    np.testing.assert_allclose(found, loop, rtol=1e-4, atol=1e-4)
    half = jitted(random_params, images[0], jaxstyle.VGG19(dtype=jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    error = np.linalg.norm(half.astype(jnp.float32) - loop[0]) / np.linalg.norm(loop[0])
    assert 1e-5 < error < 0.03


def test_torchvision_preprocessing(random_params, pictures):
    image = jnp.asarray(pictures(0))
    kernel = random_params["params"]["conv1_1"]["kernel"]
    bias = random_params["params"]["conv1_1"]["bias"]
    network = jaxstyle.VGG19(preprocessing="torchvision")
    standard = (np.asarray(image) - (0.485, 0.456, 0.406)) / np.array((0.229, 0.224, 0.225))
    expected = reference.convolution(standard, np.asarray(kernel), np.asarray(bias))
    found = network.apply(random_params, image, ("conv1_1",))["conv1_1"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_max_pooling_halves_odd_sides_and_passes_gradients():
    from jaxstyle.network.pooling import pool

    x = jnp.arange(5 * 7 * 2, dtype=jnp.float32).reshape(5, 7, 2)
    assert pool(x, "max").shape == (2, 3, 2)
    gradient = jax.grad(lambda x: jnp.sum(pool(x, "max")))(x)
    assert gradient.sum() == 2 * 3 * 2
    assert set(np.unique(gradient)) == {0, 1}
    assert not np.isnan(jax.grad(lambda x: jnp.sum(pool(x, "l2")))(jnp.zeros((4, 4, 1)))).any()


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_pooling_sends_the_gradient_of_a_window_to_what_made_its_value(pooling):
    from jaxstyle.network.pooling import pool

    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (6, 8, 5)).astype(np.float32)  # with many equal numbers
    factors = rng.uniform(1, 2, (3, 4, 5)).astype(np.float32)
    value, backward = jax.vjp(lambda x: pool(x, pooling), x)
    windows = x.reshape(3, 2, 4, 2, 5)
    reduce = np.max if pooling == "max" else np.mean
    np.testing.assert_array_equal(value, reduce(windows, (1, 3)))
    gradient = np.reshape(backward(factors)[0], windows.shape)
    np.testing.assert_allclose(gradient.sum((1, 3)), factors, rtol=1e-6)
    if pooling == "average":
        np.testing.assert_array_equal(gradient, gradient[:, :1, :, :1] * np.ones_like(windows))
    else:
        assert ((gradient != 0).sum((1, 3)) == 1).all()
        assert (windows == windows.max((1, 3), keepdims=True))[gradient != 0].all()


def test_a_picture_that_wraps_has_no_edges(double):
    """Moved by the stride of a layer, its features move by one position, around the edge too."""
    params, pictures = double
    network, layers = jaxstyle.VGG19(pooling="average", padding="wrap"), ("relu1_2", "relu3_1")
    image = jnp.asarray(pictures(0, 24, 32))
    rows, columns = (3, 5)  # in positions of relu3_1
    run = jax.jit(lambda params, image: network.apply(params, image, layers))
    moved = run(params, jnp.roll(image, (4 * rows, 4 * columns), (0, 1)))
    for layer, plane in run(params, image).items():
        stride = network.stride(layer)
        shift = 4 * rows // stride, 4 * columns // stride
        expected = jnp.roll(plane, shift, (0, 1))
        np.testing.assert_allclose(moved[layer], expected, atol=1e-11 * float(jnp.max(plane)))
    assert network.wraps
    assert not network.without_wrapping().wraps
    assert network.without_wrapping().padding == "replicate"
    assert jaxstyle.VGG19().without_wrapping() == jaxstyle.VGG19()


def test_smallest_images(random_params):
    for network, layer, minimum in (
        (jaxstyle.VGG19(), "relu5_1", 16),
        (jaxstyle.VGG19(), "pool5", 32),
        (jaxstyle.VGG19(padding="reflect"), "relu5_1", 32),
        (jaxstyle.VGG19(padding="wrap"), "relu1_2", 1),
        (jaxstyle.VGG19(padding="reflect"), "pool1", 2),
        (jaxstyle.VGG19(), "conv1_1", 1),
    ):
        assert network.minimum_size((layer,)) == minimum
        run = functools.partial(network.apply, layers=(layer,))
        features = jax.eval_shape(run, random_params, jnp.zeros((minimum, minimum, 3)))
        assert min(features[layer].shape) > 0
        if minimum > 1:
            with pytest.raises(ValueError, match=f"at least {minimum}x{minimum} px"):
                network.apply(random_params, jnp.zeros((minimum - 1, minimum, 3)), (layer,))


def test_mistakes_name_the_valid_choices(random_params, pictures):
    network, image = jaxstyle.VGG19(), jnp.asarray(pictures(0))
    with pytest.raises(ValueError, match="relu5_4"):
        network.apply(random_params, image, ("relu6_1",))
    with pytest.raises(ValueError, match="sequence"):
        network.apply(random_params, image, "relu1_1")
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        network.apply(random_params, image[None], ("relu1_1",))
    with pytest.raises(ValueError, match="floating point"):
        network.apply(random_params, (255 * image).astype(jnp.uint8), ("relu1_1",))
    with pytest.raises(ValueError, match=r"params must be the variables .* of type Array"):
        network.apply(image.astype(jnp.float32), random_params, ("relu1_1",))
    with pytest.raises(ValueError, match="max, average, l2"):
        jaxstyle.VGG19(pooling="median")
    with pytest.raises(ValueError, match="zero, replicate, reflect, wrap"):
        jaxstyle.VGG19(padding="same")
    for first, padding in (("replicate", "wrap"), ("wrap", "zero")):
        with pytest.raises(ValueError, match="all layers or none"):
            jaxstyle.VGG19(first_padding=first, padding=padding)


def test_networks_are_values():
    assert jaxstyle.VGG19() == jaxstyle.VGG19(pooling="max")
    assert hash(jaxstyle.VGG19(dtype=jnp.bfloat16)) == hash(jaxstyle.VGG19(dtype=jnp.bfloat16))
    assert jaxstyle.VGG19() != jaxstyle.VGG19(padding="reflect")


def test_prepared_kernels_do_not_make_float64_less_exact(random_params):
    image = np.random.default_rng(0).uniform(size=(48, 48, 3))
    network, layers = jaxstyle.VGG19(), ("relu3_1",)
    with jax.enable_x64(True):
        expected = network.apply(random_params, jnp.asarray(image), layers)["relu3_1"]
        prepared = network.prepare(random_params)
        assert prepared["transformed"]["conv3_1"].dtype == jnp.float32
        found = network.apply(prepared, jnp.asarray(image), layers)["relu3_1"]
        assert found.dtype == expected.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
