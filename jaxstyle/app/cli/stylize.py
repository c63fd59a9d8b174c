"""`jaxstyle stylize`: one picture, or a sheet of several."""

import dataclasses
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxstyle.app.cli.arguments import check_processes, command_line
from jaxstyle.app.cli.options import Look, Machine, Messages, Size
from jaxstyle.app.cli.pictures import (
    check_folder_name,
    check_params,
    check_picture,
    place,
    stdin_as_file,
)
from jaxstyle.app.console import print_message
from jaxstyle.io.errors import InputError, check_positive
from jaxstyle.io.files import describe_path
from jaxstyle.io.locations import is_url, locate

if TYPE_CHECKING:  # it loads JAX, which --help does not need
    from jaxstyle.app.job import Job

# The bundled sample pair is painted at this size unless --size or --steps is given; it takes about
# two minutes on two slow cores.
_SAMPLE_SIZE = 288
_SAMPLE_STEPS = 60
_SHEET_SIZE = 256

_FILES = ("content", "style", "mask", "style_mask", "init")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is read and written.

    Attributes:
        pictures: The photo, then the painting; more paintings are mixed.
        content: The photo; - reads it from stdin.
        style: The painting; several are mixed.
        output: PNG, JPEG, WebP, TIFF, AVIF; its JSON; - is stdout.
        bits: For each color of the picture; 16 in PNG and TIFF.
        init: Start: content, noise, mean, detail or a file [the recipe's].
        mask: For each style: white where it applies in the photo.
        style_mask: For each style: white where it counts in the painting.
    """

    pictures: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    content: str | None = None
    style: tuple[str, ...] = ()
    output: str = "out.png"
    bits: Literal[8, 16] = 8
    init: str | None = None
    mask: tuple[str, ...] = ()
    style_mask: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StylizeLook(Look):
    """What the picture looks like.

    Attributes:
        style_weights: Share of each style [equal].
        layer_style_weights: Shares for single layers that differ from --style-weights.
    """

    style_weights: tuple[float, ...] = ()
    layer_style_weights: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StylizeSize(Size):
    """How large the picture is, and how long it takes.

    Attributes:
        tile: Compute in windows of this many pixels [as --memory needs].
    """

    tile: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StylizeMachine(Machine):
    """What the run computes with.

    Attributes:
        memory: Memory limit, such as 4GB; above it, the picture is tiled.
        shard: Split the picture by rows over all devices.
        devices: Split the picture over this many devices.
        coordinator: Address of the first process; `auto` asks the cluster.
        processes: Number of processes [the cluster's].
        process: Index of this process, from 0 [the cluster's].
    """

    shard: Literal["rows"] | None = None
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StylizeOutput:
    """What else is written.

    Attributes:
        sheet: Compare, in one picture: recipes, NAME..., or TERM=X,Y,Z.
        preview_every: Save a preview every N steps.
        checkpoint: Save a checkpoint here every 10 s; run again to resume.
        plot: Save the loss curve as a picture.
        report: Write a page about the run, index.html, here.
        overwrite: Replace existing files that jaxstyle did not write.
    """

    sheet: tuple[str, ...] = ()
    preview_every: int | None = None
    checkpoint: str | None = None
    plot: bool = False
    report: str | None = None
    overwrite: bool = False


def stylize(
    pictures: Pictures,
    look: StylizeLook,
    size_and_speed: StylizeSize,
    memory_and_devices: StylizeMachine,
    output: StylizeOutput,
    messages: Messages,
) -> int:
    """Paint a photo in the style of a painting.

    Without pictures it paints the bundled sample pair, at a small size. A term of weight 0 is
    removed: `--style s.jpg --loss-weights content=0 --init noise` makes a texture, and
    `--content c.jpg --loss-weights style=0 --init noise` shows what the network keeps of a photo.
    `--style s.jpg --recipe seamless` makes a square texture whose opposite edges fit. `--sheet
    recipes` paints the photo with all recipes, small, and `--sheet style=0.3,1,3` with several loss
    weights, as one labeled picture. Pictures and outputs may be addresses, such as
    s3://bucket/photo.jpg.
    """
    options = dict(locals())
    machine = memory_and_devices
    _check(size_and_speed, machine, output)
    content, style = _content_and_style(pictures)
    _check_pictures(pictures)
    # These load JAX, which --help does not need.
    from jaxstyle.app.devices import join  # noqa: PLC0415
    from jaxstyle.app.painting import paint  # noqa: PLC0415

    if not content and not style:
        content, style, size_and_speed = _sample(size_and_speed, quiet=messages.quiet)
    files = dataclasses.replace(pictures, pictures=(), content=content, style=style)
    with stdin_as_file(files) as (read, stdin):
        if output.sheet:
            return make_sheet(options, read, size_and_speed, stdin)
        job = job_of_options(options, read, size_and_speed, stdin)
        join(machine.coordinator, machine.processes, machine.process)
        return paint(job)


def job_of_options(
    options: Mapping[str, Any], read: Pictures, size: StylizeSize, stdin: Path | None
) -> "Job":
    """Makes the job of a command.

    Args:
        options: the arguments of `stylize`.
        read: the pictures, with a file in the place of stdin.
        size: how large the picture is.
        stdin: that file.

    Raises:
        InputError: if options are wrong or contradict each other.
    """
    from jaxstyle.app.job import make_job  # noqa: PLC0415
    from jaxstyle.app.memory_estimate import parse_memory  # noqa: PLC0415

    machine, output = options["memory_and_devices"], options["output"]
    settings = {**vars(options["look"]), **vars(size), **vars(output), **vars(options["messages"])}
    settings |= {
        "checkpoint": Path(output.checkpoint) if output.checkpoint else None,
        "report": locate(output.report) if output.report else None,
        "output": place(options["pictures"].output),
    }
    files = {name: _located(value) for name, value in vars(read).items() if name in _FILES}
    given = {**vars(read), **files, **settings}
    return make_job(
        **{name: value for name, value in given.items() if name not in ("pictures", "sheet")},
        params=machine.params,
        memory=parse_memory(machine.memory) if machine.memory else None,
        shard=machine.shard,
        devices=machine.devices,
        command=command_line(stylize, options),
        stdin=stdin,
    )


def _located(value: Any) -> Any:
    """Returns the addresses among texts as such."""
    if isinstance(value, tuple):
        return tuple(map(place, value))
    return value and place(value)


def make_sheet(
    options: Mapping[str, Any], read: Pictures, size: StylizeSize, stdin: Path | None
) -> int:
    """Paints a sheet; the arguments are those of `job_of_options`.

    Raises:
        InputError: if options are wrong, or none of the pictures can be painted.
    """
    from jaxstyle.app.job import output_path  # noqa: PLC0415
    from jaxstyle.app.sheet.plan import make_cells  # noqa: PLC0415
    from jaxstyle.app.sheet.run import paint_sheet  # noqa: PLC0415

    pictures, look, output = options["pictures"], options["look"], options["output"]
    _check_sheet(look, options["memory_and_devices"], output)
    if size.size is None:
        size = dataclasses.replace(size, size=_SHEET_SIZE)
    path = output_path("out.png" if pictures.output == "-" else place(pictures.output))
    alone = dataclasses.replace(output, sheet=(), report=None)

    def make(label: str, **changes: Any) -> "Job":
        """Makes the job of a cell; its command paints it alone, as a file of its own."""
        words = re.sub(r"[^\w.=-]+", "-", label)
        own = path.parent / f"{path.stem}-{words}{path.suffix}"
        here = {
            **options,
            "pictures": dataclasses.replace(pictures, output=str(own)),
            "look": dataclasses.replace(look, **changes),
            "size_and_speed": size,
            "output": alone,
        }
        return job_of_options(here, read, size, stdin)

    cells = make_cells(output.sheet, look.recipe, look.weights, make)
    first = next(cell.job for cell in cells if cell.job is not None)
    whole = dataclasses.replace(
        first,
        output=output_path(place(pictures.output)),
        report=locate(output.report) if output.report else None,
        command=command_line(stylize, options),
    )
    return paint_sheet(cells, whole)


def _check_sheet(look: StylizeLook, machine: StylizeMachine, output: StylizeOutput) -> None:
    """Checks what a sheet excludes.

    Raises:
        InputError: if there is something.
    """
    for option, value in (
        ("--preview-every", output.preview_every),
        ("--checkpoint", output.checkpoint),
        ("--plot", output.plot),
        ("--shard", machine.shard),
        ("--devices", machine.devices),
        ("--coordinator", machine.coordinator),
    ):
        if value:
            raise InputError(f"--sheet does not go with {option}: leave one of them out")
    if look.recipe != StylizeLook.recipe and not any("=" in text for text in output.sheet):
        raise InputError(
            f"--sheet names the recipes: leave out --recipe, or write --sheet {look.recipe}"
        )


def _check(size: StylizeSize, machine: StylizeMachine, output: StylizeOutput) -> None:
    """Checks options that have a range or exclude each other.

    Raises:
        InputError: if they are wrong.
    """
    check_positive("--preview-every", output.preview_every)
    check_positive("--tile", size.tile)
    check_positive("--devices", machine.devices)
    check_params(machine.params)
    check_processes(machine.coordinator, machine.processes, machine.process)
    if size.tile is not None and (machine.shard is not None or machine.devices is not None):
        raise InputError("--tile is for one device, --shard and --devices for several: give one")
    check_folder_name("--checkpoint", output.checkpoint)
    check_folder_name("--report", output.report)
    if output.checkpoint is not None and is_url(output.checkpoint):
        raise InputError("--checkpoint is a folder on this machine: name a path")
    if output.checkpoint is not None and machine.coordinator is not None:
        raise InputError("--checkpoint is for a single process: leave out --coordinator")


def _check_pictures(given: Pictures) -> None:
    """Checks that all pictures are there.

    Raises:
        InputError: if one is not.
    """
    named = {"": given.pictures, "--content": (given.content,) if given.content else (),
             "--style": given.style, "--mask": given.mask,
             "--style-mask": given.style_mask}  # fmt: skip
    for option, texts in named.items():
        for text in texts:
            if option == "" and text in texts[2:] and not os.path.lexists(text):
                raise InputError(
                    f"{describe_path(text)} does not exist: if the picture should be written "
                    f"there, use --output {shlex.quote(text)}"
                )
            check_picture(option, text)


def _content_and_style(given: Pictures) -> tuple[str | None, tuple[str, ...]]:
    """Returns the pictures, given by options or without.

    Raises:
        InputError: if they are given in both ways, or if there is only one.
    """
    if not given.pictures:
        return given.content, given.style
    content, *style = given.pictures
    if given.style and not style and given.content is None:
        return content, given.style
    if given.content or given.style:
        raise InputError(
            "the pictures are given twice; write PHOTO PAINTING PAINTING... without options, or "
            "PHOTO --style PAINTING..."
        )
    if not style:
        raise InputError(f"{content}: give a photo and a painting: jaxstyle stylize PHOTO PAINTING")
    return content, tuple(style)


def _sample(size: StylizeSize, *, quiet: bool) -> tuple[str, tuple[str, ...], StylizeSize]:
    """Returns the bundled pair and, unless one was chosen, its size."""
    from jaxstyle.io import SAMPLES  # noqa: PLC0415

    if size.size is None and size.steps is None:
        size = dataclasses.replace(size, size=_SAMPLE_SIZE, steps=_SAMPLE_STEPS)
    if not quiet:
        print_message("no --content and --style given: taking the bundled sample pair")
    return str(SAMPLES / "content.png"), (str(SAMPLES / "style.png"),), size
