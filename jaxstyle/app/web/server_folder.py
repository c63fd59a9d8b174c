"""The temporary folder of the live page's server; visitors' files are removed with it."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_PREFIX = "jaxstyle-page-"
_MARK = ".jaxstyle-page"  # locked while the server runs
VISIT = "visit-"
"""The folder of a visitor begins with it."""
_BLOCK = 4096  # bytes, of common file systems
# Seconds after which nobody uses it any more.
_AGE_OF_A_VISIT = 24 * 3600
_AGE_OF_UPLOADS = 6 * 3600


@contextlib.contextmanager
def server_folder() -> Iterator[Path]:
    """Yields a new folder, removed at the end; removes those that killed servers have left too."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_abandoned(folder)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    mark = (folder / f"{_MARK}.new").open("w")
    try:
        # It gets its name once it is locked, or another server would find it abandoned.
        with contextlib.suppress(OSError):
            _lock(mark)
            os.rename(mark.name, folder / _MARK)
        yield folder
    finally:
        remove(folder)
        mark.close()


def _remove_abandoned(folder: Path) -> None:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    try:
        status = folder.lstat()
        if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
            return
        with open(os.open(folder / _MARK, flags), "w") as mark:
            _lock(mark)
            if not folder.is_symlink():
                remove(folder)
    except OSError:  # it belongs to somebody else, or its server runs
        pass


def _lock(mark: IO[str]) -> None:
    try:
        import fcntl  # noqa: PLC0415  not on Windows
    except ImportError:
        raise OSError("without locks no folder counts as abandoned") from None
    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove(folder: Path) -> None:
    """Removes a folder of the server, file by file; links are removed, not followed."""
    for path, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(path, name))
        for name in folders:
            with contextlib.suppress(OSError):
                inside = os.path.join(path, name)
                os.unlink(inside) if os.path.islink(inside) else os.rmdir(inside)
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove_old(folder: Path) -> None:
    """Removes visits and uploads that have not been used for long.

    Gradio forgets a visitor some time after the page is closed, but not one who never opened it,
    such as a program.
    """
    now = time.time()
    for path in folder.iterdir():
        age = _AGE_OF_A_VISIT if path.name.startswith(VISIT) else _AGE_OF_UPLOADS
        with contextlib.suppress(OSError):
            # A folder is as new as the last file that was made in it, at any depth.
            inside = [each for each, _, _ in os.walk(path)] or [str(path)]
            if path.name == _MARK or now - max(os.lstat(each).st_mtime for each in inside) < age:
                continue
            if path.is_dir() and not path.is_symlink():
                remove(path)
            else:
                path.unlink()


def bytes_in(folder: Path) -> int:
    """Returns what a folder takes on disk: each file and each folder in it takes whole blocks."""
    total = 0
    for path, folders, files in os.walk(folder):
        total += len(folders) * disk_bytes(0)
        for name in files:
            with contextlib.suppress(OSError):
                total += disk_bytes(os.lstat(os.path.join(path, name)).st_size)
    return total


def disk_bytes(size: int) -> int:
    """Returns what a file of `size` bytes takes on disk."""
    return max(-(-size // _BLOCK), 1) * _BLOCK
