"""The error that every reader and writer of this package raises on bad input."""

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator


class InputError(ValueError):
    """A file, a folder or a value of the user that cannot be used.

    The message is one line: what is wrong, and what to do. The command line prints it after
    ``error:`` and exits with code 2.
    """


@contextlib.contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Ends a script on an `InputError`, with one line on stderr and exit code 2.

    Returns:
        A context manager around the body of the script.
    """
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def check_positive(option: str, value: int | None) -> None:
    """Checks the value of an option; None means that it was not set.

    Raises:
        InputError: the value is below 1.
    """
    if value is not None and value < 1:
        raise InputError(f"{option} {value}: give a whole number of at least 1")


def closest(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean NAME?`, or nothing if no known name is similar."""
    near = difflib.get_close_matches(name, list(known), 2, 0.7)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def count(number: int, noun: str) -> str:
    """Returns the number with its noun, such as `1 pair` and `2 pairs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
