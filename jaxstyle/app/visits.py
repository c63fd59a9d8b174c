"""What is behind the live page: a visitor's files, runs and results.

One run at a time has the device, in a thread of its own. A visitor has a folder, in the page's own,
for uploads and results.
"""

import asyncio
import dataclasses
import html
import json
import logging
import math
import secrets
import shutil
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from jaxstyle.app.job import Job, find_recipe, make_job
from jaxstyle.app.plot import plot_losses
from jaxstyle.app.run import run
from jaxstyle.app.sidecar import without_folders
from jaxstyle.app.temporary import bytes_in, remove
from jaxstyle.app.vgg import vgg_of
from jaxstyle.compiled import StyleResult
from jaxstyle.io import InputError, load_image, read_shape, save_image, write_json
from jaxstyle.io.files import describe_error, write_atomically
from jaxstyle.recipes import RECIPES

_logger = logging.getLogger("jaxstyle")

MIN_SIZE = 64
MAX_FACTOR = 10.0
_MAX_PIXELS = 50_000_000  # of an upload
TERMS = ("content", "style", "total_variation")
_COLORS = ("style", "luminance", "match")
_THUMBNAIL = 512
_SECONDS_TO_STOP = 1.5  # that a cancelled run may take before the next one begins beside it
_SECONDS_TO_TELL = 20.0  # that its visitor is ready to wait for the picture so far
_SECONDS_BETWEEN_CURVES = 2.0
_KEPT = 30  # some seconds of them: a browser may still be fetching an earlier one
_CHOSEN_OF_A_VISITOR = 8  # pictures; then the oldest one goes
_FILES_IN_ALL = 300  # of the largest upload's size, results included; above, none is taken


@dataclasses.dataclass(frozen=True)
class Options:
    """What the page allows; sizes in pixels."""

    folder: Path
    """All files of the page are in it."""
    weights: dict[str, Path]
    """VGG19's preprocessing -> a file of weights."""
    max_size: int
    max_steps: int
    max_upload: int
    """Bytes."""
    max_waiting: int
    allow_hosts: tuple[str, ...] = ()
    """Names of the server, besides the machine's own."""
    root_path: str = ""
    """Where a proxy has the page, such as `/paint`."""


@dataclasses.dataclass
class Run:
    """A job that a thread is at."""

    job: Job
    thread: threading.Thread | None = None
    stopped: float = math.inf
    """When it was told to stop."""
    shown: tuple[int, StyleResult, Sequence[Any]] | None = None
    """The last steps made, result and trace."""
    problem: str | None = None
    recorded: bool = False
    """Whether it is among the visitor's results."""
    begin: float = dataclasses.field(default_factory=time.monotonic)


@dataclasses.dataclass
class Visit:
    """One visitor's: a folder, the pictures chosen, the run, and what has been painted."""

    folder: Path | None = None
    content: Path | None = None
    style: Path | None = None
    chosen: list[Path] = dataclasses.field(default_factory=list)
    """A folder for each picture that was chosen, the oldest first."""
    run: Run | None = None
    """The last one."""
    results: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """Path and caption."""

    def __deepcopy__(self, _: object) -> "Visit":
        """Gradio copies a new visitor's state, which must be empty."""
        return Visit()


def choose(name: str, path: Path, visit: Visit, options: Options) -> tuple[str | None, str]:
    """Takes a picture for the visitor; returns a small one to show, and the status."""
    try:
        if bytes_in(options.folder) > _FILES_IN_ALL * options.max_upload:
            raise InputError("the server has no room for more pictures; come back later")
        height, width = read_shape(path)
        if height * width > _MAX_PIXELS:
            raise InputError(
                f"{path.name} has {width}x{height} px: send at most {_MAX_PIXELS / 1e6:g} million"
            )
        small = load_image(path, size=min(_THUMBNAIL, max(height, width)))
        folder = _folder(visit, options) / secrets.token_hex(16)
        kept = folder / "picture" / path.name  # by itself, since it may have any name
        kept.parent.mkdir(parents=True)
        shutil.copyfile(path, kept)
        thumbnail = folder / _shown(name)
        save_image(thumbnail, small)
    except (InputError, OSError) as error:
        setattr(visit, name, None)
        problem = str(error).replace(str(path), path.name)
        if isinstance(error, OSError):
            problem = f"{path.name} cannot be taken ({describe_error(error)})"
        gr.Warning(html.escape(problem), title="Not taken")
        return None, as_problem(problem)
    setattr(visit, name, kept)
    _make_room(visit, options, folder)
    return str(thumbnail), f"{html.escape(path.name)}: {width}x{height} px"


def _shown(name: str) -> str:
    """The small picture of a visitor's photo or painting, in the folder above it."""
    return f"{name}-shown.jpg"


def _make_room(visit: Visit, options: Options, folder: Path) -> None:
    """Removes the visitor's oldest pictures; those chosen or being painted stay."""
    visit.chosen.append(folder)
    used = [visit.content, visit.style]
    if visit.run is not None:
        used += [visit.run.job.content, *visit.run.job.styles]
    for old in visit.chosen[:-_CHOSEN_OF_A_VISITOR]:
        if not any(path is not None and old in Path(path).parents for path in used):
            visit.chosen.remove(old)
            remove(old)


def _folder(visit: Visit, options: Options) -> Path:
    if visit.folder is None:
        visit.folder = options.folder / f"visit-{secrets.token_hex(16)}"
        visit.folder.mkdir()
    return visit.folder


def forget(visit: Visit) -> None:
    """A visitor has been gone for an hour."""
    if visit.folder is not None:
        remove(visit.folder)


def job_of(
    options: Options,
    visit: Visit,
    recipe: Any,
    size: Any,
    steps: Any,
    color: Any,
    *factors: Any,
) -> Job:
    """Makes a job of what a visitor has set.

    Raises:
        InputError: for anything that the page does not offer.
    """
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise InputError(f"unknown recipe: choose from {', '.join(RECIPES)}")
    if color not in _COLORS:
        raise InputError(f"unknown colours: choose from {', '.join(_COLORS)}")
    size = _whole("size", size, MIN_SIZE, options.max_size)
    steps = _whole("steps", steps, 1, options.max_steps)
    chosen = find_recipe(recipe)
    weights = [
        f"{term}={_number(f'weight of {term}', factor, 0, MAX_FACTOR) * chosen.weights[term]!r}"
        for term, factor in zip(TERMS, factors, strict=True)
        if term in chosen.weights
    ]
    if visit.content is None or visit.style is None:
        raise InputError("choose a photo and a painting")
    params = options.weights.get(vgg_of(chosen).preprocessing)
    if params is None:
        raise InputError(missing_weights(recipe))
    folder = _folder(visit, options) / secrets.token_hex(16)
    folder.mkdir()
    return make_job(
        content=str(visit.content),
        style=[str(visit.style)],
        output=str(folder / f"{visit.content.stem[:40]}-{visit.style.stem[:40]}.png"),
        recipe=recipe,
        size=size,
        steps=steps,
        weights=weights,
        color=color,
        params=str(params),
        quiet=True,
    )


def missing_weights(name: str) -> str:
    """Says that the server has not the weights that a recipe needs."""
    preprocessing = vgg_of(RECIPES[name]).preprocessing
    return (
        f"recipe {name} needs VGG19 weights for {preprocessing} preprocessing, which are not here: "
        "on the server, jaxstyle weights convert FILE, and start it again"
    )


def _number(name: str, value: Any, low: float, high: float) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not low <= value <= high:
        raise InputError(f"{name}: give a number from {low:g} to {high:g}")
    return float(value)


def _whole(name: str, value: Any, low: int, high: int) -> int:
    number = _number(name, value, low, high)
    if number != int(number):
        raise InputError(f"{name}: give a whole number")
    return int(number)


def plain(error: Exception, visit: Visit) -> str:
    """The message for a visitor, who knows no paths and no options of a command line."""
    text = str(error).replace("--", "")
    for path in (visit.content, visit.style):
        text = text if path is None else text.replace(str(path), path.name)
    return text


def as_problem(text: str) -> str:
    """HTML of what a visitor has to know."""
    return f'<span class="problem">{html.escape(text)}</span>'


def is_alive(run: Run) -> bool:
    """Whether a run's thread is at it."""
    return run.thread is not None and run.thread.is_alive()


async def paint(visit: Visit, job: Job, runs: list[Run]) -> AsyncGenerator[dict[str, Any], None]:
    """Runs `job` and yields what there is to be shown; closing it stops the run."""
    nothing = gr.DownloadButton(value=None, interactive=False)
    yield {
        "picture": str(visit.content.parent.parent / _shown("content")),  # type: ignore[union-attr]
        "curve": gr.Image(value=None, visible=False),
        "png": nothing,
        "json": nothing,
        "status": "waiting for the device",
    }
    now = Run(job)
    visit.run = now
    # Gradio's queue goes on when a page is closed, before its run has stopped. That ends within a
    # step; only one that compiles cannot, so that the next may begin beside it, but not a third.
    while left := [*filter(is_alive, runs)]:
        if len(left) == 1 and time.monotonic() - left[0].stopped > _SECONDS_TO_STOP:
            break
        yield {"status": "waiting for the device"}
        await asyncio.sleep(0.1)
    runs[:] = [*filter(is_alive, runs), now]
    now.begin = time.monotonic()
    now.thread = threading.Thread(target=_work, args=(now, visit), daemon=True)
    now.thread.start()
    try:
        step, curve_at = None, -math.inf
        drawing: asyncio.Task[dict[str, Any]] | None = None
        while is_alive(now) and now.stopped == math.inf:
            update: dict[str, Any] = {"status": _tell(now)}
            if drawing is not None and drawing.done():
                update |= drawing.result()
                drawing = None
            if drawing is None and now.shown is not None and now.shown[0] != step:
                step = now.shown[0]
                curve = time.monotonic() - curve_at > _SECONDS_BETWEEN_CURVES
                curve_at = time.monotonic() if curve else curve_at
                drawing = asyncio.create_task(asyncio.to_thread(_draw, now.job, now.shown, curve))
            # Often, even if there is nothing new: here Gradio sees that a page has been closed.
            yield update
            await asyncio.sleep(0.2)
    finally:
        stop(now)
        await _wait(now, _SECONDS_TO_STOP)
    if is_alive(now):
        return  # cancelled, within something long; `cancel` waits for it and tells
    if now.problem is not None:
        yield {"status": as_problem(now.problem)}
        raise gr.Error(html.escape(now.problem), print_exception=False)
    yield await _finish(visit, now)


async def cancel(visit: Visit) -> AsyncIterator[dict[str, Any]]:
    """Stops the visitor's run and yields the best picture so far, as Ctrl-C leaves one.

    Usually Gradio has closed `paint` by now, so that the end of the run is told here.
    """
    now = visit.run
    if now is None:
        yield {"status": "Cancelled."}
        return
    stop(now)
    yield {"status": "stopping"}
    await _wait(now, _SECONDS_TO_TELL)
    yield await _finish(visit, now)


def stop(now: Run) -> None:
    """Has the run end at its next step."""
    now.stopped = min(now.stopped, time.monotonic())


async def _wait(now: Run, seconds: float) -> None:
    """Waits for the run's end, but no longer than that: nothing interrupts a compiler."""
    end = time.monotonic() + seconds
    while is_alive(now) and time.monotonic() < end:
        await asyncio.sleep(0.02)


def _work(now: Run, visit: Visit) -> None:
    """What the thread does."""

    def look(step: int, result: StyleResult, trace: Sequence[Any]) -> None:
        if now.stopped < math.inf:
            raise KeyboardInterrupt
        now.shown = step, result, tuple(trace)

    try:
        if run(now.job, look) == 1 and not now.job.output.exists():
            now.problem = "the loss is not finite at the start; use smaller weights"
    except InputError as error:
        now.problem = plain(error, visit)
    except Exception as error:  # the page goes on, whatever becomes of a run
        _logger.exception("a run failed")
        short = "RESOURCE_EXHAUSTED" in str(error)
        now.problem = "not enough memory; use a smaller size" if short else "the run failed"


def _tell(now: Run) -> str:
    seconds = time.monotonic() - now.begin
    if now.shown is None:
        return f"preparing; a new size may take half a minute · {seconds:.0f} s"
    step, result, trace = now.shown
    total = result.trace.shape[-1]
    text = f"step {step} of {total} · loss {trace[-1]['loss']:.4g} · {seconds:.0f} s"
    taken = trace[-1]["seconds"] - trace[0]["seconds"]
    return text + (f", about {taken / step * (total - step):.0f} s left" if step else "")


def _draw(job: Job, shown: tuple[int, StyleResult, Sequence[Any]], curve: bool) -> dict[str, Any]:
    """Writes a preview, and the loss curve if asked for; returns how they are shown."""
    step, result, trace = shown
    folder = job.output.parent / "shown"
    folder.mkdir(exist_ok=True)
    preview = folder / f"preview-{step:05d}.jpg"
    # Once: a browser may be fetching it.
    if not preview.exists():
        save_image(preview, np.asarray(result.image))
    for kind in ("preview", "loss"):
        for old in sorted(folder.glob(f"{kind}-*"))[:-_KEPT]:
            old.unlink(missing_ok=True)
    if not curve:
        return {"picture": str(preview)}
    path = folder / f"loss-{step:05d}.png"
    if not path.exists():
        write_atomically(path, plot_losses(trace, job.recipe.weights))
    return {"picture": str(preview), "curve": gr.Image(value=str(path), visible=True)}


async def _finish(visit: Visit, now: Run) -> dict[str, Any]:
    """Returns the end of a run: picture, curve, files, and the visitor's gallery."""
    job = now.job
    if now.shown is None or not job.metadata_path.exists():
        return {"status": "Cancelled before there was a picture."}
    files = await asyncio.to_thread(_draw, job, now.shown, True)
    metadata = json.loads(job.metadata_path.read_text())
    # A visitor has a file of that name, but not the server's folders.
    metadata = without_folders(metadata)
    write_json(job.metadata_path, metadata)
    caption = f"{job.recipe.name}, {'x'.join(map(str, metadata['size']))} px"
    if not now.recorded:
        now.recorded = True
        visit.results.insert(0, (str(job.output), caption))
    ended = {"interrupted": "Cancelled", "failed": "Failed"}.get(metadata["status"], "Done")
    return {
        "picture": str(job.output),
        "curve": files["curve"],
        "png": gr.DownloadButton(value=str(job.output), interactive=True),
        "json": gr.DownloadButton(value=str(job.metadata_path), interactive=True),
        "gallery": gr.Gallery(value=visit.results, visible=True),
        "status": f"{ended} after {metadata['trace'][-1]['step']} steps · loss "
        f"{metadata['loss']:.4g} · {metadata['trace'][-1]['seconds']:.0f} s",
    }
