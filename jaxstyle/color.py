"""Colours: keeping the content's, or giving the style the content's.

Gatys, Bethge, Hertzmann & Shechtman, "Preserving Color in Neural Artistic Style Transfer", 2016.
Images are `(H, W, 3)` sRGB in [0, 1].
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

# FCC NTSC: luma of sRGB values as they are (gamma-compressed), and two axes of chroma.
_RGB_TO_YIQ = np.array(
    [
        [0.299, 0.587, 0.114],
        [0.595716, -0.274453, -0.321263],
        [0.211456, -0.522591, 0.311135],
    ]
)
# How far the diagonal of a covariance is from singular, in units of squared pixel values: half
# a step of 8 bits.
_FLAT = (0.5 / 255) ** 2


def luminance_only(image: jax.Array, content: jax.Array) -> jax.Array:
    """Gives `image` the chroma of `content`, and keeps its luma (YIQ).

    Args:
        image: `(H, W, 3)` sRGB in [0, 1].
        content: `(H, W, 3)` sRGB in [0, 1].

    Returns:
        `(H, W, 3)`; not clipped.

    Raises:
        ValueError: if the shapes differ.
    """
    if image.shape != content.shape:
        raise ValueError(f"image of shape {image.shape}, but the content has {content.shape}")
    # Of all colours with that chroma the one with the luma of the image: grey is added.
    luma = jnp.asarray(_RGB_TO_YIQ[0], image.dtype)
    change = (image - content) @ luma
    return content + change[..., None]


def match_color(
    style: jax.Array, content: jax.Array, *, method: Literal["pca", "cholesky"] = "pca"
) -> jax.Array:
    """Gives `style` the mean and covariance of the colours of `content`, by a linear map.

    Args:
        style: `(h, w, 3)` sRGB in [0, 1].
        content: `(H, W, 3)` sRGB in [0, 1].
        method: `pca` takes the symmetric square roots of the covariances, `cholesky` their
            triangular ones. The former moves the colours less.

    Returns:
        `(h, w, 3)`; not clipped, so that mean and covariance are those of the content.

    Raises:
        ValueError: for an unknown method.
    """
    if method not in ("pca", "cholesky"):
        raise ValueError(f"method {method!r} is not one of pca, cholesky")

    def moments(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        flat = image.reshape(-1, 3)
        mean = flat.mean(0)
        return mean, (flat - mean).T @ (flat - mean) / len(flat)

    def root(covariance: jax.Array) -> jax.Array:
        if method == "cholesky":
            return jnp.linalg.cholesky(covariance)
        values, vectors = jnp.linalg.eigh(covariance)
        return (vectors * jnp.sqrt(jnp.maximum(values, 0))) @ vectors.T

    # Against the singular covariance of a grey or flat style, which has nothing to be stretched.
    ridge = _FLAT * jnp.eye(3, dtype=style.dtype)
    with jax.default_matmul_precision("highest"):
        (style_mean, style_covariance), (mean, covariance) = moments(style), moments(content)
        transform = root(covariance + ridge) @ jnp.linalg.inv(root(style_covariance + ridge))
        return (style - style_mean) @ transform.T + mean
