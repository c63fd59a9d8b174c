"""What a run writes: checked before it starts, so that nothing of the user's is lost."""

import functools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from jaxstyle.app import report
from jaxstyle.app.job import Job
from jaxstyle.io import InputError, check_extension, check_target
from jaxstyle.io.files import describe_path
from jaxstyle.io.metadata import read_json
from jaxstyle.io.ownership import is_ours

_Place: TypeAlias = tuple[object, str]


def check_job(job: Job) -> None:
    """Checks, before a single run, all that it will write against all that it reads.

    Raises:
        InputError: if something cannot be written, or would be lost.
    """
    check_extension(job.output)
    written = [job.output, job.metadata_path]
    if job.plot:
        written.append(job.plot_path)
    for path in written:
        check_target(path)
    if job.report is not None:
        report.check_folder(job.report)
        written.append(report.page_path(job.report))
    check_outputs(
        [*written, *_previews(job)],
        job.sources,
        described={job.metadata_path: job.output},
        overwrite=job.overwrite,
    )


def _previews(job: Job) -> Iterator[Path]:
    """Yields the files that a preview of this run might replace."""
    if not job.preview_every:
        return
    recipe = job.recipe
    steps = recipe.solver.num_steps
    if recipe.pyramid is not None:
        steps += sum(each for _, each in recipe.pyramid.scales(job.size, job.size))
    for path in job.output.parent.iterdir():
        number = path.stem.rpartition("-")[2]
        if number.isdecimal() and int(number) <= steps and path == job.preview_path(int(number)):
            yield path


def check_outputs(
    written: Iterable[Path],
    read: Iterable[Path],
    *,
    described: Mapping[Path, Path] | None = None,
    overwrite: bool = False,
) -> None:
    """Refuses outputs that would replace an input, each other, or what jaxstyle has not written.

    Args:
        written: all files that will be written; whether they can be, `check_target` tells.
        read: all files that are read.
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
    for path, picture in (described or {}).items():
        if not overwrite:
            _check_description(path, picture)


def check_replaceable(path: Path) -> None:
    """Checks that `path` does not exist, is empty, or was written by jaxstyle.

    Raises:
        InputError: if it holds something else.
    """
    if os.path.exists(path) and not is_ours(path) and not _is_empty(path):
        raise InputError(
            f"{describe_path(path)} exists, and jaxstyle did not write it: name another output, "
            "or say --overwrite"
        )


def _check_description(path: Path, picture: Path) -> None:
    """Checks that a JSON file of ours does not describe another picture that is still there."""
    if not is_ours(path):
        return
    try:
        other = read_json(path).get("output")
    except InputError:
        return  # a damaged one describes nothing any more
    if not isinstance(other, str) or other != os.path.basename(other):
        return
    beside = path.with_name(other)
    if beside.exists() and _place(beside) != _place(picture):
        raise InputError(
            f"{describe_path(path)} describes {describe_path(beside)}, which exists: name another "
            "output, or say --overwrite"
        )


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
