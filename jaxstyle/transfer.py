"""Style transfer: `stylize` one pair, `stylize_batch` many, `stylize_steps` to look on.

The whole algorithm is here: compute the targets once, then let the solver move the pixels down
the objective. Compiled functions take networks, terms and solvers as static values and all
arrays as arguments, so pairs of one size share one compilation.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxstyle.color import luminance_only, match_color
from jaxstyle.evaluation import (
    Params,
    Style,
    StyleWeights,
    Weights,
    evaluate,
    layers_of,
    prepare_targets,
)
from jaxstyle.network.vgg import VGG19, number_of_poolings
from jaxstyle.pyramid import resize, scaled_shape
from jaxstyle.recipes import DEFAULT, Recipe
from jaxstyle.sharding import check_mesh, over, place, split_state, splits_columns, with_auto_axes
from jaxstyle.solvers.optax import as_solver
from jaxstyle.solvers.protocol import Solver, split_settings, with_settings
from jaxstyle.solvers.state import Objective, State, Status, advance, is_active
from jaxstyle.terms import Term


class StyleResult(NamedTuple):
    """What came out; a batch has a leading dimension on every field."""

    image: jax.Array
    """`(H, W, 3)` sRGB, clipped to [0, 1]; through the recipe's median filter, if it has one."""
    loss: jax.Array
    """`()` the lowest loss that was reached, that of the image before clipping and filtering; of a
    mean of iterates, `Adam(average=...)`, the last iterate's."""
    term_losses: dict[str, jax.Array]
    """Term name -> `()` its loss, before its weight."""
    trace: jax.Array
    """`(num_steps,)` the loss after each step; the last one for steps that were not made. The
    steps at the smaller sizes of a pyramid come first, with the loss at their size."""
    num_evaluations: jax.Array
    """`()` loss-and-gradient evaluations."""
    status: jax.Array
    """`()` a `Status`: that of the full size; or RECOVERED, if that is not NON_FINITE_START, where
    a smaller size of a pyramid ended with RECOVERED or NON_FINITE_START."""
    term_traces: dict[str, jax.Array]
    """Term name -> `(num_steps,)` its part in `trace`, before its weight."""


class Checkpoint(NamedTuple):
    """What `stylize_steps` goes on from; a pytree of arrays."""

    stage: int | jax.Array
    """Which size of the pyramid it is at, from 0; 0 without a pyramid."""
    steps: int | jax.Array
    """Steps made at that size."""
    state: Any
    """The solver's; its leaves in their order do, whatever holds them."""
    traces: tuple[Any, ...]
    """For each smaller size, loss and losses of the terms after each step, with room for at least
    `num_steps` each, and its status `()`; as `state`."""
    num_evaluations: jax.Array
    """`()` those at the smaller sizes."""


def call_jitted(function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
    """Calls a compiled part of a run: a jitted function whose first arguments are static."""
    return function(*static, *arrays)


class Problem(NamedTuple):
    """What is static about an objective."""

    network: VGG19
    terms: tuple[Term, ...]
    tile: int | None = None
    mesh: Mesh | None = None
    turned: bool = False
    """Whether the solver has its arrays as `(W, H, 3)`: those split along their columns."""

    @property
    def stride(self) -> int:
        """Pixels that come together in a position of the deepest layer."""
        return max(2 ** number_of_poolings(layer) for layer in layers_of(self.terms))

    def turn(self, x: jax.Array) -> jax.Array:
        """From pictures `(..., H, W, 3)` to what the solver has, or back."""
        return x.swapaxes(-3, -2) if self.turned else x


def stylize(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | optax.GradientTransformation | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> StyleResult:
    """Paints `content` in the style of `style`.

    Args:
        params: VGG19's variables, from `jaxstyle.io.load_params`.
        content: `(H, W, 3)` floating-point sRGB in [0, 1]; None, with an `init` that is an
            image, if no term of the recipe needs it (texture synthesis). Overshoot is allowed:
            values down to -0.5 and up to 1.5.
        style: `(h, w, 3)` floating-point sRGB in [0, 1], likewise, of any size; or a tuple of
            such; None if no term needs it (reconstruction).
        recipe: the setting, out of `jaxstyle.recipes` or your own.
        weights: term name -> factor, over the recipe's; names that are left out keep theirs.
        solver: over the recipe's: a solver, or an optax transformation, see `Optax`.
        style_weights: `(S,)` the shares of several styles, by default equal; or a mapping of
            layers to such, see `prepare_targets`.
        masks: `(S, H, W)` in [0, 1], the region of the picture that each style is for.
        style_masks: for each style None or `(h, w)` in [0, 1], the region of it that counts.
        init: the image to start from: `content`, `noise`, `mean` or `(H, W, 3)`; over the
            recipe's, see `Recipe`. An image may be from -2 to 3, as pixels that are optimised
            without bounds can be.
        key: a `jax.random.key`; needed for a start from noise or mean, otherwise unused.
        tile: compute in windows of about this many pixels each way, in the memory for one of
            them; the same picture. None takes it whole.
        mesh: from `jaxstyle.make_mesh`: its axis `rows` splits the picture, along the edge that
            is a multiple of 16 times the devices (for a recipe that reads `relu5_1`). Smaller
            sizes of a pyramid of which none is, and such styles, are on all devices alike. None
            takes the arrays where they are.

    Returns:
        A `StyleResult`. The loss is never above that of the start (with a pyramid, of the start
        at the full size, which comes from the smaller ones), unless the solver averages its
        iterates; numeric trouble is told by its status.

    Raises:
        ValueError: for wrong shapes, images too small for the network, pixels or masks that are
            not finite or clearly not in [0, 1] (this cannot be seen under `jax.jit`), unknown
            terms, or a start from noise without a key.
    """
    steps = stylize_steps(
        params,
        content,
        style,
        recipe=recipe,
        weights=weights,
        solver=solver,
        style_weights=style_weights,
        masks=masks,
        style_masks=style_masks,
        init=init,
        key=key,
        tile=tile,
        mesh=mesh,
        every=None,
    )
    return _last(steps)


def stylize_steps(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | optax.GradientTransformation | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
    every: int | None = 10,
    checkpoint: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    call: Callable[..., Any] = call_jitted,
) -> Iterator[tuple[int, StyleResult]]:
    """Like `stylize`, but stops every few steps to show what there is.

    Stop iterating to stop the run. Any `every` runs the same compiled program. What is passed is
    checked at the call, before the first step.

    Args:
        params: see `stylize`, as for all arguments that are not named here.
        content: see `stylize`.
        style: see `stylize`.
        recipe: see `stylize`.
        weights: see `stylize`.
        solver: see `stylize`.
        style_weights: see `stylize`.
        masks: see `stylize`.
        style_masks: see `stylize`.
        init: see `stylize`.
        key: see `stylize`.
        tile: see `stylize`.
        mesh: see `stylize`.
        every: steps between two results; None for all at once.
        checkpoint: goes on from there: what is yielded first is what was yielded last. All other
            arguments must be what they were.
        keep: called with a checkpoint before each result after the first step; it must read the
            arrays before it returns, since the next step takes their place.
        call: how the large compiled parts of the run are called, `call(function, static, *arrays)`
            for `function(*static, *arrays)`, of a jitted function whose first arguments are
            static; for those who keep compiled programs, as the command line does.

    Yields:
        The number of steps made, first 0, and the best result so far.

    Raises:
        ValueError: see `stylize`; for `every` below 1; or for a checkpoint of another run, or with
            `ScipyLBFGSB`.
    """
    return _run(
        params,
        content,
        style,
        recipe=recipe,
        weights=weights,
        solver=solver,
        style_weights=style_weights,
        masks=masks,
        style_masks=style_masks,
        init=init,
        key=key,
        tile=tile,
        mesh=mesh,
        every=every,
        batched=False,
        checkpoint=checkpoint,
        keep=keep,
        call=call,
    )


def stylize_batch(
    params: Params,
    contents: ArrayLike | None,
    styles: Style | None,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | optax.GradientTransformation | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> StyleResult:
    """Paints B pairs in lockstep, each with its own solver state, guard and stop.

    Args:
        params: see `stylize`.
        contents: `(B, H, W, 3)`.
        styles: `(B, h, w, 3)`, or a tuple of such.
        recipe: see `stylize`.
        weights: term name -> factor, `()` for all pairs or `(B,)` for each; over the recipe's.
        solver: see `stylize`; not `ScipyLBFGSB`, which takes single pairs.
        style_weights: `(S,)` for all pairs, or `(B, S)`; or a mapping of layers to such.
        masks: `(S, H, W)` for all pairs, or `(B, S, H, W)`.
        style_masks: for each style None or `(B, h, w)`.
        init: `content`, `noise` or `mean` (another noise for each pair), or `(B, H, W, 3)`.
        key: one key for all pairs, of which pair `i` uses `jax.random.split(key, B)[i]`; or
            `(B,)`, a key for each.
        tile: see `stylize`.
        mesh: from `jaxstyle.make_mesh`: its axis `batch` splits the pairs, evenly if B is a
            multiple of its size, `rows` each picture, see `stylize`.

    Returns:
        A `StyleResult` with a leading B on every field.

    Raises:
        ValueError: see `stylize`.
    """
    steps = _run(
        params,
        contents,
        styles,
        recipe=recipe,
        weights=weights,
        solver=solver,
        style_weights=style_weights,
        masks=masks,
        style_masks=style_masks,
        init=init,
        key=key,
        tile=tile,
        mesh=mesh,
        every=None,
        batched=True,
    )
    return _last(steps)


def stylize_batch_steps(
    params: Params,
    contents: ArrayLike | None,
    styles: Style | None,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | optax.GradientTransformation | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
    every: int | None = 10,
    call: Callable[..., Any] = call_jitted,
) -> Iterator[tuple[int, StyleResult]]:
    """Like `stylize_batch`, but stops every few steps, as `stylize_steps` does.

    Args:
        params: see `stylize`.
        contents: see `stylize_batch`.
        styles: see `stylize_batch`.
        recipe: see `stylize_batch`, as for all arguments down to `mesh`.
        weights: see `stylize_batch`.
        solver: see `stylize_batch`.
        style_weights: see `stylize_batch`.
        masks: see `stylize_batch`.
        style_masks: see `stylize_batch`.
        init: see `stylize_batch`.
        key: see `stylize_batch`.
        tile: see `stylize_batch`.
        mesh: see `stylize_batch`.
        every: steps between two results; None for all at once.
        call: see `stylize_steps`.

    Yields:
        The number of steps made, first 0, and the best results so far.

    Raises:
        ValueError: see `stylize`.
    """
    return _run(
        params,
        contents,
        styles,
        recipe=recipe,
        weights=weights,
        solver=solver,
        style_weights=style_weights,
        masks=masks,
        style_masks=style_masks,
        init=init,
        key=key,
        tile=tile,
        mesh=mesh,
        every=every,
        batched=True,
        call=call,
    )


def _last(steps: Iterator[tuple[int, StyleResult]]) -> StyleResult:
    ((_, result),) = collections.deque(steps, maxlen=1)
    return result


class _Inputs(NamedTuple):
    """What a run works on, checked; a batch has a leading dimension on all but `params`."""

    problem: Problem
    params: Params
    content: jax.Array
    styles: tuple[jax.Array, ...]
    start: jax.Array
    factors: dict[str, jax.Array]
    shares: Any
    guides: tuple[jax.Array | None, tuple[jax.Array | None, ...] | None]
    number: int  # of pairs, without those that fill up the devices


def _prepare(
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
) -> _Inputs:
    # What comes from the host stays there until each device gets its own part.
    styles = _check_styles(style, recipe, batched)
    init = recipe.init if init is None else init
    if content is None:
        _check_without_content(recipe, init)
    # Without a content, nothing but its size is read of what stands for it.
    stand_in: Any = init if content is None else content
    pixels = _check_image(stand_in, "init" if content is None else "content", batched)
    _check_size(pixels, "content", recipe, recipe.terms)
    if batched and any(len(each) != len(pixels) for each in styles):
        raise ValueError(f"{len(pixels)} contents, but {[len(each) for each in styles]} styles")
    # The dtype of the picture is that of all that is computed.
    styles = tuple(each.astype(pixels.dtype, copy=False) for each in styles)
    start, keys, kind = _check_init(init, pixels, key, batched)
    factors = _merge_weights(recipe, weights, pixels, batched)
    shares = _check_style_weights(style_weights, recipe, styles, masks is not None, batched)
    guides = _check_masks(masks, style_masks, pixels, styles, batched)
    number = len(pixels)
    problem = Problem(recipe.network, recipe.terms, _check_tile(tile))
    if mesh is not None:
        problem = _split(problem, mesh, solver, pixels, batched)
    if not isinstance(params, Mapping) or not isinstance(params.get("params"), Mapping):
        raise ValueError(
            "params must be what jaxstyle.io.load_params returns, {'params': {layer: ...}}"
        )
    pairs = pixels, start, keys, factors, shares, guides, styles
    if batched and mesh is not None:
        pairs = _fill(pairs, -number % mesh.shape.get("batch", 1))
    pixels, start, keys, factors, shares, guides, styles = _put(pairs, problem.mesh, batched)
    params = _put(params, problem.mesh, batched=False)
    if keys is not None:
        start = _noise(problem, kind, batched, pixels, keys)
    start = pixels if start is None else start
    if recipe.color == "match":
        styles = tuple(_match_color(each, pixels, batched=batched) for each in styles)
    return _Inputs(problem, params, pixels, styles, start, factors, shares, guides, number)


def _put(tree: Any, mesh: Mesh | None, batched: bool) -> Any:
    """Puts arrays where a run needs them, each part straight from where it is."""
    if mesh is not None:
        return place(tree, mesh, batched)
    return jax.tree.map(
        lambda leaf: with_auto_axes(leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf)),
        tree,
    )


def _run(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    every: int | None,
    batched: bool,
    recipe: Recipe = DEFAULT,
    solver: Solver | optax.GradientTransformation | None = None,
    checkpoint: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    call: Callable[..., Any] = call_jitted,
    **settings: Any,
) -> Iterator[tuple[int, StyleResult]]:
    """All that `stylize` and its kin do; `settings` are those of `_prepare`.

    Checks everything at once, and returns what makes the steps.
    """
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe must be a Recipe, such as jaxstyle.recipes.GATYS, not {recipe!r}")
    solver = recipe.solver if solver is None else as_solver(solver)
    if every is not None and not (isinstance(every, int) and every >= 1):
        raise ValueError(f"every must be at least 1 step, not {every}")
    if solver.on_host:
        _check_on_host(solver, batched, checkpoint is not None or keep is not None)
    inputs = _prepare(
        params, content, style, recipe=recipe, solver=solver, batched=batched, **settings
    )
    stages = _stages(recipe, solver, inputs.content, inputs.styles)
    traces: tuple[Any, ...] = ()
    evaluations = _put(np.zeros((), np.int32), inputs.problem.mesh, batched=False)
    if checkpoint is not None:
        traces, evaluations = _restore_smaller(checkpoint, inputs.factors, len(stages))
    return _paint(
        inputs, recipe, stages, batched, every, checkpoint, traces, evaluations, keep, call
    )


def _paint(
    inputs: _Inputs,
    recipe: Recipe,
    stages: Sequence[tuple[float, Solver]],
    batched: bool,
    every: int | None,
    checkpoint: Checkpoint | None,
    traces: tuple[Any, ...],
    evaluations: jax.Array,
    keep: Callable[[Checkpoint], None] | None,
    call: Callable[..., Any],
) -> Iterator[tuple[int, StyleResult]]:
    """Runs through the sizes; `traces` and `evaluations` are those before the checkpoint's."""
    problem, params, content, styles, start, factors, shares, guides, number = inputs
    # With the luminance only, what is shown has the content's chroma.
    shown = content if recipe.color == "luminance" else None
    lengths = tuple(solver.num_steps for _, solver in stages)
    painted: tuple[jax.Array, jax.Array] | None = None  # at the size before: result and start
    carried: Any = None  # what the solver takes over from there
    for stage, (scale, solver) in enumerate(stages):
        resume = None
        made = sum(lengths[:stage])
        if checkpoint is not None and stage <= checkpoint.stage:
            if stage < checkpoint.stage:
                continue
            resume = int(checkpoint.steps), checkpoint.state
        here = functools.partial(_shrink, scale=scale)
        start_here = here(start)
        x = start_here if painted is None else _carry(*painted, start_here, recipe.carry)
        pictures = (here(content), tuple(map(here, styles)))
        guides_here = jax.tree.map(functools.partial(_shrink_mask, scale=scale), guides)
        targets = call(_targets, (problem, batched), params, *pictures, shares, *guides_here)
        arguments = (params, targets, factors)
        for steps, state in _solve(
            problem, solver, batched, every, x, carried, arguments, resume, call
        ):
            if steps == 0 and made > 0 and _progress(state)[0]:
                continue  # the start at the next size
            if keep is not None and steps > 0:
                keep(Checkpoint(stage, steps, state, traces, evaluations))
            if every is None and scale != 1:
                continue  # nobody looks before the end
            static = (problem, batched, lengths, stage, recipe.carry, recipe.median_filter)
            starts = None if scale == 1 else (start_here, start)
            result = call(_result, static, state, (traces, evaluations), starts, shown)
            if batched and len(content) > number:
                result = _take(result, number)
            yield made + steps, result
        if scale == 1:
            return
        traces = (*traces, (*state.trace, state.status))
        evaluations = evaluations + state.num_evaluations
        painted = problem.turn(state.best_x), start_here
        carried = solver.carried(state)
        del state  # and its history, the largest array there is


@functools.partial(jax.jit, static_argnums=1)
def _take(tree: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[:number], tree)


def _stages(
    recipe: Recipe, solver: Solver, content: jax.Array, styles: Sequence[jax.Array]
) -> list[tuple[float, Solver]]:
    """The sizes to run through, as scales, each with its solver; the last one is 1."""
    stages: list[tuple[float, Solver]] = []
    if recipe.pyramid is not None:
        layers = layers_of(recipe.terms)
        minimum = recipe.network.minimum_size(layers)
        for scale, steps in recipe.pyramid.scales(*content.shape[-3:-1]):
            shapes = [scaled_shape(image.shape, scale) for image in (content, *styles)]
            # A size at which some picture no longer passes the network is left out.
            if min(min(shape[-3:-1]) for shape in shapes) >= minimum:
                stages.append((scale, dataclasses.replace(solver, num_steps=steps)))
    return [*stages, (1.0, solver)]


def _solve(
    problem: Problem,
    solver: Solver,
    batched: bool,
    every: int | None,
    x: jax.Array,
    carried: Any,
    arguments: tuple[Any, ...],
    resume: tuple[int, Any] | None,
    call: Callable[..., Any],
) -> Iterator[tuple[int, State]]:
    """Runs the solver at one size; yields the number of steps made, and the state.

    `carried` is what the solver takes over from the size before. `resume` are the steps that
    were made, and the state after them, to go on from.
    """
    made, total = 0, solver.num_steps
    if solver.on_host:
        objective = _objective(problem)
        state = solver.start(objective, x, *arguments)
        more = functools.partial(solver.advance, objective)
    else:
        compiled, settings = split_settings(solver, x.dtype)
        static = (problem, compiled, batched)
        arguments = (*arguments, _put(settings, problem.mesh, batched=False))
        state = call(_start, static, x, carried, *arguments)
        if resume is not None:
            made, state = resume[0], _restore(resume[1], state)
        # The state is donated: the solver's history is the largest array there is. Not so inside
        # somebody's own jit or vmap, where it is no buffer yet.
        leaves = jax.tree.leaves((state, arguments))
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        more = functools.partial(call, _advance if traced else _advance_in_place, static)

    def advance_to(stop: int) -> State:
        limit = _put(np.asarray(stop, np.int32), problem.mesh, batched=False)
        return more(state, limit, *arguments)

    if every is None:  # nothing is decided on the way, which keeps `stylize` traceable
        yield total, advance_to(total)
        return
    while True:
        state = advance_to(made)
        active, steps = _progress(state)
        made = made if active else steps
        yield made, state
        if not active or made == total:
            return
        made = min(made + every, total)


def _check_on_host(solver: Solver, batched: bool, checkpoints: bool) -> None:
    name = type(solver).__name__
    if batched:
        raise ValueError(f"{name} runs on the host, one pair at a time: use `stylize`")
    if checkpoints:
        raise ValueError(f"{name} runs on the host, and has no state to save in a checkpoint")


def _restore_smaller(
    checkpoint: Checkpoint, factors: dict[str, jax.Array], number: int
) -> tuple[tuple[Any, ...], jax.Array]:
    """Traces and evaluations of the sizes before that of a checkpoint, which is one of `number`."""
    if checkpoint.stage >= number:
        raise ValueError(
            f"the checkpoint is of another run: of size {int(checkpoint.stage) + 1} of a pyramid, "
            f"but here are {number}"
        )
    like = jax.tree.structure(((0, factors, 0),) * int(checkpoint.stage))
    try:
        traces = jax.tree.unflatten(like, jax.tree.leaves(checkpoint.traces))
    except ValueError as error:
        raise ValueError("the checkpoint is of another run: it has other terms") from error
    found: Any = _put((traces, checkpoint.num_evaluations), None, batched=False)
    return found[0], found[1]


def _restore(saved: Any, state: State) -> State:
    """Puts the leaves of a saved state where those of a new one are."""
    old, new = jax.tree.leaves(saved), jax.tree.leaves(state)
    if [(jnp.shape(leaf), leaf.dtype) for leaf in old] != [
        (leaf.shape, leaf.dtype) for leaf in new
    ]:
        raise ValueError("the checkpoint is of another run: its state has other arrays")
    placed = [
        # A copy, since it is donated to the next step.
        jax.device_put(leaf, like.sharding, may_alias=False)
        for leaf, like in zip(old, new, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(state), placed)


# How far from [0, 1] pixels may be. Bicubic resizing and sharpening overshoot by some tenths,
# pixels that were optimised without bounds by up to about one. What is in 0..255, in [-1, 1] or
# standardised goes beyond, unless it is next to black.
_OVERSHOOT = {"init": 2.0, "content": 0.5, "style": 0.5, "mask": 1e-3}


def _as_array(value: Any) -> Any:
    """An array, which stays on the host if it is there, in a dtype that JAX has."""
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "__jax_array__"):
        return jnp.asarray(value)
    array = np.asarray(value)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def _check_image(image: ArrayLike, what: str, batched: bool) -> Any:
    array = _as_array(image)
    shape = "(B, H, W, 3)" if batched else "(H, W, 3)"
    if array.ndim != 3 + batched or array.shape[-1] != 3:
        raise ValueError(f"{what} must be {shape}, not {array.shape}{_shape_hint(array, batched)}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        hint = "; divide by 255" if array.dtype == np.uint8 else ""
        raise ValueError(f"{what} must be floating point in [0, 1], not {array.dtype}{hint}")
    if jnp.finfo(array.dtype).bits < 32:
        raise ValueError(
            f"{what} is {array.dtype}, too coarse for pixels that are optimised: use float32, and "
            f"VGG19(dtype=jnp.{array.dtype}) for the network"
        )
    _check_range(array, what)
    return array


def _shape_hint(array: Any, batched: bool) -> str:
    shape = array.shape[-3:]
    if array.ndim == 4 and not batched:
        return "; a batch is for stylize_batch, and several styles are a tuple"
    if array.ndim == 3 and batched and shape[-1] == 3:
        return "; one picture for all pairs must be repeated for each"
    if array.ndim == 3 + batched and shape[0] in (1, 3, 4) and shape[-1] > 4:
        return "; channels come last: use jnp.moveaxis(image, -3, -1)"
    if array.ndim == 3 + batched and shape[-1] == 4:
        return ", which looks like RGBA: leave the alpha out, image[..., :3]"
    if array.ndim == 2 + batched or shape[-1:] == (1,):
        return ", which looks like grey: repeat it for the three channels"
    return ""


def _check_range(array: Any, what: str) -> None:
    """Refuses what is clearly not in [0, 1]; of what is traced nothing is known."""
    if isinstance(array, jax.core.Tracer) or array.size == 0:
        return
    if isinstance(array, jax.Array):
        if not array.is_fully_addressable:
            return
        with jax.ensure_compile_time_eval():  # so that it is told under somebody's jit too
            low, high = jax.device_get(_extremes(array))
    else:
        low, high = np.min(array), np.max(array)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{what} has values that are not finite")
    slack = _OVERSHOOT[what]
    if -slack <= low and high <= 1 + slack:
        return
    advice = "bring them to [0, 1]"
    if low >= 0:
        advice = f"divide by {255 if high <= 255 else 65535 if high <= 65535 else f'{high:g}'}"
    elif low >= -1 and high <= 1:
        advice = "these look like [-1, 1]: take (x + 1) / 2"
    elif max(-low, high) < 5:
        advice = "these look standardised: undo that"
    raise ValueError(f"{what} must be in [0, 1], but has values from {low:g} to {high:g}: {advice}")


@jax.jit
def _extremes(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.min(array), jnp.max(array)


def _check_styles(style: Style | None, recipe: Recipe, batched: bool) -> tuple[Any, ...]:
    styles = tuple(
        _check_image(each, "style", batched)
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
    layers = layers_of(terms)
    minimum, (height, width) = recipe.network.minimum_size(layers), image.shape[-3:-1]
    if min(height, width) < minimum:
        raise ValueError(
            f"{what} of {width}x{height} px is too small for {', '.join(layers)}: at least "
            f"{minimum}x{minimum} px"
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
    return problem._replace(mesh=mesh, turned=turned)


def _fill(pairs: Any, missing: int) -> Any:
    """Repeats the last pair of a batch."""
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


def _check_without_content(recipe: Recipe, init: Any) -> None:
    if needing := [term.name for term in recipe.terms if term.target_image == "content"]:
        raise ValueError(f"{needing[0]} needs a content image, but there is none")
    if isinstance(init, str) or recipe.color != "style":
        raise ValueError(
            "without a content image, init must be an image, and the recipe's color `style`"
        )


def _check_init(
    init: ArrayLike | str, content: Any, key: Any, batched: bool
) -> tuple[Any, Any, Any]:
    """The image to start from, or the data of random keys and what to make of them.

    All are None for a start from the content.
    """
    if not isinstance(init, str):
        image = _check_image(init, "init", batched)
        if image.shape != content.shape:
            raise ValueError(f"init has shape {image.shape}, content {content.shape}")
        return image.astype(content.dtype), None, None
    if init == "content":
        return None, None, None
    if init not in ("noise", "mean"):
        raise ValueError(f"init {init!r} is not content, noise, mean or an image")
    if key is None:
        raise ValueError(f"a start from {init} needs key=jax.random.key(seed)")
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        kind = jax.random.key_impl(key)
        data, shape = jax.random.key_data(key), key.shape
    elif dtype == np.uint32 and key.ndim > 0:  # a jax.random.PRNGKey
        kind, data, shape = None, key, key.shape[:-1]
    else:
        raise ValueError(f"key must be a jax.random.key(seed), not {key!r}")
    valid = [(), content.shape[:1]] if batched else [()]
    if shape not in valid:
        raise ValueError(f"key has shape {shape} instead of {' or '.join(map(str, valid))}")
    if batched and shape == ():
        data = _split_key(data, kind, len(content))
    return None, data, (init, kind)


def _wrap_key(data: jax.Array, kind: str | None) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=kind)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _split_key(data: jax.Array, kind: str | None, number: int) -> jax.Array:
    return jax.random.key_data(jax.random.split(_wrap_key(data, kind), number))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _noise(
    problem: Problem, kind: tuple[str, str | None], batched: bool, content: jax.Array, keys: Any
) -> jax.Array:
    """Images to start from, each made on the devices that its pair is on."""
    init, implementation = kind

    def noise(content: jax.Array, data: jax.Array) -> jax.Array:
        key, (shape, dtype) = _wrap_key(data, implementation), (content.shape, content.dtype)
        if init == "noise":
            return jax.random.uniform(key, shape, dtype)
        mean, white = problem.network.mean_color(dtype=dtype), problem.network.white
        return mean[None, None] + 0.001 / white * jax.random.normal(key, shape, dtype)

    each = jax.vmap(noise) if batched else noise
    made: jax.Array = over(problem.mesh, each, (batched, batched))(content, keys)
    return made


def _numbers(values: Any, dtype: Any) -> Any:
    """An array of numbers, on the host if they are there."""
    array = _as_array(values)
    if not jnp.issubdtype(array.dtype, jnp.number) and array.dtype != bool:
        raise ValueError(f"numbers are needed, not {values!r}")
    return array.astype(dtype)


def _broadcast(array: Any, shape: tuple[int, ...]) -> Any:
    return (jnp if isinstance(array, jax.Array) else np).broadcast_to(array, shape)


def _merge_weights(
    recipe: Recipe, weights: Weights | None, content: Any, batched: bool
) -> dict[str, Any]:
    weights = {} if weights is None else weights
    if not isinstance(weights, Mapping):
        raise ValueError(f"weights must be a dict of term name -> factor, not {weights!r}")
    if unknown := set(weights) - set(recipe.weights):
        raise ValueError(
            f"weights for {', '.join(map(str, unknown))}, but the terms of recipe {recipe.name} "
            f"are {', '.join(sorted(recipe.weights))}"
        )
    # All of them arrays, of the pixels' dtype, so that other numbers do not compile anew.
    factors = {
        name: _numbers(weights.get(name, factor), content.dtype)
        for name, factor in recipe.weights.items()
    }
    shapes = [(), content.shape[:1]] if batched else [()]
    for name, factor in factors.items():
        if factor.shape not in shapes:
            raise ValueError(
                f"the weight of {name} has shape {factor.shape} instead of "
                f"{' or '.join(map(str, shapes))}"
            )
    if not batched:
        return factors
    return {name: _broadcast(factor, (len(content),)) for name, factor in factors.items()}


def _check_style_weights(
    style_weights: StyleWeights | None,
    recipe: Recipe,
    styles: Sequence[Any],
    masked: bool,
    batched: bool,
) -> Any:
    """The shares, `(S,)`, or `(B, S)` for a batch; or a dict of such."""
    if style_weights is None:
        return None
    if not styles:
        raise ValueError("style_weights, but there is no style")
    if isinstance(style_weights, Mapping):
        layers = layers_of([term for term in recipe.terms if term.target_image == "style"])
        if unknown := set(style_weights) - set(layers):
            raise ValueError(
                f"style_weights for {', '.join(map(str, unknown))}, but the style's layers are "
                f"{', '.join(layers)}"
            )
        if masked:
            raise ValueError("style_weights by layer mix styles, which masks keep apart")
        return {
            layer: _check_style_weights(shares, recipe, styles, masked, batched)
            for layer, shares in style_weights.items()
        }
    shares = _numbers(style_weights, styles[0].dtype)
    valid = [(len(styles),)] + [(len(styles[0]), len(styles))] * batched
    if shares.shape not in valid:
        raise ValueError(
            f"style_weights of shape {shares.shape} for {len(styles)} styles instead of "
            f"{' or '.join(map(str, valid))}"
        )
    # In NumPy, which says it under somebody's jit too.
    if not isinstance(shares, jax.core.Tracer) and not np.all(np.sum(np.asarray(shares), -1) > 0):
        raise ValueError("style_weights must have a positive sum")
    return _broadcast(shares, valid[-1])


def _check_masks(
    masks: ArrayLike | None,
    style_masks: Sequence[ArrayLike | None] | None,
    content: Any,
    styles: Sequence[Any],
    batched: bool,
) -> tuple[Any, tuple[Any, ...] | None]:
    """The masks, `([B,] S, H, W)`, and those of the styles, `([B,] h, w)`."""

    def checked(mask: ArrayLike) -> Any:
        array = _numbers(mask, content.dtype)
        _check_range(array, "mask")
        return array

    found = None
    if masks is not None:
        found = checked(masks)
        shape = (len(styles), *content.shape[-3:-1])
        valid = [shape] + [(len(content), *shape)] * batched
        if found.shape not in valid:
            raise ValueError(
                f"masks of shape {found.shape} instead of (S, H, W) = {shape}"
                + f" or (B, S, H, W) = {valid[-1]}" * batched
            )
        found = _broadcast(found, valid[-1])
    if style_masks is None:
        return found, None
    if not isinstance(style_masks, tuple | list) or len(style_masks) != len(styles):
        raise ValueError(f"style_masks must be a list of {len(styles)}, one for each style")
    of_styles = tuple(None if mask is None else checked(mask) for mask in style_masks)
    for mask, image in zip(of_styles, styles, strict=True):
        if mask is not None and mask.shape != image.shape[:-1]:
            raise ValueError(f"a style mask of shape {mask.shape} for a style of {image.shape}")
    return found, of_styles


@functools.lru_cache(maxsize=64)
def _objective(problem: Problem) -> Objective:
    """The objective as a solver wants it; one function per setting, so that jit knows it again."""

    def objective(x: jax.Array, params: Params, targets: Any, weights: Weights) -> Any:
        image = problem.turn(x)
        return evaluate(
            problem.network, params, problem.terms, targets, weights, image, tile=problem.tile
        )

    return objective


@functools.partial(jax.jit, static_argnums=(0, 1))
def _targets(
    problem: Problem,
    batched: bool,
    params: Params,
    content: jax.Array,
    styles: tuple[jax.Array, ...],
    style_weights: Any,
    masks: jax.Array | None,
    style_masks: tuple[jax.Array | None, ...] | None,
) -> Any:
    # For what is computed once, Winograd's convolutions take longer to compile than they gain. In
    # windows the same few kernels go over all of a large picture.
    if problem.tile is None:
        params = problem.network.prepare(params, winograd=False)

    def prepare(params: Any, content: Any, styles: Any, shares: Any, *guides: Any) -> Any:
        masks, style_masks = guides
        return prepare_targets(
            problem.network,
            params,
            problem.terms,
            content,
            styles,
            style_weights=shares,
            masks=masks,
            style_masks=style_masks,
            tile=problem.tile,
        )

    if batched:
        prepare = jax.vmap(prepare, (None, 0, 0, 0, 0, 0))
    arguments = params, content, styles, style_weights, masks, style_masks
    return over(problem.mesh, prepare, (False, *[batched] * 5))(*arguments)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _start(
    problem: Problem,
    solver: Any,
    batched: bool,
    x: jax.Array,
    carried: Any,
    params: Params,
    targets: Any,
    weights: Weights,
    settings: Mapping[str, Any] | None = None,
) -> State:
    """The state before the first step; `settings` are the solver's numbers, if not its own."""

    def start(x: jax.Array, carried: Any, settings: Any, *arguments: Any) -> State:
        solver_here = with_settings(solver, settings)
        x = problem.turn(x)
        state = solver_here.start(_objective(problem), x, *arguments)
        state = state if carried is None else solver_here.warm_start(state, carried)
        return split_state(state, x, problem.stride)

    if batched:
        start = jax.vmap(start, (0, 0, None, None, 0, 0))
    start = over(problem.mesh, start, (batched, batched, False, False, batched, batched))
    return start(x, carried, settings or {}, params, targets, weights)


def _advance_by_steps(
    problem: Problem,
    solver: Any,
    batched: bool,
    state: State,
    stop: jax.Array,
    params: Params,
    targets: Any,
    weights: Weights,
    settings: Mapping[str, Any] | None = None,
) -> State:
    """Steps until `stop` are made; `settings` are the solver's numbers, if not its own."""

    def run(
        state: State, stop: jax.Array, params: Any, targets: Any, weights: Any, settings: Any
    ) -> State:
        params = problem.network.prepare(params)
        step = functools.partial(with_settings(solver, settings).step, _objective(problem))
        if batched:
            step = jax.vmap(step, (0, None, 0, 0))
        return advance(lambda state: step(state, params, targets, weights), state, stop)

    run = over(problem.mesh, run, (batched, False, False, batched, batched, False))
    return run(state, stop, params, targets, weights, settings or {})


_advance = jax.jit(_advance_by_steps, static_argnums=(0, 1, 2))
_advance_in_place = jax.jit(_advance_by_steps, static_argnums=(0, 1, 2), donate_argnums=3)


def _progress(state: State) -> tuple[bool, int]:
    """Whether any problem goes on, and the number of steps made."""
    active, steps = jax.device_get(_progress_of(state.status, state.step))
    return bool(active), int(steps)


@jax.jit
def _progress_of(status: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.any(is_active(status)), jnp.max(step)


def _shrink(image: jax.Array, scale: float) -> jax.Array:
    return image if scale == 1 else _resize(image, scaled_shape(image.shape, scale))


_resize = jax.jit(resize, static_argnums=1)


@functools.partial(jax.jit, static_argnames="batched")
def _match_color(style: jax.Array, content: jax.Array, *, batched: bool) -> jax.Array:
    return (jax.vmap(match_color) if batched else match_color)(style, content)


def _shrink_mask(mask: jax.Array, scale: float) -> jax.Array:
    return mask if scale == 1 else _resize_mask(mask, scale)


@functools.partial(jax.jit, static_argnums=1)
def _resize_mask(mask: jax.Array, scale: float) -> jax.Array:
    *_, height, width, _ = scaled_shape((*mask.shape, 1), scale)
    # Linear: a mask stays in [0, 1], and is zero where all that goes into a pixel is.
    return jax.image.resize(mask, (*mask.shape[:-2], height, width), "linear")


@functools.partial(jax.jit, static_argnums=3)
def _carry(painted: jax.Array, start: jax.Array, next_start: jax.Array, carry: str) -> jax.Array:
    """Takes what was painted over `start` to the size of `next_start`."""
    if carry == "image":
        return resize(painted, next_start.shape)
    return next_start + resize(painted - start, next_start.shape)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _result(
    problem: Problem,
    batched: bool,
    lengths: tuple[int, ...],
    stage: int,
    carry: str,
    filter_size: int,
    state: State,
    earlier: tuple[tuple[Any, ...], jax.Array],
    starts: tuple[jax.Array, jax.Array] | None,
    chroma: jax.Array | None,
) -> StyleResult:
    """What a state shows.

    `lengths` are the steps at each size, of which this is number `stage`. `earlier` are traces,
    with the status, and the number of evaluations of the smaller sizes. `starts`, at a smaller
    size, are the images started from there and at full size. `chroma` is the content, where its
    chroma is to be kept.
    """
    image = problem.turn(state.best_x)
    if starts is not None:
        image = _carry(image, *starts, carry)
    if chroma is not None:
        image = (jax.vmap(luminance_only) if batched else luminance_only)(image, chroma)

    def finish(x: jax.Array) -> jax.Array:
        return median_filter(jnp.clip(x, 0, 1), size=filter_size)

    traces, evaluations = earlier
    last = jax.tree.map(
        lambda leaf: jnp.repeat(leaf[..., -1:], sum(lengths[stage + 1 :]), axis=-1), state.trace
    )
    # A trace has room for more steps than were asked for.
    made = [each[:2] for each in traces] + [state.trace]
    made = [
        jax.tree.map(lambda leaf, length=length: leaf[..., :length], each)
        for each, length in zip(made, lengths, strict=False)
    ]
    trace, term_traces = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=-1), *made, last)
    status = state.status
    for *_, before in traces:
        trouble = (before == int(Status.RECOVERED)) | (before == int(Status.NON_FINITE_START))
        trouble &= status != int(Status.NON_FINITE_START)
        status = jnp.where(trouble, int(Status.RECOVERED), status)
    result = StyleResult(
        image=(jax.vmap(finish) if batched else finish)(image),
        loss=state.best_value,
        term_losses=state.best_aux,
        trace=trace,
        num_evaluations=evaluations + state.num_evaluations,
        status=status,
        term_traces=term_traces,
    )
    if problem.mesh is None or not problem.mesh.is_multi_process:
        return result
    # Each process can then read all of it.
    return jax.lax.with_sharding_constraint(result, NamedSharding(problem.mesh, PartitionSpec()))


def median_filter(image: jax.Array, *, size: int = 3) -> jax.Array:
    """Replaces each pixel by the median of the `size` x `size` pixels around it, per channel.

    Args:
        image: `(H, W, c)` of any scale; its border is continued by its outermost pixels.
        size: odd; 1 returns the image.

    Returns:
        `(H, W, c)`.

    Raises:
        ValueError: if `size` is not odd and positive, or the image is not of rank 3.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"the size of a median filter must be odd and positive, not {size}")
    if image.ndim != 3:
        raise ValueError(f"image must be (H, W, c), not {image.shape}; batch with jax.vmap")
    if size == 1:
        return image
    height, width, _ = image.shape
    border = size // 2
    padded = jnp.pad(image, ((border, border), (border, border), (0, 0)), mode="edge")
    window = jnp.stack(
        [padded[i : i + height, j : j + width] for i in range(size) for j in range(size)]
    )
    return jnp.sort(window, axis=0)[size * size // 2]
