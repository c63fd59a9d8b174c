"""Reads manifests in text: CSV and JSON Lines, row by row.

CSV has a header of column names, JSON Lines has one object per line. Both are understood as pandas
and spreadsheets write them: other separators, capitals, columns of somebody's own, an index.
"""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from jaxstyle.io.errors import InputError
from jaxstyle.io.json_file import parse_json
from jaxstyle.io.manifest_rows import (
    COLUMNS,
    LISTS,
    MAXIMUM_CELL,
    MAXIMUM_VALUES,
    REQUIRED,
    ManifestErrors,
)

_NUMBERS = (
    *("size", "steps", "coarsest", "seed", "style_scale", "strength", "style_weights", "weights"),
)

Values = tuple[int, Mapping[str, Any]]
"""The number of a row's line, and its values: column -> text or number, or a list of them."""


def column_of(name: object) -> str:
    """Returns the name of a column as we write it; `Style weights` is `style_weights`."""
    return re.sub(r"[ -]+", "_", str(name).strip().casefold()) if name else ""


def _separator(line: str) -> str:
    """Returns what separates the columns of a header: a comma, a semicolon or a tab."""

    def known(separator: str) -> int:
        return sum(column_of(each.strip(' "')) in COLUMNS for each in line.split(separator))

    return max(",;\t", key=known)


def read_csv(
    stream: TextIO, name: str, errors: ManifestErrors, unknown: dict[str, None]
) -> Iterator[Values]:
    """Yields the rows of a CSV file that have as many values as the header has columns.

    Args:
        stream: the file, opened with `newline=""`.
        name: of the file, for messages.
        errors: collects what is wrong with single rows.
        unknown: takes the names of columns that are not known and have values.

    Raises:
        InputError: the file is not CSV, or its header is wrong.
    """
    lines = _lines(stream, name)
    start, first = 0, next(lines, "")
    while first and re.fullmatch(r"\s*|sep=.\s*", first.lower()):
        start, first = start + 1, next(lines, "")  # empty, or as Excel says what separates
    separator = _separator(first)
    reader = csv.reader(itertools.chain([first], lines), delimiter=separator, strict=True)
    comma = separator != ","  # which is then that of decimals
    try:
        header = [column_of(column) for column in next(reader, [])]
        while header and not header[-1]:
            header.pop()  # of empty columns, after the last one that is used
        check_header(header, name)
        for values in reader:
            line = start + reader.line_num
            while len(values) > len(header) and not values[-1].strip():
                values.pop()
            filled = {
                column: text
                for column, value in zip(header, values, strict=False)
                if (text := value.strip())
            }
            if len(values) != len(header):
                if any(value.strip() for value in values):
                    errors.add(line, f"{len(values)} values for {len(header)} columns; see quotes")
                continue
            try:
                found = {
                    column: _parsed(column, text, comma)
                    for column, text in filled.items()
                    if column in COLUMNS or unknown.setdefault(column)
                }
            except InputError as error:
                errors.add(line, error)
                continue
            if filled:
                yield line, found
    except csv.Error as error:
        line = start + reader.line_num
        raise InputError(f"{name} is not CSV in line {line}: {error}") from None


def _lines(stream: TextIO, name: str) -> Iterator[str]:
    """Yields the lines of a text.

    Raises:
        InputError: for a line that is too long, or no text.
    """
    for number, line in enumerate(stream, 1):
        if len(line) > 2 * MAXIMUM_CELL:
            raise InputError(f"{name} has a line of {len(line)} characters, number {number}")
        if "\0" in line:
            raise InputError(f"{name} has a NUL byte in line {number}; save it as text")
        yield line


def _parsed(column: str, text: str, comma: bool) -> Any:
    """Returns the value of a cell; a decimal `comma` becomes a point.

    Raises:
        InputError: for a comma that may as well separate thousands.
    """
    values = text.split("|") if column in LISTS else [text]
    if comma and column in _NUMBERS:
        for value in map(str.strip, values):
            if re.search(r"(?<![\d.,])[1-9]\d{0,2},\d{3}$", value):
                whole, point = value.replace(",", ""), value.replace(",", ".")
                raise InputError(
                    f"{column} {value!r:.60} has two meanings: write {whole} or {point}"
                )
        values = [re.sub(r"(?<=\d),(?=\d+$)", ".", value.strip()) for value in values]
    return values if column in LISTS else values[0]


def check_header(header: Sequence[str], name: str) -> None:
    """Checks the names of the columns of a table.

    Raises:
        InputError: one is missing or there twice, or there are too many.
    """
    if len(header) > MAXIMUM_VALUES:
        raise InputError(f"{name} has {len(header)} columns; give at most {MAXIMUM_VALUES}")
    for column in header:
        if column in COLUMNS and header.count(column) > 1:
            raise InputError(f"{name} has the column {column} twice")
    for column in REQUIRED:
        if column not in header:
            others = [each for each in header if each not in COLUMNS]
            has = f"it has {', '.join(map(repr, header[:9]))}" if others else "add it"
            raise InputError(f"{name} has no column {column} in its first line; {has:.200}")


def read_jsonl(
    stream: TextIO, name: str, errors: ManifestErrors, unknown: dict[str, None]
) -> Iterator[Values]:
    """Yields the rows of a JSON Lines file; the arguments are those of `read_csv`.

    Args:
        stream: the file, opened so that only a line feed ends a line.
        name: see `read_csv`.
        errors: see `read_csv`.
        unknown: see `read_csv`.

    Raises:
        InputError: the file has a NUL byte.
    """
    for number, line in enumerate(stream, 1):
        if "\0" in line:
            raise InputError(f"{name} has a NUL byte in line {number}; save it as text")
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
        if len(values) > MAXIMUM_VALUES:
            errors.add(number, f"has {len(values)} columns; give at most {MAXIMUM_VALUES}")
            continue
        columns = [column_of(name) for name in values]
        if twice := [each for each in columns if each in COLUMNS and columns.count(each) > 1]:
            errors.add(number, f"has the column {twice[0]} twice")
            continue
        yield number, filled(zip(columns, values.values(), strict=True), unknown)


def filled(values: Iterable[tuple[str, Any]], unknown: dict[str, None]) -> dict[str, Any]:
    """Returns the values of known columns that are not empty, as `RowMaker` takes them.

    Args:
        values: column and value, as JSON or Parquet has them.
        unknown: see `read_csv`.
    """
    return {
        column: _listed(value) if column in LISTS else value
        for column, value in values
        # NaN is an empty cell of pandas, and an empty text is one of CSV.
        if value is not None
        and not (isinstance(value, float | str) and str(value).strip() in ("", "nan"))
        and (column in COLUMNS or unknown.setdefault(column))
    }


def _listed(value: Any) -> list[Any]:
    if isinstance(value, Mapping):  # loss weights
        return [f"{name}={number}" for name, number in value.items() if number is not None]
    return value if isinstance(value, list) else [value]
