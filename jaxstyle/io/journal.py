"""What has been done, one JSON object a line, appended after each picture is safely on disk.

Whoever kills the program loses no more than the line that was being written, which is dropped
when the journal is next opened. Several processes have a journal each and read them all.
"""

import contextlib
import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error, describe_path


class Journal:
    """A journal, and what the others of its folder say; `add` writes.

    Attributes:
        entries: output -> its latest entry, out of all journals of the folder.
    """

    def __init__(self, folder: Path, name: str, header: Mapping[str, Any]) -> None:
        """Reads `folder/name` and all other `journal*.jsonl` there, and begins it if need be.

        Raises:
            InputError: if it cannot be read or written, or is no journal.
        """
        self._path = folder / name
        self.entries: dict[str, Mapping[str, Any]] = {}
        try:
            for path in sorted(folder.glob("journal*.jsonl")):
                self._read(path, repair=path == self._path)
            empty = not self._path.exists() or self._path.stat().st_size == 0
        except OSError as error:
            raise InputError(
                f"cannot read the journal {describe_path(self._path)} ({describe_error(error)}); "
                "choose another --output-dir"
            ) from None
        if empty:
            self._append(header)

    def _read(self, path: Path, repair: bool) -> None:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if repair and len(whole) < len(data):
            os.truncate(path, len(whole))
        for number, line in enumerate(whole.splitlines()):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if not isinstance(entry, Mapping):
                raise InputError(
                    f"line {number + 1} of {describe_path(path)} is damaged; remove that line, "
                    "and what it told of is done again"
                )
            if number == 0 and "journal" not in entry:
                raise InputError(
                    f"{describe_path(path)} is no journal of jaxstyle; remove it, or choose "
                    "another --output-dir"
                )
            output = entry.get("output")
            if isinstance(output, str) and _time(entry) >= _time(self.entries.get(output, {})):
                self.entries[output] = entry

    def add(self, entry: Mapping[str, Any]) -> None:
        """Writes an entry, which has an `output`, and returns when it is on disk.

        Raises:
            InputError: if it cannot be written.
        """
        # Of several processes' journals, or of runs with one and then with several, the names
        # do not tell which entry is the latest.
        before = _time(self.entries.get(entry["output"], {}))
        entry = {**entry, "time": round(max(time.time(), before + 0.001), 3)}
        self._append(entry)
        self.entries[entry["output"]] = entry

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                at = file.tell()
                try:
                    if file.write(line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    # Not half a line, for which there may be room on a full disk.
                    with contextlib.suppress(OSError):
                        file.truncate(at)
                    raise
        except OSError as error:
            raise InputError(
                f"cannot write the journal {describe_path(self._path)} ({describe_error(error)}); "
                "free some space and start again"
            ) from None


def _time(entry: Mapping[str, Any]) -> float:
    """Seconds since 1970; 0 where an entry tells none."""
    time = entry.get("time", 0)
    return time if isinstance(time, int | float) else 0.0
