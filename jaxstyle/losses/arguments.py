"""What the losses share: the shapes of their arguments, differences and weights."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle.checks import Shape, as_array, as_factor, sum_dtype

MAPS = ("h", "w", "c")
IMAGE = ("H", "W", "c")
MATRIX = ("c", "c")
ROWS = ("N", "c")
# Products of full precision whatever `jax.default_matmul_precision` says; see jaxstyle.losses.
matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def difference_of(x: Any, target: Any, what: str, shape: Shape | None) -> jax.Array:
    """`x - target`, in the dtype of sums."""
    x, target = as_array(x, what, shape), as_array(target, "the target", shape)
    if x.shape != target.shape:
        raise ValueError(f"{what} of shape {x.shape}, but the target has shape {target.shape}")
    dtype = sum_dtype(x, target)
    return x.astype(dtype) - target.astype(dtype)


def both_rows(rows: Any, style_rows: Any) -> tuple[jax.Array, jax.Array]:
    """Returns `(N, c)` and `(M, c)` in the dtype of sums."""
    rows = as_array(rows, "rows", ROWS)
    style_rows = as_array(style_rows, "style_rows", ("M", rows.shape[1]))
    dtype = sum_dtype(rows, style_rows)
    return rows.astype(dtype), style_rows.astype(dtype)


def unit(rows: jax.Array) -> jax.Array:
    """Rows `(.., c)` over their lengths. A row of zeros stays, and has no derivative."""
    square = jnp.sum(jnp.square(rows), -1, keepdims=True)
    return rows * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


def weighted(maps: jax.Array, weight: Any) -> jax.Array:
    """`(h, w, c)` times the weight of each position."""
    if weight is None:
        return maps
    return maps * as_factor(weight, "weight", maps.shape[:2], maps.dtype)[..., None]


def as_matrix(matrix: Any, what: str) -> jax.Array:
    """Returns a square `(c, c)` in the dtype of sums."""
    matrix = as_array(matrix, what, MATRIX)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{what} must be (c, c), not of shape {matrix.shape}")
    return matrix.astype(sum_dtype(matrix))
