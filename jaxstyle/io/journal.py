"""The journal of a batch: one JSON object per line, appended once a picture is on disk.

Every line has a checksum, so a damaged line is detected. If the program was killed while it wrote a
line, the next start removes that line. Each slice of a batch has its own journal: lines are lost if
several machines append to one file. A run reads the journals of all slices.
"""

import contextlib
import errno
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error, describe_path, write_atomically
from jaxstyle.io.json_file import checksum
from jaxstyle.io.ownership import GENERATOR

_NAMES = re.compile(r"journal(-\d+-of-\d+)?\.jsonl")
_FORMAT = 2
_LONGEST_HEADER = 1024  # bytes
_LATEST = 1e11  # seconds since 1970


def journal_path(folder: Path, index: int = 1, number: int = 1) -> Path:
    """Returns the journal of slice `index` of `number`, counted from 1."""
    name = "" if number == 1 else f"-{index}-of-{number}"
    return folder / f"journal{name}.jsonl"


def journals_in(folder: Path) -> list[str]:
    """Returns the names of the journals of all slices.

    Raises:
        InputError: if the folder cannot be read.
    """
    try:
        return sorted(filter(_NAMES.fullmatch, os.listdir(folder)))
    except OSError as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot read the journals in {describe_path(folder)} ({describe_error(error)}); choose "
        "another --output-dir"
    )


class Journal:
    """A journal to which `add` writes, and the entries of all journals in its folder.

    Attributes:
        entries: output -> its latest entry, from all journals of the folder.
    """

    def __init__(self, path: Path) -> None:
        """Reads `path` and the other journals in its folder; `add` creates `path` if missing.

        Args:
            path: from `journal_path`.

        Raises:
            InputError: a journal cannot be read or written, is another program's file, or has a
                damaged line. Such a file is not changed.
        """
        self._path = path
        self._header = {"generator": GENERATOR, "journal": _FORMAT}
        self._size = 0  # of the file after our last write
        self._own: dict[str, Mapping[str, Any]] = {}  # entries of this file
        self.entries: dict[str, Mapping[str, Any]] = {}
        folder = path.parent
        for each in journals_in(folder):
            try:
                self._read(folder / each)
            except OSError as error:
                raise _unreadable(folder, error) from None

    def _read(self, path: Path) -> None:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(
                f"{describe_path(path)} is a link, a folder or a device, not a journal; move it "
                "away, or choose another --output-dir"
            )
        if status.st_size == 0:
            return
        with path.open("rb") as file:
            line = file.readline(_LONGEST_HEADER)
            header = _parse(line)
            if header is None or "journal" not in header or not line.endswith(b"\n"):
                raise InputError(
                    f"{describe_path(path)} is not a journal of jaxstyle, or its first line is "
                    "damaged; move it away, or choose another --output-dir"
                )
            if header["journal"] != _FORMAT:
                raise InputError(
                    f"{describe_path(path)} is a journal of another version of jaxstyle; choose "
                    "another --output-dir"
                )
            *lines, rest = file.read().split(b"\n")
            size = file.tell() - len(rest)
        for number, line in enumerate(lines, 2):
            entry = _parse(line)
            if entry is None or not isinstance(output := entry.get("output"), str):
                raise InputError(
                    f"line {number} of {describe_path(path)} is damaged; delete that line; its "
                    "picture will be painted again"
                )
            if path == self._path:
                self._own[output] = entry
            if _time(entry) >= _time(self.entries.get(output, {})):
                self.entries[output] = entry
        if path == self._path:
            if rest:  # an incomplete line of a killed process
                os.truncate(path, size)
            self._size = size

    def add(self, entry: Mapping[str, Any]) -> None:
        """Writes an entry, which needs an `output`, and returns once it is on disk.

        Raises:
            InputError: if it cannot be written.
        """
        # The time orders the entries of several journals.
        before = _time(self.entries.get(entry["output"], {}))
        entry = {**entry, "time": round(max(time.time(), before + 1e-6), 6)}
        # It is new, or somebody has removed it during the run.
        if not os.path.lexists(self._path) or os.lstat(self._path).st_size == self._size == 0:
            self._create()
        self._append(_line(entry))
        self.entries[entry["output"]] = self._own[entry["output"]] = entry

    def _create(self) -> None:
        """Writes the journal again with all entries that it had, if any."""
        data = b"".join(map(_line, [self._header, *self._own.values()]))
        write_atomically(self._path, data)
        self._size = len(data)

    def _append(self, line: bytes) -> None:
        try:
            with self._path.open("ab", buffering=0) as file:
                at = file.tell()
                if at != self._size:
                    raise InputError(
                        f"another program has changed the journal {describe_path(self._path)} "
                        "during the run; start again"
                    )
                try:
                    if file.write(line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    # A full disk may have room for half a line.
                    with contextlib.suppress(OSError):
                        file.truncate(at)
                    raise
                self._size = at + len(line)
        except OSError as error:
            raise InputError(
                f"cannot write the journal {describe_path(self._path)} ({describe_error(error)}); "
                "free some space and start again"
            ) from None


def _line(entry: Mapping[str, Any]) -> bytes:
    whole = {**entry, "checksum": checksum(entry)}
    return json.dumps(whole, allow_nan=False).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    """Returns the entry of a line without its checksum; None if the line is damaged."""
    try:
        entry = json.loads(line)
        if isinstance(entry, dict) and entry.pop("checksum", None) == checksum(entry):
            return entry
    except (ValueError, RecursionError):
        pass
    return None


def _time(entry: Mapping[str, Any]) -> float:
    """Seconds since 1970; 0 if the entry has no valid time."""
    found = entry.get("time")
    return found if isinstance(found, int | float) and 0 <= found < _LATEST else 0.0
