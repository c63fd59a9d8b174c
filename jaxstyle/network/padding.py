"""A border one wide around a feature map, and the transpose of adding it."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

Padding = Literal["zero", "replicate", "reflect", "wrap"]


def mirrors(padding: Padding, length: int) -> dict[int, list[int]]:
    """Returns which border lines of a padded array copy which line: source -> border lines.

    The source is an index into the `length` lines inside, a border line one into `length + 2`.
    """
    last = length - 1
    found: dict[int, list[int]] = {}
    if padding != "zero":
        first_copies, last_copies = {
            "replicate": (0, last),
            "reflect": (1, last - 1),
            "wrap": (last, 0),
        }[padding]
        found.setdefault(first_copies, []).append(0)
        found.setdefault(last_copies, []).append(length + 1)
    return found


def _line(x: jax.Array, index: int, axis: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, index, index + 1, axis=axis)


def pad(x: jax.Array, low: int, high: Sequence[int], padding: Padding) -> jax.Array:
    """Puts zeros around `(n, h, w, c)`, and what `padding` says into their innermost line.

    `low` is the number of lines at the top and the left, `high` those at the bottom and the right.
    """
    # The lines are read from `x` and written over zeros in place. `jnp.pad` copies the array for
    # each border.
    zero = jnp.zeros((), x.dtype)
    y = jax.lax.pad(x, zero, ((0, 0, 0), (low, high[0], 0), (low, high[1], 0), (0, 0, 0)))
    for source, borders in mirrors(padding, x.shape[2]).items():
        for border in borders:
            start = (0, low, low - 1 + border, 0)
            y = jax.lax.dynamic_update_slice(y, _line(x, source, 2), start)
    for source, borders in mirrors(padding, x.shape[1]).items():
        line = pad_width(_line(x, source, 1), padding)
        for border in borders:
            y = jax.lax.dynamic_update_slice(y, line, (0, low - 1 + border, low - 1, 0))
    return y


def pad_width(x: jax.Array, padding: Padding) -> jax.Array:
    """Adds one column on each side; `padding` is not `zero`."""
    mode = "edge" if padding == "replicate" else padding
    return jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)), mode=mode)


def fold(y: jax.Array, padding: Padding) -> jax.Array:
    """Computes the transpose of padding by one: `(n, h + 2, w + 2, c) -> (n, h, w, c)`."""
    x = _fold_width(y[:, 1:-1], padding)
    for source, borders in mirrors(padding, y.shape[1] - 2).items():
        line = sum((_line(y, border, 1) for border in borders), _line(y, source + 1, 1))
        x = jax.lax.dynamic_update_slice_in_dim(x, _fold_width(line, padding), source, 1)
    return x


def _fold_width(y: jax.Array, padding: Padding) -> jax.Array:
    x = y[:, :, 1:-1]
    for source, borders in mirrors(padding, y.shape[2] - 2).items():
        line = sum((_line(y, border, 2) for border in borders), _line(y, source + 1, 2))
        x = jax.lax.dynamic_update_slice_in_dim(x, line, source, 2)
    return x
