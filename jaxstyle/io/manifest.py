"""Manifests of many pairs, validated as a whole before painting starts.

Each row names the files `content`, `style` and `output`; its other columns override the command's
options. No output may leave the output folder, collide with another one, or replace an input.
"""

import codecs
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import check_source, describe_error, describe_path
from jaxstyle.io.manifest_rows import ManifestErrors, Row, parse_rows

_MAXIMUM_BYTES = 2**28
_MAXIMUM_PATH, _MAXIMUM_NAME = 4095, 255  # bytes, on Linux; other systems have no larger limits
_MAXIMUM_DEPTH = 256  # each folder is looked at


def read_manifest(
    path: str | os.PathLike[str],
    *,
    output_dir: str | os.PathLike[str],
    root: str | None = None,
    errors: ManifestErrors | None = None,
) -> list[Row]:
    """Reads and validates a manifest. Paths of pictures and recipes are relative to its folder.

    Args:
        path: a `.csv` or `.jsonl` file, in UTF-8 or UTF-16.
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
    check_source(path)
    name = describe_path(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None
    if len(data) > _MAXIMUM_BYTES:
        raise InputError(f"{name} is too large for a manifest; split it")
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # "Unicode text" of Excel
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        kind = "UTF-16" if wide else "UTF-8"
        raise InputError(f"{name} is not {kind} in line {line}; save it as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{name} has a NUL byte in line {line}; save it as text") from None
    found = ManifestErrors(name) if errors is None else errors
    rows = parse_rows(text, Path(path), name, found)
    check_paths(rows, Path(output_dir), None if root is None else Path(root), found)
    if errors is None:
        found.check()
    if not rows and not found.found:
        raise InputError(f"{name} has no rows; add one for each picture")
    return rows


def check_paths(
    rows: Sequence[Row], output_dir: Path, root: Path | None, errors: ManifestErrors
) -> None:
    """Checks where the files of rows are, and adds what is wrong to `errors`.

    Args:
        rows: of a manifest.
        output_dir: outputs must stay inside, and neither collide nor replace an input.
        root: inputs must stay inside; None allows any.
        errors: see above.
    """
    inside = real_folder(output_dir)
    places = _finder()
    long = {
        row.line: problem
        for row in rows
        for path in (inside / row.output, *row.files)
        if (problem := _problem_of(path)) is not None
    }
    for line, problem in long.items():
        errors.add(line, problem)
    rows = [row for row in rows if row.line not in long]
    taken: dict[str, tuple[int, Path]] = {}
    sources = {
        str(place).casefold() for row in rows for path in row.files for place in places(path)
    }
    for row in rows:
        output = inside / row.output
        # The picture, and the JSON next to it.
        found = [places(output), places(output.with_suffix(".json")) if output.name else []]
        if Path(row.output).is_absolute() or not all(_are_below(each, inside) for each in found):
            errors.add(row.line, f"output {row.output!r:.90} leaves the output folder")
            continue
        keys = {str(place).casefold(): place for each in found for place in each}
        if not sources.isdisjoint(keys):
            errors.add(row.line, f"output {row.output!r:.90} would replace a file of the inputs")
            continue
        # Names that differ only in case are refused on every system: copied to a file system that
        # ignores case, one picture would replace the other.
        if other := next((taken[key] for key in keys if key in taken), None):
            line, place = other
            case = "" if place in keys.values() else " if case is ignored"
            errors.add(
                row.line, f"output {row.output!r:.90} collides with that of line {line}{case}"
            )
            continue
        taken |= {key: (row.line, place) for key, place in keys.items()}
    if root is not None:
        below = real_folder(root)
        for row in rows:
            for path in row.files:
                if not _are_below(places(path), below):
                    errors.add(row.line, f"{describe_path(path)} is not below {root}")


def _problem_of(path: Path) -> str | None:
    """Returns what is wrong with the length of a path, or None."""
    size = len(os.fsencode(path))
    if size <= _MAXIMUM_NAME:
        return None
    if size > _MAXIMUM_PATH or len(path.parts) > _MAXIMUM_DEPTH:
        return f"the path {str(path)!r:.90} is too long; shorten it"
    if any(len(os.fsencode(name)) > _MAXIMUM_NAME for name in path.parts):
        return f"{str(path)!r:.90} has a name of more than {_MAXIMUM_NAME} bytes; shorten it"
    return None


def _finder() -> Callable[[Path], list[Path]]:
    """Returns a function that finds the locations of a file: its own, and its target if a link.

    A path that leads nowhere, such as a loop of links, has no location.
    """
    folders: dict[Path, Path] = {}  # resolved once each: there are few folders and many files

    def places(path: Path) -> list[Path]:
        if path.name in ("", ".", ".."):
            return []
        try:
            if path.parent not in folders:
                folders[path.parent] = _real_path(path.parent)
            own = folders[path.parent] / path.name
            return [own, _real_path(path)] if path.is_symlink() else [own]
        except (OSError, ValueError):
            return []

    return places


def real_folder(path: str | os.PathLike[str]) -> Path:
    """Returns the location of a folder, after links.

    Raises:
        InputError: the current folder was removed.
    """
    try:
        return Path(os.path.realpath(path))
    except OSError as error:  # of a relative path: the current folder was removed
        raise InputError(
            f"{describe_path(path)} cannot be found ({describe_error(error)}); change to a folder "
            "that exists"
        ) from error


def _real_path(path: Path) -> Path:
    # From Python 3.13 on, `Path.resolve` accepts a loop of links.
    with contextlib.suppress(FileNotFoundError):
        return Path(os.path.realpath(path, strict=True))
    found = Path(os.path.realpath(path))
    existing = next(each for each in (found, *found.parents) if os.path.lexists(each))
    os.path.realpath(existing, strict=True)
    return found


def _are_below(places: Sequence[Path], folder: Path) -> bool:
    return bool(places) and all(folder in place.parents for place in places)
