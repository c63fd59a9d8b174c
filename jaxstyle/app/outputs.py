"""The files that a run writes, validated before it starts: no file of the user is replaced."""

import array
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from jaxstyle.app.checkpoint import check_checkpoint
from jaxstyle.app.job import Job
from jaxstyle.app.pages.html import check_folder, page_path
from jaxstyle.app.same_file import FileKey, Locator, file_of, location_of
from jaxstyle.io import InputError, check_extension, check_target
from jaxstyle.io.files import describe_path
from jaxstyle.io.json_file import ForeignError, checksum, read_json
from jaxstyle.io.locations import URL, Location
from jaxstyle.io.manifest_paths import repeated
from jaxstyle.io.ownership import is_ours


def check_job(job: Job, read: Iterable[Location] = ()) -> None:
    """Validates all paths that a single run will write against all that it reads.

    Args:
        job: the run.
        read: files that it reads, besides those that the job names.

    Raises:
        InputError: if a file cannot be written, or another one would be lost.
    """
    if job.is_stdout:
        _check_stdout(job)
        written = []
    else:
        check_extension(job.output, size=job.size, bits=job.bits)
        written = [job.output, job.metadata_path]
    if job.plot:
        written.append(job.plot_path)
    # Like the other folders that options name, it is made if only its own folder is there.
    for path in written if job.output.parent.is_dir() else [job.output.parent]:
        check_target(path)
    if job.report is not None:
        check_folder(job.report)
        written.append(page_path(job.report))
    if (checkpoint := check_checkpoint(job)) is not None:
        written.append(checkpoint)
    folders = [folder for folder in (job.report, job.checkpoint) if folder is not None]
    check_outputs(
        # Two names that differ only by case are the same preview.
        [*written, *dict.fromkeys(_previews(job, folders))],
        [*job.sources, *read],
        folders=folders,
        described={job.metadata_path: job.output},
        overwrite=job.overwrite,
    )


def _check_stdout(job: Job) -> None:
    """Checks that nothing but the picture goes to stdout, and that it is no terminal.

    Raises:
        InputError: if it is one, or options are for a picture in a file.
    """
    if job.plot or job.preview_every:
        raise InputError(
            "--output - has no files next to it: leave out --plot and --preview-every, or name a "
            "file"
        )
    if job.progress == "json":
        raise InputError("--output - and --progress json both write to stdout: name a file")
    if sys.stdout is None:
        raise InputError("--output - writes a picture to stdout, which is closed: name a file")
    if sys.stdout.isatty():
        raise InputError(
            "--output - writes a picture to stdout, which is a terminal: add > out.png"
        )


def _previews(job: Job, folders: Sequence[Location]) -> Iterator[Location]:
    """Yields those previews of this run that have the name of an existing file or of a folder."""
    if not job.preview_every:
        return
    recipe = job.recipe
    steps = recipe.solver.num_steps
    if recipe.pyramid is not None:
        steps += sum(each for _, each in recipe.pyramid.scales(job.size, job.size))
        steps += recipe.pyramid.finish
    there = job.output.parent.iterdir() if job.output.parent.is_dir() else ()
    for path in (*there, *folders):
        number = path.stem.rpartition("-")[2]
        if number.isascii() and number.isdecimal() and int(number) <= steps:
            preview = job.preview_path(int(number))
            if preview.name.casefold() == path.name.casefold():
                yield preview


class _Painted(Protocol):
    """What a batch paints: a `Job`, or a `Pair`, of which there may be a million."""

    @property
    def output(self) -> Location: ...
    @property
    def metadata_path(self) -> Location: ...
    @property
    def sources(self) -> Sequence[Location]: ...


def check_batch(
    jobs: Sequence[_Painted],
    kept: Sequence[Location],
    *,
    manifest: Location | None,
    page: Location | None,
    overwrite: bool,
) -> None:
    """Validates all paths that a batch will write against all that it reads.

    Whether existing pictures may be replaced is checked later, for the pairs that are painted.

    Args:
        jobs: of all rows.
        kept: the journal and the locks.
        manifest: the file, or None.
        page: of the report, or None.
        overwrite: allow to replace files that jaxstyle did not write.

    Raises:
        InputError: if a file would be lost.
    """
    pages = [] if page is None else [page]
    manifests = [] if manifest is None else [manifest]
    folders = [path.parent for path in pages]
    written, read = [*kept, *pages], [*manifests]
    if _may_meet(jobs, [*written, *folders], manifests):
        written += [path for job in jobs for path in (job.output, job.metadata_path)]
        read += dict.fromkeys(path for job in jobs for path in job.sources)
    check_outputs(written, read, folders=folders, overwrite=True)
    if not overwrite:
        for path in pages:
            check_replaceable(path)


def _may_meet(
    jobs: Sequence[_Painted], others: Sequence[Location], manifests: Sequence[Location]
) -> bool:
    """Whether two of all paths may be the same file; `check_outputs` tells, and takes longer.

    What is kept of a million pairs is a number for each of their files.
    """
    key_of, hashes = Locator(), array.array("q")
    folders, linked = set[object](), set[tuple[int, int]]()
    for path in itertools.chain(
        others, (path for job in jobs for path in (job.output, job.metadata_path))
    ):
        folder, name = key_of(path)
        folders.add(folder)
        hashes.append(hash((folder, name)))
        linked |= key_of.links_of(path)
    for path in {*manifests, *(path for job in jobs for path in job.sources)}:
        if (location := key_of(path))[0] in folders:
            hashes.append(hash(location))
        if linked and file_of(path) in linked:
            return True
    return bool(repeated(hashes))


def check_outputs(
    written: Iterable[Location],
    read: Iterable[Location],
    *,
    folders: Iterable[Location] = (),
    described: Mapping[Location, Location] | None = None,
    overwrite: bool = False,
) -> None:
    """Refuses outputs that would replace an input, each other, or a file of somebody else.

    Args:
        written: all files that will be written; see `check_target` for whether they can be.
        read: all files that are read.
        folders: folders that will be made.
        described: JSON file -> the picture that it will describe.
        overwrite: allow to replace files that jaxstyle did not write. An input is never replaced.

    Raises:
        InputError: if there is such an output. No file has been changed.
    """
    inputs: dict[object, Location] = {}
    for path in read:
        inputs[location_of(path)] = path
        if (file := file_of(path)) is not None:
            inputs[file] = path
    outputs: dict[FileKey, Location] = {}
    for path in written:
        location = location_of(path)
        if location in inputs or file_of(path) in inputs:
            raise InputError(
                f"{describe_path(path)} is read and would be replaced: name another output"
            )
        if location in outputs:
            raise InputError(
                f"{describe_path(outputs[location])} and {describe_path(path)} would be the same "
                "file: name another output"
            )
        outputs[location] = path
        if not overwrite:
            check_replaceable(path)
    for path in folders:
        if location_of(path) in outputs:
            raise InputError(
                f"{describe_path(path)} would be both a file and a folder: name another"
            )
    if overwrite:
        return
    for path in outputs.values():
        # A preview or a loss curve: only the picture itself has its JSON among the outputs.
        if location_of(path.with_suffix(".json")) not in outputs:
            _check_not_described(path)
    for path, picture in (described or {}).items():
        _check_description(path, picture)


def check_replaceable(
    path: Location, advice: str = "name another output, or use --overwrite"
) -> None:
    """Checks that `path` does not exist, is empty, or is as jaxstyle wrote it.

    Args:
        path: where something will be written.
        advice: what to do otherwise, for the message.

    Raises:
        InputError: if it has other content.
    """
    there = path.exists() if isinstance(path, URL) else os.path.exists(path)
    if not there or _is_empty(path):
        return
    if not is_ours(path):
        raise InputError(f"{describe_path(path)} exists, and jaxstyle did not write it: {advice}")
    if _is_edited(path):
        raise InputError(f"{describe_path(path)} was edited since jaxstyle wrote it: {advice}")


def _check_description(path: Location, picture: Location) -> None:
    """Checks that a JSON file does not describe another picture that still exists."""
    other = _described(path)
    if other is not None and location_of(other) != location_of(picture):
        raise InputError(
            f"{describe_path(path)} describes {describe_path(other)}, which exists: name another "
            "output, or use --overwrite"
        )


def _check_not_described(path: Location) -> None:
    """Checks that `path` is not a finished picture with its own JSON file."""
    other = _described(path.with_suffix(".json"))
    if other is not None and location_of(other) == location_of(path):
        raise InputError(
            f"{describe_path(path)} is a finished picture with its own JSON next to it: name "
            "another output, or use --overwrite"
        )


def _described(path: Location) -> Location | None:
    """Returns the picture that a JSON file describes, if both exist and the JSON is not damaged."""
    try:
        name = read_json(path, checked=False).get("output")
    except InputError:
        return None
    if not isinstance(name, str) or name != os.path.basename(name):
        return None
    picture = path.parent / name
    return picture if picture.is_file() else None


def _is_edited(path: Location) -> bool:
    """Whether jaxstyle wrote this JSON and somebody changed it. Text that is no JSON is damage."""
    try:
        content = read_json(path, checked=False)
        return content.get("checksum") != checksum(content)
    except ForeignError:  # it may well be JSON, and is none that we write
        return True
    except InputError:
        return False


def _is_empty(path: Location) -> bool:
    if isinstance(path, URL):
        status = path.status()
        return status is not None and status.size == 0
    try:
        return path.is_file() and path.stat().st_size == 0
    except OSError:
        return False
