"""Fingerprints of files: size, SHA-256, and times, which save reading an unchanged file again.

Object stores and web servers give each content a version, which is taken for its hash.
"""

import functools
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import check_source, sha256_of
from jaxstyle.io.locations import URL, Location


def fingerprint(path: Location) -> dict[str, Any]:
    """Returns size, SHA-256 and times of last change of a file, for JSON.

    Args:
        path: a regular file.

    Raises:
        InputError: it cannot be read.
        OSError: it cannot be read.
    """
    if isinstance(path, URL):
        found = path.check_source()
        if found.version is not None:
            return {"bytes": found.size, "version": found.version}
        return {"bytes": found.size, "sha256": sha256_of(path)}
    check_source(path)
    status = os.stat(path)
    return {
        "bytes": status.st_size,
        "sha256": _sha256(path, *_times(status)),
        "times": _times(status),
    }


def hashes_of(path: Location, data: bytes) -> dict[str, str]:
    """Returns the hashes of what is written to a file, for the JSON next to it.

    Args:
        path: the file. For one in an object store there is the hash that most stores list, too.
        data: all of its content.
    """
    hashes = {"sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(path, URL):
        hashes["md5"] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return hashes


def is_unchanged(path: Location, found: Any) -> bool:
    """Whether a file still has the content that it had for `fingerprint`.

    The hash is computed only if the times differ, such as after a copy.

    Args:
        path: any path.
        found: what `fingerprint` returned; nothing else matches a file.
    """
    if not isinstance(found, dict):
        return False
    if isinstance(path, URL):
        return _is_unchanged_elsewhere(path, found)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or found.get("bytes") != status.st_size:
            return False
        times = _times(status)
        return found.get("times") == times or found.get("sha256") == _sha256(path, *times)
    except (OSError, ValueError):
        return False


def _is_unchanged_elsewhere(path: URL, found: dict[str, Any]) -> bool:
    try:
        status = path.status()
        if status is None or found.get("bytes") != status.size:
            return False
        if "version" in found:
            return bool(found["version"] == status.version)
        return "sha256" in found and bool(found["sha256"] == sha256_of(path))
    except InputError:
        return False


def _times(status: os.stat_result) -> list[int]:
    # Setting the time of a file back changes the time of its inode.
    return [status.st_mtime_ns, status.st_ctime_ns]


@functools.lru_cache(maxsize=65536)
def _sha256(path: Path, *_: int) -> str:
    """The SHA-256 of a file, which is read once as long as its times stay the same."""
    return sha256_of(path)
