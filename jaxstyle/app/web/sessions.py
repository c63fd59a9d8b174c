"""A visitor's session: a folder, the chosen pictures, the settings of a job, and the results."""

import dataclasses
import html
import math
import os
import re
import secrets
import shutil
import threading
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from jaxstyle.app.job import Job, find_recipe, make_job
from jaxstyle.app.vgg import vgg_of
from jaxstyle.app.web.runs import Run
from jaxstyle.app.web.server_folder import VISIT, bytes_in, remove
from jaxstyle.app.working_size import MULTIPLE
from jaxstyle.io import InputError, load_image, read_shape, save_image
from jaxstyle.io.files import describe_error
from jaxstyle.io.images import read_picture
from jaxstyle.recipe import Color
from jaxstyle.recipes import RECIPES

MIN_SIZE = 64
MAX_FACTOR = 10.0
MAX_STRENGTH = 2.0
SIZE_STEP = MULTIPLE
"""Sizes are multiples of so many pixels, so that few programs serve all."""
# Pictures are padded to those sizes, so no recipe whose pictures have edges that fit each other.
OFFERED = {name: recipe for name, recipe in RECIPES.items() if not recipe.network.wraps}
TERMS = tuple(dict.fromkeys(term for recipe in OFFERED.values() for term in recipe.weights))
"""The names of all terms that a recipe has."""
_REDUCED_PIXELS = 16_000_000  # larger uploads are reduced
_THUMBNAIL = 512
_PICTURES = 8  # kept for a visitor; then the oldest one is removed
_RESULTS = 24
_NAME_BYTES = 60  # of a picture; a result has two names, and a file system allows 255 bytes

_one_at_a_time = threading.Lock()  # decoding a large picture may take 2 GB


@dataclasses.dataclass(frozen=True)
class Options:
    """What the page allows; sizes in pixels."""

    folder: Path
    """Holds all files of the page."""
    weights: dict[str, Path]
    """Preprocessing of VGG19 -> a file of weights."""
    max_size: int
    max_steps: int
    max_upload: int
    """Bytes."""
    max_disk: int
    """Bytes of all visitors' files."""
    max_waiting: int
    allow_hosts: tuple[str, ...] = ()
    """Names of the server, besides the machine's own."""
    root_path: str = ""
    """Path of the page behind a proxy, such as `/paint`, or its URL."""


@dataclasses.dataclass
class Session:
    """One visitor's folder, chosen pictures, run and results."""

    folder: Path | None = None
    content: Path | None = None
    style: Path | None = None
    chosen: list[Path] = dataclasses.field(default_factory=list)
    """A folder for each picture that was chosen, oldest first."""
    run: Run | None = None
    """The last one."""
    results: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """Path and caption."""

    def __deepcopy__(self, _: object) -> "Session":
        """Gradio copies the initial state for a new visitor, who starts with an empty one."""
        return Session()


def choose(name: str, path: Path, session: Session, options: Options) -> tuple[str | None, str]:
    """Takes a picture into the session.

    Args:
        name: `content` or `style`.
        path: the uploaded file, or a sample.
        session: the visitor's.
        options: what the page allows.

    Returns:
        A small picture to show, None if the file is refused; and the status.
    """
    folder = None
    try:
        if bytes_in(options.folder) > options.max_disk:
            raise InputError("the server has no room for more pictures; come back later")
        shape = read_shape(path)
        folder = _folder(session, options) / secrets.token_hex(16)
        (folder / "picture").mkdir(parents=True)  # its own, since a picture may have any name
        kept = _keep(path, shape, folder / "picture", options)
        thumbnail = thumbnail_of(kept, name)
        save_image(thumbnail, load_image(kept, size=min(_THUMBNAIL, max(read_shape(kept)))))
    except (InputError, OSError) as error:
        problem = _without_folder(str(error).replace(str(path), path.name), options.folder)
        if folder is not None:
            remove(folder)
        setattr(session, name, None)
        if isinstance(error, OSError):
            problem = f"{path.name} cannot be stored ({describe_error(error)})"
        gr.Warning(html.escape(problem), title="Refused")
        return None, as_problem(problem)
    setattr(session, name, kept)
    _make_room(session, folder)
    (height, width), (now_high, now_wide) = shape, read_shape(kept)
    reduced = "" if shape == (now_high, now_wide) else f", reduced to {now_wide}x{now_high} px"
    return str(thumbnail), f"{html.escape(path.name)}: {width}x{height} px{reduced}"


def _keep(path: Path, shape: tuple[int, int], folder: Path, options: Options) -> Path:
    """Copies a picture of `(H, W)` into a folder; a large one is reduced.

    The upload stays: another visitor may have sent the same picture.
    """
    name = shorten(path.stem, _NAME_BYTES)
    if math.prod(shape) <= _REDUCED_PIXELS:
        # Some formats are known by the extension.
        extension = path.suffix if len(os.fsencode(path.suffix)) <= _NAME_BYTES else ""
        return Path(shutil.copyfile(path, folder / f"{name}{extension}"))
    kept = folder / f"{name}.png"
    with _one_at_a_time:
        # Twice the size that it can be painted at.
        picture = read_picture(path, size=min(2 * options.max_size, max(shape)), draft=True)
    save_image(kept, picture.image, alpha=picture.alpha, dpi=picture.dpi)
    return kept


def thumbnail_of(picture: Path, name: str) -> Path:
    """Returns the path of the small picture of a content or style in a session."""
    return picture.parent.parent / f"{name}-shown.jpg"


def _make_room(session: Session, folder: Path) -> None:
    """Removes the oldest pictures, except chosen ones and those that a run uses."""
    session.chosen.append(folder)
    used = [session.content, session.style]
    if session.run is not None:
        used += [Path(each) for each in session.run.job.pictures]
    for old in session.chosen[:-_PICTURES]:
        if not any(path is not None and old in Path(path).parents for path in used):
            session.chosen.remove(old)
            remove(old)


def _folder(session: Session, options: Options) -> Path:
    if session.folder is None or not session.folder.exists():
        session.folder = options.folder / f"{VISIT}{secrets.token_hex(16)}"
        session.folder.mkdir()
    return session.folder


def add_result(session: Session, picture: Path, caption: str) -> None:
    """Adds a result; removes previews of the last one, and the oldest results."""
    if session.results:
        remove(Path(session.results[0][0]).parent / "shown")
    session.results.insert(0, (str(picture), caption))
    for old, _ in session.results[_RESULTS:]:
        remove(Path(old).parent)
    del session.results[_RESULTS:]


def forget(session: Session) -> None:
    """Removes the files of a visitor; Gradio calls it an hour after the page was closed."""
    if session.folder is not None:
        remove(session.folder)


def make_session_job(
    options: Options,
    session: Session,
    recipe: Any,
    size: Any,
    steps: Any,
    color: Any,
    strength: Any,
    *factors: Any,
) -> Job:
    """Makes the job that a visitor has set up.

    Args:
        options: what the page allows.
        session: has the pictures.
        recipe: name of a built-in recipe.
        size: long edge in pixels.
        steps: of the solver.
        color: as `--color`.
        strength: as `--strength`.
        *factors: for the loss weights of `TERMS`; those of terms that the recipe lacks count for
            nothing.

    Raises:
        InputError: for any value that the page does not offer.
    """
    if not isinstance(recipe, str) or recipe not in OFFERED:
        raise InputError(f"unknown recipe: choose from {', '.join(OFFERED)}")
    if color not in get_args(Color):
        raise InputError(f"unknown colors: choose from {', '.join(get_args(Color))}")
    size = _whole("size", size, MIN_SIZE, options.max_size)
    if size % SIZE_STEP:
        raise InputError(f"size: give a multiple of {SIZE_STEP}, such as {size - size % SIZE_STEP}")
    steps = _whole("steps", steps, 1, options.max_steps)
    strength = _number("strength", strength, 0, MAX_STRENGTH)
    chosen = find_recipe(recipe)
    weights = [
        f"{term}={_number(f'weight of {term}', factor, 0, MAX_FACTOR) * chosen.weights[term]!r}"
        for term, factor in zip(TERMS, factors, strict=True)
        if term in chosen.weights
    ]
    content, style = session.content, session.style
    if content is None or style is None or not (content.exists() and style.exists()):
        raise InputError("choose a photo and a painting")
    params = options.weights.get(vgg_of(chosen).preprocessing)
    if params is None:
        raise InputError(missing_weights(recipe))
    folder = _folder(session, options) / secrets.token_hex(16)
    folder.mkdir()
    names = [shorten(path.stem, _NAME_BYTES) for path in (content, style)]
    job = make_job(
        content=str(content),
        style=[str(style)],
        output=str(folder / f"{names[0]}-{names[1]}.png"),
        recipe=recipe,
        size=size,
        steps=steps,
        weights=weights,
        color=color,
        strength=strength,
        params=str(params),
        quiet=True,
    )
    return dataclasses.replace(job, multiple_of=SIZE_STEP)


def missing_weights(name: str) -> str:
    """Returns the message that the server lacks the weights of a recipe."""
    preprocessing = vgg_of(OFFERED[name]).preprocessing
    return (
        f"recipe {name} needs VGG19 weights for {preprocessing} preprocessing, which are missing: "
        "run jaxstyle weights convert FILE on the server and restart it"
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


def plain(problem: str, session: Session) -> str:
    """Rewrites a message for a visitor, who knows neither paths nor options of a command."""
    text = problem.replace("--", "")
    for path in (session.content, session.style):
        text = text if path is None else text.replace(str(path), path.name)
    return text if session.folder is None else _without_folder(text, session.folder.parent)


def _without_folder(text: str, folder: Path) -> str:
    """Removes the server's folder, and folders in it, from the paths in a message."""
    inside = rf"{re.escape(str(folder))}({re.escape(os.sep)}[\w-]+)*{re.escape(os.sep)}"
    return re.sub(inside, "", text).replace(str(folder), "the server's folder")


def shorten(name: str, most: int) -> str:
    """Returns the begin of a name, of at most `most` bytes as a file name."""
    return name.encode("utf-8", "ignore")[:most].decode("utf-8", "ignore") or "picture"


def as_problem(text: str) -> str:
    """Returns the HTML of a message about a problem."""
    return f'<span class="problem">{html.escape(text)}</span>'
