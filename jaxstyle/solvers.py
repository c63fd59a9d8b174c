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
import math
import warnings
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxstyle.sharding import row_major, vary_alike

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

    Compiled once for a function, shapes and the static settings of a solver: define `fun` outside
    of a loop that calls this, since each new function compiles again. The number settings of
    `LBFGS` and `Adam` (`first_step`, `learning_rate`, ...) are arguments of the compiled program,
    so another value does not compile again, and may be traced:
    `jax.vmap(lambda rate: minimize(fun, init, solver=Adam(learning_rate=rate)))(rates)`.

    Can be called under `jax.jit` and `jax.vmap` (not with `ScipyLBFGSB`).

    Args:
        fun: returns a scalar, or with `has_aux` a pair of a scalar and anything; pure, as for
            `jax.jit`. Pass arrays through `args` rather than in a closure, where XLA takes them
            for constants.
        init: one array of floating point, any shape.
        *args: further arguments of `fun`.
        solver: by default `LBFGS()`.
        has_aux: whether `fun` returns a pair.

    Returns:
        The point of the lowest loss that was seen, never above that of `init` (with
        `Adam(average=...)` the mean of the iterates), of any shape that `init` has; and a `Trace`.

    Raises:
        ValueError: if `init` is not one array of floating point with at least one element, if
            `fun` does not return what is said above, or for `ScipyLBFGSB` under a transformation.
    """
    solver = LBFGS() if solver is None else solver
    check_solver(solver)
    x = _check_init(init)
    objective = _WithoutAux(fun, has_aux)
    compiled, settings = split_settings(solver, x.dtype)
    run: Callable[..., tuple[jax.Array, Trace]] = functools.partial(_minimize, objective)
    if not isinstance(solver, ScipyLBFGSB) and _can_be_kept(fun):
        run = _jitted_minimize(objective)
    stop = jax.device_put(np.int32(solver.num_steps))
    found, trace = run(compiled, settings, stop, x, *args)
    return found, trace._replace(loss=_first(trace.loss, solver.num_steps))


def _minimize(
    objective: "Objective",
    solver: "Solver",
    settings: dict[str, jax.Array],
    stop: jax.Array,
    x: jax.Array,
    *args: Any,
) -> tuple[jax.Array, Trace]:
    solver = with_settings(solver, settings)
    state = solver.advance(objective, solver.start(objective, x, *args), stop, *args)
    return state.best_x, Trace(state.trace[0], state.num_evaluations, state.status)


@functools.lru_cache(maxsize=64)  # programs of functions that are gone must not fill the memory
def _jitted_minimize(objective: "Objective") -> Callable[..., tuple[jax.Array, Trace]]:
    return jax.jit(functools.partial(_minimize, objective), static_argnums=0)


_first = jax.jit(lambda trace, number: trace[:number], static_argnums=1)


def _can_be_kept(fun: Any) -> bool:
    """Whether programs of `fun` can be kept: if it can be hashed, and holds no tracers.

    Tracers in a closure belong to a transformation of the caller's, and must end with it.
    """
    try:
        hash(fun)
        held: list[Any] = [cell.cell_contents for cell in getattr(fun, "__closure__", None) or ()]
    except (TypeError, ValueError):  # it cannot be hashed, or a cell is empty
        return False
    if isinstance(fun, functools.partial):
        held += [fun.args, fun.keywords]
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(held))


def _check_init(init: Any) -> jax.Array:
    """Returns `init` as an array on a device."""
    if not isinstance(init, jax.Array):
        if not jax.tree_util.all_leaves([init]) or isinstance(init, str):
            raise ValueError(
                f"init must be one array, not a {type(init).__name__}: put several together with "
                "jax.flatten_util.ravel_pytree"
            )
        init = np.asarray(init)
    if not jnp.issubdtype(init.dtype, jnp.floating):
        raise ValueError(f"init must be floating point, not {init.dtype}")
    if init.size == 0:
        raise ValueError(f"init has no elements: its shape is {init.shape}")
    return init if isinstance(init, jax.Array) else jax.device_put(init)


@dataclasses.dataclass(frozen=True)
class _WithoutAux:
    """An objective made of `fun`; equal to others of it, so that jit knows it again."""

    fun: Callable[..., Any]
    has_aux: bool

    def __call__(self, x: jax.Array, *args: Any) -> Any:
        value = self.fun(x, *args)
        if self.has_aux and not (isinstance(value, tuple | list) and len(value) == 2):
            raise ValueError("with has_aux, fun must return a pair of a scalar and anything")
        return value[0] if self.has_aux else value, ()


def split_settings(solver: "Solver", dtype: Any) -> tuple["Solver", dict[str, jax.Array]]:
    """Splits a solver into what a program is compiled for and the numbers that are its arguments.

    Args:
        solver: any of them.
        dtype: of the numbers.

    Returns:
        A solver whose numbers are the defaults, with room for at least as many steps; and the
        numbers by their names, to be put back by `with_settings`.
    """
    settings = {
        name: _on_device(getattr(solver, name), dtype)
        for name in getattr(solver, "_traced", ())  # SciPy's runs on the host and compiles none
    }
    defaults = {each.name: each.default for each in dataclasses.fields(solver)}
    steps = solver.num_steps
    if settings:
        # The length of the trace is a shape: a power of two serves for many numbers of steps.
        steps = max(64, 2 ** math.ceil(math.log2(steps)))
    fixed: dict[str, Any] = {"num_steps": steps, **{name: defaults[name] for name in settings}}
    return dataclasses.replace(solver, **fixed), settings


def with_settings(solver: "Solver", settings: Mapping[str, Any]) -> Any:
    """Puts numbers back into a solver."""
    return dataclasses.replace(solver, **settings)


def _on_device(value: Any, dtype: Any) -> jax.Array:
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    return jax.device_put(np.asarray(value, dtype))


def check_solver(solver: Any) -> None:
    """Raises a `ValueError` for what is no solver."""
    if not isinstance(solver, Solver):
        raise ValueError(f"solver must be an LBFGS, Adam or ScipyLBFGSB, not {solver!r}")


def is_active(status: jax.Array) -> jax.Array:
    """Whether a problem of this status goes on when it is given more steps."""
    return (status == Status.STEP_LIMIT) | (status == Status.RECOVERED)


def _select(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _start(fun: Objective, x: jax.Array, args: Any, n: int) -> State:
    """The state before the first evaluation, less `inner`."""
    value, aux = jax.eval_shape(fun, x, *args)
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise ValueError(f"fun must return a scalar of floating point, not a {type(value)}")
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"fun must return a scalar of floating point, not {value.shape} {value.dtype}"
        )
    # Zeros, and not infinity, which JAX's debugging flags take for a mistake.
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (value, aux))
    return State(
        x=x,
        value=empty[0],
        aux=empty[1],
        best_x=x,
        best_value=empty[0],
        best_aux=empty[1],
        trace=jax.tree.map(lambda leaf: jnp.zeros((n, *leaf.shape), leaf.dtype), empty),
        step=jnp.zeros((), jnp.int32),
        num_evaluations=jnp.zeros((), jnp.int32),
        status=jnp.full((), int(Status.STEP_LIMIT), jnp.int32),
        anchor=x,
        inner=None,
    )


def _vary_with(state: State, args: Any) -> State:
    """Makes a state vary, in a `jax.shard_map`, over all axes that a step varies over."""
    like = jax.tree.leaves((state.x, args))
    return jax.tree.map(lambda leaf: vary_alike(leaf, *like)[0], state)


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
    tolerance: float | jax.Array,
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
        position = jnp.arange(len(trace), dtype=jnp.int32).reshape(-1, *[1] * new.ndim)
        return jnp.where(active & (position >= old.step), new[None], trace)

    new_x = jnp.where(accepted, x, old.x)
    failed = jnp.where(fresh, int(Status.NON_FINITE_START), int(Status.RECOVERED))
    status = jnp.where(finite, old.status, failed.astype(jnp.int32))
    looked = stepped & ((old.step + 1) % patience == 0)
    settled = looked & accepted & (jnp.mean(jnp.abs(new_x - old.anchor)) < tolerance)
    status = jnp.where(settled, int(Status.CONVERGED), status)
    status = jnp.where(moved | fresh, status, int(Status.STALLED))
    optimal = accepted & finite & (jnp.max(jnp.abs(grad)) == 0)
    status = jnp.where(optimal, int(Status.CONVERGED), status)
    return State(
        x=new_x,
        value=new_value,
        aux=new_aux,
        best_x=jnp.where(better, x, old.best_x),
        best_value=jnp.where(better, value, old.best_value),
        best_aux=_select(better, aux, old.best_aux),
        trace=jax.tree.map(written, old.trace, (new_value, new_aux)),
        step=old.step + stepped.astype(jnp.int32),
        num_evaluations=old.num_evaluations + active.astype(jnp.int32),
        status=jnp.where(active, status, old.status),
        anchor=jnp.where(looked, new_x, old.anchor),
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
    frequency along an axis is left as it is. The map is linear and symmetric.
    """
    height, width, _ = image.shape
    spectrum = row_major(_spectrum(image) * _frequencies(image, exponent))
    planes = row_major(jnp.fft.irfft2(spectrum, s=(height, width)))
    return jnp.moveaxis(planes, 0, -1).astype(image.dtype)


def energy(image: jax.Array, exponent: float) -> jax.Array:
    """Returns `vdot(image, scale_frequencies(image, exponent))`, `()`, by Parseval's theorem."""
    height, width, _ = image.shape
    spectrum = _spectrum(image)
    power = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
    # Each column stands for its mirror image too, except for the first and, if even, the last.
    column = jnp.arange(power.shape[-1])
    single = (column == 0) | (2 * column == width)
    twice = jnp.where(single, 1, 2).astype(image.dtype)[None, None]
    return jnp.sum(power * twice * _frequencies(image, exponent)) / (height * width)


def _spectrum(image: jax.Array) -> jax.Array:
    """The transform `(c, H, W // 2 + 1)` of `(H, W, c)`."""
    return row_major(jnp.fft.rfft2(row_major(jnp.moveaxis(image, -1, 0))))


def _frequencies(image: jax.Array, exponent: float) -> jax.Array:
    """The factors of a spectrum, `(1, H, W // 2 + 1)`."""
    height, width, _ = image.shape
    rows = jnp.fft.fftfreq(height, dtype=image.dtype)[:, None]
    squared = rows**2 + jnp.fft.rfftfreq(width, dtype=image.dtype)[None] ** 2
    return (2 * jnp.sqrt(jnp.maximum(squared, max(height, width) ** -2.0)))[None] ** exponent


def _write(history: jax.Array, new: jax.Array, slot: jax.Array, condition: jax.Array) -> jax.Array:
    """Puts `new` into a slot of `history`, in place, on a condition."""
    return history.at[slot].set(jnp.where(condition, new.astype(history.dtype), history[slot]))


# On accelerators the default precision of products is a few digits.
_dot = functools.partial(jnp.vdot, precision=jax.lax.Precision.HIGHEST)


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
        import jaxopt._src.lbfgs  # noqa: PLC0415
    return jaxopt


def _check(solver: Any, *, whole: tuple[str, ...] = (), positive: tuple[str, ...] = ()) -> None:
    """Checks settings that must be positive; numbers in arrays, which may be traced, pass."""
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


class _Operator(NamedTuple):
    """What jaxopt multiplies with in the place of a number."""

    apply: Callable[[jax.Array], jax.Array]

    def __mul__(self, x: Any) -> Any:
        return self.apply(x)


class _LBFGSState(NamedTuple):
    pairs: jax.Array  # () curvature pairs that were written
    grad: jax.Array  # at x, of the scaled objective
    scale: jax.Array  # () of the objective
    gamma: jax.Array  # () the inverse Hessian without history is gamma S^2
    length: jax.Array  # () mean absolute size of the next step, without history; 0: what gamma says
    s_history: jax.Array
    y_history: jax.Array
    rho_history: jax.Array  # 1 / s.y, 0 where there is no pair


@dataclasses.dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS without a line search: jaxopt's product, with a guard around it.

    Nocedal & Wright, "Numerical Optimization", 2nd edition, algorithm 7.4, with unit steps.
    What is not in the book:

    - the first step, along the gradient, has mean absolute size `first_step`; and the objective is
      scaled, per problem, which keeps absurd loss weights in floating-point range;
    - the inverse Hessian that the product starts from is `gamma S^2`, where S scales the
      frequencies of a picture by `frequency^-smoothness`. These are the steps of L-BFGS in Fourier
      coordinates, as in Olah et al., "Feature Visualization", Distill 2017 (there with exponent
      1): large, smooth changes then take fewer steps;
    - a curvature pair with `s.y` not clearly positive is left out;
    - a step to a non-finite value, or to one that more than doubles the lowest loss so far, is
      undone, the history dropped, and the next step goes a tenth as far along the gradient.

    `first_step` and `tolerance` may be traced arrays `()`; see `minimize`.

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

    _traced: ClassVar = ("first_step", "tolerance")

    def __post_init__(self) -> None:
        """Checks the settings."""
        whole = ("num_steps", "history_size", "patience")
        _check(self, whole=whole, positive=("first_step",))
        if not isinstance(self.smoothness, Real) or not math.isfinite(self.smoothness):
            raise ValueError(f"smoothness must be a number, not {self.smoothness!r}")
        if self.history_dtype not in (None, "bfloat16", "float16", "float32"):
            raise ValueError(
                f"history_dtype {self.history_dtype!r} is not bfloat16, float16 or float32"
            )

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Returns the state before the first evaluation, which the first `step` makes."""
        one = jnp.ones((), x.dtype)
        history = jnp.zeros((self.history_size, *x.shape), self.history_dtype or x.dtype)
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
        return _vary_with(_start(fun, x, args, self.num_steps)._replace(inner=inner), args)

    def _is_smooth(self, x: jax.Array) -> bool:
        return self.smoothness != 0 and x.ndim == 3

    def _times_inverse_hessian(self, inner: _LBFGSState) -> jax.Array:
        """The approximate inverse Hessian times the gradient."""

        def initial(r: jax.Array) -> jax.Array:
            smooth = self._is_smooth(r)
            return inner.gamma * (scale_frequencies(r, -2 * self.smoothness) if smooth else r)

        # A history of another dtype is promoted.
        with jax.numpy_dtype_promotion("standard"):
            product: jax.Array = _jaxopt()._src.lbfgs.inv_hessian_product(
                inner.grad,
                inner.s_history,
                inner.y_history,
                inner.rho_history,
                gamma=_Operator(initial),
                start=inner.pairs % self.history_size,
            )
        return product

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one step: one evaluation."""
        fresh, old = _is_fresh(state), state.inner
        tiny = jnp.finfo(state.x.dtype).tiny
        # At first the gradient is zero, and so is the step.
        direction = self._times_inverse_hessian(old)
        size = jnp.mean(jnp.abs(direction))
        # All divisions are by what cannot be zero, lest the derivative of a step is not a number.
        resized = (old.length > 0) & (size >= tiny)
        factor = jnp.where(resized, old.length / jnp.where(resized, size, 1), 1)
        x = state.x - factor * direction
        s = x - state.x
        size = jnp.mean(jnp.abs(s))

        value, aux, grad, finite = _value_and_grad(fun, x, *args)
        largest = jnp.max(jnp.abs(grad))
        positive = largest >= tiny
        scale = jnp.where(fresh & positive, 1 / jnp.where(positive, largest, 1), old.scale)
        grad = scale * grad
        # A direction that is not finite was evaluated at a point that is not.
        finite &= jnp.isfinite(size) & jnp.isfinite(scale * largest)
        predicted = jnp.abs(_dot(old.grad, s)) / scale
        allowed = state.best_value + jnp.maximum(jnp.abs(state.best_value), predicted)
        accepted = finite & (fresh | (value <= allowed))

        inner = self._remember(old, s, grad, accepted=accepted, gamma=old.gamma * factor)
        shorter = jnp.where(jnp.isfinite(size), 0.1 * size, self.first_step)
        length = jnp.where(accepted, 0, shorter).astype(x.dtype)
        length = jnp.where(fresh, old.length, length)
        recorded = _record(
            state,
            x,
            value,
            aux,
            grad,
            accepted=accepted,
            finite=finite,
            moved=jnp.any(x != state.x),
            tolerance=self.tolerance,
            patience=self.patience,
        )
        return recorded._replace(inner=inner._replace(scale=scale, length=length))

    def _remember(
        self,
        old: _LBFGSState,
        s: jax.Array,
        grad: jax.Array,
        *,
        accepted: jax.Array,
        gamma: jax.Array,
    ) -> _LBFGSState:
        """The state with another pair; without history, where the step was not accepted."""
        dtype = s.dtype
        y = grad - old.grad
        norms = [jnp.linalg.norm(jax.lax.stop_gradient(each).ravel()) for each in (s, y)]
        s, y = (each.astype(old.s_history.dtype).astype(dtype) for each in (s, y))
        product = _dot(s, y)
        curved = accepted & (product > jnp.finfo(dtype).eps * norms[0] * norms[1])
        square = energy(y, -2 * self.smoothness) if self._is_smooth(y) else _dot(y, y)
        product, square = (jnp.where(curved, each, 1) for each in (product, square))
        # One that is left out leaves the oldest one where it is; only the counter says so.
        slot = old.pairs % self.history_size
        write = functools.partial(_write, slot=slot, condition=curved)
        rho = write(old.rho_history, 1 / product)
        return old._replace(
            pairs=old.pairs + curved.astype(jnp.int32),
            grad=jnp.where(accepted, grad, old.grad),
            gamma=jnp.where(curved, product / square, jnp.where(accepted, gamma, 1)),
            s_history=write(old.s_history, s),
            y_history=write(old.y_history, y),
            rho_history=jnp.where(accepted, rho, 0),
        )

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

    _traced: ClassVar = ("learning_rate", "b1", "b2", "eps", "tolerance")

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check(self, whole=("num_steps", "patience"), positive=("learning_rate", "eps"))
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
        state = _start(fun, x, args, self.num_steps)
        rate = jnp.asarray(self.learning_rate, x.dtype)
        mean = x * (1 - self.average) if self.average else None
        nothing = jnp.zeros_like(x)
        inner = _AdamState(rate, nothing, self._solver().init(x), mean)
        return _vary_with(state._replace(inner=inner), args)

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
        with jax.numpy_dtype_promotion("standard"):  # optax counts in whole numbers
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
            weight = 1 - decay ** (recorded.step + 1).astype(x.dtype)
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
        _check(self, whole=("num_steps", "maxfun", "history_size"))

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Evaluates at `x` and returns the state before the first step."""
        # All of it is on the host, and nothing of it is a transfer that a guard should look for.
        with jax.transfer_guard("allow"):
            state = _start(fun, x, args, self.num_steps)
        value, aux, grad, finite = _jitted_value_and_grad(fun, x, *args)
        if isinstance(value, jax.core.Tracer):
            raise ValueError(
                "ScipyLBFGSB runs on the host, not under jax.jit, jax.vmap or jax.grad: use LBFGS "
                "or Adam there"
            )
        with jax.transfer_guard("allow"):
            return _record(
                state,
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
        # Scalars go to and fro here, and in jaxopt.
        with jax.transfer_guard("allow"):
            while state.step < stop and is_active(state.status):
                state = self.step(fun, state, *args)
        return state


Solver = LBFGS | Adam | ScipyLBFGSB
