"""Colors: keep those of the content, give them to the style, or give the style's to the content.

Gatys, Bethge, Hertzmann & Shechtman, "Preserving Color in Neural Artistic Style Transfer", 2016.
Images are `(H, W, 3)` sRGB in [0, 1].
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

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
# B. Ottosson, "A perceptual color space for image processing", 2020: OKLab.
_RGB_TO_LMS = np.array(
    [
        [0.4121656120, 0.5362752080, 0.0514575653],
        [0.2118591070, 0.6807189584, 0.1074065790],
        [0.0883097947, 0.2818474174, 0.6302613616],
    ]
)
_LMS_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_Moments = tuple[jax.Array, jax.Array]
"""Mean `(1, c)` and covariance `(c, c)`."""
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

    def moments(image: jax.Array, weight: jax.Array | None) -> _Moments:
        flat = image.astype(dtype).reshape(-1, 3)
        return _moments(flat, _FLAT, _flat_weight(weight, image, dtype))

    flat = style.astype(dtype).reshape(-1, 3)
    matched = _match(flat, moments(style, style_weight), moments(content, content_weight), root)
    return matched.reshape(style.shape).astype(style.dtype)


def recolor(
    image: jax.Array,
    content: jax.Array,
    style: jax.Array,
    *,
    style_weight: jax.Array | None = None,
    content_weight: jax.Array | None = None,
    wraps: bool = False,
) -> jax.Array:
    """Gives `image` the chroma of `content`, matched to that of `style`.

    The last step of Kolkin et al., "Neural Neighbor Style Transfer", 2022, as in the authors'
    program: in OKLab, of the pixels' values as they are (gamma-compressed), the image keeps its
    lightness. Its other two channels are those of the content with the mean and covariance of the
    style's, smoothed five times by a 3x3 bilateral filter that the lightness guides. For a style
    without color, they are the image's own, and all three channels get the style's mean and
    covariance. All channels are clipped to the range of the style's pixels of positive weight.

    Args:
        image: `(H, W, 3)` floating-point sRGB in [0, 1]; values outside are clipped.
        content: `(H, W, 3)` floating-point sRGB in [0, 1], likewise.
        style: `(h, w, 3)` floating-point sRGB in [0, 1], likewise.
        style_weight: `(h, w)`, how much each pixel of the style counts, not negative; None for all
            alike.
        content_weight: `(H, W)`, likewise for the image and the content. All pixels are recolored.
        wraps: whether the opposite edge is beyond an edge of the image.

    Returns:
        `(H, W, 3)` in [0, 1], of the dtype of `image`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    image, content = as_array(image, "image", _IMAGE), as_array(content, "content", _IMAGE)
    style = as_array(style, "style", _IMAGE)
    if image.shape != content.shape:
        raise ValueError(f"image of shape {image.shape}, but the content has {content.shape}")
    dtype = sum_dtype(image, content, style)
    own, photo, painting = (_to_oklab(each.astype(dtype)) for each in (image, content, style))
    painting = painting.reshape(-1, 3)
    here = _flat_weight(content_weight, content, dtype)
    there = _flat_weight(style_weight, style, dtype)
    low, high = (each[None, None] for each in _range(painting, there))
    lightness = jnp.clip(own[..., :1], low[..., :1], high[..., :1])
    chroma = _with_moments(photo[..., 1:], painting[:, 1:], here, there)
    chroma = _smooth(chroma, lightness, "wrap" if wraps else "edge")
    colored = jnp.concatenate([lightness, chroma], -1)
    gray = _with_moments(jnp.concatenate([lightness, own[..., 1:]], -1), painting, here, there)
    spread = _moments(painting[:, 1:], 0.0, there)[1]
    found = jnp.where(jnp.max(jnp.abs(spread)) < 6e-5, gray, colored)
    return _from_oklab(jnp.clip(found, low, high)).astype(image.dtype)


def _to_oklab(image: jax.Array) -> jax.Array:
    to_lms, to_lab = (jnp.asarray(each.T, image.dtype) for each in (_RGB_TO_LMS, _LMS_TO_OKLAB))
    return _matmul(jnp.cbrt(_matmul(jnp.clip(image, 0, 1), to_lms)), to_lab)


def _from_oklab(image: jax.Array) -> jax.Array:
    to_lms, to_rgb = (
        jnp.asarray(np.linalg.inv(each).T, image.dtype) for each in (_LMS_TO_OKLAB, _RGB_TO_LMS)
    )
    return jnp.clip(_matmul(_matmul(image, to_lms) ** 3, to_rgb), 0, 1)


def _smooth(plane: jax.Array, guide: jax.Array, padding: str) -> jax.Array:
    """Smooths `(H, W, c)` where `guide`, `(H, W, 1)`, hardly changes, five times."""
    height, width, _ = plane.shape

    def shifted(plane: jax.Array) -> list[jax.Array]:
        padded = jnp.pad(plane, ((1, 1), (1, 1), (0, 0)), mode=padding)
        return [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]

    weights = [jnp.exp(-10 * jnp.abs(guide - each)) for each in shifted(guide)]

    def smooth(_: Any, plane: jax.Array) -> jax.Array:
        parts = [weight * each for weight, each in zip(weights, shifted(plane), strict=True)]
        return functools.reduce(jnp.add, parts) / functools.reduce(jnp.add, weights)

    return jax.lax.fori_loop(0, 5, smooth, plane)


def _flat_weight(weight: jax.Array | None, image: jax.Array, dtype: Any) -> jax.Array | None:
    """Returns the weight `(N, 1)` of the pixels of an image; None for all alike."""
    if weight is None:
        return None
    return as_factor(weight, "weight", image.shape[:2], dtype).reshape(-1, 1)


def _range(flat: jax.Array, weight: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns the lowest and the highest `(c,)` of `(N, c)`; all count if none has a weight."""
    if weight is None:
        return jnp.min(flat, 0), jnp.max(flat, 0)
    counts = (weight > 0) | ~jnp.any(weight > 0)
    most = jnp.finfo(flat.dtype).max
    return jnp.min(jnp.where(counts, flat, most), 0), jnp.max(jnp.where(counts, flat, -most), 0)


def _moments(flat: jax.Array, ridge: float, weight: jax.Array | None = None) -> _Moments:
    """Returns the mean and covariance of `(N, c)`, with `ridge` added to its diagonal.

    `weight` is `(N, 1)`, or None for all alike.
    """
    eye = jnp.eye(flat.shape[1], dtype=flat.dtype)
    if weight is None:
        mean = flat.mean(0, keepdims=True)
        return mean, _matmul((flat - mean).T, flat - mean) / len(flat) + ridge * eye
    factors = weight / jnp.maximum(jnp.sum(weight), 1e-6)
    mean = (factors * flat).sum(0, keepdims=True)
    return mean, _matmul((factors * (flat - mean)).T, flat - mean) + ridge * eye


def _match(
    flat: jax.Array, own: _Moments, other: _Moments, root: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Moves `(N, c)` from its own mean and covariance to those of another."""
    # For the decompositions; `_matmul` sets its own precision.
    with jax.default_matmul_precision("highest"):
        transform = _matmul(root(other[1]), jnp.linalg.inv(root(own[1])))
    return _matmul(flat - own[0], transform.T) + other[0]


def _with_moments(
    image: jax.Array, flat: jax.Array, own_weight: jax.Array | None, weight: jax.Array | None
) -> jax.Array:
    """Gives `(H, W, c)` the mean and covariance of `(N, c)`, as NNST's program does.

    The weights are `(H W, 1)` and `(N, 1)`, or None.
    """
    own = image.reshape(-1, image.shape[-1])
    moments = _moments(own, 1e-4, own_weight), _moments(flat, 1e-4, weight)
    return _match(own, *moments, _symmetric_root).reshape(image.shape)


@jax.custom_jvp
def _symmetric_root(matrix: jax.Array) -> jax.Array:
    """The symmetric square root of a positive definite `(c, c)`."""
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
    identity = jnp.eye(len(root), dtype=root.dtype)
    system = jnp.kron(root, identity) + jnp.kron(identity, root)
    tangent = jnp.linalg.solve(system, tangents[0].reshape(-1))
    return root, tangent.reshape(root.shape)
