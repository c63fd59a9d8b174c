"""What one types after a command: checked, with one line for a mistake."""

import difflib
import inspect
import re
import shlex
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxstyle.io.errors import InputError

Command = Callable[..., int]

_ALIASES = {"-o": "--output", "-q": "--quiet", "--loss-weights": "--weights"}


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
            if equals and kind_of(known[option]) is bool:
                raise InputError(f"{option} takes no value")
            if equals and value:
                value = _check_value(option, value, known[option])
            result.append(option + equals + value)
        else:
            value = argument
            if option is not None:
                value = _check_value(option, argument, known[option])
                if not is_several(known[option]):
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
    kind = kind_of(parameter)
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


def kind_of(parameter: inspect.Parameter) -> Any:
    """Returns the type of a parameter, or of each of its values, without None."""
    kind = parameter.annotation
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    return get_args(kind)[0] if get_origin(kind) is tuple else kind


def is_several(parameter: inspect.Parameter) -> bool:
    """Whether an option takes several values."""
    return isinstance(parameter.default, tuple)


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


def command_line(command: Callable[..., int], values: Mapping[str, Any]) -> str:
    """Returns what one types, to a shell, to call `command` with these values.

    Args:
        command: a function that tyro has made a command of.
        values: of its parameters; those that have their default are left out.
    """
    words = ["jaxstyle", command.__name__]
    for name, parameter in inspect.signature(command).parameters.items():
        value = values[name]
        if value == parameter.default:
            continue
        texts = [str(each) for each in (value if isinstance(value, tuple) else (value,))]
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            words += texts
            continue
        option = option_of(name)
        if value is True:
            words.append(option)
        elif texts[0].startswith("-"):  # or it would pass for an option
            words.append(f"{option}={texts[0]}")
        else:
            words += [option, *texts]
    return shlex.join(words)


def check_processes(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Checks which of several processes this is.

    Raises:
        InputError: if the numbers do not fit each other.
    """
    if coordinator is None and (processes is not None or process is not None):
        raise InputError("--processes and --process need a --coordinator HOST:PORT")
    if processes is not None and not 0 <= (process or 0) < processes:
        raise InputError(f"--process {process}: of {processes} processes, count from 0")
