"""The live page: `jaxstyle serve`. A visitor's pair is a job, as on the command line.

One run at a time has the device, in a thread of its own; Gradio's queue has the others wait. A
visitor has a folder, in the page's own, for uploads and results; nothing else is served.
"""

import asyncio
import contextlib
import dataclasses
import html
import json
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import jax
import numpy as np
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from jaxstyle.app import runtime
from jaxstyle.app.guard import Guard
from jaxstyle.app.job import Job, find_recipe, make_job, say
from jaxstyle.app.plot import plot_losses
from jaxstyle.app.run import run
from jaxstyle.io import (
    SAMPLES,
    InputError,
    list_weights,
    load_image,
    read_shape,
    save_image,
    verify,
    write_json,
)
from jaxstyle.io.files import describe_error, write_atomically
from jaxstyle.io.weights import fetch
from jaxstyle.recipes import RECIPES
from jaxstyle.transfer import StyleResult

_logger = logging.getLogger("jaxstyle")

MIN_SIZE = 64
MAX_FACTOR = 10.0
MAX_PIXELS = 50_000_000  # of an upload
_TERMS = ("content", "style", "total_variation")
_COLORS = ("style", "luminance", "match")
_THUMBNAIL = 512
_SECONDS_TO_STOP = 1.5  # that a cancelled run may take before the next one begins beside it
_SECONDS_TO_TELL = 20.0  # that its visitor is ready to wait for the picture so far
_SECONDS_BETWEEN_CURVES = 2.0
_KEPT = 30  # some seconds of them: a browser may still be fetching an earlier one
_FREE_BYTES = 500e6  # on disk, below which no upload is taken
_SECONDS_OF_UPLOADS = 6 * 3600

_CSS = """
.gradio-container {max-width: 1180px !important; margin: 0 auto !important}
#title h1 {margin: 0; font-size: 1.7rem; letter-spacing: -0.02em}
#title p {margin: 0.2rem 0 0; opacity: 0.7}
#about {font-size: 0.85rem; opacity: 0.8}
#status {font-variant-numeric: tabular-nums; min-height: 3.2em}
.problem {color: #c2410c; font-weight: 600}
#status .error, #status .clear-status {display: none}
#picture img {width: 100%; height: 100%; object-fit: contain}
@media (max-width: 640px) {.gradio-container {padding: 8px !important}}
"""


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


@dataclasses.dataclass
class _Run:
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
class _Visit:
    """One visitor's: a folder, the pictures chosen, the run, and what has been painted."""

    folder: Path | None = None
    content: Path | None = None
    style: Path | None = None
    run: _Run | None = None
    """The last one."""
    results: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """Path and caption."""

    def __deepcopy__(self, _: object) -> "_Visit":
        """Gradio copies a new visitor's state, which must be empty."""
        return _Visit()


def serve(options: Options, host: str, port: int) -> int:
    """Serves the page until Ctrl-C or SIGTERM; returns the exit code.

    Raises:
        InputError: if the address cannot be had.
    """
    _check_address(host, port)
    runs: list[_Run] = []
    code = 130
    with runtime.on_signal(runtime.interrupt, signal.SIGTERM):
        page = None
        try:
            page = make_page(options, runs)
            page.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                inbrowser=False,
                show_error=False,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                ssr_mode=False,
                pwa=False,
                allowed_paths=[],
                blocked_paths=[],
                max_file_size=options.max_upload,
                theme=gr.themes.Default(
                    primary_hue="orange",
                    neutral_hue="stone",
                    font=["system-ui", "sans-serif"],
                    font_mono=["ui-monospace", "monospace"],
                ),
                css=_CSS,
                app_kwargs={"middleware": _middleware(options, host)},
            )
            say(f"serving on {page.local_url} (Ctrl-C ends it)")
            threading.Event().wait()
        except KeyboardInterrupt as error:
            code = 143 if isinstance(error, runtime.Terminated) else 130
        finally:
            for each in runs:
                _stop(each)
            if page is not None:
                page.close(verbose=False)
    say("ended")
    if any(_is_alive(each) for each in runs):
        # It compiles, which nothing can interrupt, and at an ordinary exit would crash.
        shutil.rmtree(options.folder, ignore_errors=True)
        sys.stderr.flush()
        os._exit(code)
    return code


def find_weights(params: str | None) -> dict[str, Path]:
    """Returns for each of VGG19's preprocessings a file: `params`, or else the cache's best ones.

    Raises:
        InputError: if there is none.
    """
    if params is not None:
        return {verify(params).preprocessing: Path(params)}
    fetch()
    return {info.preprocessing: info.path for info in reversed(list_weights())}


def _check_address(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot serve on {host}:{port} ({describe_error(error)}); use another --port or --host"
        ) from None
    # Gradio looks whether it can be reached, which must not go through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name)
        os.environ[name] = ",".join([*([known] if known else []), host, "localhost"])


def _middleware(options: Options, host: str) -> list[Middleware]:
    guard = Middleware(Guard, folder=options.folder, max_upload=options.max_upload)
    if host not in ("127.0.0.1", "localhost", "::1"):
        return [guard]
    # Another site's page, whose name somebody has pointed to this machine, gets nothing.
    return [
        Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"]),
        guard,
    ]


def make_page(options: Options, runs: list[_Run]) -> gr.Blocks:
    """Builds the page; what it starts is put into `runs`."""
    slow = jax.default_backend() == "cpu"
    size_now = min(256 if slow else 512, options.max_size)
    steps_now = min(100 if slow else 200, options.max_steps)

    with gr.Blocks(
        title="jaxstyle", analytics_enabled=False, delete_cache=(600, _SECONDS_OF_UPLOADS)
    ) as page:
        # Not the class itself, which Gradio would take for a value to put into the page.
        visit = gr.State(lambda: _Visit(), delete_callback=_forget)  # noqa: PLW0108
        gr.HTML(
            "<h1>jaxstyle</h1><p>A photo, painted in the style of a painting.</p>", elem_id="title"
        )
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                with gr.Row():
                    content, content_sample = _chooser("Photo", "content")
                    style, style_sample = _chooser("Painting", "style")
                recipe = gr.Dropdown(
                    list(RECIPES), value="default", label="Recipe", elem_id="recipe"
                )
                about = gr.HTML(_describe("default", options), elem_id="about")
                with gr.Row():
                    size = gr.Slider(
                        MIN_SIZE, options.max_size, size_now, step=1, label="Size (px)"
                    )
                    steps = gr.Slider(1, options.max_steps, steps_now, step=1, label="Steps")
                color = gr.Radio(
                    [
                        ("the painting's", "style"),
                        ("the photo's", "luminance"),
                        ("matched to the photo", "match"),
                    ],
                    value="style",
                    label="Colours",
                )
                with gr.Accordion("Weights, times the recipe's", open=False):
                    factors = [
                        gr.Slider(
                            0, MAX_FACTOR, 1, step=0.05, label=label, interactive=name != _TERMS[2]
                        )
                        for name, label in zip(
                            _TERMS, ("Content", "Style", "Smoothness"), strict=True
                        )
                    ]
                with gr.Row():
                    paint = gr.Button("Paint", variant="primary", min_width=100, elem_id="paint")
                    cancel = gr.Button("Cancel", min_width=100, elem_id="cancel")
                status = gr.HTML("Choose a photo and a painting.", elem_id="status")
            with gr.Column(scale=6, min_width=320):
                outputs = {"status": status, **_results()}
        outputs["gallery"] = gr.Gallery(
            label="Painted in this visit",
            columns=4,
            fit_columns=False,
            height="auto",
            object_fit="contain",
            interactive=False,
            visible=False,
            buttons=["fullscreen", "download"],
            elem_id="gallery",
        )

        def show(update: dict[str, Any]) -> dict[Any, Any]:
            return {outputs[name]: value for name, value in update.items()}

        async def on_paint(visit: _Visit, *settings: Any) -> AsyncIterator[dict[Any, Any]]:
            try:
                job = _make_job(options, visit, *settings)
            except InputError as error:
                problem = _plain(error, visit)
                yield show({"status": _problem(problem)})
                raise gr.Error(html.escape(problem), print_exception=False) from None
            # Closed when this is, and not some time after.
            async with contextlib.aclosing(_paint(visit, job, runs)) as updates:
                async for update in updates:
                    yield show(update)

        async def on_cancel(visit: _Visit) -> AsyncIterator[dict[Any, Any]]:
            async for update in _cancel(visit):
                yield show(update)

        # Files may take a while to read, and several are read at a time.
        reading: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "files"}
        for image, sample, name in (
            (content, content_sample, "content"),
            (style, style_sample, "style"),
        ):
            image.upload(
                _on_upload(name, options),
                [image, visit],
                [image, status],
                preprocess=False,
                api_name=name,
                show_progress="hidden",
                **reading,
            )
            image.clear(_on_clear(name), visit, None, api_name=f"clear_{name}", **reading)
            sample.click(
                _on_sample(name, options), visit, [image, status], api_name=f"sample_{name}",
                show_progress="hidden", **reading,
            )  # fmt: skip
        recipe.change(
            lambda name: _on_recipe(name, options),
            recipe,
            [about, *factors],
            preprocess=False,
            api_name="recipe",
            show_progress="hidden",
            **reading,
        )
        painting = paint.click(
            on_paint,
            [visit, recipe, size, steps, color, *factors],
            list(outputs.values()),
            preprocess=False,  # the numbers are checked as any that come from outside
            api_name="paint",
            concurrency_limit=1,
            concurrency_id="device",
            show_progress="full",
            show_progress_on=status,
        )
        cancel.click(
            on_cancel,
            visit,
            list(outputs.values()),
            api_name="cancel",
            cancels=[painting],
            concurrency_limit=None,
            show_progress="hidden",
        )
    page.queue(api_open=False, max_size=options.max_waiting)
    return page


def _chooser(label: str, name: str) -> tuple[gr.Image, gr.Button]:
    with gr.Column(min_width=140):
        image = gr.Image(
            label=label,
            type="filepath",
            sources=["upload", "clipboard"],
            height=220,
            buttons=[],
            elem_id=name,
        )
        sample = gr.Button(f"Sample {label.lower()}", size="sm", elem_id=f"sample-{name}")
    return image, sample


def _results() -> dict[str, Any]:
    picture = gr.Image(
        label="Picture",
        interactive=False,
        type="filepath",
        height=440,
        buttons=["fullscreen"],
        elem_id="picture",
    )
    with gr.Row():
        png = gr.DownloadButton(
            "Picture (PNG)", interactive=False, size="sm", min_width=140, elem_id="png"
        )
        told = gr.DownloadButton(
            "Settings, losses (JSON)",
            interactive=False,
            size="sm",
            min_width=140,
            elem_id="json",
        )
    curve = gr.Image(
        label="Loss",
        show_label=False,
        interactive=False,
        type="filepath",
        visible=False,
        buttons=[],
        elem_id="curve",
    )
    return {"picture": picture, "png": png, "json": told, "curve": curve}


def _describe(name: str, options: Options) -> str:
    recipe = RECIPES[name]
    text = html.escape(f"{recipe.description} ({recipe.source})")
    if recipe.network.preprocessing in options.weights:
        return text
    return f'{text}. <span class="problem">{html.escape(_missing(name))}</span>'


def _missing(name: str) -> str:
    preprocessing = RECIPES[name].network.preprocessing
    return (
        f"recipe {name} needs VGG19 weights for {preprocessing} preprocessing, which are not here: "
        "on the server, jaxstyle weights convert FILE, and start it again"
    )


def _on_recipe(name: object, options: Options) -> list[Any]:
    if not isinstance(name, str) or name not in RECIPES:
        raise gr.Error("unknown recipe", print_exception=False)
    terms = RECIPES[name].weights
    sliders = [gr.Slider(value=1, interactive=term in terms) for term in _TERMS]
    return [_describe(name, options), *sliders]


def _on_upload(name: str, options: Options) -> Any:
    def on_upload(file: Any, visit: _Visit) -> tuple[str | None, str]:
        path = file.get("path") if isinstance(file, dict) else None
        if not isinstance(path, str):
            return None, _problem("nothing was uploaded")
        return _choose(name, Path(path), visit, options)

    return on_upload


def _on_sample(name: str, options: Options) -> Any:
    def on_sample(visit: _Visit) -> tuple[str | None, str]:
        return _choose(name, SAMPLES / f"{name}.png", visit, options)

    return on_sample


def _on_clear(name: str) -> Any:
    def on_clear(visit: _Visit) -> None:
        setattr(visit, name, None)

    return on_clear


def _choose(name: str, path: Path, visit: _Visit, options: Options) -> tuple[str | None, str]:
    """Takes a picture for the visitor; returns a small one to show, and the status."""
    try:
        if shutil.disk_usage(options.folder).free < _FREE_BYTES:
            raise InputError("the server's disk is full; come back later")
        height, width = read_shape(path)
        if height * width > MAX_PIXELS:
            raise InputError(
                f"{path.name} has {width}x{height} px: send at most {MAX_PIXELS / 1e6:g} million"
            )
        small = load_image(path, size=min(_THUMBNAIL, max(height, width)))
        folder = _folder(visit, options) / secrets.token_hex(16)
        folder.mkdir()
        kept = folder / path.name
        shutil.copyfile(path, kept)
        thumbnail = folder / f"{name}-shown.jpg"
        save_image(thumbnail, small)
    except (InputError, OSError) as error:
        setattr(visit, name, None)
        problem = str(error).replace(str(path), path.name)
        if isinstance(error, OSError):
            problem = f"{path.name} cannot be taken ({describe_error(error)})"
        gr.Warning(html.escape(problem), title="Not taken")
        return None, _problem(problem)
    setattr(visit, name, kept)
    return str(thumbnail), f"{html.escape(path.name)}: {width}x{height} px"


def _folder(visit: _Visit, options: Options) -> Path:
    if visit.folder is None:
        visit.folder = options.folder / f"visit-{secrets.token_hex(16)}"
        visit.folder.mkdir()
    return visit.folder


def _forget(visit: _Visit) -> None:
    """A visitor has been gone for an hour."""
    if visit.folder is not None:
        shutil.rmtree(visit.folder, ignore_errors=True)


def _make_job(
    options: Options,
    visit: _Visit,
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
        for term, factor in zip(_TERMS, factors, strict=True)
        if term in chosen.weights
    ]
    if visit.content is None or visit.style is None:
        raise InputError("choose a photo and a painting")
    params = options.weights.get(chosen.network.preprocessing)
    if params is None:
        raise InputError(_missing(recipe))
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


def _plain(error: Exception, visit: _Visit) -> str:
    """The message for a visitor, who knows no paths and no options of a command line."""
    text = str(error).replace("--", "")
    for path in (visit.content, visit.style):
        text = text if path is None else text.replace(str(path), path.name)
    return text


def _problem(text: str) -> str:
    return f'<span class="problem">{html.escape(text)}</span>'


def _is_alive(run: _Run) -> bool:
    return run.thread is not None and run.thread.is_alive()


async def _paint(visit: _Visit, job: Job, runs: list[_Run]) -> AsyncGenerator[dict[str, Any], None]:
    """Runs `job` and yields what there is to be shown; closing it stops the run."""
    nothing = gr.DownloadButton(value=None, interactive=False)
    yield {
        "picture": str(visit.content.parent / "content-shown.jpg"),  # type: ignore[union-attr]
        "curve": gr.Image(value=None, visible=False),
        "png": nothing,
        "json": nothing,
        "status": "waiting for the device",
    }
    now = _Run(job)
    visit.run = now
    # Gradio's queue goes on when a page is closed, before its run has stopped. That ends within a
    # step; only one that compiles cannot, so that the next may begin beside it, but not a third.
    while left := [*filter(_is_alive, runs)]:
        if len(left) == 1 and time.monotonic() - left[0].stopped > _SECONDS_TO_STOP:
            break
        yield {"status": "waiting for the device"}
        await asyncio.sleep(0.1)
    runs[:] = [*filter(_is_alive, runs), now]
    now.begin = time.monotonic()
    now.thread = threading.Thread(target=_work, args=(now, visit), daemon=True)
    now.thread.start()
    try:
        step, curve_at = None, -math.inf
        drawing: asyncio.Task[dict[str, Any]] | None = None
        while _is_alive(now) and now.stopped == math.inf:
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
        _stop(now)
        await _wait(now, _SECONDS_TO_STOP)
    if _is_alive(now):
        return  # cancelled, within something long; `_cancel` waits for it and tells
    if now.problem is not None:
        yield {"status": _problem(now.problem)}
        raise gr.Error(html.escape(now.problem), print_exception=False)
    yield await _finish(visit, now)


async def _cancel(visit: _Visit) -> AsyncIterator[dict[str, Any]]:
    """Stops the visitor's run and yields the best picture so far, as Ctrl-C leaves one.

    Usually Gradio has closed `_paint` by now, so that the end of the run is told here.
    """
    now = visit.run
    if now is None:
        yield {"status": "Cancelled."}
        return
    _stop(now)
    yield {"status": "stopping"}
    await _wait(now, _SECONDS_TO_TELL)
    yield await _finish(visit, now)


def _stop(now: _Run) -> None:
    """Has the run end at its next step."""
    now.stopped = min(now.stopped, time.monotonic())


async def _wait(now: _Run, seconds: float) -> None:
    """Waits for the run's end, but no longer than that: nothing interrupts a compiler."""
    end = time.monotonic() + seconds
    while _is_alive(now) and time.monotonic() < end:
        await asyncio.sleep(0.02)


def _work(now: _Run, visit: _Visit) -> None:
    """What the thread does."""

    def look(step: int, result: StyleResult, trace: Sequence[Any]) -> None:
        if now.stopped < math.inf:
            raise KeyboardInterrupt
        now.shown = step, result, tuple(trace)

    try:
        if run(now.job, look) == 1:
            now.problem = "the loss is not finite at the start; use smaller weights"
    except InputError as error:
        now.problem = _plain(error, visit)
    except Exception as error:  # the page goes on, whatever becomes of a run
        _logger.exception("a run failed")
        short = "RESOURCE_EXHAUSTED" in str(error)
        now.problem = "not enough memory; use a smaller size" if short else "the run failed"


def _tell(now: _Run) -> str:
    seconds = time.monotonic() - now.begin
    if now.shown is None:
        return f"preparing; a new size may take a minute or two · {seconds:.0f} s"
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


async def _finish(visit: _Visit, now: _Run) -> dict[str, Any]:
    """Returns the end of a run: picture, curve, files, and the visitor's gallery."""
    job = now.job
    if now.shown is None or not job.metadata_path.exists():
        return {"status": "Cancelled before there was a picture."}
    files = await asyncio.to_thread(_draw, job, now.shown, True)
    metadata = json.loads(job.metadata_path.read_text())
    # A visitor has a file of that name, but not the server's folders.
    metadata["content"] = Path(metadata["content"]).name
    metadata["styles"] = [Path(path).name for path in metadata["styles"]]
    write_json(job.metadata_path, metadata)
    caption = f"{job.recipe.name}, {'x'.join(map(str, metadata['size']))} px"
    if not now.recorded:
        now.recorded = True
        visit.results.insert(0, (str(job.output), caption))
    ended = "Cancelled" if metadata["status"] == "interrupted" else "Done"
    return {
        "picture": str(job.output),
        "curve": files["curve"],
        "png": gr.DownloadButton(value=str(job.output), interactive=True),
        "json": gr.DownloadButton(value=str(job.metadata_path), interactive=True),
        "gallery": gr.Gallery(value=visit.results, visible=True),
        "status": f"{ended} after {metadata['trace'][-1]['step']} steps · loss "
        f"{metadata['loss']:.4g} · {metadata['trace'][-1]['seconds']:.0f} s",
    }
