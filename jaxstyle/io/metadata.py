"""What stands beside a result: settings, versions, and the run itself, as JSON.

Recipes become plain dicts and are made from them again, whole or setting by setting.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp

from jaxstyle import pyramid, terms
from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error, describe_path, open_source, write_atomically
from jaxstyle.io.ownership import GENERATOR
from jaxstyle.network.vgg import VGG19
from jaxstyle.recipes import Recipe
from jaxstyle.solvers import LBFGS, Adam, ScipyLBFGSB

# What the fields of a recipe may hold, by the `type` that stands in its description.
_NETWORKS = (VGG19,)
_SOLVERS = (LBFGS, Adam, ScipyLBFGSB)
_TERMS = (
    terms.Content,
    terms.GramStyle,
    terms.MomentStyle,
    terms.Wasserstein2Style,
    terms.MRFStyle,
    terms.TotalVariation,
    terms.NinePointVariation,
)
_LARGEST = 2**31 - 1  # of whole numbers: compiled programs count in 32 bits
_MAXIMUM_BYTES = 2**24  # the metadata of a run of many steps has some megabytes


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Returns every setting of `recipe` as plain dicts, lists, strings and numbers.

    Args:
        recipe: any.
    """
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


def to_toml(description: Mapping[str, Any]) -> str:
    """Writes what `describe_recipe` returned as TOML, which has no word for None: left out."""
    import tomli_w  # noqa: PLC0415

    def without_none(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: without_none(each) for k, each in value.items() if each is not None}
        return [without_none(each) for each in value] if isinstance(value, list) else value

    return tomli_w.dumps(without_none(description))


def build_recipe(settings: Mapping[str, Any]) -> Recipe:
    """Makes the recipe that `describe_recipe` has described.

    Args:
        settings: those that are left out have their defaults; `name`, `source` and `description`
            too.

    Returns:
        The recipe.

    Raises:
        InputError: for a setting that there is not, or a value that it cannot have.
    """
    unnamed = {"name": "custom", "source": "", "description": ""}
    try:
        return _build(Recipe, {**unnamed, **settings}, "recipe")
    except InputError as error:  # it quotes what stands in a file, of whatever kind and length
        text = "".join(c if c.isprintable() else "?" for c in str(error))
        raise InputError(text if len(text) <= 400 else text[:397] + "...") from None


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Reads a recipe from a file.

    Args:
        path: a `.json` or `.toml` file, as `jaxstyle recipes NAME` prints it; or the JSON beside a
            result.

    Returns:
        The recipe.

    Raises:
        InputError: if there is none in it, or a wrong one.
    """
    name = f"recipe {describe_path(path)}"
    toml = os.fsdecode(path).lower().endswith(".toml")
    settings = _read_object(path, name, tomllib.loads if toml else json.loads)
    if isinstance(settings.get("recipe"), Mapping):
        check_unchanged(settings, name)
        settings = settings["recipe"]
    return build_recipe(settings)


def override(recipe: Recipe, texts: Sequence[str]) -> Recipe:
    """Returns `recipe` with settings changed, each text `PATH=VALUE`.

    A path is that of `jaxstyle recipes NAME`, joined by dots, terms by their names, such as
    `solver.history_size=50` or `terms.content.layers=["relu3_1"]`; a value is written as in
    TOML, or as bare text.

    Raises:
        InputError: for a setting that there is not, or a value that it cannot have.
    """
    settings = describe_recipe(recipe)
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise InputError(f"--set {text}: write SETTING=VALUE, such as solver.num_steps=100")
        _assign(settings, path.strip().split("."), _parse(value.strip()), f"--set {text}")
    return build_recipe(settings)


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return None if text in ("none", "None", "null") else text


def _assign(settings: Any, keys: list[str], value: Any, where: str) -> None:
    *parents, last = keys
    for key in parents:
        if isinstance(settings, Mapping) and key == "pyramid" and settings.get(key) is None:
            settings[key] = {}  # type: ignore[index]
        settings = _child(settings, key, where)
    if not isinstance(settings, dict):
        raise InputError(f"{where}: {'.'.join(parents)} has no settings of its own")
    settings[last] = value


def _child(settings: Any, key: str, where: str) -> Any:
    if isinstance(settings, list):
        named = {each["name"]: each for each in settings if isinstance(each, Mapping)}
        settings = named
    if not isinstance(settings, Mapping) or key not in settings:
        choices = ", ".join(settings) if isinstance(settings, Mapping) else "none"
        raise InputError(f"{where}: there is no {key}; choose from {choices}")
    return settings[key]


def _fields(kind: Any) -> dict[str, Any]:
    """Setting -> type hint, of what `_plain` describes."""
    hints = typing.get_type_hints(kind)
    module = issubclass(kind, VGG19)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(kind)
        if field.init and not (module and field.name in ("parent", "name"))
    }


def _build(kind: Any, settings: Mapping[str, Any], where: str) -> Any:
    hints = _fields(kind)
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "type" and "type" not in hints:
            continue
        if name not in hints:
            raise InputError(
                f"{where} has no setting {name!r}; those of {kind.__name__} are {', '.join(hints)}"
            )
        values[name] = convert(hints[name], value, f"{where}.{name}")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {error}") from None


def convert(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911
    """Makes of `value`, as it comes from JSON or TOML, what `hint` says.

    Args:
        hint: the type of a setting.
        value: what stands in the file.
        where: the path of the setting, for the message.

    Raises:
        InputError: if it is something else.
    """
    name = where.rpartition(".")[2]
    if where == "recipe.terms":
        return tuple(
            _choose(_TERMS, each, f"{where}.{_name_of(each)}") for each in _list(value, where)
        )
    if where == "recipe.network":
        return _choose(_NETWORKS, value, where)
    if where == "recipe.solver":
        return _choose(_SOLVERS, value, where)
    if where == "recipe.pyramid":
        return None if value is None else _choose((pyramid.Pyramid,), value, where)
    if name == "dtype":
        if value not in (None, "bfloat16", "float16", "float32", "float64"):
            raise InputError(f"{where} {value!r}: choose from bfloat16, float16, float32, float64")
        return None if value is None else getattr(jnp, value)
    if typing.get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in typing.get_args(hint):
            choices = ", ".join(map(str, typing.get_args(hint)))
            raise InputError(f"{where} {value!r} is not one of {choices}")
        return value
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (inner,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
        return None if value is None else convert(inner, value, where)
    if typing.get_origin(hint) is tuple:
        inner, _ = typing.get_args(hint)
        return tuple(
            convert(inner, each, f"{where}[{i}]") for i, each in enumerate(_list(value, where))
        )
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be a table of numbers, not {value!r}")
        return {key: convert(float, each, f"{where}.{key}") for key, each in value.items()}
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    fits = isinstance(value, hint) or (hint is float and isinstance(value, int))
    if isinstance(value, bool) and hint is not bool:
        fits = False
    if fits and hint is float:
        with contextlib.suppress(OverflowError):  # of an integer of 400 digits
            if math.isfinite(value):
                return float(value)
        fits = False
    if fits and hint is int and abs(value) > _LARGEST:
        raise InputError(f"{where} is too large: give a whole number of at most {_LARGEST}")
    if not fits:
        raise InputError(f"{where} must be {words[hint]}, not {value!r:.90}")
    return hint(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list, not {value!r}")
    return value


def _name_of(settings: Any) -> str:
    name = settings.get("name") if isinstance(settings, Mapping) else None
    return name if isinstance(name, str) else "?"


def _choose(kinds: Sequence[Any], settings: Any, where: str) -> Any:
    if not isinstance(settings, Mapping):
        raise InputError(f"{where} must be a table of settings, not {settings!r}")
    names = {kind.__name__: kind for kind in kinds}
    chosen = settings.get("type", next(iter(names)) if len(names) == 1 else None)
    if not isinstance(chosen, str) or chosen not in names:
        raise InputError(f"{where}.type {chosen!r} is not one of {', '.join(names)}")
    return _build(names[chosen], settings, where)


def describe_versions() -> dict[str, str]:
    """Returns the versions that a result depends on, by package."""
    packages = ("jaxstyle", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "pillow")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes JSON, whole or not at all, with our mark (`generator`) and a `checksum`.

    Args:
        path: a file in an existing folder; a file that is there already is replaced.
        content: mappings, sequences, strings and finite numbers.

    Raises:
        InputError: if the file cannot be written.
        ValueError: for a number that JSON has no word for (NaN, infinity).
    """
    # The mark comes first, where `is_ours` looks for it.
    marked = {"generator": GENERATOR} | {k: v for k, v in content.items() if k != "generator"}
    marked["checksum"] = checksum(marked)
    write_atomically(path, (json.dumps(marked, indent=2, allow_nan=False) + "\n").encode())


def checksum(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of all fields but `checksum`, in whatever order and layout they stand.

    Args:
        content: what JSON can hold.
    """
    fields = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def read_json(path: str | os.PathLike[str], *, checked: bool = True) -> dict[str, Any]:
    """Reads a JSON object, one of ours only if it is as it was written.

    Args:
        path: a file.
        checked: False to read one of ours that has changed, too.

    Raises:
        InputError: if it cannot be read, is no JSON object, or has changed since we wrote it.
    """
    name = describe_path(path)
    content = _read_object(path, name, json.loads)
    if checked:
        check_unchanged(content, name)
    return content


def _read_object(
    path: str | os.PathLike[str], name: str, parse: Callable[[str], Any]
) -> dict[str, Any]:
    """Reads the table of a JSON or TOML file that `name` describes."""
    with open_source(path) as file:
        try:
            data = file.read(_MAXIMUM_BYTES + 1)
        except OSError as error:
            raise InputError(f"cannot read {name} ({describe_error(error)})") from None
    if len(data) > _MAXIMUM_BYTES:
        raise InputError(f"{name} is too large")
    kind = "TOML" if parse is tomllib.loads else "JSON"
    try:
        content = parse(data.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not {kind} ({describe_error(error)})") from None
    if not isinstance(content, dict):
        raise InputError(f"{name} is not a {kind} table")
    return content


def check_unchanged(content: Mapping[str, Any], name: str) -> None:
    """Checks the `checksum` of what `write_json` has written; JSON of others has none.

    Args:
        content: what was read.
        name: of the file, for the message.

    Raises:
        InputError: if it has changed.
    """
    marked = any(
        isinstance(each, str) and each.startswith("jaxstyle ") for each in content.values()
    )
    ours = marked or "generator" in content or "checksum" in content
    if ours and content.get("checksum") != checksum(content):
        raise InputError(
            f"{name} is damaged or was edited: its checksum does not fit; if you edited it, remove "
            'its "generator" and "checksum"'
        )
