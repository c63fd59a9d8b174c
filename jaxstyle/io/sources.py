"""Where a picture is read from and written to: a path, bytes, or a binary file that is open.

Who may replace what (`ownership`) is a question of paths: an open file is its owner's.
"""

import errno
import functools
import inspect
import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeGuard

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import PathType, describe_path, open_source
from jaxstyle.io.locations import URL

SourceType: TypeAlias = PathType | bytearray | memoryview | BinaryIO
TargetType: TypeAlias = PathType | BinaryIO

_MOST_BYTES = 2**31  # of an object: the largest TIFF that is read has 1.4 GB
_LONGEST_PATH = 4096


class Source(NamedTuple):
    """A file to read."""

    name: str
    """Quoted, for messages."""
    extension: str
    """Of its name, such as `.tif`; empty without one."""
    open: Callable[[], BinaryIO]
    """Returns the file at its start; each time another one."""


def find_source(file: SourceType) -> Source:
    """Returns what to read for a path, the bytes of a file, or an open binary file.

    An open file is read as a whole: from its start if it can seek, or else from where it is. Bytes
    are a path if they can be one: no path has a NUL byte, and nearly every picture has.

    Raises:
        InputError: for another type, a file in text mode, an object without bytes or with too many.
        OSError: what the object's own `read` raises.
    """
    if callable(getattr(file, "read", None)):
        content = _read(file)
    elif isinstance(file, bytearray | memoryview) or _is_content(file):
        content = bytes(file)
    else:
        path: Any = file
        name = describe_path(path)
        extension = path.suffix if isinstance(path, URL) else _extension(path)
        return Source(name, extension, functools.partial(open_source, path))
    name, extension = describe_object(file)
    if not content:
        raise InputError(f"{name} is empty; check where it comes from")
    return Source(name, extension, functools.partial(io.BytesIO, content))


def is_path(value: object) -> TypeGuard[PathType]:
    """Whether a value is of a type that paths have."""
    return isinstance(value, str | bytes | os.PathLike)


def describe_object(file: object) -> tuple[str, str]:
    """Returns an open file's name for messages, and the extension of its own name."""
    name = getattr(file, "name", None)  # of a pipe or a socket it is a number
    if not isinstance(name, str | bytes) or not name:
        return f"the {type(file).__name__} object", ""
    return describe_path(name), _extension(name)


def _extension(path: PathType) -> str:
    return os.path.splitext(os.fsdecode(path))[1]


def write_object(file: Any, data: bytes) -> None:
    """Writes all of `data` where an open binary file stands, and leaves it open.

    Raises:
        InputError: for a file in text mode.
        OSError: what the object's own `write` raises.
    """
    if isinstance(file, io.TextIOBase):
        raise InputError(f"{describe_object(file)[0]} is open as text; open it in mode 'wb'")
    if not isinstance(file, io.RawIOBase):
        file.write(data)
        return
    left = memoryview(data)
    while left:
        written = file.write(left)  # a raw file may write less than it is given
        if not written:
            raise OSError(errno.EAGAIN, f"{describe_object(file)[0]} takes no more bytes for now")
        left = left[written:]


def _is_content(value: Any) -> TypeGuard[bytes]:
    if not isinstance(value, bytes):
        return False
    # An empty answer or a page with an error is more likely than a path like that.
    return not value or b"\0" in value or len(value) > _LONGEST_PATH or value.lstrip()[:1] == b"<"


def _read(file: Any) -> bytes:
    name, _ = describe_object(file)
    if isinstance(file, io.TextIOBase):
        raise InputError(f"{name} is open as text; open it in mode 'rb'")
    if getattr(file, "seekable", bool)():
        file.seek(0)  # as Pillow does: somebody who has just written it stands at its end
    parts, length = [], 0
    while part := file.read(2**20):
        if not isinstance(part, bytes | bytearray | memoryview):
            if inspect.iscoroutine(part):
                part.close()  # or Python warns that nobody awaits it
            raise InputError(
                f"{name} reads {type(part).__name__} instead of bytes; give a binary file that is "
                "read without await, such as the `file` of an upload"
            )
        parts.append(part)
        length += len(part)
        if length > _MOST_BYTES:
            raise InputError(f"{name} has more than 2 GiB; make the image smaller")
    return b"".join(parts)
