"""`jaxstyle stylize` and `jaxstyle repeat`: one picture."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxstyle.app.cli.arguments import check_processes, command_line
from jaxstyle.app.console import say
from jaxstyle.io.errors import InputError, check_positive

# What runs when no picture and no size is named: some two minutes on two slow cores.
_SAMPLE_SIZE = 288
_SAMPLE_STEPS = 60


def stylize(
    pictures: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    content: str | None = None,
    style: tuple[str, ...] = (),
    output: str = "out.png",
    recipe: str = "default",
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    size: int | None = None,
    steps: int | None = None,
    coarsest: int | None = None,
    init: str | None = None,
    seed: int = 0,
    precision: Literal["float32", "tf32", "bfloat16"] = "float32",
    tile: int | None = None,
    memory: str | None = None,
    shard: Literal["rows"] | None = None,
    devices: int | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    weights: tuple[str, ...] = (),
    style_weights: tuple[float, ...] = (),
    layer_style_weights: tuple[str, ...] = (),
    style_scale: float = 1.0,
    color: Literal["style", "luminance", "match"] | None = None,
    mask: tuple[str, ...] = (),
    style_mask: tuple[str, ...] = (),
    params: str | None = None,
    preview_every: int | None = None,
    checkpoint: str | None = None,
    plot: bool = False,
    report: str | None = None,
    overwrite: bool = False,
    progress: Literal["auto", "plain", "json"] = "auto",
    quiet: bool = False,
) -> int:
    """Paint a photo in the style of a painting.

    Without pictures it paints the bundled sample pair, at a small size. A term of weight 0 is left
    out: `--style s.jpg --loss-weights content=0 --init noise` makes a texture, and
    `--content c.jpg --loss-weights style=0 --init noise` shows what the network keeps of a photo.

    Args:
        pictures: The photo, then the painting; more paintings are mixed.
        content: The photo.
        style: The painting; several are mixed.
        output: PNG, JPEG, WebP or TIFF; with a JSON file next to it.
        recipe: A recipe that `jaxstyle recipes` lists, or a file.
        settings: Override its settings; `jaxstyle recipes NAME` lists them.
        size: Long edge in pixels [the recipe's].
        steps: Steps of the solver, at each size the most [the recipe's].
        coarsest: First size of the coarse-to-fine schedule, 0 for none.
        init: Start from content, noise, mean or a file [the recipe's].
        seed: Random seed, used when starting from noise.
        precision: Of the network; faster on some accelerators.
        tile: Compute in windows of this many pixels [as --memory needs].
        memory: Memory limit, such as 4GB [what is available].
        shard: Split the picture by rows over all devices.
        devices: Split the picture over this many devices.
        coordinator: First of several processes; `auto` asks the cluster.
        processes: Number of processes [the cluster's].
        process: Which of the processes this is, from 0 [the cluster's].
        weights: Override loss weights, such as style=2; 0 removes a term.
        style_weights: Share of each style [equal].
        layer_style_weights: Shares for single layers, one for each style.
        style_scale: Size of the painting over --size; above 1: larger strokes.
        color: luminance: the photo's colours; match: in its palette.
        mask: For each style: white where it applies in the photo.
        style_mask: For each style: white where it counts in the painting.
        params: Network weights in any format `weights convert` reads [cached].
        preview_every: Save a preview every N steps.
        checkpoint: Run the same command again to resume a killed run from here.
        plot: Save the loss curve as a picture.
        report: Write a page about the run, index.html, here.
        overwrite: Replace existing files that jaxstyle did not write.
        progress: A bar, lines, or for scripts JSON Lines on stdout.
        quiet: Print errors and warnings only.
    """
    command = command_line(stylize, locals())
    # They load JAX: not for --help.
    from jaxstyle.app.devices import join  # noqa: PLC0415
    from jaxstyle.app.job import make_job  # noqa: PLC0415
    from jaxstyle.app.memory_estimate import parse_memory  # noqa: PLC0415
    from jaxstyle.app.painting import paint  # noqa: PLC0415
    from jaxstyle.io import SAMPLES  # noqa: PLC0415

    if pictures:
        if content or style:
            raise InputError("give the pictures by --content and --style or without, not both")
        if len(pictures) == 1:
            raise InputError(
                f"{pictures[0]}: give a photo and a painting: jaxstyle stylize PHOTO PAINTING"
            )
        content, style = pictures[0], pictures[1:]
    check_positive("--preview-every", preview_every)
    check_positive("--tile", tile)
    check_positive("--devices", devices)
    check_processes(coordinator, processes, process)
    if tile is not None and (shard is not None or devices is not None):
        raise InputError("--tile is for one device, --shard and --devices for several: give one")
    if checkpoint is not None and coordinator is not None:
        raise InputError("--checkpoint is for a single process: leave out --coordinator")
    sample = not content and not style
    if sample:
        if size is None and steps is None:
            size, steps = _SAMPLE_SIZE, _SAMPLE_STEPS
        if not quiet:
            say("no --content and --style given: taking the bundled sample pair")
        content, style = str(SAMPLES / "content.png"), (str(SAMPLES / "style.png"),)
    job = make_job(
        content=content,
        style=style,
        output=output,
        recipe=recipe,
        settings=settings,
        size=size,
        steps=steps,
        coarsest=coarsest,
        init=init,
        seed=seed,
        precision=precision,
        weights=weights,
        style_weights=style_weights,
        layer_style_weights=layer_style_weights,
        style_scale=style_scale,
        color=color,
        mask=mask,
        style_mask=style_mask,
        params=params,
        tile=tile,
        memory=parse_memory(memory) if memory else None,
        shard=shard,
        devices=devices,
        preview_every=preview_every,
        checkpoint=Path(checkpoint) if checkpoint else None,
        plot=plot,
        report=Path(report) if report else None,
        overwrite=overwrite,
        command=command,
        progress=progress,
        quiet=quiet,
    )
    join(coordinator, processes, process)
    return paint(job)


def repeat(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="JSON")],
    *,
    output: str | None = None,
    memory: str | None = None,
    overwrite: bool = False,
    progress: Literal["auto", "plain", "json"] = "auto",
    quiet: bool = False,
) -> int:
    """Paint a picture again, from the JSON file beside it, in any folder.

    The settings are those of the JSON: recipe, size, seed, masks and all others. Pictures and
    network weights must be what they were; what has changed is named.

    Args:
        file: The JSON file beside the picture.
        output: The picture to write [out-again.png for out.png].
        memory: Memory limit, such as 4GB [what is available].
        overwrite: Replace existing files that jaxstyle did not write.
        progress: A bar, lines, or for scripts JSON Lines on stdout.
        quiet: Print errors and warnings only.
    """
    command = command_line(repeat, locals())
    # They load JAX: not for --help.
    from jaxstyle.app.memory_estimate import parse_memory  # noqa: PLC0415
    from jaxstyle.app.painting import paint  # noqa: PLC0415
    from jaxstyle.app.repeat import job_of  # noqa: PLC0415

    named = {} if output is None else {"output": Path(output)}
    job = job_of(
        Path(file),
        **named,
        memory=parse_memory(memory) if memory else None,
        overwrite=overwrite,
        command=command,
        progress=progress,
        quiet=quiet,
    )
    return paint(job)
