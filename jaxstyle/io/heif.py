"""Opens HEIC photos, for which the extra `heif` installs pillow-heif.

A HEIF or AVIF file consists of boxes: a length, a kind, and content, which may be more boxes.
"""

import io
import os
import struct
from collections.abc import Iterator
from typing import IO, BinaryIO

from PIL.ImageFile import ImageFile

from jaxstyle.io.errors import InputError

_MOST_BOXES = 1000
_MOST_META = 2**22  # bytes, of the box that describes the pictures of a file
_MOST_DESCRIBED = 64  # pictures that the metadata of a file belong to
_MOST_GROUPS = 4096  # bytes, of the box that groups pictures


def open_heif(file: BinaryIO, name: str) -> ImageFile:
    """Opens a HEIC photo with pillow-heif, which is not made known to Pillow.

    Raises:
        InputError: pillow-heif is not installed.
        Exception: for a damaged file.
    """
    try:
        import pillow_heif  # noqa: PLC0415  optional
    except ImportError:
        raise InputError(
            f"{name} is a HEIC photo: run pip install 'jaxstyle[heif]' to read it; export it as "
            "JPEG otherwise"
        ) from None
    opened: ImageFile = pillow_heif.HeifImageFile(file)
    return opened


def has_many_items(file: BinaryIO) -> bool:
    """Whether the pictures of a HEIF or AVIF file have so many parts that decoders copy them often.

    A decoder copies the same metadata for each picture that they belong to, and all groups for
    each picture.
    """
    size = file.seek(0, os.SEEK_END)
    meta = next((span for kind, *span in _boxes(file, 0, size) if kind == b"meta"), None)
    if meta is None:
        return False
    start, end = meta
    if end - start > _MOST_META:
        return True
    file.seek(start)
    content = io.BytesIO(file.read(end - start))
    parts = list(_boxes(content, 4, end - start))
    if len(parts) >= _MOST_BOXES:
        return True
    groups = sum(end - start for kind, start, end in parts if kind == b"grpl")
    references = (span for kind, *span in parts if kind == b"iref")
    return (
        groups > _MOST_GROUPS
        or sum(_count_described(content, *span) for span in references) > _MOST_DESCRIBED
    )


def _count_described(file: IO[bytes], start: int, end: int) -> int:
    """Returns how many pictures the metadata belong to, by the references from them."""
    file.seek(start)
    wide = file.read(1) != b"\0"  # the version: identifiers have 16 or 32 bits
    total = 0
    for kind, at, _ in _boxes(file, start + 4, end):
        file.seek(at + (4 if wide else 2))
        if kind == b"cdsc":
            total += int.from_bytes(file.read(2), "big")
    return total


def _boxes(file: IO[bytes], at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and end of the boxes in a part of a file, as far as they are whole."""
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if at + 8 > end or len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        start = at + 8
        if length == 1 and len(head) == 16:
            length, start = int.from_bytes(head[8:], "big"), at + 16
        following = at + length if length else end  # 0: up to the end
        if not start <= following <= end:
            return  # damaged: the decoder reports it
        yield kind, start, following
        at = following
