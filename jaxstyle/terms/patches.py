"""Style by patches of features (Li & Wand 2016)."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxstyle import losses
from jaxstyle.checks import as_integer, sum_dtype
from jaxstyle.terms.protocol import (
    Features,
    PositionWeights,
    Shares,
    TargetImage,
    Term,
    check_choice,
    check_layers,
    check_target,
    total_weight,
    weight_of,
    weighted_sum,
)


@dataclasses.dataclass(frozen=True)
class MRFStyle(Term):
    """Squared difference of each patch of features from the most similar one of the styles.

    Li & Wand, "Combining Markov Random Fields and Convolutional Neural Networks for Image
    Synthesis", CVPR 2016, eq. 2 and 3. Its statistics
    add up over an image's positions, given the features around them. Its target are all patches
    of the styles. They are not a sum, so `additive_target` is False, and shares cannot mix them.

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        size: side of the patches, in positions; odd.
        stride: positions between the patches of the styles that are compared, along each axis.
        reduction: `mean` over patches and their elements, or `sum`, which grows with the image.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = ("relu3_1", "relu4_1")
    layer_weights: tuple[float, ...] = (1.0, 1.0)
    size: int = 3
    stride: int = 1
    reduction: Literal["mean", "sum"] = "mean"
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"
    additive_target: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layers(self)
        if as_integer(self.size, "size") < 1 or self.size % 2 == 0:
            raise ValueError(f"size must be odd and positive, not {self.size}")
        if as_integer(self.stride, "stride") < 1:
            raise ValueError(f"stride must be positive, not {self.stride}")
        check_choice("reduction", self.reduction, ("mean", "sum"))

    @property
    def reach(self) -> int:  # type: ignore[override]
        """How many positions around a position are read."""
        return self.size // 2

    def _inner(self, plane: jax.Array) -> jax.Array:
        """Crops `(h, w)` to the positions that are the center of a whole patch."""
        border = self.size // 2
        return plane[border : plane.shape[0] - border, border : plane.shape[1] - border]

    def statistics(
        self, features: Features, target: Any, weight: PositionWeights
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns layer -> (sum of squares `()`, number of patches `()`).

        Without a target, layer -> (patches `(K, size^2 c)`, whether each may be chosen `(K,)`).
        """

        def of_layer(layer: str) -> tuple[jax.Array, jax.Array]:
            own = features[layer]
            if min(own.shape[:2]) < self.size:
                raise ValueError(
                    f"{layer} has {own.shape[0]}x{own.shape[1]} positions, too few for patches of "
                    f"{self.size}x{self.size}: use a larger image"
                )
            positions = weight_of(weight, layer, own)
            if positions is None:
                positions = jnp.ones(own.shape[:2], sum_dtype(own))
            inner = self._inner(positions)
            own_patches = losses.patches(own, size=self.size)
            if target is None:
                every = slice(None, None, self.stride)
                own_patches, inner = own_patches[every, every], inner[every, every]
                # If a mask has no weight of 0.5 or more, the positions of its largest weight.
                allowed = inner.reshape(-1) >= jnp.minimum(jnp.max(inner), 0.5)
                return own_patches.reshape(-1, own_patches.shape[-1]), allowed
            style_patches, allowed = target[layer]
            nearest = losses.nearest_patches(own, style_patches, allowed, size=self.size)
            square = losses.squared_error_sum(own_patches, style_patches[nearest], weight=inner)
            return square, total_weight(own, inner)

        if target is not None:
            check_target(self, target)
        return {layer: of_layer(layer) for layer in self.layers}

    def target(self, statistics: Sequence[Any], shares: Shares) -> dict[str, Any]:
        """Returns layer -> (all patches of all styles, whether each may be chosen)."""
        del shares
        return {
            layer: jax.tree.map(
                lambda *each: jnp.concatenate(each), *(style[layer] for style in statistics)
            )
            for layer in self.layers
        }

    def loss(
        self, statistics: dict[str, tuple[jax.Array, jax.Array]], target: dict[str, Any]
    ) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        check_target(self, target)

        def reduce(layer: str) -> jax.Array:
            square, number = statistics[layer]
            if self.reduction == "sum":
                return square
            return square / (number * target[layer][0].shape[-1])

        return weighted_sum(self, reduce)
