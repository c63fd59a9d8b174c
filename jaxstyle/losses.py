"""Losses of style transfer: pure functions from arrays to a scalar, and the sums behind them.

Features are `(h, w, c)` of any scale, one image at a time; images are sRGB in [0, 1]. Sums are
taken in float32 or better, whatever the dtype of the features. `weight`, where a function takes
one, is a non-negative weight per position, `(h, w)`; the functions that take one are *sums* over
positions, so that sums over parts of an image add up to the sum over the whole.

With F the `(h * w, c)` features of the image, P of the content, N = c and M = h * w, equation
numbers are those of Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural
Networks", CVPR 2016.
"""

import jax
import jax.numpy as jnp


def _accumulator(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _check_same_shape(x: jax.Array, target: jax.Array, what: str) -> None:
    if x.shape != target.shape:
        raise ValueError(f"{what} of shape {x.shape}, but the target has shape {target.shape}")


def gram_sum(features: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Returns the weighted sum over positions of `f f^T`: `(h, w, c)` -> `(c, c)` (eq. 3)."""
    if features.ndim != 3:
        raise ValueError(f"features must be (h, w, c), not {features.shape}; batch with jax.vmap")
    flat = features.reshape(-1, features.shape[-1])
    if weight is None:
        return _self_product(flat)
    return _product(flat * weight.reshape(-1, 1).astype(flat.dtype), flat)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left.T, right, preferred_element_type=_accumulator(right))


@jax.custom_jvp
def _self_product(flat: jax.Array) -> jax.Array:
    """`F^T F`. Its tangent is `T + T^T` with `T = F^T dF`: one product, and so one backwards."""
    return _product(flat, flat)


@_self_product.defjvp
def _self_product_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (flat,), (flat_dot,) = primals, tangents
    half = _product(flat, flat_dot)
    return _self_product(flat), half + half.T


def gram_matrix(features: jax.Array) -> jax.Array:
    """Returns the Gram matrix divided by the number of positions.

    Gatys et al. (eq. 3) leave it undivided; divided by M, images of unequal sizes compare.

    Args:
        features: `(h, w, c)`.

    Returns:
        `(c, c)`, `F^T F / M`.
    """
    return gram_sum(features) / (features.shape[0] * features.shape[1])


def squared_error_sum(
    features: jax.Array, target: jax.Array, weight: jax.Array | None = None
) -> jax.Array:
    """Returns the weighted sum over positions of `|f - p|^2`; `(h, w, c)` twice -> `()`."""
    _check_same_shape(features, target, "features")
    square = jnp.square((features - target).astype(_accumulator(features)))
    return jnp.sum(square if weight is None else square * weight[..., None])


def content_loss(features: jax.Array, target: jax.Array) -> jax.Array:
    """Half the squared error of the features (eq. 1).

    Args:
        features: `(h, w, c)` of the image.
        target: `(h, w, c)` of the content.

    Returns:
        `()`, `1/2 sum (F - P)^2`.

    Raises:
        ValueError: if the shapes differ.
    """
    return 0.5 * squared_error_sum(features, target)


def style_loss(gram: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error of the Gram matrices of one layer (E_l of eq. 4).

    Args:
        gram: `(c, c)`, the image's `gram_matrix`.
        target: `(c, c)`, the style's.

    Returns:
        `()`, `sum (G - A)^2 / (4 N^2)`. The paper's `1 / M^2` is in `gram_matrix`.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_same_shape(gram, target, "Gram matrix")
    return jnp.sum(jnp.square(gram - target)) / (4 * gram.shape[-1] ** 2)


def total_variation_sum(
    image: jax.Array, weight: jax.Array | None = None, *, power: float = 1.0
) -> jax.Array:
    """Like `total_variation`, each position `(i, j)` weighted by `weight[i, j]`."""
    if image.ndim != 3:
        raise ValueError(f"image must be (H, W, c), not {image.shape}; batch with jax.vmap")
    image = image.astype(_accumulator(image))
    corner = image[:-1, :-1]
    square = jnp.square(image[1:, :-1] - corner) + jnp.square(image[:-1, 1:] - corner)
    if power != 1:
        # u^power has an infinite derivative at 0 for power < 1: flat pixels get none.
        positive = square > 0
        square = jnp.where(positive, jnp.where(positive, square, 1) ** power, 0)
    return jnp.sum(square if weight is None else square * weight[:-1, :-1, None])


def total_variation(image: jax.Array, *, power: float = 1.0) -> jax.Array:
    """Total variation: `sum (dx^2 + dy^2)^power` over the (H-1) x (W-1) upper left pixels.

    Mahendran & Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015,
    section 2.2, with beta = 2 * power; the Keras example has power 1.25 on pixels in 0-255.

    Args:
        image: `(H, W, c)`.
        power: positive; 0.5 is the isotropic total variation.

    Returns:
        `()`.
    """
    return total_variation_sum(image, power=power)
