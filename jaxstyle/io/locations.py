"""Files that are not on this machine: addresses of object stores and web servers.

`locate` alone makes a `URL` of a text. A function that is given a text therefore never connects to
anything: it takes it for a path. `remote` makes the requests, and alone imports fsspec.

Credentials are found by fsspec. Whatever shows a `URL`, such as a message or a JSON file, gets its
text, in which a password and a query are left out.
"""

import io
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from jaxstyle.io import remote
from jaxstyle.io.errors import InputError, closest

SCHEMES = {"s3": "s3", "gs": "gcs", "hf": "hf", "http": "http", "https": "http"}
"""The addresses that can be read, and the extra that each needs."""
_READ_ONLY = ("http", "https", "hf")
_START = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SECRET = re.compile(
    r"(?P<start>\b[A-Za-z][A-Za-z0-9+.-]+://)"
    r"(?P<user>[^\s/?#@'\"]*@|[^\s/?#:@'\"]*:(?!\d+/)[^\s?#@'\"]*@)?"
    r"(?P<path>[^\s?'\"]*)(?P<query>\?[^\s'\"]*)?"
)
_HEAD = 2**18  # bytes that are read first; the header of most pictures is shorter
_MOST_BYTES = 2**31  # of a file; the largest TIFF that is read has 1.4 GB


def is_url(text: str) -> bool:
    """Whether a text is the address of something, and no path."""
    return _START.match(text) is not None


def redact(text: str) -> str:
    """Returns a text without the passwords and queries of the addresses in it."""
    if "://" not in text:
        return text

    def shown(found: re.Match[str]) -> str:
        user, query = found["user"] and "***@", found["query"] and "?***"
        return f"{found['start']}{user or ''}{found['path']}{query or ''}"

    return _SECRET.sub(shown, text)


class URL(os.PathLike[str]):
    """The address of a file or a folder, with the methods of a `Path` that this package uses.

    Its text is not the whole address, see above, so it cannot be opened by it.
    """

    __slots__ = ("_base", "_path", "_query")

    def __init__(self, base: str, path: str, query: str = "") -> None:
        """Makes an address; `locate` is for texts.

        Args:
            base: scheme and host or bucket, such as `s3://bucket`.
            path: below it, without a slash in front.
            query: of a web server, with its question mark.
        """
        self._base, self._path, self._query = base, path, query

    @property
    def scheme(self) -> str:
        """Such as `s3`."""
        return self._base.partition(":")[0]

    @property
    def _address(self) -> str:
        """The whole address, which must not be shown."""
        return f"{self._base}/{self._path}{self._query}".rstrip("/")

    def __str__(self) -> str:
        return redact(self._address)

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"URL({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and self._address == other._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __truediv__(self, text: str) -> "URL":
        path = posixpath.normpath(posixpath.join("/", self._path, text))
        return URL(self._base, path.lstrip("/"))

    @property
    def name(self) -> str:
        """Its last part."""
        return posixpath.basename(self._path)

    @property
    def suffix(self) -> str:
        """The extension of its name."""
        return posixpath.splitext(self._path)[1]

    @property
    def stem(self) -> str:
        """Its name without the extension."""
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> "URL":
        """The folder that it is in."""
        return URL(self._base, posixpath.dirname(self._path))

    def with_name(self, name: str) -> "URL":
        """Returns a file in the same folder."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> "URL":
        """Returns a file of the same name with another extension."""
        return self.with_name(self.stem + suffix)

    def relative_to(self, folder: "URL") -> str | None:
        """Returns the path from a folder to this file, None for one on another host."""
        if self._base != folder._base:
            return None
        return posixpath.relpath(f"/{self._path}", f"/{folder._path}")

    def exists(self) -> bool:
        """Whether there is such a file, see `status`."""
        return self.status(fresh=True) is not None

    def is_file(self) -> bool:
        """Whether there is such a file, as far as is known from the last listing, or else now."""
        return self.status() is not None

    def is_dir(self) -> bool:
        """Whether it can be a folder, as any can: those of object stores are not made."""
        return True

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: folders of object stores are not made."""

    def iterdir(self) -> "Iterator[URL]":
        """Yields the files in the folder and below."""
        for url, _ in self.files():
            yield url

    def resolve(self) -> "URL":
        """Returns itself."""
        return self

    def absolute(self) -> "URL":
        """Returns itself."""
        return self

    def check_scheme(self, *, write: bool = False) -> None:
        """Checks that such addresses can be read, or written.

        Raises:
            InputError: if not, with what to install.
        """
        if write and self.scheme in _READ_ONLY:
            raise InputError(f"{str(self)!r} can only be read; write to a path, s3:// or gs://")
        remote.file_system(self.scheme, SCHEMES[self.scheme])

    def status(self, *, fresh: bool = False) -> "remote.Status | None":
        """Returns size and version of the file; None if there is none.

        Args:
            fresh: asks the server, also if it was asked some seconds ago.

        Raises:
            InputError: the server does not answer, or refuses.
        """
        return self._store.status(self._address, str(self), fresh)

    def open(self) -> BinaryIO:
        """Opens the file for reading. Its first part is read at once, the rest if it is needed.

        Raises:
            InputError: there is none, it is empty or too large, or the server does not answer.
        """
        return cast(BinaryIO, _RemoteFile(self, self.check_source()))

    def check_source(self) -> "remote.Status":
        """Returns size and version of a file that can be read.

        Raises:
            InputError: there is none, it is empty or too large, or the server does not answer.
        """
        status = self.status()
        if status is None:
            raise InputError(f"{str(self)!r} does not exist; check the address")
        if status.size == 0:
            raise InputError(f"{str(self)!r} is empty; check the address")
        if (status.size or 0) > _MOST_BYTES:
            raise InputError(f"{str(self)!r} has more than 2 GiB; make the image smaller")
        return status

    def fetch(self, status: "remote.Status", most: int | None = None) -> bytes:
        """Returns the bytes of the file, or its first `most`.

        Raises:
            InputError: as `open`.
        """
        return self._store.read(self._address, str(self), status, most, _MOST_BYTES)

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Writes the file, whole or not at all.

        Raises:
            InputError: the server does not answer, or refuses.
        """
        self.check_scheme(write=True)
        self._store.write(self._address, str(self), bytes(data))

    def check_target(self) -> None:
        """Checks that the file can be written, as far as one can know without writing.

        Raises:
            InputError: its bucket does not exist or refuses, or its server does not answer.
        """
        self.check_scheme(write=True)
        if self._store.is_folder(self._base, redact(self._base)) is False:
            raise InputError(f"{redact(self._base)!r} does not exist; make the bucket first")
        self.status()

    def files(self) -> "Iterator[tuple[URL, remote.Status]]":
        """Yields all files in the folder and below, with their size and version.

        Raises:
            InputError: the server does not answer, or refuses.
        """
        for address, status in self.list().items():
            yield URL(self._base, address.removeprefix(f"{self._base}/")), status

    def list(self) -> "dict[str, remote.Status]":
        """Asks for all files in the folder and below, which `is_file` then knows; see `files`."""
        return self._store.files(self._address, str(self))

    @property
    def _store(self) -> "remote.Store":
        return remote.store(self.scheme, SCHEMES[self.scheme])


Location: TypeAlias = Path | URL
"""Where a file is: on this machine or elsewhere."""


def locate(text: str | os.PathLike[str], folder: Location | None = None) -> Location:
    """Returns what a text of a user means: a path, or an address.

    Args:
        text: of a command line or a manifest.
        folder: what a relative path starts from.

    Raises:
        InputError: for an address of a kind that cannot be read, or one with a password.
    """
    if isinstance(text, URL):
        return text
    text = os.fspath(text)
    start = _START.match(text)
    if start is None:
        if isinstance(folder, URL) and not os.path.isabs(text):
            return folder / text
        return Path(text) if folder is None or isinstance(folder, URL) else folder / text
    scheme = start[1].lower()
    shown = repr(redact(text))
    if scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        near = closest(scheme, SCHEMES)
        raise InputError(f"{shown:.200} cannot be read; give a path or an address of {known}{near}")
    host, _, path = text[start.end() :].partition("/")
    query = ""
    if scheme in ("http", "https"):
        path, mark, rest = path.partition("#")[0].partition("?")
        query = mark + rest
    elif redact(text).startswith(f"{start[0]}***@"):
        raise InputError(f"{shown:.200}: leave out the keys; {scheme}:// finds them by itself")
    if not host or "\0" in text or not text.isprintable():
        raise InputError(f"{shown:.200} is no address; give {scheme}://HOST/PATH")
    normal = posixpath.normpath(posixpath.join("/", path)).lstrip("/")
    return URL(f"{scheme}://{host}", normal, query)


class _RemoteFile(io.RawIOBase):
    """A file elsewhere, in memory as far as it is needed: its head, or all of it."""

    def __init__(self, url: URL, status: "remote.Status") -> None:
        self._url, self._status, self._at = url, status, 0
        self._data = url.fetch(status, _HEAD)
        # Whether that is all of it: a server may not say the size.
        self._whole = len(self._data) < _HEAD

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset += self._size()
        elif whence == os.SEEK_CUR:
            offset += self._at
        if offset < 0:
            raise ValueError("negative seek position")
        self._at = offset
        return offset

    def read(self, size: int | None = -1) -> bytes:
        end = self._size() if size is None or size < 0 else self._at + size
        if end > len(self._data) and not self._whole:
            self._read_all()
        part = self._data[self._at : end]
        self._at += len(part)
        return part

    def readinto(self, buffer: Any) -> int:
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def _size(self) -> int:
        if self._status.size is None and not self._whole:
            self._read_all()
        return len(self._data) if self._whole else self._status.size or 0

    def _read_all(self) -> None:
        self._data, self._whole = self._url.fetch(self._status), True
