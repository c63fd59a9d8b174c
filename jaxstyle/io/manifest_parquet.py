"""Reads manifests in Parquet, which another process decodes, see `parquet_process`."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from jaxstyle.io import parquet_process
from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error
from jaxstyle.io.manifest_rows import COLUMNS, ManifestErrors
from jaxstyle.io.manifest_text import Values, check_header, column_of, filled

_LONGEST = 2**26  # bytes of a line; a thousand rows have some hundred thousand
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
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{name} needs pyarrow: install jaxstyle[parquet], or save it as CSV")
    number = 0
    with _start(file, name) as process:
        try:
            lines = _lines(process)
            header = next(lines)
            columns = [column_of(each) for each in header]
            check_header(columns, name)
            unknown |= dict.fromkeys(
                column
                for each, column in zip(header, columns, strict=True)
                if column not in COLUMNS and not _INDEX.fullmatch(each)
            )
            known = [column for column in columns if column in COLUMNS]
            while isinstance(cells := next(lines), list):
                for values in zip(*cells, strict=True):
                    number += 1
                    yield number, filled(zip(known, values, strict=True), unknown)
        except InputError as error:
            problem = str(error).removeprefix(f"{name} ")
            raise InputError(f"{name}: {problem}; write it again") from None
        except Exception as error:
            raise InputError(
                f"{name} is not Parquet, or is damaged after row {number} "
                f"({describe_error(error)}); write it again"
            ) from None
    if number != cells:
        raise InputError(f"{name} is damaged: it has other rows than it says; write it again")


@contextlib.contextmanager
def _start(file: BinaryIO, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Yields the process that decodes a file; it ends with the block.

    Raises:
        InputError: it cannot be started.
    """
    # It finds the same packages as this process; `-P` adds no folder to them.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with contextlib.ExitStack() as stack:
        if isinstance(file, io.BytesIO):  # of an address; a process needs a file
            content, file = file, stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(content, file)
            file.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603  no shell, and nothing of the file
                [sys.executable, "-P", "-m", parquet_process.__name__],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise InputError(
                f"{name}: cannot start {sys.executable} to read it ({describe_error(error)}); "
                "save it as CSV"
            ) from None
        with process:
            try:
                yield process
            finally:
                process.kill()


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[Any]:
    """Yields what the process writes, see `parquet_process`.

    Raises:
        InputError: the file is too large, or has what no manifest has.
        ValueError: it is damaged.
    """
    output: Any = process.stdout
    while line := output.readline(_LONGEST + 1):
        if len(line) > _LONGEST:
            raise InputError("it has rows that are too long")
        value = json.loads(line)
        if isinstance(value, dict):
            raise InputError(value["problem"]) if "problem" in value else ValueError(value["error"])
        yield value
    raise ValueError(f"pyarrow has crashed, exit code {process.wait()}")
