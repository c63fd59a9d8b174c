"""Draws of positions, and the features there.

Keys are the data of threefry keys, `(2,)` uint32, which any program can take as an argument.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.terms import Features, Term
from jaxstyle.terms.sampled import Rows, SampledTerm


class Drawn(NamedTuple):
    """The target of a `SampledTerm`, with the key of the positions that are drawn of the image."""

    key: jax.Array
    """`(2,)` uint32. The same key draws the same positions."""
    target: Any
    """The content's features, or the style's rows; those of each region if there are masks."""


def key_data(key: Any) -> jax.Array:
    """Returns `(2,)` uint32 of any key, for `draw_positions`; None is that of seed 0."""
    if key is None:  # an explicit transfer, which `jax.transfer_guard` allows
        key = _typed(jax.device_put(np.zeros(2, np.uint32)))
    return jax.random.bits(key, (2,), "uint32")


def fold_in(key: jax.Array, data: int | jax.Array) -> jax.Array:
    """Returns another key, `(2,)` uint32, as `jax.random.fold_in` does."""
    return jax.random.key_data(jax.random.fold_in(_typed(key), data))


def style_key(key: jax.Array, index: int) -> jax.Array:
    """Returns the key of the positions of one style. It differs from the key of every step."""
    return fold_in(key, 2**31 + index)


def redraw_targets(
    terms: Sequence[Term], targets: Mapping[str, Any], step: jax.Array
) -> dict[str, Any]:
    """Returns the targets for a step of the solver: with the keys of its draws.

    Args:
        terms: the terms. One with `redraw` 0 draws the same positions in each step.
        targets: from `prepare_targets`.
        step: `()`, the number of steps made.
    """
    new = dict(targets)
    for term in terms:
        if isinstance(term, SampledTerm) and term.redraw > 0:
            drawn = targets[term.name]
            new[term.name] = drawn._replace(key=fold_in(drawn.key, step // term.redraw))
    return new


def draw_positions(
    key: jax.Array, number: int, shape: Sequence[int], weight: jax.Array | None = None
) -> jax.Array:
    """Draws pixels of an image, independently and with replacement.

    Args:
        key: `(2,)` uint32.
        number: N.
        shape: `(H, W)`.
        weight: `(H, W)`, not negative, relative probabilities; None for equal ones. They are
            rounded up to 16 bits, so that all sums are exact: a weight of 0 is never drawn.

    Returns:
        `(N, 2)` int32, rows and columns.
    """
    (of_row, of_column), (height, width) = jax.random.split(_typed(key)), shape[:2]
    if weight is None:
        row = jax.random.randint(of_row, (number,), 0, height, jnp.int32)
        column = jax.random.randint(of_column, (number,), 0, width, jnp.int32)
        return jnp.stack([row, column], axis=-1)
    row = _draw(of_row, jnp.broadcast_to(jnp.sum(weight, axis=1), (number, height)))
    column = _draw(of_column, weight[row])
    return jnp.stack([row, column], axis=-1)


def _draw(key: jax.Array, weights: jax.Array) -> jax.Array:
    """Draws one index of each row of `(N, K)` weights, with K at most 2^16."""
    weights = weights.astype(jnp.float32)
    largest = jnp.maximum(jnp.max(weights, axis=1, keepdims=True), 1e-30)
    whole = jnp.ceil(weights / largest * 0xFFFF).astype(jnp.uint32)
    ends = jnp.cumsum(whole, axis=1, dtype=jnp.uint32)
    drawn = jax.random.randint(key, (len(whole),), 0, jnp.maximum(ends[:, -1], 1), jnp.uint32)
    index = jnp.sum(ends <= drawn[:, None], axis=1, dtype=jnp.int32)
    return jnp.minimum(index, weights.shape[1] - 1)  # where all weights are 0


def rows_at(
    features: Features,
    strides: Mapping[str, int],
    positions: jax.Array,
    *,
    origin: jax.Array | None = None,
    owned: jax.Array | None = None,
    wraps: bool = False,
) -> Rows:
    """Reads features at pixels, bilinearly between the positions of a layer.

    Args:
        features: layer -> `(h, w, c)`, of an image or a window of it.
        strides: layer -> pixels from one position to the next.
        positions: `(N, 2)` pixels of the image.
        origin: `(2,)`, the pixel at which the window begins; None for the image's first one.
        owned: `(H, W)`, 1 for the pixels that the window owns: rows of other pixels are 0. None
            for all ones.
        wraps: whether a position beyond the last one is the first one.

    Returns:
        Layer -> `(N, c)`.
    """
    local = positions if origin is None else positions - origin

    def at(plane: jax.Array, *index: jax.Array) -> jax.Array:
        return plane.at[index].get(mode="clip")

    def read(layer: str) -> jax.Array:
        maps, stride = features[layer], strides[layer]
        if stride == 1:
            found = at(maps, local[:, 0], local[:, 1])
        else:
            shape = jnp.asarray(maps.shape[:2], jnp.int32)
            first, fraction = local // stride, (local % stride) / stride
            second = first + 1
            if wraps:
                first, second = first % shape, second % shape
            else:
                first, second = jnp.minimum(first, shape - 1), jnp.minimum(second, shape - 1)
            down, right = (fraction[:, i, None].astype(maps.dtype) for i in (0, 1))
            upper, lower = (
                at(maps, row, first[:, 1]) * (1 - right) + at(maps, row, second[:, 1]) * right
                for row in (first[:, 0], second[:, 0])
            )
            found = upper * (1 - down) + lower * down
        if owned is None:
            return found
        inside = jnp.all((local >= 0) & (local < jnp.asarray(owned.shape, jnp.int32)), axis=1)
        mine = inside & (at(owned, local[:, 0], local[:, 1]) > 0)
        return jnp.where(mine[:, None], found, 0)

    return {layer: read(layer) for layer in strides}


def _typed(key: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(key, impl="threefry2x32")
