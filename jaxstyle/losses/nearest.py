"""Nearest neighbors: rows of features, and the rows of a style that point the same way."""

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_factor
from jaxstyle.losses.arguments import both_rows, matmul, unit

# Cosines that are held at a time, 32 MB of float32.
_HELD = 2**23


def nearest_rows(
    rows: jax.Array,
    style_rows: jax.Array,
    *,
    center: bool = False,
    allowed: jax.Array | None = None,
) -> jax.Array:
    """Finds the row of the style with the largest cosine for each row of the image.

    The `(N, M)` matrix of cosines is computed a few rows at a time, to save memory.

    Args:
        rows: `(N, c)`.
        style_rows: `(M, c)`.
        center: whether each set of rows has its own mean subtracted first.
        allowed: `(M,)`, whether each may be chosen; by default all.

    Returns:
        `(N,)` indices into `style_rows`; the first one of equal cosines. Their derivative is zero.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    return nearest_with_cosines(rows, style_rows, center=center, allowed=allowed)[0]


def nearest_with_cosines(
    rows: jax.Array,
    style_rows: jax.Array,
    *,
    center: bool = False,
    allowed: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns what `nearest_rows` does, and the cosines `(N,)`; 0 where a row is zero."""
    rows, style_rows = both_rows(rows, style_rows)
    rows, style_rows = jax.lax.stop_gradient((rows, style_rows))
    number = len(style_rows)
    every = jnp.ones(number, bool) if allowed is None else allowed
    every = as_factor(every, "allowed", (number,), bool)
    if center:
        rows = rows - jnp.mean(rows, 0, keepdims=True)
        style_rows = style_rows - jnp.mean(style_rows, 0, keepdims=True)
    directions = unit(style_rows)

    def nearest(row: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The row's own norm does not change which is the nearest.
        products = matmul(directions, row)
        # Not infinity: `jax_debug_infs` would raise.
        index = jnp.argmax(jnp.where(every, products, jnp.finfo(products.dtype).min))
        return index, products[index]

    size = min(max(_HELD // number, 1), len(rows))
    index, products = jax.lax.map(nearest, rows, batch_size=size)
    norms = jnp.linalg.norm(rows, axis=1)
    return index, jnp.where(norms > 0, products / jnp.where(norms > 0, norms, 1), 0)


def nearest_loss(rows: jax.Array, style_rows: jax.Array, *, center: bool = False) -> jax.Array:
    """Returns the mean cosine distance of each row of the image from the nearest one of the style.

    Zhang, Kolkin, Bi, Luan, Xu, Shechtman & Snavely, "ARF: Artistic Radiance Fields", ECCV 2022,
    eq. 1; centered, the loss of Kolkin et al., "Neural Neighbor Style Transfer", 2022, for one
    layer. Which row is the nearest is a constant of the derivative: only N cosines are
    differentiated, and not all N M. The means are not: rows that all move together change nothing,
    and a gradient that did not know this would make the image ever darker or lighter.

    Args:
        rows: `(N, c)`.
        style_rows: `(M, c)`.
        center: whether each set of rows has its own mean subtracted first.

    Returns:
        `()`, `mean_i min_j (1 - cos(x_i, s_j))`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    rows, style_rows = both_rows(rows, style_rows)
    nearest = style_rows[nearest_rows(rows, style_rows, center=center)]
    if center:
        rows = rows - jnp.mean(rows, 0, keepdims=True)
        nearest = nearest - jnp.mean(style_rows, 0, keepdims=True)
    return jnp.mean(cosine_distances(rows, nearest))


def cosine_distances(rows: jax.Array, others: jax.Array) -> jax.Array:
    """Returns one minus the cosine of the angle between each two rows.

    Args:
        rows: `(N, c)`.
        others: `(N, c)`.

    Returns:
        `(N,)`; 1 where a row is zero, with a derivative of zero.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    rows, others = both_rows(rows, others)
    if len(rows) != len(others):
        raise ValueError(f"{len(rows)} rows, but {len(others)} others")
    return 1 - jnp.sum(unit(rows) * unit(others), 1)
