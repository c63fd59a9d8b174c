"""The rows of a manifest, parsed from CSV or JSON Lines; every wrong row is reported.

CSV has a header of column names, JSON Lines has one object per line. Both are understood as pandas
and spreadsheets write them: other separators, capitals, columns of somebody's own, an index.
"""

import csv
import dataclasses
import io
import itertools
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError, closest
from jaxstyle.io.json_file import parse_json

COLUMNS: Mapping[str, str] = {
    "content": "the photo",
    "style": "the painting; separate several with |",
    "output": "the picture to write, inside the output folder",
    "recipe": "a name or a file",
    "set": "recipe settings to override, PATH=VALUE, separated by |",
    "size": "long edge in pixels, or original",
    "steps": "solver steps",
    "coarsest": "first size of the coarse-to-fine schedule; 0 disables it",
    "seed": "random seed, used when starting from noise",
    "init": "content, noise, mean or detail",
    "weights": "loss weights, NAME=VALUE, separated by |",
    "style_weights": "shares of several styles, separated by |",
    "style_scale": "size of the styles relative to the content",
    "color": "style, luminance, match or recolor",
    "strength": "0: the photo; 1: the result; above 1: beyond it",
    "mask": "one picture per style, separated by |",
}
_LISTS = ("style", "set", "weights", "style_weights", "mask")
_NUMBERS = (
    *("size", "steps", "coarsest", "seed", "style_scale", "strength", "style_weights", "weights"),
)
_REQUIRED = ("content", "style", "output")
_TABLES = (".csv", ".tsv", ".txt")
_JSON_LINES = (".jsonl", ".ndjson")
_MAXIMUM_CELL = 2**16
_MAXIMUM_VALUES = 1000  # columns of a row, and values of a list
_REPORTED = 20
_WARNED = 9

_logger = logging.getLogger("jaxstyle")


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
        The rows that have no errors. Columns that are not known are left out, with a warning.

    Raises:
        InputError: the format is unknown, or the file as a whole is wrong.
    """
    suffix = path.suffix.lower()
    if suffix not in (*_TABLES, *_JSON_LINES):
        raise InputError(f"{name} is neither .csv nor .jsonl; convert or rename it")
    found = _read_csv(text, name, errors) if suffix in _TABLES else _read_jsonl(text, errors)
    rows, unknown = [], dict[str, None]()
    for line, values in found:
        unknown |= dict.fromkeys(column for column in values if column not in COLUMNS)
        known = {column: value for column, value in values.items() if column in COLUMNS}
        if (row := _row(line, known, path.parent, errors)) is not None:
            rows.append(row)
    _warn_of(unknown, name)
    return rows


def _warn_of(unknown: Collection[str], name: str) -> None:
    """Warns of columns that are not used."""
    for column in itertools.islice(unknown, _WARNED):
        if re.fullmatch(r"|unnamed:_\d+", column):
            shown, hint = "a column without a name", ": pandas' to_csv(index=False) leaves it out"
        else:
            shown, hint = f"column {column!r:.60}", closest(column, COLUMNS)
        _logger.warning("%s: %s is not used%s", name, shown, hint)
    if len(unknown) > _WARNED:
        _logger.warning("%s: and %d more columns are not used", name, len(unknown) - _WARNED)


def _column(name: object) -> str:
    """Returns the name of a column as we write it; `Style weights` is `style_weights`."""
    return re.sub(r"[ -]+", "_", str(name).strip().casefold()) if name else ""


def _separator(line: str) -> str:
    """Returns what separates the columns of a header: a comma, a semicolon or a tab."""

    def known(separator: str) -> int:
        return sum(_column(each.strip(' "')) in COLUMNS for each in line.split(separator))

    return max(",;\t", key=known)


def _read_csv(
    text: str, name: str, errors: ManifestErrors
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = list(io.StringIO(text, newline=""))
    long = next((n for n, line in enumerate(lines, 1) if len(line) > 2 * _MAXIMUM_CELL), None)
    if long is not None:
        raise InputError(f"{name} has a line of {len(lines[long - 1])} characters, number {long}")
    start = 0
    while start < len(lines) and re.fullmatch(r"\s*|sep=.\s*", lines[start].lower()):
        start += 1  # empty, or as Excel says what separates
    separator = _separator("".join(lines[start : start + 1]))
    reader = csv.reader(lines[start:], delimiter=separator, strict=True)
    try:
        header = [_column(column) for column in next(reader, [])]
        while header and not header[-1]:
            header.pop()  # of empty columns, after the last one that is used
        _check_header(header, name)
        for values in reader:
            line = start + reader.line_num
            while len(values) > len(header) and not values[-1].strip():
                values.pop()
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                errors.add(line, f"{len(values)} values for {len(header)} columns; see quotes")
                continue
            pairs = zip(header, map(str.strip, values), strict=True)
            filled = {column: value for column, value in pairs if value}
            comma = separator != ","  # which is then that of decimals
            try:
                found = {each: _parsed(each, value, comma) for each, value in filled.items()}
            except InputError as error:
                errors.add(line, error)
                continue
            yield line, found
    except csv.Error as error:
        line = start + reader.line_num
        raise InputError(f"{name} is not CSV in line {line}: {error}") from None


def _parsed(column: str, text: str, comma: bool) -> Any:
    """Returns the value of a cell; a decimal `comma` becomes a point.

    Raises:
        InputError: for a comma that may as well separate thousands.
    """
    values = text.split("|") if column in _LISTS else [text]
    if comma and column in _NUMBERS:
        for value in map(str.strip, values):
            if re.search(r"(?<![\d.,])[1-9]\d{0,2},\d{3}$", value):
                whole, point = value.replace(",", ""), value.replace(",", ".")
                raise InputError(
                    f"{column} {value!r:.60} has two meanings: write {whole} or {point}"
                )
        values = [re.sub(r"(?<=\d),(?=\d+$)", ".", value.strip()) for value in values]
    return values if column in _LISTS else values[0]


def _check_header(header: Sequence[str], name: str) -> None:
    if len(header) > _MAXIMUM_VALUES:
        raise InputError(f"{name} has {len(header)} columns; give at most {_MAXIMUM_VALUES}")
    for column in header:
        if column in COLUMNS and header.count(column) > 1:
            raise InputError(f"{name} has the column {column} twice")
    for column in _REQUIRED:
        if column not in header:
            others = [each for each in header if each not in COLUMNS]
            has = f"it has {', '.join(map(repr, header[:9]))}" if others else "add it"
            raise InputError(f"{name} has no column {column} in its first line; {has:.200}")


def _read_jsonl(text: str, errors: ManifestErrors) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = parse_json(line)
        except ValueError as error:
            errors.add(number, f"not JSON: {error}")
            continue
        if not isinstance(values, Mapping):
            errors.add(number, "not an object such as {'content': ..., 'style': ..., ...}")
            continue
        if len(values) > _MAXIMUM_VALUES:
            errors.add(number, f"has {len(values)} columns; give at most {_MAXIMUM_VALUES}")
            continue
        columns = [_column(name) for name in values]
        if twice := [each for each in columns if each in COLUMNS and columns.count(each) > 1]:
            errors.add(number, f"has the column {twice[0]} twice")
            continue
        # NaN is an empty cell of pandas.
        filled = {
            _column(name): value
            for name, value in values.items()
            if value is not None and not (isinstance(value, float | str) and str(value) == "nan")
        }
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
    if (problem := _problem_of(values)) is not None:
        errors.add(line, problem)
        return None
    settings = {
        column: [str(each).strip() for each in value] if column in _LISTS else str(value)
        for column, value in values.items()
        if column not in ("content", "style", "output", "mask")
    }
    if is_recipe_file(recipe := str(values.get("recipe", "")).strip()):
        settings["recipe"] = str(_file(folder, recipe))
    output = str(values["output"])
    return Row(
        line,
        _file(folder, str(values["content"])),
        tuple(_file(folder, str(each).strip()) for each in values["style"]),
        output.replace("\\", "/") if os.sep == "/" else output,
        tuple(_file(folder, str(each).strip()) for each in values.get("mask", ())),
        settings,
    )


def _problem_of(values: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with the values of a row, or None."""
    for column, value in values.items():
        if column in _LISTS and len(value) > _MAXIMUM_VALUES:
            return f"{column} has {len(value)} values; give at most {_MAXIMUM_VALUES}"
        for each in value if column in _LISTS else [value]:
            if not isinstance(each, str | int | float) or isinstance(each, bool):
                return f"{column} must be a text or a number"
            if len(str(each)) > _MAXIMUM_CELL or "\0" in str(each):
                return f"{column} has a NUL byte or is too long"
            try:
                os.fsencode(str(each))
            except UnicodeEncodeError:  # half of a surrogate pair, which JSON can express
                return f"{column} {each!r:.60} has half a character; complete it"
    for column in _REQUIRED:
        value = values.get(column, "")
        texts = [str(each).strip() for each in (value if isinstance(value, list) else [value])]
        if not texts or not all(texts):
            return f"{column} is missing"
    return None


def _file(folder: Path, text: str) -> Path:
    """Returns the path of a file that a row reads; a backslash of Windows separates folders."""
    path = folder / text
    is_relative = not text.startswith("\\")  # otherwise it would be below the root
    if os.sep == "/" and is_relative and "\\" in text and not os.path.lexists(path):
        other = folder / text.replace("\\", "/")
        return other if os.path.lexists(other) else path
    return path
