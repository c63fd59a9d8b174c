"""Finds the pairs of a batch that are not painted: compares its journal with the files."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from jaxstyle.app.batch.plan import Pair
from jaxstyle.app.console import print_message
from jaxstyle.app.outputs import check_outputs
from jaxstyle.io import InputError
from jaxstyle.io.errors import count
from jaxstyle.io.files import describe_error, describe_path, has_locks, sha256_of
from jaxstyle.io.fingerprint import fingerprint, is_unchanged
from jaxstyle.io.images import load_image
from jaxstyle.io.json_file import read_json
from jaxstyle.io.locations import URL, Location
from jaxstyle.io.manifest_rows import ManifestErrors
from jaxstyle.io.ownership import is_ours

_SECONDS_TO_LOOK = 30  # to wait for other runs that start at the same time

PAINTED, FAILED, MISSING = "painted", "failed", "missing"
CHANGED = {  # why a picture is repainted only with --force
    "settings": "made with other settings",
    "weights": "made with other pretrained weights",
    "sources": "made with other pictures",
    "picture": "not those that this batch painted",
}


def lock_paths(folder: Path, index: int, number: int) -> tuple[Path, Path]:
    """Returns the files that a run locks: one while it looks at other runs, and its own."""
    return folder / ".jaxstyle.lock", folder / f".jaxstyle-{index}-of-{number}.lock"


def ticket_path(folder: Path, index: int, number: int) -> Path:
    """Returns the file by which workers on other machines know the folder of their run."""
    return folder / f".jaxstyle-{index}-of-{number}.run"


@contextlib.contextmanager
def lock_folder(folder: Location, index: int, number: int) -> Iterator[None]:
    """Prevents other runs, with any number of slices, from painting the same pairs.

    Args:
        folder: of the outputs.
        index: of the slice that is painted.
        number: of slices, which may run at the same time.

    Raises:
        InputError: if another run uses the folder, or it cannot be locked.
    """
    if isinstance(folder, URL):  # has no locks: two runs there write the same pictures
        yield
        return
    looking, own = lock_paths(folder, index, number)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"--output-dir {describe_path(folder)} is not writable; change its permissions, or "
            "choose another folder"
        )
    advice = "wait for it"
    try:
        kind: type[filelock.BaseFileLock] = filelock.FileLock
        if not has_locks(folder):
            print_message(f"{describe_path(folder)} has no locks: a file there says it is in use")
            kind, advice = filelock.SoftFileLock, "wait for it, or remove that file if none runs"
        # Held only while the other locks are tested, so that only one run does it at a time.
        with kind(looking, timeout=_SECONDS_TO_LOOK):
            for path in sorted(folder.glob(".jaxstyle-*-of-*.lock")):
                other = re.fullmatch(r"\.jaxstyle-\d+-of-(\d+)\.lock", path.name)
                if other and int(other[1]) != number:
                    with kind(path, timeout=0):
                        pass
            lock = kind(own)
            lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise InputError(
            f"--output-dir {describe_path(folder)} is in use by another run "
            f"({Path(error.lock_file).name}); {advice}"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"--output-dir {describe_path(folder)} cannot be locked ({describe_error(error)}); "
            "choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def describe_sources(pair: Pair) -> list[dict[str, Any] | None]:
    """Returns the fingerprints of a pair's pictures; None for one that cannot be read."""
    return [_describe(path) for path in pair.pictures]


def _describe(path: Location) -> dict[str, Any] | None:
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
        retry: return `MISSING` for a pair that failed and has no picture.

    Returns:
        `PAINTED`, `FAILED` or `MISSING`; for an existing picture that was made otherwise, a key of
        `CHANGED`.
    """
    changed = _changed(pair, entry, weights)
    if "error" in entry and not retry and changed is None:
        return FAILED
    if not is_unchanged(pair.output, entry.get("picture")):
        return "picture" if _is_another(pair, weights) else MISSING
    if changed is not None:
        return changed
    return PAINTED if is_unchanged(pair.metadata_path, entry.get("json")) else MISSING


def _is_another(pair: Pair, weights: str) -> bool:
    """Whether an undamaged jaxstyle picture exists that is not this row's, or was edited since.

    A picture of this row can lack an entry in the journal, if a run was killed before writing it.
    """
    output = pair.output
    if not is_ours(output):  # never replaced, see `check_replaceable`
        return False
    try:
        load_image(output, background=0.0)
    except InputError:  # damaged
        return False
    try:
        metadata = read_json(pair.metadata_path)
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
    paths, before = pair.pictures, origin.get("sources")
    if not isinstance(before, list) or len(before) != len(paths):
        return "sources"
    for path, found in zip(paths, before, strict=True):
        # A file that cannot be read now does not count as changed: it could not be repainted.
        if not is_unchanged(path, found) and _describe(path) is not None:
            return "sources"
    return None


def check_replaceable(pairs: Sequence[Pair], name: str, overwrite: bool) -> None:
    """Refuses to replace files that jaxstyle did not write, or that describe other pictures.

    Args:
        pairs: the pairs to paint.
        name: of the manifest, for the message.
        overwrite: allow to replace files that jaxstyle did not write.

    Raises:
        InputError: naming the lines of such pairs.
    """
    errors = ManifestErrors(name)
    for pair in pairs:
        output, metadata = pair.output, pair.metadata_path
        # Something that is not a file cannot be replaced. It fails this pair alone, later.
        files = [path for path in (output, metadata) if path.is_file()]
        if not files:
            continue
        try:
            check_outputs(files, (), described={metadata: output}, overwrite=overwrite)
        except InputError as error:
            errors.add(pair.row.line, error)
    errors.check()


def refuse_changes(folder: Location, states: Mapping[str, str]) -> None:
    """Refuses to repaint pictures that were made otherwise.

    Args:
        folder: of the outputs.
        states: output -> result of `state_of`.

    Raises:
        InputError: if there are such pictures.
    """
    for what, message in CHANGED.items():
        if found := [output for output, state in states.items() if state == what]:
            raise InputError(
                f"{count(len(found), 'picture')} in {describe_path(folder)}, such as {found[0]}: "
                f"{message}; "
                "--force repaints them, or choose another --output-dir"
            )
