"""Pages about a run: one HTML file with everything in it, to be kept, sent, and looked at anywhere.

What comes from outside, such as names of files and of terms, is escaped wherever it stands.
"""

import base64
import html
import io
import json
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from jaxstyle.app.inputs import Pictures
from jaxstyle.app.job import Job
from jaxstyle.app.plot import plot_losses
from jaxstyle.io import InputError
from jaxstyle.io.files import check_target, describe_error, describe_path, write_atomically
from jaxstyle.io.ownership import GENERATOR

THUMBNAIL = 384  # long edge in pixels of a picture among others
_LARGE = 1600  # of the content and the result
_SNAPSHOTS = 7  # pictures of iterations, after that of the start
# What a JSON has besides settings; it is shown elsewhere.
_NO_SETTINGS = ("trace", "seconds", "versions", "status", "loss", "num_evaluations")


def page_path(folder: Path) -> Path:
    """The page in a folder."""
    return folder / "index.html"


def check_folder(folder: Path) -> None:
    """Checks, before a run, that its page can be written; makes nothing.

    Raises:
        InputError: if it cannot.
    """
    try:
        check_target(page_path(folder) if folder.is_dir() else folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{describe_path(folder)} is a file; name a folder")
    except (InputError, OSError) as error:
        raise InputError(f"--report: {error}") from None


def write_page(folder: Path, title: str, body: str) -> None:
    """Writes the page, whole or not at all, and makes its folder if need be.

    Args:
        folder: where `index.html` goes.
        title: plain text.
        body: HTML.

    Raises:
        InputError: if it cannot be written.
    """
    template = string.Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    page = template.substitute(generator=GENERATOR, title=escape(title), body=body)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make --report {describe_path(folder)} ({describe_error(error)})"
        ) from None
    write_atomically(page_path(folder), page.encode("utf-8", "backslashreplace"))


def embed(image: np.ndarray, edge: int) -> str:
    """Returns an image as a data URI, a JPEG with a long edge of at most `edge` pixels.

    Args:
        image: `(H, W, 3)` or `(H, W)`, clipped to [0, 1].
        edge: pixels.
    """
    pixels = np.rint(np.clip(np.asarray(image, np.float32), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling="4:4:4")
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getbuffer()).decode()


def is_due(step: int, total: int, taken: Mapping[int, str]) -> bool:
    """Tells whether a picture of this step is to be taken: at the start, and ever more rarely.

    Args:
        step: that was made.
        total: steps of the run.
        taken: step -> picture, of those that were.
    """
    last = max(taken, default=-1)
    # 1, ..., total, each so many times the one before.
    wanted = [0, *(round(total ** (i / (_SNAPSHOTS - 1))) for i in range(_SNAPSHOTS))]
    return any(last < each <= step for each in wanted)


def describe_run(
    job: Job,
    metadata: Mapping[str, Any],
    image: np.ndarray,
    pictures: Pictures,
    snapshots: Mapping[int, str],
) -> str:
    """Returns the body of the page about a single run.

    Args:
        job: the run.
        metadata: what stands in the JSON beside the picture.
        image: the result, `(H, W, 3)`.
        pictures: what it was made of.
        snapshots: step -> data URI, of iterations.
    """
    trace = metadata["trace"]
    result = embed(image, _LARGE)
    if job.content is None:
        view = f'<img src="{result}" alt="result">'
    else:
        view = compare(embed(pictures.content, _LARGE), result, image.shape)
    last = trace[-1]["step"]
    shown = {**snapshots, last: embed(image, THUMBNAIL)}
    losses = {entry["step"]: entry["loss"] for entry in trace}
    iterations = [
        figure(picture, f"step {step}", f"loss {losses[step]:.4g}" if step in losses else "")
        for step, picture in sorted(shown.items())
    ]
    overs: tuple[Literal["evaluations", "seconds"], ...] = ("evaluations", "seconds")
    curves = [
        plot_losses(trace, job.recipe.weights, over=over, kind="svg").decode() for over in overs
    ]
    plots = [f'<figure class="plot">{curve}</figure>' for curve in curves]
    seconds = metadata["seconds"]
    status = metadata["status"]
    settings = {key: value for key, value in metadata.items() if key not in _NO_SETTINGS}
    return "\n".join(
        [
            f"<header><h1>{escape(job.output.name)}</h1>",
            f"<p>{describe_status(status)} after {last} steps: loss {trace[0]['loss']:.4g} &rarr; "
            f"{metadata['loss']:.4g}, {metadata['num_evaluations']} evaluations, "
            f"{sum(seconds.values()):.1f} s</p></header>",
            view,
            section("Made of", f'<div class="row">{"".join(_sources(job, pictures))}</div>'),
            section("Iterations", f'<div class="row">{"".join(iterations)}</div>'),
            section("Loss and weighted terms", f'<div class="row wide">{"".join(plots)}</div>'),
            command_section(job.command),
            '<div class="columns">',
            section("Settings", settings_table(flatten(settings))),
            "<div>",
            section("Seconds", facts(seconds.items())),
            section("Versions", facts(metadata["versions"].items())),
            "</div></div>",
        ]
    )


def _sources(job: Job, pictures: Pictures) -> Iterator[str]:
    def figures(kind: str, paths: Sequence[Path], images: Any) -> Iterator[str]:
        for path, image in zip(paths, () if images is None else images, strict=False):
            yield figure(embed(image, THUMBNAIL), kind, path.name, str(path))

    if job.content is not None:
        yield from figures("content", (job.content,), (pictures.content,))
    yield from figures("style", job.styles, pictures.styles)
    yield from figures("where the style is", job.masks, pictures.masks)
    yield from figures("what counts of the style", job.style_masks, pictures.style_masks)
    if not isinstance(pictures.init, str):
        yield from figures("start", (Path(job.init),), (pictures.init,))


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields every setting in a tree of them, by its path as `--set` has it, as a text."""
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        value = {str(each.get("name", i)): each for i, each in enumerate(value)}
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from flatten(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, default=str)


def escape(text: object) -> str:
    """Returns HTML that shows this text."""
    # A carriage return would be read as a line feed.
    return html.escape(str(text)).replace("\r", "&#13;")


def section(title: str, body: str) -> str:
    """Returns a section; `body` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def figure(picture: str, title: str, text: str, hint: str = "") -> str:
    """Returns a picture, given as a data URI, with two lines of text below it."""
    caption = f"{escape(title)}<br>{escape(text)}"
    return (
        f'<figure title="{escape(hint)}"><img src="{escape(picture)}" alt="{escape(title)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def compare(before: str, after: str, shape: Sequence[int] = (1, 1)) -> str:
    """Returns two pictures of a shape `(H, W, ...)`, data URIs, with a slider between them."""
    return (
        f'<div class="compare" style="--width: {shape[1]}; --height: {shape[0]}">'
        f'<img src="{before}" alt="content">'
        f'<img class="after" src="{after}" alt="result">'
        '<input type="range" min="0" max="100" step="1" value="50" '
        'aria-label="content or result: how much of each is seen">'
        '<hr><span class="left">content</span><span class="right">result</span></div>'
    )


def facts(rows: Iterable[Sequence[object]]) -> str:
    """Returns a table of names and values."""
    cells = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table class="facts">{"".join(cells)}</table>'


def settings_table(settings: Iterable[tuple[str, str]]) -> str:
    """Returns tables of settings: of the run, and of its recipe."""
    own, recipe = [], []
    for key, text in settings:
        if key.startswith("recipe."):
            recipe.append((key.removeprefix("recipe."), text))
        else:
            own.append((key, text))
    return f"{facts(own)}<h2>Recipe</h2>{facts(recipe)}"


def command_section(command: str) -> str:
    """Returns the section with what makes it again."""
    return section(
        "Make it again",
        f'<pre>{escape(command)}</pre><p class="soft">in {escape(Path.cwd())}</p>',
    )


def describe_status(status: str) -> str:
    """Returns a word that tells whether it has gone well."""
    kind = "good" if status in ("converged", "step_limit", "stalled", "done") else "bad"
    return f'<span class="{kind}">{escape(status.replace("_", " "))}</span>'
