"""Arrays to image files: sRGB, which they say in their profile, written whole or not at all."""

import io
import math
import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import (
    PathType,
    check_target,
    describe_path,
    write_atomically,
)
from jaxstyle.io.image_alpha import on_white
from jaxstyle.io.image_metadata import MOST_DPI
from jaxstyle.io.image_pixels import srgb_profile
from jaxstyle.io.image_sixteen_bit import encode_png, encode_tiff
from jaxstyle.io.ownership import GENERATOR
from jaxstyle.io.sources import TargetType, describe_object, is_path, write_object

# Extension -> Pillow's format, longest edge, options.
_WRITERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    ".png": ("PNG", 2**31 - 1, {}),
    # 4:4:4, because a halved color resolution shows in saturated brush strokes.
    ".jpg": ("JPEG", 65500, {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", 65500, {"quality": 95, "subsampling": "4:4:4"}),
    # Lossless, because WebP's lossy mode has 4:2:0 only.
    ".webp": ("WEBP", 16383, {"lossless": True}),
    ".tif": ("TIFF", 2**31 - 1, {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", 2**31 - 1, {"compression": "tiff_deflate"}),
    ".avif": ("AVIF", 2**16, {"quality": 90, "subsampling": "4:4:4", "speed": 8}),
}

_OTHER_SCALE = 16  # values this far above 1 are of another scale, and not only overshoot
_MOST_JFIF_DPI = 65535  # which a JPEG has two bytes for


def save_image(
    path: TargetType,
    image: ArrayLike,
    *,
    alpha: ArrayLike | None = None,
    dpi: tuple[float, float] | None = None,
    bits: int = 8,
    format: str | None = None,  # noqa: A002  Pillow's name of it
) -> None:
    """Writes an image as sRGB, whole or not at all.

    The extension selects the format: PNG, TIFF (deflate) and WebP are lossless, JPEG has quality
    95 and AVIF 90, both with full color resolution (4:4:4).

    Args:
        path: a file in an existing folder, which is replaced if it exists; or a binary file that is
            open, which is written where it stands and stays open.
        image: `(H, W, 3)`, floating point, sRGB in [0, 1]; clipped, then rounded to nearest.
            Values above 16 are of another scale, such as 0 to 255, and are refused.
        alpha: `(H, W)`, floating point, the opacity in [0, 1]. A JPEG has none: it is composited on
            white.
        dpi: pixels per inch along width and height, for print; up to 1 and above 100000 they are
            left out.
        bits: of each color: 8; or 16, for PNG and TIFF.
        format: such as `png`; None takes the extension of the file's name.

    Raises:
        InputError: as `check_writable` and `encode_image`.
        OSError: what an open file's own `write` raises.
    """
    _writer(path, format)
    options: dict[str, Any] = {"alpha": alpha, "dpi": dpi, "bits": bits, "format": format}
    if is_path(path):
        check_target(path)
        write_atomically(path, encode_image(path, image, **options))
    else:
        write_object(path, encode_image(path, image, **options))


def encode_image(
    path: TargetType,
    image: ArrayLike,
    *,
    alpha: ArrayLike | None = None,
    dpi: tuple[float, float] | None = None,
    bits: int = 8,
    format: str | None = None,  # noqa: A002
) -> bytes:
    """Returns the bytes that `save_image` writes.

    Args:
        path: see `save_image`; only its extension matters.
        image: see `save_image`.
        alpha: see `save_image`.
        dpi: see `save_image`.
        bits: see `save_image`.
        format: see `save_image`.

    Raises:
        InputError: the extension is unknown; the image or `alpha` has another shape, type or
            scale, or holds NaN; the image is too large for the format; `dpi` is no pair of positive
            numbers; or the format has no 16 bits.
    """
    name, kind, longest, quality = _writer(path, format)
    array = _as_image(name, image)
    _check_size(name, kind, longest, size=max(array.shape), bits=bits)
    if alpha is not None:
        opacity = np.asarray(alpha)
        if opacity.shape != array.shape[:2]:
            raise InputError(f"{name}: alpha has shape {opacity.shape}; it must be (H, W)")
        opacity = _as_unit(name, "alpha", opacity)
        array = on_white(array, opacity) if kind == "JPEG" else np.dstack([array, opacity])
    if dpi is not None:
        _check_dpi(name, dpi)
        x, y = float(dpi[0]), float(dpi[1])
        dpi = (x, y) if min(x, y) > 1 and max(x, y) <= MOST_DPI else None
    if np.isnan(array).any():
        raise InputError(f"{name}: the image holds NaN; it cannot be saved")
    array = np.clip(array, 0.0, 1.0)
    if bits == 16:
        encode = encode_png if kind == "PNG" else encode_tiff
        deep = np.rint(array * np.float64(65535)).astype(np.uint16)  # float32 has too few digits
        return encode(deep, srgb_profile(), dpi, GENERATOR)
    pixels = np.rint(array * np.float32(255)).astype(np.uint8)
    buffer = io.BytesIO()
    try:
        options = {**quality, **_metadata(kind, dpi), "icc_profile": srgb_profile()}
        Image.fromarray(pixels).save(buffer, kind, **options)
    except (OSError, ValueError, MemoryError) as error:
        raise InputError(f"{name} cannot be encoded as {kind}; save it as .png") from error
    return buffer.getvalue()


def _as_image(name: str, image: ArrayLike) -> NDArray[np.float32]:
    try:
        array = np.asarray(image)
    except Exception as error:
        raise InputError(f"{name}: the image is not an array; it must be (H, W, 3)") from error
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"{name}: the image has shape {array.shape}; it must be (H, W, 3)")
    return _as_unit(name, "the image", array)


def _as_unit(name: str, what: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """Returns values that are meant to be in [0, 1]; refuses those of another scale."""
    # By name, because to NumPy JAX's bfloat16 is not a floating-point type.
    if not array.dtype.name.startswith(("float", "bfloat")):
        raise InputError(
            f"{name}: {what} has type {array.dtype.name}; it must be floating point in [0, 1], "
            "such as values.astype('float32') / 255"
        )
    values = array.astype(np.float32)
    highest = values.max(initial=0, where=np.isfinite(values))
    if highest > _OTHER_SCALE:
        raise InputError(
            f"{name}: {what} has values up to {highest:.4g}; it must be in [0, 1]: divide it by "
            "255 if its values go from 0 to 255"
        )
    return values


def _check_dpi(name: str, dpi: Any) -> None:
    try:
        good = all(0 < float(each) < math.inf for each in (dpi[0], dpi[1])) and len(dpi) == 2
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        good = False
    if not good:
        raise InputError(
            f"{name}: dpi must be two positive numbers, along width and height; try (300, 300)"
        )


def _metadata(kind: str, dpi: tuple[float, float] | None) -> dict[str, Any]:
    """Options of `Image.save` that mark the file as written by jaxstyle, and its resolution."""
    in_exif = kind in ("WEBP", "AVIF") or (kind == "JPEG" and max(dpi or (0,)) > _MOST_JFIF_DPI)
    resolution = {} if dpi is None or in_exif else {"dpi": dpi}
    if kind == "PNG":
        texts = PngInfo()
        texts.add_text("Software", GENERATOR)
        return {"pnginfo": texts, **resolution}
    exif = Image.Exif()
    exif[0x0131] = GENERATOR  # Software
    if dpi is not None and in_exif:
        exif[0x011A], exif[0x011B], exif[0x0128] = *dpi, 2
    return {"exif": exif, **resolution}


def check_writable(path: PathType) -> None:
    """Checks before a long run that `save_image(path, ...)` can succeed.

    Args:
        path: see `save_image`.

    Raises:
        InputError: the extension is unknown, the folder is missing or not writable, or `path`
            is a folder, a device or a write-protected file.
    """
    _writer(path)
    check_target(path)


def check_extension(path: PathType, *, size: int = 1, bits: int = 8) -> None:
    """Checks that `save_image` knows the extension of `path`, and that its format is large enough.

    Args:
        path: see `save_image`.
        size: long edge of the image in pixels.
        bits: see `save_image`.

    Raises:
        InputError: the extension is unknown, or its format cannot hold such an image.
    """
    name, kind, longest, _ = _writer(path)
    _check_size(name, kind, longest, size=size, bits=bits)


def _check_size(name: str, kind: str, longest: int, *, size: int, bits: int) -> None:
    if size > longest:
        raise InputError(
            f"{name}: {kind} holds at most {longest} pixels along an edge; save it as .png"
        )
    if bits not in (8, 16):
        raise InputError(f"{name}: there are 8 or 16 bits for each color; choose one of them")
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise InputError(
            f"{name}: {kind} has 8 bits for each color; save it as .png or .tif, or with 8 bits"
        )


def contact_sheet(
    features: ArrayLike, *, columns: int | None = None, gap: int = 1
) -> NDArray[np.float32]:
    """Arranges the feature maps of one layer on a sheet, to be saved as an image.

    Args:
        features: `(h, w, c)`, finite. Each map is scaled to [0, 1] separately; a constant map
            becomes 0.
        columns: maps in a row; None makes the sheet as square as possible.
        gap: white pixels between two maps. Unused cells at the end are white too.

    Returns:
        `(H, W, 3)` float32 in [0, 1], gray.

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


def _writer(path: Any, named: str | None = None) -> tuple[str, str, int, dict[str, Any]]:
    """Returns the name of a file for messages, Pillow's format, its longest edge, and options."""
    known = ", ".join(_WRITERS)
    if callable(getattr(path, "write", None)):
        name, extension = describe_object(path)
    else:
        name, extension = describe_path(path), os.path.splitext(os.fsdecode(path))[1]
    if named is not None:
        extension = f".{str(named).removeprefix('.')}"
        if extension.lower() not in _WRITERS:
            raise InputError(f"format {str(named)[:40]!r} is unknown; use one of {known}")
    extension = extension.lower()
    if extension not in _WRITERS and is_path(path) and os.path.isdir(path):
        raise InputError(f"{name} is a folder, with no known extension; name a file in it")
    if extension not in _WRITERS:
        what = "use one of" if is_path(path) else "say the format with format=, one of"
        raise InputError(f"{name} has no known extension; {what} {known}")
    if extension == ".avif" and not features.check("avif"):
        raise InputError(f"{name}: this Pillow was built without AVIF; save it as .png")
    return name, *_WRITERS[extension]
