"""What a run writes: checked before it starts, and saved whatever happens.

Nothing of the user's is replaced, and the picture is never lost.
"""

import contextlib
import dataclasses
import functools
import os
import secrets
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from jaxstyle.app.checkpoint import check_checkpoint
from jaxstyle.app.job import Job, say
from jaxstyle.app.pages import html, run_page
from jaxstyle.app.pages.html import check_folder, page_path
from jaxstyle.app.pages.loss_plot import plot_losses
from jaxstyle.app.progress import tell_program
from jaxstyle.app.sidecar import hash_or_none, round_seconds, timed
from jaxstyle.io import (
    InputError,
    check_extension,
    check_target,
    save_image,
    write_atomically,
    write_json,
)
from jaxstyle.io.files import describe_error, describe_path, show_path
from jaxstyle.io.json_file import checksum, read_json
from jaxstyle.io.ownership import is_ours

_Place: TypeAlias = tuple[object, str]


def check_job(job: Job) -> None:
    """Checks, before a single run, all that it will write against all that it reads.

    Raises:
        InputError: if something cannot be written, or would be lost.
    """
    check_extension(job.output, size=job.size)
    written = [job.output, job.metadata_path]
    if job.plot:
        written.append(job.plot_path)
    for path in written:
        check_target(path)
    if job.report is not None:
        check_folder(job.report)
        written.append(page_path(job.report))
    if (checkpoint := check_checkpoint(job)) is not None:
        written.append(checkpoint)
    folders = [folder for folder in (job.report, job.checkpoint) if folder is not None]
    check_outputs(
        # Two names that differ by case are of one preview.
        [*written, *dict.fromkeys(_previews(job, folders))],
        job.sources,
        folders=folders,
        described={job.metadata_path: job.output},
        overwrite=job.overwrite,
    )


def _previews(job: Job, folders: Sequence[Path]) -> Iterator[Path]:
    """Yields the previews of this run that might replace a file, or come to be one of `folders`."""
    if not job.preview_every:
        return
    recipe = job.recipe
    steps = recipe.solver.num_steps
    if recipe.pyramid is not None:
        steps += sum(each for _, each in recipe.pyramid.scales(job.size, job.size))
    for path in (*job.output.parent.iterdir(), *folders):
        number = path.stem.rpartition("-")[2]
        if number.isascii() and number.isdecimal() and int(number) <= steps:
            preview = job.preview_path(int(number))
            if preview.name.casefold() == path.name.casefold():
                yield preview


def check_batch(
    jobs: Sequence[Job],
    kept: Sequence[Path],
    *,
    manifest: Path | None,
    page: Path | None,
    overwrite: bool,
) -> None:
    """Checks, before a batch, all that it will write against all that it reads.

    Whether existing pictures may be replaced is checked later, for those that are painted.

    Args:
        jobs: of all rows.
        kept: the journal and the locks.
        manifest: the file, or None.
        page: of the report, or None.
        overwrite: allow existing files of others.

    Raises:
        InputError: if something would be lost.
    """
    pages = [] if page is None else [page]
    results = [path for job in jobs for path in (job.output, job.metadata_path)]
    read = dict.fromkeys(path for job in jobs for path in job.sources)
    manifests = [] if manifest is None else [manifest]
    folders = [path.parent for path in pages]
    check_outputs([*kept, *pages, *results], [*manifests, *read], folders=folders, overwrite=True)
    if not overwrite:
        for path in pages:
            check_replaceable(path)


def check_outputs(
    written: Iterable[Path],
    read: Iterable[Path],
    *,
    folders: Iterable[Path] = (),
    described: Mapping[Path, Path] | None = None,
    overwrite: bool = False,
) -> None:
    """Refuses outputs that would replace an input, each other, or what jaxstyle has not written.

    Args:
        written: all files that will be written; whether they can be, `check_target` tells.
        read: all files that are read.
        folders: that will be made for some of the files.
        described: JSON file -> the picture that it will describe.
        overwrite: allow existing files of others. An input is never replaced.

    Raises:
        InputError: before anything is touched.
    """
    inputs: dict[object, Path] = {}
    for path in read:
        inputs[_place(path)] = path
        if (file := _file(path)) is not None:
            inputs[file] = path
    outputs: dict[_Place, Path] = {}
    for path in written:
        place = _place(path)
        if place in inputs or _file(path) in inputs:
            raise InputError(f"{describe_path(path)} is read and would be replaced: name another")
        if place in outputs:
            raise InputError(
                f"{describe_path(outputs[place])} and {describe_path(path)} would be the same "
                "file: name another output"
            )
        outputs[place] = path
        if not overwrite:
            check_replaceable(path)
    for path in folders:
        if _place(path) in outputs:
            raise InputError(
                f"{describe_path(path)} would be both a file and a folder: name another"
            )
    if overwrite:
        return
    for path in outputs.values():
        # A preview or a loss curve; the JSON of the picture itself is written too.
        if _place(path.with_suffix(".json")) not in outputs:
            _check_not_described(path)
    for path, picture in (described or {}).items():
        _check_description(path, picture)


def check_replaceable(path: Path) -> None:
    """Checks that `path` does not exist, is empty, or is as jaxstyle has written it.

    Raises:
        InputError: if it holds something else.
    """
    if not os.path.exists(path) or _is_empty(path):
        return
    if not is_ours(path):
        raise InputError(
            f"{describe_path(path)} exists, and jaxstyle did not write it: name another output, "
            "or say --overwrite"
        )
    if _is_edited(path):
        raise InputError(
            f"{describe_path(path)} was edited since jaxstyle wrote it: name another output, or "
            "say --overwrite"
        )


def save_all(
    job: Job,
    image: np.ndarray,
    metadata: dict[str, Any],
    seconds: dict[str, float],
    pictures: run_page.Pictures,
    snapshots: Mapping[int, str],
) -> tuple[Path | None, bool]:
    """Saves everything, the picture first, and says so.

    Returns:
        Where the picture is, and whether everything is where it was wanted.
    """
    trace = metadata["trace"]
    # The JSON tells how long saving the picture took.
    with timed(seconds, "save"):
        saved = save_picture(job.output, image, overwrite=job.overwrite)
    metadata["seconds"] = round_seconds(seconds)
    if saved is None:
        tell_program(job.progress, {"output": None, "status": metadata["status"]})
        return None, False
    complete = saved == job.output
    job = dataclasses.replace(job, output=saved)
    metadata |= {"output": saved.name, "sha256": hash_or_none(saved)}
    page = None if job.report is None else page_path(job.report)

    def plot() -> None:
        curve = plot_losses(trace, job.recipe.weights, f"{show_path(job.output.name)}: loss")
        write_atomically(job.plot_path, curve)

    def write_page() -> None:
        assert job.report is not None  # noqa: S101
        text = run_page.describe_run(job, metadata, image, pictures, snapshots)
        html.write_page(job.report, text)

    for name, path, write in (
        ("JSON", job.metadata_path, lambda: write_json(job.metadata_path, metadata)),
        ("loss curve", job.plot_path if job.plot else None, plot),
        ("report", page, write_page),
    ):
        if path is not None and not _is_written(name, path, write, job.overwrite):
            complete = False
    told = {key: metadata[key] for key in ("status", "num_evaluations", "seconds", "loss")}
    tell_program(
        job.progress, {"output": str(job.output), "report": str(page) if page else None, **told}
    )
    if not job.quiet:
        say(
            f"{job.output}: loss {trace[0]['loss']:.4g} -> {metadata['loss']:.4g} in "
            f"{metadata['num_evaluations']} evaluations, {seconds['optimize']:.1f} s "
            f"(+ {seconds['compile']:.1f} s compilation), {metadata['status'].replace('_', ' ')}"
        )
    return saved, complete


def _is_written(name: str, path: Path, write: Callable[[], None], overwrite: bool) -> bool:
    """Calls `write`; whatever is wrong with it is said, and does not cost the other files."""
    try:
        if not overwrite:
            check_replaceable(path)
        write()
    except Exception as error:
        say(f"error: there is no {name}: {describe_error(error)}")
        return False
    return True


def save_picture(path: Path, image: np.ndarray, *, overwrite: bool = False) -> Path | None:
    """Saves a picture; if that fails, somewhere else under a new name, and says so.

    Args:
        path: where it is wanted.
        image: `(H, W, 3)` in [0, 1].
        overwrite: as in `check_outputs`; a file may have come there since then.

    Returns:
        Where it is; None if it could not be saved anywhere.
    """
    while True:
        try:
            if not overwrite:
                check_replaceable(path)
            save_image(path, image)
            return path
        except (InputError, OSError, MemoryError) as error:
            problem = str(error) or describe_error(error)
        name = f"{path.stem}-{secrets.token_hex(4)}.png"
        for folder in (path.parent, *_other_folders()):
            try:
                save_image(folder / name, image)
            except (InputError, OSError, MemoryError):
                continue
            say(f"error: {problem}. The picture is in {describe_path(folder / name)}")
            return folder / name
        say(f"error: {problem}; nor could it be saved in another folder")
        if not _wait_for_user():
            return None


def _other_folders() -> Iterator[Path]:
    for find in (Path.cwd, lambda: Path(tempfile.gettempdir()), Path.home):
        with contextlib.suppress(OSError, RuntimeError):
            yield find()


def _wait_for_user() -> bool:
    """Asks whoever is at the terminal to make room; whether to try again."""
    if threading.current_thread() is not threading.main_thread():
        return False  # of a server, for instance
    try:
        if sys.stdin is None or not sys.stdin.isatty():
            return False
        say("Free some space and press Enter to try again, or Ctrl-D to give up.")
        return bool(sys.stdin.readline())
    except (OSError, ValueError):
        return False


def _check_description(path: Path, picture: Path) -> None:
    """Checks that a JSON file does not describe another picture that is still there."""
    other = _described(path)
    if other is not None and _place(other) != _place(picture):
        raise InputError(
            f"{describe_path(path)} describes {describe_path(other)}, which exists: name another "
            "output, or say --overwrite"
        )


def _check_not_described(path: Path) -> None:
    """Checks that `path` is not a finished picture, with a JSON file of its own."""
    other = _described(path.with_suffix(".json"))
    if other is not None and _place(other) == _place(path):
        raise InputError(
            f"{describe_path(path)} is a finished picture, with its own JSON beside it: name "
            "another output, or say --overwrite"
        )


def _described(path: Path) -> Path | None:
    """The picture that a JSON file describes, if both are there; a damaged one describes none."""
    try:
        name = read_json(path, checked=False).get("output")
    except InputError:
        return None
    if not isinstance(name, str) or name != os.path.basename(name):
        return None
    picture = path.parent / name
    return picture if picture.is_file() else None


def _is_edited(path: Path) -> bool:
    """Whether a file of ours is JSON that somebody has changed; no JSON any more is damaged."""
    try:
        content = read_json(path, checked=False)
    except InputError:
        return False
    return content.get("checksum") != checksum(content)


def _is_empty(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size == 0
    except OSError:
        return False


def _file(path: Path) -> tuple[int, int] | None:
    """What is the same for two names of one file; None for a file that does not exist."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _place(path: Path) -> _Place:
    """What is the same for two names that a write would take to one place."""
    real = Path(os.path.realpath(path))
    folder, name = real.parent, real.name
    if _folds_case(folder):
        name = unicodedata.normalize("NFC", name).casefold()
    return _file(folder) or str(folder), name


@functools.lru_cache(maxsize=1024)
def _folds_case(folder: Path) -> bool:
    """Whether the file system takes `A` and `a` for the same name, told by a folder above."""
    for existing in (folder, *folder.parents):
        swapped = existing.with_name(existing.name.swapcase()) if existing.name else existing
        if swapped != existing and existing.exists():
            return swapped.exists() and swapped.samefile(existing)
    return False
