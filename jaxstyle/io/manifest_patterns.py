"""The rows of a batch without a manifest: each photo in the style of each painting.

Both are given as files, folders and patterns such as `photos/*.jpg`. What is hidden is left out.
"""

import contextlib
import glob
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxstyle.io.errors import InputError, count
from jaxstyle.io.files import PICTURE_SUFFIXES, describe_path
from jaxstyle.io.locations import URL, Location, is_url, redact
from jaxstyle.io.manifest_paths import check_paths, fold, real_folder
from jaxstyle.io.manifest_rows import ManifestErrors, Row
from jaxstyle.io.ownership import is_ours

_JUNK = ("thumbs.db", "desktop.ini", "ehthumbs.db")  # and hidden ones, such as .DS_Store
_NAMED = 3  # examples in a message

_logger = logging.getLogger("jaxstyle")


def cross_product(
    contents: str | URL | Sequence[str | URL],
    styles: str | URL | Sequence[str | URL],
    *,
    output_dir: str | os.PathLike[str],
    suffix: str = ".png",
) -> list[Row]:
    """Returns a row for each pair of a photo and a painting.

    Files that jaxstyle has written into the output folder are skipped, with a warning.

    Args:
        contents: the photos: files, folders with their subfolders, and patterns; or addresses of
            files, and of folders in object stores.
        styles: the paintings, likewise.
        output_dir: outputs must stay inside this folder. They are in subfolders as the photos are
            in a folder that was given, or below all photos if names would collide otherwise.
        suffix: extension of the outputs.

    Returns:
        The rows.

    Raises:
        InputError: a pattern or folder has no such file, or outputs collide.
    """
    photos, paintings = (
        _with_places([each for one in _each(given) for each in _find(one, output_dir)])
        for given in (contents, styles)
    )
    names = [place.replace("/", "-") for _, place in paintings]
    rows = [
        Row(number, content, (style,), f"{place}-{name}{suffix}", (), {})
        for number, (content, place, style, name) in enumerate(
            (
                (content, place, style, name)
                for content, place in photos
                for (style, _), name in zip(paintings, names, strict=True)
            ),
            1,
        )
    ]
    photo_names, painting_names = (map(str, _each(given)) for given in (contents, styles))
    errors = ManifestErrors(f"{' '.join(photo_names)} x {' '.join(painting_names)}")
    check_paths(rows, output_dir if isinstance(output_dir, URL) else Path(output_dir), None, errors)
    errors.check()
    return rows


def _each(given: str | URL | Sequence[str | URL]) -> Sequence[str | URL]:
    return [given] if isinstance(given, str | URL) else given


def _with_places(found: Sequence[tuple[Location, Location | None]]) -> list[tuple[Location, str]]:
    """Returns each file once, with its place below the output folder, without a suffix."""
    once: dict[str, tuple[Location, Location | None]] = {}
    for path, folder in found:
        once.setdefault(_place(path), (path, folder))
    files = dict(once.values())
    own = {
        path: Path(_relative(path, folder) if folder else path.name).with_suffix("")
        for path, folder in files.items()
    }
    places = [fold(place.as_posix()) for place in own.values()]
    if len({*places}) < len({str(path.with_suffix("")) for path in own}):
        # The same name in several folders: mirror those below the folder that they share.
        real = {path: _absolute(path) for path in own}
        shared = os.path.commonpath([path.parent for path in real.values()])
        own = {path: each.relative_to(shared).with_suffix("") for path, each in real.items()}
    return [(path, place.as_posix()) for path, place in own.items()]


def _relative(path: Location, folder: Location) -> str:
    """Returns the path from a folder to a file below it."""
    if isinstance(path, URL):
        return str(path.relative_to(folder)) if isinstance(folder, URL) else path.name
    return str(path.relative_to(folder))


def _absolute(path: Location) -> Path:
    """Returns a path that has the folders of a file, also of one that is not on this machine."""
    if isinstance(path, URL):
        return Path("/", *str(path).split("/"))
    return Path(os.path.abspath(path))


def _find_elsewhere(url: URL, output_dir: Location) -> list[tuple[Location, Location | None]]:
    """Returns the pictures that an address means, as `_find`.

    Raises:
        InputError: if there are none, or the server does not answer.
    """
    name = describe_path(url)
    if re.search(r"[*?\[]", str(url.name)):
        raise InputError(f"{name} is a pattern, for paths of this machine: name the folder")
    if url.suffix.lower() in PICTURE_SUFFIXES or url.scheme in ("http", "https"):
        return [(url, None)]
    found = sorted((each for each in url.iterdir() if _is_picture(_relative(each, url))), key=str)
    files = [each for each in found if not (_is_below(each, output_dir) and is_ours(each))]
    if not files:
        raise InputError(f"there is no picture in the folder {name}; name another")
    return [(each, url) for each in files]


def _is_picture(path: str) -> bool:
    """Whether a path is that of a picture, and nothing in it is hidden."""
    return path.lower().endswith(PICTURE_SUFFIXES) and not re.search(r"(^|/)\.", path)


def _is_below(path: URL, folder: Location) -> bool:
    place = path.relative_to(folder) if isinstance(folder, URL) else None
    return place is not None and not place.startswith("../")


def _find(
    text: str | URL, output_dir: str | os.PathLike[str]
) -> list[tuple[Location, Location | None]]:
    """Returns the pictures that a file, folder or pattern means, with the folder, if it is one.

    Raises:
        InputError: if there are none.
    """
    if isinstance(text, URL):
        inside = output_dir if isinstance(output_dir, URL) else Path(output_dir)
        return _find_elsewhere(text, inside)
    folder = Path(text) if os.path.isdir(text) else None
    if os.path.isfile(text):  # whatever its name
        return [(Path(text), None)]
    if folder is not None:
        found = sorted(_below(folder))
    else:
        found = sorted({path for path in _matches(_pattern(text)) if _is_file(path)})
    if not re.search(r"\.[^.*?\[\]/]+$", text) or folder is not None:
        others = [path for path in found if Path(path).suffix.lower() not in PICTURE_SUFFIXES]
        found = [path for path in found if Path(path).suffix.lower() in PICTURE_SUFFIXES]
        _warn(text, "has %s that cannot be a picture, such as %s", others)
    elif found:
        _warn(text, "leaves out %s with other pictures there, such as %s", _left_out(text, found))
    inside = real_folder(output_dir)
    files = [
        path
        for path in found
        if inside not in Path(os.path.realpath(path)).parents or not is_ours(path)
    ]
    if len(files) < len(found):
        _logger.warning(
            "%s matches %s that jaxstyle has written into %s; they are skipped",
            describe_path(text),
            count(len(found) - len(files), "file"),
            describe_path(output_dir),
        )
    if not files:
        raise InputError(_nothing(text, folder))
    return [(Path(path), folder) for path in files]


def _nothing(text: str, folder: Path | None) -> str:
    """Says that there are no pictures, and where there are some."""
    name = describe_path(text)
    if folder is not None:
        return f"there is no picture in the folder {name}; name another"
    if is_url(text):
        return f"{redact(name)} is an address; download the picture first, or name it in a manifest"
    if "," in text and os.path.exists(text.partition(",")[0]):
        return f"no file matches {name}; separate several by spaces, not by commas"
    near = _left_out(text, [])
    if near:
        parent = describe_path(os.path.dirname(text) or ".")
        return (
            f"no file matches {name}, but {parent} has {count(len(near), 'picture')}, such as "
            f"{_some(near)}; give the folder to take all"
        )
    return f"no file matches {name}; check the path, and quote the pattern"


def _warn(text: str, message: str, paths: Sequence[str]) -> None:
    if paths:
        number = count(len(paths), "file")
        _logger.warning("%s " + message, describe_path(text), number, _some(paths))


def _some(paths: Sequence[str]) -> str:
    names = dict.fromkeys(os.path.basename(path) for path in paths)
    return ", ".join([describe_path(name) for name in names][:_NAMED])


def _is_file(path: str) -> bool:
    name = os.path.basename(path).lower()
    return os.path.isfile(path) and not name.startswith(".") and name not in _JUNK


def _below(folder: Path) -> Iterator[str]:
    """Yields the files of a folder and its subfolders that are not hidden."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from filter(_is_file, (os.path.join(parent, name) for name in names))


def _place(path: Location) -> str:
    """Returns the real folder of a file with its own name; a link to it is another picture."""
    if isinstance(path, URL):
        return str(path)
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _folders(top: str) -> Iterator[str]:
    """Yields a folder and those below that are not hidden, each once, with a slash at the end."""
    seen = set[str]()
    waiting, links = [top], list[str]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop()
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        yield folder
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in entries:
                if entry.is_dir() and not entry.name.startswith("."):
                    found = links if entry.is_symlink() else waiting
                    found.append(f"{folder}{entry.name}/")


def _matches(pattern: str) -> Iterator[str]:
    """Yields the paths that a pattern matches; `**` enters each folder once, through its own name.

    The links that `glob` follows may lead in circles.
    """
    parts = pattern.split("/")
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    at = parts.index("**")
    head, tail = "/".join([*parts[:at], ""]), "/".join(parts[at + 1 :])
    for top in glob.iglob(head) if head else [""]:
        for folder in _folders(top):
            yield from _matches(glob.escape(folder) + (tail or "*"))


def _pattern(text: str) -> str:
    """Returns a pattern that matches suffixes in either case, and names as they stand first.

    `photos [2024]/*.jpg` means the folder of that name, if there is one.
    """
    *parents, name = text.split("/")
    there: list[str] = []
    for part in parents:
        if not os.path.isdir("/".join([*there, part]) or "/"):
            break
        there.append(part)
    rest = "/".join([*parents[len(there) :], name])
    stem, suffix = os.path.splitext(rest)
    if suffix.lower() in PICTURE_SUFFIXES:
        suffix = re.sub("[a-zA-Z]", lambda found: f"[{found[0].lower()}{found[0].upper()}]", suffix)
    return "".join(f"{glob.escape(part)}/" for part in there) + stem + suffix


def _left_out(text: str, found: Sequence[str]) -> list[str]:
    """Returns the pictures that `*.jpg` leaves out, next to those that it has found."""
    if not re.fullmatch(r"\*\.\w+", os.path.basename(text)):
        return []
    folders = {os.path.dirname(path) for path in found} or {os.path.dirname(text)}
    return sorted(
        path
        for folder in folders
        if os.path.isdir(folder or ".")
        for path in (os.path.join(folder, name) for name in os.listdir(folder or "."))
        if _is_file(path) and path not in found and Path(path).suffix.lower() in PICTURE_SUFFIXES
    )
