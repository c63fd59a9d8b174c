"""Whether jaxstyle has written a file: the content of every file that it writes says so."""

import json
import os
import re
import struct
from typing import BinaryIO

from jaxstyle import __version__
from jaxstyle.io.files import PathType, open_source
from jaxstyle.io.image_metadata import read_exif
from jaxstyle.io.images import open_image
from jaxstyle.io.sources import find_source

GENERATOR = f"jaxstyle {__version__}"
"""The mark: `Software` of a picture, `generator` of JSON, HTML, journals and safetensors."""

_MARK = "jaxstyle "  # of any version
_HEAD = 4096  # bytes in which the mark of a text must be
_HEADER = 2**26  # maximum bytes of a safetensors header
_SOFTWARE = 305  # the tag in TIFF and EXIF
_PICTURES = (b"\x89PNG", b"\xff\xd8", b"II*\0", b"MM\0*", b"RIFF")
_JSON = re.compile(rb'\s*\{\s*"generator"\s*:\s*"jaxstyle ')
_HTML = re.compile(rb'<meta name="generator" content="jaxstyle ')


def is_ours(path: PathType) -> bool:
    """Whether the content of a file says that jaxstyle has written it.

    Reads headers only. A file that is missing, damaged, not regular or foreign is not ours.

    Args:
        path: any path.
    """
    try:
        with open_source(path) as file:
            head = file.read(_HEAD)
            if head.startswith(_PICTURES) or head[4:8] == b"ftyp":
                return _is_picture_of_ours(path)
            if head.lower().startswith(b"<!doctype html"):
                return _HTML.search(head) is not None
            return _JSON.match(head) is not None or _is_safetensors_of_ours(file)
    except Exception:  # on hostile bytes the decoders of pictures may raise anything
        return False


def _is_picture_of_ours(path: PathType) -> bool:
    with open_image(find_source(path)) as image:
        is_png = image.format == "PNG"
        software = image.info.get("Software") if is_png else read_exif(image).get(_SOFTWARE)
    return isinstance(software, str) and software.startswith(_MARK)


def _is_safetensors_of_ours(file: BinaryIO) -> bool:
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if not 2 <= length <= min(_HEADER, file.seek(0, os.SEEK_END)):
        return False
    file.seek(8)
    header = json.loads(file.read(length))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    mark = metadata.get("generator") if isinstance(metadata, dict) else None
    return isinstance(mark, str) and mark.startswith(_MARK)
