"""VGG19 and VGG16 without their classifiers, as Flax modules with named layers.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, configurations E and D. Images are sRGB in [0, 1], shape `(H, W, 3)`; the network owns
its preprocessing. One image at a time: batch with `jax.vmap`.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstyle.network.convolution import convolution
from jaxstyle.network.padding import Padding
from jaxstyle.network.pooling import Pooling, pool
from jaxstyle.network.protocol import Network, check_layers
from jaxstyle.network.vgg_layers import CHANNELS, Shapes, have_shapes, layers_of_blocks, shapes_of
from jaxstyle.network.winograd import is_transformed, transform
from jaxstyle.sharding import in_auto_mode

_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_TORCHVISION_MEAN_RGB = (0.485, 0.456, 0.406)
_TORCHVISION_STD_RGB = (0.229, 0.224, 0.225)


def _per_channel(values: Sequence[float], dtype: Any) -> jax.Array:
    """`(1, 1, 3)`."""
    return jnp.asarray([[values]], dtype)


class VGG(nn.Module, Network):
    """The convolutional part of a VGG network; frozen and hashable, so static under `jax.jit`.

    A subclass says how many convolutions each of the five blocks has, in `depths`. Parameters are
    `{"params": {"conv1_1": {"kernel": (3, 3, in, out), "bias": (out,)}, ...}}`.

    Attributes:
        pooling: `max` (as trained), `average` (Gatys et al. 2016, section 2) or `l2` (the root of
            the mean square), over 2x2 windows; an odd last row or column is dropped.
        padding: `zero` (as trained), `replicate`, `reflect` or `wrap`, one pixel before each
            convolution. With `wrap` the picture is a torus, exactly if its edges are multiples of
            the deepest layer's stride.
        first_padding: the padding of conv1_1, if it differs.
        dtype: dtype of the convolutions and of the features; by default that of image and
            parameters. Preprocessing always happens in the image's dtype.
        preprocessing: what the parameters were trained on: `caffe` (BGR, 0-255, minus the mean;
            the original weights) or `torchvision` (RGB, standardized).
        white: with `caffe`, the pixel value of white before the mean is subtracted;
            jcjohnson/neural-style has 256.
        pooling_scale: a factor after each pooling; Crowson's style-transfer-pytorch has 2 for
            `average` and 0.78 for `l2`.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    depths: ClassVar[tuple[int, ...]]
    conv_shapes: ClassVar[Shapes]

    pooling: Pooling = "max"
    padding: Padding = "zero"
    first_padding: Padding | None = None
    dtype: Any = None
    preprocessing: Literal["caffe", "torchvision"] = "caffe"
    white: float = 255.0
    pooling_scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuses unknown settings when the module is made, not when it is first applied."""
        for field, value, valid in (
            ("pooling", self.pooling, get_args(Pooling)),
            ("padding", self.padding, get_args(Padding)),
            ("first_padding", self.first_padding, (None, *get_args(Padding))),
            ("preprocessing", self.preprocessing, ("caffe", "torchvision")),
        ):
            if value not in valid:
                raise ValueError(f"{field} {value!r} is not one of {', '.join(map(str, valid))}")
        if self.first_padding is not None and "wrap" in (self.padding, self.first_padding):
            raise ValueError("padding `wrap` is for all layers or none: leave out first_padding")
        if not self.white > 0 or not self.pooling_scale > 0:
            raise ValueError(
                f"white and pooling_scale must be positive, not {self.white}, {self.pooling_scale}"
            )
        super().__post_init__()

    def __init_subclass__(cls, **settings: Any) -> None:
        """Names the layers of a subclass and the shapes of its convolutions."""
        super().__init_subclass__(**settings)
        cls.layers = layers_of_blocks(cls.depths)
        cls.conv_shapes = shapes_of(cls.layers)

    @nn.nowrap
    def __setattr__(self, name: str, value: Any) -> None:
        """Refuses to change a setting, as Flax does only once a module is bound to parameters."""
        if name in self.__dict__ and name in _SETTINGS:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super().__setattr__(name, value)

    @property
    def wraps(self) -> bool:
        """Whether the padding is `wrap`, so that a picture is a torus."""
        return self.padding == "wrap"

    def without_wrapping(self) -> "VGG":
        """Returns the network for pictures that are no torus: with `replicate` for `wrap`."""
        return self.clone(padding="replicate") if self.wraps else self

    def stride(self, layer: str) -> int:
        """Returns how many pixels, along each axis, are pooled into a position of a layer.

        Args:
            layer: a name out of `layers`.

        Raises:
            ValueError: for an unknown layer.
        """
        return 2 ** sum(name.startswith("pool") for name in self._layers_up_to((layer,)))

    def reach(self, layer: str) -> int:
        """Returns how many pixels beyond its own block a position of a layer sees.

        Args:
            layer: a name out of `layers`.

        Raises:
            ValueError: for an unknown layer.
        """
        reach, stride = 0, 1
        for name in self._layers_up_to((layer,)):
            reach += stride * name.startswith("conv")
            stride *= 2 if name.startswith("pool") else 1
        return reach

    def minimum_size(self, layers: Sequence[str]) -> int:
        """Returns the smallest height and width, in pixels, for which layers can be computed.

        Args:
            layers: names out of `layers`.

        Raises:
            ValueError: for an unknown layer.
        """
        *_, deepest = self._layers_up_to(layers)
        size = self.stride(deepest)
        # Reflection needs a second row to reflect, at the deepest convolution too.
        reflects = self.padding == "reflect" and deepest != "image"
        size *= 2 if reflects and not deepest.startswith("pool") else 1
        return max(size, 2 if self.first_padding == "reflect" and deepest != "image" else 1)

    def _layers_up_to(self, layers: Sequence[str]) -> tuple[str, ...]:
        """All layers from `image` to the deepest of `layers`."""
        check_layers(self, layers)
        deepest = max((self.layers.index(name) for name in layers), default=0)
        return self.layers[: deepest + 1]

    def check_params(self, params: Any, layers: Sequence[str]) -> None:
        """Checks that parameters have all convolutions up to some layers, in their shapes.

        Args:
            params: the network's variables.
            layers: names out of `layers`.

        Raises:
            ValueError: if not, or for an unknown layer.
        """
        passed = self._layers_up_to(layers)
        needed = {name: shapes for name, shapes in self.conv_shapes.items() if name in passed}
        inside = params.get("params", {}) if isinstance(params, Mapping) else None
        if isinstance(inside, Mapping) and have_shapes(inside, needed):
            # VGG19 has all convolutions of VGG16, in the same shapes.
            if others := [name for name in inside if name not in self.conv_shapes]:
                raise ValueError(
                    f"params have {', '.join(map(str, others))}, which {type(self).__name__} does "
                    "not have: they belong to another network"
                )
            return
        given = type(params).__name__
        advice = f"this is of type {given}; jaxstyle.io.load_params() returns those of VGG19"
        if isinstance(params, Mapping) and needed.keys() <= params.keys():
            advice = 'these are the layers themselves: pass {"params": params}'
        raise ValueError(
            'params must be the variables of the network, {"params": {"conv1_1": {"kernel", '
            f'"bias"}}, ...}}}}, with all convolutions up to {passed[-1]} in their shapes; {advice}'
        )

    def prepare(self, params: Mapping[str, Any], *, winograd: bool = True) -> dict[str, Any]:
        """Returns `params` with transformed kernels, which several calls can share.

        Call it once before a loop. Derivatives in the parameters stay the same.

        Args:
            params: the network's variables, from `jaxstyle.io.load_params`.
            winograd: False selects XLA's own convolutions, which compile faster on CPUs.
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

    @nn.nowrap
    def apply(self, params: Any, *inputs: Any, **options: Any) -> Any:  # type: ignore[override]  # Flax allows more
        """Computes features of one picture: `network.apply(params, image, layers)`.

        Args:
            params: the network's variables.
            *inputs: the image and the names of layers, see `__call__`.
            **options: the same by name, and those of Flax's `apply`.

        Returns:
            Name -> `(h, w, c)` for each of `layers`, and the unchanged `image`.

        Raises:
            ValueError: for parameters of another form; otherwise see `__call__`.
        """
        layers = inputs[1] if len(inputs) > 1 else options.get("layers")
        self.check_params(params, self.layers if layers is None else layers)
        return super().apply(params, *inputs, **options)

    @nn.compact
    def __call__(
        self, image: jax.Array, layers: Sequence[str] | None = None
    ) -> dict[str, jax.Array]:
        """Computes features, up to the deepest layer asked for.

        Args:
            image: `(H, W, 3)` float sRGB, [0, 1] (values outside are allowed).
            layers: names out of `layers`, by default all.

        Returns:
            Name -> `(h, w, c)` for each of `layers`, and the unchanged `image`.

        Raises:
            ValueError: for an unknown layer, a wrong shape or dtype, or an image that is too small.
        """
        layers = self.layers if layers is None else layers
        passed = self._layers_up_to(layers)
        image = jnp.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(
                f"image must be (H, W, 3) floating point, not {image.shape} {image.dtype}; "
                "batch with jax.vmap"
            )
        minimum = self.minimum_size(layers)
        if min(image.shape[:2]) < minimum:
            raise ValueError(
                f"image of {image.shape[1]}x{image.shape[0]} px is too small for {passed[-1]}: "
                f"at least {minimum}x{minimum} px"
            )

        features = {"image": image}
        x = self._preprocess(image)
        for name, following in itertools.pairwise((*passed[1:], "")):
            # The maximum of ReLUs is the ReLU of the maximum, a quarter as large.
            is_late = self.pooling == "max" and following.startswith("pool") and name not in layers
            if name.startswith("conv"):
                x = self._convolve(x, name)
            elif name.startswith("relu"):
                x = x if is_late else nn.relu(x)
            else:
                x = in_auto_mode(partial(pool, pooling=self.pooling), x)
                x = nn.relu(x) if self.pooling == "max" else x
                x = x if self.pooling_scale == 1 else x * self.pooling_scale
            if name in layers:
                features[name] = x
        return features

    def mean_color(self, *, dtype: Any = jnp.float32) -> jax.Array:
        """Returns the mean color of the training images, `(3,)` sRGB in [0, 1].

        Args:
            dtype: of the result.
        """
        if self.preprocessing == "torchvision":
            return jnp.asarray(_TORCHVISION_MEAN_RGB, dtype)
        return jnp.asarray(_CAFFE_MEAN_BGR[::-1], dtype) / self.white

    def _preprocess(self, image: jax.Array) -> jax.Array:
        if self.preprocessing == "caffe":  # still RGB: conv1_1 turns its kernel around instead
            return image * self.white - _per_channel(_CAFFE_MEAN_BGR[::-1], image.dtype)
        mean = _per_channel(_TORCHVISION_MEAN_RGB, image.dtype)
        return (image - mean) / _per_channel(_TORCHVISION_STD_RGB, image.dtype)

    def _convolve(self, x: jax.Array, name: str) -> jax.Array:
        padding = self.padding
        if name == "conv1_1" and self.first_padding is not None:
            padding = self.first_padding

        def convolve(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
            transformed: Any = self.get_variable("transformed", name)
            if name == "conv1_1" and self.preprocessing == "caffe":
                kernel = kernel[:, :, ::-1]

            def run(x: jax.Array, kernel: jax.Array, transformed: jax.Array | None) -> jax.Array:
                return convolution(x, kernel, padding, transformed)

            return in_auto_mode(run, x, kernel, transformed)

        return nn.Conv(
            CHANNELS[int(name[4]) - 1],
            (3, 3),
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name=name,
        )(x)


_SETTINGS = {field.name for field in dataclasses.fields(VGG)} - {"parent", "name"}


class VGG19(VGG):
    """VGG19's convolutional part: 16 convolutions, configuration E of the paper; see `VGG`."""

    depths: ClassVar[tuple[int, ...]] = (2, 2, 4, 4, 4)


class VGG16(VGG):
    """VGG16's convolutional part: 13 convolutions, configuration D of the paper; see `VGG`."""

    depths: ClassVar[tuple[int, ...]] = (2, 2, 3, 3, 3)


LAYERS: tuple[str, ...] = VGG19.layers
"""Every layer name of VGG19 in the order of computation, from `image` to `pool5`.

`convB_D` is after the bias and before the ReLU, `reluB_D` after it, `poolB` after pooling.
"""
CONV_SHAPES = VGG19.conv_shapes
"""Layer name -> shapes of its kernel, `(3, 3, in, out)`, and of its bias, `(out,)`; of VGG19."""
CONV_LAYERS = tuple(CONV_SHAPES)
