"""Limited-memory BFGS for many problems in lockstep: jaxopt's product, without a line search."""

import dataclasses
import functools
import math
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle.solvers.frequencies import energy, scale_frequencies
from jaxstyle.solvers.jaxopt import load_jaxopt
from jaxstyle.solvers.protocol import Solver, check_settings
from jaxstyle.solvers.state import (
    Objective,
    State,
    evaluate,
    initial_state,
    is_fresh,
    record,
    vary_with,
)

# By default, products on accelerators have only a few digits of precision.
_dot = functools.partial(jnp.vdot, precision=jax.lax.Precision.HIGHEST)


def _as_matrix(x: jax.Array) -> jax.Array:
    """Returns a picture `(H, W, c)` as `(c H, W)`, and any other array as it is.

    A TPU copies a history of pictures to another layout in each step, and leaves a history of
    matrices as it is. A picture that is split along either edge stays split.
    """
    if x.ndim != 3:
        return x
    height, width, channels = x.shape
    return x.swapaxes(1, 2).reshape(height * channels, width)


def _as_picture(matrix: jax.Array, like: jax.Array) -> jax.Array:
    """The inverse of `_as_matrix`."""
    if like.ndim != 3:
        return matrix
    height, width, channels = like.shape
    return matrix.reshape(height, channels, width).swapaxes(1, 2)


def _write(history: jax.Array, new: jax.Array, slot: jax.Array, condition: jax.Array) -> jax.Array:
    """Puts `new` into a slot of `history` if `condition` holds; XLA does this in place."""
    return history.at[slot].set(jnp.where(condition, new.astype(history.dtype), history[slot]))


class _Operator(NamedTuple):
    """A linear operator, which jaxopt multiplies with as with a number."""

    apply: Callable[[jax.Array], jax.Array]

    def __mul__(self, x: Any) -> Any:
        return self.apply(x)


class _LBFGSState(NamedTuple):
    pairs: jax.Array  # () curvature pairs written so far
    grad: jax.Array  # at x, of the scaled objective
    scale: jax.Array  # () of the objective
    gamma: jax.Array  # () the inverse Hessian without history is gamma S^2
    length: jax.Array  # () mean absolute size of the next step, if not 0; otherwise gamma decides
    s_history: jax.Array  # (history_size, ...) steps, each as `_as_matrix` returns it
    y_history: jax.Array  # likewise, changes of the gradient
    rho_history: jax.Array  # 1 / s.y, 0 where there is no pair


@dataclasses.dataclass(frozen=True)
class LBFGS(Solver):
    """Limited-memory BFGS without a line search: jaxopt's product, guarded.

    Nocedal & Wright, "Numerical Optimization", 2nd edition, algorithm 7.4, with unit steps.
    Departures from the book:

    - The first step, along the gradient, has mean absolute size `first_step`. The objective of
      each problem is scaled, which keeps extreme loss weights in floating-point range.
    - The product starts from the inverse Hessian `gamma S^2`, where S scales the frequencies of a
      picture by `frequency^-smoothness`. These are the steps of L-BFGS in coordinates of scaled
      frequencies, as in Olah et al., "Feature Visualization", Distill 2017 (there Fourier's, with
      exponent 1; here those of the cosine transform). Large, smooth changes then take fewer steps.
    - Within `bounds`, an element that is at a bound and that the gradient pushes outward stays
      there: it is left out of the gradient, of the step and of the new curvature pair. The step is
      then clipped (two-metric projection: Bertsekas, "Projected Newton Methods for Optimization
      Problems with Simple Constraints", SIAM J. Control Optim. 20, 1982).
    - A curvature pair is left out if its `s.y` is not clearly positive.
    - A step is undone if it leads to a non-finite value, or to one that more than doubles the
      lowest loss so far. The history is then dropped, and the next step goes a tenth as far along
      the gradient.

    `first_step` and `tolerance` may be traced arrays `()`; see `minimize`.

    Attributes:
        num_steps: steps, each one evaluation (one more is made at the start).
        history_size: curvature pairs kept; two arrays like `x` each.
        first_step: mean absolute change of `x` in the first step.
        smoothness: the exponent above; 0 turns scaling off. Only for `x` of shape `(H, W, c)`.
        tolerance: stop when `x` no longer changes: when over `patience` steps its mean absolute
            change is below this, in units of `x`; 0 never stops.
        patience: see `tolerance`.
        bounds: lowest and highest value of the elements of `x`, which is clipped at the start;
            None for no bounds. Pixels that are clipped after a run lose part of what it gained.
        history_dtype: the dtype of the curvature pairs, by default that of `x`; `bfloat16` halves
            their memory. Products with them are computed in the dtype of `x`.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    num_steps: int = 300
    history_size: int = 30
    first_step: float = 1e-2
    smoothness: float = 0.0
    tolerance: float = 0.0
    patience: int = 20
    bounds: tuple[float, float] | None = None
    history_dtype: Literal["bfloat16", "float16", "float32"] | None = None

    traced: ClassVar = ("first_step", "tolerance")

    def __post_init__(self) -> None:
        """Checks the settings."""
        whole = ("num_steps", "history_size", "patience")
        check_settings(self, whole=whole, positive=("first_step",))
        if not isinstance(self.smoothness, Real) or not math.isfinite(self.smoothness):
            raise ValueError(f"smoothness must be a number, not {self.smoothness!r}")
        if self.bounds is not None:
            low_high = self.bounds if isinstance(self.bounds, tuple) else ()
            numbers = len(low_high) == 2 and all(isinstance(each, Real) for each in low_high)
            if not numbers or not -math.inf < low_high[0] < low_high[1] < math.inf:
                raise ValueError(
                    f"bounds must be None or a tuple of two numbers, the lower one first, such as "
                    f"(0.0, 1.0), not {self.bounds!r}"
                )
        if self.history_dtype not in (None, "bfloat16", "float16", "float32"):
            raise ValueError(
                f"history_dtype {self.history_dtype!r} is not bfloat16, float16 or float32"
            )

    @property
    def knows_pixels(self) -> bool:
        """Whether the bounds lie in [0, 1]."""
        return self.bounds is not None and self.bounds[0] >= 0 and self.bounds[1] <= 1

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Returns the state before the first evaluation, which the first `step` makes."""
        x = self._clip(x)
        state = initial_state(fun, x, args, self.num_steps)
        one = jnp.ones((), x.dtype)
        shape = self.history_size, *_as_matrix(x).shape
        history = jnp.zeros(shape, self.history_dtype or x.dtype)
        inner = _LBFGSState(
            pairs=jnp.zeros((), jnp.int32),
            grad=jnp.zeros_like(x),
            scale=one,
            gamma=one,
            length=jnp.asarray(self.first_step, x.dtype),
            s_history=history,
            y_history=history,
            rho_history=jnp.zeros(self.history_size, x.dtype),
        )
        return vary_with(state._replace(inner=inner), args)

    def _is_smooth(self, x: jax.Array) -> bool:
        return self.smoothness != 0 and x.ndim == 3

    def _clip(self, x: jax.Array) -> jax.Array:
        return x if self.bounds is None else jnp.clip(x, *self.bounds)

    def _where_free(self, x: jax.Array, grad: jax.Array, array: jax.Array) -> jax.Array:
        """Returns `array`, with zeros where `x` is at a bound that `grad` pushes it to."""
        if self.bounds is None:
            return array
        low, high = self.bounds
        held = ((x <= low) & (grad > 0)) | ((x >= high) & (grad < 0))
        return jnp.where(held, 0, array)

    def _times_inverse_hessian(self, inner: _LBFGSState, grad: jax.Array) -> jax.Array:
        """The approximate inverse Hessian times a gradient."""

        def initial(r: jax.Array) -> jax.Array:
            if self._is_smooth(grad):
                scaled = scale_frequencies(_as_picture(r, grad), -2 * self.smoothness)
                r = _as_matrix(scaled)
            return inner.gamma * r

        # This promotes a history of another dtype.
        with jax.numpy_dtype_promotion("standard"):
            product: jax.Array = load_jaxopt()._src.lbfgs.inv_hessian_product(
                _as_matrix(grad),
                inner.s_history,
                inner.y_history,
                inner.rho_history,
                gamma=_Operator(initial),
                start=inner.pairs % self.history_size,
            )
        return _as_picture(product, grad)

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one step: one evaluation."""
        fresh, old = is_fresh(state), state.inner
        tiny = jnp.finfo(state.x.dtype).tiny
        # Before the first evaluation the gradient is zero, and so is the step.
        where_free = functools.partial(self._where_free, state.x, old.grad)
        direction = where_free(self._times_inverse_hessian(old, where_free(old.grad)))
        size = jnp.mean(jnp.abs(direction))
        # No division is by zero, also where its result is not used: the derivative would be NaN.
        resized = (old.length > 0) & (size >= tiny)
        factor = jnp.where(resized, old.length / jnp.where(resized, size, 1), 1)
        x = self._clip(state.x - factor * direction)
        s = x - state.x
        size = jnp.mean(jnp.abs(s))

        new = evaluate(fun, x, *args)
        largest = jnp.max(jnp.abs(new.grad))
        positive = largest >= tiny
        scale = jnp.where(fresh & positive, 1 / jnp.where(positive, largest, 1), old.scale)
        # If the direction is not finite, neither is the point of this evaluation.
        finite = new.finite & jnp.isfinite(size) & jnp.isfinite(scale * largest)
        new = new._replace(grad=scale * new.grad, finite=finite)
        predicted = jnp.abs(_dot(old.grad, s)) / scale
        allowed = state.best_value + jnp.maximum(jnp.abs(state.best_value), predicted)
        accepted = finite & (fresh | (new.value <= allowed))

        y = where_free(new.grad - old.grad)
        inner = self._remember(old, s, y, accepted=accepted, gamma=old.gamma * factor)
        shorter = jnp.where(jnp.isfinite(size), 0.1 * size, self.first_step)
        length = jnp.where(accepted, 0, shorter).astype(x.dtype)
        length = jnp.where(fresh, old.length, length)
        inner = inner._replace(
            grad=jnp.where(accepted, new.grad, old.grad), scale=scale, length=length
        )
        new = new._replace(grad=self._where_free(x, new.grad, new.grad))
        recorded = record(state, new, accepted, tolerance=self.tolerance, patience=self.patience)
        return recorded._replace(inner=inner)

    def _remember(
        self,
        old: _LBFGSState,
        s: jax.Array,
        y: jax.Array,
        *,
        accepted: jax.Array,
        gamma: jax.Array,
    ) -> _LBFGSState:
        """Adds a curvature pair; drops the history if the step was not accepted."""
        dtype = s.dtype
        norms = [jnp.linalg.norm(jax.lax.stop_gradient(each).ravel()) for each in (s, y)]
        s, y = (each.astype(old.s_history.dtype).astype(dtype) for each in (s, y))
        product = _dot(s, y)
        curved = accepted & (product > jnp.finfo(dtype).eps * norms[0] * norms[1])
        square = energy(y, -2 * self.smoothness) if self._is_smooth(y) else _dot(y, y)
        product, square = (jnp.where(curved, each, 1) for each in (product, square))
        # A pair that is left out overwrites nothing, and does not advance the counter.
        slot = old.pairs % self.history_size
        write = functools.partial(_write, slot=slot, condition=curved)
        rho = write(old.rho_history, 1 / product)
        return old._replace(
            pairs=old.pairs + curved.astype(jnp.int32),
            gamma=jnp.where(curved, product / square, jnp.where(accepted, gamma, 1)),
            s_history=write(old.s_history, _as_matrix(s)),
            y_history=write(old.y_history, _as_matrix(y)),
            rho_history=jnp.where(accepted, rho, 0),
        )
