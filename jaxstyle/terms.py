"""Terms of an objective: frozen, hashable values built on `losses`, without arrays.

A term is a scalar function of *sums over positions*. It says so in two pure methods:

- `statistics(features, target, weight)`: sums over positions, which add up over disjoint parts of
  an image; `weight` maps a layer to `(h, w)` weights per position, or is None for all ones;
- `loss(statistics, target)`: the scalar.

Beside them stand `name` (its key among weights and targets), `layers` (what it reads),
`target_image` (which picture its target is made from: `content`, `style` or None) and
`target(features)`, that target, a pytree. Targets of several styles are averaged: for Gram
matrices this has the same gradient as the average of the losses.

A term of your own is any frozen dataclass with these six; there is nothing to inherit from or
to register.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol

import jax
import jax.numpy as jnp

from jaxstyle import losses
from jaxstyle.vgg import LAYERS

Features = Mapping[str, jax.Array]
PositionWeights = Mapping[str, jax.Array] | None
TargetImage = Literal["content", "style"] | None

CONTENT_LAYERS = ("relu4_2",)
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


class Term(Protocol):
    """What `prepare_targets` and `evaluate` need of a term; see the module's docstring."""

    target_image: ClassVar[TargetImage]

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def layers(self) -> tuple[str, ...]: ...  # noqa: D102

    def target(self, features: Features) -> Any: ...  # noqa: D102

    def statistics(  # noqa: D102
        self, features: Features, target: Any, weight: PositionWeights
    ) -> Any: ...

    def loss(self, statistics: Any, target: Any) -> jax.Array: ...  # noqa: D102


def _check_layers(term: Any) -> None:
    if not term.layers or any(layer not in LAYERS for layer in term.layers):
        raise ValueError(f"layers {term.layers!r} are not names out of {', '.join(LAYERS)}")
    if len(term.layer_weights) != len(term.layers):
        raise ValueError(f"{len(term.layer_weights)} layer_weights for {len(term.layers)} layers")


def _weight_of(weight: PositionWeights, layer: str) -> jax.Array | None:
    return None if weight is None else weight[layer]


def _total_weight(features: jax.Array, weight: jax.Array | None) -> jax.Array:
    """The number of positions, or the sum of their weights."""
    if weight is None:
        return jnp.asarray(features.shape[0] * features.shape[1], jnp.float32)
    return jnp.sum(weight)


def _weighted_sum(term: Any, loss: Callable[[str], jax.Array]) -> jax.Array:
    parts = [
        weight * loss(layer) for layer, weight in zip(term.layers, term.layer_weights, strict=True)
    ]
    return functools.reduce(operator.add, parts)


@dataclasses.dataclass(frozen=True)
class Content:
    """Squared difference of the features from the content's (Gatys et al. 2016, eq. 1).

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        reduction: `half_sum`, `1/2 sum (F - P)^2` as in the paper, which grows with the image, or
            `mean`, the mean over positions and channels, which does not.
        name: the term's name.
    """

    layers: tuple[str, ...] = CONTENT_LAYERS
    layer_weights: tuple[float, ...] = (1.0,)
    reduction: Literal["half_sum", "mean"] = "half_sum"
    name: str = "content"

    target_image: ClassVar[TargetImage] = "content"

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_layers(self)
        if self.reduction not in ("half_sum", "mean"):
            raise ValueError(f"reduction {self.reduction!r} is not one of half_sum, mean")

    def target(self, features: Features) -> dict[str, jax.Array]:
        """Returns layer -> `(h, w, c)`, the content's features."""
        return {layer: features[layer] for layer in self.layers}

    def statistics(
        self, features: Features, target: dict[str, jax.Array], weight: PositionWeights
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns layer -> (sum of squares, number of positions), both `()`."""
        return {
            layer: (
                losses.squared_error_sum(features[layer], target[layer], _weight_of(weight, layer)),
                _total_weight(features[layer], _weight_of(weight, layer)),
            )
            for layer in self.layers
        }

    def loss(
        self, statistics: dict[str, tuple[jax.Array, jax.Array]], target: dict[str, jax.Array]
    ) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""

        def reduce(layer: str) -> jax.Array:
            square, positions = statistics[layer]
            if self.reduction == "half_sum":
                return 0.5 * square
            return square / (target[layer].shape[-1] * positions)

        return _weighted_sum(self, reduce)


@dataclasses.dataclass(frozen=True)
class GramStyle:
    """Squared difference of Gram matrices from the style's (Gatys et al. 2016, eq. 4 and 5).

    Each Gram matrix is divided by its own image's number of positions, so that content and style
    may differ in size (the paper's `1 / M^2` assumes that they do not).

    Attributes:
        layers: layers that are compared.
        layer_weights: the `w_l` of eq. 5, one for each layer.
        name: the term's name.
    """

    layers: tuple[str, ...] = STYLE_LAYERS
    layer_weights: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2, 0.2)
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_layers(self)

    def target(self, features: Features) -> dict[str, jax.Array]:
        """Returns layer -> `(c, c)`, the style's Gram matrices."""
        return {layer: losses.gram_matrix(features[layer]) for layer in self.layers}

    def statistics(
        self, features: Features, target: dict[str, jax.Array], weight: PositionWeights
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns layer -> (Gram sum `(c, c)`, number of positions `()`)."""
        del target
        return {
            layer: (
                losses.gram_sum(features[layer], _weight_of(weight, layer)),
                _total_weight(features[layer], _weight_of(weight, layer)),
            )
            for layer in self.layers
        }

    def loss(
        self, statistics: dict[str, tuple[jax.Array, jax.Array]], target: dict[str, jax.Array]
    ) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""

        def reduce(layer: str) -> jax.Array:
            gram, positions = statistics[layer]
            return losses.style_loss(gram / positions, target[layer])

        return _weighted_sum(self, reduce)


@dataclasses.dataclass(frozen=True)
class TotalVariation:
    """Total variation of the image itself; see `losses.total_variation`.

    Attributes:
        power: 0.5 is the isotropic total variation, 1 the squared one.
        reduction: `sum` over pixels, or `mean`, which does not grow with the image.
        name: the term's name.
    """

    power: float = 1.0
    reduction: Literal["sum", "mean"] = "sum"
    name: str = "total_variation"

    layers: ClassVar[tuple[str, ...]] = ("image",)
    target_image: ClassVar[TargetImage] = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.power <= 0:
            raise ValueError(f"power {self.power} is not positive")
        if self.reduction not in ("sum", "mean"):
            raise ValueError(f"reduction {self.reduction!r} is not one of sum, mean")

    def target(self, features: Features) -> None:
        """Returns nothing: there is nothing to compare with."""

    def statistics(
        self, features: Features, target: None, weight: PositionWeights
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (sum, number of positions), both `()`."""
        image, position_weight = features["image"], _weight_of(weight, "image")
        return (
            losses.total_variation_sum(image, position_weight, power=self.power),
            _total_weight(image, position_weight),
        )

    def loss(self, statistics: tuple[jax.Array, jax.Array], target: None) -> jax.Array:
        """Returns the sum, or the mean over positions, `()`."""
        total, positions = statistics
        return total if self.reduction == "sum" else total / positions
