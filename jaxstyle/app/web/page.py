"""The layout and the events of the live page.

Gradio's queue runs one painting at a time. A visitor gets files of the own session only.
"""

import contextlib
import html
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import jax

from jaxstyle.app.vgg import vgg_of
from jaxstyle.app.web.live_run import cancel, paint
from jaxstyle.app.web.runs import Run
from jaxstyle.app.web.sessions import (
    MAX_FACTOR,
    MAX_STRENGTH,
    MIN_SIZE,
    OFFERED,
    SIZE_STEP,
    TERMS,
    Options,
    Session,
    as_problem,
    choose,
    forget,
    make_session_job,
    missing_weights,
    plain,
)
from jaxstyle.io import SAMPLES, InputError
from jaxstyle.io.images import MAX_PIXELS

# Reading a file may take a while; two are read at a time.
_READING: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "files"}

CSS = """
.gradio-container {max-width: 1180px !important; margin: 0 auto !important}
#title h1 {margin: 0; font-size: 1.7rem; letter-spacing: -0.02em}
#title p {margin: 0.2rem 0 0; opacity: 0.7}
#about, #limits {font-size: 0.85rem; opacity: 0.8}
#limits {margin: -0.4rem 0}
#status {font-variant-numeric: tabular-nums; min-height: 3.2em}
.problem {color: #c2410c; font-weight: 600}
#status .error, #status .clear-status {display: none}
#picture img {width: 100%; height: 100%; object-fit: contain}
#gallery .grid-wrap {min-height: 0}
#gallery .grid-container {grid-template-columns: repeat(auto-fill, minmax(140px, 1fr))}
@media (max-width: 640px) {.gradio-container {padding: 8px !important}}
"""


class _Inputs(NamedTuple):
    """What a visitor sets."""

    content: gr.Image
    content_sample: gr.Button
    style: gr.Image
    style_sample: gr.Button
    recipe: gr.Dropdown
    about: gr.HTML
    size: gr.Slider
    steps: gr.Slider
    color: gr.Radio
    strength: gr.Slider
    factors: list[gr.Slider]
    """One for each of `TERMS`."""
    paint: gr.Button
    cancel: gr.Button
    status: gr.HTML


def make_page(options: Options, runs: list[Run]) -> gr.Blocks:
    """Builds the page.

    Args:
        options: what the page allows.
        runs: gets the runs that the page starts.
    """
    with gr.Blocks(title="jaxstyle", analytics_enabled=False) as page:
        # Gradio would take the class itself for a value to put into the page.
        session = gr.State(lambda: Session(), delete_callback=forget)  # noqa: PLW0108
        gr.HTML(
            "<h1>jaxstyle</h1><p>Paint a photo in the style of a painting.</p>", elem_id="title"
        )
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                inputs = _make_inputs(options)
            with gr.Column(scale=6, min_width=320):
                outputs = {"status": inputs.status, **_make_results()}
        outputs["gallery"] = gr.Gallery(
            label="Painted in this session",
            height="auto",
            object_fit="contain",
            interactive=False,
            visible=False,
            buttons=["fullscreen", "download"],
            elem_id="gallery",
        )
        _connect_inputs(options, session, inputs)
        _connect_runs(options, runs, session, inputs, outputs)
    page.queue(api_open=False, max_size=options.max_waiting)
    return page


def _make_inputs(options: Options) -> _Inputs:
    slow = jax.default_backend() == "cpu"
    largest = options.max_size // SIZE_STEP * SIZE_STEP
    size_now = min(256 if slow else 512, largest)
    steps_now = min(100 if slow else 200, options.max_steps)
    with gr.Row():
        content, content_sample = _make_chooser("Photo", "content")
        style, style_sample = _make_chooser("Painting", "style")
    gr.HTML(
        f"Pictures of up to {options.max_upload / 1e6:g} MB and {MAX_PIXELS // 10**6} megapixels.",
        elem_id="limits",
    )
    recipe = gr.Dropdown(list(OFFERED), value="default", label="Recipe", elem_id="recipe")
    about = gr.HTML(_describe("default", options), elem_id="about")
    with gr.Row():
        size = gr.Slider(MIN_SIZE, largest, size_now, step=SIZE_STEP, label="Size (px)")
        steps = gr.Slider(1, options.max_steps, steps_now, step=1, label="Steps")
    color = gr.Radio(
        [
            ("painting", "style"),
            ("photo", "luminance"),
            ("painting matched to photo", "match"),
            ("photo moved to painting", "recolor"),
        ],
        value="style",
        label="Colors from",
    )
    strength = gr.Slider(
        0, MAX_STRENGTH, 1, step=0.05, label="Strength: 0 is the photo, 1 the result"
    )
    with gr.Accordion("Loss weights, times the recipe's", open=False):
        factors = [
            gr.Slider(
                *(0, MAX_FACTOR, 1),
                step=0.05,
                label=term.replace("_", " ").capitalize(),
                visible=term in OFFERED["default"].weights,
            )
            for term in TERMS
        ]
    with gr.Row():
        paint_button = gr.Button("Paint", variant="primary", min_width=100, elem_id="paint")
        cancel_button = gr.Button("Cancel", min_width=100, elem_id="cancel")
    status = gr.HTML("Choose a photo and a painting.", elem_id="status")
    return _Inputs(
        content, content_sample, style, style_sample, recipe, about, size, steps, color, strength,
        factors, paint_button, cancel_button, status,
    )  # fmt: skip


def _make_chooser(label: str, name: str) -> tuple[gr.Image, gr.Button]:
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


def _make_results() -> dict[str, Any]:
    picture = gr.Image(
        label="Picture",
        interactive=False,
        type="filepath",
        height=440,
        buttons=["fullscreen"],
        elem_id="picture",
    )
    small: dict[str, Any] = {"interactive": False, "size": "sm", "min_width": 140}
    with gr.Row():
        png = gr.DownloadButton("Picture (PNG)", elem_id="png", **small)
        json = gr.DownloadButton("Settings and losses (JSON)", elem_id="json", **small)
    curve = gr.Image(
        label="Loss",
        show_label=False,
        interactive=False,
        type="filepath",
        visible=False,
        buttons=[],
        elem_id="curve",
    )
    return {"picture": picture, "png": png, "json": json, "curve": curve}


def _connect_inputs(options: Options, session: gr.State, inputs: _Inputs) -> None:
    for image, sample, name in (
        (inputs.content, inputs.content_sample, "content"),
        (inputs.style, inputs.style_sample, "style"),
    ):
        shown = [image, inputs.status]
        image.upload(
            _on_upload(name, options),
            [image, session],
            shown,
            preprocess=False,
            api_name=name,
            show_progress="hidden",
            **_READING,
        )
        image.clear(_on_clear(name), session, None, api_name=f"clear_{name}", **_READING)
        sample.click(
            _on_sample(name, options),
            session,
            shown,
            api_name=f"sample_{name}",
            show_progress="hidden",
            **_READING,
        )
    inputs.recipe.change(
        lambda name: _on_recipe(name, options),
        inputs.recipe,
        [inputs.about, *inputs.factors],
        preprocess=False,
        api_name="recipe",
        show_progress="hidden",
        **_READING,
    )


def _connect_runs(
    options: Options,
    runs: list[Run],
    session: gr.State,
    inputs: _Inputs,
    outputs: dict[str, Any],
) -> None:
    def show(update: dict[str, Any]) -> dict[Any, Any]:
        return {outputs[name]: value for name, value in update.items()}

    async def on_paint(session: Session, *settings: Any) -> AsyncIterator[dict[Any, Any]]:
        try:
            job = make_session_job(options, session, *settings)
        except InputError as error:
            problem = plain(str(error), session)
            yield show({"status": as_problem(problem)})
            raise gr.Error(html.escape(problem), print_exception=False) from None
        # `paint` is closed together with this generator, not at some later time.
        async with contextlib.aclosing(paint(session, job, runs)) as updates:
            async for update in updates:
                yield show(update)

    async def on_cancel(session: Session) -> AsyncIterator[dict[Any, Any]]:
        async for update in cancel(session):
            yield show(update)

    settings = inputs.recipe, inputs.size, inputs.steps, inputs.color, inputs.strength
    painting = inputs.paint.click(
        on_paint,
        [session, *settings, *inputs.factors],
        list(outputs.values()),
        preprocess=False,  # a job checks the numbers like any input from outside
        api_name="paint",
        concurrency_limit=1,
        concurrency_id="device",
        show_progress="full",
        show_progress_on=inputs.status,
    )
    inputs.cancel.click(
        on_cancel,
        session,
        list(outputs.values()),
        api_name="cancel",
        cancels=[painting],
        concurrency_limit=None,
        show_progress="hidden",
    )


def _describe(name: str, options: Options) -> str:
    recipe = OFFERED[name]
    text = html.escape(f"{recipe.description} ({recipe.source})")
    if vgg_of(recipe).preprocessing in options.weights:
        return text
    return f"{text}. {as_problem(missing_weights(name))}"


def _on_recipe(name: object, options: Options) -> list[Any]:
    if not isinstance(name, str) or name not in OFFERED:
        raise gr.Error("unknown recipe", print_exception=False)
    terms = OFFERED[name].weights
    sliders = [gr.Slider(value=1, visible=term in terms) for term in TERMS]
    return [_describe(name, options), *sliders]


def _on_upload(name: str, options: Options) -> Any:
    def on_upload(file: Any, session: Session) -> tuple[str | None, str]:
        path = file.get("path") if isinstance(file, dict) else None
        if not isinstance(path, str):
            return None, as_problem("nothing was uploaded")
        return choose(name, Path(path), session, options)

    return on_upload


def _on_sample(name: str, options: Options) -> Any:
    def on_sample(session: Session) -> tuple[str | None, str]:
        return choose(name, SAMPLES / f"{name}.png", session, options)

    return on_sample


def _on_clear(name: str) -> Any:
    def on_clear(session: Session) -> None:
        setattr(session, name, None)

    return on_clear
