"""Style by whole distributions of features, along directions."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxstyle import losses
from jaxstyle.checks import as_integer, sum_dtype
from jaxstyle.terms.protocol import Shares, TargetImage, check_layers, check_target, weighted_sum
from jaxstyle.terms.sampled import Rows, SampledTerm, check_sampling

_LAYERS = (
    *("relu1_1", "relu1_2", "relu2_1", "relu2_2"),
    *("relu3_1", "relu3_2", "relu3_3", "relu3_4"),
    *("relu4_1", "relu4_2", "relu4_3", "relu4_4"),
)
# Draws of directions are independent of those of positions, which are made of the key itself.
_DIRECTIONS = 2


@dataclasses.dataclass(frozen=True)
class SlicedStyle(SampledTerm):
    """Sliced Wasserstein distance from the style's features, layer by layer.

    Heitz et al., "A Sliced Wasserstein Loss for Neural Texture Synthesis", CVPR 2021; see
    `losses.sliced_wasserstein`. It is 0 only where the distributions are the same as a whole, and
    not only their means and covariances. The authors' network has normalized layers; here each
    layer is divided by the mean of the style's features instead.

    Along the `axes` it is a loss of histograms (Risser et al. 2017, and the exact feature
    distribution matching of Zhang et al., CVPR 2022).

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        directions: number of random directions for each layer, new ones in each draw; or `axes`,
            the channels themselves. The authors' program draws as many as there are channels.
        samples: positions of the image.
        redraw: steps between two draws; 0 draws once at each size.
        style_samples: positions of the styles together.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = _LAYERS
    layer_weights: tuple[float, ...] = (1.0,) * len(_LAYERS)
    directions: int | Literal["axes"] = 64
    samples: int = 4096
    redraw: int = 1
    style_samples: int = 4096
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layers(self)
        check_sampling(self)
        number = self.directions
        if number != "axes" and (isinstance(number, str) or as_integer(number, "directions") < 1):
            raise ValueError(f"directions must be a whole number from 1 on, or axes, not {number}")

    def target(
        self, statistics: Sequence[Rows], shares: Shares
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns layer -> (rows `(M, c)` over their mean, the mean `()`)."""
        rows: Rows = super().target(statistics, shares)

        def normalized(layer: str) -> tuple[jax.Array, jax.Array]:
            own = rows[layer].astype(sum_dtype(rows[layer]))
            mean = jnp.mean(own)
            mean = jnp.where(mean > 0, mean, 1)
            return own / mean, mean

        return {layer: normalized(layer) for layer in self.layers}

    def loss_of_draw(
        self,
        statistics: Rows,
        target: Mapping[str, tuple[jax.Array, jax.Array]],
        key: jax.Array,
    ) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        check_target(self, target)
        of_directions = jax.random.fold_in(
            jax.random.wrap_key_data(key, impl="threefry2x32"), _DIRECTIONS
        )

        def of_layer(layer: str) -> jax.Array:
            style_rows, mean = target[layer]
            rows = statistics[layer].astype(style_rows.dtype) / mean
            directions = None
            if self.directions != "axes":
                own = jax.random.fold_in(of_directions, self.layers.index(layer))
                shape = (rows.shape[1], self.directions)
                # The same for all dtypes.
                drawn = jax.random.normal(own, shape, jnp.float32).astype(rows.dtype)
                directions = drawn / jnp.linalg.norm(drawn, axis=0, keepdims=True)
            return losses.sliced_wasserstein(rows, style_rows, directions=directions)

        return weighted_sum(self, of_layer)

    def loss(
        self, statistics: Rows, target: Mapping[str, tuple[jax.Array, jax.Array]]
    ) -> jax.Array:
        """Not used: `loss_of_draw` has the key of the directions."""
        raise NotImplementedError
