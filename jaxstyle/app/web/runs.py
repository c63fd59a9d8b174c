"""Runs of the live page: one at a time uses the device, in a thread of its own."""

import dataclasses
import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

import jax

from jaxstyle.app.console import seconds_left, time_left
from jaxstyle.app.devices import is_out_of_memory
from jaxstyle.app.job import Job
from jaxstyle.app.listeners import NOT_FINITE, Listener, Step
from jaxstyle.app.pages.loss_plot import plot_losses
from jaxstyle.app.painting import paint
from jaxstyle.io import InputError, read_shape, save_image
from jaxstyle.io.files import write_atomically
from jaxstyle.recipe import Recipe

_logger = logging.getLogger("jaxstyle")

_KEPT = 30  # previews: a browser may still be loading an earlier one
_SIZES = 12

_painted: set[tuple[Recipe, tuple[int, ...]]] = set()


@dataclasses.dataclass
class Run:
    """A job and the thread that paints it."""

    job: Job
    thread: threading.Thread | None = None
    stopped: float = math.inf
    """When `stop` was called."""
    shown: Step | None = None
    """The last one."""
    problem: str | None = None
    recorded: bool = False
    """Whether it is among the visitor's results."""
    ended: dict[str, Any] | None = None
    """What the page shows at its end."""
    begin: float = dataclasses.field(default_factory=time.monotonic)


def start(run: Run) -> None:
    """Starts the thread."""
    run.begin = time.monotonic()
    run.thread = threading.Thread(target=_work, args=(run,), daemon=True)
    run.thread.start()


def is_alive(run: Run) -> bool:
    """Whether the thread is working."""
    return run.thread is not None and run.thread.is_alive()


def stop(run: Run) -> None:
    """Ends the run at its next step."""
    run.stopped = min(run.stopped, time.monotonic())


class _Show(Listener):
    """Keeps the last step of a run for its visitor, and ends a run that is stopped."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def see(self, step: Step) -> None:
        if self._run.stopped < math.inf:
            raise KeyboardInterrupt
        self._run.shown = step


def _work(run: Run) -> None:
    try:
        _forget_old_sizes(run.job)
        if paint(run.job, [_Show(run)]) == 1 and not run.job.output.exists():
            run.problem = NOT_FINITE
    except InputError as error:
        run.problem = str(error)
    except Exception as error:  # the page survives any failure of a run
        _logger.exception("a run failed")
        short = is_out_of_memory(error)
        run.problem = "not enough memory; use a smaller size" if short else "the run failed"


def _forget_old_sizes(job: Job) -> None:
    """Empties JAX's caches after a dozen sizes; in them, what was traced for each stays for ever.

    `compile_cache` has the compiled programs that were used last.
    """
    shapes = [read_shape(path, size=job.size) for path in (job.content, *job.styles) if path]
    _painted.add((job.recipe, tuple(-(-n // job.multiple_of) for shape in shapes for n in shape)))
    if len(_painted) > _SIZES:
        jax.clear_caches()
        _painted.clear()


def describe(run: Run) -> str:
    """Returns the status of a run while it works."""
    seconds = time.monotonic() - run.begin
    if run.shown is None:
        return f"preparing; a new size may take half a minute · {seconds:.0f} s"
    step, total, trace = run.shown.number, run.shown.total, run.shown.trace
    width, height = trace[-1]["size"]
    text = f"step {step} of {total}, {width}x{height} px · loss {trace[-1]['loss']:.4g}"
    left = seconds_left(trace, total, run.job.recipe, run.shown.result.image.shape)
    return f"{text} · {seconds:.0f} s{f', about {time_left(left)}' if step else ''}"


def draw(job: Job, step: Step, *, curve: bool) -> tuple[Path, Path | None]:
    """Saves a preview and, if asked for, the loss curve.

    Args:
        job: of the run.
        step: what to show.
        curve: whether to draw the curve.

    Returns:
        The files.
    """
    folder = Path(job.output).parent / "shown"
    folder.mkdir(exist_ok=True)
    preview = folder / f"preview-{step.number:05d}.jpg"
    plot = folder / f"loss-{step.number:05d}.png"
    # Written once: a browser may be loading it.
    if not preview.exists():
        save_image(preview, step.shown)
    for kind in ("preview", "loss"):
        for old in sorted(folder.glob(f"{kind}-*"))[:-_KEPT]:
            old.unlink(missing_ok=True)
    if not curve:
        return preview, None
    if not plot.exists():
        write_atomically(plot, plot_losses(step.trace, job.recipe.weights))
    return preview, plot
