"""Recognizes files that a decoder of images should not get, from a bounded part of their bytes.

Pillow does more than reading pixels: it shows the thumbnail of a camera's raw file as the picture,
reads millions of empty comments one by one, and copies the same bytes for every tag that points to
them. So its input is checked here first.
"""

import io
import math
import os
import re
import struct
from collections.abc import Iterator
from typing import IO, BinaryIO, TypeAlias

from jaxstyle.io.foreign import advice_for, brands_of, describe_foreign, heif_kind_of, kind_of
from jaxstyle.io.heif import has_many_items

FORMATS = "PNG, JPEG, WebP, TIFF, AVIF, BMP or GIF"
RAW = "is a camera's raw file; export it as JPEG or 16-bit TIFF first"
_MANY = "consists of too many small parts; save it again as PNG or JPEG"

_RAW_EXTENSIONS = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25",
    ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2",
    ".srf", ".srw", ".x3f",
)  # fmt: skip
# Fujifilm, Canon (CRW), Sigma, Minolta, Panasonic and Leica, Olympus (three).
_RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"II\x1a\0\0\0HEAPCCDR", b"FOVb", b"\0MRM", b"IIU\0", b"IIRO",
              b"IIRS", b"MMOR")  # fmt: skip
_READ = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF", b"BM")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Tags of TIFF and of DNG.
_SUBFILE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 256, 257, 262, 330, 50706
_OF_SENSORS = (32803, 34892)  # photometric interpretations: color filter array, LinearRaw
_SIZES = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # types of whole numbers -> bytes
_ALL_SIZES = {**_SIZES, 2: 1, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 17: 8}

_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324
_MOST_TAGS = 2**16  # of one directory; also the most strips or tiles of one picture

# Start of a frame: its content begins with 8 bits of depth, height and width.
_JPEG_FRAMES = {bytes([each]) for each in range(0xC0, 0xD0) if each not in (0xC4, 0xC8, 0xCC)}
# A marker with content behind it, or the end of the image; others are part of a scan.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])", re.DOTALL)
# Usual are 10 scans, and 18 of CMYK. A scan of a few bytes takes about 0.2 ns for each pixel.
_MOST_SCANS = 1000
_MOST_VISITS = 5 * 10**9  # scans times pixels

_Tags: TypeAlias = dict[int, tuple[int, ...]]


def why_not_read(file: BinaryIO, extension: str) -> str | None:
    """Says why a decoder must not get a file, as the rest of a sentence; None if it may.

    Args:
        file: the file, at its start.
        extension: of its name, such as `.tif`.
    """
    head = file.read(512)
    if head.startswith(_RAW_MAGIC) or b"crx " in brands_of(head):
        return RAW
    if heif_kind_of(head) is not None:
        return _MANY if has_many_items(file) else None
    if head.startswith(_TIFF):
        # Canon writes "CR" after a TIFF's first bytes, Phase One "IIII" or "MMMM".
        marked = head[8:12] in (b"CR\2\0", b"IIII", b"MMMM")
        if marked or extension.lower() in _RAW_EXTENSIONS or _shows_a_thumbnail(file):
            return RAW
        return _MANY if announces_too_much(file) else None
    return _MANY if _has_many_parts(file, head) else _describe_other(head, extension)


def _describe_other(head: bytes, extension: str) -> str | None:
    if foreign := describe_foreign(head):
        return foreign
    if kind := kind_of(head):
        return f"is not a {FORMATS} image but {kind}; {advice_for(kind)}"
    # A photo that was renamed may be read.
    named_raw = extension.lower() in _RAW_EXTENSIONS
    return RAW if named_raw and not head.startswith(_READ) else None


def _has_many_parts(file: BinaryIO, head: bytes) -> bool:
    """Whether the parts of a file before its pixels are so many that Pillow would take minutes."""
    size = file.seek(0, os.SEEK_END)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _exceeds(png_chunks(file), 10_000 + size // 256)
    if head.startswith(b"\xff\xd8"):
        if _exceeds(_jpeg_segments(file), 1000 + size // 4096):
            return True
        marked = list(_jpeg_segments(file))
        segments = [data for _, data in marked]
        if _has_many_scans(file, marked):
            return True
        # Pillow joins several blocks of EXIF. MPF lists further pictures of the file.
        exif = b"".join(data[6:] for data in segments if data.startswith(b"Exif\0\0"))
        blocks = [exif, *(data[4:] for data in segments if data.startswith(b"MPF\0"))]
        return any(announces_too_much(io.BytesIO(block)) for block in blocks)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _exceeds(_gif_blocks(file), 10_000 + size // 64)
    return False


def _exceeds(parts: Iterator[object], limit: int) -> bool:
    return any(number >= limit for number, _ in enumerate(parts))


def png_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yields the kinds of a PNG's chunks in their order, IEND included."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind
        if kind == b"IEND":
            return
        file.seek(length + 4, os.SEEK_CUR)


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yields marker and content of a JPEG's segments before its pixels."""
    file.seek(2)
    while (byte := file.read(1)) and (byte != b"\xff" or (byte := file.read(1))):
        if byte == b"\xda":
            return
        # Standalone markers and fill bytes have no length; a decoder looks for the next marker too.
        if byte in (b"\xff", b"\0") or b"\xd0" <= byte <= b"\xd8":
            yield byte, b""
        else:
            length = int.from_bytes(file.read(2), "big")
            yield byte, file.read(max(length - 2, 0))


def _has_many_scans(file: BinaryIO, segments: list[tuple[bytes, bytes]]) -> bool:
    """Whether a JPEG has so many scans that decoding takes minutes: each may visit all pixels.

    Args:
        file: behind the marker of the first scan.
        segments: those before it.
    """
    frames = [data for marker, data in segments if marker in _JPEG_FRAMES and len(data) >= 5]
    pixels = max((math.prod(struct.unpack_from(">HH", data, 1)) for data in frames), default=0)
    most = min(_MOST_SCANS, _MOST_VISITS // max(pixels, 1))
    data, at, scans, others = file.read(), 0, 1, 0
    while scans <= most and others <= _MOST_SCANS and (found := _JPEG_MARKER.search(data, at)):
        marker = found[1]
        if marker == b"\xd9":
            return False
        scans, others = scans + (marker == b"\xda"), others + (marker != b"\xda")
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans > most or others > _MOST_SCANS


def _gif_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yields the blocks of a GIF's extensions up to its second picture, without their content.

    Pillow looks for that one to find out whether the file is animated.
    """
    file.seek(0)
    flags = file.read(13)[10:11]
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)
    pictures = 0
    while (kind := file.read(1)) and kind != b";":
        if kind == b",":
            pictures += 1
            if pictures == 2:
                return
            flags = file.read(9)[8:]
            if flags and flags[0] & 0x80:
                file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)
        else:
            yield kind
        if kind in b"!,":
            file.seek(1, os.SEEK_CUR)
            while (length := file.read(1)) and length != b"\0":
                if kind == b"!":
                    yield length
                file.seek(length[0], os.SEEK_CUR)


def announces_too_much(file: IO[bytes]) -> bool:
    """Whether a TIFF or EXIF block announces several times its bytes, or very many strips.

    Pillow reads the bytes of each tag, and many tags may point to the same ones: in this way a file
    of 1 MB could fill 60 GB.

    Args:
        file: its content; anything else than TIFF announces nothing.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    if not head.startswith(_TIFF):
        return False
    try:
        order, big, start = _read_head(head)
        number, entries, _ = _entries(file, start, order, big)
    except (struct.error, ValueError, OSError):
        return False  # damaged: the decoder reports it
    if any(tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and n > _MOST_TAGS for tag, _, n, _ in entries):
        return True
    announced = (_ALL_SIZES.get(kind, 1) * count for _, kind, count, _ in entries)
    return number > _MOST_TAGS or sum(min(each, size) for each in announced) > 4 * size + 2**16


def _shows_a_thumbnail(file: BinaryIO) -> bool:
    """Whether the first picture of a TIFF is a thumbnail: then the file is a raw one."""
    try:
        first, *others = _directories(file)
    except (struct.error, ValueError, OSError):
        return False  # damaged: the decoder reports it
    sensor = any(tags.get(_PHOTOMETRIC, (0,))[0] in _OF_SENSORS for tags in (first, *others))
    reduced = bool(first.get(_SUBFILE, (0,))[0] & 1)
    if sensor or _DNG_VERSION not in first:
        return sensor or (reduced and any(_area(tags) > _area(first) for tags in others))
    # A file exported from a DNG may keep its version: a whole picture, with nothing below it.
    return reduced or _SUB_IFDS in first


def _area(tags: _Tags) -> int:
    return tags.get(_WIDTH, (0,))[0] * tags.get(_HEIGHT, (0,))[0]


def _read_head(head: bytes) -> tuple[str, bool, int]:
    """Returns the byte order, whether it is a BigTIFF, and where the first directory begins."""
    order, big = "<" if head[:2] == b"II" else ">", 43 in head[2:4]
    return order, big, struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0]


def _directories(file: BinaryIO) -> Iterator[_Tags]:
    """Yields the first directories of a TIFF, up to 8, and those below the first one."""
    file.seek(0)
    order, big, start = _read_head(file.read(16))
    first, start = _directory(file, start, order, big)
    yield first
    for below in first.get(_SUB_IFDS, ())[:16]:
        yield _directory(file, below, order, big)[0]
    for _ in range(7):
        if start:
            tags, start = _directory(file, start, order, big)
            yield tags


def _directory(file: BinaryIO, start: int, order: str, big: bool) -> tuple[_Tags, int]:
    """Returns the tags of one directory that this module uses, and where the next one begins."""
    number, entries, following = _entries(file, start, order, big)
    if len(entries) < min(number, _MOST_TAGS):
        raise ValueError("it is cut off")
    offset, inline = (order + "Q", 8) if big else (order + "I", 4)
    tags: _Tags = {}
    for tag, kind, count, value in entries:
        if tag not in (_SUBFILE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION):
            continue
        width, length = _SIZES.get(kind, 1), min(count, 16)
        data = value
        if length * width > inline:
            file.seek(struct.unpack(offset, value)[0])
            data = file.read(length * width)
        code = {1: "B", 2: "H", 4: "I", 8: "Q"}[width]
        if length:
            tags[tag] = struct.unpack_from(f"{order}{length}{code}", data)
    return tags, struct.unpack(offset, following)[0] if following else 0


def _entries(
    file: IO[bytes], start: int, order: str, big: bool
) -> tuple[int, list[tuple[int, int, int, bytes]], bytes]:
    """Reads a directory: the number of its entries, those that are there, and the bytes after them.

    An entry is a tag, a type, a number of values, and the values or their place.
    """
    count, entry, inline = ("Q", order + "HHQ8s", 8) if big else ("H", order + "HHI4s", 4)
    file.seek(start)
    number = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
    size = struct.calcsize(entry)
    end = min(number, _MOST_TAGS) * size
    data = file.read(end + inline)
    entries = list(struct.iter_unpack(entry, data[: min(end, len(data) // size * size)]))
    return number, entries, data[end:] if number <= _MOST_TAGS else b""
