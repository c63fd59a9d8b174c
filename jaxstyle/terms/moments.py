"""Style by means, deviations and covariances of features."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxstyle import losses
from jaxstyle.checks import as_integer, as_number, sum_dtype
from jaxstyle.terms.protocol import (
    FIFTHS,
    STYLE_LAYERS,
    Features,
    PositionWeights,
    Shares,
    TargetImage,
    Term,
    check_layers,
    check_target,
    mix,
    total_weight,
    weight_of,
    weighted_sum,
)


@dataclasses.dataclass(frozen=True)
class MomentStyle(Term):
    """Squared difference of the mean, and the standard deviation, of each channel.

    Li et al., "Demystifying Neural Style Transfer", IJCAI 2017, section 4.2 (batch normalization
    statistics); the mean over channels of both squares.

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        order: 1 for means only, 2 for means and standard deviations.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = STYLE_LAYERS
    layer_weights: tuple[float, ...] = FIFTHS
    order: int = 2
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"
    reach: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layers(self)
        if as_integer(self.order, "order") not in (1, 2):
            raise ValueError(f"order {self.order} is not 1 or 2")

    def statistics(
        self, features: Features, target: Any, weight: PositionWeights
    ) -> dict[str, tuple[tuple[jax.Array, jax.Array], jax.Array]]:
        """Returns layer -> ((sum `(c,)`, sum of squares `(c,)`), number of positions `()`)."""
        del target

        def sums(layer: str) -> Any:
            values = features[layer].astype(sum_dtype(features[layer]))
            of_layer = weight_of(weight, layer, values)
            weighted = values if of_layer is None else values * of_layer[..., None]
            both = jnp.sum(weighted, (0, 1)), jnp.sum(weighted * values, (0, 1))
            return both, total_weight(values, of_layer)

        return {layer: sums(layer) for layer in self.layers}

    def target(self, statistics: Sequence[Any], shares: Shares) -> dict[str, Any]:
        """Returns layer -> (mean `(c,)`, mean square `(c,)`), averaged over the styles."""
        return mix(statistics, shares)

    def loss(self, statistics: dict[str, Any], target: dict[str, Any]) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        check_target(self, target)

        def deviation(mean: jax.Array, square: jax.Array) -> jax.Array:
            # The root's derivative is infinite at 0. A constant channel gets a zero one.
            variance = square - mean**2
            varies = variance > 1e-6 * square
            return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0)

        def reduce(layer: str) -> jax.Array:
            (total, squares), positions = statistics[layer]
            mean, square = total / positions, squares / positions
            error = jnp.square(mean - target[layer][0])
            if self.order == 2:
                error += jnp.square(deviation(mean, square) - deviation(*target[layer]))
            return jnp.mean(error)

        return weighted_sum(self, reduce)


@dataclasses.dataclass(frozen=True)
class Wasserstein2Style(Term):
    """Squared Wasserstein-2 distance of Gaussians with the features' means and covariances.

    Crowson, style-transfer-pytorch: `mean (m - m_t)^2 + tr(K_t + K - 2 (K_t^1/2 K K_t^1/2)^1/2) /
    C`, with `epsilon` on the diagonals of K and K_t. With `layers=("image",)` it compares colors.

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        epsilon: added to the covariances' diagonals, in units of squared features.
        iterations: number of Newton-Schulz iterations, see `losses.square_root`.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = STYLE_LAYERS
    layer_weights: tuple[float, ...] = FIFTHS
    epsilon: float = 1e-4
    iterations: int = 12
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"
    reach: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layers(self)
        object.__setattr__(self, "epsilon", as_number(self.epsilon, "epsilon"))
        if self.epsilon < 0 or as_integer(self.iterations, "iterations") < 1:
            raise ValueError(
                f"epsilon must be at least 0 and iterations positive, not {self.epsilon}, "
                f"{self.iterations}"
            )

    def statistics(
        self, features: Features, target: Any, weight: PositionWeights
    ) -> dict[str, tuple[tuple[jax.Array, jax.Array], jax.Array]]:
        """Returns layer -> ((sum `(c,)`, Gram sum `(c, c)`), number of positions `()`)."""
        del target

        def sums(layer: str) -> Any:
            own = weight_of(weight, layer, features[layer])
            both = losses.moment_sums(features[layer], weight=own)
            return both, total_weight(features[layer], own)

        return {layer: sums(layer) for layer in self.layers}

    def _covariance(self, mean: jax.Array, second: jax.Array) -> jax.Array:
        return second - jnp.outer(mean, mean) + self.epsilon * jnp.eye(len(mean), dtype=mean.dtype)

    def target(self, statistics: Sequence[Any], shares: Shares) -> dict[str, Any]:
        """Returns layer -> (mean, covariance, its root); second moments are averaged."""

        def of_layer(mean: jax.Array, second: jax.Array) -> tuple[jax.Array, ...]:
            covariance = self._covariance(mean, second)
            return mean, covariance, losses.square_root(covariance, iterations=self.iterations)

        return {layer: of_layer(*moments) for layer, moments in mix(statistics, shares).items()}

    def loss(self, statistics: dict[str, Any], target: dict[str, Any]) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        check_target(self, target)

        def reduce(layer: str) -> jax.Array:
            (total, gram), positions = statistics[layer]
            target_mean, covariance, root = target[layer]
            mean = total / positions
            own = self._covariance(mean, gram / positions)
            distance = losses.covariance_distance(own, covariance, root, iterations=self.iterations)
            return jnp.mean(jnp.square(mean - target_mean)) + distance / len(mean)

        return weighted_sum(self, reduce)
