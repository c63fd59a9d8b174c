"""The compiled parts of a run: targets, first state, steps and result.

Each is a jitted function whose first arguments are static and whose arrays are all arguments. So
runs of one size share one compilation.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxstyle.evaluation import Weights
from jaxstyle.finishing import Colors, with_colors
from jaxstyle.image import median_filter, resize
from jaxstyle.network.protocol import Params
from jaxstyle.problem import Problem
from jaxstyle.recipe import Recipe
from jaxstyle.sampling import fold_in, redraw_targets
from jaxstyle.sharding import run_on_mesh, split_state
from jaxstyle.solvers import state as solver_state
from jaxstyle.solvers.protocol import Solver, with_settings
from jaxstyle.solvers.state import State, Status, is_active
from jaxstyle.targets import Targets, prepare_targets
from jaxstyle.terms.sampled import redraws


class StyleResult(NamedTuple):
    """The result of a run; in a batch every field has a leading dimension."""

    image: jax.Array
    """`(H, W, 3)` sRGB, clipped to [0, 1], after the recipe's median filter and strength."""
    loss: jax.Array
    """`()` the loss of `image`. At the smaller sizes of a pyramid, `solver_loss`."""
    term_losses: dict[str, jax.Array]
    """Term name -> `()` its part of `loss`, before it is multiplied by its weight."""
    trace: jax.Array
    """`(num_steps,)` the loss after each step. If the run stops early, its last loss fills the
    rest. Steps at the smaller sizes of a pyramid come first, with the loss at their size."""
    num_evaluations: jax.Array
    """`()` loss-and-gradient evaluations."""
    status: jax.Array
    """`()` a `Status`, that of the full size. If a smaller size of a pyramid ended with RECOVERED
    or NON_FINITE_START, it is RECOVERED, unless the full size has NON_FINITE_START."""
    term_traces: dict[str, jax.Array]
    """Term name -> `(num_steps,)` its part of `trace`, before it is multiplied by its weight."""
    solver_loss: jax.Array
    """`()` the lowest loss of the run, before clipping, and before the recipe's `color`, median
    filter and strength. It is never above that of the start at the full size. A solver without
    bounds reaches part of it by pixels outside of [0, 1], which no picture can have. With
    `Adam(average=...)`, which returns a mean of iterates, it is the last iterate's loss."""


def call_jitted(function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
    """Calls a compiled part of a run: a jitted function whose first arguments are static."""
    return function(*static, *arrays)


@functools.partial(jax.jit, static_argnums=(0, 1))
def compute_targets(
    problem: Problem,
    batched: bool,
    params: Params,
    content: jax.Array,
    styles: tuple[jax.Array, ...],
    style_weights: Any,
    masks: jax.Array | None,
    style_masks: tuple[jax.Array | None, ...] | None,
    keys: jax.Array | None = None,
    start: jax.Array | None = None,
    stage: jax.Array | int = 0,
    arrays: Sequence[Any] = (),
) -> Targets:
    """Computes what the terms compare with.

    `keys` are those of the terms that draw positions, `start` is the picture that this size begins
    with, `stage` is the index of this size, and `arrays` are those of the terms.
    """
    # Targets are computed once: Winograd's convolutions would take longer to compile than they
    # save. With windows, the same few kernels are run many times, which pays.
    if problem.tile is None:
        params = problem.network.prepare(params, winograd=False)

    def compute(
        params: Any, arrays: Any, stage: Any, content: Any, styles: Any, shares: Any, *guides: Any
    ) -> Targets:
        masks, style_masks, key, start = guides
        return prepare_targets(
            problem.network,
            params,
            problem.active(arrays),
            content,
            styles,
            style_weights=shares,
            masks=masks,
            style_masks=style_masks,
            tile=problem.tile,
            key=None if key is None else fold_in(key, stage),
            start=start,
        )

    if batched:
        compute = jax.vmap(compute, (None, None, None, *[0] * 7))
    compute = run_on_mesh(problem.mesh, compute, (False, False, False, *[batched] * 7))
    guides = style_weights, masks, style_masks, keys, start
    return compute(params, arrays, stage, content, styles, *guides)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def first_state(
    problem: Problem,
    solver: Any,
    batched: bool,
    x: jax.Array,
    carried: Any,
    params: Params,
    targets: Targets,
    weights: Weights,
    arrays: Sequence[Any] = (),
    settings: Mapping[str, Any] | None = None,
) -> State:
    """Returns the solver's state before the first step.

    `carried` is what the solver carries over from the size before, or None. `arrays` are those of
    the terms. `settings` are the solver's traced numbers, by default its own.
    """

    def start(x: jax.Array, carried: Any, settings: Any, *arguments: Any) -> State:
        solver_here = with_settings(solver, settings)
        x = problem.turn(x)
        state = solver_here.start(problem, x, *arguments)
        state = state if carried is None else solver_here.warm_start(state, carried)
        return split_state(state, x, problem.stride)

    if batched:
        start = jax.vmap(start, (0, 0, None, None, 0, 0, None))
    split = (batched, batched, False, False, batched, batched, False)
    start = run_on_mesh(problem.mesh, start, split)
    return start(x, carried, settings or {}, params, targets, weights, arrays)


def _advance(
    problem: Problem,
    solver: Any,
    batched: bool,
    state: State,
    stop: jax.Array,
    params: Params,
    targets: Targets,
    weights: Weights,
    arrays: Sequence[Any] = (),
    settings: Mapping[str, Any] | None = None,
) -> State:
    """Makes steps until their number is `stop`; `arrays` and `settings` as in `first_state`."""

    def run(
        state: State,
        stop: jax.Array,
        params: Any,
        targets: Any,
        weights: Any,
        arrays: Any,
        settings: Any,
    ) -> State:
        params = problem.network.prepare(params)

        def step(state: State, params: Any, targets: Any, *others: Any) -> State:
            solver_here, terms = with_settings(solver, settings), problem.active()
            if not redraws(terms):
                return solver_here.step(problem, state, params, targets, *others)
            # The loss of another draw says nothing about this one: the last picture counts, unless
            # the step is undone or this pair has stopped.
            known, largest = state.best_value, jnp.finfo(state.best_value.dtype).max
            targets = redraw_targets(terms, targets, state.step)
            state = state._replace(best_value=jnp.full_like(known, largest))
            state = solver_here.step(problem, state, params, targets, *others)
            value = jnp.where(state.best_value == largest, known, state.best_value)
            return state._replace(best_value=value)

        if batched:
            step = jax.vmap(step, (0, None, 0, 0, None))
        arguments = params, targets, weights, arrays
        return solver_state.advance(lambda state: step(state, *arguments), state, stop)

    run = run_on_mesh(problem.mesh, run, (batched, False, False, batched, batched, False, False))
    return run(state, stop, params, targets, weights, arrays, settings or {})


advance = jax.jit(_advance, static_argnums=(0, 1, 2))
# Donates the state, which holds the largest array of a run: the solver's history.
advance_in_place = jax.jit(_advance, static_argnums=(0, 1, 2), donate_argnums=3)


def read_progress(state: State) -> tuple[bool, int]:
    """Returns whether any pair is still active, and the number of steps made."""
    active, steps = jax.device_get(_progress(state.status, state.step))
    return bool(active), int(steps)


@jax.jit
def _progress(status: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.any(is_active(status)), jnp.max(step)


@functools.partial(jax.jit, static_argnums=(3, 4))
def carry_over(
    painted: jax.Array, start: jax.Array, next_start: jax.Array, how: str, wraps: bool
) -> jax.Array:
    """Carries `painted`, which began at `start`, to the size of `next_start`; see `Pyramid`."""
    if how == "image":
        return resize(painted, next_start.shape, wraps)
    return next_start + resize(painted - start, next_start.shape, wraps)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def make_result(
    problem: Problem,
    batched: bool,
    lengths: tuple[int, ...],
    stage: int,
    carry: str,
    filter_size: int,
    state: State,
    earlier: tuple[tuple[Any, ...], jax.Array],
    starts: tuple[jax.Array, jax.Array] | None,
    colors: Colors | None,
    blend: tuple[jax.Array, jax.Array] | None,
) -> StyleResult:
    """Makes a result of a solver's state.

    `lengths` are the numbers of steps at each size of the pyramid, and `stage` is the index of
    this one. `earlier` has the traces, with the status, of the smaller sizes and the sum of their
    evaluations. `starts`, at a smaller size, are the start at that size and at the full size.
    `colors` are those of `colors_of`. `blend` are the content and the
    strength of the result, if it is not 1.
    """
    image = problem.turn(state.best_x)
    if starts is not None:
        image = carry_over(image, *starts, carry, problem.network.wraps)
    if colors is not None:
        recolored = functools.partial(with_colors, problem)
        image = (jax.vmap(recolored) if batched else recolored)(image, colors)

    finish = functools.partial(median_filter, size=filter_size, wraps=problem.network.wraps)
    image = (jax.vmap(finish) if batched else finish)(jnp.clip(image, 0, 1))
    if blend is not None:
        content, strength = blend
        image = jnp.clip(content + strength * (image - content), 0, 1)
    traces, num_evaluations = earlier
    trace, term_traces = _join_traces([*(each[:2] for each in traces), state.trace], lengths)
    result = StyleResult(
        image=image,
        loss=state.best_value,
        term_losses=state.best_aux,
        trace=trace,
        num_evaluations=num_evaluations + state.num_evaluations,
        status=_join_status([status for *_, status in traces], state.status),
        term_traces=term_traces,
        solver_loss=state.best_value,
    )
    return _readable(problem, result)


def _readable(problem: Problem, tree: Any) -> Any:
    """Replicates arrays if there are several processes, so that each can read all of them."""
    if problem.mesh is None or not problem.mesh.is_multi_process:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(problem.mesh, PartitionSpec()))


def changes_after(recipe: Recipe, solver: Solver) -> list[str]:
    """Returns what changes the picture of a run after the solver, which does not know its loss."""
    averages = not solver.knows_pixels and getattr(solver, "average", 0) > 0
    changes = {
        "averaging": averages,
        "clipping": not solver.knows_pixels and not (averages and getattr(solver, "clip", False)),
        f"color {recipe.color}": recipe.color in ("luminance", "recolor"),
        "the median filter": recipe.median_filter > 1,
        f"strength {recipe.strength:g}": recipe.strength != 1,
    }
    return [name for name, happens in changes.items() if happens]


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluate_image(
    problem: Problem,
    batched: bool,
    image: jax.Array,
    params: Params,
    targets: Targets,
    weights: Weights,
    arrays: Sequence[Any] = (),
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the loss of the picture of a run, and those of the terms."""

    def evaluate(image: jax.Array, *arguments: Any) -> Any:
        return problem(problem.turn(image), *arguments)

    if batched:
        evaluate = jax.vmap(evaluate, (0, None, 0, 0, None))
    evaluate = run_on_mesh(problem.mesh, evaluate, (batched, False, batched, batched, False))
    loss, term_losses = evaluate(image, params, targets, weights, arrays)
    # As solvers do, for a start that is not finite.
    return _readable(problem, (jnp.where(jnp.isnan(loss), jnp.inf, loss), term_losses))


def _join_traces(traces: list[Any], lengths: tuple[int, ...]) -> Any:
    """Joins the traces of the sizes so far; the last value fills the rest of all `lengths`."""
    rest = sum(lengths[len(traces) :])
    last = jax.tree.map(lambda leaf: jnp.repeat(leaf[..., -1:], rest, axis=-1), traces[-1])
    # A trace has room for more steps than the solver was asked for.
    cut = [
        jax.tree.map(lambda leaf, length=length: leaf[..., :length], trace)
        for trace, length in zip(traces, lengths, strict=False)
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=-1), *cut, last)


def _join_status(smaller: list[jax.Array], status: jax.Array) -> jax.Array:
    for each in smaller:
        trouble = (each == int(Status.RECOVERED)) | (each == int(Status.NON_FINITE_START))
        trouble &= status != int(Status.NON_FINITE_START)
        status = jnp.where(trouble, int(Status.RECOVERED), status)
    return status


@functools.partial(jax.jit, static_argnums=1)
def take_pairs(result: StyleResult, number: int) -> StyleResult:
    """Returns the first `number` pairs of a batch."""
    return jax.tree.map(lambda leaf: leaf[:number], result)
