"""What a file is, told by its first bytes, before a decoder of pictures sees it.

Decoders read more than pixels: a camera's raw file as its thumbnail, and millions of empty comments
one by one. Both are found here, by reading a bounded part of the file.
"""

import os
import struct
from collections.abc import Iterator
from typing import IO, BinaryIO, TypeAlias

RAW = "is a camera's raw file; export it as JPEG or 16-bit TIFF first"
_HEIC = "is a HEIC photo, which is not read; export it as JPEG first"

_RAW_EXTENSIONS = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25",
    ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2",
    ".srf", ".srw", ".x3f",
)  # fmt: skip
# Fujifilm, Canon (CRW), Sigma, Minolta, Panasonic and Leica, Olympus (three).
_RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"II\x1a\0\0\0HEAPCCDR", b"FOVb", b"\0MRM", b"IIU\0", b"IIRO",
              b"IIRS", b"MMOR")  # fmt: skip
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Tags of TIFF and of DNG.
_SUBFILE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 256, 257, 262, 330, 50706
_OF_SENSORS = (32803, 34892)  # photometric interpretations: colour filter array, LinearRaw
_SIZES = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # types of whole numbers -> bytes

_Tags: TypeAlias = dict[int, tuple[int, ...]]


def describe_foreign(head: bytes) -> str | None:
    """Says what a file is that is given for another, as the rest of a sentence, if that is known.

    Args:
        head: its first bytes, some hundred.
    """
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; get it with: git lfs pull"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:20].lower()
    if start.startswith((b"<!doctype", b"<html", b"<head")):
        return "is a web page, not the file that it was to show; download it again"
    return None


def why_not_read(file: BinaryIO, extension: str) -> str | None:
    """Says why a file is not given to a decoder of pictures, as the rest of a sentence, if so.

    Args:
        file: it, from its start.
        extension: of its name, such as `.tif`.
    """
    head = file.read(512)
    size = os.fstat(file.fileno()).st_size
    if head.startswith(_RAW_MAGIC) or head[4:12] == b"ftypcrx ":
        return RAW
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return _HEIC
    # "CR" of Canon, and "IIII" or "MMMM" of Phase One, stand behind a TIFF's own first bytes.
    tiff = head.startswith(_TIFF)
    if tiff and (extension.lower() in _RAW_EXTENSIONS or head[8:12] in (b"CR\2\0", b"IIII")):
        return RAW
    if tiff and _shows_a_thumbnail(file):
        return RAW
    many = False
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        many = _exceeds(png_chunks(file), 10_000 + size // 256)
    elif head.startswith(b"\xff\xd8"):
        many = _exceeds(_jpeg_segments(file), 1000 + size // 4096)
    elif head.startswith((b"GIF87a", b"GIF89a")):
        many = _exceeds(_gif_blocks(file), 10_000 + size // 64)
    return "consists of too many small parts; save it again as PNG or JPEG" if many else (
        describe_foreign(head)
    )  # fmt: skip


def _exceeds(parts: Iterator[bytes], limit: int) -> bool:
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


def _jpeg_segments(file: BinaryIO) -> Iterator[bytes]:
    """Yields the markers of a JPEG's segments before its pixels."""
    file.seek(2)
    while (byte := file.read(1)) and (byte != b"\xff" or (byte := file.read(1))):
        if byte == b"\xda":
            return
        yield byte
        # What stands alone or is fill has no length; a decoder looks for the next marker too.
        if byte not in (b"\xff", b"\0") and not b"\xd0" <= byte <= b"\xd8":
            length = file.read(2)
            file.seek(max(int.from_bytes(length, "big") - 2, 0), os.SEEK_CUR)


def _gif_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yields the blocks of a GIF's extensions before its pixels, without their content."""
    file.seek(0)
    flags = file.read(13)[10:11]
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)
    while (kind := file.read(1)) and kind not in b",;":
        yield kind
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
            while (length := file.read(1)) and length != b"\0":
                yield length
                file.seek(length[0], os.SEEK_CUR)


def _shows_a_thumbnail(file: BinaryIO) -> bool:
    """Whether the first picture of a TIFF is not the one that its owner means: a raw file's."""
    try:
        first, *others = _directories(file)
    except (struct.error, ValueError, OSError):
        return False  # damaged: the decoder says so
    sensor = any(tags.get(_PHOTOMETRIC, (0,))[0] in _OF_SENSORS for tags in (first, *others))
    reduced = bool(first.get(_SUBFILE, (0,))[0] & 1)
    if sensor or _DNG_VERSION not in first:
        return sensor or (reduced and any(_area(tags) > _area(first) for tags in others))
    # What was exported from a DNG may keep its version: a whole picture, with nothing below it.
    return reduced or _SUB_IFDS in first


def _area(tags: _Tags) -> int:
    return tags.get(_WIDTH, (0,))[0] * tags.get(_HEIGHT, (0,))[0]


def _directories(file: BinaryIO) -> Iterator[_Tags]:
    """Yields the first directories of a TIFF, up to 8, and those below the first one."""
    file.seek(0)
    head = file.read(16)
    order, big = "<" if head[:2] == b"II" else ">", 43 in head[2:4]
    start = struct.unpack_from(order + "Q" if big else order + "I", head, 8 if big else 4)[0]
    first, start = _directory(file, start, order, big)
    yield first
    for below in first.get(_SUB_IFDS, ())[:16]:
        yield _directory(file, below, order, big)[0]
    for _ in range(7):
        if start:
            tags, start = _directory(file, start, order, big)
            yield tags


def _directory(file: BinaryIO, start: int, order: str, big: bool) -> tuple[_Tags, int]:
    """Returns the tags of one directory that are asked for here, and where the next one begins."""
    count, entry, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    file.seek(start)
    number = struct.unpack(order + count, file.read(struct.calcsize("<" + count)))[0]
    size = struct.calcsize("<" + entry)
    data = file.read(min(number, 2**16) * size + inline)
    tags: _Tags = {}
    for at in range(0, min(number, 2**16) * size, size):
        tag, kind, length, value = struct.unpack_from(order + entry, data, at)
        if tag not in (_SUBFILE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION):
            continue
        width = _SIZES.get(kind, 1)
        length = min(length, 16)
        if length * width > inline:
            file.seek(struct.unpack(order + ("Q" if big else "I"), value)[0])
            value = file.read(length * width)
        code = {1: "B", 2: "H", 4: "I", 8: "Q"}[width]
        if length:
            tags[tag] = struct.unpack_from(f"{order}{length}{code}", value)
    following = data[number * size :]
    return tags, struct.unpack(order + ("Q" if big else "I"), following)[0] if following else 0
