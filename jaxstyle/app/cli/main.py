"""The command line: `jaxstyle COMMAND`; see `jaxstyle --help`."""

import contextlib
import functools
import io
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

import jaxstyle
from jaxstyle.app.backend_problems import describe_backend_error
from jaxstyle.app.cli.arguments import Command, check_arguments, join_repeated, one_line
from jaxstyle.app.cli.batch import batch
from jaxstyle.app.cli.help import commands_of, format_help
from jaxstyle.app.cli.inspect import features, info, recipes
from jaxstyle.app.cli.repeat import repeat
from jaxstyle.app.cli.serve import serve
from jaxstyle.app.cli.stylize import stylize
from jaxstyle.app.cli.weights import convert, fetch, list_cached, verify
from jaxstyle.app.console import discard, print_message
from jaxstyle.io.errors import InputError, closest
from jaxstyle.io.files import PICTURE_SUFFIXES, describe_error, describe_path

_TYRO = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)

_EXAMPLES = """usage: jaxstyle COMMAND

Paint photos in the style of paintings.

  jaxstyle stylize photo.jpg painting.jpg -o out.png --size 512
  jaxstyle batch --contents photos --styles paintings --output-dir out
  jaxstyle serve"""

_COMMANDS: Mapping[str, Command] = {
    "stylize": stylize,
    "repeat": repeat,
    "batch": batch,
    "features": features,
    "recipes": recipes,
    "info": info,
    "serve": serve,
}
_COMMANDS_ELSEWHERE = {
    **dict.fromkeys(("transfer", "style", "paint", "run", "convert", "image", "start"), "stylize"),
    **dict.fromkeys(("web", "gui", "ui", "server", "app"), "serve"),
    **dict.fromkeys(("download", "fetch", "model", "models"), "weights"),
    **dict.fromkeys(("doctor", "devices", "check", "version"), "info"),
    **dict.fromkeys(("again", "reproduce", "redo"), "repeat"),
    **dict.fromkeys(("many", "folder", "dir"), "batch"),
}
_WEIGHTS_COMMANDS: Mapping[str, Command] = {
    "fetch": fetch,
    "convert": convert,
    "verify": verify,
    "list": list_cached,
}
_WITHOUT_PICTURES = ("weights", "recipes", "info", "repeat")


def _weights() -> int:
    """Fetch, convert, verify or list pretrained weights."""
    raise InputError("name a command: jaxstyle weights fetch, convert, verify or list")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # for file names of any bytes
    try:
        if arguments[:1] == ["help"]:
            arguments = [*arguments[1:], "--help"]
        if arguments[:1] == ["weights"] and arguments[1:]:
            code = _dispatch(_WEIGHTS_COMMANDS, arguments[1:], "jaxstyle weights")
        else:
            code = _dispatch({**_COMMANDS, "weights": _weights}, arguments, "jaxstyle")
        _flush(code)
        return code
    except InputError as error:
        print_message(f"error: {_with_help(str(error), arguments)}")
        return 2
    except KeyboardInterrupt:
        print_message("interrupted")
        return 130
    except (RuntimeError, ImportError, AssertionError) as error:
        # JAX: its parts or JAX_PLATFORMS do not fit, out of memory, another process has ended. Any
        # other error is a bug.
        problem = describe_backend_error(error)
        if problem is None and type(error).__name__ != "JaxRuntimeError":
            raise
        print_message(f"error: {problem or _describe_failure(error)}")
        return 1 if problem is None else 2
    except BrokenPipeError:
        # The reader of our output is gone, so nothing can be printed.
        discard(sys.stdout)
        return 0
    except OSError as error:  # a full disk behind stdout, a working folder that was removed
        discard(sys.stdout)
        name = f"{describe_path(error.filename)}: " if isinstance(error.filename, str) else ""
        advice = "free some space, or change to a folder that exists"
        print_message(f"error: {name}{describe_error(error)}; {advice}")
        return 1


def _with_help(message: str, arguments: Sequence[str]) -> str:
    """Adds where a command is explained to a message of one line about its options or arguments."""
    command = arguments[0] if arguments else ""
    if command not in (*_COMMANDS, "weights") or "\n" in message or " --help" in message:
        return message
    if command == "weights" and arguments[1:2] and arguments[1] in _WEIGHTS_COMMANDS:
        command = f"weights {arguments[1]}"
    # Other messages are about pictures or the machine, which the help does not explain.
    explained = command.startswith(_WITHOUT_PICTURES) or re.search(r"(?<![\w-])--[a-z]", message)
    if not explained or re.search(r": (--[\w-]+ \S+|jaxstyle .*)$", message):
        return message  # or it ends with what to write
    end = " see" if message.endswith("?") else "; see"
    return f"{message.rstrip('.;')}{end} jaxstyle {command} --help"


def _describe_failure(error: Exception) -> str:
    from jaxstyle.app.devices import advice_for  # noqa: PLC0415  loads JAX

    reason = str(error).strip().partition("\n")[0]
    return f"the run failed: {reason}{advice_for(error)}"


def _flush(code: int) -> None:
    """Flushes stdout. If this fails, a failed run keeps its exit code."""
    try:
        print(end="", flush=True)
    except OSError:
        if code == 0:
            raise
        discard(sys.stdout)


def _describe_unknown(
    name: str, arguments: list[str], commands: Mapping[str, Command], prog: str
) -> str:
    """Says what may be meant by something that is no command."""
    if prog == "jaxstyle" and name.lower().endswith(PICTURE_SUFFIXES):
        return f"name a command: did you mean jaxstyle stylize {shlex.join(arguments)}?"
    what = "name a command before" if name.startswith("-") else "unknown command"
    meant = _COMMANDS_ELSEWHERE.get(name.lower())
    hint = f"; did you mean {meant}?" if meant in commands else closest(name, commands)
    return f"{what} {name!r:.90}: choose from {', '.join(commands)}{hint or ';'} see {prog} --help"


def _dispatch(commands: Mapping[str, Command], arguments: list[str], prog: str) -> int:
    """Parses `arguments` and runs the command."""
    name, rest = (arguments or ["--help"])[0], arguments[1:]
    if name in ("--help", "-h"):
        print(_EXAMPLES if prog == "jaxstyle" else f"usage: {prog} COMMAND", end="\n\n")
        print(f"commands ({prog} COMMAND --help):", *commands_of(commands), sep="\n")
        return 0
    if name in ("--version", "-V"):
        print(f"jaxstyle {jaxstyle.__version__}")
        return 0
    if name not in commands:
        raise InputError(_describe_unknown(name, arguments, commands, prog))
    command, prog = commands[name], f"{prog} {name}"
    if {"--help", "-h"} & {*rest}:
        print(format_help(command, prog), end="")
        return 0
    rest = join_repeated(command, check_arguments(command, rest, prog))
    calls: list[Callable[[], int]] = []

    # Parsing only notes the call, so that output of the command is not taken for a message of
    # the parser.
    @functools.wraps(command)
    def note(*args: Any, **kwargs: Any) -> None:
        calls.append(functools.partial(command, *args, **kwargs))

    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            tyro.cli(note, args=rest, prog=prog, config=_TYRO)
    except SystemExit:
        raise InputError(one_line(messages.getvalue(), prog)) from None
    return calls[0]()
