"""The size in pixels that a job asks for, and the sizes that a batch paints its pictures at.

Those are multiples of 32 px, so that many pictures share a compiled program.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxstyle.io import InputError, read_shape
from jaxstyle.io.locations import Location

MULTIPLE = 32
"""Working sizes in a batch are multiples of so many pixels."""


def size_in_pixels(size: Any, pictures: Sequence[str | Location]) -> int:
    """Returns the long edge in pixels: `size`, or that of the first picture for `original`.

    Raises:
        InputError: if there is no picture, or it cannot be read.
    """
    if size != "original":
        return int(size)
    if not pictures:
        raise InputError("--size original: give a picture, whose size is meant")
    return max(read_shape(pictures[0]))


def padded_shape(shape: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """The working size of a photo: the long edge unchanged, the other rounded up to a multiple."""
    longer = max(shape[:2])
    height, width = (n if n == longer else -(-n // multiple) * multiple for n in shape[:2])
    return height, width


def cropped_shape(shape: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """The working size of a painting: both edges rounded down to multiples, but never to 0."""
    height, width = (max(n // multiple * multiple, min(n, multiple)) for n in shape[:2])
    return height, width


def pad(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pads an image by reflection, on the right and at the bottom."""
    border = [(0, to - n) for n, to in zip(image.shape, shape, strict=False)]
    border += [(0, 0)] * (image.ndim - 2)
    return np.pad(image, border, "symmetric")


def crop(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns the center of an image."""
    top, left = ((n - to) // 2 for n, to in zip(image.shape, shape, strict=False))
    return image[top : top + shape[0], left : left + shape[1]]
