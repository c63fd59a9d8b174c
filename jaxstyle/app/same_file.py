"""When two names mean the same file: links, hard links, and file systems that ignore case."""

import functools
import os
import unicodedata
from pathlib import Path
from typing import TypeAlias

from jaxstyle.io.locations import URL, Location

FileKey: TypeAlias = tuple[object, str]


def file_of(path: Location) -> tuple[int, int] | None:
    """Returns a key that two names of one file share; None for one that is not here."""
    if isinstance(path, URL):
        return None
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def location_of(path: Location) -> FileKey:
    """Returns a key that two names share if writing to them would write the same file."""
    return Locator()(path)


class Locator:
    """Finds the keys of many files, for which it looks at each of their folders once."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[object, bool, bool]] = {}

    def __call__(self, path: Location) -> FileKey:
        """Returns a key that two names share if writing to them would write the same file."""
        if isinstance(path, URL):
            return str(path.parent), path.name
        folder, name = os.path.split(path)
        found = self._folder(folder)
        if name in ("", ".", "..") or (found[1] and os.path.islink(path)):
            folder, name = os.path.split(os.path.realpath(path))
            found = self._folder(folder)
        key, _, folds_case = found
        return key, unicodedata.normalize("NFC", name).casefold() if folds_case else name

    def links_of(self, path: Location) -> set[tuple[int, int]]:
        """Returns the key of a file that has several names, in a set that is empty for others."""
        if isinstance(path, URL) or not self._folder(os.path.dirname(path))[1]:
            return set()
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return set()
        return {(status.st_dev, status.st_ino)} if status.st_nlink > 1 else set()

    def _folder(self, folder: str) -> tuple[object, bool, bool]:
        """Returns the key of a folder, whether it is there, and whether it ignores case."""
        if folder not in self._folders:
            real = Path(os.path.realpath(folder))
            file = file_of(real)
            self._folders[folder] = file or str(real), file is not None, folds_case(real)
        return self._folders[folder]


@functools.lru_cache(maxsize=1024)
def folds_case(folder: Path) -> bool:
    """Whether the file system treats `A` and `a` as the same name; tested on a folder above."""
    for existing in (folder, *folder.parents):
        swapped = existing.with_name(existing.name.swapcase()) if existing.name else existing
        if swapped != existing and existing.exists():
            return swapped.exists() and swapped.samefile(existing)
    return False
