"""The inputs of a run: validated, and placed on the devices that need them."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxstyle.color import match_color
from jaxstyle.evaluation import Weights
from jaxstyle.guidance import check_masks, check_style_weights, merge_weights
from jaxstyle.network.protocol import Params
from jaxstyle.pictures import check_image, check_size, check_styles
from jaxstyle.problem import Problem
from jaxstyle.recipes import Recipe
from jaxstyle.sharding import check_mesh, put_on_mesh, splits_columns, with_auto_axes
from jaxstyle.solvers import Solver
from jaxstyle.start import check_init, make_noise
from jaxstyle.targets import Style, StyleWeights
from jaxstyle.terms.protocol import layers_of, split_arrays


class Inputs(NamedTuple):
    """What a run works on; in a batch all but `params` and `arrays` have a leading dimension."""

    problem: Problem
    params: Params
    arrays: list[jax.Array]
    """Those of the terms."""
    content: jax.Array
    styles: tuple[jax.Array, ...]
    start: jax.Array
    weights: dict[str, jax.Array]
    shares: Any
    guides: tuple[jax.Array | None, tuple[jax.Array | None, ...] | None]
    num_pairs: int
    """In a batch, without the pairs that fill up the devices."""


def prepare(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    recipe: Recipe,
    solver: Solver,
    batched: bool,
    weights: Weights | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> Inputs:
    """Validates the arguments of a run and places its arrays.

    Raises:
        ValueError: if one of them is wrong; see `stylize`.
    """
    # Arrays on the host stay there until each device gets its own part.
    styles = check_styles(style, recipe, batched)
    init = recipe.init if init is None else init
    if content is None:
        _check_without_content(recipe, init)
    # Without a content, `init` takes its place: only its size is read.
    shown: Any = init if content is None else content
    pixels = check_image(shown, "init" if content is None else "content", batched)
    check_size(pixels, "content", recipe, recipe.terms)
    if batched and any(len(each) != len(pixels) for each in styles):
        raise ValueError(f"{len(pixels)} contents, but {[len(each) for each in styles]} styles")
    # Everything is computed in the dtype of the content.
    styles = tuple(each.astype(pixels.dtype, copy=False) for each in styles)
    start, keys, kind = check_init(init, pixels, key, batched)
    factors = merge_weights(recipe, weights, pixels, batched)
    shares = check_style_weights(style_weights, recipe, styles, masks is not None, batched)
    guides = check_masks(masks, style_masks, pixels, styles, batched)
    number = len(pixels)
    terms, arrays = split_arrays(recipe.terms)
    problem = Problem(recipe.network, terms, _check_tile(tile))
    if mesh is not None:
        problem = _split(problem, mesh, solver, pixels, batched)
    recipe.network.check_params(params, layers_of(terms))
    pairs = pixels, start, keys, factors, shares, guides, styles
    if batched and mesh is not None:
        pairs = _fill(pairs, -number % mesh.shape.get("batch", 1))
    pixels, start, keys, factors, shares, guides, styles = put(pairs, problem.mesh, batched)
    params, arrays = put((params, arrays), problem.mesh, batched=False)
    if keys is not None:
        start = make_noise(problem, kind, batched, pixels, keys)
    start = pixels if start is None else start
    if recipe.color == "match":
        styles = tuple(_match_color(each, pixels, batched=batched) for each in styles)
    return Inputs(problem, params, arrays, pixels, styles, start, factors, shares, guides, number)


def put(tree: Any, mesh: Mesh | None, batched: bool) -> Any:
    """Puts arrays on the devices of a run, each part directly from where it is."""
    if mesh is not None:
        return put_on_mesh(tree, mesh, batched)
    return jax.tree.map(
        lambda leaf: with_auto_axes(leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf)),
        tree,
    )


def _check_without_content(recipe: Recipe, init: Any) -> None:
    if needing := [term.name for term in recipe.terms if term.target_image == "content"]:
        raise ValueError(f"{needing[0]} needs a content image, but there is none")
    if isinstance(init, str) or recipe.color != "style":
        raise ValueError(
            "without a content image, init must be an image, and the recipe's color `style`"
        )


def _check_tile(tile: Any) -> int | None:
    if tile is not None and not (isinstance(tile, int | np.integer) and tile >= 1):
        raise ValueError(f"tile must be a positive whole number of pixels, not {tile!r}")
    return None if tile is None else int(tile)


def _split(
    problem: Problem, mesh: Mesh, solver: Solver, content: jax.Array, batched: bool
) -> Problem:
    mesh = check_mesh(mesh, batched)
    if solver.on_host:
        raise ValueError(f"{type(solver).__name__} runs on the host: leave mesh out")
    if problem.tile is not None and mesh.shape.get("rows", 1) > 1:
        raise ValueError(
            "windows of a picture cannot be split over devices: leave out tile or mesh"
        )
    turned = splits_columns(content.shape, mesh, problem.stride)
    return dataclasses.replace(problem, mesh=mesh, turned=turned)


def _fill(pairs: Any, missing: int) -> Any:
    """Repeats the last pair of a batch, so that every device has as many pairs."""
    if missing == 0:
        return pairs

    def filled(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            return _repeat_last(leaf, missing)
        return np.concatenate([leaf, *[leaf[-1:]] * missing])

    return jax.tree.map(filled, pairs)


@functools.partial(jax.jit, static_argnums=1)
def _repeat_last(leaf: jax.Array, missing: int) -> jax.Array:
    return jnp.concatenate([leaf, *[leaf[-1:]] * missing])


@functools.partial(jax.jit, static_argnames="batched")
def _match_color(style: jax.Array, content: jax.Array, *, batched: bool) -> jax.Array:
    return (jax.vmap(match_color) if batched else match_color)(style, content)
