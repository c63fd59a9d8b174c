"""Reads and writes files: images, network weights, recipes, and the JSON next to a picture.

For bad files and paths an `InputError` says in one line what is wrong and what to do.

Public names are loaded on first use, as those of `jaxstyle` are: the command line says what is
wrong, or prints its help, without waiting for JAX.
"""

from typing import TYPE_CHECKING, Any

from jaxstyle._lazy import load

if TYPE_CHECKING:
    from jaxstyle.io._public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Loads a public name on its first use."""
    return load("jaxstyle.io", name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
