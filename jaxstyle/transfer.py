"""Style transfer: `stylize` a pair, `stylize_batch` many, `stylize_steps` to watch.

The whole algorithm is here: at each size of the pyramid, compute the targets once, then let the
solver move the pixels down the objective.
"""

import collections
import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxstyle import compiled
from jaxstyle.checkpoint import Checkpoint, restore_smaller, restore_start, restore_state
from jaxstyle.compiled import StyleResult, call_jitted
from jaxstyle.finishing import colors_of
from jaxstyle.image import shrink, shrink_mask
from jaxstyle.inputs import Inputs, prepare_inputs, put
from jaxstyle.network.protocol import Params
from jaxstyle.options import StylizeOptions, lists_options, resolve_options
from jaxstyle.recipe import Recipe
from jaxstyle.schedule import Stage, stages_of
from jaxstyle.solvers.protocol import split_settings
from jaxstyle.solvers.state import State
from jaxstyle.start import make_detail
from jaxstyle.targets import Style


@lists_options
def stylize(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    **options: Unpack[StylizeOptions],
) -> StyleResult:
    """Paints `content` in the style of `style`.

    Args:
        params: the network's weights; `jaxstyle.io.load_params` returns those of VGG19.
        content: `(H, W, 3)` floating-point sRGB in [0, 1]. Values from -0.5 to 1.5 are accepted.
            None, with a picture as `init`, if no term needs a content (texture synthesis).
        style: `(h, w, 3)` floating-point sRGB in [0, 1], likewise, of any size; or a tuple of
            these. None if no term needs a style (reconstruction).
        **options: see `StylizeOptions`.

    Returns:
        A `StyleResult`. Numerical problems are reported in its `status`.

    Raises:
        ValueError: for wrong shapes, pictures too small for the network, pixels or masks that are
            not finite or clearly not in [0, 1] (not checked under `jax.jit`), unknown terms, or a
            start from noise without a key.
        TypeError: for an argument of another name.
    """
    return _last(_run(stylize, params, content, style, options, _Watch(), batched=False))


@lists_options
def stylize_steps(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    every: int | None = 10,
    checkpoint: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    call: Callable[..., Any] = call_jitted,
    **options: Unpack[StylizeOptions],
) -> Iterator[tuple[int, StyleResult]]:
    """Like `stylize`, but yields the best result so far every few steps.

    Stop iterating to stop the run. Any `every` runs the same compiled program. The arguments are
    validated when the function is called, before the first step.

    Args:
        params: see `stylize`.
        content: see `stylize`.
        style: see `stylize`.
        **options: see `StylizeOptions`.
        every: steps between two results; None yields the last result only.
        checkpoint: resumes from there; the first result repeats the last one before the
            checkpoint. All other arguments must be the same as before; `num_steps` may be larger.
        keep: called with a checkpoint before each result after the first step. It must read the
            arrays before it returns, since the next step overwrites them.
        call: how the large compiled parts of the run are called, by default
            `call(function, static, *arrays)` is `function(*static, *arrays)`. `function` is jitted
            and its first arguments are static. For programs that keep compiled functions.

    Yields:
        The number of steps made, first 0, and the best result so far.

    Raises:
        ValueError: see `stylize`; also if `every` is below 1, if the checkpoint is of another run,
            or for a checkpoint with `ScipyLBFGSB`.
        TypeError: for an argument of another name.
    """
    watch = _Watch(every, checkpoint, keep, call)
    return _run(stylize_steps, params, content, style, options, watch, batched=False)


@lists_options
def stylize_batch(
    params: Params,
    contents: ArrayLike | None,
    styles: Style | None,
    **options: Unpack[StylizeOptions],
) -> StyleResult:
    """Paints B pairs in lockstep; each has its own solver state, guard and stop.

    Args:
        params: see `stylize`.
        contents: `(B, H, W, 3)`, otherwise as in `stylize`.
        styles: `(B, h, w, 3)`, or a tuple of these.
        **options: see `StylizeOptions`.

    Returns:
        A `StyleResult` with a leading B on every field.

    Raises:
        ValueError: see `stylize`.
        TypeError: for an argument of another name.
    """
    return _last(_run(stylize_batch, params, contents, styles, options, _Watch(), batched=True))


@lists_options
def stylize_batch_steps(
    params: Params,
    contents: ArrayLike | None,
    styles: Style | None,
    *,
    every: int | None = 10,
    call: Callable[..., Any] = call_jitted,
    **options: Unpack[StylizeOptions],
) -> Iterator[tuple[int, StyleResult]]:
    """Like `stylize_batch`, but yields the best results so far every few steps.

    Args:
        params: see `stylize`.
        contents: see `stylize_batch`.
        styles: see `stylize_batch`.
        **options: see `StylizeOptions`.
        every: see `stylize_steps`.
        call: see `stylize_steps`.

    Yields:
        The number of steps made, first 0, and the best results so far.

    Raises:
        ValueError: see `stylize_steps`.
        TypeError: for an argument of another name.
    """
    watch = _Watch(every, call=call)
    return _run(stylize_batch_steps, params, contents, styles, options, watch, batched=True)


def _last(steps: Iterator[tuple[int, StyleResult]]) -> StyleResult:
    ((_, result),) = collections.deque(steps, maxlen=1)
    return result


class _Watch(NamedTuple):
    """How a caller follows a run, see `stylize_steps`."""

    every: int | None = None
    checkpoint: Checkpoint | None = None
    keep: Callable[[Checkpoint], None] | None = None
    call: Callable[..., Any] = call_jitted


class _Run(NamedTuple):
    """What stays the same from the first size of a run to the last."""

    inputs: Inputs
    recipe: Recipe
    stages: Sequence[Stage]
    batched: bool
    watch: _Watch
    from_detail: bool
    """Whether the first size begins with `make_detail`, in the place of the content."""


class Progress(NamedTuple):
    """What the sizes that are done hand to the next one."""

    traces: tuple[Any, ...]
    """For each of them loss, losses of the terms, and status; see `Checkpoint`."""
    num_evaluations: jax.Array
    painted: tuple[jax.Array, jax.Array] | None = None
    """The picture that the last of them ended with, and the one that it began with."""
    carried: Any = None
    """What the solver takes over from there."""


def _run(
    function: Callable[..., Any],
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    given: Mapping[str, Any],
    watch: _Watch,
    *,
    batched: bool,
) -> Iterator[tuple[int, StyleResult]]:
    """Validates the arguments of a call of `function`; returns the iterator that paints."""
    options = resolve_options(function, given)
    recipe, solver, every = options["recipe"], options["solver"], watch.every
    if every is not None and not (isinstance(every, int) and every >= 1):
        raise ValueError(f"every must be at least 1 step, not {every}")
    if solver.on_host and (watch.checkpoint or watch.keep):
        raise ValueError(f"{type(solver).__name__} runs on the host, and has no checkpoints")
    inputs = prepare_inputs(params, content, style, options, batched=batched, call=watch.call)
    stages = stages_of(recipe, solver, inputs.problem, inputs.content, inputs.styles)
    inputs.problem.check_windows(inputs.content.shape, [stage.scale for stage in stages])
    progress = Progress((), put(np.zeros((), np.int32), inputs.problem.mesh, batched=False))
    if watch.checkpoint is not None:
        progress = Progress(*restore_smaller(watch.checkpoint, inputs.weights, stages))
    from_detail = isinstance(options["init"], str) and options["init"] == "detail"
    return _paint(_Run(inputs, recipe, stages, batched, watch, from_detail), progress)


def _paint(run: _Run, progress: Progress) -> Iterator[tuple[int, StyleResult]]:
    """Paints at one size after the other, beginning with the checkpoint's, or else the first."""
    checkpoint = run.watch.checkpoint
    first = 0 if checkpoint is None else int(checkpoint.stage)
    for stage in range(first, len(run.stages)):
        resume = checkpoint if stage == first else None
        progress = yield from _paint_size(run, stage, progress, resume)


def _paint_size(
    run: _Run, stage: int, before: Progress, resume: Checkpoint | None
) -> Generator[tuple[int, StyleResult], None, Progress]:
    """Paints at one size; yields the steps made at all sizes, and the result so far."""
    inputs, recipe, (every, _, keep, call) = run.inputs, run.recipe, run.watch
    scale, solver, problem, carry = run.stages[stage]
    lengths = tuple(each.solver.num_steps for each in run.stages)
    wraps = problem.network.wraps
    content, start = (shrink(each, scale, wraps) for each in (inputs.content, inputs.start))
    styles = tuple(shrink(each, scale) for each in inputs.styles)
    guides = jax.tree.map(functools.partial(shrink_mask, scale=scale), inputs.guides)
    static, index = (problem, run.batched), put(np.int32(stage), problem.mesh, batched=False)
    x, begun, last = start, None, stage == len(run.stages) - 1
    if before.painted is not None:
        x = compiled.carry_over(*before.painted, start, carry, wraps)
    elif run.from_detail:
        x = call(make_detail, static, content, styles, guides[1])
    if stage > 0 and problem.needs_start:
        begun = x
        if resume is not None:
            resume, begun = restore_start(resume, x, problem.mesh)
    pictures = content, styles, inputs.shares, *guides, inputs.draws, begun, index
    targets = call(compiled.compute_targets, static, inputs.params, *pictures, inputs.arrays)
    blend = None
    if recipe.strength != 1:
        strength = np.asarray(recipe.strength, inputs.content.dtype)
        blend = inputs.content, put(strength, problem.mesh, batched=False)
    for steps, state in _solve(run, stage, x, before.carried, targets, resume):
        if steps == 0 and stage > 0 and compiled.read_progress(state)[0]:
            continue  # shown already, as the last result of the size before
        if keep is not None and steps > 0:
            kept = state if begun is None else (state, begun)
            keep(Checkpoint(stage, steps, kept, before.traces, before.num_evaluations))
        if every is None and not last:
            continue  # only the end was asked for
        result = call(
            compiled.make_result,
            (problem, run.batched, lengths, stage, run.stages[-1].carry, recipe.median_filter),
            *(state, (before.traces, before.num_evaluations)),
            None if last else (start, inputs.start),
            colors_of(recipe, inputs.content, inputs.styles, inputs.shares, inputs.guides),
            blend,
        )
        if last and compiled.changes_after(recipe, solver):
            own = call(compiled.evaluate_image, static, result.image, *inputs.arguments(targets))
            result = result._replace(loss=own[0], term_losses=own[1])
        if run.batched and len(inputs.content) > inputs.num_pairs:
            result = compiled.take_pairs(result, inputs.num_pairs)
        yield sum(lengths[:stage]) + steps, result
    if last:
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
    _, solver, problem, _ = run.stages[stage]
    inputs, (every, *_, call) = run.inputs, run.watch
    arguments = inputs.arguments(targets)
    made, total = 0, solver.num_steps
    if solver.on_host:
        state = solver.start(problem, x, *arguments)
        more = functools.partial(solver.advance, problem)
    else:
        fixed, settings = split_settings(solver, x.dtype)
        static = (problem, fixed, run.batched)
        arguments = (*arguments, put(settings, problem.mesh, batched=False))
        state = call(compiled.first_state, static, x, carried, *arguments)
        if resume is not None:
            made, state = int(resume.steps), restore_state(resume.state, state)
        # Inside somebody's own jit or vmap the state is no buffer that can be donated.
        leaves = jax.tree.leaves((state, arguments))
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        advance = compiled.advance if traced else compiled.advance_in_place
        more = functools.partial(call, advance, static)

    def advance_to(stop: int) -> State:
        limit = put(np.asarray(stop, np.int32), problem.mesh, batched=False)
        return more(state, limit, *arguments)

    if every is None:  # reads nothing back before the end, so that `stylize` can be traced
        yield total, advance_to(total)
        return
    while True:
        state = advance_to(made)
        active, steps = compiled.read_progress(state)
        made = made if active else steps
        yield made, state
        if not active or made == total:
            return
        made = min(made + every, total)
