"""The content term: squared differences of features."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxstyle import losses
from jaxstyle.terms.protocol import (
    CONTENT_LAYERS,
    Features,
    PositionWeights,
    TargetImage,
    Term,
    check_choice,
    check_flag,
    check_layers,
    check_target,
    total_weight,
    weight_of,
    weighted_sum,
)

_CONTENT_REDUCTIONS = ("half_sum", "sum", "mean", "scaled")


@dataclasses.dataclass(frozen=True)
class Content(Term):
    """Squared difference of the features from the content's (Gatys et al. 2016, eq. 1).

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        reduction: `half_sum`, `1/2 sum (F - P)^2` as in the paper, and `sum`, both of which grow
            with the image; `mean`, over positions and channels, which does not; or `scaled`, see
            `losses.scaled_squared_error`.
        normalize_gradients: whether gradients are normalized, see `losses.normalize_gradient`.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = CONTENT_LAYERS
    layer_weights: tuple[float, ...] = (1.0,)
    reduction: Literal["half_sum", "sum", "mean", "scaled"] = "half_sum"
    normalize_gradients: bool = False
    name: str = "content"

    target_image: ClassVar[TargetImage] = "content"
    reach: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layers(self)
        check_flag("normalize_gradients", self.normalize_gradients)
        check_choice("reduction", self.reduction, _CONTENT_REDUCTIONS)

    def statistics(
        self, features: Features, target: Features, weight: PositionWeights
    ) -> dict[str, tuple[jax.Array, ...]]:
        """Returns layer -> (sum of squares, of absolute values, number of positions), all `()`."""

        def sums(layer: str) -> tuple[jax.Array, ...]:
            both = features[layer], target[layer]
            own = weight_of(weight, layer, features[layer])
            square = losses.squared_error_sum(*both, weight=own)
            absolute = jnp.zeros_like(square)
            if self.reduction == "scaled":
                absolute = losses.absolute_error_sum(*both, weight=own)
            return square, absolute, total_weight(features[layer], own)

        check_target(self, target)
        return {layer: sums(layer) for layer in self.layers}

    def loss(self, statistics: dict[str, tuple[jax.Array, ...]], target: Features) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        check_target(self, target)

        def reduce(layer: str) -> jax.Array:
            square, absolute, positions = statistics[layer]
            if self.reduction == "half_sum":
                return 0.5 * square
            if self.reduction == "sum":
                return square
            if self.reduction == "scaled":
                return losses.scaled_ratio(square, absolute)
            return square / (target[layer].shape[-1] * positions)

        return weighted_sum(self, reduce)

    def normalized_gradients(self) -> Mapping[str, float]:
        """Returns the layers and their weights, if `normalize_gradients` is set."""
        if not self.normalize_gradients:
            return {}
        return dict(zip(self.layers, self.layer_weights, strict=True))
