"""Total variation: differences of neighboring pixels."""

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_array, as_factor, as_number, sum_dtype
from jaxstyle.losses.arguments import IMAGE, weighted


def total_variation(image: jax.Array, *, power: float = 1.0) -> jax.Array:
    """Total variation: `sum (dx^2 + dy^2)^power` over the (H-1) x (W-1) upper left pixels.

    Mahendran & Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015,
    section 2.2, with beta = 2 * power; the Keras example has power 1.25 on pixels in 0-255.

    Args:
        image: `(H, W, c)` of any scale.
        power: positive; 0.5 is the isotropic total variation.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype, or a power that is not positive.
    """
    return total_variation_sum(image, power=power)


def total_variation_sum(
    image: jax.Array, *, weight: jax.Array | None = None, power: float = 1.0
) -> jax.Array:
    """Like `total_variation`, each position `(i, j)` weighted by `weight[i, j]`.

    Args:
        image: `(H, W, c)` of any scale.
        weight: `(H, W)`; by default all ones.
        power: see `total_variation`.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype, or a power that is not positive.
    """
    image = as_array(image, "image", IMAGE)
    image = image.astype(sum_dtype(image))
    power = as_number(power, "power")
    if power <= 0:
        raise ValueError(f"power must be positive, not {power}")
    if weight is not None:
        weight = as_factor(weight, "weight", image.shape[:2], image.dtype)[:-1, :-1]
    corner = image[:-1, :-1]
    square = jnp.square(image[1:, :-1] - corner) + jnp.square(image[:-1, 1:] - corner)
    if power != 1:
        # The derivative of u^power is infinite at 0 for power < 1. Flat pixels get a zero one.
        positive = square > 0
        square = jnp.where(positive, jnp.where(positive, square, 1) ** power, 0)
    return jnp.sum(weighted(square, weight))


def nine_point_variation_sums(
    image: jax.Array, *, weight: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums of squared differences along the axes and along the diagonals.

    Args:
        image: `(H, W, c)` of any scale; padded with its outermost pixels.
        weight: `(H, W)`; by default all ones.

    Returns:
        `()` the sum along both axes, over all pixels; `()` that along both diagonals, over the
        `(H+1) x (W+1)` squares of 2x2 pixels; and `()` the number of those squares.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    image = as_array(image, "image", IMAGE)
    image = image.astype(sum_dtype(image))
    weight = jnp.ones(image.shape[:2], image.dtype) if weight is None else weight
    weight = as_factor(weight, "weight", image.shape[:2], image.dtype)
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    center = padded[1:-1, 1:-1]
    axes = jnp.square(padded[1:-1, 2:] - center) + jnp.square(padded[2:, 1:-1] - center)
    diagonals = jnp.square(padded[1:, 1:] - padded[:-1, :-1])
    diagonals += jnp.square(padded[1:, :-1] - padded[:-1, 1:])
    # Each square belongs to its lower right pixel, or to the last pixel if that is outside.
    owner = jnp.pad(weight, ((0, 1), (0, 1)), mode="edge")
    return (
        jnp.sum(axes * weight[..., None]),
        jnp.sum(diagonals * owner[..., None]),
        jnp.sum(owner),
    )
