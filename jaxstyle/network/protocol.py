"""What a network is to the rest of the package: named layers of one picture."""

import abc
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Params = Mapping[str, Any]
"""A network's weights: a pytree of arrays, of the form that the network expects."""


class Network(abc.ABC):
    """A feature extractor, as a frozen and hashable value without arrays.

    Inherit from it in a frozen dataclass, or together with `flax.linen.Module`, and define
    `layers`, `apply`, `stride`, `reach` and `minimum_size`. The other members have defaults.
    Networks are static under `jax.jit`; their parameters are traced and passed to `apply`.

    Each layer is a map `(h, w, c)`. Its position `(i, j)` belongs to a block of `stride` x `stride`
    pixels, whose first pixel is `(stride i, stride j)`, and may depend on pixels up to `reach`
    pixels away from its block. A layer has a position for each whole block, and may have one for a
    partial block at the bottom or the right.

    If a picture is cropped at multiples of all strides, its features must stay the same, except
    within `reach` of the crop's edges. So use explicit padding: `SAME` depends on the size.

    `jaxstyle.VGG19` and `jaxstyle.VGG16` are networks.
    """

    layers: tuple[str, ...]
    """The names of all layers. The first one is `image`, the unchanged picture."""

    white: float = 255.0
    """The value of a white pixel inside the network. The noise of `init="mean"` has a standard
    deviation of `0.001 / white`."""

    @property
    def wraps(self) -> bool:
        """Whether the opposite edge follows beyond an edge, as on a torus. By default not."""
        return False

    def without_wrapping(self) -> "Network":
        """Returns the network for pictures that are no torus, as styles; by default itself."""
        return self

    @abc.abstractmethod
    def apply(self, params: Any, image: jax.Array, layers: Sequence[str]) -> dict[str, jax.Array]:
        """Computes features of one picture; differentiable, and pure.

        Args:
            params: the network's weights.
            image: `(H, W, 3)` floating-point sRGB in [0, 1]; values outside are allowed.
            layers: names out of `self.layers`.

        Returns:
            Name -> `(h, w, c)` for each of `layers`, and the unchanged `image`.
        """

    @abc.abstractmethod
    def stride(self, layer: str) -> int:
        """Returns how many pixels, along each axis, belong to one position of a layer.

        Args:
            layer: a name out of `self.layers`.
        """

    @abc.abstractmethod
    def reach(self, layer: str) -> int:
        """Returns how many pixels beyond its own block a position of a layer may depend on.

        Args:
            layer: a name out of `self.layers`.
        """

    @abc.abstractmethod
    def minimum_size(self, layers: Sequence[str]) -> int:
        """Returns the smallest height and width, in pixels, for which layers can be computed.

        Args:
            layers: names out of `self.layers`.
        """

    def check_params(self, params: Any, layers: Sequence[str]) -> None:
        """Raises a ValueError if `params` are not the network's; by default accepts everything.

        Args:
            params: what was passed as the network's weights.
            layers: names out of `self.layers`, those that will be computed.
        """
        del params, layers

    def prepare(self, params: Any, *, winograd: bool = True) -> Any:
        """Returns `params` with what several calls of `apply` can share; by default `params`.

        A run calls it once before its loop of steps.

        Args:
            params: the network's weights.
            winograd: False if `apply` is called only once, where compiling fast matters more.

        Returns:
            Parameters for `apply`.
        """
        del winograd
        return params

    def mean_color(self, *, dtype: Any = jnp.float32) -> jax.Array:
        """Returns the mean color of the training images, `(3,)` sRGB in [0, 1]; by default 0.5.

        Args:
            dtype: of the result.
        """
        return jnp.full(3, 0.5, dtype)


def common_stride(network: Network, layers: Iterable[str]) -> int:
    """Returns the smallest multiple of the strides of all `layers`, in pixels."""
    return math.lcm(*(network.stride(layer) for layer in layers))


def check_layers(network: Network, layers: Sequence[str]) -> None:
    """Checks that a network has `layers`.

    Raises:
        ValueError: for an unknown layer, or a single name instead of a sequence.
    """
    if isinstance(layers, str):
        raise ValueError(f"layers must be a sequence of names, such as ({layers!r},)")
    if unknown := [name for name in layers if name not in network.layers]:
        raise ValueError(
            f"unknown layers {unknown!r}: a sequence of names out of {', '.join(network.layers)}"
        )


def check_network(network: Any, params: Any, layers: Sequence[str]) -> None:
    """Checks that `network` is one, that it has `layers`, and that `params` belong to it.

    Raises:
        ValueError: if not.
    """
    if not isinstance(network, Network):
        raise ValueError(
            "network must be a network such as jaxstyle.VGG19(), an instance of a class that "
            f"inherits from jaxstyle.Network, not {network!r:.40}"
        )
    check_layers(network, layers)
    network.check_params(params, layers)
