"""What an opened image file says besides its pixels: orientation, resolution, animation."""

import io
from typing import Any

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from jaxstyle.io.image_headers import announces_too_much, png_chunks

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SWAPPING_SIDES = (5, 6, 7, 8)

MOST_DPI = 100_000.0


def read_exif(image: Image.Image) -> Image.Exif:
    """Returns the EXIF tags of an opened image, as far as it is decoded.

    Raises:
        Exception: for damaged or hostile tags.
    """
    block = image.info.get("exif", b"")
    if not block and "Raw profile type exif" in image.info:
        lines = image.info["Raw profile type exif"].split("\n")
        block = bytes.fromhex("".join(lines[3:]))
    if announces_too_much(io.BytesIO(block.removeprefix(b"Exif\0\0"))):
        raise ValueError("its tags announce more bytes than there are")
    return Image.Image.getexif(image)  # a PNG's own method would decode the pixels


def turn_of(file: Image.Image) -> Image.Transpose | None:
    """Returns how the EXIF orientation turns the image, None if it does not."""
    try:
        return _ORIENTATIONS.get(read_exif(file).get(0x0112, 1))
    except Exception:  # a broken EXIF block leaves the pixels usable
        return None


def swaps_sides(turn: Image.Transpose | None) -> bool:
    """Whether height becomes width."""
    return turn in [_ORIENTATIONS[orientation] for orientation in _SWAPPING_SIDES]


def resolution_of(file: ImageFile, turned_by: int | None) -> tuple[float, float] | None:
    """Returns pixels per inch along width and height of the upright image.

    Args:
        file: decoded.
        turned_by: the orientation by which the decoder has turned it already, if it has.
    """
    try:
        has_own = {"PNG": True, "BMP": True, "TIFF": 282 in getattr(file, "tag_v2", ())}
        exif = read_exif(file)
        if has_own.get(str(file.format), file.info.get("jfif_unit") in (1, 2)):
            found: Any = file.info["dpi"]
        else:
            per_inch = {2: 1.0, 3: 2.54}[exif[0x0128]]
            found = (exif[0x011A] * per_inch, exif[0x011B] * per_inch)
        x, y = (_without_rounding(float(each)) for each in found)
        turned = (turned_by or exif.get(0x0112)) in _SWAPPING_SIDES
    except Exception:  # there is none, or it is hostile
        return None
    if not (1 < x <= MOST_DPI and 1 < y <= MOST_DPI):
        return None
    return (y, x) if turned else (x, y)


def _without_rounding(dpi: float) -> float:
    """Returns the whole number that a PNG's pixels per meter were rounded from, if there is one."""
    return float(round(dpi)) if abs(dpi - round(dpi)) < 0.02 else round(dpi, 2)


def is_animated(file: ImageFile) -> bool:
    """Whether a decoded file has more than one picture, which are shown one after the other."""
    if file.format not in ("GIF", "PNG", "WEBP", "AVIF"):
        return False  # pages, or a photo and its map
    try:
        return bool(getattr(file, "is_animated", False))
    except Exception:  # the second frame of a GIF is damaged
        return False


def has_trailer(file: PngImageFile) -> bool:
    """Whether a PNG has chunks after its pixels; Pillow would decode all pixels to find out."""
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
