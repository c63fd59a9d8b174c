"""Chooses the hypercolumns of the styles that `MatchedStyle` compares an image with."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle.losses.nearest import nearest_with_cosines
from jaxstyle.network.protocol import Network, Params
from jaxstyle.sampling import rows_at
from jaxstyle.terms import Features, PositionWeights, Rows
from jaxstyle.terms.matched import (
    Candidates,
    Matched,
    MatchedStyle,
    Mixture,
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
    mixtures: Sequence[Mixture],
    regions: jax.Array | None,
    content: jax.Array,
    start: jax.Array | None,
    tile: int | None,
) -> tuple[Matched, ...]:
    """Matches each position of the image with a hypercolumn of one of the styles.

    It costs as many multiplications as both have hypercolumns, times their length, once at each
    size. A few positions are matched at a time, so it needs little memory.

    Args:
        network: the network.
        params: its parameters.
        term: the term.
        mixtures: each has its own choice.
        regions: `(n, h, w)`, the weight of each position of the grid in each mixture; None for all
            ones. A style has its share of that weight.
        content: `(H, W, 3)`.
        start: `(H, W, 3)`, see `mixture`.
        tile: see `evaluate`.
    """
    image = mixture(term, content, start, wraps=network.wraps)
    tile = smaller_tile(tile, image)
    sources = [_source(term, each) for each in mixtures]

    def nearest(maps: jax.Array, mean: jax.Array) -> tuple[Any, ...]:
        """Returns for each mixture what `_nearest` does of `(h, w, C)`."""
        rows = maps.reshape(-1, maps.shape[-1]) - mean
        found = [_nearest(rows, source) for source in sources]
        return jax.tree.map(lambda each: each.reshape(*maps.shape[:2], -1), tuple(found))

    if tile is None:
        features = whole_features(network, params, image, term.layers)
        maps = hypercolumns(term, at_grid(term, features, wraps=network.wraps))
        found = nearest(maps, jnp.mean(maps.reshape(-1, maps.shape[-1]), 0, keepdims=True))
    else:
        tiling = tiling_of(network, image, tile, (term,))

        def columns(features: Features) -> jax.Array:
            return hypercolumns(term, at_grid(term, features))

        def sums(features: Features, here: Any, owned: Mapping[str, jax.Array], origin: Any) -> Any:
            del here, origin
            own = owned[term.grid]
            return jnp.sum(columns(features) * own[..., None], (0, 1)), jnp.sum(own)

        total, number = sum_over_windows(tiling, network, params, image, {}, sums)
        mean = (total / number)[None]

        def of_window(features: Features) -> dict[str, Any]:
            return {term.grid: nearest(columns(features), mean)}

        found = compute_features(tiling, network, params, image, of_window)[term.grid]

    def matched(i: int, source: _Source, index: jax.Array, cosines: jax.Array | None) -> Matched:
        if cosines is not None:
            weight = jnp.ones(index.shape[:2]) if regions is None else regions[i]
            flat = cosines.reshape(-1, cosines.shape[-1])
            style = share_out(flat, mixtures[i].shares, weight.reshape(-1))
            style = style.reshape(*index.shape[:2], 1)
            index = jnp.take_along_axis(index, style, -1)
        return Matched(source.rows, source.scale, {term.grid: index})

    pairs = zip(sources, found, strict=True)
    return tuple(matched(i, source, *each) for i, (source, each) in enumerate(pairs))


def share_out(cosines: jax.Array, shares: jax.Array, weight: jax.Array) -> jax.Array:
    """Shares out N positions among S styles; see `MatchedStyle`.

    Args:
        cosines: `(N, S)`, how similar each style is.
        shares: `(S,)`, which sum to 1.
        weight: `(N,)`, not negative, what each position counts.

    Returns:
        `(N,)` int32, the style of each position.
    """
    dtype, last = cosines.dtype, cosines.shape[1] - 1
    shares, weight = shares.astype(dtype), weight.astype(dtype)
    cosines = jnp.where(shares > 0, cosines, -2)
    ends = jnp.cumsum(shares) * jnp.sum(weight)
    style = jnp.full(len(cosines), last, jnp.int32)
    for i in range(last):
        free = style == last
        ahead = cosines[:, i] - jnp.max(cosines[:, i + 1 :], 1)
        order = jnp.argsort(jnp.where(free, ahead, jnp.finfo(dtype).min), descending=True)
        counted = jnp.where(free, weight, 0)[order]
        given = jnp.sum(jnp.where(free, 0, weight)) + jnp.cumsum(counted)
        # A position counts for the style that has more than half of it.
        mine = (given - counted / 2 < ends[i]) & free[order] & (shares[i] > 0)
        style = style.at[order].set(jnp.where(mine, i, style[order]))
    return style


class _Source(NamedTuple):
    """The hypercolumns of a mixture."""

    rows: jax.Array
    """`(M, C)`, scaled, of all styles."""
    scale: jax.Array
    """`(C,)`, see `Matched`."""
    mean: jax.Array
    """`(1, C)`, of the rows that may be chosen, of each style as many as its share."""
    allowed: tuple[jax.Array, ...]
    """`(M_i,)` of each style, which of its rows may be chosen."""


def _source(term: MatchedStyle, mixture: Mixture) -> _Source:
    # If a mask has no weight of 0.5 or more, those of its largest weight.
    allowed = tuple(
        each.weight[:, 0] >= jnp.minimum(jnp.max(each.weight), 0.5) for each in mixture.styles
    )
    counted = allowed[0]
    if len(allowed) > 1:
        shares = zip(allowed, mixture.shares, strict=True)
        counted = jnp.concatenate([_parts(each, share) for each, share in shares])
    layers = jax.tree.map(lambda *each: jnp.concatenate(each), *(s.rows for s in mixture.styles))
    scale = _scale(term, layers, counted)
    rows = hypercolumns(term, layers) * scale
    return _Source(rows, scale, _mean(rows, counted), allowed)


def _parts(allowed: jax.Array, share: jax.Array) -> jax.Array:
    """Divides a share evenly among the rows that may be chosen."""
    each = allowed.astype(share.dtype)
    return each * (share / jnp.sum(each))


def _nearest(rows: jax.Array, source: _Source) -> tuple[jax.Array, jax.Array | None]:
    """Returns for `(N, C)` the nearest row of each style, `(N, S)` int32, and their cosines.

    The cosines are None for a single style.
    """
    rows, first, found = rows * source.scale, 0, []
    for allowed in source.allowed:
        own = source.rows[first : first + len(allowed)] - source.mean
        index, cosines = nearest_with_cosines(rows, own, allowed=allowed)
        found.append((first + index.astype(jnp.int32), cosines))
        first += len(allowed)
    index, cosines = (jnp.stack(each, -1) for each in zip(*found, strict=True))
    return index, None if len(found) == 1 else cosines


def _scale(term: MatchedStyle, rows: Rows, counted: jax.Array) -> jax.Array:
    """Returns `(C,)`, for each layer one over its number of channels and over its mean."""

    def of_layer(layer: str) -> jax.Array:
        channels, mean = rows[layer].shape[1], jnp.mean(_mean(rows[layer], counted))
        return jnp.full(channels, jnp.where(mean > 0, 1 / (channels * mean), 0))

    return hypercolumns(term, {layer: of_layer(layer) for layer in term.layers})


def _mean(rows: jax.Array, counted: jax.Array) -> jax.Array:
    """Returns the mean `(1, C)` of rows, each of which counts by its part of `counted`, `(M,)`."""
    factors = counted.astype(rows.dtype)[:, None]
    return jnp.sum(factors * rows, 0, keepdims=True) / jnp.maximum(jnp.sum(factors), 1e-6)
