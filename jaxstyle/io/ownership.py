"""Tells whether jaxstyle has written a file: everything that it writes says so in its content."""

import io
import json
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jaxstyle import __version__
from jaxstyle.io.files import PathType

GENERATOR = f"jaxstyle {__version__}"
"""The mark: `Software` of a picture, `generator` of JSON, HTML, journals and safetensors."""

_MARK = b"jaxstyle "  # with any version
_HEAD = 4096  # bytes in which the mark of a text stands
_HEADER = 2**26  # bytes of a safetensors header, at most
_FIELDS = 4096  # of a picture that are looked at, at most
_SOFTWARE = 305  # the tag in TIFF and EXIF
_JSON = re.compile(rb'\s*\{\s*"generator"\s*:\s*"jaxstyle ')
_HTML = re.compile(rb'<meta name="generator" content="jaxstyle ')


def is_ours(path: PathType) -> bool:
    """Tells whether the content of a file says that jaxstyle has written it.

    Reads a bounded part. A file that is missing, damaged, not regular or foreign is not ours.

    Args:
        path: any path.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with Path(os.fsdecode(path)).open("rb") as file:
            return _is_marked(file)
    except (OSError, ValueError, struct.error, RecursionError, MemoryError):
        return False


def _is_marked(file: BinaryIO) -> bool:  # noqa: PLR0911  one for each format
    head = file.read(_HEAD)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return any(text.startswith(b"Software\0" + _MARK) for text in _png_texts(file))
    if head.lower().startswith(b"<!doctype html"):
        return _HTML.search(head) is not None
    if _JSON.match(head):
        return True
    if head[:4] in (b"II*\0", b"MM\0*"):
        return _is_software(file)
    if head.startswith(b"\xff\xd8"):
        return any(_is_software(exif) for exif in _jpeg_exif(file))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return any(_is_software(exif) for exif in _webp_exif(file))
    return _is_safetensors_of_ours(file)


def _png_texts(file: BinaryIO) -> Iterator[bytes]:
    """Yields the texts of a PNG that stand before its pixels."""
    file.seek(8)
    for _ in range(_FIELDS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind in (b"IDAT", b"IEND"):
            return
        if kind == b"tEXt":
            yield file.read(min(length, _HEAD))
            length -= min(length, _HEAD)
        file.seek(length + 4, os.SEEK_CUR)


def _jpeg_exif(file: BinaryIO) -> Iterator[BinaryIO]:
    file.seek(2)
    for _ in range(_FIELDS):
        mark, length = struct.unpack(">HH", file.read(4))
        if not 0xFFE0 <= mark <= 0xFFEF and mark != 0xFFFE:  # what follows is the picture
            return
        data = file.read(length - 2)
        if mark == 0xFFE1 and data.startswith(b"Exif\0\0"):
            yield io.BytesIO(data[6:])


def _webp_exif(file: BinaryIO) -> Iterator[BinaryIO]:
    file.seek(12)
    for _ in range(_FIELDS):
        head = file.read(8)
        if len(head) < 8:
            return
        kind, length = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            data = file.read(min(length, 2**16))
            yield io.BytesIO(data.removeprefix(b"Exif\0\0"))
            return
        file.seek(length + length % 2, os.SEEK_CUR)


def _is_software(file: BinaryIO) -> bool:
    """Whether the first directory of a TIFF, which EXIF is too, has our mark as its software."""
    file.seek(0)
    order = "<" if file.read(4)[:2] == b"II" else ">"
    (offset,) = struct.unpack(order + "I", file.read(4))
    file.seek(offset)
    (number,) = struct.unpack(order + "H", file.read(2))
    for _ in range(min(number, _FIELDS)):
        tag, kind, count, offset = struct.unpack(order + "HHII", file.read(12))
        if tag == _SOFTWARE:
            if kind != 2 or count <= len(_MARK):
                return False
            file.seek(offset)
            return file.read(len(_MARK)) == _MARK
    return False


def _is_safetensors_of_ours(file: BinaryIO) -> bool:
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if not 2 <= length <= min(_HEADER, os.fstat(file.fileno()).st_size):
        return False
    header = json.loads(file.read(length))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    mark = metadata.get("generator") if isinstance(metadata, dict) else None
    return isinstance(mark, str) and mark.startswith(_MARK.decode())
