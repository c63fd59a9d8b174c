"""The state of a solver, and the part of a step that all solvers share.

A step evaluates the objective at a new point (`evaluate`) and notes what it found (`record`).
Every problem has its own status and its own step count, and `record` leaves a problem that has
stopped as it is. Problems can therefore run in lockstep under `jax.vmap`.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle.sharding import vary_alike

# fun(x, *args) -> (value (), aux), traceable by JAX.
Objective = Callable[..., tuple[jax.Array, Any]]


class Status(enum.IntEnum):
    """How a run ended."""

    STEP_LIMIT = 0
    """All steps were made, or the run has not ended yet."""
    CONVERGED = 1
    """The gradient vanished, or `x` no longer changed by more than the tolerance."""
    STALLED = 2
    """The step is too small to change `x` in its dtype."""
    RECOVERED = 3
    """Like STEP_LIMIT, but at least one step led to a non-finite value and was undone."""
    NON_FINITE_START = 4
    """The loss or its gradient is not finite at the start; the start is returned unchanged."""


class State(NamedTuple):
    """The state of a solver: all that is needed to continue a run. Every leaf is an array."""

    x: Any
    value: jax.Array  # () the loss at x
    aux: Any
    best_x: jax.Array
    best_value: jax.Array
    best_aux: Any
    trace: Any  # value and aux after each step, (num_steps, ..); steps not made repeat the last
    step: jax.Array  # () steps made
    num_evaluations: jax.Array  # () loss-and-gradient evaluations
    status: jax.Array  # () Status
    anchor: Any  # x of up to `patience` steps ago; tells whether x still changes
    inner: Any  # what only this kind of solver needs


class Trace(NamedTuple):
    """What happened during `minimize`."""

    loss: jax.Array
    """`(num_steps,)` the loss after each step; steps that were not made repeat the last loss."""
    num_evaluations: jax.Array
    """`()` loss-and-gradient evaluations."""
    status: jax.Array
    """`()` a `Status`."""


class Evaluation(NamedTuple):
    """The objective at a point."""

    x: jax.Array
    value: jax.Array  # ()
    aux: Any
    grad: jax.Array  # zero where the value or the gradient is not finite
    finite: jax.Array  # () whether both are


def evaluate(fun: Objective, x: jax.Array, *args: Any) -> Evaluation:
    """Evaluates an objective and its gradient at `x`."""
    (value, aux), grad = jax.value_and_grad(fun, has_aux=True)(x, *args)
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
    return Evaluation(x, value, aux, jnp.where(finite, grad, 0), finite)


def is_active(status: jax.Array) -> jax.Array:
    """Returns whether a problem with this status makes further steps."""
    return (status == Status.STEP_LIMIT) | (status == Status.RECOVERED)


def is_fresh(state: State) -> jax.Array:
    """Returns whether nothing has been evaluated yet.

    The first `step` then evaluates the start itself. If `start` evaluated it, the compiled program
    would hold the network twice.
    """
    return state.num_evaluations == 0


def select(condition: jax.Array, yes: Any, no: Any) -> Any:
    """Chooses between two pytrees by one condition `()`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def initial_state(fun: Objective, x: jax.Array, args: Any, num_steps: int) -> State:
    """Returns the state before the first evaluation, without `inner`.

    Raises:
        ValueError: if `fun` does not return a floating-point scalar.
    """
    value, aux = jax.eval_shape(fun, x, *args)
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise ValueError(f"fun must return a scalar of floating point, not a {type(value)}")
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"fun must return a scalar of floating point, not {value.shape} {value.dtype}"
        )
    # Zeros rather than infinity, which JAX's debugging flags report as an error.
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (value, aux))
    return State(
        x=x,
        value=empty[0],
        aux=empty[1],
        best_x=x,
        best_value=empty[0],
        best_aux=empty[1],
        trace=jax.tree.map(lambda leaf: jnp.zeros((num_steps, *leaf.shape), leaf.dtype), empty),
        step=jnp.zeros((), jnp.int32),
        num_evaluations=jnp.zeros((), jnp.int32),
        status=jnp.full((), int(Status.STEP_LIMIT), jnp.int32),
        anchor=x,
        inner=None,
    )


def vary_with(state: State, args: Any) -> State:
    """Makes a state vary, in a `jax.shard_map`, over all axes that a step varies over."""
    like = jax.tree.leaves((state.x, args))
    return jax.tree.map(lambda leaf: vary_alike(leaf, *like)[0], state)


def record(
    old: State,
    new: Evaluation,
    accepted: jax.Array,
    *,
    tolerance: float | jax.Array = 0.0,
    patience: int = 1,
    stalls: bool = True,
) -> State:
    """Returns the state after a step, without `inner`. A problem that has stopped stays as it is.

    Args:
        old: the state before the step.
        new: the evaluation that the step made. At an optimum its gradient is zero.
        accepted: `()` whether `x` moves to the new point. The first evaluation always counts.
        tolerance: see `LBFGS`.
        patience: see `LBFGS`.
        stalls: whether a step that does not change `x` ends the run.
    """
    active, fresh = is_active(old.status), is_fresh(old)
    stepped = active & ~fresh
    accepted = (accepted | fresh) & active
    value = jnp.where(jnp.isnan(new.value), jnp.inf, new.value)
    better = accepted & ((value < old.best_value) | fresh)
    new_value, new_aux = select(accepted, (value, new.aux), (old.value, old.aux))

    def written(trace: jax.Array, entry: jax.Array) -> jax.Array:
        position = jnp.arange(len(trace), dtype=jnp.int32).reshape(-1, *[1] * entry.ndim)
        return jnp.where(active & (position >= old.step), entry[None], trace)

    new_x = jnp.where(accepted, new.x, old.x)
    failed = jnp.where(fresh, int(Status.NON_FINITE_START), int(Status.RECOVERED))
    status = jnp.where(new.finite, old.status, failed.astype(jnp.int32))
    looked = stepped & ((old.step + 1) % patience == 0)
    settled = looked & accepted & (jnp.mean(jnp.abs(new_x - old.anchor)) < tolerance)
    status = jnp.where(settled, int(Status.CONVERGED), status)
    if stalls:
        moved = jnp.any(new.x != old.x)
        status = jnp.where(moved | fresh, status, int(Status.STALLED))
    optimal = accepted & new.finite & (jnp.max(jnp.abs(new.grad)) == 0)
    status = jnp.where(optimal, int(Status.CONVERGED), status)
    return State(
        x=new_x,
        value=new_value,
        aux=new_aux,
        best_x=jnp.where(better, new.x, old.best_x),
        best_value=jnp.where(better, value, old.best_value),
        best_aux=select(better, new.aux, old.best_aux),
        trace=jax.tree.map(written, old.trace, (new_value, new_aux)),
        step=old.step + stepped.astype(jnp.int32),
        num_evaluations=old.num_evaluations + active.astype(jnp.int32),
        status=jnp.where(active, status, old.status),
        anchor=jnp.where(looked, new_x, old.anchor),
        inner=None,
    )


def advance(step: Callable[[State], State], state: State, stop: int | jax.Array) -> State:
    """Applies `step` until every problem has made `stop` steps or has stopped.

    At least the start is evaluated.

    `state` may have a leading batch dimension on every field; `step` is then a `vmap`, and runs
    inside this loop. (A `vmap` over the loop would copy the solver's history in every step.)
    """

    def running(state: State) -> jax.Array:
        return jnp.any(((state.step < stop) | is_fresh(state)) & is_active(state.status))

    return jax.lax.while_loop(running, step, state)
