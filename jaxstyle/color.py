"""Colors: keep those of the content, or give them to the style.

Gatys, Bethge, Hertzmann & Shechtman, "Preserving Color in Neural Artistic Style Transfer", 2016.
Images are `(H, W, 3)` sRGB in [0, 1].
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.checks import as_array, as_factor, sum_dtype

# FCC NTSC: luma of sRGB values as they are (gamma-compressed), and two axes of chroma.
_RGB_TO_YIQ = np.array(
    [
        [0.299, 0.587, 0.114],
        [0.595716, -0.274453, -0.321263],
        [0.211456, -0.522591, 0.311135],
    ]
)
# Added to the diagonal of a covariance, so that it is not singular: half a step of 8 bits, squared.
_FLAT = (0.5 / 255) ** 2
_IMAGE = ("H", "W", 3)
_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def luminance_only(image: jax.Array, content: jax.Array) -> jax.Array:
    """Gives `image` the chroma of `content`, and keeps its luma (YIQ).

    Args:
        image: `(H, W, 3)` floating-point sRGB in [0, 1].
        content: `(H, W, 3)` floating-point sRGB in [0, 1].

    Returns:
        `(H, W, 3)`, of the dtype of `image`; not clipped.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    image, content = as_array(image, "image", _IMAGE), as_array(content, "content", _IMAGE)
    if image.shape != content.shape:
        raise ValueError(f"image of shape {image.shape}, but the content has {content.shape}")
    dtype = sum_dtype(image, content)
    wide = content.astype(dtype)
    # Adding gray changes the luma and keeps the chroma.
    luma = jnp.asarray(_RGB_TO_YIQ[0], dtype)
    change = _matmul(image.astype(dtype) - wide, luma)
    return (wide + change[..., None]).astype(image.dtype)


def match_color(
    style: jax.Array,
    content: jax.Array,
    *,
    method: Literal["pca", "cholesky"] = "pca",
    style_weight: jax.Array | None = None,
    content_weight: jax.Array | None = None,
) -> jax.Array:
    """Gives `style` the mean and covariance of the colors of `content`, by a linear map.

    Half a step of 8 bits, squared, is added to the diagonals of the covariances. So the map and
    its derivatives are finite for gray and flat pictures too.

    Args:
        style: `(h, w, 3)` floating-point sRGB in [0, 1].
        content: `(H, W, 3)` floating-point sRGB in [0, 1].
        method: `pca` uses the symmetric square roots of the covariances, `cholesky` their
            triangular ones. The former moves the colors less.
        style_weight: `(h, w)`, how much each pixel of the style counts, not negative; None for all
            alike.
        content_weight: `(H, W)`, likewise for the content.

    Returns:
        `(h, w, 3)`, of the dtype of `style`; not clipped, so that its mean and covariance are those
        of the content.

    Raises:
        ValueError: for an unknown method, or a wrong shape or dtype.
    """
    if method not in ("pca", "cholesky"):
        raise ValueError(f"method {method!r} is not one of pca, cholesky")
    style, content = as_array(style, "style", _IMAGE), as_array(content, "content", _IMAGE)
    dtype = sum_dtype(style, content)
    root = jnp.linalg.cholesky if method == "cholesky" else _symmetric_root

    def moments(
        image: jax.Array, weight: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        flat = image.astype(dtype).reshape(-1, 3)
        if weight is None:
            mean = flat.mean(0, keepdims=True)
            covariance = _matmul((flat - mean).T, flat - mean) / len(flat)
        else:
            own = as_factor(weight, "weight", image.shape[:2], dtype).reshape(-1, 1)
            factors = own / jnp.maximum(jnp.sum(own), 1e-6)
            mean = (factors * flat).sum(0, keepdims=True)
            covariance = _matmul((factors * (flat - mean)).T, flat - mean)
        return flat, mean, covariance + _FLAT * jnp.eye(3, dtype=dtype)

    # For the decompositions; `_matmul` sets its own precision.
    with jax.default_matmul_precision("highest"):
        flat, style_mean, style_covariance = moments(style, style_weight)
        _, mean, covariance = moments(content, content_weight)
        transform = _matmul(root(covariance), jnp.linalg.inv(root(style_covariance)))
        matched = _matmul(flat - style_mean, transform.T) + mean
    return matched.reshape(style.shape).astype(style.dtype)


@jax.custom_jvp
def _symmetric_root(matrix: jax.Array) -> jax.Array:
    """The symmetric square root of a positive definite `(3, 3)`."""
    values, vectors = jnp.linalg.eigh(matrix)
    return _matmul(vectors * jnp.sqrt(jnp.maximum(values, 0))[None], vectors.T)


@_symmetric_root.defjvp
def _symmetric_root_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Solves `R dR + dR R = dA`.

    The derivative of `eigh` is infinite where eigenvalues are equal: for gray or flat pictures,
    and where channels are independent.
    """
    root = _symmetric_root(*primals)
    identity = jnp.eye(3, dtype=root.dtype)
    system = jnp.kron(root, identity) + jnp.kron(identity, root)
    tangent = jnp.linalg.solve(system, tangents[0].reshape(9))
    return root, tangent.reshape(3, 3)
