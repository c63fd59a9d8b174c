"""Reads and writes files: images, network weights, recipes, and the JSON next to a picture.

For bad files and paths an `InputError` says in one line what is wrong and what to do.

Public names are loaded on first use, as those of `jaxstyle` are: the command line says what is
wrong, or prints its help, without waiting for JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxstyle.io._public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Loads a public name on its first use."""
    if not name.startswith("__") or name == "__all__":
        public = importlib.import_module("jaxstyle.io._public")
        if name in public.__all__:
            globals()[name] = getattr(public, name)  # next time without this function
        elif name == "__all__":
            globals()[name] = public.__all__
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module 'jaxstyle.io' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
