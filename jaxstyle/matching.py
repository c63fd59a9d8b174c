"""Chooses the hypercolumns of the styles that `MatchedStyle` compares an image with."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle.losses import nearest_rows
from jaxstyle.network.protocol import Network, Params
from jaxstyle.sampling import rows_at
from jaxstyle.terms import Features, PositionWeights, Rows
from jaxstyle.terms.matched import (
    Candidates,
    Matched,
    MatchedStyle,
    at_grid,
    hypercolumns,
    mixture,
)
from jaxstyle.tiling import (
    compute_features,
    smaller_tile,
    sum_over_windows,
    tiling_of,
    whole_features,
)


def candidates(
    network: Network,
    term: MatchedStyle,
    shape: Sequence[int],
    features: Features,
    weight: PositionWeights,
    **window: Any,
) -> Candidates:
    """Returns hypercolumns of a style of `shape`, of a window of it those that the window owns.

    `window` are `origin` and `owned`, see `rows_at`.
    """
    stride, maps = network.stride(term.grid), at_grid(term, features)
    height, width = (max(n // stride, 1) for n in shape[:2])
    step = 1
    while (height // step) * (width // step) > term.style_samples and step < min(height, width):
        step += 1
    rows, columns = (jnp.arange(n // step, dtype=jnp.int32) * step for n in (height, width))
    positions = stride * jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    grid = maps[term.grid]
    plane = jnp.ones(grid.shape[:2], grid.dtype) if weight is None else weight[term.grid]
    planes = {**maps, "weight": plane.astype(grid.dtype)[..., None]}
    found = rows_at(planes, dict.fromkeys(planes, stride), positions, **window)
    return Candidates({layer: found[layer] for layer in term.layers}, found["weight"])


def match(
    network: Network,
    params: Params,
    term: MatchedStyle,
    styles: Sequence[Candidates],
    content: jax.Array,
    start: jax.Array | None,
    tile: int | None,
) -> tuple[Matched, ...]:
    """Matches each position of the image with one of the styles.

    It costs as many multiplications as both have hypercolumns, times their length, once at each
    size. A few positions are matched at a time, so it needs little memory.

    Args:
        network: the network.
        params: its parameters.
        term: the term.
        styles: candidates; each set of them has its own choice.
        content: `(H, W, 3)`.
        start: `(H, W, 3)`, see `mixture`.
        tile: see `evaluate`.

    Raises:
        ValueError: for a network that wraps.
    """
    if network.wraps:
        raise ValueError(f"{term.name} needs a network that does not wrap: choose another padding")
    image = mixture(term, content, start)
    tile = smaller_tile(tile, image)
    # If a mask has no weight of 0.5 or more, those of its largest weight.
    allowed = [each.weight[:, 0] >= jnp.minimum(jnp.max(each.weight), 0.5) for each in styles]
    scales = [_scale(term, each.rows, own) for each, own in zip(styles, allowed, strict=True)]
    rows = [
        hypercolumns(term, each.rows) * scale for each, scale in zip(styles, scales, strict=True)
    ]

    def choose(maps: jax.Array, mean: jax.Array) -> jax.Array:
        """Returns `(h, w, S)` int32 of hypercolumns `(h, w, C)`."""
        image_rows = maps.reshape(-1, maps.shape[-1]) - mean
        found = [
            nearest_rows(image_rows * scale, each - _mean(each, own), allowed=own)
            for each, scale, own in zip(rows, scales, allowed, strict=True)
        ]
        return jnp.stack(found, -1).astype(jnp.int32).reshape(*maps.shape[:2], -1)

    def columns(features: Features) -> jax.Array:
        return hypercolumns(term, at_grid(term, features))

    if tile is None:
        maps = columns(whole_features(network, params, image, term.layers))
        index = choose(maps, _mean(maps.reshape(-1, maps.shape[-1]), None))
    else:
        tiling = tiling_of(network, image, tile, (term,))

        def sums(features: Features, here: Any, owned: Mapping[str, jax.Array], origin: Any) -> Any:
            del here, origin
            own = owned[term.grid]
            return jnp.sum(columns(features) * own[..., None], (0, 1)), jnp.sum(own)

        total, number = sum_over_windows(tiling, network, params, image, {}, sums)
        mean = (total / number)[None]

        def chosen(features: Features) -> dict[str, jax.Array]:
            return {term.grid: choose(columns(features), mean)}

        index = compute_features(tiling, network, params, image, chosen)[term.grid]
    return tuple(
        Matched(each, scale, {term.grid: index[..., i : i + 1]})
        for i, (each, scale) in enumerate(zip(rows, scales, strict=True))
    )


def _scale(term: MatchedStyle, rows: Rows, allowed: jax.Array) -> jax.Array:
    """Returns `(C,)`, for each layer one over its number of channels and over its mean."""

    def of_layer(layer: str) -> jax.Array:
        channels, mean = rows[layer].shape[1], jnp.mean(_mean(rows[layer], allowed))
        return jnp.full(channels, jnp.where(mean > 0, 1 / (channels * mean), 0))

    return hypercolumns(term, {layer: of_layer(layer) for layer in term.layers})


def _mean(rows: jax.Array, counted: jax.Array | None) -> jax.Array:
    """Returns the mean `(1, C)` of rows, or of those that are counted."""
    if counted is None:
        return jnp.mean(rows, 0, keepdims=True)
    factors = counted.astype(rows.dtype)[:, None]
    return jnp.sum(factors * rows, 0, keepdims=True) / jnp.maximum(jnp.sum(factors), 1)
