"""The sizes that pictures of a batch are painted at, so that many share a compiled program."""

import numpy as np

MULTIPLE = 32  # pixels that working sizes in a batch are multiples of


def extended(shape: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """The working size of a photo: its long edge as it is, the other one a multiple, rounded up."""
    longer = max(shape[:2])
    height, width = (n if n == longer else -(-n // multiple) * multiple for n in shape[:2])
    return height, width


def cropped(shape: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """The working size of a painting: both edges multiples, rounded down, but not to nothing."""
    height, width = (max(n // multiple * multiple, min(n, multiple)) for n in shape[:2])
    return height, width


def extend(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Continues an image by its reflection, to the right and below."""
    border = [(0, to - n) for n, to in zip(image.shape, shape, strict=False)]
    border += [(0, 0)] * (image.ndim - 2)
    return np.pad(image, border, "symmetric")


def crop(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Cuts out the middle of an image."""
    top, left = ((n - to) // 2 for n, to in zip(image.shape, shape, strict=False))
    return image[top : top + shape[0], left : left + shape[1]]
