"""What a journal says, in an object store, where nothing can be appended to a file.

What vouches for a picture is the JSON next to it. One listing of the outputs tells which are there,
and whether they are as they were written. A pair that failed has a JSON of its own.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_path, sha256_of
from jaxstyle.io.journal import Journal, journal_path
from jaxstyle.io.json_file import read_json, write_json
from jaxstyle.io.locations import URL, Location
from jaxstyle.io.ownership import is_ours
from jaxstyle.io.remote import Status

_FAILED = ".jaxstyle-failed"  # the folder of what failed
_THREADS = 32  # that wait for the server


def open_journal(folder: Location, share: tuple[int, int] = (1, 1)) -> "Journal | RemoteJournal":
    """Returns the journal of a batch.

    Args:
        folder: of the outputs.
        share: which part of the batch it is of, see `journal_path`.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(folder, URL):
        return RemoteJournal(folder)
    return Journal(journal_path(folder, *share))


class RemoteJournal:
    """The entries of all pictures of ours in a folder of an object store.

    Attributes:
        entries: output -> what `Journal` has of it.
    """

    def __init__(self, folder: URL) -> None:
        """Lists a folder and reads the JSON files in it.

        Raises:
            InputError: the server does not answer, or refuses.
        """
        self._folder = folder
        self._there = {url.relative_to(folder): (url, status) for url, status in folder.files()}
        names = [name for name in self._there if name is not None and name.endswith(".json")]
        with ThreadPoolExecutor(_THREADS) as threads:
            found = [each for each in threads.map(self._read, names) if each is not None]
        # The later one counts.
        self.entries = {entry["output"]: entry for _, entry in sorted(found, key=lambda it: it[0])}

    def _read(self, name: str) -> tuple[str, dict[str, Any]] | None:
        """Returns the entry of a JSON file with its time, None if it is none of ours."""
        url, status = self._there[name]
        try:
            content = read_json(url)
        except InputError:
            return None
        if name.startswith(f"{_FAILED}/"):
            is_whole = isinstance(content.get("output"), str) and "error" in content
            return (status.modified, content) if is_whole else None
        origin = content.get("batch")
        if not isinstance(origin, dict) or not isinstance(output := origin.get("output"), str):
            return None
        if url != (self._folder / output).with_suffix(".json"):  # it was copied
            return None
        keys = ("status", "loss")
        entry = {**origin, **{key: content[key] for key in keys if key in content}}
        entry["json"] = _describe(status)
        picture, there = self._there.get(output, (url, None))
        if there is not None and _is_vouched_for(picture, there, content):
            entry["picture"] = _describe(there)
        seconds = content.get("seconds")
        if isinstance(seconds, dict):
            entry["seconds"] = sum(value for value in seconds.values() if isinstance(value, float))
        return status.modified, entry

    def add(self, *entries: Mapping[str, Any]) -> None:
        """Notes entries; those of pairs which failed are written.

        Raises:
            InputError: if one cannot be written.
        """
        for entry in entries:
            self._add(entry)

    def _add(self, entry: Mapping[str, Any]) -> None:
        if "error" in entry:
            name = hashlib.sha256(entry["output"].encode(errors="surrogateescape")).hexdigest()[:32]
            path = self._folder / _FAILED / f"{name}.json"
            if path.exists() and not is_ours(path):
                raise InputError(f"{describe_path(path)} exists, and jaxstyle did not write it")
            write_json(path, entry)
        self.entries[entry["output"]] = dict(entry)


def _describe(status: Status) -> dict[str, Any]:
    """Returns what `fingerprint` returns for a file."""
    return {"bytes": status.size, "version": status.version}


def _is_vouched_for(picture: URL, status: Status, content: Mapping[str, Any]) -> bool:
    """Whether a picture has the bytes that its JSON was written for."""
    if content.get("md5") is not None and content["md5"] == status.version:
        return True
    try:
        return bool(sha256_of(picture) == content.get("sha256"))  # with the versions of its store
    except InputError:
        return False
