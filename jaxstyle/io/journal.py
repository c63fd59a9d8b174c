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
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
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


class _File:
    """Reads the file that a path names now, also after somebody has removed it there."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)
        self._reading = threading.Lock()

    def read(self, size: int) -> bytes:
        """Returns the first `size` bytes."""
        with self._reading, open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            return file.read(size)

    def read_line(self, start: int) -> bytes:
        """Returns the line that starts at an offset."""
        with self._reading, open(self._file, "rb", closefd=False) as file:
            file.seek(start)
            return file.readline()


class _Entries(Mapping[str, Mapping[str, Any]]):
    """The entries of journals. Those of our own stay in its file: there may be a million.

    Attributes:
        lines: output -> the line of its latest entry, or where that starts in our file.
        file: ours, None if there is none yet.
    """

    def __init__(self) -> None:
        self.lines: dict[str, bytes | int] = {}
        self.file: _File | None = None

    def __getitem__(self, output: str) -> Mapping[str, Any]:
        line = self.lines[output]
        if isinstance(line, int) and self.file is not None:
            line = self.file.read_line(line)
        entry = _parse(line) if isinstance(line, bytes) else None
        if entry is None or entry.get("output") != output:
            raise InputError("another program has changed the journal during the run; start again")
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)


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
        self._entries = _Entries()
        self.entries: Mapping[str, Mapping[str, Any]] = self._entries
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
            is_own, start = path == self._path, len(line)
            if is_own:
                self._entries.file = _File(path)
            for number, line in enumerate(file, 2):
                if not line.endswith(b"\n"):  # a killed process, or another one that writes now
                    break
                entry = _parse(line)
                if entry is None or not isinstance(output := entry.get("output"), str):
                    raise InputError(
                        f"line {number} of {describe_path(path)} is damaged; delete that line; its "
                        "picture will be painted again"
                    )
                if _time(entry) >= _time(self.entries.get(output, {})):
                    self._entries.lines[output] = start if is_own else line
                start += len(line)
        if is_own:
            if start < status.st_size:
                os.truncate(path, start)
            self._size = start

    def add(self, *entries: Mapping[str, Any]) -> None:
        """Writes entries, each with an `output`, and returns once they are on disk.

        Raises:
            InputError: if they cannot be written.
        """
        lines = []
        for entry in entries:
            # The time orders the entries of several journals.
            before = _time(self.entries.get(entry["output"], {}))
            lines.append(_line({**entry, "time": round(max(time.time(), before + 1e-6), 6)}))
        try:
            # It is new, or somebody has removed it during the run.
            if not os.path.lexists(self._path) or os.lstat(self._path).st_size == self._size == 0:
                self._create()
            start = self._size
            self._append(b"".join(lines))
        except OSError as error:
            raise InputError(
                f"cannot write the journal {describe_path(self._path)} ({describe_error(error)}); "
                "free some space and start again"
            ) from None
        for entry, line in zip(entries, lines, strict=True):
            self._entries.lines[entry["output"]] = start
            start += len(line)

    def _create(self) -> None:
        """Writes the journal again with all lines that it had, if any."""
        file = self._entries.file
        data = _line(self._header) if file is None else file.read(self._size)
        write_atomically(self._path, data)
        self._size = len(data)
        self._entries.file = _File(self._path)

    def _append(self, lines: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            at = file.tell()
            if at != self._size:
                raise InputError(
                    f"another program has changed the journal {describe_path(self._path)} "
                    "during the run; start again"
                )
            try:
                if file.write(lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                # A full disk may have room for half a line.
                with contextlib.suppress(OSError):
                    file.truncate(at)
                raise
            self._size = at + len(lines)


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
