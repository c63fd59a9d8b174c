"""Manifests of many pairs: what to paint, checked whole before the first of them is painted.

CSV with a header of column names, or JSON Lines with an object a line; both UTF-8. `content`,
`style` and `output` are files; the other columns, listed in `COLUMNS`, go over the command's.
"""

import contextlib
import csv
import dataclasses
import glob
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import check_source, describe_error, describe_path
from jaxstyle.io.ownership import is_ours

COLUMNS: Mapping[str, str] = {
    "content": "the photo",
    "style": "the painting; several with | between them",
    "output": "the picture to write, in the output folder",
    "recipe": "a name or a file",
    "set": "settings of the recipe, PATH=VALUE, with | between them",
    "size": "long edge in pixels",
    "steps": "steps of the solver",
    "coarsest": "long edge of the smallest size, 0 for none",
    "seed": "for a start from noise",
    "init": "content, noise or mean",
    "weights": "NAME=VALUE with | between them",
    "style_weights": "shares of several styles, with | between them",
    "style_scale": "size of the styles relative to the content's",
    "color": "style, luminance or match",
    "mask": "a picture for each style, with | between them",
}
_LISTS = ("style", "set", "weights", "style_weights", "mask")
_MAXIMUM_BYTES = 2**28
_MAXIMUM_CELL = 2**16
_REPORTED = 20

_logger = logging.getLogger("jaxstyle")


@dataclasses.dataclass(frozen=True)
class Row:
    """A pair of a manifest; only that the texts are texts has been checked."""

    line: int
    content: Path
    styles: tuple[Path, ...]
    output: str  # relative to the output folder
    masks: tuple[Path, ...]
    settings: Mapping[str, Any]  # column -> text, or a list of texts where COLUMNS says several

    @property
    def files(self) -> list[Path]:
        """All files that are read: pictures, and the recipe if it is a file."""
        recipe = self.settings.get("recipe", "")
        recipes = [Path(recipe)] if is_recipe_file(recipe) else []
        return [self.content, *self.styles, *self.masks, *recipes]


def is_recipe_file(name: str) -> bool:
    """Tells a recipe's file from the name of one that is built in."""
    return name.lower().endswith((".json", ".toml"))


class ManifestErrors:
    """Collects what is wrong with rows, to tell all of it at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, message: object) -> None:
        """Notes what is wrong with the row of that line."""
        self.found.append((line, str(message)))

    def check(self) -> None:
        """Raises what was found.

        Raises:
            InputError: of several lines, one for each row, at most twenty of them.
        """
        if not self.found:
            return
        lines = [f"line {line}: {message}" for line, message in sorted(self.found)[:_REPORTED]]
        if len(self.found) > _REPORTED:
            lines.append(f"and {len(self.found) - _REPORTED} more")
        rows = "a bad row" if len(self.found) == 1 else f"{len(self.found)} bad rows"
        raise InputError("\n  ".join([f"{self.name} has {rows}; nothing was started", *lines]))


def read_manifest(
    path: str | os.PathLike[str], *, output_dir: str | os.PathLike[str], root: str | None = None
) -> list[Row]:
    """Reads a manifest. Paths of pictures and recipes are relative to its folder.

    Args:
        path: a `.csv` or `.jsonl` file.
        output_dir: outputs, and the JSON next to them, must stay inside, whatever `..` and
            symbolic links say.
        root: pictures and recipes must stay inside this folder; None for anywhere.

    Raises:
        InputError: the file cannot be read; or with each bad row: a column or value that is
            missing, unknown or no text, a path that leaves its folder, outputs that collide.
    """
    check_source(path)
    name = describe_path(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None
    if len(data) > _MAXIMUM_BYTES:
        raise InputError(f"{name} is too large for a manifest; split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{name} is not UTF-8 in line {line}; save it as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{name} has a NUL byte in line {line}; save it as text") from None
    errors = ManifestErrors(name)
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise InputError(f"{name} is neither .csv nor .jsonl; name it so, or make it one")
    found = _read_csv(text, name, errors) if suffix == ".csv" else _read_jsonl(text, errors)
    folder = Path(path).parent
    rows = [
        row for line, values in found if (row := _row(line, values, folder, errors)) is not None
    ]
    _check_paths(rows, Path(output_dir), None if root is None else Path(root), errors)
    errors.check()
    if not rows:
        raise InputError(f"{name} has no rows; give one for each picture")
    return rows


def cross_product(
    contents: str, styles: str, *, output_dir: str | os.PathLike[str], suffix: str = ".png"
) -> list[Row]:
    """Returns a row for each pair of files that two patterns such as `a/*.jpg` match.

    What jaxstyle has written into the output folder is left out, with a warning that says how many.

    Raises:
        InputError: a pattern matches nothing else, or outputs collide.
    """
    matched = []
    inside = _real_folder(output_dir)
    for pattern in (contents, styles):
        found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
        files = [
            path
            for path in found
            if inside not in Path(os.path.realpath(path)).parents or not is_ours(path)
        ]
        if len(files) < len(found):
            _logger.warning(
                "%s matches %d files that jaxstyle has written into %s; they are left out",
                describe_path(pattern),
                len(found) - len(files),
                describe_path(output_dir),
            )
        if not files:
            raise InputError(f"no file matches {describe_path(pattern)}; quote the pattern")
        matched.append([Path(path) for path in files])
    rows = [
        Row(number, content, (style,), f"{content.stem}-{style.stem}{suffix}", (), {})
        for number, (content, style) in enumerate(
            ((content, style) for content in matched[0] for style in matched[1]), 1
        )
    ]
    errors = ManifestErrors(f"{contents} x {styles}")
    _check_paths(rows, Path(output_dir), None, errors)
    errors.check()
    return rows


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
        raise InputError(f"{name} is no CSV in line {reader.line_num}: {error}") from None


def _check_header(header: Sequence[str], name: str) -> None:
    choices = ", ".join(COLUMNS)
    for column in header:
        if column not in COLUMNS:
            raise InputError(f"{name} has a column {column!r:.60}; choose from {choices}")
        if header.count(column) > 1:
            raise InputError(f"{name} has the column {column} twice")
    if missing := [column for column in ("content", "style", "output") if column not in header]:
        raise InputError(f"{name} has no column {missing[0]} in its first line; it needs one")


def _read_jsonl(text: str, errors: ManifestErrors) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            errors.add(number, f"no JSON: {error}")
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
    if isinstance(value, Mapping):  # of weights
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
                errors.add(line, f"{column} is no text of a reasonable length")
                return None
            try:
                os.fsencode(str(each))
            except UnicodeEncodeError:  # half of a character, which JSON can write
                errors.add(line, f"{column} {each!r:.60} has half a character; write it whole")
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


def _check_paths(
    rows: Sequence[Row], output_dir: Path, root: Path | None, errors: ManifestErrors
) -> None:
    inside = _real_folder(output_dir)
    places = _finder()
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
            errors.add(row.line, f"output {row.output!r:.90} would replace a file that is read")
            continue
        # Names that differ in case only are refused everywhere: copied to a file system that
        # ignores case, one picture would replace the other.
        if other := next((taken[key] for key in keys if key in taken), None):
            line, place = other
            case = "" if place in keys.values() else ", where case is ignored"
            errors.add(
                row.line, f"output {row.output!r:.90} collides with that of line {line}{case}"
            )
            continue
        taken |= {key: (row.line, place) for key, place in keys.items()}
    if root is not None:
        below = _real_folder(root)
        for row in rows:
            for path in row.files:
                if not _are_below(places(path), below):
                    errors.add(row.line, f"{describe_path(path)} is not below {root}")


def _finder() -> Callable[[Path], list[Path]]:
    """Returns a function that finds the places of a file: its own, and where a link leads.

    There are none for a path that leads nowhere, such as through a loop of links.
    """
    folders: dict[Path, Path] = {}  # once each: there are few folders and many files

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


def _real_folder(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.path.realpath(path))
    except OSError as error:  # of a relative path: the current folder was removed
        raise InputError(
            f"{describe_path(path)} cannot be found ({describe_error(error)}); change to a folder "
            "that exists"
        ) from error


def _real_path(path: Path) -> Path:
    # `Path.resolve` does not refuse a loop of links from Python 3.13 on.
    with contextlib.suppress(FileNotFoundError):
        return Path(os.path.realpath(path, strict=True))
    found = Path(os.path.realpath(path))
    existing = next(each for each in (found, *found.parents) if os.path.lexists(each))
    os.path.realpath(existing, strict=True)
    return found


def _are_below(places: Sequence[Path], folder: Path) -> bool:
    return bool(places) and all(folder in place.parents for place in places)
