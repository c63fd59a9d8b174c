"""The page about many pairs: everything that a run of `jaxstyle batch` has on disk, at a glance."""

import os
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxstyle.app.batch.plan import Pair
from jaxstyle.app.pages.html import embed, flatten, render, split_settings
from jaxstyle.io import InputError, read_shape
from jaxstyle.io.images import read_picture
from jaxstyle.io.json_file import read_json
from jaxstyle.io.locations import URL, Location

# Pixels of all pictures of a gallery together, some ten megabytes; and the limits of their long
# edges.
_GALLERY_PIXELS = 24e6
_GALLERY_EDGES = 64, 320

Look = Callable[[int, int], None]


class _Source(NamedTuple):
    """A content or a style of a gallery."""

    path: Location
    picture: str | None  # a data URI; None if it cannot be read
    id: str = ""


class _Cell(NamedTuple):
    """A pair in a gallery: its picture, or the problem that it has instead, or neither."""

    output: str
    note: str  # settings in which it differs from the others
    picture: str | None = None
    link: str = ""
    content_id: str = ""
    result: str = ""  # loss and status
    text: str = ""  # all that is known
    problem: str | None = None
    message: str = ""


def describe_batch(
    folder: Location,
    output_dir: Location,
    pairs: Sequence[Pair],
    entries: Mapping[str, Mapping[str, Any]],
    *,
    status: str,
    command: str,
    look: Look = lambda done, total: None,
) -> str:
    """Returns the page about many pairs, from what is on disk.

    Args:
        folder: where the page will be; its links to the pictures are relative to it.
        output_dir: of the run.
        pairs: all of them.
        entries: output -> entry of the journal; entries with other settings are ignored.
        status: how the run ended.
        command: resumes the run.
        look: called often with the number of embedded pictures and their total; an exception that
            it raises ends the work.
    """
    digests = {pair.row.output: pair.digest for pair in pairs}
    entries = {
        output: entry
        for output, entry in entries.items()
        if entry.get("digest") == digests.get(output)
    }
    settings = [dict(flatten({**pair.job.settings, "masks": pair.row.masks})) for pair in pairs]
    common = {
        key: text
        for key, text in settings[0].items()
        if all(each.get(key) == text for each in settings)
    }
    notes = [
        ", ".join(f"{k.removeprefix('recipe.')} {own[k]}" for k in own if k not in common)
        for own in settings
    ]
    seconds, made_with = _add_up(pairs, entries, look)
    failures = [
        (pair.row.output, f"failed: {entries[pair.row.output]['error']}")
        for pair in pairs
        if "error" in entries.get(pair.row.output, {})
    ]
    painted = sum("status" in entries.get(pair.row.output, {}) for pair in pairs)
    return render(
        "batch.html",
        title=f"{len(pairs)} pairs",
        heading=output_dir.resolve().name,
        status=status,
        painted=painted,
        total=len(pairs),
        waiting=len(pairs) - painted - len(failures),
        failures=failures,
        gallery=_gallery(folder, pairs, entries, notes, look),
        command=command,
        working_folder=Path.cwd(),
        settings=split_settings(common.items()),
        seconds=seconds,
        made_with=made_with,
    )


def _add_up(
    pairs: Sequence[Pair], entries: Mapping[str, Mapping[str, Any]], look: Look
) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Returns the seconds of all pairs together, and the devices and versions that occur."""
    seconds: dict[str, float] = {}
    made_with: dict[str, dict[str, None]] = {}  # the texts in the order of the pairs
    for pair in pairs:
        look(0, len(pairs))
        entry = entries.get(pair.row.output, {})
        found = _read_json(pair.job.metadata_path) if "status" in entry else {}
        timings = found.get("seconds")
        for key, value in timings.items() if isinstance(timings, dict) else ():
            if isinstance(value, int | float):  # the file may have been edited
                seconds[key] = round(seconds.get(key, 0.0) + value, 3)
        kept = {key: found[key] for key in ("device", "versions") if key in found}
        for key, text in flatten(kept) if kept else ():
            made_with.setdefault(key, {})[text] = None
    return seconds, [(key, ", ".join(texts)) for key, texts in made_with.items()]


def _gallery(
    folder: Location,
    pairs: Sequence[Pair],
    entries: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str],
    look: Look,
) -> dict[str, Any]:
    """Returns a table of contents by styles, or a list by content if most cells would be empty.

    `heads` are the styles of a table, None for a list; `rows` have a content and its cells, those
    of a table in a list for each of `heads`.
    """
    contents = list(dict.fromkeys(pair.row.content for pair in pairs))
    styles = list(dict.fromkeys(pair.row.styles for pair in pairs))
    is_table = len(contents) * len(styles) <= 2 * len(pairs)
    number = len(pairs) + len(contents) + len(styles)
    smallest, largest = _GALLERY_EDGES
    edge = min(max(int((_GALLERY_PIXELS / number) ** 0.5), smallest), largest)

    read = _Thumbnails(edge, number, look)
    sources = {content: _source(content, read, f"c{i}") for i, content in enumerate(contents)}
    cells: dict[Location, dict[tuple[Location, ...], list[_Cell]]] = {each: {} for each in contents}
    for pair, note in zip(pairs, notes, strict=True):
        entry = entries.get(pair.row.output, {})
        cell = _cell(folder, pair, entry, note, read, sources[pair.row.content].id)
        cells[pair.row.content].setdefault(pair.row.styles, []).append(cell)
    if not is_table:
        rows: list[Any] = [
            (
                sources[content],
                [(" + ".join(path.name for path in row), found[row]) for row in found],
            )
            for content, found in cells.items()
        ]
        return {"heads": None, "rows": rows}
    heads = [[_source(path, read) for path in row] for row in styles]
    rows = [
        (sources[content], [found.get(row, []) for row in styles])
        for content, found in cells.items()
    ]
    return {"heads": heads, "rows": rows}


def _cell(
    folder: Location,
    pair: Pair,
    entry: Mapping[str, Any],
    note: str,
    read: Callable[[Location], str],
    content_id: str,
) -> _Cell:
    """Returns a pair's picture, or what happened instead."""
    output = pair.row.output
    if "error" in entry:
        return _Cell(output, note, problem="failed", message=str(entry["error"]))
    if "status" not in entry:
        return _Cell(output, note)
    try:
        picture = read(pair.job.output)
    except InputError as error:
        return _Cell(output, note, problem="lost", message=str(error))
    loss = _number(entry, "loss", "loss {:.4g}")
    status = str(entry["status"])
    result = ", ".join(filter(None, (loss, status.replace("_", " ") * (status != "step_limit"))))
    seconds = _number(entry, "seconds", "{:.1f} s")
    return _Cell(
        output,
        note,
        picture=picture,
        link=_link(pair.job.output, folder),
        content_id=content_id,
        result=result,
        text=", ".join(filter(None, (output, result, seconds, note))),
    )


def _number(entry: Mapping[str, Any], key: str, text: str) -> str:
    """Formats a number of an entry; empty if the entry has none."""
    value = entry.get(key)
    return text.format(value) if isinstance(value, int | float) else ""


def _source(path: Location, read: Callable[[Location], str], identity: str = "") -> _Source:
    try:
        return _Source(path, read(path), identity)
    except InputError:
        return _Source(path, None, identity)


class _Thumbnails:
    """Reads pictures as data URIs with a long edge of at most `edge` pixels."""

    def __init__(self, edge: int, total: int, look: Look) -> None:
        self.edge, self.total, self.look = edge, total, look
        self.done = 0

    def __call__(self, path: Location) -> str:
        self.done += 1
        self.look(min(self.done, self.total), self.total)
        size = min(self.edge, max(read_shape(path)))
        return embed(read_picture(path, size=size).shown, self.edge)


def _read_json(path: Location) -> dict[str, Any]:
    """Reads the JSON next to a picture; a missing or damaged one must not prevent the page."""
    try:
        return read_json(path)
    except InputError:
        return {}


def _link(path: Location, folder: Location) -> str:
    if isinstance(path, URL):
        relative = path.relative_to(folder) if isinstance(folder, URL) else None
        return str(path) if relative is None else urllib.parse.quote(relative)
    try:
        relative = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # on another drive
        return path.resolve().as_uri()
    return urllib.parse.quote(os.fsencode(relative.replace(os.sep, "/")))
