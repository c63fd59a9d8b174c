"""Distances between pictures: of colors, patches, features and contours, in NumPy and SciPy."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

Array = NDArray[np.floating]

_PATCHES, _PATCH, _DIRECTIONS = 16384, 7, 512
_COARSEST = 16  # pixels: the least short edge of the smallest level
_COLOR_DIRECTIONS = 64
# IEC 61966-2-1: linear sRGB to XYZ under D65, each row over its sum, the white.
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def sliced_distance(a: Array, b: Array, directions: Array) -> float:
    """Returns the sliced Wasserstein-1 distance of two sets of points.

    Args:
        a: `(N, c)`.
        b: `(M, c)`.
        directions: `(c, d)`, of length 1.
    """
    number = min(len(a), len(b))
    levels = (np.arange(number) + 0.5) / number
    quantiles = [_quantiles(np.sort(points @ directions, axis=0), levels) for points in (a, b)]
    return float(np.abs(quantiles[0] - quantiles[1]).mean())


def _quantiles(ordered: Array, levels: Array) -> Array:
    """`(N, d)`, sorted -> `(n, d)`, linear between the midpoints of the steps."""
    if len(ordered) == len(levels):
        return ordered
    at = np.clip(levels * len(ordered) - 0.5, 0, len(ordered) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(ordered) - 1)
    part = (at - low)[:, None]
    return (1 - part) * ordered[low] + part * ordered[high]


def _random_directions(rng: np.random.Generator, channels: int, number: int) -> Array:
    directions = rng.standard_normal((channels, number))
    return directions / np.linalg.norm(directions, axis=0)


def to_lab(image: Array) -> Array:
    """Returns sRGB in [0, 1], `(..., 3)`, in CIELAB: L from 0 to 100."""
    image = np.clip(np.asarray(image, np.float64), 0, 1)
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (_RGB_TO_XYZ / _RGB_TO_XYZ.sum(1, keepdims=True)).T
    low = (6 / 29) ** 3
    f = np.where(xyz > low, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [
            116 * f[..., 1] - 16,
            500 * (f[..., 0] - f[..., 1]),
            200 * (f[..., 1] - f[..., 2]),
        ],
        -1,
    )


def color_distance(picture: Array, painting: Array) -> float:
    """Returns the sliced Wasserstein-1 distance of the colors in CIELAB.

    Args:
        picture: `(H, W, 3)` sRGB in [0, 1].
        painting: `(h, w, 3)` likewise.
    """
    directions = _random_directions(np.random.default_rng(0), 3, _COLOR_DIRECTIONS)
    points = [to_lab(image).reshape(-1, 3) for image in (picture, painting)]
    return sliced_distance(points[0], points[1], directions)


def laplacian_pyramid(image: Array, depth: int) -> list[Array]:
    """Returns the levels of a picture, the finest first, the last one a small picture.

    Burt & Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983.

    Args:
        image: `(H, W, c)`.
        depth: how often its size is halved.
    """
    levels: list[Array] = []
    rest: Array = np.asarray(image, np.float64)
    for _ in range(depth):
        smaller = _blur(rest)[::2, ::2]
        spread = np.zeros_like(rest)
        spread[::2, ::2] = 4 * smaller
        # At borders, where a picture has an odd edge or ends, the weights are not 1 in sum.
        ones = np.zeros((*rest.shape[:2], 1))
        ones[::2, ::2] = 4
        levels.append(rest - _blur(spread) / _blur(ones))
        rest = smaller
    return [*levels, rest]


def _blur(image: Array) -> Array:
    taps = np.array([1, 4, 6, 4, 1]) / 16
    for axis in (0, 1):
        image = ndimage.correlate1d(image, taps, axis=axis, mode="mirror")
    return image


def patch_distance(picture: Array, painting: Array) -> float:
    """Returns the sliced Wasserstein distance of 7x7 patches, the mean over a Laplacian pyramid.

    Karras et al., "Progressive Growing of GANs", ICLR 2018. Each channel of a level is normalized
    by the painting's mean and standard deviation there. Pictures of one size are read at the same
    places, so a picture is at distance 0 from itself.

    Args:
        picture: `(H, W, 3)`.
        painting: `(h, w, 3)`.
    """
    found = []
    short = min(*picture.shape[:2], *painting.shape[:2])
    depth = max(int(np.log2(short / _COARSEST)), 0)
    pyramids = [laplacian_pyramid(image, depth) for image in (picture, painting)]
    for level, pair in enumerate(zip(*pyramids, strict=True)):
        mean, deviation = pair[1].mean((0, 1)), pair[1].std((0, 1)) + 1e-8
        number = min(_PATCHES, *((y.shape[0] - 6) * (y.shape[1] - 6) for y in pair))
        a, b = (_patches((each - mean) / deviation, number) for each in pair)
        directions = _random_directions(np.random.default_rng(level), _PATCH**2 * 3, _DIRECTIONS)
        found.append(sliced_distance(a, b, directions))
    return float(np.mean(found))


def _patches(image: Array, number: int) -> Array:
    """Returns `number` different patches, `(number, 7 * 7 * 3)`, the same for each picture."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (_PATCH, _PATCH), (0, 1))
    rows, columns = windows.shape[:2]
    chosen = np.random.default_rng(0).choice(rows * columns, number, replace=False)
    return windows[chosen // columns, chosen % columns].reshape(number, -1).astype(np.float32)


def frechet_distance(a: Array, b: Array) -> float:
    """Returns the squared Frechet distance of two Gaussians, over the variance of the second.

    `(|m1 - m2|^2 + tr(K1 + K2 - 2 (K1 K2)^1/2)) / tr K2`, with the means and covariances of the
    rows. Dowson & Landau 1982; of the features of two pictures: Shaham et al., "SinGAN", ICCV 2019.

    Args:
        a: `(N, c)`.
        b: `(M, c)`.
    """
    a, b = (np.asarray(points, np.float64) for points in (a, b))
    covariances = [np.cov(points, rowvar=False, bias=True) for points in (a, b)]
    # With K = R R^T, tr (K1 K2)^1/2 is the sum of the singular values of R1^T R2.
    roots = []
    for covariance in covariances:
        values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
        roots.append(vectors * np.sqrt(np.maximum(values, 0)))
    cross = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    variances = [np.trace(np.atleast_2d(covariance)) for covariance in covariances]
    squared = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(variances) - 2 * cross
    return float(max(squared, 0) / variances[1])


def contour_distance(result: Array, content: Array) -> float:
    """Returns the probability that a place without a contour scores above one with a contour.

    It is 1 minus the area under the curve of hits over false alarms: 0 if the contours are kept,
    0.5 if nothing is left of them.

    Args:
        result: `(H, W)`, how much of a contour each place of the result is.
        content: `(H, W)`, the same of the photo; its strongest tenth are the contours.
    """
    contours = (content >= np.quantile(content, 0.9)).ravel()
    ranks = stats.rankdata(result.ravel())
    hits, others = int(contours.sum()), int((~contours).sum())
    below = ranks[contours].sum() - hits * (hits + 1) / 2
    return float(1 - below / (hits * others))
