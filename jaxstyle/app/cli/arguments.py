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

from jaxstyle.app.cli.elsewhere import ADVICE, ELSEWHERE
from jaxstyle.io.errors import InputError, closest
from jaxstyle.io.locations import redact

Command = Callable[..., int]

_ALIASES = {"-o": "--output", "-q": "--quiet", "--loss-weights": "--weights"}

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
    def place(self) -> str:
        """The name of an argument without an option."""
        return self.name.upper()

    @property
    def is_or_original(self) -> bool:
        """Whether it is a size that may be `original`."""
        return Literal["original"] in get_args(self.annotation)

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


def check_arguments(command: Command, arguments: list[str], prog: str) -> list[str]:
    """Returns the arguments with aliases resolved, and whole numbers such as 2e2 written out.

    Raises:
        InputError: for an unknown option, a wrong value, or a missing one.
    """
    options = options_of(command)
    known = {each.spelling: each for each in options}
    result: list[str] = []
    option, free, values = None, [], 0  # `free` are the arguments without an option
    for position, argument in enumerate(arguments):
        if argument == "--":
            free += arguments[position + 1 :]
            result += arguments[position:]
            break
        if re.match(r"--?[A-Za-z]", argument):
            _check_has_value(option, values, known)
            option, equals, value = argument.partition("=")
            option = _known_option(option, known, prog)
            if equals and known[option].kind is bool:
                raise InputError(f"{option} takes no value")
            if equals and value:
                value = _check_value(option, value, known[option])
            result.append(option + equals + value)
            values = 1 if equals or known[option].kind is bool else 0
        else:
            value = argument
            if option is None or (values and not known[option].is_several):
                free.append(argument)
            else:
                value = _check_value(option, argument, known[option])
                values += 1
            result.append(value)
    else:
        _check_has_value(option, values, known)
    _check_complete(options, free, prog)
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


def _check_has_value(option: str | None, values: int, known: Mapping[str, Option]) -> None:
    if option is not None and not values:
        kind = "a value"
        if get_origin(known[option].kind) is Literal:
            kind = f"one of {', '.join(get_args(known[option].kind))}"
        raise InputError(f"{_shown(option)} has no value: give {kind}")


def _check_complete(options: list[Option], free: list[str], prog: str) -> None:
    """Checks that what is required is there, and that there is not more without an option.

    Raises:
        InputError: naming what is missing or too much.
    """
    places = [each for each in options if each.is_positional]
    missing = inspect.Parameter.empty
    for number, place in enumerate(places):
        if place.default is missing and number >= len(free):
            raise InputError(
                f"{place.place} is missing: write {prog} {place.place}; see {prog} --help"
            )
    if len(free) > len(places) and not any(place.is_several for place in places):
        extra = free[len(places)]
        hint = ""
        if "--contents" in [each.spelling for each in options]:
            hint = f", as --contents {shlex.quote(free[0])} --styles {shlex.quote(extra)}"
        raise InputError(f"unexpected argument {extra!r:.90}: give its option before it{hint}")


def _shown(option: str) -> str:
    return "--loss-weights" if option == "--weights" else option


def _known_option(option: str, known: Mapping[str, Option], prog: str) -> str:
    plain = option.lstrip("-").replace("_", "-")
    alias = _ALIASES.get(option) or _ALIASES.get("--" + plain, "--" + plain)
    if option == "-o" and "--output" not in known:
        alias = "--output-dir"
    if alias in known and (option.startswith("--") or option in _ALIASES):
        return alias
    plain = plain.lower()
    # A wrong number of dashes, capitals and names without dashes are no other name.
    same = {name.replace("-", ""): name for name in map(_shown, known)}
    if (squeezed := plain.replace("-", "")) in same:
        hint = f"; did you mean {same[squeezed]}?"
    elif plain in ELSEWHERE and (meant := _meant(plain, known)):
        hint = f"; did you mean {' or '.join(meant[:2])}?"
    elif plain in ADVICE:
        hint = f": {ADVICE[plain]};"
    else:
        names = {name.lstrip("-"): name for name in map(_shown, known)}
        names = {each: meant[0] for each in ELSEWHERE if (meant := _meant(each, known))} | names
        near = difflib.get_close_matches(plain, names, 2, 0.7)
        found = " or ".join(dict.fromkeys(names[each] for each in near))
        hint = f"; did you mean {found}?" if near else ""
    raise InputError(f"unknown option {option}{hint or ';'} see {prog} --help")


def _meant(name: str, known: Mapping[str, Option]) -> list[str]:
    """Returns the options of this command that another program calls `name`."""
    shown = [_shown(each) for each in known]
    return [each for each in ELSEWHERE[name] if each.partition(" ")[0] in shown]


def _check_value(option: str, value: str, known: Option) -> str:
    kind, shown = known.kind, _shown(option)
    if kind is int and not (known.is_or_original and value == "original"):
        return _whole_number(shown, value, known)
    if kind is float:
        try:
            float(value)
        except ValueError:
            raise InputError(f"{shown} {value}: give a number") from None
    if get_origin(kind) is Literal and value not in (choices := [*map(str, get_args(kind))]):
        hint = closest(value, choices)
        raise InputError(f"{shown} {value}: choose from {', '.join(choices)}{hint}")
    if option == "--weights" and "=" not in value and Path(value).suffix.lower() in _NETWORK_FILES:
        raise InputError(f"{value} is a file of network weights: use --params {value}")
    return value


def _whole_number(option: str, value: str, known: Option) -> str:
    """Writes out a whole number such as 2e2.

    Raises:
        InputError: if it is none.
    """
    try:
        if float(value).is_integer():
            return str(int(float(value))) if not re.fullmatch(r"[+-]?\d+", value) else value
    except (ValueError, OverflowError):
        pass
    advice = "give a whole number"
    if known.is_or_original:
        edges = re.findall(r"\d+", value)
        advice += closest(value, ["original"])
        if re.fullmatch(r"\d+px|\d+ *[x*,] *\d+", value.lower()):
            advice += f", the long edge, as {option} {max(edges, key=int)}"
    raise InputError(f"{option} {value}: {advice}")


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
        values: of its parameters; options that have their default are left out, and passwords and
            queries of addresses.
    """
    given: dict[str, Any] = {}
    for name, value in values.items():
        given |= vars(value) if dataclasses.is_dataclass(value) else {name: value}
    words = ["jaxstyle", command.__name__]
    for option in options_of(command):
        value = given[option.name]
        if value == option.default:
            continue
        values_of = value if isinstance(value, tuple) else (value,)
        texts = [redact(str(each)) for each in values_of]
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
