"""What the page shows while a run works: each function yields updates, by name of a component."""

import asyncio
import contextlib
import html
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from jaxstyle.app.job import Job
from jaxstyle.app.sidecar import without_folders
from jaxstyle.app.web.runs import Run, describe, draw, is_alive, start, stop
from jaxstyle.app.web.sessions import Session, add_result, as_problem, plain, thumbnail_of
from jaxstyle.io import write_json

_SECONDS_TO_STOP = 1.5  # after them, the next run starts alongside a stopped one
_SECONDS_TO_SAVE = 20.0  # how long a visitor waits for the picture of a stopped run
_SECONDS_BETWEEN_CURVES = 2.0


async def paint(
    session: Session, job: Job, runs: list[Run]
) -> AsyncGenerator[dict[str, Any], None]:
    """Runs `job` and yields updates; closing the generator stops the run.

    Args:
        session: the visitor's.
        job: what to paint.
        runs: those whose threads may still work; the new one is added.
    """
    nothing = gr.DownloadButton(value=None, interactive=False)
    assert session.content is not None  # noqa: S101  (the job was made of it)
    yield {
        "picture": str(thumbnail_of(session.content, "content")),
        "curve": gr.Image(value=None, visible=False),
        "png": nothing,
        "json": nothing,
        "status": "waiting for the device",
    }
    run = Run(job)
    session.run = run
    # When a page is closed, Gradio's queue goes on before the run has stopped. A run stops within a
    # step, except while it compiles. Then one more run may start alongside it, but not a third.
    while left := [*filter(is_alive, runs)]:
        if len(left) == 1 and time.monotonic() - left[0].stopped > _SECONDS_TO_STOP:
            break
        yield {"status": "waiting for the device"}
        await asyncio.sleep(0.1)
    runs[:] = [*filter(is_alive, runs), run]
    start(run)
    try:
        async with contextlib.aclosing(_follow(run)) as updates:
            async for update in updates:
                yield update
    finally:
        stop(run)
        await _wait(run, _SECONDS_TO_STOP)
    if is_alive(run):
        return  # cancelled during something long; `cancel` waits for it and reports
    if run.problem is not None:
        problem = plain(run.problem, session)
        yield {"status": as_problem(problem)}
        raise gr.Error(html.escape(problem), print_exception=False)
    yield await _finish(session, run)


async def _follow(run: Run) -> AsyncGenerator[dict[str, Any], None]:
    """Yields updates as long as the run works."""
    step, curve_at = None, -math.inf
    drawing: asyncio.Task[dict[str, Any]] | None = None
    while is_alive(run) and run.stopped == math.inf:
        update: dict[str, Any] = {"status": describe(run)}
        if drawing is not None and drawing.done():
            update |= drawing.result()
            drawing = None
        if drawing is None and run.shown is not None and run.shown.number != step:
            step = run.shown.number
            # One loss is no curve.
            curve = step > 0 and time.monotonic() - curve_at > _SECONDS_BETWEEN_CURVES
            curve_at = time.monotonic() if curve else curve_at
            drawing = asyncio.create_task(_draw(run, curve=curve))
        # Often, even without news: this is how Gradio notices that a page was closed.
        yield update
        await asyncio.sleep(0.2)


async def _draw(run: Run, *, curve: bool) -> dict[str, Any]:
    """Returns the update that shows the latest picture and, if asked for, the loss curve."""
    assert run.shown is not None  # noqa: S101
    preview, plot = await asyncio.to_thread(draw, run.job, run.shown, curve=curve)
    shown: dict[str, Any] = {"picture": str(preview)}
    return shown if plot is None else {**shown, "curve": gr.Image(value=str(plot), visible=True)}


async def cancel(session: Session) -> AsyncIterator[dict[str, Any]]:
    """Stops the visitor's run and yields the best picture so far, as Ctrl-C saves one.

    Gradio has usually closed `paint` by then, so the end of the run is reported here.
    """
    run = session.run
    if run is None:
        yield {"status": "Cancelled."}
        return
    stop(run)
    yield {"status": "stopping"}
    await _wait(run, _SECONDS_TO_SAVE)
    yield await _finish(session, run)


async def _wait(run: Run, seconds: float) -> None:
    """Waits for the end of the run, at most `seconds`: compilation cannot be interrupted."""
    end = time.monotonic() + seconds
    while is_alive(run) and time.monotonic() < end:
        await asyncio.sleep(0.02)


async def _finish(session: Session, run: Run) -> dict[str, Any]:
    """Returns the update at the end of a run: picture, curve, files, and the gallery."""
    if run.ended is not None:
        return run.ended
    job = run.job
    if run.shown is None or not job.metadata_path.exists():
        return {"status": "Cancelled before there was a picture."}
    shown = await _draw(run, curve=True)
    # The visitor may know the names of the files, but not the server's folders.
    metadata = without_folders(json.loads(Path(job.metadata_path).read_text()))
    write_json(job.metadata_path, metadata)
    caption = f"{job.recipe.name}, {'x'.join(map(str, metadata['size']))} px"
    if not run.recorded:
        run.recorded = True
        add_result(session, Path(job.output), caption)
    ended = {"interrupted": "Cancelled", "failed": "Failed"}.get(metadata["status"], "Done")
    run.ended = {
        **shown,
        "picture": str(job.output),
        "png": gr.DownloadButton(value=str(job.output), interactive=True),
        "json": gr.DownloadButton(value=str(job.metadata_path), interactive=True),
        "gallery": gr.Gallery(value=session.results, visible=True),
        "status": f"{ended} after {metadata['trace'][-1]['step']} steps · loss "
        f"{metadata['loss']:.4g} · {metadata['trace'][-1]['seconds']:.0f} s",
    }
    run.shown = None  # its arrays would stay as long as the page is open
    return run.ended
