"""The rows of a manifest: their columns, what may be wrong with them, and how they are made."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from jaxstyle.io.errors import InputError
from jaxstyle.io.locations import URL, Location, is_url, locate

COLUMNS: Mapping[str, str] = {
    "content": "the photo",
    "style": "the painting; separate several with |",
    "output": "the picture to write, inside the output folder",
    "recipe": "a name or a file",
    "set": "recipe settings to override, PATH=VALUE, separated by |",
    "size": "long edge in pixels, or original",
    "steps": "solver steps",
    "coarsest": "first size of the coarse-to-fine schedule; 0 disables it",
    "seed": "random seed of noise and positions; changes strokes",
    "init": "content, noise, mean or detail",
    "weights": "loss weights, NAME=VALUE, separated by |",
    "style_weights": "shares of several styles, separated by |",
    "style_scale": "size of the styles relative to the content",
    "color": "style, luminance, match or recolor",
    "strength": "0: the photo; 1: the result; above 1: beyond it",
    "mask": "one picture per style, separated by |",
}
LISTS = ("style", "set", "weights", "style_weights", "mask")
"""Columns of several values."""
REQUIRED = ("content", "style", "output")
MAXIMUM_CELL = 2**16
"""Characters of a value at most."""
MAXIMUM_VALUES = 1000
"""Columns of a row, and values of a list, at most."""

_FILES = ("content", "style", "output", "mask")
_REPORTED = 20
_MOST_BAD = 10_000  # rows; beyond, the others are not looked at

_Any = TypeVar("_Any")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a manifest; its values are texts, not yet checked any further.

    A million of them are in memory at once, so equal values of several rows are the same object.
    """

    line: int
    content: Location
    styles: tuple[Location, ...]
    output: str  # relative to the output folder
    masks: tuple[Location, ...]
    settings: Mapping[str, Any]  # column -> text, or a list of texts

    @property
    def files(self) -> list[Location]:
        """All files that the row reads: pictures, and the recipe if it is a file."""
        recipe = self.settings.get("recipe", "")
        recipes = [locate(recipe)] if is_recipe_file(str(recipe)) else []
        return [self.content, *self.styles, *self.masks, *recipes]


def is_recipe_file(name: str) -> bool:
    """Whether the name of a recipe is that of a file, not of a built-in recipe."""
    return name.lower().endswith((".json", ".toml"))


class ManifestErrors:
    """Collects what is wrong with rows, to report everything at once.

    Attributes:
        name: of the manifest.
        unit: what its rows are counted in: `line`, or `row` in a file that has no lines.
        found: line and message of each problem.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.unit = "line"
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, message: object) -> None:
        """Records what is wrong with the row of that line.

        Raises:
            InputError: there are so many that the manifest as a whole is wrong.
        """
        self.found.append((line, str(message)))
        if len(self.found) >= _MOST_BAD:
            self.check()

    def check(self) -> None:
        """Raises the collected errors, if there are any.

        Raises:
            InputError: with one line for each row, at most twenty.
        """
        if not self.found:
            return
        lines = [
            f"{self.unit} {line}: {message}" for line, message in sorted(self.found)[:_REPORTED]
        ]
        if len(self.found) > _REPORTED:
            lines.append(f"and {len(self.found) - _REPORTED} more")
        rows = "a bad row" if len(self.found) == 1 else f"{len(self.found)} bad rows"
        if len(self.found) >= _MOST_BAD:
            rows += " or more"
        raise InputError("\n  ".join([f"{self.name} has {rows}; nothing was started", *lines]))


class RowMaker:
    """Makes rows of the values in a manifest, and shares what is equal in several of them.

    Args:
        folder: of the manifest; pictures and recipes are relative to it.
        errors: collects what is wrong with single rows.
    """

    def __init__(self, folder: Location, errors: ManifestErrors) -> None:
        self._folder, self._errors = folder, errors
        self._files: dict[str, Location] = {}
        self._shared: dict[Any, Any] = {}

    def make(self, line: int, values: Mapping[str, Any]) -> Row | None:
        """Returns the row of a line; None if something is wrong with it.

        Args:
            line: its number.
            values: column -> value, of known columns only; of `LISTS`, a list of values.
        """
        if (problem := _problem_of(values)) is not None:
            self._errors.add(line, problem)
            return None
        settings: dict[str, Any] = {
            column: [str(each).strip() for each in value] if column in LISTS else str(value)
            for column, value in values.items()
            if column not in _FILES
        }
        output = str(values["output"])
        try:
            if is_recipe_file(recipe := str(values.get("recipe", "")).strip()):
                file = self._file(recipe)
                settings["recipe"] = file if isinstance(file, URL) else str(file)
            return Row(
                line,
                self._file(str(values["content"])),
                self._all_files(values["style"]),
                output.replace("\\", "/") if os.sep == "/" else output,
                self._all_files(values.get("mask", ())),
                self._share(str(settings), settings) if settings else {},
            )
        except InputError as error:  # an address that cannot be read
            self._errors.add(line, error)
            return None

    def _share(self, key: Any, value: _Any) -> _Any:
        """Returns the first value that was given with a key."""
        found: _Any = self._shared.setdefault(key, value)
        return found

    def _all_files(self, texts: Iterable[Any]) -> tuple[Location, ...]:
        files = tuple(self._file(str(each).strip()) for each in texts)
        return self._share(files, files)

    def _file(self, text: str) -> Location:
        """Returns the path of a file that a row reads."""
        if text not in self._files:
            self._files[text] = _file(self._folder, text)
        return self._files[text]


def _problem_of(values: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with the values of a row, or None."""
    for column, value in values.items():
        several = column in LISTS
        if several and len(value) > MAXIMUM_VALUES:
            return f"{column} has {len(value)} values; give at most {MAXIMUM_VALUES}"
        for each in value if several else (value,):
            if type(each) is str and len(each) <= MAXIMUM_CELL and _is_plain(each):
                continue
            if (problem := _problem_of_value(column, each)) is not None:
                return problem
    for column in REQUIRED:
        value = values.get(column, "")
        if type(value) is str and value.strip():
            continue
        texts = [str(each).strip() for each in (value if isinstance(value, list) else [value])]
        if not texts or not all(texts):
            return f"{column} is missing"
    return None


def _is_plain(text: str) -> bool:
    return text.isascii() and "\0" not in text


def _problem_of_value(column: str, value: Any) -> str | None:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return f"{column} must be a text or a number"
    if len(str(value)) > MAXIMUM_CELL or "\0" in str(value):
        return f"{column} has a NUL byte or is too long"
    try:
        os.fsencode(str(value))
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can express
        return f"{column} {value!r:.60} has half a character; complete it"
    return None


def _file(folder: Location, text: str) -> Location:
    """Returns the path of a file that a row reads; a backslash of Windows separates folders."""
    if is_url(text) or isinstance(folder, URL):
        return locate(text, folder)
    path = folder / text
    is_relative = not text.startswith("\\")  # otherwise it would be below the root
    if os.sep == "/" and is_relative and "\\" in text and not os.path.lexists(path):
        other = folder / text.replace("\\", "/")
        return other if os.path.lexists(other) else path
    return path
