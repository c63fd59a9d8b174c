"""What a solver is, and how its settings are divided into static values and traced numbers."""

import dataclasses
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import jax
import numpy as np

from jaxstyle.solvers.state import Objective, State, advance


@dataclasses.dataclass(frozen=True)
class Solver:
    """Moves one array downhill, one loss-and-gradient evaluation per step.

    A solver is a frozen, hashable dataclass. It has no data-dependent
    inner loop, so `jax.vmap` over `step` costs one batched evaluation. (A line search does not have
    that property: under `vmap` every branch of it runs.)

    To write one, define `start` and `step`; the functions of `jaxstyle.solvers.state` do most of
    it. The rest has defaults.

    Attributes:
        num_steps: steps to make.
    """

    num_steps: int

    traced: ClassVar[tuple[str, ...]] = ()
    """Settings that are arguments of a compiled program: numbers, arrays `()`, or dicts of such."""
    on_host: ClassVar[bool] = False
    """Whether it runs on the host: one problem at a time, with no `jit`, `vmap` or mesh, and
    without a state that another run can continue."""

    takes_redraws: ClassVar[bool] = False
    """Whether the objective may change from step to step, see `SampledTerm.redraw`."""

    @property
    def knows_pixels(self) -> bool:
        """Whether the lowest loss is that of `best_x` clipped to [0, 1].

        Otherwise the loss of a run's picture is evaluated once more, after clipping.
        """
        return False

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Returns the state before the first evaluation, which the first `step` makes."""
        raise NotImplementedError

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one step: one evaluation."""
        raise NotImplementedError

    def advance(self, fun: Objective, state: State, stop: int | jax.Array, *args: Any) -> State:
        """Steps until `stop` steps have been made in all, or the problem has stopped."""
        return advance(lambda state: self.step(fun, state, *args), state, stop)

    def at_smaller_size(self, num_steps: int) -> "Solver":
        """Returns the solver for a smaller size of a pyramid; by default only with other steps."""
        return dataclasses.replace(self, num_steps=num_steps)

    def carried(self, state: State) -> Any:
        """Returns what the next size of a pyramid takes over from `state`; None for nothing."""
        return None

    def warm_start(self, state: State, carried: Any) -> State:
        """Gives a `start` at a larger size what `carried` returned at the size before."""
        raise NotImplementedError


def split_settings(solver: Solver, dtype: Any) -> tuple[Solver, dict[str, Any]]:
    """Splits a solver into what a program is compiled for and the numbers that are its arguments.

    Args:
        solver: any.
        dtype: of the numbers.

    Returns:
        A solver whose traced settings are the defaults, with room for at least as many steps; and
        the traced settings by name, which `with_settings` puts back.
    """
    if solver.on_host:
        return solver, {}
    settings = {
        name: jax.tree.map(lambda leaf: _on_device(leaf, dtype), getattr(solver, name))
        for name in solver.traced
    }
    defaults = {each.name: each.default for each in dataclasses.fields(solver)}
    # The length of the trace is a shape: a power of two serves for many numbers of steps.
    steps = max(64, 2 ** math.ceil(math.log2(solver.num_steps)))
    fixed: dict[str, Any] = {"num_steps": steps, **{name: defaults[name] for name in settings}}
    return dataclasses.replace(solver, **fixed), settings


def with_settings(solver: Solver, settings: Mapping[str, Any]) -> Any:
    """Puts traced settings back into a solver."""
    return dataclasses.replace(solver, **settings)


def _on_device(value: Any, dtype: Any) -> jax.Array:
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    return jax.device_put(np.asarray(value, dtype))


def check_settings(
    solver: Solver, *, whole: tuple[str, ...] = (), positive: tuple[str, ...] = ()
) -> None:
    """Checks settings that must be positive. Numbers in arrays may be traced, and pass."""
    name = type(solver).__name__
    for field in (*whole, *positive):
        value: Any = getattr(solver, field)
        if isinstance(value, jax.Array) and field not in whole:
            if value.shape != ():
                raise ValueError(f"{field} of {name} has shape {value.shape}: map with jax.vmap")
        elif not isinstance(value, Integral if field in whole else Real):
            kind = "a whole number" if field in whole else "a number"
            raise ValueError(f"{field} of {name} must be {kind}, not {value!r}")
        elif not 0 < float(value) < math.inf:
            raise ValueError(f"{field} of {name} must be positive, not {value}")
    tolerance = getattr(solver, "tolerance", 0)
    if not isinstance(tolerance, jax.Array) and not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, not {tolerance}")
