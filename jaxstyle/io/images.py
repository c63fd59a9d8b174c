"""Image files to arrays, by Pillow.

An image is a NumPy array (H, W, 3), float32, sRGB in [0, 1]. Files may come from strangers: an
`InputError` says in one line what is wrong with one. Changes that the owner of a readable file may
not expect (transparency composited on white, a broken color profile ignored) are warnings of the
logger "jaxstyle".
"""

import contextlib
import logging
import operator
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from jaxstyle.io.errors import InputError
from jaxstyle.io.foreign import heif_kind_of
from jaxstyle.io.heif import open_heif
from jaxstyle.io.image_alpha import divide_by_alpha, on_white, resize_alpha, separate_key
from jaxstyle.io.image_headers import FORMATS, why_not_read
from jaxstyle.io.image_metadata import (
    has_trailer,
    is_animated,
    resolution_of,
    swaps_sides,
    turn_of,
)
from jaxstyle.io.image_pixels import Planes, read_planes, resize
from jaxstyle.io.sources import Source, SourceType, find_source

MAX_PIXELS = 178_956_970
"""Largest number of pixels of an image, read or resized: Pillow's own limit, 13377 x 13377.

A PNG of a few kilobytes can announce gigabytes of pixels, so the header is checked before decoding.
Lowering `PIL.Image.MAX_IMAGE_PIXELS` lowers the limit for reading too.
"""

# A file of any length may have as many pixels as this; above, it needs a byte for 100 pixels, or
# for 1000 black and white ones. Photos have one for 20 at most; flat drawings of 50 million pixels
# one for 130 as PNG, for 500 as lossless WebP, and for 1300 if they are black and white.
_PLAUSIBLE = 64 * 10**6

SAMPLES = Path(__file__).parent.parent / "app" / "samples"
"""The folder of the bundled sample pair, `content.png` and `style.png`."""


_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF")


# What decoders say of a file that ends too early. Their words are not shown: the message is ours.
_CUT_OFF = re.compile(
    "truncated|end of file|outside of file|insufficient input|too small|full meta", re.IGNORECASE
)

_REDUCIBLE = ("L", "LA", "RGB", "RGBA", "CMYK")  # modes that Pillow reduces by a box filter

_logger = logging.getLogger("jaxstyle")

# Silencing Pillow's warnings changes a global of Python: the first thread sets it, the last resets.
_silence = threading.Lock()
_silent: list[Any] = []  # one entry for each thread that decodes


class Picture(NamedTuple):
    """A picture, and what else its file says."""

    image: NDArray[np.float32]
    """`(H, W, 3)`, sRGB in [0, 1]. Transparent pixels have the colors of those around them."""
    alpha: NDArray[np.float32] | None
    """`(H, W)` in [0, 1], the opacity; None if it is 1 everywhere."""
    dpi: tuple[float, float] | None
    """Pixels per inch along width and height, if they are known."""

    @property
    def shown(self) -> NDArray[np.float32]:
        """`(H, W, 3)`, on white."""
        return self.image if self.alpha is None else on_white(self.image, self.alpha)


def load_image(
    path: SourceType, *, size: int | None = None, background: float = 1.0, draft: bool = False
) -> NDArray[np.float32]:
    """Reads a PNG, JPEG, WebP, TIFF, AVIF, BMP or GIF file (its first frame or page) as sRGB.

    HEIC is read where pillow-heif is installed. The EXIF orientation is applied. An embedded ICC
    profile is converted to sRGB (relative colorimetric with black point compensation, in 8 bits).
    Then transparency is composited on `background`. Gray, palette, CMYK and Lab images become RGB;
    CMYK without a profile is taken as US Web Coated (SWOP), with a warning. 16-bit gray keeps its
    precision; 16-bit RGB is reduced to 8 bits. A float TIFF is taken as sRGB in [0, 1]: values
    outside are clipped with a warning.

    Args:
        path: the file; or its bytes, or a binary file that is open, which is read from its start
            if it can seek.
        size: long edge of the result in pixels; the short edge keeps the aspect ratio, rounded
            to the nearest pixel. The image is resized by an antialiased Lanczos filter in float32
            on the sRGB values. None keeps the file's size.
        background: gray value in [0, 1] behind transparent parts. White, with a warning; for a
            mask use 0.
        draft: decodes a picture much larger than `size` at a fraction of its size: a JPEG by its
            own transform, others by a box filter. Takes less memory and time, but the pixels
            differ a little.

    Returns:
        `(H, W, 3)` float32, sRGB in [0, 1].

    Raises:
        InputError: the file is missing, unreadable, damaged, not a regular file, of another
            format, larger than Pillow reads (13377 x 13377 pixels) or too narrow for `size`; it has
            more than 64 million pixels, but less than a byte for 100 of them (1000 black and white
            ones); or `size` is not a positive integer.
    """
    return read_picture(path, size=size, background=background, draft=draft).image


def read_picture(
    path: SourceType,
    *,
    size: int | None = None,
    shape: tuple[int, int] | None = None,
    background: float | None = None,
    draft: bool = False,
) -> Picture:
    """Reads a file as `load_image` does, but keeps its transparency.

    Args:
        path: see `load_image`.
        size: see `load_image`.
        shape: `(H, W)` of the result in place of `size`, whatever the aspect ratio of the file.
        background: see `load_image`; None keeps the transparency.
        draft: see `load_image`.

    Raises:
        InputError: as `load_image`.
    """
    source = find_source(path)
    name = source.name
    if size is not None:
        size = _check_size(size)
    with _reading(name):
        planes, alpha, dpi = _decode(source, size, draft=draft)
        if shape is None:
            height, width = planes[0].shape
            shape = _resized_shape(height, width, size, name)
        if background == 1 and alpha is not None:
            _logger.warning("%s: transparent parts are shown on white", name)
        image = np.empty((*shape, 3), np.float32)
        for channel in range(3):  # one at a time, for the memory
            if channel < len(planes):  # gray has one plane, used three times
                plane = resize(planes[channel], alpha, background or 0, shape)
            image[..., channel] = plane
        if background is not None or alpha is None:
            return Picture(image.clip(0.0, 1.0, out=image), None, dpi)
        opacity = resize_alpha(alpha, shape)
        weight = resize(alpha, None, 0, shape)
        return Picture(divide_by_alpha(image, weight, opacity), opacity, dpi)


def read_shape(path: SourceType, *, size: int | None = None) -> tuple[int, int]:
    """Returns the shape `(H, W)` of `load_image`'s result, from the file's header.

    Args:
        path: see `load_image`.
        size: see `load_image`.

    Raises:
        InputError: as `load_image`, except for errors in the pixels.
    """
    source = find_source(path)
    name = source.name
    size = None if size is None else _check_size(size)
    with _reading(name), open_image(source) as file:
        width, height = file.size
        if tags := getattr(file, "tag_v2", None):  # a TIFF's size before Pillow has turned it
            width, height = tags[256], tags[257]
        if isinstance(file, PngImageFile) and has_trailer(file):
            file.load()  # EXIF may stand there
        if swaps_sides(turn_of(file)):
            width, height = height, width
    return _resized_shape(height, width, size, name)


@contextlib.contextmanager
def open_image(source: Source) -> Iterator[ImageFile]:
    """Opens an image file after checking its header.

    Pillow gets an open file: with a path, it maps the uncompressed pixels of a TIFF into memory
    and swaps width and height if EXIF turns it.

    Raises:
        InputError: the file is not a regular one, not an image, or too large.
    """
    with source.open() as opened:
        reason = why_not_read(opened, source.extension)
        if reason is not None:
            raise InputError(f"{source.name} {reason}")
        with _without_warnings(), _open(opened, source.name) as file:
            if file.width * file.height > MAX_PIXELS:
                raise _too_large(source.name)
            pixels, size = file.width * file.height, opened.seek(0, os.SEEK_END)
            if pixels > _PLAUSIBLE + (1000 if file.mode == "1" else 100) * size:
                raise InputError(
                    f"{source.name} has {pixels // 10**6} million pixels in only {size} bytes, as "
                    "no photo or drawing has; make the image smaller"
                )
            yield file


def _open(file: BinaryIO, name: str) -> ImageFile:
    file.seek(0)
    kind = heif_kind_of(file.read(512))
    file.seek(0)
    if kind == "HEIC":
        return open_heif(file, name)
    if kind == "AVIF" and not features.check("avif"):
        raise InputError(
            f"{name} is an AVIF image, which this Pillow was built without; export it as PNG or "
            "JPEG first"
        )
    return Image.open(file, formats=_FORMATS)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignores warnings, also if several threads do so at the same time."""
    with _silence:
        if not _silent:
            context = warnings.catch_warnings()
            context.__enter__()
            warnings.simplefilter("ignore")
        else:
            context = _silent[0]
        _silent.append(context)
    try:
        yield
    finally:
        with _silence:
            context = _silent.pop()
            if not _silent:
                context.__exit__(None, None, None)


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns whatever a decoder raises into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except MemoryError as error:
        raise InputError(f"{name} does not fit in memory; make the image smaller") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name} is not a {FORMATS} image that can be read; save it again as PNG or JPEG"
        ) from error
    except PermissionError as error:
        raise InputError(f"{name} may not be read; change its permissions") from error
    except Exception as error:  # on hostile bytes a decoder may raise anything
        if _CUT_OFF.search(str(error)):
            raise InputError(
                f"{name} is damaged: its end is missing; copy or download it again"
            ) from error
        raise InputError(
            f"{name} is damaged or of an unusual kind; save it again as PNG or JPEG"
        ) from error


def _check_size(size: int) -> int:
    try:
        value = 0 if isinstance(size, bool) else operator.index(size)
    except TypeError:
        value = 0
    if not 1 <= value <= MAX_PIXELS:
        # The value is not quoted: it may be anything, of any length.
        raise InputError("size must be the long edge in pixels, a whole number; try 512")
    return value


def _too_large(name: str) -> InputError:
    return InputError(
        f"{name} has more than {MAX_PIXELS // 10**6} million pixels; make the image smaller"
    )


def _resized_shape(height: int, width: int, size: int | None, name: str) -> tuple[int, int]:
    """Scales (height, width) to a long edge of `size`, rounded half up in exact arithmetic."""
    if size is None:
        return height, width
    long = max(height, width)
    shape = ((2 * height * size + long) // (2 * long), (2 * width * size + long) // (2 * long))
    if min(shape) < 1:
        raise InputError(
            f"{name} is {width} x {height} pixels, too narrow for a long edge of {size}; crop it"
        )
    if shape[0] * shape[1] > MAX_PIXELS:
        raise InputError(
            f"{name} would be too large with a long edge of {size}; use a smaller size"
        )
    return shape


def _decode(
    source: Source, size: int | None, *, draft: bool
) -> tuple[Planes, NDArray[Any] | None, tuple[float, float] | None]:
    """Returns planes and alpha as `read_planes`, and the resolution."""
    with open_image(source) as file:
        # A wrong size fails before decoding.
        _resized_shape(file.height, file.width, size, source.name)
        # Lanczos reduces the rest, by two at least: the faster filters alias.
        least = 2 * size if draft and size else max(file.size)
        if (factor := max(file.size) // least) > 1:
            file.draft(None, (max(file.width // factor, 1), max(file.height // factor, 1)))
        tags = getattr(file, "tag_v2", {})  # a TIFF's
        # By what the decoders of TIFF and HEIC turn the pixels themselves, and then forget.
        turned_by = tags.get(274, file.info.get("original_orientation"))
        raw_mode = str(file.tile[0].args) if isinstance(file, PngImageFile) and file.tile else ""
        file.load()
        palette = tags.get(320, ()) if file.mode in ("P", "PA") else ()
        if 0 < max(palette, default=0) < 256:
            # The standard says 16 bits, of which Pillow uses the upper 8; this one has 8 only.
            file.putpalette(bytes(np.reshape(palette, (3, -1)).T.astype(np.uint8)), "RGB")
        if is_animated(file):
            _logger.warning("%s: it is animated; its first frame is read", source.name)
        turn, dpi = turn_of(file), resolution_of(file, turned_by)
        factor = max(file.size) // least
        image = separate_key(file, raw_mode)
        if factor > 1 and image.mode in _REDUCIBLE:
            image = image.reduce(factor)
        image = image if turn is None else image.transpose(turn)
        return *read_planes(image, tags, source.name), dpi
