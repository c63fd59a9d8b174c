"""The options of a command: validated, with a message of one line for a mistake."""

import dataclasses
import difflib
import inspect
import re
import shlex
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import tyro

from jaxstyle.io.errors import InputError

Command = Callable[..., int]

_ALIASES = {"-o": "--output", "-q": "--quiet", "--loss-weights": "--weights"}


# Names of these options in other style transfer programs.
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


class Option(NamedTuple):
    """An option of a command, or an argument without a name."""

    name: str
    """Name of the parameter."""
    annotation: Any
    default: Any
    """`Parameter.empty` if it is required."""
    meaning: str
    group: str
    """Title of its group in the help."""

    @property
    def spelling(self) -> str:
        """The name on the command line."""
        return "--set" if self.name == "settings" else "--" + self.name.replace("_", "-")

    @property
    def is_positional(self) -> bool:
        """Whether it is given without a name."""
        return tyro.conf.Positional in getattr(self.annotation, "__metadata__", ())

    @property
    def is_several(self) -> bool:
        """Whether it takes several values."""
        return isinstance(self.default, tuple)

    @property
    def kind(self) -> Any:
        """Its type, or that of each of its values, without None."""
        kind = self.annotation
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(each for each in get_args(kind) if each is not type(None))
        return get_args(kind)[0] if get_origin(kind) is tuple else kind


def options_of(command: Command) -> list[Option]:
    """Returns the options of a command; a parameter that is a dataclass is a group of them."""
    meanings = _meanings(command)
    options = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = parameter.annotation
        if dataclasses.is_dataclass(kind):
            known: dict[str, str] = {}
            for each in reversed(type.mro(kind)):  # type: ignore[arg-type]
                known |= _meanings(each)
            for field in dataclasses.fields(kind):
                missing = field.default is dataclasses.MISSING
                default = inspect.Parameter.empty if missing else field.default
                meaning, group = known.get(field.name, ""), name.replace("_", " ")
                options.append(Option(field.name, field.type, default, meaning, group))
        else:
            meaning = meanings.get(name, "")
            options.append(Option(name, kind, parameter.default, meaning, "arguments"))
    return options


def _meanings(documented: Any) -> dict[str, str]:
    """Returns the one-line description of each argument or attribute in a docstring."""
    text = inspect.cleandoc(documented.__doc__ or "")
    _, _, lines = re.sub("^Attributes:", "Args:", text, flags=re.MULTILINE).partition("\nArgs:\n")
    return dict(re.findall(r"^ +(\w+): (.*)$", lines, re.MULTILINE))


def closest(name: str, known: Mapping[str, Any]) -> str:
    """Returns `; did you mean NAME?`, or nothing if no name is similar."""
    near = difflib.get_close_matches(name, known, 2, 0.7)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def check_arguments(command: Command, arguments: list[str], prog: str) -> list[str]:
    """Returns the arguments with aliases resolved, and whole numbers such as 2e2 written out.

    Raises:
        InputError: for an unknown option or a wrong value.
    """
    known = {each.spelling: each for each in options_of(command)}
    result: list[str] = []
    option = None
    for position, argument in enumerate(arguments):
        if argument == "--":
            return result + arguments[position:]
        if re.match(r"--?[A-Za-z]", argument):
            option, equals, value = argument.partition("=")
            option = _known_option(option, known, prog)
            if equals and known[option].kind is bool:
                raise InputError(f"{option} takes no value")
            if equals and value:
                value = _check_value(option, value, known[option])
            result.append(option + equals + value)
        else:
            value = argument
            if option is not None:
                value = _check_value(option, argument, known[option])
                if not known[option].is_several:
                    option = None  # it takes no further value
            result.append(value)
    return result


def join_repeated(command: Command, arguments: list[str]) -> list[str]:
    """Joins the values of each option that is repeated; tyro would keep the last ones only."""
    several = {each.spelling for each in options_of(command) if each.is_several}
    groups: list[list[str]] = [[]]
    first: dict[str, list[str]] = {}
    for position, argument in enumerate(arguments):
        if argument == "--":
            groups.append(arguments[position:])
            break
        option, equals, value = argument.partition("=")
        if option in first:
            group = first[option]
            group[:1] = group[0].split("=", 1)  # `--style=A B` would not be understood
            groups.append(group)
            group += [value] if equals else []
        elif option in several:
            groups.append(first.setdefault(option, [argument]))
        elif re.match(r"--?[A-Za-z]", argument):
            groups.append([argument])
        else:
            groups[-1].append(argument)
    once = {id(group): group for group in groups}
    return [word for group in once.values() for word in group]


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


def _check_value(option: str, value: str, known: Option) -> str:
    kind = known.kind
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
    if get_origin(kind) is Literal and value not in map(str, get_args(kind)):
        raise InputError(f"{option} {value}: choose from {', '.join(map(str, get_args(kind)))}")
    if option == "--weights" and "=" not in value and Path(value).suffix.lower() in _NETWORK_FILES:
        raise InputError(f"{value} is a file of network weights: use --params {value}")
    return value


def one_line(message: str, prog: str) -> str:
    """Makes one line of tyro's box: its title is dropped, and all after the first rule."""
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


def command_line(command: Command, values: Mapping[str, Any]) -> str:
    """Returns the shell command that calls `command` with these values.

    Args:
        command: of the command line.
        values: of its parameters; options that have their default are left out.
    """
    given: dict[str, Any] = {}
    for name, value in values.items():
        given |= vars(value) if dataclasses.is_dataclass(value) else {name: value}
    words = ["jaxstyle", command.__name__]
    for option in options_of(command):
        value = given[option.name]
        if value == option.default:
            continue
        texts = [str(each) for each in (value if isinstance(value, tuple) else (value,))]
        if option.is_positional:
            words += texts
        elif value is True:
            words.append(option.spelling)
        elif texts[0].startswith("-"):  # or it would be taken for an option
            words.append(f"{option.spelling}={texts[0]}")
        else:
            words += [option.spelling, *texts]
    return shlex.join(words)


def check_processes(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Validates the options of a run with several processes.

    Raises:
        InputError: if they contradict each other.
    """
    if coordinator is None and (processes is not None or process is not None):
        raise InputError("--processes and --process need a --coordinator HOST:PORT")
    if processes is not None and not 0 <= (process or 0) < processes:
        raise InputError(f"--process {process}: of {processes} processes, count from 0")
