"""Solvers: they move one array downhill, one loss-and-gradient evaluation per step.

The solvers here are frozen, hashable values. `minimize` runs one; `start` and `advance` are the
two halves that `transfer` needs to run many problems in lockstep, or to stop between steps.

`LBFGS` and `Adam` have no data-dependent inner loop, so `jax.vmap` over them costs one batched
evaluation per step. (A line search does not have that property: under `vmap` all its branches
run.) In the place of a line search stands a guard, per problem: a step that leads to a non-finite
or exploding value is undone and tried again shorter.
"""

import dataclasses
import enum
import functools
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.experimental.layout import Layout, with_layout_constraint

# fun(x, *args) -> (value (), aux), traceable by JAX.
Objective = Callable[..., tuple[jax.Array, Any]]


class Status(enum.IntEnum):
    """How a run ended."""

    STEP_LIMIT = 0
    """All steps were made, or it is still running."""
    CONVERGED = 1
    """The gradient vanished, or `x` no longer changed by more than the tolerance."""
    STALLED = 2
    """No step that can be represented in this dtype goes further down."""
    RECOVERED = 3
    """Like STEP_LIMIT; on the way at least one step led to a non-finite value and was undone."""
    NON_FINITE_START = 4
    """The loss or its gradient is not finite at the start, which is returned as it was."""


class State(NamedTuple):
    """The state of a solver: what a run can be continued from. All arrays."""

    x: Any
    value: jax.Array  # () the loss at x
    aux: Any
    best_x: jax.Array
    best_value: jax.Array
    best_aux: Any
    trace: Any  # value and aux after each step, (num_steps, ..); the last ones where none was made
    step: jax.Array  # () steps made
    num_evaluations: jax.Array  # () loss-and-gradient evaluations
    status: jax.Array  # () Status
    anchor: Any  # x as it was a while ago, to see whether it still changes
    inner: Any  # of the solver's own


class Trace(NamedTuple):
    """What happened during `minimize`."""

    loss: jax.Array
    """`(num_steps,)` the loss after each step; the last one for steps that were not made."""
    num_evaluations: jax.Array
    """`()` loss-and-gradient evaluations."""
    status: jax.Array
    """`()` a `Status`."""


def minimize(
    fun: Callable[..., Any],
    init: jax.Array,
    *args: Any,
    solver: "Solver | None" = None,
    has_aux: bool = False,
) -> tuple[jax.Array, Trace]:
    """Minimises `fun(x, *args)` over `x`, from `init`.

    Can be called under `jax.jit` and `jax.vmap` (not with `ScipyLBFGSB`).

    Args:
        fun: returns a scalar, or with `has_aux` a scalar and anything; pure, as for `jax.jit`.
            Pass arrays through `args` rather than in a closure, where XLA takes them for
            constants.
        init: array of floating point, any shape.
        *args: further arguments of `fun`.
        solver: by default `LBFGS()`.
        has_aux: whether `fun` returns a pair.

    Returns:
        The point of the lowest loss that was seen, never above that of `init` (with
        `Adam(average=...)` the mean of the iterates), of any shape that `init` has; and a `Trace`.
    """
    solver = LBFGS() if solver is None else solver
    objective = _WithoutAux(fun, has_aux)
    state = solver.start(objective, jnp.asarray(init), *args)
    state = solver.advance(objective, state, solver.num_steps, *args)
    return state.best_x, Trace(state.trace[0], state.num_evaluations, state.status)


@dataclasses.dataclass(frozen=True)
class _WithoutAux:
    """An objective made of `fun`; equal to others of it, so that jit knows it again."""

    fun: Callable[..., Any]
    has_aux: bool

    def __call__(self, x: jax.Array, *args: Any) -> Any:
        value = self.fun(x, *args)
        return value[0] if self.has_aux else value, ()


def is_active(status: jax.Array) -> jax.Array:
    """Whether a problem of this status goes on when it is given more steps."""
    return (status == Status.STEP_LIMIT) | (status == Status.RECOVERED)


def _select(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _start(fun: Objective, x: jax.Array, args: Any, n: int) -> State:
    """The state before the first evaluation, less `inner`."""
    value, aux = jax.eval_shape(fun, x, *args)
    infinite = jnp.full((), jnp.inf, value.dtype)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), aux)
    return State(
        x=x,
        value=infinite,
        aux=empty,
        best_x=x,
        best_value=infinite,
        best_aux=empty,
        trace=jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (n, *leaf.shape)), (infinite, empty)
        ),
        step=jnp.zeros((), jnp.int32),
        num_evaluations=jnp.zeros((), jnp.int32),
        status=jnp.asarray(int(Status.STEP_LIMIT), jnp.int32),
        anchor=x,
        inner=None,
    )


def _is_fresh(state: State) -> jax.Array:
    """Whether nothing has been evaluated yet.

    Then a `step` evaluates where it is: a start of its own would be a second copy of the network
    in the compiled program.
    """
    return state.num_evaluations == 0


def _record(
    old: State,
    x: jax.Array,
    value: jax.Array,
    aux: Any,
    grad: jax.Array,
    *,
    accepted: jax.Array,
    finite: jax.Array,
    moved: jax.Array,
    tolerance: float,
    patience: int,
) -> State:
    """The state after a step that was evaluated at `x`, less `inner`.

    A problem that has stopped stays as it is; this is all that lockstep needs.
    """
    active, fresh = is_active(old.status), _is_fresh(old)
    stepped = active & ~fresh
    accepted = (accepted | fresh) & active
    value = jnp.where(jnp.isnan(value), jnp.inf, value)
    better = accepted & ((value < old.best_value) | fresh)
    new_value, new_aux = _select(accepted, (value, aux), (old.value, old.aux))

    def written(trace: jax.Array, new: jax.Array) -> jax.Array:
        position = jnp.arange(len(trace)).reshape(-1, *[1] * new.ndim)
        return jnp.where(active & (position >= old.step), new, trace)

    new_x = jnp.where(accepted, x, old.x)
    failed = jnp.where(fresh, Status.NON_FINITE_START, Status.RECOVERED)
    status = jnp.where(finite, old.status, failed)
    anchor = old.anchor
    if tolerance > 0:
        looked = stepped & ((old.step + 1) % patience == 0)
        settled = looked & accepted & (jnp.mean(jnp.abs(new_x - anchor)) < tolerance)
        status = jnp.where(settled, Status.CONVERGED, status)
        anchor = jnp.where(looked, new_x, anchor)
    status = jnp.where(moved | fresh, status, Status.STALLED)
    status = jnp.where(accepted & finite & (jnp.max(jnp.abs(grad)) == 0), Status.CONVERGED, status)
    return State(
        x=new_x,
        value=new_value,
        aux=new_aux,
        best_x=jnp.where(better, x, old.best_x),
        best_value=jnp.where(better, value, old.best_value),
        best_aux=_select(better, aux, old.best_aux),
        trace=jax.tree.map(written, old.trace, (new_value, new_aux)),
        step=old.step + stepped,
        num_evaluations=old.num_evaluations + active,
        status=jnp.where(active, status, old.status).astype(jnp.int32),
        anchor=anchor,
        inner=None,
    )


def advance(step: Callable[[State], State], state: State, stop: int | jax.Array) -> State:
    """Applies `step` until `stop` steps are made or nothing is active any more.

    At least the start is evaluated.

    `state` may have a leading batch dimension on every field; `step` is then a `vmap` that runs
    inside this loop. (The other way round, `vmap` over the loop copies the history every step.)
    """

    def running(state: State) -> jax.Array:
        return jnp.any(((state.step < stop) | _is_fresh(state)) & is_active(state.status))

    return jax.lax.while_loop(running, step, state)


def scale_frequencies(image: jax.Array, exponent: float) -> jax.Array:
    """Multiplies each spatial frequency of `(H, W, c)` by `(2 f)^exponent`.

    `f` is in cycles per pixel, taken as at least one cycle over the long edge; so the highest
    frequency along an axis is left as it is.
    """
    height, width, _ = image.shape
    squared = jnp.fft.fftfreq(height)[:, None] ** 2 + jnp.fft.rfftfreq(width) ** 2
    factor = (2 * jnp.sqrt(jnp.maximum(squared, max(height, width) ** -2.0))) ** exponent

    def pinned(planes: jax.Array) -> jax.Array:
        # XLA:CPU's transform has but this layout, which its partitioner does not know.
        return with_layout_constraint(planes, Layout((0, 1, 2)))

    spectrum = jnp.fft.rfft2(pinned(jnp.moveaxis(image, -1, 0)))
    spectrum = pinned(pinned(spectrum) * factor.astype(image.dtype))
    planes = pinned(jnp.fft.irfft2(spectrum, s=(height, width)))
    return jnp.moveaxis(planes, 0, -1).astype(image.dtype)


def _write(history: jax.Array, new: jax.Array, slot: jax.Array, condition: jax.Array) -> jax.Array:
    """Puts `new` into a slot of `history`, in place, on a condition."""
    return history.at[slot].set(jnp.where(condition, new.astype(history.dtype), history[slot]))


def _value_and_grad(fun: Objective, x: jax.Array, *args: Any) -> Any:
    """Returns value, aux, gradient and whether value and gradient are finite."""
    (value, aux), grad = jax.value_and_grad(fun, has_aux=True)(x, *args)
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
    return value, aux, jnp.where(finite, grad, 0), finite


def _jaxopt() -> ModuleType:
    # Imported where it is used: it takes as long as JAX itself, mostly for SciPy. It is in
    # maintenance only and says so at import; the few functions used here are pinned by tests.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
        import jaxopt  # noqa: PLC0415
    return jaxopt


def _check(solver: Any, **positive: float) -> None:
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} of {type(solver).__name__} must be positive, not {value}")
    if not getattr(solver, "tolerance", 0) >= 0:
        raise ValueError(f"tolerance must not be negative, not {solver.tolerance}")


@dataclasses.dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS without a line search: jaxopt's, with a guard around it.

    Nocedal & Wright, "Numerical Optimization", 2nd edition, algorithm 7.4, with unit steps.
    What is not jaxopt's own:

    - the objective is scaled, per problem, so that the first step (jaxopt's is `-gradient`) has
      mean absolute size `first_step`; this also keeps absurd loss weights in floating-point range;
    - a picture can be optimised in Fourier coordinates, scaled by `frequency^-smoothness`, as in
      Olah et al., "Feature Visualization", Distill 2017 (there with exponent 1): large, smooth
      changes then take fewer steps;
    - a curvature pair with `s.y` not clearly positive is left out;
    - a step to a non-finite value, or to one that more than doubles the lowest loss so far, is
      undone, the history dropped, and the next step goes a tenth as far along the gradient.

    Attributes:
        num_steps: steps, each one evaluation (one more is made at the start).
        history_size: curvature pairs kept; two arrays like `x` each.
        first_step: mean absolute change of `x` in the first step.
        smoothness: see above; 0 is none. Only for `x` of shape `(H, W, c)`.
        tolerance: stop when `x` no longer changes: when over `patience` steps its mean absolute
            change is below this, in units of `x`; 0 never does.
        patience: see `tolerance`.
        history_dtype: of the curvature pairs, by default that of `x`; `bfloat16` takes half the
            memory. Products with them are in the dtype of `x`.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    num_steps: int = 300
    history_size: int = 30
    first_step: float = 1e-2
    smoothness: float = 0.0
    tolerance: float = 0.0
    patience: int = 20
    history_dtype: Literal["bfloat16", "float16", "float32"] | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check(
            self,
            num_steps=self.num_steps,
            history_size=self.history_size,
            first_step=self.first_step,
            patience=self.patience,
        )
        if self.history_dtype not in (None, "bfloat16", "float16", "float32"):
            raise ValueError(
                f"history_dtype {self.history_dtype!r} is not bfloat16, float16 or float32"
            )

    def _solver(self, scaled: Callable[..., Any]) -> Any:
        return _jaxopt().LBFGS(
            scaled,
            value_and_grad=True,
            has_aux=True,
            stepsize=1.0,
            history_size=self.history_size,
            jit=False,
        )

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Returns the state before the first evaluation, which the first `step` makes."""
        state = _start(fun, x, args, self.num_steps)
        inner = self._initial(state, x)
        inner = inner._replace(
            s_history=self._rounded(inner.s_history),
            y_history=self._rounded(inner.y_history),
            aux=None,
        )
        return state._replace(inner=(jnp.ones((), x.dtype), inner._asdict()))

    def _initial(self, state: State, x: jax.Array) -> Any:
        """Jaxopt's state at `x`, where nothing has been evaluated."""
        nothing = (state.value, (state.aux, True)), jnp.zeros_like(x)
        return self._solver(lambda *_: nothing).init_state(x)

    def _rounded(self, x: jax.Array) -> jax.Array:
        return x if self.history_dtype is None else x.astype(self.history_dtype)

    def _scaled(self, grad: jax.Array, scale: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The gradient in the solver's coordinates, scaled, and the scale; None is a first one.

        The first step has its size in the coordinates of x. All is divided by the largest element,
        lest sums overflow.
        """
        largest = jnp.max(jnp.abs(grad))
        unit = self._smooth(grad / jnp.where(largest > 0, largest, 1))
        if scale is None:
            mean = largest * jnp.mean(jnp.abs(self._smooth(unit)))
            scale = self.first_step / jnp.maximum(mean, jnp.finfo(grad.dtype).tiny)
        return scale * (largest * unit), scale

    def _smooth(self, z: jax.Array) -> jax.Array:
        """From the solver's coordinates to those of x; linear, symmetric."""
        return scale_frequencies(z, -self.smoothness) if self._is_smooth(z) else z

    def _is_smooth(self, x: jax.Array) -> bool:
        return self.smoothness != 0 and x.ndim == 3

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one step: one evaluation."""
        fresh = _is_fresh(state)
        old_scale, kept = state.inner
        # In Fourier coordinates only differences are ever needed: the step starts from zero.
        smooth = self._is_smooth(state.x)
        origin = jnp.zeros_like(state.x) if smooth else state.x
        # A dict in between: who loads a compiled program can do without jaxopt, slow to import.
        old = self._initial(state, origin)._replace(**kept)

        def to_x(z: jax.Array) -> jax.Array:
            return state.x + self._smooth(z) if smooth else z

        def scaled(z: jax.Array) -> Any:
            value, aux, grad, finite = _value_and_grad(fun, to_x(z), *args)
            scale = jnp.where(fresh, self._scaled(grad, None)[1], old_scale)
            return (value, (aux, finite, scale)), self._scaled(grad, scale)[0]

        # At first the gradient is zero, and so is the step.
        with warnings.catch_warnings():
            # What jaxopt writes into a history of another dtype is not used.
            warnings.filterwarnings("ignore", "scatter inputs have", FutureWarning)
            z, new = self._solver(scaled).update(origin, old)
        x = to_x(z)
        aux, finite, scale = new.aux
        s, y = z - origin, new.grad - old.grad
        s_norm, y_norm = jnp.linalg.norm(s.ravel()), jnp.linalg.norm(y.ravel())
        # A direction that is not finite was evaluated at a point that is not.
        finite &= jnp.isfinite(s_norm)
        predicted = jnp.abs(jnp.vdot(old.grad, s)) / scale
        allowed = state.best_value + jnp.maximum(jnp.abs(state.best_value), predicted)
        accepted = finite & (new.value <= allowed)
        epsilon = jnp.finfo(x.dtype).eps
        s, y = (self._rounded(each).astype(x.dtype) for each in (s, y))
        product = jnp.vdot(s, y)
        curved = accepted & (product > epsilon * s_norm * y_norm)

        # The pair is written here and not taken from `new`, where jaxopt has it already: it reads
        # there what it has just written, for which XLA copies the history, several times a step.
        # One that is left out leaves the oldest one where it is; only the counter says so.
        slot = old.iter_num % self.history_size
        write = functools.partial(_write, slot=slot, condition=curved)
        rho = write(old.rho_history, 1 / product)
        gamma = product / jnp.vdot(y, y)
        shorter = 0.1 * s_norm / jnp.linalg.norm(old.grad.ravel())
        shorter = jnp.where(jnp.isfinite(shorter), shorter, 1.0).astype(old.gamma.dtype)
        inner = new._replace(
            iter_num=old.iter_num + curved,
            grad=jnp.where(accepted, new.grad, old.grad),
            s_history=write(old.s_history, s),
            y_history=write(old.y_history, y),
            rho_history=jnp.where(accepted, rho, 0),
            gamma=jnp.where(curved, gamma, jnp.where(accepted, old.gamma, shorter)),
            aux=None,
        )
        recorded = _record(
            state,
            x,
            new.value,
            aux,
            new.grad,
            accepted=accepted,
            finite=finite,
            moved=jnp.any(x != state.x),
            tolerance=self.tolerance,
            patience=self.patience,
        )
        return recorded._replace(inner=(scale, inner._asdict()))

    def advance(self, fun: Objective, state: State, stop: int | jax.Array, *args: Any) -> State:
        """Steps until `stop` steps are made in all, or the problem has stopped."""
        return advance(lambda state: self.step(fun, state, *args), state, stop)


class _AdamState(NamedTuple):
    rate: jax.Array  # () the learning rate
    grad: jax.Array
    moments: Any  # optax's
    mean: jax.Array | None  # of the iterates, not yet corrected for its bias


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015), optax's, with a guard against non-finite steps.

    A step to a non-finite value is undone, the moments dropped, and the learning rate of that
    problem divided by ten.

    With an `average`, the result is not the best iterate but the mean of all of them, later ones
    weighing more: smoother, and with a lower loss than the iterates around it once the steps only
    go to and fro. The loss that is told is the last iterate's, since the mean is never evaluated.

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

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check(
            self,
            num_steps=self.num_steps,
            learning_rate=self.learning_rate,
            eps=self.eps,
            patience=self.patience,
        )
        for name in ("b1", "b2", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 0 and below 1, not {getattr(self, name)}"
                )

    def _solver(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(self.b1, self.b2, self.eps)

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Returns the state before the first evaluation, which the first `step` makes."""
        x = jnp.clip(x, 0, 1) if self.clip else x
        state = _start(fun, x, args, self.num_steps)
        rate = jnp.asarray(self.learning_rate, x.dtype)
        mean = x * (1 - self.average) if self.average else None
        nothing = jnp.zeros_like(x)
        return state._replace(inner=_AdamState(rate, nothing, self._solver().init(x), mean))

    def go_on(self, state: State, earlier: "_AdamState") -> State:
        """Gives a `start` at a larger size the moments that a smaller one ended with."""

        def resized(moment: jax.Array, method: str) -> jax.Array:
            return jax.image.resize(moment, state.x.shape, method)

        moments = earlier.moments._replace(
            mu=resized(earlier.moments.mu, "cubic"),
            nu=jnp.maximum(resized(earlier.moments.nu, "linear"), 0),
        )
        return state._replace(inner=state.inner._replace(moments=moments))

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one step: one evaluation."""
        inner, fresh = state.inner, _is_fresh(state)
        update, moments = self._solver().update(inner.grad, inner.moments)
        update = jnp.where(fresh, 0, update)
        moments = _select(fresh, inner.moments, moments)
        x = state.x - inner.rate * update
        x = jnp.clip(x, 0, 1) if self.clip else x
        value, aux, grad, finite = _value_and_grad(fun, x, *args)
        recorded = _record(
            state,
            x,
            value,
            aux,
            grad,
            accepted=finite,
            finite=finite,
            moved=jnp.any(x != state.x),
            tolerance=self.tolerance,
            patience=self.patience,
        )
        mean = inner.mean
        if self.average:
            decay = self.average
            mean = jnp.where(
                is_active(state.status) & ~fresh, decay * mean + (1 - decay) * recorded.x, mean
            )
            # The start was the first sample.
            weight = 1 - jnp.asarray(decay, x.dtype) ** (recorded.step + 1)
            recorded = recorded._replace(
                best_x=mean / weight, best_value=recorded.value, best_aux=recorded.aux
            )
        failed = _AdamState(0.1 * inner.rate, inner.grad, self._solver().init(x), mean)
        return recorded._replace(
            inner=_select(finite, _AdamState(inner.rate, grad, moments, mean), failed)
        )

    def advance(self, fun: Objective, state: State, stop: int | jax.Array, *args: Any) -> State:
        """Steps until `stop` steps are made in all, or the problem has stopped."""
        return advance(lambda state: self.step(fun, state, *args), state, stop)


_jitted_value_and_grad = jax.jit(_value_and_grad, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class ScipyLBFGSB:
    """SciPy's L-BFGS-B (through jaxopt), restarted: each step is a run of its own.

    It has a line search and runs on the host: one problem at a time, not under `jit` or `vmap`.

    Attributes:
        num_steps: outer iterations; each starts anew from the last one's end, without history.
        maxfun: evaluations after which an outer iteration ends (SciPy finishes the iteration
            that it is in, so there may be a few more).
        history_size: curvature pairs kept.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    num_steps: int = 20
    maxfun: int = 20
    history_size: int = 10

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check(self, num_steps=self.num_steps, maxfun=self.maxfun, history_size=self.history_size)

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Evaluates at `x` and returns the state before the first step."""
        value, aux, grad, finite = _jitted_value_and_grad(fun, x, *args)
        return _record(
            _start(fun, x, args, self.num_steps),
            x,
            value,
            aux,
            grad,
            accepted=finite,
            finite=finite,
            moved=jnp.asarray(True),
            tolerance=0.0,
            patience=1,
        )

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one outer iteration: about `maxfun` evaluations, and one to report its end."""

        def value_and_grad(x: jax.Array, *args: Any) -> tuple[jax.Array, jax.Array]:
            value, _, grad, _ = _jitted_value_and_grad(fun, x, *args)
            return value, grad

        solver = _jaxopt().ScipyMinimize(
            fun=value_and_grad,
            value_and_grad=True,
            jit=False,
            method="L-BFGS-B",
            options={"maxfun": self.maxfun, "maxcor": self.history_size},
        )
        x, info = solver.run(state.x, *args)
        value, aux, grad, finite = _jitted_value_and_grad(fun, x, *args)
        recorded = _record(
            state,
            x,
            value,
            aux,
            grad,
            accepted=finite & (value <= state.value),
            finite=finite,
            moved=jnp.any(x != state.x),
            tolerance=0.0,
            patience=1,
        )
        return recorded._replace(num_evaluations=recorded.num_evaluations + info.num_fun_eval)

    def advance(self, fun: Objective, state: State, stop: int | jax.Array, *args: Any) -> State:
        """Steps until `stop` steps are made in all, or the problem has stopped."""
        while state.step < stop and is_active(state.status):
            state = self.step(fun, state, *args)
        return state


Solver = LBFGS | Adam | ScipyLBFGSB
