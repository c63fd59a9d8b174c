"""Recipes to plain dicts and back, for JSON and TOML: whole, or setting by setting.

The fields' type hints say what each setting may hold, so a new field needs no code here.
"""

import contextlib
import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle import pyramid, terms
from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_path
from jaxstyle.io.json_file import check_unchanged, parse_json, parse_toml, read_table
from jaxstyle.network.vgg import VGG, VGG16, VGG19
from jaxstyle.recipe import Recipe
from jaxstyle.solvers import LBFGS, Adam, RMSprop, ScipyLBFGSB

# Classes that the fields of a recipe may have; the `type` in a description selects one.
_NETWORKS = (VGG19, VGG16)
_SOLVERS = (LBFGS, Adam, RMSprop, ScipyLBFGSB)
_TERMS = (
    terms.Content,
    terms.GramStyle,
    terms.MomentStyle,
    terms.Wasserstein2Style,
    terms.MRFStyle,
    terms.NearestStyle,
    terms.MatchedStyle,
    terms.LocalAffine,
    terms.TotalVariation,
    terms.NinePointVariation,
    terms.SelfSimilarity,
    terms.RelaxedEMD,
    terms.SampleMoments,
    terms.Palette,
    terms.SlicedStyle,
)
_LARGEST = 2**31 - 1  # whole number: compiled programs count in 32 bits


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Returns all settings of a recipe as plain dicts, lists, strings and numbers.

    Args:
        recipe: any recipe.

    Raises:
        InputError: if a term holds an array.
    """
    return {field.name: _plain(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # `parent` and `name` of a Flax module are its place in a model, not settings.
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
    if isinstance(value, jax.Array | np.ndarray):
        raise InputError("a recipe with a term that holds an array cannot be written as text")
    return getattr(value, "__name__", str(value))  # a dtype


def to_toml(description: Mapping[str, Any]) -> str:
    """Writes the result of `describe_recipe` as TOML, without None, which TOML cannot express."""
    import tomli_w  # noqa: PLC0415

    def without_none(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: without_none(each) for k, each in value.items() if each is not None}
        return [without_none(each) for each in value] if isinstance(value, list) else value

    return tomli_w.dumps(without_none(description))


def build_recipe(settings: Mapping[str, Any]) -> Recipe:
    """Builds a recipe from the result of `describe_recipe`.

    Args:
        settings: omitted ones have their defaults, also `name`, `source` and `description`.

    Returns:
        The recipe.

    Raises:
        InputError: for an unknown setting or an invalid value.
    """
    unnamed = {"name": "custom", "source": "", "description": ""}
    try:
        return _build(Recipe, {**unnamed, **settings}, "recipe")
    except InputError as error:  # it quotes a value from a file, which may be anything
        text = "".join(c if c.isprintable() else "?" for c in str(error))
        raise InputError(text if len(text) <= 400 else text[:397] + "...") from None


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Reads a recipe from a file.

    Args:
        path: a `.json` or `.toml` file such as `jaxstyle recipes NAME` prints, or the JSON next to
            a picture.

    Returns:
        The recipe.

    Raises:
        InputError: if it contains no recipe, or an invalid one.
    """
    name = f"recipe {describe_path(path)}"
    toml = os.fsdecode(path).lower().endswith(".toml")
    settings = read_table(path, name, parse_toml if toml else parse_json)
    if isinstance(settings.get("recipe"), Mapping):
        check_unchanged(settings, name)
        settings = settings["recipe"]
    return build_recipe(settings)


def override(recipe: Recipe, texts: Sequence[str]) -> Recipe:
    """Returns a recipe with some settings overridden, each by a text `PATH=VALUE`.

    A path has the names that `jaxstyle recipes NAME` prints, joined by dots; terms go by their
    names. Examples: `solver.history_size=50`, `terms.content.layers=["relu3_1"]`. A value is TOML
    or plain text.

    Raises:
        InputError: for an unknown setting or an invalid value.
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
        return parse_toml(f"value = {text}")["value"]
    except (ValueError, RecursionError):
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
        raise InputError(f"{where}: unknown setting {key}; choose from {choices}")
    return settings[key]


def _fields(kind: Any) -> dict[str, Any]:
    """Returns setting -> type hint of a class, for the settings that `_plain` describes."""
    hints = typing.get_type_hints(kind)
    module = issubclass(kind, VGG)
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
    """Converts a value of JSON or TOML to the type of a setting.

    Args:
        hint: the type.
        value: as read from the file.
        where: the path of the setting, for messages.

    Raises:
        InputError: if the value has another type.
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
        inner, *words = (each for each in typing.get_args(hint) if each is not types.NoneType)
        named = value is None or any(value in typing.get_args(each) for each in words)
        return value if named else convert(inner, value, where)
    if typing.get_origin(hint) is tuple:
        inner, _ = typing.get_args(hint)
        return tuple(
            convert(inner, each, f"{where}[{i}]") for i, each in enumerate(_list(value, where))
        )
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be a table of numbers, not {value!r}")
        _, inner = typing.get_args(hint)
        return {key: convert(inner, each, f"{where}.{key}") for key, each in value.items()}
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    fits = isinstance(value, hint) or (hint is float and isinstance(value, int))
    if isinstance(value, bool) and hint is not bool:
        fits = False
    if fits and hint is float:
        with contextlib.suppress(OverflowError):  # an integer of 400 digits
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
