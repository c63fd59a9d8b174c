"""Fingerprints of files: size and SHA-256, and the times that spare reading it again."""

import functools
import os
import stat
from pathlib import Path
from typing import Any

from jaxstyle.io.files import check_source, sha256_of


def fingerprint(path: Path) -> dict[str, Any]:
    """Returns the size of a file, its SHA-256, and when it was changed last; for JSON.

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
    """Tells whether a file has the content that `fingerprint` has found before.

    Its hash is computed only where the times differ: after a copy, or where somebody has written
    to it.

    Args:
        path: any path.
        found: what `fingerprint` returned; anything else is told from every file.
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
    # Whoever changes a file and puts its time back still leaves another time of its inode.
    return [status.st_mtime_ns, status.st_ctime_ns]


@functools.lru_cache(maxsize=65536)
def _sha256(path: Path, *_: int) -> str:
    """The SHA-256 of a file; read once, as long as its times stay."""
    return sha256_of(path)
