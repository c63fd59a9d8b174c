"""Paints one picture, from the job to the saved files. `listeners` does what happens on the way."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import jaxstyle
from jaxstyle import StyleResult
from jaxstyle.app import compile_cache, devices, inputs, outputs, saving
from jaxstyle.app.checkpoint import CheckpointFile, Resumed
from jaxstyle.app.compile_ahead import compile_ahead, is_compiling
from jaxstyle.app.console import describe_stages, print_json, print_message, show_progress
from jaxstyle.app.interrupts import Interrupts, leave
from jaxstyle.app.job import Job
from jaxstyle.app.listeners import (
    NOT_FINITE,
    Finished,
    Latest,
    Listener,
    Step,
    finish,
    follow,
    listeners_of,
)
from jaxstyle.app.sidecar import (
    SECONDS,
    count_compilation,
    describe_files,
    describe_losses,
    describe_picture,
    device_name,
    hash_or_none,
    round_seconds,
    timed,
)
from jaxstyle.io import InputError
from jaxstyle.io.files import describe_error, describe_path
from jaxstyle.io.locations import Location
from jaxstyle.solvers import Status

_CPU_CHUNK = 2**18  # pixels times steps, between two looks at the result


def paint(job: Job, listeners: Sequence[Listener] = ()) -> int:
    """Paints the picture of `job` and saves it.

    Args:
        job: what to paint.
        listeners: see the run, besides those that the job asks for.

    Returns:
        The exit code: 0, 1 if the run failed, 128 + the number of a signal, such as 130 for Ctrl-C.

    Raises:
        InputError: for anything that is wrong with the input, before the run starts.
        Exception: for any other failure before there is anything to save.
    """
    run = _prepare(job)
    # One of several processes writes and prints; all of them have the whole picture.
    writes = jax.process_index() == 0
    file = None if job.checkpoint is None else CheckpointFile(job, run.loaded.weights)
    latest = Latest()
    with Interrupts() as interrupts:
        quiet = job.quiet or not writes
        with (
            show_progress(job.progress, quiet, "steps") as show,
            timed(run.seconds, "optimize"),
            count_compilation(run.seconds),
        ):
            seen = [latest, *listeners]

            def work() -> None:
                resumed = None if file is None else file.latest()
                trace: Sequence[Any] = ()
                if resumed is not None:
                    trace, run.earlier = resumed.trace, resumed.trace[-1]["seconds"]
                    run.job = dataclasses.replace(job, recipe=resumed.recipe)
                if writes:
                    seen.extend(listeners_of(run.job, show, file, trace))
                with devices.precision(job.precision):
                    steps = _steps(run, resumed)
                    run.complete = follow(steps, seen, lambda: interrupts.requested)

            problem = interrupts.watch(work, lambda: _is_saveable(latest.step))
        run.seconds["optimize"] += run.earlier - run.seconds["compile"]
        code = 0 if run.complete else interrupts.code
        code = code or 130 * isinstance(problem, KeyboardInterrupt)
        if problem is not None and not code:
            _check_started(latest.step, problem)
            code = 1
        if latest.step is None or not _is_saveable(latest.step):
            code = _report_failure(job, code)
        elif writes:
            code = _save(run, latest.step, seen, code, problem)
        if not interrupts.abandoned:
            for listener in seen:
                listener.end(code)
        code = code or interrupts.code  # of a signal that came while it was saved
        if interrupts.abandoned or (interrupts.requested and is_compiling()):
            leave(code)
    return code


@dataclasses.dataclass
class _Run:
    """A run and what belongs to it."""

    job: Job
    loaded: inputs.Loaded
    mesh: Mesh | None
    tile: int | None
    call: Callable[..., Any]
    files: dict[str, Any]
    """The files that were read, with hashes as they were then."""
    seconds: dict[str, float]
    earlier: float = 0.0
    """Seconds that the run took before it was resumed."""
    complete: bool = False
    """Whether all steps are made."""


def _prepare(job: Job) -> _Run:
    """Checks outputs, reads inputs, and says what will be painted.

    Raises:
        InputError: see `paint`.
    """
    outputs.check_job(job)
    call = compile_cache.keep_compiled_programs()
    seconds = dict.fromkeys(SECONDS, 0.0)
    with timed(seconds, "load"):
        loaded = inputs.load(job)
    content = loaded.pictures.content
    mesh = devices.mesh_of(job.shard, job.devices)
    tile = inputs.fit_memory(job, content, loaded.pictures.styles, mesh)
    saving.announce_transparency(job.output, loaded.alpha)
    if not job.quiet and jax.process_index() == 0:
        print_message(
            f"{job.content.name if job.content else 'texture'} at {content.shape[1]}x"
            f"{content.shape[0]} px, style {_names(job.styles) or 'none'}, "
            f"recipe {job.recipe.name}, on {device_name()}"
        )
        compile_cache.announce_compilation(call)
    return _Run(job, loaded, mesh, tile, call, describe_files(job), seconds)


def _steps(run: _Run, resumed: Resumed | None) -> Iterator[Step]:
    """Makes step after step and yields every few of them."""
    job, shape = run.job, run.loaded.shape
    trace = [] if resumed is None else [*resumed.trace]
    kept: list[jaxstyle.Checkpoint] = []
    stages: list[dict[str, Any]] = []  # of each step
    begin = time.perf_counter() - (trace[-1]["seconds"] if trace else 0.0)
    for number, on_device in _results(run, resumed, kept.append):
        result = jax.device_get(on_device)  # so that it survives a failure of the device
        result = result._replace(image=result.image[: shape[0], : shape[1]])
        total = result.trace.shape[-1]
        if not stages:
            if resumed is not None:
                resumed.check(number, result)
            saving.make_folder(job.output)  # not earlier: wrong input leaves nothing behind
            stages = describe_stages(job.recipe, total, result.image.shape)
            trace = [entry | _stage_of(entry["step"], stages) for entry in trace]
        trace += _new_entries(number, result, trace, stages, time.perf_counter() - begin)
        checkpoint = kept.pop() if kept else None
        kept.clear()
        yield Step(number, total, result, tuple(trace), checkpoint, run.loaded.alpha)


def _results(
    run: _Run, resumed: Resumed | None, keep: Callable[[jaxstyle.Checkpoint], None]
) -> Iterator[tuple[int, StyleResult]]:
    """Yields what `stylize_steps` does."""
    job, pictures = run.job, run.loaded.pictures
    pair: Any = {
        "params": run.loaded.params,
        "content": pictures.content,
        "style": pictures.styles,
    }
    options: Any = {
        "recipe": job.recipe,
        # A single style has all shares. By layer, they would exclude the mask of transparency.
        "style_weights": job.style_weights if len(job.styles) > 1 else None,
        "masks": pictures.masks,
        "style_masks": pictures.style_masks,
        "init": pictures.init,
        "key": devices.random_keys(job.seed),
        "tile": run.tile,
        "mesh": run.mesh,
    }
    steps = jaxstyle.stylize_steps
    ahead: AbstractContextManager[Callable[..., Any]]
    ahead = compile_ahead(run.call, job.precision, steps, pair, options)
    if resumed is not None:  # most of its programs are on disk
        ahead = contextlib.nullcontext(run.call)
    with ahead as call:
        yield from steps(
            **pair,
            **options,
            every=_chunk(job, pictures.content),
            checkpoint=None if resumed is None else resumed.checkpoint,
            keep=None if job.checkpoint is None else keep,
            call=call,
        )


def _is_saveable(step: Step | None) -> bool:
    """Whether there is a picture to save."""
    return step is not None and int(step.result.status) != Status.NON_FINITE_START


def _check_started(step: Step | None, problem: BaseException) -> None:
    """Raises `problem` if it came before the first result."""
    if step is not None:
        return
    if isinstance(problem, ValueError):  # the library refuses a setting
        raise InputError(" ".join(str(problem).split())) from problem
    raise problem


def _report_failure(job: Job, code: int) -> int:
    """Says why there is no picture; returns the exit code."""
    interrupted = code > 1
    status = "interrupted" if interrupted else "non_finite_start"
    print_json(job.progress, {"output": None, "status": status})
    if interrupted:
        print_message("interrupted before there was anything to save")
        return code
    print_message(f"error: {NOT_FINITE}. Nothing was saved")
    return 1


def _save(
    run: _Run,
    step: Step,
    listeners: Sequence[Listener],
    code: int,
    problem: BaseException | None,
) -> int:
    """Saves the picture, then all other files; returns the exit code, which was `code` so far."""
    job, result = run.job, step.result
    metadata = describe_picture(
        job,
        result,
        result.image.shape,
        run.loaded.weights,
        run.seconds,
        step.trace,
        tile=run.tile,
        mesh=run.mesh,
        files=run.files,
    )
    if code:
        metadata["status"] = "failed" if code == 1 else "interrupted"
    if code == 1 and problem is not None:
        metadata["problem"] = _reason(problem)
    image, loaded = np.asarray(result.image), run.loaded
    with timed(run.seconds, "save"):
        saved = saving.save_picture(
            job.output,
            image,
            overwrite=job.overwrite,
            alpha=loaded.alpha,
            dpi=loaded.dpi,
            bits=job.bits,
        )
    complete = saved == job.output
    if saved is None:
        print_json(job.progress, {"output": None, "status": metadata["status"]})
    else:
        metadata["seconds"] = round_seconds(run.seconds)
        metadata |= {"output": saved.name, "sha256": hash_or_none(saved)}
        there = dataclasses.replace(job, output=saved)
        complete &= finish(listeners, Finished(there, step.shown, metadata, loaded.pictures))
    if "problem" in metadata:
        place = "" if saved is None else f"; the best picture so far is in {describe_path(saved)}"
        print_message(
            f"error: the run failed after {step.number} steps: {metadata['problem']}{place}"
        )
    return code or (0 if complete else 1)


def _reason(problem: BaseException) -> str:
    reason = describe_error(problem)
    known = isinstance(problem, OSError | ValueError | jax.errors.JaxRuntimeError)
    if not known and type(problem).__name__ not in reason:
        reason = f"{type(problem).__name__}: {reason}"
    return reason + devices.advice_for(problem)


def _chunk(job: Job, content: np.ndarray) -> int:
    """Steps between two looks at the result."""
    if job.report or job.recipe.solver.on_host:
        return 1  # a report shows the first ones; a step of SciPy's is many evaluations
    every = devices.steps_at_once(content[..., 0].size, cpu=_CPU_CHUNK, other=10)
    return math.gcd(every, job.preview_every or every)


def _new_entries(
    step: int,
    result: StyleResult,
    trace: Sequence[Mapping[str, Any]],
    stages: Sequence[dict[str, Any]],
    seconds: float,
) -> list[dict[str, Any]]:
    """Returns an entry for each step since the last one in `trace`."""
    evaluations = int(result.num_evaluations)
    first: Mapping[str, Any] = {"step": -1, "evaluations": 0, "seconds": seconds}
    last = trace[-1] if trace else first
    # Where a smaller size has ended early, the steps that were left are not made.
    made = max(last["step"], step - (evaluations - last["evaluations"]))
    # Steps that were made together are taken to have lasted equally long.
    each = (seconds - last["seconds"]) / max(step - made, 1)
    return [
        {
            "step": now,
            "evaluations": evaluations - (step - now),
            "seconds": round(seconds - each * (step - now), 3),
            **_stage_of(now, stages),
            **describe_losses(result, now),
        }
        for now in range(made + 1, step + 1)
    ]


def _stage_of(step: int, stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns `stage` and `size` at a step; step 0 is the start, in the stage of the first step."""
    return stages[max(step - 1, 0)]


def _names(paths: Sequence[Location]) -> str:
    return " + ".join(path.name for path in paths)
