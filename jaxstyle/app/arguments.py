"""What the command line says: help in groups, and one line with the way out for a mistake."""

import difflib
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxstyle.io.errors import InputError

Command = Callable[..., int]

_ALIASES = {"-o": "--output", "-q": "--quiet", "--loss-weights": "--weights"}
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
# What other programs of this field call it.
_ELSEWHERE = {
    "iterations": "--steps", "num-iterations": "--steps", "iters": "--steps", "epochs": "--steps",
    "max-iter": "--steps", "image-size": "--size", "img-size": "--size", "max-size": "--size",
    "width": "--size", "height": "--size", "original-colors": "--color luminance",
    "preserve-color": "--color luminance", "keep-colors": "--color luminance",
    "content-image": "--content", "content-img": "--content", "style-image": "--style",
    "style-img": "--style", "style-images": "--style", "input": "--content",
    "output-image": "--output", "out": "--output", "save-dir": "--output",
    "content-weight": "--loss-weights content=VALUE", "alpha": "--loss-weights content=VALUE",
    "style-weight": "--loss-weights style=VALUE", "beta": "--loss-weights style=VALUE",
    "tv-weight": "--loss-weights total_variation=VALUE", "style-blend-weights": "--style-weights",
    "model": "--params", "model-file": "--params", "model-path": "--params",
    "network-weights": "--params", "pooling": "--set network.pooling=VALUE",
    "learning-rate": "--set solver.learning_rate=VALUE", "lr": "--set solver.learning_rate=VALUE",
    "optimizer": "--recipe", "init-image": "--init FILE", "init-method": "--init",
    "print-iter": "--progress", "save-iter": "--preview-every", "gpu": "--devices",
    "verbose": "--progress", "device": "--devices", "random-seed": "--seed",
}  # fmt: skip
_NETWORK_FILES = {".safetensors", ".h5", ".hdf5", ".pth", ".pt", ".npz", ".mat", ".bin", ".ckpt"}


def option_of(name: str) -> str:
    """Returns how a parameter is called on the command line."""
    return "--set" if name == "settings" else "--" + name.replace("_", "-")


def closest(name: str, known: Mapping[str, Any]) -> str:
    """Returns `; did you mean NAME?`, or nothing if there is none like it."""
    near = difflib.get_close_matches(name, known, 2, 0.7)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def check_arguments(command: Command, arguments: list[str], prog: str) -> list[str]:
    """Returns the arguments with aliases resolved and whole numbers written as such.

    Raises:
        InputError: for an unknown option, and what cannot be its value.
    """
    known = {option_of(name): each for name, each in inspect.signature(command).parameters.items()}
    result: list[str] = []
    option = None
    for position, argument in enumerate(arguments):
        if argument == "--":
            return result + arguments[position:]
        if re.match(r"--?[A-Za-z]", argument):
            option, equals, value = argument.partition("=")
            option = _known_option(option, known, prog)
            if equals and _kind(known[option]) is bool:
                raise InputError(f"{option} takes no value")
            if equals and value:
                value = _check_value(option, value, known[option])
            result.append(option + equals + value)
        else:
            value = argument
            if option is not None:
                value = _check_value(option, argument, known[option])
                if not _is_several(known[option]):
                    option = None  # what follows is no value of it
            result.append(value)
    return result


def _known_option(option: str, known: Mapping[str, Any], prog: str) -> str:
    plain = option.lstrip("-").replace("_", "-")
    alias = _ALIASES.get(option) or _ALIASES.get("--" + plain, "--" + plain)
    if option == "-o" and "--output" not in known:
        alias = "--output-dir"
    if alias in known and (option.startswith("--") or option in _ALIASES):
        return alias
    meant = _ELSEWHERE.get(plain.lower(), "")
    if meant.partition(" ")[0].replace("--loss-weights", "--weights") in known:
        hint = f"; did you mean {meant}?"
    else:
        hint = closest("--" + plain.lower(), known)
    raise InputError(f"unknown option {option}{hint or ';'} see {prog} --help")


def _check_value(option: str, value: str, parameter: inspect.Parameter) -> str:
    kind = _kind(parameter)
    if kind is int:
        try:
            if float(value).is_integer():
                return str(int(float(value))) if not re.fullmatch(r"[+-]?\d+", value) else value
        except (ValueError, OverflowError):
            pass
        raise InputError(f"{option} {value}: give a whole number")
    if kind is float:
        try:
            float(value)
        except ValueError:
            raise InputError(f"{option} {value}: give a number") from None
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise InputError(f"{option} {value}: choose from {', '.join(get_args(kind))}")
    if option == "--weights" and "=" not in value and Path(value).suffix.lower() in _NETWORK_FILES:
        raise InputError(f"{value} is a file of network weights: use --params {value}")
    return value


def _kind(parameter: inspect.Parameter) -> Any:
    """Returns the type of a parameter, or of each of its values, without None."""
    kind = parameter.annotation
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    return get_args(kind)[0] if get_origin(kind) is tuple else kind


def _is_several(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.default, tuple)


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
    name, kind = parameter.name, _kind(parameter)
    if not _is_option(parameter):
        place = "PHOTO PAINTING" if name == "pictures" else name.upper()
        return place if parameter.default is inspect.Parameter.empty else f"[{place}]"
    if kind is bool:
        return ""
    if get_origin(kind) is Literal:
        place = "|".join(get_args(kind))
    else:
        place = _PLACES.get(name) or {int: "N", float: "X"}.get(kind, "FILE")
    return f"{place} ..." if _is_several(parameter) else place


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


def one_line(message: str, prog: str) -> str:
    """Makes one line of the parser's box: a title, then the message, up to the first rule."""
    lines = [line.strip(" │|╭╮╰╯") for line in message.splitlines()]
    lines = [line for line in lines if line]
    body: list[str] = []
    for line in lines[1:]:
        if set(line) <= set("-─━"):
            if body:
                break
            continue
        body.append(line)
    return f"{' '.join(body).rstrip('.')}; see {prog} --help"


def commands_of(commands: Mapping[str, Command]) -> Iterator[str]:
    """Yields a line for each command."""
    for name, command in commands.items():
        yield f"  {name:9} {(command.__doc__ or '').strip().partition(chr(10))[0]}"
