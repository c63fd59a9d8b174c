"""The options of the `stylize*` functions, written once."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import jax
import optax
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxstyle.guidance import StyleWeights, Weights
from jaxstyle.problem import check_recipe
from jaxstyle.recipe import Recipe
from jaxstyle.recipes import DEFAULT
from jaxstyle.solvers.optax import as_solver
from jaxstyle.solvers.protocol import Solver

_Function = TypeVar("_Function", bound=Callable[..., Any])


class StylizeOptions(TypedDict, total=False):
    """The keyword arguments that all `stylize*` functions share; `B` are the pairs of a batch.

    A function of your own passes them on as `**options: typing.Unpack[StylizeOptions]`.

    Attributes:
        recipe: the settings, from `jaxstyle.recipes` or your own.
        weights: term name -> factor, overrides those of the recipe; names that are left out keep
            theirs. In a batch `()` for all pairs, or `(B,)`.
        solver: a solver or an optax transformation, see `Optax`; overrides the recipe's.
            `ScipyLBFGSB` takes single pairs only.
        style_weights: `(S,)` the shares of several styles, by default equal; in a batch also
            `(B, S)`. A mapping of layers to shares mixes the styles by layer, see
            `prepare_targets`.
        masks: `(S, H, W)` in [0, 1], the region of the picture for each style; in a batch also
            `(B, S, H, W)`. `(1, H, W)` is the region of the mixture of several styles. By default
            every style applies everywhere.
        style_masks: for each style None, or `(h, w)` in [0, 1], the region of it that counts; in
            a batch `(B, h, w)`.
        init: the picture to start from: `content`, `noise`, `mean`, `detail`, or `(H, W, 3)`, in a
            batch `(B, H, W, 3)`; overrides the recipe's, see `Recipe`. Its values may be from -2 to
            3, as pixels that are optimized without bounds can be.
        key: a `jax.random.key`, needed for a start from noise or mean. Without one, drawn
            positions and the grain of a start from the content use `jax.random.key(0)`, the same
            for every pair of a batch. With one key for a batch, pair `i` uses
            `jax.random.split(key, B)[i]`; or give keys of `(B,)`.
        tile: compute in windows of about this many pixels along each edge, which takes the memory
            of one window; the result is the same. None takes the picture whole.
        mesh: from `jaxstyle.make_mesh`. Its axis `batch` splits the pairs of a batch, evenly if B
            is a multiple of its size. Its axis `rows` splits each picture along an edge that is a
            multiple of 16 times the devices (for a recipe that reads `relu5_1`). Styles, and the
            smaller sizes of a pyramid, that have no such edge are replicated. None leaves the
            arrays where they are.
    """

    recipe: Recipe
    weights: Weights | None
    solver: Solver | optax.GradientTransformation | None
    style_weights: StyleWeights | None
    masks: ArrayLike | None
    style_masks: Sequence[ArrayLike | None] | None
    init: ArrayLike | str | None
    key: jax.Array | None
    tile: int | None
    mesh: Mesh | None


_DEFAULTS: dict[str, Any] = {**dict.fromkeys(StylizeOptions.__annotations__), "recipe": DEFAULT}
_PLACE = "**options: see `StylizeOptions`."
# What other programs take as an argument, and where it is here.
_ELSEWHERE = {
    **dict.fromkeys(
        ("steps", "num_steps", "iterations"), "; write solver=jaxstyle.LBFGS(num_steps=...)"
    ),
    **dict.fromkeys(("size", "image_size"), "; load the pictures with load_image(path, size=...)"),
    "seed": "; write key=jax.random.key(...)",
}


class _Text(str):
    """A default value that is shown as this text."""

    __repr__ = str.__str__


class _Signature(inspect.Signature):
    """A signature that `help` shows without types, which the docstring has in readable form.

    The type of an array alone is a union of nine, and the default recipe has fifteen lines.
    """

    def __str__(self) -> str:
        """Returns the names of the parameters, and their defaults."""
        shown = []
        for each in self.parameters.values():
            default = each.default
            if default is DEFAULT:
                default = _Text("recipes.DEFAULT")
            elif inspect.isfunction(default):
                default = _Text(default.__name__)
            shown.append(each.replace(default=default, annotation=each.empty))
        return str(inspect.Signature(shown, return_annotation=self.return_annotation))

    def format(self, **_: Any) -> str:
        """Returns `str(self)`; Python 3.13 calls it."""
        return str(self)


def lists_options(function: _Function) -> _Function:
    """Lists the options one by one in the signature and docstring of a function.

    Type checkers read its `**options: Unpack[StylizeOptions]`. `help`, editors and the reference
    read what this writes.
    """
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=annotation
        )
        for name, annotation in StylizeOptions.__annotations__.items()
    ]
    # Stable: of the keyword arguments, those that are shared come first.
    parameters = sorted([*shared, *own], key=lambda each: each.kind)
    listed: Any = function
    returned = signature.return_annotation
    listed.__signature__ = _Signature(parameters, return_annotation=returned)
    listed.__annotations__ = {each.name: each.annotation for each in parameters}
    listed.__annotations__["return"] = returned
    if function.__doc__ and StylizeOptions.__doc__:  # not under `python -OO`
        _, _, texts = inspect.cleandoc(StylizeOptions.__doc__).partition("Attributes:\n")
        listed.__doc__ = inspect.cleandoc(function.__doc__).replace(_PLACE, texts.strip())
    return function


def resolve_options(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all options of a call of `function`, those that are left out from the recipe.

    Raises:
        TypeError: for an argument that `function` does not have.
        ValueError: for a recipe or a solver that is none.
    """
    for name in options:
        if name not in _DEFAULTS:
            valid = list(inspect.signature(function).parameters)
            close = difflib.get_close_matches(name, valid, n=1)
            hint = "".join(f"; did you mean {each!r}?" for each in close)
            raise TypeError(
                f"{function.__name__}() got an unexpected keyword argument {name!r}"
                f"{_ELSEWHERE.get(name, hint)}; its arguments are {', '.join(valid)}"
            )
    resolved = {**_DEFAULTS, **options}
    recipe = resolved["recipe"]
    check_recipe(recipe)
    for name in ("solver", "init"):
        if resolved[name] is None:
            resolved[name] = getattr(recipe, name)
    resolved["solver"] = as_solver(resolved["solver"])
    return resolved
