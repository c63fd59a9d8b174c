"""Reads Parquet in a process of its own, where a file that crashes pyarrow crashes nothing else.

It is the only module that knows of pyarrow. The file is the process's standard input. To its
standard output it writes lines of JSON: the names of all columns, then some rows at a time as a
list of the values of each known column, and last the number of rows or what is wrong.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error
from jaxstyle.io.manifest_rows import COLUMNS, MAXIMUM_CELL
from jaxstyle.io.manifest_text import column_of

_MOST_ROWS = 10**7
_MOST_BYTES = 2**30  # of all columns that are read, uncompressed
_MOST_VALUES = 10**8  # of a column of lists
_AT_ONCE = 1024  # rows
_MOST_MEMORY = 2**32  # bytes of this process
_MOST_SECONDS = 600  # of a processor; a million rows take five


def main() -> None:
    """Writes what standard input holds."""
    _limit_resources()
    try:
        import pyarrow.parquet  # noqa: PLC0415  optional

        table = _open(pyarrow.parquet, sys.stdin.buffer)
        _check_size(table.metadata)
        names = table.schema_arrow.names
        _write(names)
        for batch in _batches(table, [each for each in names if column_of(each) in COLUMNS]):
            _write([_listed(column) for column in batch.columns])
        _write(table.metadata.num_rows)
    except InputError as error:
        _write({"problem": str(error)})
    except Exception as error:  # on hostile bytes it may raise anything
        _write({"error": describe_error(error)})


def _limit_resources() -> None:
    """Lets no file take all memory, or run for ever, where the system has such limits."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  not on Windows

        resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))


def _write(value: Any) -> None:
    # What JSON cannot express, such as bytes and dates, becomes a list: neither text nor number.
    sys.stdout.write(json.dumps(value, default=lambda _: [None]) + "\n")


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


def _check_size(metadata: Any) -> None:
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
            f"it has {metadata.num_rows} rows of {total / 2**20:.0f} MB, which is too large for a "
            "manifest; split it"
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


if __name__ == "__main__":
    main()
