"""Style by Gram matrices (Gatys et al. 2016)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxstyle import losses
from jaxstyle.terms.protocol import (
    FIFTHS,
    STYLE_LAYERS,
    Features,
    PositionWeights,
    Shares,
    TargetImage,
    Term,
    check_choice,
    check_flag,
    check_layers,
    check_target,
    mix,
    total_weight,
    weight_of,
    weighted_sum,
)

_GRAM_REDUCTIONS = ("gatys", "mean", "scaled", "keras")


@dataclasses.dataclass(frozen=True)
class GramStyle(Term):
    """Squared difference of Gram matrices from the style's (Gatys et al. 2016, eq. 4 and 5).

    Each Gram matrix is divided by its own image's number of positions, because content and style
    may differ in size. (The paper's `1 / M^2` assumes that they do not.)

    Attributes:
        layers: layers that are compared.
        layer_weights: the `w_l` of eq. 5, one for each layer.
        reduction: with C channels and D the difference, `gatys` is `sum D^2 / (4 C^2)` (eq. 4),
            `mean` the mean of `D^2`, `scaled` is `losses.scaled_squared_error`, and `keras` that
            of the Keras example, `sum (M D)^2 / (4 * 3^2 * (H W)^2)`, with M positions in the
            layer and H W in the image.
        normalize_gradients: whether gradients are normalized, see `losses.normalize_gradient`.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = STYLE_LAYERS
    layer_weights: tuple[float, ...] = FIFTHS
    reduction: Literal["gatys", "mean", "scaled", "keras"] = "gatys"
    normalize_gradients: bool = False
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"
    reach: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layers(self)
        check_flag("normalize_gradients", self.normalize_gradients)
        check_choice("reduction", self.reduction, _GRAM_REDUCTIONS)

    def statistics(
        self, features: Features, target: dict[str, jax.Array] | None, weight: PositionWeights
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns layer -> (Gram sum `(c, c)`, number of positions `()`).

        The Keras example also needs the number of positions of the `image`.
        """
        del target

        def sums(layer: str) -> tuple[jax.Array, jax.Array]:
            own = weight_of(weight, layer, features[layer])
            return losses.gram_sum(features[layer], weight=own), total_weight(features[layer], own)

        found = {layer: sums(layer) for layer in self.layers}
        if self.reduction == "keras" and "image" not in found:
            image = features["image"]
            pixels = total_weight(image, weight_of(weight, "image", image))
            found["image"] = jnp.zeros((0, 0), pixels.dtype), pixels
        return found

    def target(
        self, statistics: Sequence[dict[str, tuple[jax.Array, jax.Array]]], shares: Shares
    ) -> dict[str, jax.Array]:
        """Returns layer -> `(c, c)`, the average of the styles' Gram matrices.

        The average of the styles' losses has the same gradient, except with the reduction `scaled`.
        """
        grams = mix(statistics, {"image": jnp.ones(len(statistics)), **shares})
        return {layer: grams[layer] for layer in self.layers}

    def loss(
        self, statistics: dict[str, tuple[jax.Array, jax.Array]], target: dict[str, jax.Array]
    ) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        check_target(self, target)

        def reduce(layer: str) -> jax.Array:
            total, positions = statistics[layer]
            gram = total / positions
            if self.reduction == "gatys":
                return losses.style_loss(gram, target[layer])
            if self.reduction == "scaled":
                return losses.scaled_squared_error(gram, target[layer])
            square = jnp.square(gram - target[layer])
            if self.reduction == "mean":
                return jnp.mean(square)
            return jnp.sum(square) * jnp.square(positions / statistics["image"][1]) / 36

        return weighted_sum(self, reduce)

    def normalized_gradients(self) -> Mapping[str, float]:
        """Returns the layers and their weights, if `normalize_gradients` is set."""
        if not self.normalize_gradients:
            return {}
        return dict(zip(self.layers, self.layer_weights, strict=True))
