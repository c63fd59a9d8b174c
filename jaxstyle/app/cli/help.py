"""The help of a command: a line for each option, in groups."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Literal, get_args, get_origin

from jaxstyle.app.cli.arguments import Command, is_several, kind_of, option_of

_SHOWN = {"--output": "-o, --output", "--output-dir": "-o, --output-dir", "--quiet": "-q, --quiet",
          "--weights": "--loss-weights"}  # fmt: skip
_GROUPS = {
    "pictures": ("content", "style", "manifest", "contents", "styles", "output", "output_dir",
                 "init", "mask", "style_mask", "root"),
    "look": ("recipe", "settings", "weights", "style_weights", "layer_style_weights",
             "style_scale", "color", "seed"),
    "size and speed": ("size", "steps", "coarsest", "precision", "tile", "batch_size"),
    "memory and devices": ("params", "memory", "shard", "devices", "coordinator", "processes",
                           "process"),
    "output": ("preview_every", "checkpoint", "plot", "report", "overwrite", "force",
               "retry_failed", "progress", "quiet"),
}  # fmt: skip
_PLACES = {
    "settings": "SETTING=VALUE", "weights": "TERM=X", "layer_style_weights": "LAYER=X",
    "memory": "SIZE", "coordinator": "HOST:PORT", "recipe": "NAME|FILE", "host": "ADDRESS",
    "allow_host": "NAME", "root_path": "PATH", "layers": "LAYER", "contents": "PATTERN",
    "styles": "PATTERN", "init": "START",
    **dict.fromkeys(("output_dir", "report", "root", "checkpoint"), "FOLDER"),
}  # fmt: skip


def format_help(command: Command, prog: str) -> str:
    """Returns the help of a command: what it does, and its options, a line each, in groups."""
    text, _, arguments = inspect.cleandoc(command.__doc__ or "").partition("\nArgs:\n")
    meanings = dict(re.findall(r"^ +(\w+): (.*)$", arguments, re.MULTILINE))
    parameters = inspect.signature(command).parameters
    words = [_place(each) for each in parameters.values() if not _is_option(each)]
    parts = [f"usage: {' '.join([prog, *words, '[OPTIONS]'])}\n\n{text.strip()}\n"]
    grouped = {name for names in _GROUPS.values() for name in names}
    rest = tuple(name for name in parameters if name not in grouped)
    for title, names in {"arguments": rest, **_GROUPS}.items():
        lines = [
            _describe(parameters[name], meanings.get(name, ""))
            for name in names
            if name in parameters
        ]
        if lines:
            parts.append("\n".join([f"{title}:", *lines]) + "\n")
    return "\n".join(parts)


def _is_option(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.KEYWORD_ONLY


def _place(parameter: inspect.Parameter) -> str:
    """Returns what stands for a value."""
    name, kind = parameter.name, kind_of(parameter)
    if not _is_option(parameter):
        place = "PHOTO PAINTING" if name == "pictures" else name.upper()
        return place if parameter.default is inspect.Parameter.empty else f"[{place}]"
    if kind is bool:
        return ""
    if get_origin(kind) is Literal:
        place = "|".join(get_args(kind))
    else:
        place = _PLACES.get(name) or {int: "N", float: "X"}.get(kind, "FILE")
    return f"{place} ..." if is_several(parameter) else place


def _describe(parameter: inspect.Parameter, meaning: str) -> str:
    option = option_of(parameter.name)
    left = f"{_SHOWN.get(option, option)} {_place(parameter)}".rstrip()
    if not _is_option(parameter):
        left = _place(parameter)
    meaning, default = meaning.rstrip("."), parameter.default
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    if default is not None and default is not False and default not in ("", parameter.empty):
        meaning += f" [{default}]"
    return f"  {left:34} {meaning}"


def commands_of(commands: Mapping[str, Command]) -> Iterator[str]:
    """Yields a line for each command."""
    for name, command in commands.items():
        yield f"  {name:9} {(command.__doc__ or '').strip().partition(chr(10))[0]}"
