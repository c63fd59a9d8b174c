"""The page about many pairs: what a run of `jaxstyle batch` has on disk, at a glance."""

import os
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstyle.app.batch.plan import Pair
from jaxstyle.app.report import (
    command_section,
    compare,
    describe_status,
    embed,
    escape,
    facts,
    flatten,
    section,
    settings_table,
)
from jaxstyle.io import InputError, load_image, read_shape
from jaxstyle.io.metadata import read_json

# Pixels that all pictures of a gallery have together, some ten megabytes; and the long edges that
# they have at least and at most.
_GALLERY_PIXELS = 24e6
_GALLERY_EDGES = 64, 320


def describe_batch(
    folder: Path,
    output_dir: Path,
    pairs: Sequence[Pair],
    entries: Mapping[str, Mapping[str, Any]],
    *,
    status: str,
    command: str,
    look: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Returns the body of the page about many pairs, out of what is on disk.

    Args:
        folder: where the page will be, for links to the pictures.
        output_dir: of the run.
        pairs: all of them.
        entries: output -> entry of the journal; that of other settings does not count.
        status: how the run ended.
        command: that goes on with it.
        look: called often with the pictures that are embedded, and their number; an exception that
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
    seconds: dict[str, float] = {}
    made_with: dict[str, dict[str, None]] = {}  # texts in the order in which they come
    failures: dict[str, str] = {}
    notes: list[str] = []  # for each pair
    for pair, own in zip(pairs, settings, strict=True):
        look(0, len(pairs))
        entry = entries.get(pair.row.output, {})
        if "error" in entry:
            failures[pair.row.output] = str(entry["error"])
        found = _read_json(pair.job.metadata_path) if "status" in entry else {}
        timings = found.get("seconds")
        for key, value in timings.items() if isinstance(timings, dict) else ():
            if isinstance(value, int | float):  # somebody may have edited it
                seconds[key] = round(seconds.get(key, 0.0) + value, 3)
        kept = {key: found[key] for key in ("device", "versions") if key in found}
        for key, text in flatten(kept) if kept else ():
            made_with.setdefault(key, {})[text] = None
        different = [key for key in own if key not in common]
        notes.append(", ".join(f"{key.removeprefix('recipe.')} {own[key]}" for key in different))

    painted = sum("status" in entries.get(pair.row.output, {}) for pair in pairs)
    counts = [f"{painted} of {len(pairs)} pairs painted"]
    if failures:
        counts.append(f'<span class="bad">{len(failures)} failed</span>')
    if waiting := len(pairs) - painted - len(failures):
        counts.append(f"{waiting} not painted yet")
    rows = [[name, f"failed: {message}"] for name, message in failures.items()]
    return "\n".join(
        [
            f"<header><h1>{escape(output_dir.resolve().name)}</h1>",
            f"<p>{describe_status(status)}: {', '.join(counts)}</p></header>",
            section("Pictures", _gallery(folder, pairs, entries, notes, look)),
            section("Failures", facts(rows)) if rows else "",
            command_section(command),
            '<div class="columns">',
            section("Settings of all", settings_table(common.items())),
            "<div>",
            section("Seconds, of all together", facts(seconds.items())),
            section("Made with", facts((key, ", ".join(made_with[key])) for key in made_with)),
            "</div></div>",
            f'<dialog><div>{compare("", "")}</div><p></p><p class="soft">'
            '<a href="#">the file</a></p><form method="dialog"><button>Close</button></form>'
            "</dialog>",
        ]
    )


def _gallery(
    folder: Path,
    pairs: Sequence[Pair],
    entries: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str],
    look: Callable[[int, int], None],
) -> str:
    """Contents by styles; where most of that would be empty, a row of pictures by content."""
    contents = list(dict.fromkeys(pair.row.content for pair in pairs))
    styles = list(dict.fromkeys(pair.row.styles for pair in pairs))
    table = len(contents) * len(styles) <= 2 * len(pairs)
    number = len(pairs) + len(contents) + len(styles)
    smallest, largest = _GALLERY_EDGES
    edge = min(max(int((_GALLERY_PIXELS / number) ** 0.5), smallest), largest)

    read = _Thumbnails(edge, number, look)
    ids = {content: f"c{number}" for number, content in enumerate(contents)}
    heads = {content: _source(content, read, name) for content, name in ids.items()}
    cells: dict[tuple[Path, tuple[Path, ...]], str] = {}
    for pair, note in zip(pairs, notes, strict=True):
        place = pair.row.content, pair.row.styles
        entry = entries.get(pair.row.output, {})
        cell = _cell(folder, pair, entry, note, read, ids[pair.row.content])
        cells[place] = cells.get(place, "") + cell
    if table:
        head = "".join(
            f'<th scope="col">{"".join(_source(path, read) for path in row)}</th>' for row in styles
        )
        body = "".join(
            f'<tr><th scope="row">{heads[content]}</th>'
            + "".join(f"<td>{cells.get((content, row), '')}</td>" for row in styles)
            + "</tr>"
            for content in contents
        )
        return (
            f'<div class="grid" tabindex="0"><table><thead><tr><th></th>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )
    grouped: dict[Path, list[str]] = {}
    for (content, row), cell in cells.items():
        names = " + ".join(path.name for path in row)
        grouped.setdefault(content, []).append(
            f'<div>{cell}<div class="soft">{escape(names)}</div></div>'
        )
    return "".join(
        f'<div class="row one">{heads[content]}{"".join(group)}</div>'
        for content, group in grouped.items()
    )


def _cell(
    folder: Path,
    pair: Pair,
    entry: Mapping[str, Any],
    note: str,
    read: Callable[[Path], str],
    content: str,
) -> str:
    """A pair's picture, or what has become of it."""
    extra = f'<div class="soft">{escape(note)}</div>' if note else ""
    if "error" in entry:
        return (
            f'<div class="failed"><b class="bad">failed</b> {escape(entry["error"])}</div>{extra}'
        )
    if "status" not in entry:
        return f'<div class="waiting soft">not painted yet</div>{extra}'
    try:
        picture = read(pair.job.output)
    except InputError as error:
        return f'<div class="failed"><b class="bad">lost</b> {escape(error)}</div>{extra}'
    loss = _number(entry, "loss", "loss {:.4g}")
    status = str(entry["status"])
    told = ", ".join(filter(None, (loss, status.replace("_", " ") * (status != "step_limit"))))
    seconds = _number(entry, "seconds", "{:.1f} s")
    text = ", ".join(filter(None, (pair.row.output, told, seconds, note)))
    return (
        f'<a class="cell" href="{escape(_link(pair.job.output, folder))}" '
        f'data-content="{content}" data-text="{escape(text)}">'
        f'<img src="{picture}" alt="{escape(pair.row.output)}"></a>'
        f'<div class="soft">{escape(told)}</div>{extra}'
    )


def _number(entry: Mapping[str, Any], key: str, text: str) -> str:
    """What an entry says, or nothing where it does not say it."""
    value = entry.get(key)
    return text.format(value) if isinstance(value, int | float) else ""


def _source(path: Path, read: Callable[[Path], str], name: str = "") -> str:
    """A content or style of a gallery; without a picture if it cannot be read."""
    try:
        identity = f' id="{name}"' if name else ""
        image = f'<img{identity} src="{read(path)}" alt="">'
    except InputError:
        image = ""
    caption = f"<figcaption>{escape(path.name)}</figcaption>"
    return f'<figure title="{escape(path)}">{image}{caption}</figure>'


class _Thumbnails:
    """Reads pictures as data URIs, of a long edge of at most `edge` pixels."""

    def __init__(self, edge: int, total: int, look: Callable[[int, int], None]) -> None:
        self.edge, self.total, self.look = edge, total, look
        self.done = 0

    def __call__(self, path: Path) -> str:
        self.done += 1
        self.look(min(self.done, self.total), self.total)
        size = min(self.edge, max(read_shape(path)))
        return embed(load_image(path, size=size), self.edge)


def _read_json(path: Path) -> dict[str, Any]:
    """What stands beside a picture; nothing if it is gone, which is no reason to lose the page."""
    try:
        return read_json(path)
    except InputError:
        return {}


def _link(path: Path, folder: Path) -> str:
    try:
        relative = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # on another drive
        return path.resolve().as_uri()
    return urllib.parse.quote(os.fsencode(relative.replace(os.sep, "/")))
