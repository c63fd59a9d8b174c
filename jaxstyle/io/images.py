"""Image files to arrays and back.

An image is a NumPy array (H, W, 3), float32, sRGB in [0, 1]. Files come from strangers:
whatever is wrong with one, `InputError` says so in one line. What was done to a readable file
that its owner may not expect (transparency put on white, a broken colour profile ignored) is a
warning of the logger "jaxstyle": Python shows it on stderr by itself, a program sends it where
it likes, and no caller in between has to pass anything on.
"""

import contextlib
import io
import logging
import math
import operator
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import (
    PathType,
    check_target,
    describe_error,
    describe_path,
    open_source,
    write_atomically,
)
from jaxstyle.io.image_headers import png_chunks, why_not_read
from jaxstyle.io.ownership import GENERATOR

__all__ = [
    "MAX_PIXELS",
    "SAMPLES",
    "check_writable",
    "contact_sheet",
    "load_image",
    "read_shape",
    "save_image",
]

MAX_PIXELS = 178_956_970
"""The most pixels an image may have, read or resized: Pillow's own bound, 13377 x 13377.

A few kilobytes of PNG can promise gigabytes of pixels, so the header is checked before anything
is decoded. A program that lowers `PIL.Image.MAX_IMAGE_PIXELS` lowers the bound for reading too.
"""

SAMPLES = Path(__file__).parent.parent / "app" / "samples"
"""The folder of the bundled pair, `content.png` and `style.png`."""

Planes: TypeAlias = list[NDArray[Any]]

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")

# extension -> Pillow's format, longest edge, options
_WRITERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    ".png": ("PNG", 2**31 - 1, {}),
    # 4:4:4, because halving the colour resolution shows in saturated brush strokes
    ".jpg": ("JPEG", 65500, {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", 65500, {"quality": 95, "subsampling": "4:4:4"}),
    # lossless, because WebP's lossy mode knows only 4:2:0
    ".webp": ("WEBP", 16383, {"lossless": True}),
    ".tif": ("TIFF", 2**31 - 1, {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", 2**31 - 1, {"compression": "tiff_deflate"}),
}

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_KEEPING_SIDES = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
)

_logger = logging.getLogger("jaxstyle")

# Silencing Pillow's warnings sets a global of Python's: the first thread does, the last one undoes.
_silence = threading.Lock()
_silent: list[Any] = []  # one entry a thread that decodes


def load_image(
    path: PathType, *, size: int | None = None, background: float = 1.0
) -> NDArray[np.float32]:
    """Reads a PNG, JPEG, WebP, TIFF, BMP or GIF file (its first frame or page) as sRGB.

    The EXIF orientation is applied. An embedded ICC profile is converted to sRGB (relative
    colorimetric with black point compensation, in 8 bits). Then transparency is composited on
    `background`. Grey, palette, CMYK and Lab images become RGB. Grey of 16 bits keeps its
    precision; RGB of 16 bits is reduced to 8. A float TIFF counts as sRGB in [0, 1]: what lies
    outside is clipped, and said.

    Args:
        path: the file.
        size: long edge of the result in pixels; the short edge keeps the aspect ratio, rounded
            to the nearest pixel. A larger image is reduced and a smaller one enlarged, by an
            antialiased Lanczos filter in float32 on the sRGB values. None keeps the file's size.
        background: the grey in [0, 1] behind transparent parts: white, which is said, or for a
            mask 0, which is outside of it.

    Returns:
        `(H, W, 3)` float32, sRGB in [0, 1].

    Raises:
        InputError: the file is missing, unreadable, damaged, not a regular file, of another
            format, of more pixels than Pillow reads (13377 x 13377) or too narrow for `size`; or
            `size` is not a positive integer.
    """
    name = describe_path(path)
    if size is not None:
        size = _check_size(size)
    with _reading(name):
        planes, alpha = _decode(path, size, name)
        if alpha is not None and background == 1:
            _logger.warning("%s: transparent parts are shown on white", name)
        height, width = planes[0].shape
        shape = _resized_shape(height, width, size, name)
        image = np.empty((*shape, 3), np.float32)
        for channel in range(3):  # one by one: a float plane of a large photo takes 0.7 GB
            if channel < len(planes):  # grey has one plane, used three times
                plane = _resize(_composite(planes[channel], alpha, background), shape)
            image[..., channel] = plane
    return image


def read_shape(path: PathType, *, size: int | None = None) -> tuple[int, int]:
    """Returns `(H, W)` of what `load_image` returns, as the file's header has it.

    Args:
        path: see `load_image`.
        size: see `load_image`.

    Raises:
        InputError: as `load_image`, but for what is wrong with the pixels.
    """
    name = describe_path(path)
    size = None if size is None else _check_size(size)
    with _reading(name), _opened(path, name) as file:
        width, height = file.size
        if tags := getattr(file, "tag_v2", None):  # a TIFF's, which Pillow has turned already
            width, height = tags[256], tags[257]
        if isinstance(file, PngImageFile) and not _tells_at_its_end(file):
            turn = _turn(file, Image.Image.getexif)
        else:
            turn = _turn(file)
        if turn is not None and turn not in _KEEPING_SIDES:
            width, height = height, width
    return _resized_shape(height, width, size, name)


@contextlib.contextmanager
def _opened(path: PathType, name: str) -> Iterator[ImageFile]:
    """Opens an image once, its header checked.

    By an open file, because of a path Pillow maps the uncompressed pixels of a TIFF into memory,
    with width and height exchanged where EXIF turns it.

    Raises:
        InputError: it is no regular file, of another kind or too large.
    """
    with open_source(path) as source:
        reason = why_not_read(source, os.path.splitext(os.fsdecode(path))[1])
        if reason is not None:
            raise InputError(f"{name} {reason}")
        with _without_warnings(), Image.open(source, formats=_FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise _too_large(name)
            yield file


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignores warnings; other threads may do so at the same time."""
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
    """Makes of whatever a decoder raises an `InputError`."""
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
            f"{name} is not a PNG, JPEG, WebP, TIFF, BMP or GIF image that can be read; "
            "save it again as PNG or JPEG"
        ) from error
    except PermissionError as error:
        raise InputError(f"{name} may not be read; change its permissions") from error
    except Exception as error:  # decoders meet hostile bytes with any exception there is
        raise InputError(
            f"{name} is damaged or of an unusual kind ({describe_error(error)}); "
            "save it again as PNG or JPEG"
        ) from error


def save_image(path: PathType, image: ArrayLike) -> None:
    """Writes an image as 8-bit sRGB, whole or not at all.

    The extension names the format: PNG and TIFF (deflate) and WebP lossless, JPEG with quality
    95 and full colour resolution (4:4:4).

    Args:
        path: a file in an existing folder; a file that is there already is replaced.
        image: `(H, W, 3)`, floating point, sRGB in [0, 1]; clipped, then rounded to nearest.

    Raises:
        InputError: as `check_writable` and `encode_image`.
    """
    check_writable(path)
    write_atomically(path, encode_image(path, image))


def encode_image(path: PathType, image: ArrayLike) -> memoryview:
    """Returns the bytes that `save_image` writes.

    Args:
        path: see `save_image`; only its extension matters.
        image: see `save_image`.

    Raises:
        InputError: the extension is unknown; or the image has another shape or type, holds NaN,
            or is too large for the format.
    """
    kind, _, options = _writer(path)
    name = describe_path(path)
    try:
        array = np.asarray(image)
    except Exception as error:
        raise InputError(f"{name}: the image is not an array; it must be (H, W, 3)") from error
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"{name}: the image has shape {array.shape}; it must be (H, W, 3)")
    # by name, because NumPy does not know JAX's bfloat16 as a floating-point type
    if not array.dtype.name.startswith(("float", "bfloat")):
        raise InputError(
            f"{name}: the image has type {array.dtype.name}; it must be floating point in [0, 1]"
        )
    array = array.astype(np.float32)
    if np.isnan(array).any():
        raise InputError(f"{name}: the image holds NaN; it cannot be saved")
    check_extension(path, size=max(array.shape))
    pixels = np.rint(np.clip(array, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, kind, **_mark(kind), **options)
    except (OSError, ValueError, MemoryError) as error:
        raise InputError(
            f"{name} cannot be encoded as {kind} ({describe_error(error)}); save it as .png"
        ) from error
    return buffer.getbuffer()


def _mark(kind: str) -> dict[str, Any]:
    """What says, in a file of this kind, that jaxstyle has written it."""
    if kind == "PNG":
        texts = PngInfo()
        texts.add_text("Software", GENERATOR)
        return {"pnginfo": texts}
    exif = Image.Exif()
    exif[0x0131] = GENERATOR  # Software
    return {"exif": exif}


def check_writable(path: PathType) -> None:
    """Checks, before an hour of work, that `save_image(path, ...)` can succeed.

    Args:
        path: see `save_image`.

    Raises:
        InputError: the extension is unknown, the folder is missing or not writable, or `path`
            is a folder, a device or a write-protected file.
    """
    _writer(path)
    check_target(path)


def check_extension(path: PathType, *, size: int = 1) -> None:
    """Checks that `save_image` knows the extension of `path`, and how large its format may be.

    Args:
        path: see `save_image`.
        size: long edge of the image in pixels.

    Raises:
        InputError: the extension is unknown, or its format holds no image of that size.
    """
    kind, longest, _ = _writer(path)
    if size > longest:
        raise InputError(
            f"{describe_path(path)}: {kind} holds at most {longest} pixels along an edge; save it "
            "as .png"
        )


def contact_sheet(
    features: ArrayLike, *, columns: int | None = None, gap: int = 1
) -> NDArray[np.float32]:
    """Lays the maps of one layer out on a sheet, to be saved and looked at.

    Args:
        features: `(h, w, c)`, finite. Each map is stretched to [0, 1] on its own; a constant one
            is 0.
        columns: maps in a row; None makes the sheet as square as it can be.
        gap: white pixels between two maps. Unused places at the end are white too.

    Returns:
        `(H, W, 3)` float32 in [0, 1], grey.

    Raises:
        InputError: `features` has another shape or is not finite; `columns < 1` or `gap < 0`.
    """
    maps = np.asarray(features)
    if maps.ndim != 3 or 0 in maps.shape:
        raise InputError(f"features have shape {maps.shape}; they must be (h, w, c), not empty")
    height, width, count = maps.shape
    if columns is None:
        columns = round(math.sqrt(count * height / width))
    elif columns < 1:
        raise InputError(f"columns is {columns}; it must be at least 1")
    if gap < 0:
        raise InputError(f"gap is {gap}; it must be at least 0")
    columns = min(max(columns, 1), count)
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap), np.float32)
    for index in range(count):
        values = maps[..., index].astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"feature map {index} holds NaN or infinity; it cannot be drawn")
        values -= values.min()
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = values / (values.max() or 1.0)
    return np.repeat(sheet[..., None], 3, axis=-1)


def _check_size(size: int) -> int:
    try:
        value = 0 if isinstance(size, bool) else operator.index(size)
    except TypeError:
        value = 0
    if not 1 <= value <= MAX_PIXELS:
        # without the value: it may be anything, of any length
        raise InputError("size is the long edge in pixels, a whole number; give 512, for example")
    return value


def _too_large(name: str) -> InputError:
    return InputError(
        f"{name} has more than {MAX_PIXELS // 10**6} million pixels; make the image smaller"
    )


def _resized_shape(height: int, width: int, size: int | None, name: str) -> tuple[int, int]:
    """(height, width) with `size` as the longer one, rounded half up in exact arithmetic."""
    if size is None:
        return height, width
    long = max(height, width)
    shape = ((2 * height * size + long) // (2 * long), (2 * width * size + long) // (2 * long))
    if min(shape) < 1:
        raise InputError(
            f"{name} is {width} x {height} pixels, too narrow for a long edge of {size}; crop it"
        )
    if shape[0] * shape[1] > MAX_PIXELS:
        raise InputError(f"{name} would be too large with a long edge of {size}; choose a smaller")
    return shape


def _composite(
    plane: NDArray[Any], alpha: NDArray[Any] | None, background: float
) -> NDArray[np.float32]:
    """A plane of uint8 or of float32 in [0, 1], on `background`, as float32 in [0, 1]."""
    values = plane.astype(np.float32)
    if plane.dtype == np.uint8:
        values /= np.float32(255.0)
    if alpha is not None:
        opacity = alpha.astype(np.float32) / np.float32(255.0)
        values = values * opacity + (np.float32(1.0) - opacity) * np.float32(background)
    return values


def _resize(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Pillow widens the filter by the scale when it reduces, which is the antialiasing."""
    if values.shape != shape:
        resized = Image.fromarray(values).resize(shape[::-1], Image.Resampling.LANCZOS)
        values = np.asarray(resized, np.float32)
    return np.clip(values, 0.0, 1.0)


def _decode(path: PathType, size: int | None, name: str) -> tuple[Planes, NDArray[Any] | None]:
    """One plane (grey) or three (sRGB), uint8 or float32 in [0, 1], and alpha (uint8) if any."""
    with _opened(path, name) as file:
        _resized_shape(file.height, file.width, size, name)  # a useless size fails early
        file.load()
        tags = getattr(file, "tag_v2", {})  # a TIFF's
        colours = tags.get(320, ()) if file.mode in ("P", "PA") else ()
        if 0 < max(colours, default=0) < 256:
            # 16 bits each by the standard, of which Pillow takes the upper 8; these have no more.
            file.putpalette(bytes(np.reshape(colours, (3, -1)).T.astype(np.uint8)), "RGB")
        turn = _turn(file)
        image: Image.Image = file if turn is None else file.transpose(turn)
        if image.mode == "F" or image.mode.startswith("I"):
            planes, alpha = _deep_grey(image, tags, name)
        else:
            planes, alpha = _eight_bit(image, name)
    return planes, None if alpha is None or alpha.min() == 255 else alpha


def _turn(
    file: Image.Image, read: Callable[[Any], Image.Exif] = lambda file: file.getexif()
) -> Image.Transpose | None:
    try:
        return _ORIENTATIONS.get(read(file).get(0x0112, 1))
    except Exception:  # the pixels are good whatever the EXIF block holds
        return None


def _tells_at_its_end(file: PngImageFile) -> bool:
    """Whether a PNG has anything behind its pixels; to find out, Pillow decodes all of them."""
    assert file.fp is not None  # noqa: S101  (it is open)
    at, pixels = file.fp.tell(), False
    try:
        for kind in png_chunks(file.fp):
            if pixels and kind != b"IDAT":
                return kind != b"IEND"
            pixels = kind == b"IDAT"
    finally:
        file.fp.seek(at)
    return True


def _eight_bit(image: Image.Image, name: str) -> tuple[Planes, NDArray[Any] | None]:
    icc = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        # a grey image stays grey, for its grey profile
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert(image.mode[:-1])
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # noqa: S101  (it is None only for inPlace=True)
        image, icc = converted, None
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    if icc:
        image = _to_srgb(image, icc, name)
    if image.mode == "CMYK":  # without a profile, or with a broken one
        image = image.convert("RGB")
    return [np.asarray(channel) for channel in image.split()], alpha


def _deep_grey(image: Image.Image, tags: Any, name: str) -> tuple[Planes, NDArray[np.uint8] | None]:
    """Grey of more than 8 bits: integers of 16 bits (12 in some TIFFs), or float."""
    raw = np.asarray(image)
    alpha = None
    if isinstance(key := image.info.get("transparency"), int):
        alpha = np.where(raw == key, 0, 255).astype(np.uint8)
    if image.mode == "F":
        if not np.isfinite(raw).all():
            raise InputError(f"{name} holds NaN or infinity; save it again as 16-bit PNG")
        if raw.min() < 0 or raw.max() > 1:
            _logger.warning(
                "%s: values from %.4g to %.4g are clipped to [0, 1]", name, raw.min(), raw.max()
            )
        values = np.clip(raw, 0.0, 1.0).astype(np.float32)
    else:
        top = 4095 if tags.get(258) == (12,) else 65535
        if raw.min() < 0 or raw.max() > top:
            raise InputError(f"{name} has values outside 0 to {top}; save it again as 16-bit PNG")
        values = raw.astype(np.float32) / np.float32(top)
    if tags.get(262) == 0:  # WhiteIsZero, which Pillow undoes for 8 bits only
        values = np.float32(1.0) - values
    if icc := image.info.get("icc_profile"):
        # Little CMS is given 8 bits here, so its curve is sampled and interpolated
        ramp = _to_srgb(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), icc, name)
        curve = np.asarray(ramp.getchannel(0))[0].astype(np.float64) / 255.0
        values = np.interp(values, np.linspace(0.0, 1.0, 256), curve).astype(np.float32)
    return [values], alpha


def _to_srgb(image: Image.Image, icc: bytes, name: str) -> Image.Image:
    """Converts L, RGB or CMYK from its profile to RGB; a broken profile is ignored, and said."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        # grey images with an RGB profile are common, and mean one curve for three channels
        source = image.convert("RGB") if (image.mode, space) == ("L", "RGB") else image
        converted = ImageCms.profileToProfile(
            source,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:  # hostile bytes again
        converted = None
    if converted is None:
        _logger.warning("%s: its colour profile is broken and was ignored", name)
        return image
    return converted


def _writer(path: PathType) -> tuple[str, int, dict[str, Any]]:
    name = describe_path(path)
    extension = os.path.splitext(os.fsdecode(path))[1].lower()
    if extension not in _WRITERS:
        raise InputError(f"{name} has no known extension; use one of {', '.join(_WRITERS)}")
    return _WRITERS[extension]
