"""Checkpoints: what a run is resumed from."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxstyle.inputs import put
from jaxstyle.schedule import Stage
from jaxstyle.solvers.state import State


class Checkpoint(NamedTuple):
    """What `stylize_steps` resumes from; a pytree of arrays."""

    stage: int | jax.Array
    """Which size of the pyramid it is at, from 0; 0 without a pyramid."""
    steps: int | jax.Array
    """Steps made at that size."""
    state: Any
    """The solver's state, and after the first size of a run with `MatchedStyle` the picture that
    this size began with. Any pytree with the same leaves in the same order is accepted."""
    traces: tuple[Any, ...]
    """For each smaller size, loss and losses of the terms after each step, with room for at least
    `num_steps` each, and its status `()`. Any pytree with the same leaves is accepted, likewise."""
    num_evaluations: jax.Array
    """`()` evaluations at the smaller sizes."""


def restore_smaller(
    checkpoint: Checkpoint, weights: Mapping[str, Any], stages: Sequence[Stage]
) -> tuple[tuple[Any, ...], jax.Array]:
    """Returns traces and evaluations of the sizes before that of a checkpoint.

    Args:
        checkpoint: to resume from.
        weights: term name -> its weight.
        stages: the sizes of the run.

    Raises:
        ValueError: if the run has no such size, fewer steps there, or other terms.
    """
    if checkpoint.stage >= len(stages):
        raise ValueError(
            f"the checkpoint is of another run: of size {int(checkpoint.stage) + 1} of a pyramid, "
            f"but here are {len(stages)}"
        )
    if checkpoint.steps > stages[int(checkpoint.stage)].solver.num_steps:
        raise ValueError(
            f"the checkpoint has made {int(checkpoint.steps)} steps already: ask for more"
        )
    like = jax.tree.structure(((0, weights, 0),) * int(checkpoint.stage))
    try:
        traces = jax.tree.unflatten(like, jax.tree.leaves(checkpoint.traces))
    except ValueError as error:
        raise ValueError("the checkpoint is of another run: it has other terms") from error
    found: Any = put((traces, checkpoint.num_evaluations), None, batched=False)
    return found[0], found[1]


def restore_start(
    checkpoint: Checkpoint, like: jax.Array, mesh: Mesh | None
) -> tuple[Checkpoint, jax.Array]:
    """Splits off the picture that a size began with, and puts it on the devices of a run.

    Raises:
        ValueError: if there is none, or its shape or dtype differ from those of `like`.
    """
    *leaves, saved = jax.tree.leaves(checkpoint.state) or [None]
    if (jnp.shape(saved), getattr(saved, "dtype", None)) != (like.shape, like.dtype):
        raise ValueError("the checkpoint is of another run: it has no picture to begin with")
    return checkpoint._replace(state=leaves), put(saved, mesh, batched=False)


def restore_state(saved: Any, state: State) -> State:
    """Puts the leaves of a saved state on the devices of a new one.

    The new trace may have room for another number of steps.

    Raises:
        ValueError: if their shapes or dtypes differ otherwise.
    """
    old, new = jax.tree.leaves(saved), jax.tree.leaves(state)
    if len(old) == len(new):
        restored: State = jax.tree.unflatten(jax.tree.structure(state), old)
        trace = jax.tree.map(_with_room, restored.trace, state.trace)
        old = jax.tree.leaves(restored._replace(trace=trace))
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


def _with_room(trace: Any, like: jax.Array) -> Any:
    """Returns a trace as long as another one; steps not made repeat the last."""
    if jnp.ndim(trace) != like.ndim or 0 in jnp.shape(trace)[:1]:
        return trace
    more = (0, max(len(like) - len(trace), 0))
    return jnp.pad(trace, [more, *[(0, 0)] * (like.ndim - 1)], mode="edge")[: len(like)]
