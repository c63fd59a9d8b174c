"""The pictures that a command is given: what else may be meant by a name, and stdin."""

import contextlib
import dataclasses
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from jaxstyle.io.errors import InputError, closest
from jaxstyle.io.files import describe_path, why_missing
from jaxstyle.io.locations import URL, Location, is_url, locate, redact

_Options = TypeVar("_Options", bound=Any)

_MOST_BYTES = 2**31


def check_picture(option: str, text: str) -> None:
    """Checks that a picture is there, and says what else may be meant.

    Args:
        option: that names it, for messages; empty for an argument without one.
        text: the path, or `-` for stdin.

    Raises:
        InputError: if there is no such file.
    """
    if is_url(text):
        locate(text)
        return
    name = f"{option} {describe_path(text)}".strip()
    if text == "-" or (os.path.lexists(text) and not os.path.isdir(text)):
        return
    if os.path.isdir(text):
        raise InputError(
            f"{name} is a folder: name a picture in it, or paint all of them: jaxstyle batch "
            f"--contents {shlex.quote(text)} --styles PAINTINGS --output-dir FOLDER"
        )
    several = [each for each in text.split(",") if os.path.isfile(each)]
    if len(several) > 1:
        raise InputError(f"{name}: separate several pictures by spaces: {shlex.join(several)}")
    check_there(name, text, "picture")


def check_there(name: str, text: str, kind: str) -> None:
    """Checks that a file is there, and says what else may be meant by its path.

    Args:
        name: what it is called in messages.
        text: the path.
        kind: of file, for messages.

    Raises:
        InputError: if there is no such file.
    """
    if is_url(text):
        locate(text)
        return
    if os.path.lexists(text):
        return
    folder, own = os.path.split(text)
    near = ""
    with contextlib.suppress(OSError, ValueError):
        near = closest(own, filter(str.isprintable, os.listdir(folder or ".")))
    raise InputError(f"{name} {f'does not exist{near}' if near else why_missing(text, kind)}")


def check_params(text: str | None) -> None:
    """Checks that network weights are on this machine: they are large, and read by each run.

    Raises:
        InputError: if `--params` is an address.
    """
    if text is not None and is_url(text):
        raise InputError(
            f"--params {redact(text)} is an address: download the file and name its path, or put "
            "it into the cache with jaxstyle weights convert"
        )


def check_folder_name(option: str, text: str | None) -> None:
    """Checks that a place for several files is not `-`.

    Raises:
        InputError: if it is.
    """
    if text == "-":
        raise InputError(f"{option} - is no folder, and stdout takes one picture: name a folder")


def check_output_dir(text: str) -> Location:
    """Returns the folder that `--output-dir` names; it may not be there yet.

    Raises:
        InputError: if it is a file, or `-`.
    """
    check_folder_name("--output-dir", text)
    folder = locate(text)
    if isinstance(folder, URL):
        (folder / "journal.jsonl").check_target()
        return folder
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output-dir {text} is a file; name a folder")
    return folder


def place(text: str) -> str | URL:
    """Returns a text, or the address that it is; `./-` stays what it is, see `output_path`."""
    found = locate(text)
    return found if isinstance(found, URL) else text


@contextlib.contextmanager
def stdin_as_file(given: _Options) -> Iterator[tuple[_Options, Path | None]]:
    """Yields options with a temporary file of what stdin holds in the place of `-`, and that file.

    Args:
        given: a dataclass of options. Its `output` is left as it is.

    Raises:
        InputError: if stdin is a terminal, empty or too long, or is named twice.
    """

    def replaced(value: Any, path: str) -> Any:
        if isinstance(value, tuple):
            return tuple(replaced(each, path) for each in value)
        return path if value == "-" else value

    values = {key: value for key, value in vars(given).items() if key != "output"}
    named = sum(value.count("-") if isinstance(value, tuple) else value == "-"
                for value in values.values())  # fmt: skip
    if not named:
        yield given, None
        return
    if named > 1:
        raise InputError("- is stdin, which holds one picture: name a file for the others")
    if sys.stdin is None:
        raise InputError("- reads a picture from stdin, which is closed: add < photo.jpg")
    if sys.stdin.isatty():
        raise InputError("- reads a picture from stdin, which is a terminal: add < photo.jpg")
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if not 0 < len(data) <= _MOST_BYTES:
        raise InputError(f"stdin is {'too long' if data else 'empty'}: it must hold one picture")
    with tempfile.TemporaryDirectory(prefix="jaxstyle-") as folder:
        path = Path(folder) / "stdin"
        path.write_bytes(data)
        del data
        changed = {key: replaced(value, str(path)) for key, value in values.items()}
        yield dataclasses.replace(given, **changed), path
