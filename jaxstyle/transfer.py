"""Style transfer: `stylize` a pair, `stylize_batch` many, `stylize_steps` to watch.

The whole algorithm is here: at each size of the pyramid, compute the targets once, then let the
solver move the pixels down the objective.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxstyle import compiled
from jaxstyle.checkpoint import Checkpoint, restore_smaller, restore_state
from jaxstyle.compiled import StyleResult, call_jitted
from jaxstyle.evaluation import Weights
from jaxstyle.image import scaled_shape, shrink, shrink_mask
from jaxstyle.inputs import Inputs, prepare, put
from jaxstyle.network.protocol import Params
from jaxstyle.recipes import DEFAULT, Recipe
from jaxstyle.solvers.protocol import Solver, check_solver, split_settings
from jaxstyle.solvers.state import State
from jaxstyle.targets import Style, StyleWeights
from jaxstyle.terms.protocol import layers_of


def stylize(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | None = None,
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
        solver: over the recipe's.
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
    solver: Solver | None = None,
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
    solver: Solver | None = None,
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
    solver: Solver | None = None,
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


class _Run(NamedTuple):
    """What stays the same from the first size of a run to the last."""

    inputs: Inputs
    recipe: Recipe
    sizes: Sequence[tuple[float, Solver]]
    """Of each size its scale, 1 for the last one, and its solver."""
    batched: bool
    every: int | None
    keep: Callable[[Checkpoint], None] | None
    call: Callable[..., Any]


class Progress(NamedTuple):
    """What the sizes that are done hand to the next one."""

    traces: tuple[Any, ...]
    """For each of them loss, losses of the terms, and status; see `Checkpoint`."""
    num_evaluations: jax.Array
    painted: tuple[jax.Array, jax.Array] | None = None
    """The picture that the last of them ended with, and the one that it began with."""
    carried: Any = None
    """The solver's own state there, if the solver continues from it."""


def _run(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    every: int | None,
    batched: bool,
    recipe: Recipe = DEFAULT,
    solver: Solver | None = None,
    checkpoint: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    call: Callable[..., Any] = call_jitted,
    **settings: Any,
) -> Iterator[tuple[int, StyleResult]]:
    """Validates all arguments, and returns the iterator that makes the steps."""
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe must be a Recipe, such as jaxstyle.recipes.GATYS, not {recipe!r}")
    solver = recipe.solver if solver is None else solver
    check_solver(solver)
    if every is not None and not (isinstance(every, int) and every >= 1):
        raise ValueError(f"every must be at least 1 step, not {every}")
    if solver.on_host:
        _check_on_host(solver, batched, checkpoint is not None or keep is not None)
    inputs = prepare(
        params, content, style, recipe=recipe, solver=solver, batched=batched, **settings
    )
    sizes = _sizes(recipe, solver, inputs.content, inputs.styles)
    progress = Progress((), put(np.zeros((), np.int32), inputs.problem.mesh, batched=False))
    if checkpoint is not None:
        progress = Progress(*restore_smaller(checkpoint, inputs.weights, len(sizes)))
    run = _Run(inputs, recipe, sizes, batched, every, keep, call)
    return _paint(run, progress, checkpoint)


def _sizes(
    recipe: Recipe, solver: Solver, content: jax.Array, styles: Sequence[jax.Array]
) -> list[tuple[float, Solver]]:
    """Returns the sizes to paint at, smallest first, each as a scale and a solver."""
    sizes: list[tuple[float, Solver]] = []
    if recipe.pyramid is not None:
        minimum = recipe.network.minimum_size(layers_of(recipe.terms))
        for scale, steps in recipe.pyramid.scales(*content.shape[-3:-1]):
            shapes = [scaled_shape(image.shape, scale) for image in (content, *styles)]
            # Sizes are left out at which one of the pictures is too small for the network.
            if min(min(shape[-3:-1]) for shape in shapes) >= minimum:
                sizes.append((scale, dataclasses.replace(solver, num_steps=steps)))
    return [*sizes, (1.0, solver)]


def _paint(
    run: _Run, progress: Progress, checkpoint: Checkpoint | None
) -> Iterator[tuple[int, StyleResult]]:
    """Paints at one size after the other, from the checkpoint's, or else the first one, on."""
    first = 0 if checkpoint is None else int(checkpoint.stage)
    for stage in range(first, len(run.sizes)):
        resume = checkpoint if stage == first else None
        progress = yield from _paint_size(run, stage, progress, resume)


def _paint_size(
    run: _Run, stage: int, before: Progress, resume: Checkpoint | None
) -> Generator[tuple[int, StyleResult], None, Progress]:
    """Paints at one size; yields the steps made at all sizes, and the result so far."""
    inputs, recipe, call = run.inputs, run.recipe, run.call
    problem, (scale, solver) = inputs.problem, run.sizes[stage]
    lengths = tuple(solver.num_steps for _, solver in run.sizes)
    content, styles, start = jax.tree.map(
        functools.partial(shrink, scale=scale), (inputs.content, inputs.styles, inputs.start)
    )
    guides = jax.tree.map(functools.partial(shrink_mask, scale=scale), inputs.guides)
    targets = call(
        compiled.compute_targets,
        (problem, run.batched),
        *(inputs.params, content, styles, inputs.shares, *guides, inputs.arrays),
    )
    x = start
    if before.painted is not None:
        x = compiled.carry_over(*before.painted, start, recipe.carry)
    for steps, state in _solve(run, stage, x, before.carried, targets, resume):
        if steps == 0 and stage > 0 and compiled.read_progress(state)[0]:
            continue  # shown already, as the last result of the size before
        if run.keep is not None and steps > 0:
            run.keep(Checkpoint(stage, steps, state, before.traces, before.num_evaluations))
        if run.every is None and scale != 1:
            continue  # only the end was asked for
        result = call(
            compiled.make_result,
            (problem, run.batched, lengths, stage, recipe.carry, recipe.median_filter),
            *(state, (before.traces, before.num_evaluations)),
            None if scale == 1 else (start, inputs.start),
            inputs.content if recipe.color == "luminance" else None,
        )
        if run.batched and len(inputs.content) > inputs.num_pairs:
            result = compiled.take_pairs(result, inputs.num_pairs)
        yield sum(lengths[:stage]) + steps, result
    if scale == 1:
        return before
    return Progress(
        (*before.traces, (*state.trace, state.status)),
        before.num_evaluations + state.num_evaluations,
        (problem.turn(state.best_x), start),
        solver.carried(state),
    )


def _solve(
    run: _Run, stage: int, x: jax.Array, carried: Any, targets: Any, resume: Checkpoint | None
) -> Iterator[tuple[int, State]]:
    """Runs the solver at one size from `x`; yields the steps made there, and its state."""
    problem, solver = run.inputs.problem, run.sizes[stage][1]
    inputs = run.inputs
    arguments: tuple[Any, ...] = (inputs.params, targets, inputs.weights, inputs.arrays)
    made, total = 0, solver.num_steps
    if solver.on_host:
        state = solver.start(problem, x, *arguments)
        more = functools.partial(solver.advance, problem)
    else:
        fixed, settings = split_settings(solver, x.dtype)
        static = (problem, fixed, run.batched)
        arguments = (*arguments, put(settings, problem.mesh, batched=False))
        state = run.call(compiled.first_state, static, x, carried, *arguments)
        if resume is not None:
            made, state = int(resume.steps), restore_state(resume.state, state)
        # Inside somebody's own jit or vmap the state is no buffer that can be donated.
        leaves = jax.tree.leaves((state, arguments))
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        advance = compiled.advance if traced else compiled.advance_in_place
        more = functools.partial(run.call, advance, static)

    def advance_to(stop: int) -> State:
        limit = put(np.asarray(stop, np.int32), problem.mesh, batched=False)
        return more(state, limit, *arguments)

    if run.every is None:  # reads nothing back before the end, so that `stylize` can be traced
        yield total, advance_to(total)
        return
    while True:
        state = advance_to(made)
        active, steps = compiled.read_progress(state)
        made = made if active else steps
        yield made, state
        if not active or made == total:
            return
        made = min(made + run.every, total)


def _check_on_host(solver: Solver, batched: bool, checkpoints: bool) -> None:
    name = type(solver).__name__
    if batched:
        raise ValueError(f"{name} runs on the host, one pair at a time: use `stylize`")
    if checkpoints:
        raise ValueError(f"{name} runs on the host, and has no state to save in a checkpoint")
