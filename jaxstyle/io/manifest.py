"""Manifests of many pairs, validated as a whole before painting starts.

Each row names the files `content`, `style` and `output`; its other columns override the command's
options. No output may leave the output folder, collide with another one, or replace an input.
"""

import codecs
import dataclasses
import io
import itertools
import logging
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from jaxstyle.io.errors import InputError, closest
from jaxstyle.io.files import describe_error, describe_path, open_source
from jaxstyle.io.locations import URL, locate
from jaxstyle.io.manifest_paths import check_paths
from jaxstyle.io.manifest_rows import COLUMNS, ManifestErrors, Row, RowMaker
from jaxstyle.io.manifest_text import Values, read_csv, read_jsonl

_TABLES = (".csv", ".tsv", ".txt")
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_MAXIMUM_BYTES = 2**28
_WARNED = 9

_logger = logging.getLogger("jaxstyle")


def read_manifest(
    path: str | os.PathLike[str],
    *,
    output_dir: str | os.PathLike[str],
    root: str | None = None,
    errors: ManifestErrors | None = None,
) -> list[Row]:
    """Reads and validates a manifest. Paths of pictures and recipes are relative to its folder.

    Args:
        path: a `.csv` or `.jsonl` file, in UTF-8 or UTF-16, or a `.parquet` file. It is read in a
            stream.
        output_dir: outputs, and the JSON next to them, must stay inside this folder, after `..`
            and symbolic links are resolved.
        root: pictures and recipes must stay inside this folder; None allows any.
        errors: collects what is wrong with single rows; None raises it.

    Returns:
        Its rows.

    Raises:
        InputError: the file cannot be read; or, without `errors`, a list of the bad rows: a column
            or value is missing or not a text, a path leaves its folder, or outputs collide.
    """
    name = describe_path(path)
    found = ManifestErrors(name) if errors is None else errors
    rows, unknown = [], dict[str, None]()
    with open_source(path) as file:
        place = path if isinstance(path, URL) else Path(path)
        make = RowMaker(place.parent, found).make
        for line, values in _values(file, place.suffix.lower(), name, found, unknown):
            if (row := make(line, values)) is not None:
                rows.append(row)
    _warn_of(unknown, name)
    check_paths(rows, locate(output_dir), None if root is None else locate(root), found)
    if errors is None:
        found.check()
    if not rows and not found.found:
        raise InputError(f"{name} has no rows; add one for each picture")
    return rows


def _values(
    file: BinaryIO, suffix: str, name: str, errors: ManifestErrors, unknown: dict[str, None]
) -> Iterator[Values]:
    """Yields the rows of a file whose name ends in `suffix`, see `read_csv`.

    Raises:
        InputError: the format is unknown, or the file as a whole is wrong.
    """
    if suffix in _PARQUET:
        from jaxstyle.io.manifest_parquet import read_parquet  # noqa: PLC0415  slow to import

        errors.unit = "row"
        yield from read_parquet(file, name, errors, unknown)
        return
    if suffix not in (*_TABLES, *_JSON_LINES):
        raise InputError(f"{name} is neither .csv nor .jsonl nor .parquet; convert or rename it")
    wide = False
    try:
        if file.seek(0, os.SEEK_END) > _MAXIMUM_BYTES:
            raise InputError(f"{name} is too large for a manifest; split it, or use Parquet")
        file.seek(0)
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # Excel's "Unicode text"
        file.seek(0)
        encoding, table = "utf-16" if wide else "utf-8-sig", suffix in _TABLES
        stream = io.TextIOWrapper(file, encoding, newline="" if table else "\n")
        try:
            read = read_csv if table else read_jsonl
            yield from read(stream, name, errors, unknown)
        finally:
            stream.detach()  # or its end would close the file, with a warning
    except UnicodeDecodeError:
        file.seek(0)
        raise InputError(
            f"{name} is not {'UTF-16' if wide else 'UTF-8'} in line {_damaged_line(file, wide)}; "
            "save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {name}: {describe_error(error)}") from None


def _damaged_line(file: BinaryIO, wide: bool) -> int:
    """Returns the number of the line that cannot be decoded."""
    data = file.read()
    try:
        data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        return data[: error.start].count(b"\n") + 1
    return 1  # the file has changed meanwhile


def _hint(column: str) -> str:
    """Says in what column the values of an unknown one belong, as the rest of a sentence."""
    from jaxstyle.recipe import Recipe  # noqa: PLC0415  loads JAX

    if column in ("loss_weights", "loss_weight"):
        return "; did you mean weights?"
    if column.partition(".")[0] in {field.name for field in dataclasses.fields(Recipe)}:
        return f"; it is a setting of the recipe: write {column}=VALUE in the column set"
    return closest(column, COLUMNS)


def _warn_of(unknown: Collection[str], name: str) -> None:
    """Warns of columns that are not used."""
    for column in itertools.islice(unknown, _WARNED):
        if re.fullmatch(r"|unnamed:_\d+", column):
            shown, hint = "a column without a name", ": pandas' to_csv(index=False) leaves it out"
        else:
            shown, hint = f"column {column!r:.60}", _hint(column)
        _logger.warning("%s: %s is not used%s", name, shown, hint)
    if len(unknown) > _WARNED:
        _logger.warning("%s: and %d more columns are not used", name, len(unknown) - _WARNED)
