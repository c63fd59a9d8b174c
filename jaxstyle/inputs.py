"""The inputs of a run: validated, and placed on the devices that need them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxstyle.color import match_color
from jaxstyle.guidance import (
    check_layer_shares,
    check_masks,
    check_shares,
    check_style_masks,
    merge_weights,
)
from jaxstyle.network.protocol import Params
from jaxstyle.pictures import check_picture
from jaxstyle.problem import Problem, check_tile
from jaxstyle.recipe import Recipe
from jaxstyle.sharding import check_mesh, put_on_mesh, splits_columns, with_auto_axes
from jaxstyle.solvers import Solver
from jaxstyle.start import check_init, check_key, make_draw_keys, make_noise
from jaxstyle.targets import Style, Targets
from jaxstyle.terms import Term
from jaxstyle.terms.protocol import layers_of, split_arrays
from jaxstyle.terms.sampled import names_of_drawing, redraws


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
    draws: jax.Array | None
    """The key of the positions that terms draw, `(2,)` uint32."""
    num_pairs: int
    """In a batch, without the pairs that fill up the devices."""

    def arguments(self, targets: Targets) -> tuple[Any, ...]:
        """Returns the arrays that the objective takes besides the picture."""
        return self.params, targets, self.weights, self.arrays


def prepare_inputs(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    options: Mapping[str, Any],
    *,
    batched: bool,
    call: Callable[..., Any],
) -> Inputs:
    """Validates the arguments of a run and places its arrays.

    `options` are those of `resolve_options`. For `call` see `stylize_steps`.

    Raises:
        ValueError: if one of them is wrong; see `stylize`.
    """
    recipe, init, mesh = options["recipe"], options["init"], options["mesh"]
    _check_on_host(options["solver"], batched, mesh)
    _check_redraws(recipe, options["solver"])
    # Arrays on the host stay there until each device gets its own part.
    batch_axis = ("B",) * batched
    styles = _check_styles(style, recipe, batch_axis)
    if content is None:
        _check_without_content(recipe, init)
    # Without a content, `init` takes its place: only its size is read.
    shown: Any = init if content is None else content
    pixels = check_picture(shown, "init" if content is None else "content", batch_axis)
    _check_size(pixels, "content", recipe, recipe.terms)
    if batched and any(len(each) != len(pixels) for each in styles):
        raise ValueError(f"{len(pixels)} contents, but {[len(each) for each in styles]} styles")
    # Everything is computed in the dtype of the content.
    styles = tuple(each.astype(pixels.dtype, copy=False) for each in styles)
    grain = recipe.grain if styles else 0.0
    if isinstance(init, str) and init == "detail" and not styles:
        raise ValueError("a start from detail has the mean color of a style, but there is none")
    start, keys, kind = check_init(init, pixels, options["key"], batched, grain)
    draws = _draw_keys(recipe, options["key"], len(pixels) if batched else None)
    weights, shares, guides = _check_guidance(recipe, options, pixels, styles)
    terms, arrays = split_arrays(recipe.terms)
    problem = Problem(recipe.network, terms, check_tile(options["tile"]))
    if mesh is not None:
        problem = _split(problem, mesh, pixels, batched)
    recipe.network.check_params(params, layers_of(terms))
    num_pairs = len(pixels)
    pairs = pixels, start, keys, weights, shares, guides, styles, draws
    if batched and mesh is not None:
        pairs = _fill(pairs, -num_pairs % mesh.shape.get("batch", 1))
    pixels, start, keys, weights, shares, guides, styles, draws = put(pairs, problem.mesh, batched)
    params, arrays = put((params, arrays), problem.mesh, batched=False)
    if recipe.color == "match":
        masks, style_masks = guides
        styles = tuple(
            _match_color(each, pixels, own, masks, batched=batched)
            for each, own in zip(styles, style_masks or (None,) * len(styles), strict=True)
        )
    if kind is not None:
        start = call(make_noise, (problem, kind, batched), pixels, keys, styles, guides[0])
    start = pixels if start is None else start
    return Inputs(
        problem, params, arrays, pixels, styles, start, weights, shares, guides, draws, num_pairs
    )


def _draw_keys(recipe: Recipe, key: Any, number: int | None) -> jax.Array | None:
    """Returns the keys of the positions that terms draw, or None if none does."""
    if not names_of_drawing(recipe.terms):
        return None
    data, kind = check_key(key, number)
    return make_draw_keys(kind, number is not None, jnp.asarray(data))


def _check_redraws(recipe: Recipe, solver: Solver) -> None:
    if redraws(recipe.terms) and not solver.takes_redraws:
        name = next(term.name for term in recipe.terms if redraws([term]))
        raise ValueError(
            f"{name} draws new positions while the picture is painted, and "
            f"{type(solver).__name__} needs the same ones in each step: use Adam, or redraw=0"
        )


def _check_on_host(solver: Solver, batched: bool, mesh: Mesh | None) -> None:
    name = type(solver).__name__
    if solver.on_host and batched:
        raise ValueError(f"{name} runs on the host, one pair at a time: use `stylize`")
    if solver.on_host and mesh is not None:
        raise ValueError(f"{name} runs on the host: leave mesh out")


def _check_styles(
    style: Style | None, recipe: Recipe, batch_axis: tuple[str, ...]
) -> tuple[Any, ...]:
    """Returns the style pictures as arrays."""
    styles = tuple(
        check_picture(each, "style", batch_axis)
        for each in (style if isinstance(style, tuple | list) else (style,))
        if each is not None
    )
    reading = [term for term in recipe.terms if term.target_image == "style"]
    if reading and not styles:
        raise ValueError(f"{reading[0].name} needs a style image, but there is none")
    for each in styles:
        _check_size(each, "style", recipe, reading)
    return styles


def _check_size(image: Any, what: str, recipe: Recipe, terms: Sequence[Term]) -> None:
    """Checks that `image` is large enough for the layers that `terms` read."""
    layers = layers_of(terms)
    minimum, (height, width) = recipe.network.minimum_size(layers), image.shape[-3:-1]
    if min(height, width) < minimum:
        raise ValueError(
            f"{what} of {width}x{height} px is too small for {', '.join(layers)}: at least "
            f"{minimum}x{minimum} px"
        )


def _check_guidance(
    recipe: Recipe, options: Mapping[str, Any], content: Any, styles: Sequence[Any]
) -> tuple[Any, Any, Any]:
    """Returns loss weights, style shares, and the masks of content and styles."""
    dtype, batch, number = content.dtype, content.shape[:-3], len(styles)
    check_layer_shares(recipe.terms, options["style_weights"])
    masks = check_masks(options["masks"], number, content.shape[-3:-1], dtype, batch=batch)
    shares = check_shares(
        options["style_weights"],
        layers_of([term for term in recipe.terms if term.target_image == "style"]),
        number,
        dtype,
        masked=masks is not None and masks.shape[-3] == number,
        batch=batch,
    )
    style_masks = check_style_masks(options["style_masks"], styles, dtype)
    weights = merge_weights(recipe.weights, options["weights"], dtype, batch)
    return weights, shares, (masks, style_masks)


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
    if isinstance(init, str) or recipe.color != "style" or recipe.strength != 1:
        raise ValueError(
            "without a content image, init must be an image, the recipe's color `style` and its "
            "strength 1"
        )


def _split(problem: Problem, mesh: Mesh, content: jax.Array, batched: bool) -> Problem:
    mesh = check_mesh(mesh, batched)
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
def _match_color(
    style: jax.Array, content: jax.Array, style_mask: Any, masks: Any, *, batched: bool
) -> jax.Array:
    def match(style: jax.Array, content: jax.Array, style_mask: Any, masks: Any) -> jax.Array:
        # What no style is for does not count, nor what is outside of the style's own mask.
        region = None if masks is None else jnp.max(masks, 0)
        return match_color(style, content, style_weight=style_mask, content_weight=region)

    return (jax.vmap(match) if batched else match)(style, content, style_mask, masks)
