"""The rows of a manifest, parsed from CSV or JSON Lines; every wrong row is reported.

CSV has a header of column names, JSON Lines has one object per line; both are UTF-8.
"""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError

COLUMNS: Mapping[str, str] = {
    "content": "the photo",
    "style": "the painting; separate several with |",
    "output": "the picture to write, inside the output folder",
    "recipe": "a name or a file",
    "set": "recipe settings to override, PATH=VALUE, separated by |",
    "size": "long edge in pixels",
    "steps": "solver steps",
    "coarsest": "first size of the coarse-to-fine schedule; 0 disables it",
    "seed": "random seed, used when starting from noise",
    "init": "content, noise or mean",
    "weights": "loss weights, NAME=VALUE, separated by |",
    "style_weights": "shares of several styles, separated by |",
    "style_scale": "size of the styles relative to the content",
    "color": "style, luminance or match",
    "mask": "one picture per style, separated by |",
}
_LISTS = ("style", "set", "weights", "style_weights", "mask")
_MAXIMUM_CELL = 2**16
_REPORTED = 20


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a manifest; its values are texts, not yet checked any further."""

    line: int
    content: Path
    styles: tuple[Path, ...]
    output: str  # relative to the output folder
    masks: tuple[Path, ...]
    settings: Mapping[str, Any]  # column -> text, or a list of texts

    @property
    def files(self) -> list[Path]:
        """All files that the row reads: pictures, and the recipe if it is a file."""
        recipe = self.settings.get("recipe", "")
        recipes = [Path(recipe)] if is_recipe_file(recipe) else []
        return [self.content, *self.styles, *self.masks, *recipes]


def is_recipe_file(name: str) -> bool:
    """Whether the name of a recipe is that of a file, not of a built-in recipe."""
    return name.lower().endswith((".json", ".toml"))


class ManifestErrors:
    """Collects what is wrong with rows, to report everything at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, message: object) -> None:
        """Records what is wrong with the row of that line."""
        self.found.append((line, str(message)))

    def check(self) -> None:
        """Raises the collected errors, if there are any.

        Raises:
            InputError: with one line for each row, at most twenty.
        """
        if not self.found:
            return
        lines = [f"line {line}: {message}" for line, message in sorted(self.found)[:_REPORTED]]
        if len(self.found) > _REPORTED:
            lines.append(f"and {len(self.found) - _REPORTED} more")
        rows = "a bad row" if len(self.found) == 1 else f"{len(self.found)} bad rows"
        raise InputError("\n  ".join([f"{self.name} has {rows}; nothing was started", *lines]))


def parse_rows(text: str, path: Path, name: str, errors: ManifestErrors) -> list[Row]:
    """Parses a manifest.

    Args:
        text: its content.
        path: its name decides the format; pictures and recipes are relative to its folder.
        name: of the file, for messages.
        errors: collects what is wrong with single rows.

    Returns:
        The rows that have no errors.

    Raises:
        InputError: the format is unknown, or the file as a whole is wrong.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise InputError(f"{name} is neither .csv nor .jsonl; convert or rename it")
    found = _read_csv(text, name, errors) if suffix == ".csv" else _read_jsonl(text, errors)
    rows = (_row(line, values, path.parent, errors) for line, values in found)
    return [row for row in rows if row is not None]


def _read_csv(
    text: str, name: str, errors: ManifestErrors
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = list(io.StringIO(text, newline=""))
    long = next((n for n, line in enumerate(lines, 1) if len(line) > 2 * _MAXIMUM_CELL), None)
    if long is not None:
        raise InputError(f"{name} has a line of {len(lines[long - 1])} characters, number {long}")
    reader = csv.reader(lines, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(header, name)
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                errors.add(
                    reader.line_num, f"{len(values)} values for {len(header)} columns; see quotes"
                )
                continue
            filled = {
                column: value.strip()
                for column, value in zip(header, values, strict=True)
                if value.strip()
            }
            yield (
                reader.line_num,
                {
                    column: value.split("|") if column in _LISTS else value
                    for column, value in filled.items()
                },
            )
    except csv.Error as error:
        raise InputError(f"{name} is not CSV in line {reader.line_num}: {error}") from None


def _check_header(header: Sequence[str], name: str) -> None:
    choices = ", ".join(COLUMNS)
    for column in header:
        if column not in COLUMNS and ";" in column:
            raise InputError(f"{name} separates its columns by semicolons; use commas")
        if column not in COLUMNS:
            raise InputError(f"{name} has a column {column!r:.60}; choose from {choices}")
        if header.count(column) > 1:
            raise InputError(f"{name} has the column {column} twice")
    if missing := [column for column in ("content", "style", "output") if column not in header]:
        raise InputError(f"{name} has no column {missing[0]} in its first line; add it")


def _read_jsonl(text: str, errors: ManifestErrors) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            errors.add(number, f"not JSON: {error}")
            continue
        if not isinstance(values, Mapping):
            errors.add(number, "not an object such as {'content': ..., 'style': ..., ...}")
            continue
        filled = {column: value for column, value in values.items() if value is not None}
        yield (
            number,
            {
                column: _listed(value) if column in _LISTS else value
                for column, value in filled.items()
            },
        )


def _listed(value: Any) -> list[Any]:
    if isinstance(value, Mapping):  # loss weights
        return [f"{name}={number}" for name, number in value.items()]
    return value if isinstance(value, list) else [value]


def _row(line: int, values: Mapping[str, Any], folder: Path, errors: ManifestErrors) -> Row | None:
    for column, value in values.items():
        if column not in COLUMNS:
            errors.add(line, f"unknown column {column!r:.60}; choose from {', '.join(COLUMNS)}")
            return None
        for each in value if column in _LISTS else [value]:
            if not isinstance(each, str | int | float) or isinstance(each, bool):
                errors.add(line, f"{column} must be a text or a number")
                return None
            if len(str(each)) > _MAXIMUM_CELL or "\0" in str(each):
                errors.add(line, f"{column} has a NUL byte or is too long")
                return None
            try:
                os.fsencode(str(each))
            except UnicodeEncodeError:  # half of a surrogate pair, which JSON can express
                errors.add(line, f"{column} {each!r:.60} has half a character; complete it")
                return None
    for column in ("content", "style", "output"):
        value = values.get(column, "")
        texts = [str(each).strip() for each in (value if isinstance(value, list) else [value])]
        if not texts or not all(texts):
            errors.add(line, f"{column} is missing")
            return None
    settings = {
        column: [str(each).strip() for each in value] if column in _LISTS else str(value)
        for column, value in values.items()
        if column not in ("content", "style", "output", "mask")
    }
    if is_recipe_file(recipe := str(values.get("recipe", "")).strip()):
        settings["recipe"] = str(folder / recipe)
    return Row(
        line,
        folder / str(values["content"]),
        tuple(folder / str(each).strip() for each in values["style"]),
        str(values["output"]),
        tuple(folder / str(each).strip() for each in values.get("mask", ())),
        settings,
    )
