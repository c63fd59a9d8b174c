"""Distances of features at drawn positions: self-similarity, and the relaxed earth mover's.

Kolkin, Salavon & Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and Self-Similarity",
CVPR 2019 (STROTSS). Rows are the features of one position each. The cosine distance of two rows is
1 minus the cosine of their angle; a row of zeros is at distance 1 from all rows.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_array, sum_dtype
from jaxstyle.losses.arguments import ROWS, both_rows, matmul, unit
from jaxstyle.losses.gram import self_product

_SQUARED_RANGE = (1e-5, 1e5)  # of the Euclidean distance of two colors, in the authors' program


def self_similarity_loss(rows: jax.Array, content_rows: jax.Array) -> jax.Array:
    """Compares the distances among the rows of the image with those among the content's.

    STROTSS, section 2.3. With D the cosine distances of all pairs of rows, each column divided by
    its sum, it is `sum |D - D'| / N`, as in the authors' program; the paper has 1 / N^2. Each of
    both pictures is compared with itself only, so colors and strokes may change.

    Args:
        rows: `(N, c)` of the image.
        content_rows: `(N, k)` of the content, at the same positions.

    Returns:
        `()`, from 0 to 2.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    number = len(as_array(rows, "rows", ROWS))
    content_rows = as_array(content_rows, "content_rows", (number, "k"))
    dtype = sum_dtype(rows, content_rows)
    own, other = _self_distances(rows.astype(dtype)), _self_distances(content_rows.astype(dtype))
    return jnp.sum(jnp.abs(own - other)) / number


def relaxed_emd(rows: jax.Array, style_rows: jax.Array) -> jax.Array:
    """The relaxed earth mover's distance of two sets of rows, with cosine distances.

    STROTSS, eq. 5; Kusner et al., "From Word Embeddings To Document Distances", ICML 2015. It is
    the larger one of two means: that of the distance of each row from the nearest row of the style,
    and that of the distance of each row of the style from the nearest row.

    The derivative is that of the larger mean with its pairs as they are. No derivative of the
    `(N, M)` distances is ever made.

    Args:
        rows: `(N, c)` of the image.
        style_rows: `(M, c)` of the style.

    Returns:
        `()`, from 0 to 2.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    rows, style_rows = map(unit, both_rows(rows, style_rows))
    distances = 1 - matmul(*map(jax.lax.stop_gradient, (rows, style_rows.T)))
    return _relaxed(distances, lambda x, y: 1 - jnp.sum(x * y, -1), rows, style_rows)


def palette_emd(rows: jax.Array, style_rows: jax.Array) -> jax.Array:
    """The relaxed earth mover's distance of two sets of colors.

    STROTSS, section 2.4, the authors' program: the distance of two colors is their cosine distance
    plus their Euclidean distance over `sqrt(c)`. The program first decorrelates the colors by a
    rotation, which changes neither of both distances, and is left out.

    Args:
        rows: `(N, c)`, colors of the image; c is 3.
        style_rows: `(M, c)`, colors of the style.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    rows, style_rows = both_rows(rows, style_rows)

    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
        square = jnp.clip(jnp.sum(jnp.square(x - y), -1), *_SQUARED_RANGE)
        return 1 - jnp.sum(unit(x) * unit(y), -1) + jnp.sqrt(square / x.shape[-1])

    distances = distance(*map(jax.lax.stop_gradient, (rows[:, None], style_rows[None])))
    return _relaxed(distances, distance, rows, style_rows)


def _relaxed(
    distances: jax.Array,
    distance: Callable[[jax.Array, jax.Array], jax.Array],
    rows: jax.Array,
    style_rows: jax.Array,
) -> jax.Array:
    """The relaxed earth mover's distance, of constant `(N, M)` distances of all pairs."""
    to_style = distance(rows, style_rows[jnp.argmin(distances, 1)])
    from_style = distance(rows[jnp.argmin(distances, 0)], style_rows)
    return jnp.maximum(jnp.mean(to_style), jnp.mean(from_style))


def _self_distances(rows: jax.Array) -> jax.Array:
    """`(N, N)` cosine distances of all pairs of rows, each column divided by its sum."""
    distances = 1 - self_product(unit(rows).T)
    total = jnp.sum(distances, 0)
    # Where all rows are alike, the sum is nothing but rounding.
    rounding = 16 * len(rows) * jnp.finfo(rows.dtype).eps
    return distances / jnp.where(total > rounding, total, 1)
