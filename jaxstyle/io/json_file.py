"""JSON files of ours: written whole, with our mark and a checksum; read only if unchanged."""

import hashlib
import json
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error, describe_path, open_source, write_atomically
from jaxstyle.io.ownership import GENERATOR

_MAXIMUM_BYTES = 2**24  # the JSON of a run of many steps has some megabytes
_MAXIMUM_TOML = 2**16  # bytes; a recipe has one or two thousand
_MAXIMUM_DOTS = 200  # in a line of TOML


class ForeignError(InputError):
    """JSON or TOML that jaxstyle never writes: nested too deeply, or with a key twice."""


def _foreign(message: str) -> InputError:
    # To callers it is an `InputError`, and so they document it.
    return ForeignError(message)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes JSON, whole or not at all, with our mark (`generator`) and a `checksum`.

    Args:
        path: a file in an existing folder; an existing file is replaced.
        content: mappings, sequences, strings and finite numbers.

    Raises:
        InputError: if the file cannot be written.
        ValueError: for a number that JSON cannot express (NaN, infinity).
    """
    # The mark comes first, where `is_ours` looks for it.
    marked = {"generator": GENERATOR} | {k: v for k, v in content.items() if k != "generator"}
    marked["checksum"] = checksum(marked)
    write_atomically(path, (json.dumps(marked, indent=2, allow_nan=False) + "\n").encode())


def checksum(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of all fields but `checksum`; their order and layout do not matter.

    Args:
        content: what JSON can hold.

    Raises:
        InputError: if it is nested too deeply.
    """
    fields = {key: value for key, value in content.items() if key != "checksum"}
    try:
        text = json.dumps(fields, sort_keys=True)
    except RecursionError:
        raise _foreign("it is nested too deeply") from None
    return hashlib.sha256(text.encode()).hexdigest()


def parse_json(text: str) -> Any:
    """Parses JSON.

    Args:
        text: of one value.

    Raises:
        InputError: if an object has a key twice, or it is nested too deeply.
        ValueError: if it is not JSON.
    """

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise _foreign(f"it has the key {twice!r:.60} twice")
        return built

    try:
        return json.loads(text, object_pairs_hook=build)
    except RecursionError:
        raise _foreign("it is nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parses TOML.

    Args:
        text: of a recipe, or of one value.

    Raises:
        ValueError: if it is not TOML, or so large or with so many dots in a line that it is none
            of ours: the time and memory of `tomllib` grow with the square of a key's parts.
    """
    if len(text) > _MAXIMUM_TOML:
        raise ValueError(f"more than {_MAXIMUM_TOML} characters")
    if max(line.count(".") for line in text.split("\n")) > _MAXIMUM_DOTS:
        raise ValueError(f"a line with more than {_MAXIMUM_DOTS} dots")
    return tomllib.loads(text)


def read_json(path: str | os.PathLike[str], *, checked: bool = True) -> dict[str, Any]:
    """Reads a JSON object; one that we wrote must be unchanged.

    Args:
        path: a file.
        checked: False also accepts a file of ours that has changed.

    Raises:
        InputError: if the file cannot be read, holds no JSON object, or has changed since we
            wrote it.
    """
    name = describe_path(path)
    content = read_table(path, name, parse_json)
    if checked:
        check_unchanged(content, name)
    return content


def read_table(
    path: str | os.PathLike[str], name: str, parse: Callable[[str], Any]
) -> dict[str, Any]:
    """Reads a file that holds one JSON or TOML table.

    Args:
        path: a file.
        name: of the file, for messages.
        parse: `parse_json` or `parse_toml`.

    Raises:
        InputError: if the file cannot be read, is too large, or holds anything else.
    """
    with open_source(path) as file:
        try:
            data = file.read(_MAXIMUM_BYTES + 1)
        except OSError as error:
            raise InputError(f"cannot read {name} ({describe_error(error)})") from None
    if len(data) > _MAXIMUM_BYTES:
        raise InputError(f"{name} is too large")
    kind = "TOML" if parse is parse_toml else "JSON"
    try:
        content = parse(data.decode())
    except ForeignError as error:
        raise _foreign(f"{name}: {error}") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{name} is not {kind}, which is text in UTF-8; name another file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not {kind} ({describe_error(error)})") from None
    if not isinstance(content, dict):
        raise InputError(f"{name} is not a {kind} table")
    return content


def check_unchanged(content: Mapping[str, Any], name: str) -> None:
    """Checks the `checksum` that `write_json` has written; JSON of other programs has none.

    Args:
        content: what was read.
        name: of the file, for the message.

    Raises:
        InputError: if the content has changed, or is nested too deeply.
    """
    marked = any(
        isinstance(each, str) and each.startswith("jaxstyle ") for each in content.values()
    )
    ours = marked or "generator" in content or "checksum" in content
    try:
        is_changed = ours and content.get("checksum") != checksum(content)
    except ForeignError as error:
        raise _foreign(f"{name}: {error}") from None
    if is_changed:
        raise InputError(
            f"{name} is damaged or was edited: its checksum does not match; if you edited it, "
            'remove its "generator" and "checksum"'
        )
