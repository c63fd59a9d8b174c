"""The help of a command: a line for each option, in groups."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Literal, get_args, get_origin

from jaxstyle.app.cli.arguments import Command, Option, options_of

_SHOWN = {"--output": "-o, --output", "--output-dir": "-o, --output-dir", "--quiet": "-q, --quiet",
          "--weights": "--loss-weights"}  # fmt: skip
_PLACES = {
    "settings": "SETTING=VALUE", "weights": "TERM=X", "layer_style_weights": "LAYER=X",
    "memory": "SIZE", "coordinator": "HOST:PORT", "recipe": "NAME|FILE", "host": "ADDRESS",
    "allow_host": "NAME", "root_path": "PATH", "layers": "LAYER", "contents": "PICTURES",
    "styles": "PICTURES", "init": "START", "sheet": "CELLS", "slice": "I/N", "address": "HOST:PORT",
    **dict.fromkeys(("output_dir", "report", "root", "checkpoint"), "FOLDER"),
}  # fmt: skip


def format_help(command: Command, prog: str) -> str:
    """Returns the help of a command: what it does, and its options, a line each, in groups."""
    text = inspect.cleandoc(command.__doc__ or "").partition("\nArgs:\n")[0]
    options = options_of(command)
    words = [_place(each) for each in options if each.is_positional]
    parts = [f"usage: {' '.join([prog, *words, '[OPTIONS]'])}\n\n{text.strip()}\n"]
    for title in dict.fromkeys(each.group for each in options):
        lines = [_describe(each) for each in options if each.group == title]
        parts.append("\n".join([f"{title}:", *lines]) + "\n")
    return "\n".join(parts)


def _place(option: Option) -> str:
    """Returns the placeholder of a value."""
    name, kind = option.name, option.kind
    if option.is_positional:
        place = "PHOTO PAINTING" if name == "pictures" else name.upper()
        return place if option.default is inspect.Parameter.empty else f"[{place}]"
    if kind is bool:
        return ""
    if get_origin(kind) is Literal:
        place = "|".join(map(str, get_args(kind)))
    else:
        place = _PLACES.get(name) or {int: "N", float: "X"}.get(kind, "FILE")
        if kind is int and option.is_or_original:
            place = "N|original"
    return f"{place} ..." if option.is_several else place


def _describe(option: Option) -> str:
    spelling = _SHOWN.get(option.spelling, option.spelling)
    left = f"{spelling} {_place(option)}".rstrip()
    if option.is_positional:
        left = _place(option)
    meaning, default = option.meaning.rstrip("."), option.default
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    if default is not False and default not in (None, "", inspect.Parameter.empty):
        meaning += f" [{default}]"
    return f"  {left:34} {meaning}"


def commands_of(commands: Mapping[str, Command]) -> Iterator[str]:
    """Yields a line for each command."""
    for name, command in commands.items():
        yield f"  {name:9} {(command.__doc__ or '').strip().partition(chr(10))[0]}"
