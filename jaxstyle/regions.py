"""Regions of an image: weights of pixels, and what they are at the layers of a network.

Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer", CVPR 2017, section 4.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle.checks import sum_dtype
from jaxstyle.network.protocol import Network
from jaxstyle.terms import Features, PositionWeights


class Guided(NamedTuple):
    """The target of a style term whose styles each, or together, have a region of the image."""

    targets: tuple[Any, ...]
    """One for each of the S styles, or a single one for their mixture."""
    weights: dict[str, jax.Array]
    """Layer -> `(S, h, w)`, the weight of each position in each region."""
    factors: jax.Array
    """`(S,)` of the losses: shares times areas, so that no region is painted more strongly."""


def at_layers(network: Network, mask: jax.Array, layers: Sequence[str]) -> dict[str, jax.Array]:
    """Returns `(..., H, W)` as layer -> `(..., h, w)`, also for `image`: means over the pixels.

    The last position of a layer may belong to less than a whole block of pixels. Where a mask is
    zero on all pixels of a position, its weight there is exactly zero.
    """
    return {layer: _means(mask, network.stride(layer)) for layer in ("image", *layers)}


def _means(mask: jax.Array, stride: int) -> jax.Array:
    *batch, height, width = mask.shape
    rows, columns = -(-height // stride), -(-width // stride)
    missing = [(0, 0)] * len(batch) + [(0, rows * stride - height), (0, columns * stride - width)]
    blocks = jnp.pad(mask, missing, mode="edge")
    return blocks.reshape(*batch, rows, stride, columns, stride).mean((-3, -1))


def fit(weights: Mapping[str, jax.Array], features: Features) -> dict[str, jax.Array]:
    """Cuts off the weights of positions that a layer does not have, at the bottom and right."""
    shapes = {layer: features[layer].shape[:2] for layer in weights}
    return {layer: weights[layer][..., :h, :w] for layer, (h, w) in shapes.items()}


def product(one: PositionWeights, other: PositionWeights) -> PositionWeights:
    """Multiplies weights of positions, at the layers of the first; None stands for all ones."""
    if one is None or other is None:
        return one if other is None else other

    def times(plane: jax.Array, factor: jax.Array) -> jax.Array:
        dtype = sum_dtype(plane, factor)
        return plane.astype(dtype) * factor.astype(dtype)

    return {layer: times(plane, other[layer]) for layer, plane in one.items()}
