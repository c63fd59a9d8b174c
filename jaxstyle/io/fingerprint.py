"""Fingerprints of files: size, SHA-256, and times, which save reading an unchanged file again."""

import functools
import os
import stat
from pathlib import Path
from typing import Any

from jaxstyle.io.files import check_source, sha256_of


def fingerprint(path: Path) -> dict[str, Any]:
    """Returns size, SHA-256 and times of last change of a file, for JSON.

    Args:
        path: a regular file.

    Raises:
        InputError: it cannot be read.
        OSError: it cannot be read.
    """
    check_source(path)
    status = os.stat(path)
    return {
        "bytes": status.st_size,
        "sha256": _sha256(path, *_times(status)),
        "times": _times(status),
    }


def is_unchanged(path: Path, found: Any) -> bool:
    """Whether a file still has the content that it had for `fingerprint`.

    The hash is computed only if the times differ, such as after a copy.

    Args:
        path: any path.
        found: what `fingerprint` returned; nothing else matches a file.
    """
    if not isinstance(found, dict):
        return False
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or found.get("bytes") != status.st_size:
            return False
        times = _times(status)
        return found.get("times") == times or found.get("sha256") == _sha256(path, *times)
    except (OSError, ValueError):
        return False


def _times(status: os.stat_result) -> list[int]:
    # Setting the time of a file back changes the time of its inode.
    return [status.st_mtime_ns, status.st_ctime_ns]


@functools.lru_cache(maxsize=65536)
def _sha256(path: Path, *_: int) -> str:
    """The SHA-256 of a file, which is read once as long as its times stay the same."""
    return sha256_of(path)
