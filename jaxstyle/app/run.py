"""One run of the program: load, stylise with progress and previews, save everything."""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import jaxstyle
from jaxstyle import transfer
from jaxstyle.app import outputs, report, runtime
from jaxstyle.app.checkpoint import CheckpointFolder
from jaxstyle.app.job import Job, say
from jaxstyle.app.memory import (
    available_memory,
    can_be_tiled,
    check_memory,
    choose_tile,
    format_memory,
)
from jaxstyle.app.plot import plot_losses
from jaxstyle.app.programs import LOADED
from jaxstyle.app.progress import describe_step, show_progress, tell_program
from jaxstyle.io import (
    InputError,
    describe_recipe,
    describe_versions,
    load_image,
    save_image,
    write_json,
)
from jaxstyle.io.files import write_atomically
from jaxstyle.io.weights import load_params_and_info
from jaxstyle.objective import layers_of
from jaxstyle.sharding import splits_columns
from jaxstyle.solvers import ScipyLBFGSB, Status
from jaxstyle.transfer import StyleResult

_CPU_CHUNK = 2**18  # pixels times steps, between two looks at the result


def run(
    job: Job, look: Callable[[int, StyleResult, Sequence[Mapping[str, Any]]], None] | None = None
) -> int:
    """Runs `job`; returns the exit code: 0, 1 if it failed, 130 after Ctrl-C.

    Args:
        job: what to do.
        look: called with the steps made, the best result so far and the trace, as often as there
            is something new; a KeyboardInterrupt that it raises is like Ctrl-C.

    Raises:
        InputError: for anything that is wrong with the input, before the run starts.
    """
    outputs.check_job(job)
    call = runtime.keep_compiled_programs()
    seconds = dict.fromkeys(("load", "compile", "optimize", "save"), 0.0)
    with timed(seconds, "load"):
        content, styles, init = _load_images(job)
        masks, style_masks = _load_masks(job, content, styles)
        params, weights_info = _load_weights(job)
    mesh = runtime.mesh_of(job.shard, job.devices)
    tile = _fit_memory(job, content, styles, mesh)
    # Of several processes one writes and speaks; all have the whole picture.
    writes = jax.process_index() == 0
    if not writes:
        job = dataclasses.replace(job, quiet=True, progress="auto", report=None, preview_every=None)

    if not job.quiet:
        height, width, _ = content.shape
        say(
            f"{job.content.name if job.content else 'texture'} at {width}x{height} px, style "
            f"{_names(job.styles) or 'none'}, recipe {job.recipe.name}, on {_device()}"
        )

    folder = None
    if job.checkpoint is not None:
        folder = CheckpointFolder(job.checkpoint, job, weights_info)
    trace: list[dict[str, Any]] = []
    snapshots: dict[int, str] = {}
    best: StyleResult | None = None
    interrupted = 0  # the exit code, if it was
    with (
        folder or nullcontext(),
        runtime.on_signal(runtime.interrupt, signal.SIGTERM),
        runtime.precision(job.precision),
        timed(seconds, "optimize"),
        count_compilation(seconds),
    ):
        checkpoint = None if folder is None else folder.latest(trace, snapshots)
        steps = jaxstyle.stylize_steps(
            params,
            content,
            styles,
            recipe=job.recipe,
            style_weights=job.style_weights,
            masks=masks,
            style_masks=style_masks,
            init=init,
            key=jax.random.key(job.seed) if job.init in ("noise", "mean") else None,
            tile=tile,
            mesh=mesh,
            every=_chunk(job, content),
            checkpoint=checkpoint,
            keep=None if folder is None else lambda now: folder.keep(now, trace, snapshots),
            call=call,
        )
        try:
            before = trace[-1]["step"] if trace else 0
            for step, result in _show_progress(steps, job, trace):
                best = result
                if look is not None:
                    look(step, result, trace)
                if writes:
                    _keep_picture(job, before, step, result, snapshots)
                before = step
        except KeyboardInterrupt as error:
            interrupted = 143 if isinstance(error, runtime.Terminated) else 130
    seconds["optimize"] -= seconds["compile"]
    if best is None or best.status == Status.NON_FINITE_START:
        return _tell_failure(job, interrupted)
    if not writes:
        return interrupted
    metadata = describe_run(
        job, best, best.image.shape, weights_info, seconds, trace, tile=tile, mesh=mesh
    )
    if interrupted:
        metadata["status"] = "interrupted"
    pictures = report.Pictures(content, styles, masks, style_masks, init)
    _write(job, np.asarray(best.image), metadata, seconds, pictures, snapshots)
    if folder is not None and not interrupted:
        folder.remove()
    return interrupted


def _keep_picture(
    job: Job, before: int, step: int, result: StyleResult, snapshots: dict[int, str]
) -> None:
    """Saves a preview, and keeps a small picture for the report, where it is time for one.

    `before` is the step that was looked at last.
    """
    if job.preview_every and step // job.preview_every > before // job.preview_every:
        try:
            save_image(job.preview_path(step), np.asarray(result.image))
        except InputError as error:
            say(f"no preview: {error}")  # the picture itself is still being painted
    if job.report and report.is_due(step, result.trace.shape[-1], snapshots):
        snapshots[step] = report.embed(np.asarray(result.image), report.THUMBNAIL)


def _tell_failure(job: Job, interrupted: int) -> int:
    """Says why there is no picture; returns the exit code."""
    status = "interrupted" if interrupted else "non_finite_start"
    tell_program(job.progress, {"output": None, "status": status})
    if interrupted:
        say("interrupted before there was anything to save")
        return interrupted
    say("error: the loss is not finite at the start; use smaller --weights. Nothing was saved")
    return 1


def _write(
    job: Job,
    image: np.ndarray,
    metadata: dict[str, Any],
    seconds: dict[str, float],
    pictures: report.Pictures,
    snapshots: Mapping[int, str],
) -> None:
    """Saves everything and says so."""
    trace = metadata["trace"]
    # The JSON tells how long saving the picture took, so it comes last.
    with timed(seconds, "save"):
        save_image(job.output, image)
        if job.plot:
            plot = plot_losses(trace, job.recipe.weights, f"{job.output.name}: loss")
            write_atomically(job.plot_path, plot)
    metadata["seconds"] = round_seconds(seconds)
    write_json(job.metadata_path, metadata)
    page = None
    if job.report is not None:
        page = report.page_path(job.report)
        body = report.describe_run(job, metadata, image, pictures, snapshots)
        report.write_page(job.report, job.output.name, body)
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


def describe_run(
    job: Job,
    result: StyleResult,
    shape: Sequence[int],
    weights_info: Mapping[str, Any],
    seconds: Mapping[str, float],
    trace: Sequence[Mapping[str, Any]],
    *,
    tile: int | None,
    mesh: Mesh | None,
) -> dict[str, Any]:
    """Returns what stands in the JSON beside a picture of `shape` `(H, W, 3)`."""
    return {
        "output": job.output.name,
        "recipe": describe_recipe(job.recipe),
        "command": job.command or None,
        "content": str(job.content) if job.content else None,
        "styles": [str(path) for path in job.styles],
        "style_weights": job.style_weights,
        "style_scale": job.style_scale,
        "masks": [str(path) for path in job.masks],
        "style_masks": [str(path) for path in job.style_masks],
        "init": job.init,
        "seed": job.seed,
        "weights": weights_info,
        "versions": describe_versions(),
        "device": _device(),
        "precision": job.precision,
        "tile": tile,
        "devices": 1 if mesh is None else mesh.size,
        "size": [shape[1], shape[0]],
        "status": Status(int(result.status)).name.lower(),
        "num_evaluations": int(result.num_evaluations),
        "seconds": round_seconds(seconds),
        "loss": float(result.loss),
        "trace": trace,
    }


def describe_losses(result: StyleResult, step: int) -> dict[str, Any]:
    """Returns loss and terms after a step, 0 before the first one, as they stand in JSON."""
    if step == 0:
        loss, terms = result.loss, result.term_losses
    else:
        loss = result.trace[step - 1]
        terms = {name: trace[step - 1] for name, trace in result.term_traces.items()}
    return {"loss": float(loss), "terms": {name: float(value) for name, value in terms.items()}}


def round_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Returns timings as they stand in JSON."""
    return {name: round(value, 3) for name, value in seconds.items()}


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds that it takes to `seconds[name]`."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - begin


@contextmanager
def count_compilation(seconds: dict[str, float]) -> Iterator[None]:
    """Adds what JAX spends on compiling, and on loading programs, to `seconds["compile"]`."""

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        # Tracing is left out: it nests, and would be counted twice.
        compiled = event.endswith(("/backend_compile_duration", "/jaxpr_to_mlir_module_duration"))
        if compiled or event == LOADED:
            seconds["compile"] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _load_images(job: Job) -> tuple[np.ndarray, tuple[np.ndarray, ...], Any]:
    style_size = max(round(job.size * job.style_scale), 1)
    styles = tuple(_load(job, path, "style", style_size) for path in job.styles)
    init: Any = job.init
    named = init in ("content", "noise", "mean")
    if not named:
        init = load_image(init, size=job.size)
    if job.content is not None:
        content = _load(job, job.content, "content", job.size)
    else:
        # Nothing reads it but for its size: that of the style, which for a texture is as good.
        content = np.zeros_like(_load(job, job.styles[0], "content", job.size) if named else init)
    _check_size(job, "init", job.init, content.shape)
    if not named and init.shape != content.shape:
        raise InputError(
            f"--init {job.init} has another aspect ratio than the content: "
            f"{init.shape[1]}x{init.shape[0]} px instead of "
            f"{content.shape[1]}x{content.shape[0]}; crop it, or start from content or noise"
        )
    return content, styles, init


def _load_masks(
    job: Job, content: np.ndarray, styles: Sequence[np.ndarray]
) -> tuple[np.ndarray | None, tuple[np.ndarray, ...] | None]:
    masks = [load_mask("--mask", path, content) for path in job.masks]
    of_styles = tuple(
        load_mask("--style-mask", path, style)
        for path, style in zip(job.style_masks, styles)  # noqa: B905  none, or one each
    )
    return np.stack(masks) if masks else None, of_styles or None


def load_mask(option: str, path: Path, image: np.ndarray) -> np.ndarray:
    """Reads a mask, `(H, W)` in [0, 1], for an image of `(H, W, 3)`.

    Raises:
        InputError: if it cannot be read, has another aspect ratio, or is black all over.
    """
    mask = load_image(path, size=max(image.shape[:2])).mean(-1)
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"{option} {path} has another aspect ratio than its picture: {mask.shape[1]}x"
            f"{mask.shape[0]} px instead of {image.shape[1]}x{image.shape[0]}; crop it"
        )
    if not mask.max() > 0:
        raise InputError(f"{option} {path} is black all over: paint its region white")
    return mask


def _load(job: Job, path: Path, source: str, size: int) -> np.ndarray:
    image = load_image(path, size=size)
    _check_size(job, source, path, image.shape)
    return image


def _check_size(job: Job, source: str, path: object, shape: Sequence[int]) -> None:
    layers = layers_of(term for term in job.recipe.terms if term.target_image == source)
    # The image that is optimised has the content's size, and passes all layers.
    layers = layers if source == "style" else layers_of(job.recipe.terms)
    minimum = job.recipe.network.minimum_size(layers)
    if min(shape[:2]) < minimum:
        scaled = " times --style-scale" if source == "style" and job.style_scale != 1 else ""
        raise InputError(
            f"{source} {path} is {shape[1]}x{shape[0]} px at --size {job.size}"
            f"{scaled}; recipe {job.recipe.name} needs at least {minimum} px on the short edge: "
            "use a larger --size or a less narrow image"
        )


def _load_weights(job: Job) -> tuple[Any, dict[str, Any]]:
    preprocessing = job.recipe.network.preprocessing
    params, info = load_params_and_info(job.params, preprocessing=preprocessing)
    return params, {"source": info.source, "sha256": info.sha256}


def _fit_memory(
    job: Job, content: np.ndarray, styles: Sequence[np.ndarray], mesh: Mesh | None
) -> int | None:
    """Returns the tile that is given, or the one that it takes, if any.

    Raises:
        InputError: if the picture does not fit into memory, or over the devices.
    """
    recipe = job.recipe
    height, width, _ = content.shape
    budget = available_memory() if job.memory is None else job.memory
    shapes = [style.shape for style in styles]
    longest = max(height, width, *(edge for shape in shapes for edge in shape[:2]))
    if job.tile is not None and job.tile < longest and not can_be_tiled(recipe):
        raise InputError(f"--tile: recipe {recipe.name} has a term that is no sum over positions")
    if mesh is not None:
        if isinstance(recipe.solver, ScipyLBFGSB):
            raise InputError(
                f"recipe {recipe.name} runs on the host: leave out --shard and --devices"
            )
        try:
            stride = transfer.Problem(recipe.network, recipe.terms).stride
            splits_columns(content.shape, mesh, stride)
        except ValueError as error:
            raise InputError(f"{error}; use another --size or fewer --devices") from None
        part = -(-height // mesh.size)
        check_memory(recipe, part, width, budget)
        return job.tile
    if job.tile is not None:
        check_memory(recipe, height, width, budget, tile=job.tile, style_shapes=shapes)
        return job.tile
    tile = choose_tile(recipe, height, width, budget, style_shapes=shapes)
    if tile is not None and not job.quiet:
        say(
            f"{width}x{height} px at once are too much for {format_memory(budget)}: computing in "
            f"windows of {tile} px, which gives the same picture"
        )
    return tile


def _chunk(job: Job, content: np.ndarray) -> int:
    """Steps between two looks at the result."""
    if job.report or isinstance(job.recipe.solver, ScipyLBFGSB):
        return 1  # a report shows the first ones; a step of SciPy's is many evaluations
    every = runtime.steps_at_once(content[..., 0].size, cpu=_CPU_CHUNK, other=10)
    return math.gcd(every, job.preview_every or every)


def _show_progress(
    steps: Iterator[tuple[int, StyleResult]], job: Job, trace: list[dict[str, Any]]
) -> Iterator[tuple[int, StyleResult]]:
    """Passes `steps` on, notes each in `trace`, and tells of it.

    Raises:
        InputError: what the library refuses.
    """
    begin = time.perf_counter() - (trace[-1]["seconds"] if trace else 0.0)
    with show_progress(job.progress, job.quiet, "steps") as show:
        for step, result in _refuse(steps):
            total = result.trace.shape[-1]
            for entry in _new_entries(step, result, trace, time.perf_counter() - begin):
                trace.append(entry)
                tell_program(job.progress, {"total": total, **entry})
            show(step, total, describe_step(trace, total, job.recipe, result.image.shape))
            yield step, result


def _refuse(steps: Iterator[tuple[int, StyleResult]]) -> Iterator[tuple[int, StyleResult]]:
    """Makes of the library's `ValueError` one for the user."""
    try:
        yield from steps
    except ValueError as error:
        raise InputError(" ".join(str(error).split())) from error


def _new_entries(
    step: int, result: StyleResult, trace: Sequence[Mapping[str, Any]], seconds: float
) -> list[dict[str, Any]]:
    """Returns an entry for each step since the last one in `trace`."""
    result = StyleResult(result.image, *jax.device_get(result[1:]))  # all but the large one
    evaluations = int(result.num_evaluations)
    first: Mapping[str, Any] = {"step": -1, "evaluations": 0, "seconds": seconds}
    last = trace[-1] if trace else first
    # Where a smaller size has ended early, the steps that were left are not made.
    made = max(last["step"], step - (evaluations - last["evaluations"]))
    # Of steps that were made together each took as long.
    each = (seconds - last["seconds"]) / max(step - made, 1)
    return [
        {
            "step": now,
            "evaluations": evaluations - (step - now),
            "seconds": round(seconds - each * (step - now), 3),
            **describe_losses(result, now),
        }
        for now in range(made + 1, step + 1)
    ]


def _device() -> str:
    device = jax.devices()[0]
    return f"{device.platform} ({device.device_kind})"


def _names(paths: Sequence[Path]) -> str:
    return " + ".join(path.name for path in paths)
