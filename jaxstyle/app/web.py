"""The live page: `jaxstyle serve`. What it does for a visitor is in `visits`.

Gradio's queue has all but one wait. A visitor's folder is served to that visitor, and nothing else.
"""

import contextlib
import html
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
import jax
from starlette.middleware import Middleware

from jaxstyle.app import runtime, visits
from jaxstyle.app.guard import Guard
from jaxstyle.app.job import say
from jaxstyle.app.temporary import remove
from jaxstyle.app.vgg import vgg_of
from jaxstyle.app.visits import MAX_FACTOR, MIN_SIZE, TERMS, Options, Run, Visit
from jaxstyle.io import SAMPLES, InputError, list_weights, verify
from jaxstyle.io.files import describe_error
from jaxstyle.io.weights import fetch
from jaxstyle.recipes import RECIPES

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


def serve(options: Options, host: str, port: int) -> int:
    """Serves the page until Ctrl-C, SIGTERM or SIGHUP; returns the exit code.

    Raises:
        InputError: if the address cannot be had.
    """
    _check_address(host, port)
    runs: list[Run] = []
    code = 130
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []

    def end(number: int) -> None:
        for each in hangup:  # which comes more than once when a terminal is closed
            signal.signal(each, signal.SIG_IGN)
        runtime.interrupt(number)

    with runtime.on_signal(end, signal.SIGTERM, *hangup):
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
                root_path=options.root_path or None,
                app_kwargs={
                    "middleware": [
                        Middleware(
                            Guard,
                            folder=options.folder,
                            max_upload=options.max_upload,
                            allow_hosts=(*options.allow_hosts, host),
                        )
                    ]
                },
            )
            say(f"serving on {page.local_url} (Ctrl-C ends it)")
            threading.Event().wait()
        except KeyboardInterrupt as error:
            code = 128 + error.args[0] if isinstance(error, runtime.Terminated) else 130
        finally:
            for each in runs:
                visits.stop(each)
            if page is not None:
                page.close(verbose=False)
            remove(options.folder)
    with contextlib.suppress(OSError):  # where its terminal has gone
        say("ended")
    if any(visits.is_alive(each) for each in runs):
        # It compiles, which nothing can interrupt, and at an ordinary exit would crash.
        remove(options.folder)  # what it has written since
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


def make_page(options: Options, runs: list[Run]) -> gr.Blocks:
    """Builds the page; what it starts is put into `runs`."""
    slow = jax.default_backend() == "cpu"
    size_now = min(256 if slow else 512, options.max_size)
    steps_now = min(100 if slow else 200, options.max_steps)

    with gr.Blocks(
        title="jaxstyle", analytics_enabled=False, delete_cache=(600, _SECONDS_OF_UPLOADS)
    ) as page:
        # Not the class itself, which Gradio would take for a value to put into the page.
        visit = gr.State(lambda: Visit(), delete_callback=visits.forget)  # noqa: PLW0108
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
                with gr.Accordion("Loss weights, times the recipe's", open=False):
                    factors = [
                        gr.Slider(
                            0, MAX_FACTOR, 1, step=0.05, label=label, interactive=name != TERMS[2]
                        )
                        for name, label in zip(
                            TERMS, ("Content", "Style", "Smoothness"), strict=True
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

        async def on_paint(visit: Visit, *settings: Any) -> AsyncIterator[dict[Any, Any]]:
            try:
                job = visits.job_of(options, visit, *settings)
            except InputError as error:
                problem = visits.plain(error, visit)
                yield show({"status": visits.as_problem(problem)})
                raise gr.Error(html.escape(problem), print_exception=False) from None
            # Closed when this is, and not some time after.
            async with contextlib.aclosing(visits.paint(visit, job, runs)) as updates:
                async for update in updates:
                    yield show(update)

        async def on_cancel(visit: Visit) -> AsyncIterator[dict[Any, Any]]:
            async for update in visits.cancel(visit):
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
    if vgg_of(recipe).preprocessing in options.weights:
        return text
    return f"{text}. {visits.as_problem(visits.missing_weights(name))}"


def _on_recipe(name: object, options: Options) -> list[Any]:
    if not isinstance(name, str) or name not in RECIPES:
        raise gr.Error("unknown recipe", print_exception=False)
    terms = RECIPES[name].weights
    sliders = [gr.Slider(value=1, interactive=term in terms) for term in TERMS]
    return [_describe(name, options), *sliders]


def _on_upload(name: str, options: Options) -> Any:
    def on_upload(file: Any, visit: Visit) -> tuple[str | None, str]:
        path = file.get("path") if isinstance(file, dict) else None
        if not isinstance(path, str):
            return None, visits.as_problem("nothing was uploaded")
        return visits.choose(name, Path(path), visit, options)

    return on_upload


def _on_sample(name: str, options: Options) -> Any:
    def on_sample(visit: Visit) -> tuple[str | None, str]:
        return visits.choose(name, SAMPLES / f"{name}.png", visit, options)

    return on_sample


def _on_clear(name: str) -> Any:
    def on_clear(visit: Visit) -> None:
        setattr(visit, name, None)

    return on_clear
