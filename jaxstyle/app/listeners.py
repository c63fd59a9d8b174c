"""Listeners: progress, previews, checkpoint, loss curve and report of a run.

A run yields a `Step` every few steps, and `follow` passes it to all listeners. A single picture,
a batch and the live page share this loop.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxstyle import Checkpoint, StyleResult
from jaxstyle.app.checkpoint import CheckpointFile
from jaxstyle.app.console import (
    describe_step,
    entries_of_last_stage,
    print_json,
    print_message,
)
from jaxstyle.app.inputs import Pictures
from jaxstyle.app.job import Job
from jaxstyle.app.outputs import check_replaceable
from jaxstyle.app.pages import run_page
from jaxstyle.app.pages.html import THUMBNAIL, embed, page_path, write_page
from jaxstyle.app.pages.loss_plot import plot_losses
from jaxstyle.compiled import changes_after
from jaxstyle.io import InputError, save_image, write_atomically, write_json
from jaxstyle.io.errors import count
from jaxstyle.io.files import describe_error, show_path
from jaxstyle.io.image_alpha import on_white
from jaxstyle.io.locations import Location

_ENDINGS = {
    "converged": "it ended early, since the picture no longer changed",
    "stalled": "it ended early, since no step lowered the loss further",
    "recovered": "a step to a loss that is not finite was undone",
}
"""Status -> what it means. A run ends as it should with `step_limit`, which is not mentioned."""

NOT_FINITE = "the loss is not finite at the start; use smaller loss weights"
"""Why there is no picture of a run that ends with `Status.NON_FINITE_START`."""


class Step(NamedTuple):
    """What a run yields every few steps."""

    number: int
    """Steps made so far."""
    total: int
    """Steps of the whole run; it may end earlier."""
    result: StyleResult
    """The best so far. That of a single picture is on the host."""
    trace: Sequence[Mapping[str, Any]] = ()
    """An entry for each step so far, as in the JSON; empty in a batch."""
    checkpoint: Checkpoint | None = None
    """The latest one. Its arrays are valid until the run makes its next step."""
    alpha: np.ndarray | None = None
    """`(H, W)`, the opacity of the result; None if it is 1 everywhere."""

    @property
    def shown(self) -> Any:
        """The picture of a single run, `(H, W, 3)`, on white."""
        image = np.asarray(self.result.image)
        return image if self.alpha is None else on_white(image, self.alpha)


class Finished(NamedTuple):
    """A picture that has been saved."""

    job: Job
    """Its `output` is where the picture is."""
    image: np.ndarray
    """`(H, W, 3)`, on white."""
    metadata: dict[str, Any]
    """The content of the JSON."""
    pictures: Pictures
    """The inputs."""


class Listener:
    """Sees the events of a run. A subclass overrides the methods that it needs."""

    name = ""
    """What it writes, for messages."""

    def see(self, step: Step) -> None:
        """Called every few steps. A `KeyboardInterrupt` that it raises is like Ctrl-C."""

    def finish(self, finished: Finished) -> None:
        """Called once the picture is saved. An exception is reported and fails the run."""

    def end(self, code: int) -> None:
        """Called at the end with the exit code, unless the run still goes on in its thread."""


def follow(
    steps: Iterator[Step], listeners: Sequence[Listener], stopped: Callable[[], bool]
) -> bool:
    """Passes each step to all listeners, in their order.

    Args:
        steps: of a run.
        listeners: see each step.
        stopped: whether to stop, asked after each step.

    Returns:
        Whether the run has made its last step.
    """
    for step in steps:
        for listener in listeners:
            listener.see(step)
        if stopped() and step.number < step.total:
            return False
    return True


def finish(listeners: Sequence[Listener], finished: Finished) -> bool:
    """Calls `finish` of all listeners; one that fails does not affect the others.

    Returns:
        Whether all of them have succeeded.
    """
    complete = True
    for listener in listeners:
        try:
            listener.finish(finished)
        except Exception as error:
            print_message(f"error: there is no {listener.name}: {describe_error(error)}")
            complete = False
    return complete


def listeners_of(
    job: Job, show: Callable[..., None], file: CheckpointFile | None, trace: Sequence[Any]
) -> list[Listener]:
    """Returns the listeners that a job asks for.

    Args:
        job: the run.
        show: shows progress, see `show_progress`.
        file: keeps the checkpoints, or None.
        trace: of the run that is resumed, or empty.
    """
    listeners: list[Listener] = [] if job.is_stdout else [Sidecar()]
    if job.preview_every:
        listeners.append(Previews(job, trace[-1]["step"] if trace else 0))
    if job.plot:
        listeners.append(LossCurve())
    snapshots = {} if file is None else file.snapshots
    if file is not None:
        listeners.append(Checkpoints(file))
    if job.report is not None:
        listeners.append(Report(job.report, snapshots))
    return [*listeners, Console(job, show, len(trace))]


class Latest(Listener):
    """Keeps the last step, so that its picture can be saved however the run ends."""

    step: Step | None = None

    def see(self, step: Step) -> None:
        """Keeps the step."""
        self.step = step


class Console(Listener):
    """Shows progress, and writes JSON Lines for scripts."""

    def __init__(self, job: Job, show: Callable[..., None], shown: int) -> None:
        """Shows the progress of `job` by `show`; `shown` entries of its trace are shown already."""
        self._job, self._show, self._shown = job, show, shown

    def see(self, step: Step) -> None:
        """Shows the last step, and writes a line for each new one."""
        for entry in step.trace[self._shown :]:
            print_json(self._job.progress, {"total": step.total, **entry})
        self._shown = len(step.trace)
        shape = step.result.image.shape
        text = describe_step(step.trace, step.total, self._job.recipe, shape)
        self._show(step.number, step.total, text)

    def finish(self, finished: Finished) -> None:
        """Says where the picture is, and how it went."""
        job, metadata = finished.job, finished.metadata
        page = None if job.report is None else str(page_path(job.report))
        facts = {key: metadata[key] for key in ("status", "num_evaluations", "seconds", "loss")}
        print_json(job.progress, {"output": str(job.output), "report": page, **facts})
        if not job.quiet:
            told = summary(metadata, changes_after(job.recipe, job.recipe.solver))
            print_message(f"{'stdout' if job.is_stdout else job.output}: {told}")
            ended = metadata["status"] not in ("interrupted", "failed")
            if ended and job.command.startswith("jaxstyle stylize"):
                print_message(_next(job))


def summary(metadata: Mapping[str, Any], changes: Sequence[str] = ()) -> str:
    """Says how a run went.

    Args:
        metadata: the content of the JSON.
        changes: what changed the picture after the solver, see `changes_after`.
    """
    seconds, status, trace = metadata["seconds"], metadata["status"], metadata["trace"]
    here = entries_of_last_stage(trace)
    width, height = here[-1]["size"]
    whole = metadata["size"]
    size = f"{width}x{height} px"
    if [width, height] != whole:  # it ended at a smaller size
        size += f", enlarged to {whole[0]}x{whole[1]} px"
    ending = "" if status == "step_limit" else f"; {_ENDINGS.get(status, status)}"
    loss, solver = metadata["loss"], metadata["solver_loss"]
    before = f" ({solver:.4g} before {', '.join(changes)})" if solver < 0.99 * loss else ""
    return (
        f"loss {here[0]['loss']:.4g} -> {loss:.4g}{before} at {size}, "
        f"{count(len(trace) - 1, 'step')} in {seconds['optimize']:.1f} s "
        f"(+ {seconds['compile']:.1f} s compilation){ending}"
    )


def _next(job: Job) -> str:
    """Says what to try next."""
    weights = job.recipe.weights
    parts = [f"--size {2 * job.size} for a larger picture"]
    if "style" in weights:
        parts.append(f"--loss-weights style={3 * weights['style']:g} for more style")
    if job.content is not None and job.recipe.color == "style":
        parts.append("--color luminance for the photo's colors")
    return f"next: {', '.join(parts)}; jaxstyle stylize --help has all options"


class Previews(Listener):
    """Saves a picture every N steps."""

    def __init__(self, job: Job, before: int) -> None:
        """Saves previews of `job`, whose steps up to `before` have theirs."""
        self._job, self._before = job, before

    def see(self, step: Step) -> None:
        """Saves a preview if one is due."""
        job, every, before = self._job, self._job.preview_every or 1, self._before
        self._before = step.number
        if step.number // every == before // every:
            return
        path = job.preview_path(step.number)
        try:
            _check(job, path)
            save_image(path, step.result.image, alpha=step.alpha)
        except InputError as error:
            print_message(f"no preview: {error}")  # the picture itself is still being painted


class Sidecar(Listener):
    """Writes the JSON next to the picture."""

    name = "JSON"

    def finish(self, finished: Finished) -> None:
        """Writes it."""
        path = finished.job.metadata_path
        _check(finished.job, path)
        write_json(path, finished.metadata)


class LossCurve(Listener):
    """Saves the loss curve."""

    name = "loss curve"

    def finish(self, finished: Finished) -> None:
        """Draws and saves it."""
        job, trace = finished.job, finished.metadata["trace"]
        _check(job, job.plot_path)
        curve = plot_losses(trace, job.recipe.weights, f"{show_path(job.output.name)}: loss")
        write_atomically(job.plot_path, curve)


class Report(Listener):
    """Takes small pictures of some steps, and writes the page."""

    name = "report"

    def __init__(self, folder: Location, snapshots: dict[int, str]) -> None:
        """Writes the page into `folder`; `snapshots` are those of the run that is resumed."""
        self._folder, self._snapshots = folder, snapshots

    def see(self, step: Step) -> None:
        """Takes a picture if one is due."""
        if run_page.is_due(step.number, step.total, self._snapshots):
            self._snapshots[step.number] = embed(step.shown, THUMBNAIL)

    def finish(self, finished: Finished) -> None:
        """Writes the page."""
        job, metadata, image = finished.job, finished.metadata, finished.image
        _check(job, page_path(self._folder))
        snapshots = {**self._snapshots}
        html = run_page.describe_run(job, metadata, image, finished.pictures, snapshots)
        write_page(self._folder, html)


class Checkpoints(Listener):
    """Saves checkpoints, and removes them after a run that has succeeded."""

    def __init__(self, file: CheckpointFile) -> None:
        """Saves them to `file`."""
        self._file = file

    def see(self, step: Step) -> None:
        """Saves a checkpoint if the last one is long enough ago."""
        if step.checkpoint is not None:
            self._file.keep(step.checkpoint, step.trace)

    def end(self, code: int) -> None:
        """Saves the last checkpoint of a run that did not succeed."""
        if code == 0:
            self._file.remove()
        else:
            self._file.save(quiet=code == 1)
            self._file.print_advice()


def _check(job: Job, path: Location) -> None:
    """Refuses to replace a file of others that has come there since the run began."""
    if not job.overwrite:
        check_replaceable(path)
