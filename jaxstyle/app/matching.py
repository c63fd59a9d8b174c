"""Pictures that belong to another one and have its shape: masks, and the picture to start from."""

from collections.abc import Sequence

import numpy as np

from jaxstyle.app.console import print_message
from jaxstyle.io import InputError, read_shape
from jaxstyle.io.files import describe_path
from jaxstyle.io.images import Picture, read_picture
from jaxstyle.io.locations import Location

_FLAT = 0.02  # what JPEG makes of a flat mask differs by less


def load_mask(option: str, path: Location, image: np.ndarray) -> np.ndarray:
    """Reads a mask, `(H, W)` in [0, 1], for an image `(H, W, 3)`; transparency counts as black.

    Raises:
        InputError: if it cannot be read, has another aspect ratio, or is all black.
    """
    check_fits(option, path, image.shape)
    shape = (image.shape[0], image.shape[1])
    mask: np.ndarray = read_picture(path, shape=shape, background=0.0).image.mean(-1)
    low, high = float(mask.min()), float(mask.max())
    name = f"{option} {describe_path(path)}"
    if high < _FLAT:
        raise InputError(
            f"{name} is all black, and transparent parts count as black: paint its region white"
        )
    if low > 1 - _FLAT:
        print_message(f"{name} is all white: it selects the whole picture")
    elif high - low < _FLAT:
        print_message(
            f"{name} is gray of {high:.0%} everywhere: it selects the whole picture; paint a "
            "region white and the rest black"
        )
    return mask


def load_start(path: Location, content: Picture) -> np.ndarray:
    """Reads the picture to start from, `(H, W, 3)`; where it is transparent, it is the content.

    Raises:
        InputError: if it cannot be read, or has another aspect ratio than the content.
    """
    check_fits("--init", path, content.image.shape)
    shape = (content.image.shape[0], content.image.shape[1])
    image, alpha, _ = read_picture(path, shape=shape)
    if alpha is None:
        return image
    return content.image + alpha[..., None] * (image - content.image)


def check_fits(option: str, path: Location, shape: Sequence[int]) -> None:
    """Checks that a picture has the aspect ratio of another one, of a `shape` `(H, W, ...)`.

    Raises:
        InputError: if it has not, with the shape that it should have.
    """
    height, width = read_shape(path)
    if is_same_ratio((height, width), shape):
        return
    found = f"{option} {describe_path(path)} has another aspect ratio than its picture: "
    if is_same_ratio((width, height), shape):
        raise InputError(f"{found}it is turned by 90 degrees; turn it back")
    wanted_width = min(width, max(round(height * shape[1] / shape[0]), 1))
    wanted_height = min(height, max(round(width * shape[0] / shape[1]), 1))
    raise InputError(
        f"{found}{width}x{height} px for one of {shape[1]}x{shape[0]} px; crop it to "
        f"{wanted_width}x{wanted_height} px, or make it of that picture"
    )


def is_same_ratio(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes `(H, W, ...)` can be the same picture at two sizes, each rounded.

    A pixel of the smaller one and half a pixel of the larger one are allowed: programs round the
    short edge to nearest, or cut it off.
    """
    small, large = sorted((max(one[:2]), max(other[:2])))
    return abs(one[0] * other[1] - one[1] * other[0]) <= large + small / 2
