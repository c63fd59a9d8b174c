"""VGG19 without its classifier, as a Flax module with named layers.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, configuration E. Images are sRGB in [0, 1], shape `(H, W, 3)`; the network owns its
preprocessing. One image at a time: batch with `jax.vmap`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstyle.network.convolution import convolution
from jaxstyle.network.padding import Padding
from jaxstyle.network.winograd import is_transformed, transform
from jaxstyle.sharding import in_auto_mode

# (channels, number of convolutions) of the five blocks; a pooling layer ends each of them.
_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))

CONV_LAYERS: tuple[str, ...] = tuple(
    f"conv{block}_{depth}"
    for block, (_, number) in enumerate(_BLOCKS, start=1)
    for depth in range(1, number + 1)
)


def _conv_shapes() -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    channels = 3
    for name in CONV_LAYERS:
        features, _ = _BLOCKS[int(name[4]) - 1]
        shapes[name] = ((3, 3, channels, features), (features,))
        channels = features
    return shapes


CONV_SHAPES = _conv_shapes()
"""Layer name -> shapes of its kernel, `(3, 3, in, out)`, and of its bias, `(out,)`."""


def _layers() -> tuple[str, ...]:
    names = ["image"]
    for block, (_, number) in enumerate(_BLOCKS, start=1):
        for depth in range(1, number + 1):
            names += [f"conv{block}_{depth}", f"relu{block}_{depth}"]
        names.append(f"pool{block}")
    return tuple(names)


LAYERS: tuple[str, ...] = _layers()
"""Every layer name in the order of computation, from `image` to `pool5`.

`convB_D` is after the bias and before the ReLU, `reluB_D` after it, `poolB` after pooling.
"""


def number_of_poolings(layer: str) -> int:
    """Returns how often 2x2 pixels have been pooled into a position of `layer`.

    Raises:
        ValueError: for an unknown layer.
    """
    _check_layers((layer,))
    return sum(name.startswith("pool") for name in LAYERS[: LAYERS.index(layer) + 1])


_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_TORCHVISION_MEAN_RGB = (0.485, 0.456, 0.406)
_TORCHVISION_STD_RGB = (0.229, 0.224, 0.225)
_POOLINGS = ("max", "average", "l2")


def _check_layers(layers: Sequence[str]) -> None:
    unknown = [name for name in layers if name not in LAYERS]
    if isinstance(layers, str) or unknown:
        raise ValueError(
            f"unknown layers {unknown or layers!r}: a sequence of names out of {', '.join(LAYERS)}"
        )


def _per_channel(values: Sequence[float], dtype: Any) -> jax.Array:
    """`(1, 1, 3)`."""
    return jnp.asarray([[values]], dtype)


def _pool(x: jax.Array, pooling: str) -> jax.Array:
    """Pools disjoint 2x2 windows: `(h, w, c)` -> `(h // 2, w // 2, c)`.

    Written as elementwise operations on a reshaped array: the backward pass of XLA's
    `reduce_window` costs about as much as a convolution on CPU, this one costs nothing.
    """
    height, width, channels = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
    x = x[: 2 * height, : 2 * width].reshape(height, 2, width, 2, channels)
    if pooling == "max":
        x = jnp.maximum(x[:, 0], x[:, 1])
        return jnp.maximum(x[:, :, 0], x[:, :, 1])
    if pooling == "average":
        x = x[:, 0] + x[:, 1]
        return (x[:, :, 0] + x[:, :, 1]) / 4
    # The root of the mean square. Its derivative at an all-zero window is set to zero.
    square = (x * x).mean((1, 3))
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


class VGG19(nn.Module):
    """VGG19's convolutional part; frozen and hashable, so static under `jax.jit`.

    Attributes:
        pooling: `max` (as trained), `average` (Gatys et al. 2016, section 2) or `l2` (the root of
            the mean square), over 2x2 windows; an odd last row or column is dropped.
        padding: `zero` (as trained), `replicate` or `reflect`, one pixel before each convolution.
        first_padding: that of conv1_1, if it is another.
        dtype: dtype of the convolutions and of the features; by default that of image and
            parameters. Preprocessing always happens in the image's dtype.
        preprocessing: what the parameters were trained on: `caffe` (BGR, 0-255, minus the mean;
            the original weights) or `torchvision` (RGB, standardised).
        white: with `caffe`, the pixel value of white before the mean is subtracted;
            jcjohnson/neural-style has 256.
        pooling_scale: a factor after each pooling; Crowson's style-transfer-pytorch has 2 for
            `average` and 0.78 for `l2`.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    pooling: Literal["max", "average", "l2"] = "max"
    padding: Padding = "zero"
    first_padding: Padding | None = None
    dtype: Any = None
    preprocessing: Literal["caffe", "torchvision"] = "caffe"
    white: float = 255.0
    pooling_scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuses unknown settings when the module is made, not when it is first applied."""
        for field, value, valid in (
            ("pooling", self.pooling, _POOLINGS),
            ("padding", self.padding, get_args(Padding)),
            ("first_padding", self.first_padding, (None, *get_args(Padding))),
            ("preprocessing", self.preprocessing, ("caffe", "torchvision")),
        ):
            if value not in valid:
                raise ValueError(f"{field} {value!r} is not one of {', '.join(map(str, valid))}")
        if not self.white > 0 or not self.pooling_scale > 0:
            raise ValueError(
                f"white and pooling_scale must be positive, not {self.white}, {self.pooling_scale}"
            )
        super().__post_init__()

    @nn.nowrap
    def __setattr__(self, name: str, value: Any) -> None:
        """Refuses to change a setting, as Flax does only once a module is bound to parameters."""
        if name in self.__dict__ and name in _SETTINGS:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super().__setattr__(name, value)

    def minimum_size(self, layers: Sequence[str]) -> int:
        """Returns the smallest height and width, in pixels, that reach `layers`.

        Args:
            layers: names out of `LAYERS`.

        Raises:
            ValueError: for an unknown layer.
        """
        _check_layers(layers)
        deepest = max((LAYERS.index(name) for name in layers), default=0)
        size = 2 ** number_of_poolings(LAYERS[deepest])
        # Reflection needs a second row to reflect, at the deepest convolution too.
        reflects = self.padding == "reflect" and deepest > 0
        size *= 2 if reflects and not LAYERS[deepest].startswith("pool") else 1
        return max(size, 2 if self.first_padding == "reflect" and deepest > 0 else 1)

    def prepare(self, params: Mapping[str, Any], *, winograd: bool = True) -> dict[str, Any]:
        """Returns `params` with what several calls can share: transformed kernels.

        Worth it in a loop, that is, outside of it. Derivatives in the parameters are those
        without it.

        Args:
            params: the network's variables, from `jaxstyle.io.load_params`.
            winograd: False chooses XLA's own convolutions, which compile faster on CPUs.
        """
        kernels = {name: layer["kernel"] for name, layer in params["params"].items()}
        return {
            **params,
            "transformed": {
                name: transform(kernel if self.dtype is None else kernel.astype(self.dtype))
                if winograd
                else jnp.zeros(0, kernel.dtype if self.dtype is None else self.dtype)
                for name, kernel in kernels.items()
                if is_transformed(kernel)
            },
        }

    @nn.compact
    def __call__(self, image: jax.Array, layers: Sequence[str] = LAYERS) -> dict[str, jax.Array]:
        """Computes features, up to the deepest layer asked for.

        Args:
            image: `(H, W, 3)` float sRGB, [0, 1] (values outside are allowed).
            layers: names out of `LAYERS`.

        Returns:
            Name -> `(h, w, c)` for each of `layers`, and the unchanged `image`.

        Raises:
            ValueError: for an unknown layer, a wrong shape or dtype, or an image that is too small.
        """
        _check_layers(layers)
        image = jnp.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(
                f"image must be (H, W, 3) floating point, not {image.shape} {image.dtype}; "
                "batch with jax.vmap"
            )
        minimum = self.minimum_size(layers)
        if min(image.shape[:2]) < minimum:
            raise ValueError(
                f"image of {image.shape[1]}x{image.shape[0]} px is too small for "
                f"{max(layers, key=LAYERS.index)}: at least {minimum}x{minimum} px"
            )

        features = {"image": image}
        deepest = max((LAYERS.index(name) for name in layers), default=0)
        x = self._preprocess(image)
        for name in LAYERS[1 : deepest + 1]:
            if name.startswith("conv"):
                x = self._convolve(x, name)
            elif name.startswith("relu"):
                x = nn.relu(x)
            else:
                x = in_auto_mode(partial(_pool, pooling=self.pooling), x)
                x = x if self.pooling_scale == 1 else x * self.pooling_scale
            if name in layers:
                features[name] = x
        return features

    def mean_color(self, *, dtype: Any = jnp.float32) -> jax.Array:
        """Returns the mean colour of the training images, `(3,)` sRGB in [0, 1].

        Args:
            dtype: of the result.
        """
        if self.preprocessing == "torchvision":
            return jnp.asarray(_TORCHVISION_MEAN_RGB, dtype)
        return jnp.asarray(_CAFFE_MEAN_BGR[::-1], dtype) / self.white

    def _preprocess(self, image: jax.Array) -> jax.Array:
        if self.preprocessing == "caffe":
            return image[..., ::-1] * self.white - _per_channel(_CAFFE_MEAN_BGR, image.dtype)
        mean = _per_channel(_TORCHVISION_MEAN_RGB, image.dtype)
        return (image - mean) / _per_channel(_TORCHVISION_STD_RGB, image.dtype)

    def _convolve(self, x: jax.Array, name: str) -> jax.Array:
        padding = self.padding
        if name == "conv1_1" and self.first_padding is not None:
            padding = self.first_padding

        def convolve(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
            transformed: Any = self.get_variable("transformed", name)

            def run(x: jax.Array, kernel: jax.Array, transformed: jax.Array | None) -> jax.Array:
                return convolution(x, kernel, padding, transformed)

            return in_auto_mode(run, x, kernel, transformed)

        channels, _ = _BLOCKS[int(name[4]) - 1]
        return nn.Conv(
            channels,
            (3, 3),
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name=name,
        )(x)


_SETTINGS = {field.name for field in dataclasses.fields(VGG19)} - {"parent", "name"}
