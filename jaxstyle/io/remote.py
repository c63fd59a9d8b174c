"""Requests to object stores and web servers by fsspec: bounded, and tried again if they fail.

Addresses are whole here, with what must not be shown. Every message is made by `remote_errors`.
"""

import errno
import functools
import random
import threading
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from jaxstyle.io.errors import InputError
from jaxstyle.io.remote_errors import (
    explain,
    has_answered,
    is_missing,
    is_temporary,
    is_unreachable,
)

_Any = TypeVar("_Any")

_CONNECT, _READ = 4.0, 30.0  # seconds until an attempt fails
_PATIENCE, _FIRST_PATIENCE = 60.0, 8.0  # seconds of attempts: of a server that has answered before
_GRACE, _SLOWEST = 30.0, 2**13  # seconds, and then bytes a second, that a server must send
_LONGEST_WAIT = 8.0  # seconds between two attempts
_REMEMBERED = 60.0  # seconds that a size and a version are known
_MOST_STATUSES = 2**17
_MOST_KEPT = 2**27  # bytes in memory: a painting that many pairs have is read once
_LARGEST_KEPT = 2**24  # of a file
_PART = 2**20


class Status(NamedTuple):
    """What a server says of a file."""

    size: int | None
    """In bytes; None if the server does not say."""
    version: str | None
    """Changes with the content: often an MD5 in hexadecimal, else a time. None if not known."""
    modified: str = ""
    """When it was written; later times are greater. Empty if the server does not say."""


def file_system(scheme: str, extra: str) -> Any:
    """Returns the file system of fsspec for a scheme, connected with what fsspec finds.

    Raises:
        InputError: its package is not installed.
    """
    try:
        return _file_system(scheme)
    except ImportError:
        raise InputError(
            f"{scheme}:// needs another package: install it with pip install 'jaxstyle[{extra}]'"
        ) from None
    except Exception as error:  # such as credentials that are no JSON
        raise InputError(f"{scheme}:// cannot be used: {explain(error)}") from None


@functools.cache
def _file_system(scheme: str) -> Any:
    import fsspec  # noqa: PLC0415  optional

    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in ("http", "https"):
        import aiohttp  # noqa: PLC0415  optional

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_READ)
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    elif scheme == "s3":
        own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        limits = {"connect_timeout": _CONNECT, "read_timeout": _READ}
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, **limits, **own}
        options["max_concurrency"] = 1
    found = fsspec.filesystem(scheme, **options)
    if scheme == "s3":
        found.retries = 1  # ours are enough
    return found


@functools.cache
def store(scheme: str, extra: str) -> "Store":
    """Returns what reads and writes files of a scheme.

    Raises:
        InputError: its package is not installed.
    """
    return Store(file_system(scheme, extra), scheme)


class Store:
    """The files of a scheme. Threads may use it at the same time.

    Args:
        files: of fsspec.
        scheme: such as `s3`.
    """

    def __init__(self, files: Any, scheme: str) -> None:
        self._files, self._scheme = files, scheme
        self._lock = threading.Lock()
        self._statuses: OrderedDict[str, tuple[float, Status]] = OrderedDict()
        self._kept: OrderedDict[tuple[str, Status], bytes] = OrderedDict()
        self._bytes = 0  # of them
        self._hosts = set[str]()  # that have answered
        self._folders: dict[str, bool] = {}
        self._listings: dict[str, dict[str, Status]] = {}
        self._newer = set[str]()  # what was written, or asked for afresh, since then

    def status(self, address: str, shown: str, fresh: bool) -> Status | None:
        """Returns what the server says of a file, None if there is none."""
        if not fresh:
            with self._lock:
                then, known = self._statuses.get(address, (0.0, None))
                for folder, listed in self._listings.items():
                    if address.startswith(folder) and address not in self._newer:
                        return listed.get(address)
            if known is not None and time.monotonic() - then < _REMEMBERED:
                return known
        info = self._try(address, shown, lambda: self._files.info(address, **self._limit(0)))
        with self._lock:
            self._newer.add(address)
            self._statuses.pop(address, None)
        if info is None or info.get("type") == "directory":
            return None
        status = _status(info)
        with self._lock:
            self._statuses[address] = time.monotonic(), status
            if len(self._statuses) > _MOST_STATUSES:
                self._statuses.popitem(last=False)
        return status

    def is_folder(self, address: str, shown: str) -> bool:
        """Whether there is a bucket; asked once."""
        if address not in self._folders:
            info = self._try(address, shown, lambda: self._files.info(address, **self._limit(0)))
            self._folders[address] = info is not None
        return self._folders[address]

    def read(self, address: str, shown: str, status: Status, most: int | None, limit: int) -> bytes:
        """Returns the first `most` bytes of a file, or all.

        Raises:
            InputError: there are more than `limit`, or fewer than the server has said.
        """
        key = (address, status)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known[:most]
        data = self._try(
            address, shown, lambda: self._read(address, status, limit + 1 if most is None else most)
        )
        if data is None:
            raise InputError(f"{shown!r} does not exist any more; start again")
        if len(data) > limit:
            raise InputError(f"{shown!r} has more than {limit >> 20} MiB; make it smaller")
        if status.version is not None and (most is None or len(data) < most):
            self._keep(key, data)
        return data

    def _read(self, address: str, status: Status, most: int) -> bytes:
        if self._scheme not in ("http", "https"):
            # The size is known, so that the store does not send more than that.
            end = None if status.size is not None and status.size <= most else most
            start = None if end is None else 0
            limit = self._limit(most if status.size is None else min(status.size, most))
            data = bytes(self._files.cat_file(address, start=start, end=end, **limit))
            if end is None and len(data) != status.size:
                raise ConnectionError("the file was replaced, or the answer is not whole")
            return data
        # A web server may send without an end, whatever size it has said.
        parts, left, begin = [], most, time.monotonic()
        with self._files.open(address, block_size=0, size=1) as file:
            while left and (part := file.read(min(left, _PART))):
                parts.append(part)
                left -= len(part)
                if time.monotonic() - begin > _seconds(most - left):
                    raise TimeoutError
        return b"".join(parts)

    def _limit(self, size: int) -> dict[str, float]:
        """Returns how long a request for that many bytes may take, for the stores that know it."""
        return {"timeout": _seconds(size)} if getattr(self._files, "async_impl", False) else {}

    def _keep(self, key: tuple[str, Status], data: bytes) -> None:
        if len(data) > _LARGEST_KEPT:
            return
        with self._lock:
            self._bytes += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self._bytes > _MOST_KEPT:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def write(self, address: str, shown: str, data: bytes) -> None:
        """Writes a file by a single put; one that is new never replaces another."""
        there = self.status(address, shown, True) is not None
        mode = {} if there or self._scheme not in ("s3", "gs") else {"mode": "create"}

        limit = self._limit(len(data))

        def put() -> bool:
            exists = False
            try:
                self._files.pipe_file(address, data, **mode, **limit)
            except FileExistsError:
                exists = True
            except OSError as error:
                if not mode or error.errno != errno.ENOSYS:
                    raise
            else:
                return True
            # Not in the handlers above: a connection that breaks here has nothing to do with those.
            if not exists:
                mode.clear()  # some stores do not know of it
                self._files.pipe_file(address, data, **limit)
            elif bytes(self._files.cat_file(address, **limit)) != data:
                # Or else it is ours: the answer to an earlier attempt was lost.
                raise FileExistsError(address)
            return True

        if self._try(address, shown, put) is None:
            raise InputError(f"cannot write {shown!r}: there is no such bucket; check the address")
        with self._lock:
            self._statuses.pop(address, None)
            self._newer.add(address)

    def files(self, folder: str, shown: str) -> dict[str, Status]:
        """Returns the addresses of all files below a folder, and what the server says of them.

        From then on `status` knows them, and those that are not there, unless it is asked afresh.
        """
        start, _, bucket = folder.partition("://")
        bucket = bucket.partition("/")[0]
        found = self._try(folder, shown, lambda: self._files.find(folder, detail=True)) or {}
        listed = {
            f"{start}://{bucket}/{path.lstrip('/').removeprefix(f'{bucket}/')}": _status(info)
            for path, info in found.items()
        }
        with self._lock:
            self._listings[f"{folder}/"] = listed
            self._newer.clear()
        return listed

    def _try(self, address: str, shown: str, request: Callable[[], _Any]) -> _Any | None:
        """Returns what a request returns, None if there is no such file.

        Raises:
            InputError: it fails, also when tried again.
        """
        host = address.split("/", 3)[2]
        begin, wait = time.monotonic(), 0.1
        while True:
            try:
                answer = request()
            except Exception as error:
                if is_missing(error):
                    return None
                passed = time.monotonic() - begin
                known = has_answered(error) or (host in self._hosts and not is_unreachable(error))
                patience = _PATIENCE if known else _FIRST_PATIENCE
                if not is_temporary(error) or passed + wait > patience:
                    raise InputError(f"{shown!r}: {explain(error)}") from None
                time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  so that not all come at once
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                self._hosts.add(host)
                return answer


def _seconds(size: int) -> float:
    return _GRACE + size / _SLOWEST


def _status(info: dict[str, Any]) -> Status:
    """Returns what fsspec says of a file, which each file system names in its own way."""
    size = info.get("size")
    versions = ("ETag", "etag", "sha256", "blob_id")
    version = next((str(info[key]).strip('"') for key in versions if info.get(key)), None)
    if digest := info.get("md5Hash"):
        version = b64decode(digest).hex()
    times = ("LastModified", "updated", "last_modified", "Last-Modified", "mtime", "created")
    modified = next((info[key] for key in times if info.get(key)), "")
    if hasattr(modified, "timestamp"):
        modified = modified.timestamp()
    text = f"{modified:020.6f}" if isinstance(modified, float) else str(modified)
    return Status(None if size is None else int(size), version or text or None, text)
