"""Distances between pictures that need no network: of their colors, and of their patches."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.floating]

_PATCHES, _PATCH, _DIRECTIONS = 16384, 7, 512
_COARSEST = 16  # pixels, the short edge of the smallest level
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


def laplacian_pyramid(image: Array) -> list[Array]:
    """Returns the levels of a picture, the finest first, the last one a small picture.

    The short edge of the smallest level is at least 16 pixels. Burt & Adelson, "The Laplacian
    Pyramid as a Compact Image Code", 1983.

    Args:
        image: `(H, W, c)`.
    """
    levels: list[Array] = []
    rest: Array = np.asarray(image, np.float64)
    while min(rest.shape[:2]) >= 2 * _COARSEST:
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
    pyramids = laplacian_pyramid(picture), laplacian_pyramid(painting)
    for level, pair in enumerate(zip(*pyramids, strict=False)):
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
