"""Fills the templates and writes pages; jinja2 escapes every text, such as names of files.

A page is one HTML file that refers to nothing else: its pictures are embedded.
"""

import base64
import functools
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxstyle.io import InputError
from jaxstyle.io.files import check_target, describe_error, describe_path, write_atomically
from jaxstyle.io.locations import Location
from jaxstyle.io.ownership import GENERATOR

THUMBNAIL = 384  # long edge in pixels of a small picture


def page_path(folder: Location) -> Location:
    """Returns the path of the page in a folder."""
    return folder / "index.html"


def check_folder(folder: Location) -> None:
    """Checks before a run that its page can be written, without writing anything.

    Raises:
        InputError: if it cannot.
    """
    try:
        check_target(page_path(folder) if folder.is_dir() else folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{describe_path(folder)} is a file; name a folder")
    except (InputError, OSError) as error:
        raise InputError(f"--report: {error}") from None


def render(template: str, **values: Any) -> str:
    """Fills a template.

    Args:
        template: name of a file in `templates/`.
        **values: variables of the template, which escapes them.
    """
    page: str = _environment().get_template(template).render(generator=GENERATOR, **values)
    return page.replace("\r", "&#13;")  # browsers would read it as a line feed


@functools.cache
def _environment() -> Any:
    import jinja2  # noqa: PLC0415  slow to import

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(folder: Location, page: str) -> None:
    """Writes a page, whole or not at all, and creates its folder if necessary.

    Args:
        folder: where `index.html` goes.
        page: the HTML.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create --report {describe_path(folder)} ({describe_error(error)})"
        ) from None
    write_atomically(page_path(folder), page.encode("utf-8", "backslashreplace"))


def embed(image: np.ndarray, edge: int) -> str:
    """Returns an image as a data URI: a JPEG with a long edge of at most `edge` pixels.

    Args:
        image: `(H, W, 3)` or `(H, W)`, clipped to [0, 1].
        edge: pixels.
    """
    pixels = np.rint(np.clip(np.asarray(image, np.float32), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling="4:4:4")
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields every setting in a tree of settings: its path, as for `--set`, and its text."""
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        value = {str(each.get("name", i)): each for i, each in enumerate(value)}
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from flatten(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, default=str)


def split_settings(rows: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Separates flat settings into those of the `run` and those of its `recipe`."""
    found: dict[str, list[tuple[str, str]]] = {"run": [], "recipe": []}
    for path, text in rows:
        whose = "recipe" if path.startswith("recipe.") else "run"
        found[whose].append((path.removeprefix("recipe."), text))
    return found
