"""Gram matrices of features, and their squared error: a style by its second moments."""

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_array, sum_dtype
from jaxstyle.losses.arguments import MAPS, MATRIX, as_matrix, difference_of, matmul, weighted
from jaxstyle.sharding import split_axis_first


def gram_matrix(features: jax.Array) -> jax.Array:
    """Returns the Gram matrix divided by the number of positions.

    Gatys et al. (eq. 3) do not divide it. Divided by M, images of different sizes can be compared.

    Args:
        features: `(h, w, c)`.

    Returns:
        `(c, c)`, `F^T F / M`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    height, width, _ = as_array(features, "features", MAPS).shape
    return gram_sum(features) / (height * width)


def gram_sum(features: jax.Array, *, weight: jax.Array | None = None) -> jax.Array:
    """Returns the weighted sum over positions of `f f^T` (eq. 3).

    Args:
        features: `(h, w, c)`.
        weight: `(h, w)`; by default all ones.

    Returns:
        `(c, c)`, symmetric.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    features = as_array(features, "features", MAPS)
    if weight is None:
        return self_product(_flatten(features))
    features = features.astype(sum_dtype(features))
    return _product(_flatten(weighted(features, weight)), _flatten(features))


def _flatten(maps: jax.Array) -> jax.Array:
    return split_axis_first(maps).reshape(-1, maps.shape[-1])


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return matmul(left.T, right, preferred_element_type=sum_dtype(right))


@jax.custom_jvp
def self_product(flat: jax.Array) -> jax.Array:
    """`F^T F`. Its tangent is `T + T^T` with `T = F^T dF`: one product, also in reverse mode."""
    return _product(flat, flat)


@self_product.defjvp
def _self_product_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (flat,), (flat_dot,) = primals, tangents
    half = _product(flat, flat_dot)
    return self_product(flat), half + half.T


def style_loss(gram: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error of the Gram matrices of one layer (E_l of eq. 4).

    Args:
        gram: `(c, c)`, the image's `gram_matrix`.
        target: `(c, c)`, the style's.

    Returns:
        `()`, `sum (G - A)^2 / (4 N^2)`. The paper's `1 / M^2` is in `gram_matrix`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    for matrix, what in ((gram, "the Gram matrix"), (target, "the target")):
        if jnp.ndim(matrix) == 3:
            raise ValueError(
                f"{what} has the shape of features, {jnp.shape(matrix)}, not (c, c): call "
                "gram_matrix on the features first"
            )
        as_matrix(matrix, what)
    difference = difference_of(gram, target, "the Gram matrix", MATRIX)
    return jnp.sum(jnp.square(difference)) / (4 * len(difference) ** 2)
