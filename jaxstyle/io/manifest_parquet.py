"""Reads manifests in Parquet, some rows at a time. It is the only module that knows of pyarrow."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error
from jaxstyle.io.manifest_rows import COLUMNS, MAXIMUM_CELL, ManifestErrors
from jaxstyle.io.manifest_text import Values, check_header, column_of, filled

_MOST_ROWS = 10**7
_MOST_BYTES = 2**30  # of all columns that are read, uncompressed
_MOST_VALUES = 10**8  # of a column of lists
_AT_ONCE = 1024  # rows
_INDEX = re.compile(r"__index_level_\d+__")  # of pandas


def read_parquet(
    file: BinaryIO, name: str, errors: ManifestErrors, unknown: dict[str, None]
) -> Iterator[Values]:
    """Yields the rows of a Parquet file, which are counted from 1.

    Args:
        file: the file.
        name: of the file, for messages.
        errors: collects what is wrong with single rows.
        unknown: takes the names of columns that are not known.

    Raises:
        InputError: pyarrow is not installed, or the file is not Parquet, damaged or too large.
    """
    try:
        import pyarrow.parquet  # noqa: PLC0415  optional
    except ImportError:
        raise InputError(
            f"{name} needs pyarrow: install jaxstyle[parquet], or save it as CSV"
        ) from None
    number = 0
    try:
        table = _open(pyarrow.parquet, file)
        _check_size(table.metadata, name)
        names = {each: column_of(each) for each in table.schema_arrow.names}
        check_header([*names.values()], name)
        unknown |= dict.fromkeys(
            column
            for each, column in names.items()
            if column not in COLUMNS and not _INDEX.fullmatch(each)
        )
        known = [each for each, column in names.items() if column in COLUMNS]
        for batch in _batches(table, known):
            columns = [names[each] for each in batch.schema.names]
            cells = [_listed(column) for column in batch.columns]
            for values in zip(*cells, strict=True):
                number += 1
                yield number, filled(zip(columns, values, strict=True), unknown)
    except InputError as error:
        raise InputError(f"{name}: {str(error).removeprefix(name + ' ')}; write it again") from None
    except Exception as error:  # on hostile bytes it may raise anything
        raise InputError(
            f"{name} is not Parquet, or is damaged after row {number} ({describe_error(error)}); "
            "write it again"
        ) from None
    if number != table.metadata.num_rows:
        raise InputError(f"{name} is damaged: it has other rows than it says; write it again")


def _open(parquet: Any, file: BinaryIO) -> Any:
    """Opens a file so that a text which many rows have is in memory once."""
    # Its footer is read twice, since the names of columns are needed to open it.
    schema = parquet.ParquetFile(file, pre_buffer=False).schema
    texts = [
        schema.column(index).path
        for index in range(len(schema))
        if schema.column(index).physical_type == "BYTE_ARRAY"
    ]
    return parquet.ParquetFile(file, pre_buffer=False, read_dictionary=texts)


def _batches(table: Any, columns: list[str]) -> Iterator[Any]:
    """Yields some rows at a time, of one row group, as Arrow needs it for lists of texts."""
    for group in range(table.num_row_groups):
        yield from table.iter_batches(_AT_ONCE, [group], columns, use_threads=False)


def _check_size(metadata: Any, name: str) -> None:
    """Refuses a file with too many rows, or one that announces too many bytes.

    Raises:
        InputError: if it is one.
    """
    columns = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
        if column_of(metadata.schema.column(column).path.partition(".")[0]) in COLUMNS
    ]
    total = sum(column.total_uncompressed_size for column in columns)
    values = max((column.num_values for column in columns), default=0)
    if metadata.num_rows > _MOST_ROWS or values > _MOST_VALUES or not 0 <= total <= _MOST_BYTES:
        raise InputError(
            f"{name} has {metadata.num_rows} rows of {total / 2**20:.0f} MB, which is too large "
            "for a manifest; split it"
        )


def _listed(column: Any) -> list[Any]:
    """Returns the values of a column.

    Raises:
        InputError: for a text that is too long: Arrow has it once, Python once for each row.
    """
    _check_lengths(column)
    values: list[Any] = column.to_pylist()
    return values


def _check_lengths(column: Any) -> None:
    from pyarrow import compute, types  # noqa: PLC0415  optional

    kind = column.type
    if types.is_dictionary(kind):
        _check_lengths(column.dictionary)
    elif types.is_map(kind):
        _check_lengths(column.keys)
        _check_lengths(column.items)
    elif types.is_list(kind) or types.is_large_list(kind):
        _check_lengths(column.flatten())
    elif types.is_struct(kind):
        for each in column.flatten():
            _check_lengths(each)
    elif str(kind) in ("string", "binary", "large_string", "large_binary"):
        longest = compute.max(compute.binary_length(column)).as_py() or 0
        if longest > 4 * MAXIMUM_CELL:
            raise InputError(f"it has a text of {longest} bytes")
    elif not (types.is_primitive(kind) or types.is_null(kind) or types.is_decimal(kind)):
        raise InputError(f"it has values of type {kind}")
