"""What is left to be painted of a batch: its journal is compared with the files on disk."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from jaxstyle.app.outputs import check_outputs
from jaxstyle.app.pairs import Pair
from jaxstyle.io import InputError, load_image
from jaxstyle.io.files import describe_error, describe_path, sha256_of
from jaxstyle.io.fingerprint import fingerprint, is_unchanged
from jaxstyle.io.json_file import read_json
from jaxstyle.io.manifest_rows import ManifestErrors
from jaxstyle.io.ownership import is_ours

_SECONDS_TO_LOOK = 30  # for other processes that start at the same time

PAINTED, FAILED, MISSING = "painted", "failed", "missing"
CHANGED = {  # what to say of pictures that are not painted again without being asked
    "settings": "were made with other settings",
    "weights": "were made with other pretrained weights",
    "sources": "were made with other pictures",
    "picture": "are not those that this batch has painted",
}


def lock_paths(folder: Path, process: int, processes: int) -> tuple[Path, Path]:
    """Returns the files that a run locks: to look at the others, and its own."""
    return folder / ".jaxstyle.lock", folder / f".jaxstyle-{process}-of-{processes}.lock"


@contextlib.contextmanager
def lock_folder(folder: Path, process: int, processes: int) -> Iterator[None]:
    """Keeps other runs from painting the same pairs: those with another number of processes too.

    Args:
        folder: of the outputs.
        process: which one this is.
        processes: that share the folder.

    Raises:
        InputError: another run paints pairs of this one, or the folder cannot be locked.
    """
    looking, own = lock_paths(folder, process, processes)
    try:
        # Held only while the others are looked at, so that no two processes do it at once.
        with filelock.FileLock(looking, timeout=_SECONDS_TO_LOOK):
            for path in sorted(folder.glob(".jaxstyle-*-of-*.lock")):
                share = re.fullmatch(r"\.jaxstyle-\d+-of-(\d+)\.lock", path.name)
                if share and int(share[1]) != processes:
                    with filelock.FileLock(path, timeout=0):
                        pass
            lock = filelock.FileLock(own)
            lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise InputError(
            f"--output-dir {describe_path(folder)} is in use by another run "
            f"({Path(error.lock_file).name}); wait for it"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"--output-dir {describe_path(folder)} cannot be locked ({describe_error(error)}): it "
            "may not be written, or its file system has no locks; choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def describe_sources(pair: Pair) -> list[dict[str, Any] | None]:
    """Returns the fingerprints of a pair's pictures; None for one that cannot be read."""
    return [_describe(path) for path in pair.job.pictures]


def _describe(path: Path) -> dict[str, Any] | None:
    try:
        return fingerprint(path)
    except (InputError, OSError):
        return None


def state_of(pair: Pair, entry: Mapping[str, Any], weights: str, *, retry: bool = False) -> str:
    """Compares a pair and its files with its entry in the journal.

    Args:
        pair: of the manifest.
        entry: of the journal, empty if there is none.
        weights: the hash of the pretrained weights.
        retry: take what has failed for `MISSING`, if there is nothing to lose.

    Returns:
        `PAINTED`, `FAILED`, `MISSING`, or, for a picture that is there and was made otherwise, what
        has changed since, out of `CHANGED`.
    """
    changed = _changed(pair, entry, weights)
    if "error" in entry and not retry and changed is None:
        return FAILED
    if not is_unchanged(pair.job.output, entry.get("picture")):
        return "picture" if _is_another(pair, weights) else MISSING
    if changed is not None:
        return changed
    return PAINTED if is_unchanged(pair.job.metadata_path, entry.get("json")) else MISSING


def _is_another(pair: Pair, weights: str) -> bool:
    """Whether a whole picture of ours is there that is not of this row, or was edited since.

    Of this row it may be without an entry in the journal: if a run was killed before it wrote it.
    """
    output = pair.job.output
    if not is_ours(output):  # never replaced, see `check_replaceable`
        return False
    try:
        load_image(output)
    except InputError:  # damaged
        return False
    try:
        metadata = read_json(pair.job.metadata_path)
        origin = metadata["batch"]
        return (
            metadata["sha256"] != sha256_of(output)
            or origin["output"] != pair.row.output
            or _changed(pair, origin, weights) is not None
        )
    except (InputError, KeyError, TypeError):
        return True


def _changed(pair: Pair, origin: Mapping[str, Any], weights: str) -> str | None:
    if origin.get("digest") != pair.digest:
        return "settings"
    if origin.get("weights") != weights:
        return "weights"
    paths, before = pair.job.pictures, origin.get("sources")
    if not isinstance(before, list) or len(before) != len(paths):
        return "sources"
    for path, found in zip(paths, before, strict=True):
        # One that cannot be read now has not changed: nothing else can be painted of it.
        if not is_unchanged(path, found) and _describe(path) is not None:
            return "sources"
    return None


def check_replaceable(pairs: Sequence[Pair], name: str, overwrite: bool) -> None:
    """Refuses to replace files that jaxstyle did not write, or that describe other pictures.

    Args:
        pairs: that are to be painted.
        name: of the manifest, for the message.
        overwrite: allow it.

    Raises:
        InputError: with their lines.
    """
    errors = ManifestErrors(name)
    for pair in pairs:
        output, metadata = pair.job.output, pair.job.metadata_path
        # What is no file cannot be replaced, and is an error of this pair alone.
        files = [path for path in (output, metadata) if path.is_file()]
        try:
            check_outputs(files, (), described={metadata: output}, overwrite=overwrite)
        except InputError as error:
            errors.add(pair.row.line, error)
    errors.check()


def refuse_changes(folder: Path, states: Mapping[str, str]) -> None:
    """Refuses to replace pictures that were made otherwise.

    Args:
        folder: of the outputs.
        states: output -> what `state_of` has found.

    Raises:
        InputError: if there are any.
    """
    for what, message in CHANGED.items():
        if found := [output for output, state in states.items() if state == what]:
            raise InputError(
                f"{len(found)} pictures in {describe_path(folder)}, such as {found[0]}, {message}; "
                "--force paints them again, or choose another --output-dir"
            )
