"""Whether the columns rank what is known: a column that does not says nothing about the rest."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.floating]
Figures = Mapping[str, Mapping[str, float]]

_BLUR, _NOISE = 2.0, 0.1  # pixels; of the range of a color

_CONTENT = (("photo", "result"), ("result", "painting"))
_STYLE = (
    *(("painting", "result"), ("result", "photo")),
    *(("result", "max pooling"), ("result", "blurred")),
)
_NOISE_RULE = (("result", "noised"),)
RANKS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "st-lpips": (*_CONTENT, *_NOISE_RULE),
    "contours": (*_CONTENT, ("result", "blurred")),
    "frechet": (*_STYLE, *_NOISE_RULE),
    "magenta": _STYLE,
    "patches": (*_STYLE, *_NOISE_RULE),
    "colors": (*_STYLE, *_NOISE_RULE),
    "detail": (("blurred", "result"), *_NOISE_RULE),
    "hatching": (("result", "hatched"),),
    "peaks": (("result", "on a grid"),),
    "clipped": _NOISE_RULE,
}
"""Column -> pairs of pictures of which the first must have the lower figure."""


def known_pictures(
    photo: Array, painting: Array, result: Array, maximum: Array
) -> dict[str, Array]:
    """Returns pictures whose order is known.

    Args:
        photo: `(H, W, 3)` in [0, 1].
        painting: likewise, of the photo's size.
        result: a recipe's picture of the two.
        maximum: the same with max pooling in place of average pooling.
    """
    noise = np.random.default_rng(0).normal(0, _NOISE, result.shape)
    y, x = np.indices(result.shape[:2])[..., None]
    stripes = 0.02 * (np.cos(0.84 * np.pi * y) + np.cos(0.84 * np.pi * x))  # 0.42 cycles a pixel
    grid = 0.1 * ((y % 4 == 0) & (x % 4 == 0))
    return {
        "photo": photo,
        "painting": painting,
        "result": result,
        "max pooling": maximum,
        "blurred": ndimage.gaussian_filter(result, (_BLUR, _BLUR, 0)),
        "noised": np.clip(result + noise, 0, 1),
        "hatched": np.clip(result + stripes, 0, 1),
        "on a grid": np.clip(result + grid, 0, 1),
    }


def check_ranks(found: Figures) -> list[dict[str, Any]]:
    """Returns a row for each rule: column, the two pictures and their figures, and the verdict.

    Args:
        found: picture -> column -> figure.
    """
    return [
        {
            "column": column,
            "rule": f"{low} < {high}",
            "low": found[low][column],
            "high": found[high][column],
            "holds": found[low][column] < found[high][column],
        }
        for column, rules in RANKS.items()
        if column in found["result"]
        for low, high in rules
    ]
