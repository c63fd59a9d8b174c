"""Adam, with a guard against non-finite steps."""

import dataclasses
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxstyle.solvers.protocol import Solver, check_settings
from jaxstyle.solvers.state import (
    Objective,
    State,
    evaluate,
    initial_state,
    is_active,
    is_fresh,
    record,
    select,
    vary_with,
)


class _AdamState(NamedTuple):
    rate: jax.Array  # () the learning rate
    grad: jax.Array
    moments: Any  # optax's
    mean: jax.Array | None  # of the iterates, not yet corrected for its bias


@dataclasses.dataclass(frozen=True)
class Adam(Solver):
    """Adam (Kingma & Ba 2015), optax's, with a guard against non-finite steps.

    A step to a non-finite value is undone, the moments dropped, and the learning rate of that
    problem divided by ten.

    With an `average`, the result is not the best iterate but the mean of all of them, later ones
    weighing more: smoother, and with a lower loss than the iterates around it once the steps only
    go to and fro. The loss that is told is the last iterate's, since the mean is never evaluated.

    `learning_rate`, `b1`, `b2`, `eps` and `tolerance` may be traced arrays `()`; see `minimize`.

    Attributes:
        num_steps: steps, each one evaluation (one more is made at the start).
        learning_rate: in units of `x`.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        clip: whether `x` is kept in [0, 1] after each step.
        average: decay of the bias-corrected mean of the iterates, below 1; 0 is none.
        keep_moments: whether the moments go on, resized, from one size of a pyramid to the next
            (only for `x` of shape `(H, W, c)`).
        tolerance: stop when `x` no longer changes: when over `patience` steps its mean absolute
            change is below this, in units of `x`; 0 never does.
        patience: see `tolerance`.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    num_steps: int = 1000
    learning_rate: float = 0.02
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    clip: bool = False
    average: float = 0.0
    keep_moments: bool = False
    tolerance: float = 0.0
    patience: int = 20

    traced: ClassVar = ("learning_rate", "b1", "b2", "eps", "tolerance")

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_settings(self, whole=("num_steps", "patience"), positive=("learning_rate", "eps"))
        for name in ("b1", "b2", "average"):
            value: Any = getattr(self, name)
            if isinstance(value, jax.Array) and name != "average":
                continue
            if not isinstance(value, Real) or not 0 <= float(value) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")

    def _solver(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(self.b1, self.b2, self.eps)

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Returns the state before the first evaluation, which the first `step` makes."""
        x = jnp.clip(x, 0, 1) if self.clip else x
        state = initial_state(fun, x, args, self.num_steps)
        rate = jnp.asarray(self.learning_rate, x.dtype)
        mean = x * (1 - self.average) if self.average else None
        nothing = jnp.zeros_like(x)
        inner = _AdamState(rate, nothing, self._solver().init(x), mean)
        return vary_with(state._replace(inner=inner), args)

    def carried(self, state: State) -> _AdamState | None:
        """Returns the solver's own state, which has the moments, if they are kept."""
        return state.inner if self.keep_moments else None

    def warm_start(self, state: State, carried: _AdamState) -> State:
        """Gives a `start` at a larger size the moments that a smaller one ended with."""

        def resized(moment: jax.Array, method: str) -> jax.Array:
            return jax.image.resize(moment, state.x.shape, method)

        moments = carried.moments._replace(
            mu=resized(carried.moments.mu, "cubic"),
            nu=jnp.maximum(resized(carried.moments.nu, "linear"), 0),
        )
        return state._replace(inner=state.inner._replace(moments=moments))

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one step: one evaluation."""
        inner, fresh = state.inner, is_fresh(state)
        with jax.numpy_dtype_promotion("standard"):  # optax counts in whole numbers
            update, moments = self._solver().update(inner.grad, inner.moments)
        update = jnp.where(fresh, 0, update)
        moments = select(fresh, inner.moments, moments)
        x = state.x - inner.rate * update
        x = jnp.clip(x, 0, 1) if self.clip else x
        new = evaluate(fun, x, *args)
        recorded = record(state, new, new.finite, tolerance=self.tolerance, patience=self.patience)
        mean = inner.mean
        if self.average:
            decay = self.average
            mean = jnp.where(
                is_active(state.status) & ~fresh, decay * mean + (1 - decay) * recorded.x, mean
            )
            # The start was the first sample.
            weight = 1 - decay ** (recorded.step + 1).astype(x.dtype)
            recorded = recorded._replace(
                best_x=mean / weight, best_value=recorded.value, best_aux=recorded.aux
            )
        failed = _AdamState(0.1 * inner.rate, inner.grad, self._solver().init(x), mean)
        return recorded._replace(
            inner=select(new.finite, _AdamState(inner.rate, new.grad, moments, mean), failed)
        )
