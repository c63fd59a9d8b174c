"""Wasserstein distances along directions: whole distributions of features, not only moments."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.checks import as_array
from jaxstyle.losses.arguments import both_rows, matmul


def sliced_wasserstein(
    rows: jax.Array, style_rows: jax.Array, *, directions: jax.Array | None = None
) -> jax.Array:
    """The squared sliced Wasserstein-2 distance of two sets of rows.

    Heitz et al., "A Sliced Wasserstein Loss for Neural Texture Synthesis", CVPR 2021, eq. 3: the
    mean squared difference of the sorted projections on each direction. If there are not as many
    rows of the style, its sorted values are interpolated linearly at the same quantiles.

    Along the axes it compares the histogram of each channel: Risser, Wilmot & Barnes, "Stable and
    Controllable Neural Texture Synthesis and Style Transfer Using Histogram Losses", 2017, with
    exact histograms instead of bins.

    Args:
        rows: `(N, c)` of the image.
        style_rows: `(M, c)` of the style.
        directions: `(c, K)`, columns of unit length; by default the axes.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    rows, style_rows = both_rows(rows, style_rows)
    if directions is not None:
        directions = as_array(directions, "directions", (rows.shape[1], "K")).astype(rows.dtype)
        rows, style_rows = matmul(rows, directions), matmul(style_rows, directions)
    quantiles = _quantiles(_sorted(style_rows), len(rows))
    return jnp.mean(jnp.square(_sorted(rows) - quantiles))


def _sorted(rows: jax.Array) -> jax.Array:
    """Sorts each column. The derivative is a gather with the order as it is, and not a sort."""
    order = jnp.argsort(jax.lax.stop_gradient(rows), axis=0)
    return jnp.take_along_axis(rows, order, axis=0)


def _quantiles(values: jax.Array, number: int) -> jax.Array:
    """Interpolates sorted `(M, K)` at the quantiles `(i + 1/2) / number`."""
    if len(values) == number:
        return values
    # The j-th of M values is the quantile (j + 1/2) / M; beyond the outermost, they are repeated.
    place = (np.arange(number) + 0.5) / number * len(values) - 0.5
    place = np.clip(place, 0, len(values) - 1)
    below = np.minimum(place.astype(int), max(len(values) - 2, 0))
    above = np.minimum(below + 1, len(values) - 1)
    share = jnp.asarray(place - below, values.dtype)[:, None]
    return (1 - share) * values[below] + share * values[above]
