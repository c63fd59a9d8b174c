"""Distance from local affine functions of another picture: the matting Laplacian."""

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_array, as_factor, as_number, sum_dtype
from jaxstyle.losses.arguments import IMAGE, matmul
from jaxstyle.losses.patch_search import patches

_SIDE = 3  # of a window, in pixels


def local_affine_sum(
    image: jax.Array,
    content: jax.Array,
    *,
    weight: jax.Array | None = None,
    epsilon: float = 1e-7,
) -> jax.Array:
    """Squared distance, in each 3x3 window, from an affine function of the content's colors.

    `sum_w sum_c min_{a, b} sum_{i in w} (V_ic - a . I_i - b)^2 + epsilon |a|^2`, over the windows
    inside the picture and the channels of the image V. It is `sum_c V_c^T M V_c`, with the matting
    Laplacian M of the content I: Levin, Lischinski & Weiss, "A Closed-Form Solution to Natural
    Image Matting", PAMI 2008, eq. 10 and 12; Luan et al., "Deep Photo Style Transfer", CVPR 2017,
    eq. 2.

    Args:
        image: `(H, W, c)` of any scale.
        content: `(H, W, k)`, in [0, 1].
        weight: `(H, W)`, of each window at its center; by default all ones.
        epsilon: positive. It keeps `a` small where the content is flat.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype, pictures below 3x3 pixels, or an epsilon that is
            not positive.
    """
    image, content = as_array(image, "image", IMAGE), as_array(content, "content", IMAGE)
    if image.shape[:2] != content.shape[:2]:
        raise ValueError(f"image of shape {image.shape}, but the content has {content.shape}")
    epsilon = as_number(epsilon, "epsilon")
    if epsilon <= 0:
        raise ValueError(f"epsilon must be positive, not {epsilon}")
    dtype = sum_dtype(image, content)
    values, colors = _centered(image.astype(dtype)), _centered(content.astype(dtype))
    # The distance of the solution `a` itself. The usual `var V - k^T A k` is a difference of
    # numbers that are a thousand times as large, and an error in `a` counts only squared here.
    root = _inverse_root(colors, epsilon)
    a = matmul(root, matmul(root.mT, matmul(colors.mT, values)))
    rest = values - matmul(colors, a)
    windows = jnp.sum(jnp.square(rest), (2, 3)) + epsilon * jnp.sum(jnp.square(a), (2, 3))
    if weight is not None:
        windows *= as_factor(weight, "weight", image.shape[:2], dtype)[1:-1, 1:-1]
    return jnp.sum(windows)


def _centered(image: jax.Array) -> jax.Array:
    """The pixels of each window minus their mean: `(H, W, c)` -> `(H - 2, W - 2, 9, c)`."""
    pixels = patches(image, size=_SIDE)
    pixels = pixels.reshape(*pixels.shape[:2], _SIDE**2, image.shape[2])
    return pixels - jnp.mean(pixels, 2, keepdims=True)


def _inverse_root(colors: jax.Array, epsilon: float) -> jax.Array:
    """Returns `R`, `(.., k, k)`, with `R R^T = (X^T X + epsilon)^-1` of `colors` X, `(.., 9, k)`.

    By Gram and Schmidt on the rows of X and of `sqrt(epsilon)` times the identity. The product
    `X^T X` has the square of X's condition, which float32 cannot hold where a window is gray.
    """
    *batch, _, number = colors.shape
    identity = jnp.broadcast_to(jnp.eye(number, dtype=colors.dtype), (*batch, number, number))
    rows = jnp.concatenate([colors, epsilon**0.5 * identity], -2)
    found: list[tuple[jax.Array, jax.Array]] = []
    for channel in range(number):
        column, combination = rows[..., channel], identity[..., channel]
        for other, its in found:
            share = jnp.sum(other * column, -1, keepdims=True)
            column, combination = column - share * other, combination - share * its
        scale = jax.lax.rsqrt(jnp.sum(jnp.square(column), -1, keepdims=True))
        found.append((scale * column, scale * combination))
    return jnp.stack([combination for _, combination in found], -1)
