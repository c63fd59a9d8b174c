"""`jaxstyle stylize` and `jaxstyle repeat`: one picture."""

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxstyle.app.cli.arguments import check_processes, command_line
from jaxstyle.app.cli.options import Look, Machine, Messages, Size
from jaxstyle.app.cli.pictures import check_folder_name, check_picture, stdin_as_file
from jaxstyle.app.console import print_message
from jaxstyle.io.errors import InputError, check_positive
from jaxstyle.io.files import describe_path

# The bundled sample pair is painted at this size unless --size or --steps is given; it takes about
# two minutes on two slow cores.
_SAMPLE_SIZE = 288
_SAMPLE_STEPS = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is read and written.

    Attributes:
        pictures: The photo, then the painting; more paintings are mixed.
        content: The photo; - reads it from stdin.
        style: The painting; several are mixed.
        output: PNG, JPEG, WebP, TIFF, AVIF; its JSON; - is stdout.
        bits: For each color of the picture; 16 in PNG and TIFF.
        init: Start from content, noise, mean, detail or a file [the recipe's].
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
    """

    shard: Literal["rows"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StylizeOutput:
    """What else is written.

    Attributes:
        preview_every: Save a preview every N steps.
        checkpoint: Save a checkpoint here every 10 s; run again to resume.
        plot: Save the loss curve as a picture.
        report: Write a page about the run, index.html, here.
        overwrite: Replace existing files that jaxstyle did not write.
    """

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
    `--style s.jpg --recipe seamless` makes a square texture whose opposite edges fit.
    """
    command = command_line(stylize, locals())
    machine = memory_and_devices
    _check(size_and_speed, machine, output)
    content, style = _content_and_style(pictures)
    _check_pictures(pictures)
    # These load JAX, which --help does not need.
    from jaxstyle.app.devices import join  # noqa: PLC0415
    from jaxstyle.app.job import make_job  # noqa: PLC0415
    from jaxstyle.app.memory_estimate import parse_memory  # noqa: PLC0415
    from jaxstyle.app.painting import paint  # noqa: PLC0415

    if not content and not style:
        content, style, size_and_speed = _sample(size_and_speed, quiet=messages.quiet)
    settings = {**vars(look), **vars(size_and_speed), **vars(output), **vars(messages)}
    settings |= {
        "checkpoint": Path(output.checkpoint) if output.checkpoint else None,
        "report": Path(output.report) if output.report else None,
    }
    files = dataclasses.replace(pictures, pictures=(), content=content, style=style)
    with stdin_as_file(files) as (read, stdin):
        job = make_job(
            **{name: value for name, value in vars(read).items() if name != "pictures"},
            params=machine.params,
            memory=parse_memory(machine.memory) if machine.memory else None,
            shard=machine.shard,
            devices=machine.devices,
            command=command,
            stdin=stdin,
            **settings,
        )
        join(machine.coordinator, machine.processes, machine.process)
        return paint(job)


def _check(size: StylizeSize, machine: StylizeMachine, output: StylizeOutput) -> None:
    """Checks options that have a range or exclude each other.

    Raises:
        InputError: if they are wrong.
    """
    check_positive("--preview-every", output.preview_every)
    check_positive("--tile", size.tile)
    check_positive("--devices", machine.devices)
    check_processes(machine.coordinator, machine.processes, machine.process)
    if size.tile is not None and (machine.shard is not None or machine.devices is not None):
        raise InputError("--tile is for one device, --shard and --devices for several: give one")
    check_folder_name("--checkpoint", output.checkpoint)
    check_folder_name("--report", output.report)
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


def repeat(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="JSON")],
    *,
    output: str | None = None,
    memory: str | None = None,
    overwrite: bool = False,
    messages: Messages,
) -> int:
    """Paint a picture again from the JSON file next to it, in any folder.

    All settings are those of the JSON: recipe, size, seed, masks and the rest. Pictures and
    network weights must not have changed; the message names those that have.

    Args:
        file: The JSON file next to the picture.
        output: The picture to write [out-again.png for out.png].
        memory: Memory limit, such as 4GB [what is available].
        overwrite: Replace existing files that jaxstyle did not write.
        messages: What is printed.
    """
    command = command_line(repeat, locals())
    # These load JAX, which --help does not need.
    from jaxstyle.app.job import output_path  # noqa: PLC0415
    from jaxstyle.app.memory_estimate import parse_memory  # noqa: PLC0415
    from jaxstyle.app.painting import paint  # noqa: PLC0415
    from jaxstyle.app.repeat import job_of  # noqa: PLC0415

    named = {} if output is None else {"output": output_path(output)}
    job = job_of(
        Path(file),
        memory=parse_memory(memory) if memory else None,
        overwrite=overwrite,
        command=command,
        **named,
        **vars(messages),
    )
    return paint(job)
