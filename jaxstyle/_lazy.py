"""Loads the public names of a package on their first use."""

import importlib.util
import sys
from typing import Any


def load(package: str, name: str) -> Any:
    """Returns a module of a package, or one of its public names, which `_public` lists.

    Args:
        package: such as `jaxstyle`.
        name: `__all__` stands for the list of all public names.

    Raises:
        AttributeError: if there is no such name.
    """
    if name != "__all__" and name.startswith("__"):  # as `inspect` asks for: no reason to load all
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    # A module is loaded without the public names, which may need the module being imported now.
    if importlib.util.find_spec(f"{package}.{name}"):
        return importlib.import_module(f"{package}.{name}")
    public = importlib.import_module(f"{package}._public")
    names = getattr(public, "__all__", [])
    if name == "__all__":
        return names
    if name not in names:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(public, name)
    setattr(sys.modules[package], name, value)  # next time without this function
    return value
