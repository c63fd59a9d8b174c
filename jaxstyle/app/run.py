"""One run of the program: load, paint with progress and previews, save everything."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import jaxstyle
from jaxstyle.app import inputs, outputs, runtime
from jaxstyle.app.checkpoint import CheckpointFile
from jaxstyle.app.interrupts import Interrupts, leave
from jaxstyle.app.job import Job, say
from jaxstyle.app.pages import run_page
from jaxstyle.app.pages.html import THUMBNAIL, embed
from jaxstyle.app.progress import describe_step, show_progress, tell_program
from jaxstyle.app.sidecar import (
    count_compilation,
    describe_files,
    describe_losses,
    describe_run,
    device_name,
    timed,
)
from jaxstyle.compiled import StyleResult
from jaxstyle.io import (
    InputError,
    save_image,
)
from jaxstyle.io.files import describe_error, describe_path
from jaxstyle.solvers import ScipyLBFGSB, Status

_CPU_CHUNK = 2**18  # pixels times steps, between two looks at the result

Look = Callable[[int, StyleResult, Sequence[Mapping[str, Any]]], None]


def run(job: Job, look: Look | None = None) -> int:
    """Runs `job`; returns the exit code: 0, 1 if it failed, 130 after Ctrl-C.

    Args:
        job: what to do.
        look: called with the steps made, the best result so far and the trace, as often as there
            is something new; a KeyboardInterrupt that it raises is like Ctrl-C.

    Raises:
        InputError: for anything that is wrong with the input, before the run starts.
        Exception: whatever else ends it before there is anything to save.
    """
    outputs.check_job(job)
    call = runtime.keep_compiled_programs()
    seconds = dict.fromkeys(("load", "compile", "optimize", "save"), 0.0)
    with timed(seconds, "load"):
        loaded = inputs.load(job)
    mesh = runtime.mesh_of(job.shard, job.devices)
    tile = inputs.fit_memory(job, loaded.pictures.content, loaded.pictures.styles, mesh)
    # Of several processes one writes and speaks; all have the whole picture.
    writes = jax.process_index() == 0
    if not writes:
        job = dataclasses.replace(job, quiet=True, progress="auto", report=None, preview_every=None)
    if not job.quiet:
        height, width, _ = loaded.pictures.content.shape
        say(
            f"{job.content.name if job.content else 'texture'} at {width}x{height} px, style "
            f"{_names(job.styles) or 'none'}, recipe {job.recipe.name}, on {device_name()}"
        )
    file = None if job.checkpoint is None else CheckpointFile(job, loaded.weights)
    painting = _Painting(job, file, writes)
    painting.files = describe_files(job)
    with Interrupts() as interrupts:
        with timed(seconds, "optimize"), count_compilation(seconds):
            problem = interrupts.watch(
                lambda: painting.paint(loaded, mesh, tile, call, look, interrupts),
                painting.has_result,
            )
        seconds["optimize"] -= seconds["compile"]
        code = 0 if painting.complete else interrupts.code
        code = code or 130 * isinstance(problem, KeyboardInterrupt)
        if problem is not None and not code:
            painting.check_has_result(problem)
            code = 1
        if not painting.has_result():
            code = _tell_failure(job, code)
        elif writes:
            code = _finish(job, painting, loaded, seconds, code, problem, tile, mesh)
        if file is not None and code and not interrupts.abandoned:
            file.save(quiet=code == 1)
        code = code or interrupts.code  # of a signal that came while it was saved
        if interrupts.abandoned:
            leave(code)
    return code


class _Painting:
    """A run while it is painted, and what there is to save at any moment."""

    def __init__(self, job: Job, file: CheckpointFile | None, writes: bool) -> None:
        self.job = job
        self.file = file
        self.writes = writes
        self.snapshots: dict[int, str] = {}
        self.files: dict[str, Any] = {}  # as they were read
        self.complete = False
        self.latest: tuple[StyleResult, list[dict[str, Any]]] | None = None  # on the host

    def has_result(self) -> bool:
        """Whether there is something to save."""
        if self.latest is None:
            return False
        return int(self.latest[0].status) != Status.NON_FINITE_START

    def check_has_result(self, problem: BaseException) -> None:
        """Raises `problem` if it has come before there was anything to save."""
        if self.latest is not None:
            return
        if isinstance(problem, ValueError):  # the library refuses a setting
            raise InputError(" ".join(str(problem).split())) from problem
        raise problem

    def paint(
        self,
        loaded: inputs.Loaded,
        mesh: Mesh | None,
        tile: int | None,
        call: Callable[..., Any],
        look: Look | None,
        interrupts: Interrupts,
    ) -> None:
        """Makes step after step, until the last one or an interrupt."""
        job, file, pictures = self.job, self.file, loaded.pictures
        trace: list[dict[str, Any]] = []
        checkpoint = None if file is None else file.latest(trace, self.snapshots)
        before = trace[-1]["step"] if trace else 0
        with runtime.precision(job.precision):
            steps = jaxstyle.stylize_steps(
                loaded.params,
                pictures.content,
                pictures.styles,
                recipe=job.recipe,
                style_weights=job.style_weights,
                masks=pictures.masks,
                style_masks=pictures.style_masks,
                init=pictures.init,
                key=jax.random.key(job.seed) if job.init in ("noise", "mean") else None,
                tile=tile,
                mesh=mesh,
                every=_chunk(job, pictures.content),
                checkpoint=checkpoint,
                keep=None if file is None else lambda now: file.keep(now, trace, self.snapshots),
                call=call,
            )
            for step, result in _show_progress(steps, job, trace, loaded.shape):
                self.latest = result, list(trace)
                if look is not None:
                    look(step, result, trace)
                if self.writes:
                    self._keep_picture(before, step, result)
                before = step
                if interrupts.requested and step < result.trace.shape[-1]:
                    return
        self.complete = True

    def _keep_picture(self, before: int, step: int, result: StyleResult) -> None:
        """Saves a preview, and keeps a small picture for the report, where it is time for one.

        `before` is the step that was looked at last.
        """
        job = self.job
        if job.preview_every and step // job.preview_every > before // job.preview_every:
            path = job.preview_path(step)
            try:
                if not job.overwrite:
                    outputs.check_replaceable(path)
                save_image(path, result.image)
            except InputError as error:
                say(f"no preview: {error}")  # the picture itself is still being painted
        if job.report and run_page.is_due(step, result.trace.shape[-1], self.snapshots):
            self.snapshots[step] = embed(np.asarray(result.image), THUMBNAIL)


def _tell_failure(job: Job, code: int) -> int:
    """Says why there is no picture; returns the exit code."""
    interrupted = code > 1
    status = "interrupted" if interrupted else "non_finite_start"
    tell_program(job.progress, {"output": None, "status": status})
    if interrupted:
        say("interrupted before there was anything to save")
        return code
    say("error: the loss is not finite at the start; use smaller --loss-weights. Nothing was saved")
    return 1


def _finish(
    job: Job,
    painting: _Painting,
    loaded: inputs.Loaded,
    seconds: dict[str, float],
    code: int,
    problem: BaseException | None,
    tile: int | None,
    mesh: Mesh | None,
) -> int:
    """Saves what has been painted; returns the exit code, which was `code` until now."""
    assert painting.latest is not None  # noqa: S101
    result, trace = painting.latest
    metadata = describe_run(
        job,
        result,
        result.image.shape,
        loaded.weights,
        seconds,
        trace,
        tile=tile,
        mesh=mesh,
        files=painting.files,
    )
    if code:
        metadata["status"] = "failed" if code == 1 else "interrupted"
    if code == 1 and problem is not None:
        metadata["problem"] = _reason(problem)
    snapshots = dict(painting.snapshots)
    image = np.asarray(result.image)
    saved, complete = outputs.save_all(job, image, metadata, seconds, loaded.pictures, snapshots)
    if "problem" in metadata:
        place = "" if saved is None else f"; the best picture so far is in {describe_path(saved)}"
        say(f"error: the run failed after {trace[-1]['step']} steps: {metadata['problem']}{place}")
    if painting.file is not None and complete and not code:
        painting.file.remove()
    return code or (0 if complete else 1)


def _reason(problem: BaseException) -> str:
    reason = describe_error(problem)
    told = isinstance(problem, OSError | ValueError | jax.errors.JaxRuntimeError)
    if not told and type(problem).__name__ not in reason:
        reason = f"{type(problem).__name__}: {reason}"
    advice = "; use a smaller --size or --tile" if "RESOURCE_EXHAUSTED" in reason else ""
    return reason + advice


def _chunk(job: Job, content: np.ndarray) -> int:
    """Steps between two looks at the result."""
    if job.report or isinstance(job.recipe.solver, ScipyLBFGSB):
        return 1  # a report shows the first ones; a step of SciPy's is many evaluations
    every = runtime.steps_at_once(content[..., 0].size, cpu=_CPU_CHUNK, other=10)
    return math.gcd(every, job.preview_every or every)


def _show_progress(
    steps: Iterator[tuple[int, StyleResult]],
    job: Job,
    trace: list[dict[str, Any]],
    shape: tuple[int, int],
) -> Iterator[tuple[int, StyleResult]]:
    """Passes `steps` on, copied to the host, notes each in `trace`, and tells of it."""
    begin = time.perf_counter() - (trace[-1]["seconds"] if trace else 0.0)
    with show_progress(job.progress, job.quiet, "steps") as show:
        for step, on_device in steps:
            result = jax.device_get(on_device)  # whatever becomes of the device
            result = result._replace(image=result.image[: shape[0], : shape[1]])
            total = result.trace.shape[-1]
            for entry in _new_entries(step, result, trace, time.perf_counter() - begin):
                trace.append(entry)
                tell_program(job.progress, {"total": total, **entry})
            show(step, total, describe_step(trace, total, job.recipe, result.image.shape))
            yield step, result


def _new_entries(
    step: int, result: StyleResult, trace: Sequence[Mapping[str, Any]], seconds: float
) -> list[dict[str, Any]]:
    """Returns an entry for each step since the last one in `trace`."""
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


def _names(paths: Sequence[Path]) -> str:
    return " + ".join(path.name for path in paths)
