"""VGG19 and the style losses once more, in plain NumPy: what the tests compare the package with.

It shares no code with the package and is written to be read, not to be fast. Everything is
computed in float64 unless a function is told otherwise. `golden/make_golden.py` checks it against
PyTorch and writes the reference values beside it.

Images are sRGB in [0, 1], shape `(H, W, 3)`; feature maps have shape `(h, w, c)`; parameters are
`{"conv1_1": {"kernel": (3, 3, in, out), "bias": (out,)}, ...}`. The networks' pixels ("Caffe
space") are BGR in 0-255 minus the means.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating]
Features = Mapping[str, Array]
Params = Mapping[str, Mapping[str, Array]]

CONVOLUTIONS_PER_BLOCK = (2, 2, 4, 4, 4)
CAFFE_MEANS_BGR = (103.939, 116.779, 123.68)
CONTENT_LAYER = "relu4_2"
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
NUMPY_PADDING = {"zero": "constant", "replicate": "edge", "reflect": "reflect"}


# ---------------------------------------------------------------------------------------- pictures


def synthetic_image(height: int = 96, width: int = 128, seed: int = 0) -> NDArray[np.uint8]:
    """A picture by a closed formula: three waves per channel and the noise of an integer hash.

    Pixel `(y, x)` does not depend on `height` and `width`, and no value is clipped.

    Args:
        height: Rows.
        width: Columns.
        seed: Which picture.

    Returns:
        `(height, width, 3)` uint8 RGB.
    """
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    waves = (
        45 * np.sin(0.11 * x + 0.07 * y + 1.0 * c + 0.9 * seed)
        + 35 * np.sin(0.23 * y - 0.05 * x + 2.0 * c + 1.7 * seed)
        + 25 * np.sin(0.0021 * (x + 10 * seed) * (y + 5 * c) + 0.4 * c)
    )
    bits = [a.astype(np.uint32) for a in (y, x, c)]
    noise = bits[1] * np.uint32(374761393) + bits[0] * np.uint32(668265263)
    noise = noise + bits[2] * np.uint32(2246822519) + np.uint32(1013904223 * seed % 2**32)
    noise = (noise ^ (noise >> np.uint32(13))) * np.uint32(1274126177)
    noise = (noise ^ (noise >> np.uint32(16))) & np.uint32(31)
    return np.floor(128 + waves + noise - 16.0).astype(np.uint8)


def as_float(image: NDArray[np.uint8], dtype: DTypeLike = np.float64) -> Array:
    """Maps uint8 0-255 to [0, 1]."""
    return image.astype(dtype) / np.asarray(255, dtype)


# ----------------------------------------------------------------------------------------- network


def preprocess(image: Array) -> Array:
    """RGB in [0, 1] to the network's pixels: BGR in 0-255 minus the Caffe means."""
    return image[..., ::-1] * 255 - np.asarray(CAFFE_MEANS_BGR, image.dtype)


def convolution(inputs: Array, kernel: Array, bias: Array, padding: str = "zero") -> Array:
    """Cross-correlation with a 3x3 kernel, stride 1, output of the input's size, plus the bias."""
    height, width, channels = inputs.shape
    padded = np.pad(inputs, ((1, 1), (1, 1), (0, 0)), mode=NUMPY_PADDING[padding])
    output = np.zeros((height * width, kernel.shape[3]), inputs.dtype)
    for i in range(3):
        for j in range(3):
            output += padded[i : i + height, j : j + width].reshape(-1, channels) @ kernel[i, j]
    return output.reshape(height, width, -1) + bias


def pool(inputs: Array, pooling: str = "max") -> Array:
    """2x2 windows, stride 2; an odd last row or column is dropped.

    `max`, `average`, or `l2`: the square root of the mean of squares over the window.
    """
    height, width = inputs.shape[0] // 2, inputs.shape[1] // 2
    windows = inputs[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
    if pooling == "max":
        return windows.max(axis=(1, 3))
    if pooling == "average":
        return windows.mean(axis=(1, 3))
    if pooling == "l2":
        return np.sqrt((windows**2).mean(axis=(1, 3)))
    raise ValueError(f"unknown pooling {pooling!r}")


def vgg19(
    params: Params,
    image: Array,
    *,
    pooling: str = "max",
    padding: str | Mapping[str, str] = "zero",
    dtype: DTypeLike = np.float64,
) -> dict[str, Array]:
    """Every layer of VGG19 without its top.

    Args:
        params: `{"conv1_1": {"kernel": HWIO, "bias": O}, ...}`.
        image: `(H, W, 3)` RGB in [0, 1], at least 32 pixels on each side.
        pooling: `max`, `average` or `l2`.
        padding: `zero`, `replicate` or `reflect` for all convolutions, or a mapping from the names
            of convolutions to one of these; those that are absent from it have zero padding.
        dtype: What it is computed in.

    Returns:
        `{"conv1_1", "relu1_1", ..., "pool5"}`: the convolutions before ReLU, after it, and the
        pooled maps, 37 in all, in the network's order.
    """
    layers: dict[str, Array] = {}
    x = preprocess(np.asarray(image, dtype))
    for block, convolutions in enumerate(CONVOLUTIONS_PER_BLOCK, start=1):
        for depth in range(1, convolutions + 1):
            name = f"conv{block}_{depth}"
            mode = padding if isinstance(padding, str) else padding.get(name, "zero")
            kernel = np.asarray(params[name]["kernel"], dtype)
            bias = np.asarray(params[name]["bias"], dtype)
            layers[name] = convolution(x, kernel, bias, mode)
            x = layers[f"relu{block}_{depth}"] = np.maximum(layers[name], 0)
        x = layers[f"pool{block}"] = pool(x, pooling)
    return layers


# ------------------------------------------------------------------------------------------ losses


def gram(features: Array, *, divide: bool = True) -> Array:
    """`F^T F`, shape `(c, c)`, divided by the number of positions `h * w` unless told not to."""
    flat = features.reshape(-1, features.shape[-1])
    return flat.T @ flat / (len(flat) if divide else 1)


def mean_squared_error(a: Array, b: Array) -> float:
    """The mean over all elements of `(a - b)^2`."""
    return float(np.mean((a - b) ** 2))


def content_half_sum(features: Array, content: Array) -> float:
    """`1/2 sum (F - P)^2`: Gatys, Ecker & Bethge 2016, eq. 1."""
    return 0.5 * float(np.sum((features - content) ** 2))


def content_sum(features: Array, content: Array) -> float:
    """`sum (F - P)^2`: the Keras example."""
    return float(np.sum((features - content) ** 2))


def style_layer(features: Array, style: Array) -> float:
    """`1 / (4 N^2) sum (G/M - A/M')^2`: Gatys, Ecker & Bethge 2016, eq. 4.

    Each Gram matrix is divided by its own number of positions, so the sizes may differ; with equal
    sizes it is the paper's `1 / (4 N^2 M^2) sum (G - A)^2`.
    """
    return float(np.sum((gram(features) - gram(style)) ** 2)) / (4 * features.shape[-1] ** 2)


def style_layer_keras(features: Array, style: Array, height: int, width: int) -> float:
    """`sum (G - A)^2 / (4 * 3^2 * (H W)^2)`, Gram matrices not divided: the Keras example.

    `height` and `width` are those of the *image*, whatever the layer, and 3 are its channels.
    """
    difference = gram(features, divide=False) - gram(style, divide=False)
    return float(np.sum(difference**2)) / (4 * 3**2 * (height * width) ** 2)


def total_variation(image: Array, power: float = 1.25) -> float:
    """`sum (dx^2 + dy^2)^power` over the first `(H-1) x (W-1)` positions and all channels.

    `dx` and `dy` are the differences to the next column and to the next row.
    """
    corner = image[:-1, :-1]
    dx, dy = image[:-1, 1:] - corner, image[1:, :-1] - corner
    return float(np.sum((dx**2 + dy**2) ** power))


# ------------------------------------------------------------------- features of drawn positions
# Rows, `(N, c)` and `(M, c)`, are the features of one position each.


def cosine_distances(x: Array, y: Array) -> Array:
    """`(N, M)`, 1 minus the cosine of the angle of each pair of rows."""
    return 1 - x @ y.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))


def self_similarity(x: Array, content: Array) -> float:
    """Kolkin et al. 2019, section 2.3; columns are divided by their sums."""
    own, other = cosine_distances(x, x), cosine_distances(content, content)
    return float(np.sum(np.abs(own / own.sum(0) - other / other.sum(0))) / len(x))


def relaxed_emd(distances: Array) -> float:
    """Kolkin et al. 2019, eq. 5, of `(N, M)` distances."""
    return float(max(distances.min(1).mean(), distances.min(0).mean()))


def moments_of_rows(x: Array, style: Array) -> float:
    """Kolkin et al. 2019, eq. 7, with means over elements."""
    of_mean = np.abs(x.mean(0) - style.mean(0)).mean()
    return float(of_mean + np.abs(np.cov(x.T, ddof=0) - np.cov(style.T, ddof=0)).mean())


def palette_distances(x: Array, style: Array) -> Array:
    """`(N, M)` distances of colors, decorrelated as in the authors' program."""
    s = 3**-0.5  # 0.577350 there
    a, b = (1 + s) / 2, (1 - s) / 2  # 0.788675 and 0.211325
    decorrelate = np.array([[s, s, s], [-s, a, -b], [-s, -b, a]])
    x, style = x @ decorrelate, style @ decorrelate
    square = ((x[:, None] - style[None]) ** 2).sum(-1)
    return cosine_distances(x, style) + np.sqrt(np.clip(square, 1e-5, 1e5) / 3)


def sliced_wasserstein(x: Array, style: Array, directions: Array) -> float:
    """Heitz et al. 2021, eq. 3; the style's quantiles at those of the image."""
    total = 0.0
    for direction in directions.T:
        values = np.sort(style @ direction)
        of_style, wanted = ((np.arange(len(n)) + 0.5) / len(n) for n in (style, x))
        total += np.mean((np.sort(x @ direction) - np.interp(wanted, of_style, values)) ** 2)
    return float(total / directions.shape[1])


# ----------------------------------------------------------------------------------------- recipes
# Each returns {term: (weight, value)}; the loss is the sum of weight * value. The arguments are the
# layers of the image, of the content and of the style, all by the pooling that the recipe names.

Terms = dict[str, tuple[float, float]]


def total(terms: Terms) -> float:
    """The weighted sum of the terms."""
    return sum(weight * value for weight, value in terms.values())


def gatys(
    image: Features, content: Features, style: Features, alpha: float = 1e-3, beta: float = 1.0
) -> Terms:
    """Gatys, Ecker & Bethge 2016, eq. 7 (average pooling); `w_l = 1/5`."""
    terms = {
        "content": (alpha, content_half_sum(image[CONTENT_LAYER], content[CONTENT_LAYER])),
    }
    for name in STYLE_LAYERS:
        terms[f"style_{name}"] = (beta / len(STYLE_LAYERS), style_layer(image[name], style[name]))
    return terms


def gokalp_kim(image: Features, content: Features, style: Features) -> Terms:
    """The same with alpha 0.025 and beta 1 (max pooling)."""
    return gatys(image, content, style, alpha=0.025, beta=1.0)


def gatys_notebook(image: Features, content: Features, style: Features) -> Terms:
    """`MSE(content) + sum_l 1e3 / C_l^2 MSE(G, A)` (max pooling): the authors' notebook."""
    terms = {"content": (1.0, mean_squared_error(image[CONTENT_LAYER], content[CONTENT_LAYER]))}
    for name in STYLE_LAYERS:
        weight = 1e3 / image[name].shape[-1] ** 2
        value = mean_squared_error(gram(image[name]), gram(style[name]))
        terms[f"style_{name}"] = (weight, value)
    return terms


def keras_example(image: Features, content: Features, style: Features, pixels: Array) -> Terms:
    """The Keras example (max pooling); `pixels` is the image itself, `(H, W, 3)` in [0, 1].

    Its optimised variable, and so its total variation, is in 0-255 pixels.
    """
    height, width, _ = pixels.shape
    terms = {"content": (0.025, content_sum(image[CONTENT_LAYER], content[CONTENT_LAYER]))}
    for name in STYLE_LAYERS:
        value = style_layer_keras(image[name], style[name], height, width)
        terms[f"style_{name}"] = (1 / len(STYLE_LAYERS), value)
    terms["tv"] = (8.5e-5, total_variation(255 * pixels, 1.25))
    return terms
