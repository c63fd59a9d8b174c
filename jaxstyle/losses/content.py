"""Squared and absolute differences of features: what keeps the content."""

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_array, sum_dtype
from jaxstyle.losses.arguments import MAPS, difference_of, weighted


def content_loss(features: jax.Array, target: jax.Array) -> jax.Array:
    """Half the squared error of the features (eq. 1).

    Args:
        features: `(h, w, c)` of the image.
        target: `(h, w, c)` of the content.

    Returns:
        `()`, `1/2 sum (F - P)^2`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    return 0.5 * squared_error_sum(features, target)


def squared_error_sum(
    features: jax.Array, target: jax.Array, *, weight: jax.Array | None = None
) -> jax.Array:
    """Returns the weighted sum over positions of `|f - p|^2`.

    Args:
        features: `(h, w, c)`.
        target: `(h, w, c)`.
        weight: `(h, w)`; by default all ones.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    square = jnp.square(difference_of(features, target, "features", MAPS))
    return jnp.sum(weighted(square, weight))


def absolute_error_sum(
    features: jax.Array, target: jax.Array, *, weight: jax.Array | None = None
) -> jax.Array:
    """Returns the weighted sum over positions of `|f - p|`, L1.

    Args:
        features: `(h, w, c)`.
        target: `(h, w, c)`.
        weight: `(h, w)`; by default all ones.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    absolute = jnp.abs(difference_of(features, target, "features", MAPS))
    return jnp.sum(weighted(absolute, weight))


def scaled_squared_error(x: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error over absolute error, whose gradient has an L1 norm of about 1.

    Crowson, style-transfer-pytorch.

    Args:
        x: any shape.
        target: any shape, the same as `x`.

    Returns:
        `()`, `sum (x - t)^2 / (sum |x - t| + 1e-8)`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    difference = difference_of(x, target, "x", None)
    return scaled_ratio(jnp.sum(jnp.square(difference)), jnp.sum(jnp.abs(difference)))


def scaled_ratio(square: jax.Array, absolute: jax.Array) -> jax.Array:
    """`scaled_squared_error` of sums.

    Args:
        square: `()`, the sum of squares.
        absolute: `()`, the sum of absolute values.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    square, absolute = as_array(square, "square", ()), as_array(absolute, "absolute", ())
    dtype = sum_dtype(square, absolute)
    return square.astype(dtype) / (absolute.astype(dtype) + 1e-8)
