"""Where the files of a manifest are: no output leaves its folder, or replaces another file.

A manifest may have a million rows. What is kept for each of them is a number, not a path.
"""

import array
import contextlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error, describe_path
from jaxstyle.io.locations import URL, Location, is_url, locate
from jaxstyle.io.manifest_rows import ManifestErrors, Row

_MAXIMUM_PATH, _MAXIMUM_NAME = 4095, 255  # bytes, on Linux; other systems have no larger limits
_MAXIMUM_DEPTH = 256  # each folder is looked at


def check_paths(
    rows: Sequence[Row], output_dir: Location, root: Location | None, errors: ManifestErrors
) -> None:
    """Checks where the files of rows are, and adds what is wrong to `errors`.

    Args:
        rows: of a manifest.
        output_dir: outputs must stay inside, and neither collide nor replace an input.
        root: inputs must stay inside; None allows any.
        errors: see above.
    """
    inside, places = str(real_folder(output_dir)), Places()
    files = dict.fromkeys(path for row in rows for path in row.files)
    long = {path: problem for path in files if (problem := _problem_of(str(path))) is not None}
    rows = [row for row in rows if not _is_long(row, inside, long, errors)]
    outputs = _check_outputs(rows, inside, places, files.keys() - long.keys(), errors)
    _check_collisions(outputs, inside, places, errors)
    if root is not None:
        below = str(real_folder(root))
        for row in rows:
            for path in row.files:
                if not _are_below(places(str(path)), below):
                    errors.add(row.line, f"{describe_path(path)} is not below {root}")


def _is_long(row: Row, inside: str, long: dict[Location, str], errors: ManifestErrors) -> bool:
    """Whether a path of a row is too long, of which the last one is told."""
    problems = [_problem_of(f"{inside}/{row.output}")]
    if long:
        problems += [long.get(path) for path in row.files]
    found = [problem for problem in problems if problem is not None]
    if found:
        errors.add(row.line, found[-1])
    return bool(found)


def _check_outputs(
    rows: Iterable[Row],
    inside: str,
    places: "Places",
    files: Iterable[Location],
    errors: ManifestErrors,
) -> list[Row]:
    """Returns the rows whose outputs stay below `inside` and do not replace an input."""
    below = fold(_with_separator(inside))
    # Outputs stay below their folder, so no other input can be replaced.
    sources = {
        key
        for path in files
        for place in places(str(path))
        if (key := fold(place)).startswith(below)
    }
    good = []
    for row in rows:
        found = _places_of(row, inside, places)
        if os.path.isabs(row.output) or not all(_are_below(each, inside) for each in found):
            errors.add(row.line, f"output {row.output!r:.90} leaves the output folder")
        elif sources and not sources.isdisjoint(_keys(found)):
            errors.add(row.line, f"output {row.output!r:.90} would replace a file of the inputs")
        else:
            good.append(row)
    return good


def _check_collisions(
    rows: Sequence[Row], inside: str, places: "Places", errors: ManifestErrors
) -> None:
    """Checks that the outputs of rows are different files."""
    hashes = array.array("q")
    for row in rows:
        hashes.extend(map(hash, _keys(_places_of(row, inside, places))))
    _check_folders(rows, inside, places, hashes, errors)
    suspects = repeated(hashes)
    taken: dict[str, tuple[int, str]] = {}
    for row in rows if suspects else ():
        keys = _keys(_places_of(row, inside, places))
        if suspects.isdisjoint(map(hash, keys)):
            continue
        # Names that differ only in case, or in the form of Unicode, are refused on every system:
        # copied to a file system that ignores it, one picture would replace the other.
        if other := next((taken[key] for key in keys if key in taken), None):
            line, place = other
            case = ""
            if place not in keys.values():
                same = place.casefold() in map(str.casefold, keys.values())
                case = f" if {'case' if same else 'the form of Unicode'} is ignored"
            errors.add(
                row.line,
                f"output {row.output!r:.90} collides with that of {errors.unit} {line}{case}",
            )
            continue
        taken |= {key: (row.line, place) for key, place in keys.items()}


def _check_folders(
    rows: Sequence[Row],
    inside: str,
    places: "Places",
    hashes: "array.array[int]",
    errors: ManifestErrors,
) -> None:
    """Checks that no output, and no other file, is in the place of a folder of outputs."""
    folders = places.folders_below(inside)
    keys = {fold(folder) for folder in folders}
    files = [_with_separator(folder) for folder in folders if os.path.isfile(folder)]
    numbers = np.fromiter(map(hash, keys), np.int64, len(keys))
    if not files and not np.isin(np.frombuffer(hashes, np.int64), numbers).any():
        return
    for row in rows:
        found = _places_of(row, inside, places)
        if not keys.isdisjoint(_keys(found)):
            errors.add(row.line, f"output {row.output!r:.90} is the folder of another output")
        elif any(place.startswith(file) for each in found for place in each for file in files):
            errors.add(row.line, f"output {row.output!r:.90} is below a file; choose another name")


def repeated(hashes: "array.array[int]") -> set[int]:
    """Returns the numbers that occur more than once.

    Args:
        hashes: 64-bit numbers, such as the hashes of texts: equal texts have equal ones.
    """
    numbers = np.sort(np.frombuffer(hashes, np.int64))
    return {*numbers[1:][numbers[1:] == numbers[:-1]].tolist()}


def _problem_of(path: str) -> str | None:
    """Returns what is wrong with the length of a path, or None."""
    if len(path) <= _MAXIMUM_NAME and path.isascii():
        return None
    size = len(os.fsencode(path))
    if size <= _MAXIMUM_NAME:
        return None
    parts = Path(path).parts
    if size > _MAXIMUM_PATH or len(parts) > _MAXIMUM_DEPTH:
        return f"the path {path!r:.90} is too long; shorten it"
    if any(len(os.fsencode(name)) > _MAXIMUM_NAME for name in parts):
        return f"{path!r:.90} has a name of more than {_MAXIMUM_NAME} bytes; shorten it"
    return None


class Places:
    """Finds the locations of files: a file's own, and its target if it is a link.

    A path that leads nowhere, such as a loop of links, has no location.
    """

    def __init__(self) -> None:
        # Resolved once each: there are few folders and many files. Empty if it leads nowhere.
        self._folders: dict[str, str] = {}
        self._there: dict[str, bool] = {}

    def __call__(self, path: str) -> list[str]:
        """Returns the locations of a path, or of an address, which has no links."""
        if is_url(path):
            return [str(locate(path))]
        folder, name = os.path.split(path)
        if name in ("", "."):
            folder, name = os.path.split(str(Path(path)))
        if name in ("", ".", ".."):
            return []
        try:
            if folder not in self._folders:
                self._folders[folder] = _real_path(folder)
                self._there[folder] = os.path.isdir(folder or ".")
            own = os.path.join(self._folders[folder], name)
            is_link = self._there[folder] and os.path.islink(path)
            return [own, _real_path(path)] if is_link else [own]
        except (OSError, ValueError):
            return []

    def folders_below(self, inside: str) -> set[str]:
        """Returns the folders of all paths so far that are below a folder, and those between."""
        below, found = _with_separator(inside), set[str]()
        for folder in self._folders.values():
            while folder.startswith(below) and folder not in found:
                found.add(folder)
                folder = os.path.dirname(folder)  # noqa: PLW2901
        return found


def _places_of(row: Row, inside: str, places: Places) -> list[list[str]]:
    """Returns the locations of a row's picture and of the JSON next to it."""
    output = f"{inside}/{row.output}"
    stem, dot, suffix = output.rpartition(".")
    if dot and suffix.isalnum() and stem[-1:].isalnum():  # as nearly all are
        return [places(output), places(f"{stem}.json")]
    path = locate(output)
    return [places(output), places(str(path.with_suffix(".json"))) if path.name else []]


def _keys(found: Sequence[Sequence[str]]) -> dict[str, str]:
    """Returns locations by what they have in common with those that some systems do not tell."""
    return {fold(place): place for each in found for place in each}


def fold(place: str) -> str:
    """Returns a location without case, and without the form in which Unicode has its accents."""
    if place.isascii():
        return place.casefold()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", place).casefold())


def real_folder(path: str | os.PathLike[str]) -> Location:
    """Returns the location of a folder, after links.

    Raises:
        InputError: the current folder was removed.
    """
    if isinstance(path, URL):
        return path
    try:
        return Path(os.path.realpath(path))
    except OSError as error:  # of a relative path: the current folder was removed
        raise InputError(
            f"{describe_path(path)} cannot be found ({describe_error(error)}); change to a folder "
            "that exists"
        ) from error


def _real_path(path: str) -> str:
    # From Python 3.13 on, `Path.resolve` accepts a loop of links.
    with contextlib.suppress(FileNotFoundError):
        return os.path.realpath(path, strict=True)
    found = os.path.realpath(path)
    existing = next(
        str(each) for each in (Path(found), *Path(found).parents) if os.path.lexists(each)
    )
    os.path.realpath(existing, strict=True)
    return found


def _with_separator(folder: str) -> str:
    separator = "/" if is_url(folder) else os.sep
    return folder.rstrip(separator) + separator


def _are_below(places: Sequence[str], folder: str) -> bool:
    below = _with_separator(folder)
    return bool(places) and all(place.startswith(below) and place != below for place in places)
