"""`jaxstyle batch`: many pairs."""

import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxstyle.app.cli.arguments import command_line
from jaxstyle.app.cli.options import Look, Machine, Messages, Size
from jaxstyle.app.cli.pictures import (
    check_folder_name,
    check_output_dir,
    check_params,
    check_there,
    place,
)
from jaxstyle.io.errors import InputError, check_positive
from jaxstyle.io.files import PICTURE_SUFFIXES, describe_path
from jaxstyle.io.locations import Location, locate, redact

if TYPE_CHECKING:
    from jaxstyle.io.manifest_rows import ManifestErrors, Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is read and written.

    Attributes:
        manifest: CSV, JSON Lines or Parquet: content, style, output in each row.
        contents: Instead of a manifest: photos, a folder or 'photos/*.jpg'.
        styles: Paintings, likewise; each photo is painted in each of them.
        output_dir: For pictures, their JSON files and the journal.
        bits: For each color of the pictures; 16 in PNG and TIFF.
        init: Start from content, noise, mean or detail [the recipe's].
        root: Refuse pictures and recipes outside of this folder.
        slice: Paint only slice I of N of the rows; slices may run at once.
    """

    manifest: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST")] = None
    contents: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    output_dir: str | None = None
    bits: Literal[8, 16] = 8
    init: Literal["content", "noise", "mean", "detail"] | None = None
    root: str | None = None
    slice: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSize(Size):
    """How large the pictures are, and how long they take.

    Attributes:
        batch_size: Maximum number of pairs painted at once [what memory allows].
    """

    batch_size: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchMachine(Machine):
    """What the run computes with.

    Attributes:
        memory: Memory limit of a batch, such as 4GB [what is available].
        devices: Use this many devices [all].
        engine: local: this machine; ray: a Ray cluster, see the guide.
        address: Of the Ray cluster's head [RAY_ADDRESS, or this machine's].
        gpus_per_worker: GPUs of each process of Ray [1, if there are any].
        cpus_per_worker: CPUs of each process of Ray [those of a node].
    """

    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    gpus_per_worker: int | None = None
    cpus_per_worker: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchOutput:
    """What else is written.

    Attributes:
        report: Write a page with all pictures, index.html, here.
        keep_going: Start although pictures of some rows cannot be read.
        force: Repaint pictures made with other settings, weights or photos.
        retry_failed: Try pairs again that failed before.
        overwrite: Replace existing files that jaxstyle did not write.
    """

    report: str | None = None
    keep_going: bool = False
    force: bool = False
    retry_failed: bool = False
    overwrite: bool = False


def batch(
    pictures: Pictures,
    look: Look,
    size_and_speed: BatchSize,
    memory_and_devices: BatchMachine,
    output: BatchOutput,
    messages: Messages,
) -> int:
    """Paint many pairs, several at a time; the same command resumes a run that was stopped.

    The settings are those of `jaxstyle stylize`, for all pairs; a row of the manifest can override
    them. Recipes that run on SciPy, tiles and checkpoints are for single pictures. The journal is
    in the output folder, next to the pictures. A pair that fails is recorded there with its error;
    the other pairs continue. Manifest, pictures and folders may be addresses, such as
    s3://bucket/pairs.csv.
    """
    command = command_line(batch, locals())
    folder = check_output_dir(_check_given(pictures))
    check_folder_name("--report", output.report)
    # These load JAX, which --help does not need.
    from jaxstyle.app.batch.pictures import check_pictures  # noqa: PLC0415
    from jaxstyle.app.batch.plan import BatchJob, plan_pairs  # noqa: PLC0415
    from jaxstyle.app.batch.runner import run_batch  # noqa: PLC0415
    from jaxstyle.app.memory_estimate import parse_memory  # noqa: PLC0415
    from jaxstyle.io.manifest_rows import ManifestErrors  # noqa: PLC0415

    machine = memory_and_devices
    check_positive("--batch-size", size_and_speed.batch_size)
    check_positive("--devices", machine.devices)
    check_params(machine.params)
    ray = _ray_options(machine)
    index, number = _parse_slice(pictures.slice)
    errors = ManifestErrors(_name(pictures))
    rows = _rows(pictures, folder, errors)[index - 1 :: number]
    if pictures.root is not None:
        errors.check()  # before a file outside is looked at
    common = {**vars(look), **vars(size_and_speed), "init": pictures.init, "bits": pictures.bits}
    common["command"] = command
    del common["batch_size"]
    make = _job_maker({**common, "params": machine.params})
    pairs = plan_pairs(rows, errors, folder, make, size_and_speed.size)
    options = {**vars(output)}
    if not options.pop("keep_going"):
        check_pictures(pairs, errors)
    errors.check()
    job = BatchJob(
        output_dir=folder,
        manifest=locate(pictures.manifest) if pictures.manifest else None,
        batch_size=size_and_speed.batch_size,
        devices=machine.devices,
        memory=parse_memory(machine.memory) if machine.memory else None,
        slice=(index, number),
        **ray,
        command=command,
        **vars(messages),
        **{**options, "report": locate(output.report) if output.report else None},
    )
    return run_batch(pairs, job)


def _ray_options(machine: BatchMachine) -> dict[str, Any]:
    """Returns the options of the engine.

    Raises:
        InputError: if they are wrong, or another engine has none.
    """
    names = ("address", "gpus_per_worker", "cpus_per_worker")
    options = {name: getattr(machine, name) for name in names}
    for name, value in options.items():
        if value is not None and machine.engine != "ray":
            raise InputError(f"--{name.replace('_', '-')} needs --engine ray")
    check_positive("--cpus-per-worker", machine.cpus_per_worker)
    if machine.gpus_per_worker is not None and machine.gpus_per_worker < 0:
        raise InputError(f"--gpus-per-worker {machine.gpus_per_worker}: give 0 or more")
    return {"engine": machine.engine, **options}


def _parse_slice(text: str | None) -> tuple[int, int]:
    """Returns index, from 1, and number of slices; a batch without slices is the only one.

    Raises:
        InputError: if there is no such slice.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", "1/1" if text is None else text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--slice {text}: give I/N with I from 1 to N, such as 2/4")
    return int(found[1]), int(found[2])


def _check_given(pictures: Pictures) -> str:
    """Checks that all that a batch needs is named; returns the output folder.

    Raises:
        InputError: naming all that is missing, and a whole command.
    """
    manifest, contents, styles = pictures.manifest, pictures.contents, pictures.styles
    problems = []
    if manifest is not None and (
        os.path.isdir(manifest) or manifest.lower().endswith(PICTURE_SUFFIXES)
    ):
        kind = "folder" if os.path.isdir(manifest) else "picture"
        problems.append(f"{describe_path(manifest)} is a {kind}, not a manifest: use --contents")
        contents = (manifest, *contents)
    elif (manifest is None) == (not contents) or bool(contents) != bool(styles):
        problems.append("give a MANIFEST, or both --contents and --styles")
    if pictures.output_dir is None:
        problems.append(
            "--output-dir is missing: name one for pictures, their JSON files and the journal"
        )
    if problems:
        photos, paintings = (
            shlex.quote(each[0]) if len(each) == 1 else default
            for each, default in ((contents, "photos"), (styles, "paintings"))
        )
        given = f"--contents {photos} --styles {paintings}"
        if manifest is not None and not contents and not styles:
            given = shlex.quote(manifest)
        folder = shlex.quote(pictures.output_dir or "out")
        raise InputError(
            f"{'; '.join(problems)}; for example: jaxstyle batch {given} --output-dir {folder}"
        )
    if manifest is not None:
        check_there(describe_path(manifest), manifest, "manifest")
    return str(pictures.output_dir)


def _name(pictures: Pictures) -> str:
    """Returns the name of the manifest, or of what is in its place, for messages."""
    return redact(
        pictures.manifest or f"{' '.join(pictures.contents)} x {' '.join(pictures.styles)}"
    )


def _rows(pictures: Pictures, folder: Location, errors: "ManifestErrors") -> "Sequence[Row]":
    """Returns the rows of the manifest, or of the pictures; adds what is wrong to `errors`.

    Raises:
        InputError: if the manifest as a whole is wrong.
    """
    from jaxstyle.io.manifest import read_manifest  # noqa: PLC0415
    from jaxstyle.io.manifest_patterns import cross_product  # noqa: PLC0415

    manifest, contents, styles = pictures.manifest, pictures.contents, pictures.styles
    if not folder.parent.is_dir():
        raise InputError(f"--output-dir {pictures.output_dir}: make its folder first")
    if manifest is not None:
        return read_manifest(locate(manifest), output_dir=folder, root=pictures.root, errors=errors)
    photos, paintings = ([*map(place, texts)] for texts in (contents, styles))
    return cross_product(photos, paintings, output_dir=folder)


def _job_maker(common: dict[str, Any]) -> Callable[..., Any]:
    """Returns a function that makes the job of a row, whose own settings override `common`."""
    from jaxstyle.app.job import make_job  # noqa: PLC0415

    def make(**own: Any) -> Any:
        for name in ("settings", "weights"):  # those of the row come after the common ones
            own[name] = (*common[name], *own.get(name, ()))
        return make_job(**{**common, **own})

    return make
