"""What stands beside a result: settings, versions, and the run itself, as JSON."""

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from typing import Any

from jaxstyle.io.files import write_atomically
from jaxstyle.recipes import Recipe


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Returns every setting of `recipe` as plain dicts, lists, strings and numbers."""
    return {field.name: _plain(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # `parent` and `name` of a Flax module say where it sits, not what it is.
        settings = {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.repr and field.name not in ("parent", "name")
        }
        if isinstance(name := getattr(value, "name", None), str):
            settings["name"] = name
        return {"type": type(value).__name__, **settings}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__name__", str(value))  # a dtype


def describe_versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    packages = ("jaxstyle", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "pillow")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes `content` to `path`, whole or not at all.

    Raises:
        InputError: if the file cannot be written.
        ValueError: for a number that JSON has no word for (NaN, infinity).
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())
