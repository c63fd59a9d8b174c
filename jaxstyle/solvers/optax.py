"""Any optax transformation as a solver, guarded against non-finite steps."""

import dataclasses
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict

from jaxstyle.laplacian import fold, unfold
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


class DescentState(NamedTuple):
    """What a `Descent` keeps between steps."""

    rate: jax.Array  # () the factor of the updates
    grad: jax.Array
    transformation: Any  # optax's state, of the variables
    mean: jax.Array | None  # of the iterates, not yet corrected for its bias


class Descent(Solver):
    """What `Optax`, `Adam` and `RMSprop` have in common: steps along a transformation's updates.

    A step to a non-finite value is undone, and all further updates of that problem are divided by
    ten.

    The transformation works on the variables, which are `x` or its Laplacian pyramid. All else is
    about `x`: a pyramid is linear in it, so that a change of the variables is a change of `x`.
    """

    coordinates: Literal["pixels", "laplacian"]
    levels: int
    clip: bool
    average: float
    tolerance: float
    patience: int

    has_schedule: ClassVar[bool]
    """Whether updates may depend on the number of steps. If so, an undone step leaves the
    transformation's state as it was, rather than dropping it, which would begin the schedule anew;
    and an update of zero, such as the first one of a warm-up, does not end the run."""

    takes_redraws: ClassVar[bool] = True

    @property
    def knows_pixels(self) -> bool:
        """Whether iterates are clipped, and the result is one of them."""
        return self.clip and self.average == 0

    def _transformation(self) -> optax.GradientTransformation:
        raise NotImplementedError

    def _rate(self) -> Any:
        return 1

    def _check(self) -> None:
        """Checks the settings that all have."""
        check_settings(self, whole=("num_steps", "patience", "levels"))
        check_fraction("average", self.average)
        if self.coordinates not in ("pixels", "laplacian"):
            raise ValueError(f"coordinates {self.coordinates!r} is not one of pixels, laplacian")

    def _variables(self, x: jax.Array) -> Any:
        """Returns what the transformation works on."""
        if self.coordinates == "pixels":
            return x
        if x.ndim != 3:
            raise ValueError(f"a Laplacian pyramid is of (H, W, c), not of shape {x.shape}")
        return unfold(x, self.levels)

    def _image(self, variables: Any) -> jax.Array:
        """Returns the `x` of variables; linear."""
        image: jax.Array = variables if self.coordinates == "pixels" else fold(variables)
        return image

    def _initial(self, x: jax.Array) -> Any:
        return jax.tree.map(jnp.asarray, self._transformation().init(self._variables(x)))

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Returns the state before the first evaluation, which the first `step` makes."""
        x = jnp.clip(x, 0, 1) if self.clip else x
        state = initial_state(fun, x, args, self.num_steps)
        inner = DescentState(
            rate=jnp.asarray(self._rate(), x.dtype),
            # The first step drops the update that it makes of this, which must only be finite.
            grad=jnp.ones_like(x),
            transformation=self._initial(x),
            mean=x * (1 - self.average) if self.average else None,
        )
        return vary_with(state._replace(inner=inner), args)

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one step: one evaluation."""
        inner, fresh = state.inner, is_fresh(state)
        update, after = self._update(fun, state, *args)
        x = state.x + inner.rate * jnp.where(fresh, 0, update)
        x = jnp.clip(x, 0, 1) if self.clip else x
        new = evaluate(fun, x, *args)
        recorded = record(
            state,
            new,
            new.finite,
            tolerance=self.tolerance,
            patience=self.patience,
            stalls=not self.has_schedule,
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
        before = inner.transformation if self.has_schedule else self._initial(x)
        moved = DescentState(inner.rate, new.grad, select(fresh, inner.transformation, after), mean)
        undone = DescentState(0.1 * inner.rate, inner.grad, before, mean)
        return recorded._replace(inner=select(new.finite, moved, undone))

    def _update(self, fun: Objective, state: State, *args: Any) -> tuple[jax.Array, Any]:
        """The change of `x` by the transformation, and the transformation's state after it."""
        before, variables = state.inner.transformation, self._variables(state.x)
        (grad,) = jax.vjp(self._image, variables)[1](state.inner.grad)
        # Transformations with a line search, or that look at the loss, find here what they need.
        update = optax.with_extra_args_support(self._transformation()).update
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            update, after = update(
                grad,
                before,
                variables,
                value=state.value,
                grad=grad,
                value_fn=lambda variables: fun(self._image(variables), *args)[0],
            )
        # A loop needs the dtypes that it began with.
        after = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, before)
        update = jax.tree.map(lambda each: each.astype(state.x.dtype), update)
        return self._image(update), after


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optax(Descent):
    """Steps along the updates of an optax transformation, with a guard against non-finite steps.

    Any `optax.GradientTransformation` will do, such as `optax.adam(1e-2)` or a chain with a
    schedule. Wherever a solver is expected, a transformation by itself means `Optax` of it with
    the other settings at their defaults.

    A step to a non-finite value is undone: `x` and the transformation's state are as before it,
    and all further updates of that problem are divided by ten. The evaluations that a
    transformation makes itself, in a line search, are not counted, and its part of the program
    compiles the objective once more. At each size of a pyramid the transformation, with its
    schedule, starts anew.

    A program is compiled for each transformation, and optax's functions return a new one at each
    call: `optax.adam(1e-2) != optax.adam(1e-2)`. Make it once, outside of loops. To change its
    numbers without compiling again, or to trace them, inject them and pass `hyperparams`::

        adam = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)
        jax.vmap(
            lambda rate: minimize(fun, x, solver=Optax(adam, hyperparams={"learning_rate": rate}))
        )(rates)

    Attributes:
        transformation: from optax, or made with its combinators.
        num_steps: steps, each one evaluation (one more is made at the start).
        hyperparams: name -> number, which overrides what `optax.inject_hyperparams` was given; the
            numbers may be traced arrays `()`.
        coordinates: see `Adam`.
        levels: see `Adam`.
        clip: see `Adam`.
        average: see `Adam`.
        tolerance: see `Adam`; may be a traced array `()`.
        patience: see `Adam`.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    transformation: optax.GradientTransformation = dataclasses.field(kw_only=False)
    num_steps: int = 1000
    hyperparams: Mapping[str, Any] = FrozenDict()
    coordinates: Literal["pixels", "laplacian"] = "pixels"
    levels: int = 8
    clip: bool = False
    average: float = 0.0
    tolerance: float = 0.0
    patience: int = 20

    traced: ClassVar = ("hyperparams", "tolerance")
    has_schedule: ClassVar = True

    def __post_init__(self) -> None:
        """Freezes the hyperparameters, so that the solver can be hashed; checks the settings."""
        if not isinstance(self.transformation, optax.GradientTransformation):
            raise ValueError(
                f"transformation must be from optax, such as optax.adam(1e-2), not "
                f"{self.transformation!r}"
            )
        self._check()
        if not isinstance(self.hyperparams, Mapping):
            raise ValueError(f"hyperparams must be a dict of numbers, not {self.hyperparams!r}")
        object.__setattr__(self, "hyperparams", FrozenDict(self.hyperparams))
        for name, value in self.hyperparams.items():
            if not isinstance(value, Real) and not (
                isinstance(value, jax.Array) and value.shape == ()
            ):
                raise ValueError(f"hyperparams: {name} must be a number, not {value!r}")
        if self.hyperparams:
            self._check_names()

    def _check_names(self) -> None:
        find = optax.tree_utils.tree_get_all_with_path
        like = jax.ShapeDtypeStruct((1, 1, 3), jnp.float32)
        state = jax.eval_shape(self.transformation.init, like)
        found, scheduled = (
            {name for _, each in find(state, key) for name in each}
            for key in ("hyperparams", "hyperparams_states")
        )
        if unknown := set(self.hyperparams) - (found - scheduled):
            valid = ", ".join(sorted(found - scheduled)) or "none: use optax.inject_hyperparams"
            raise ValueError(
                f"hyperparams: {', '.join(map(str, unknown))}, but the numbers that were injected "
                f"without a schedule are {valid}"
            )

    def _transformation(self) -> optax.GradientTransformation:
        return self.transformation

    def _initial(self, x: jax.Array) -> Any:
        state = super()._initial(x)
        if not self.hyperparams:
            return state
        numbers = {name: jnp.asarray(each, x.dtype) for name, each in self.hyperparams.items()}
        # Fields of a state may have the same names; hyperparameters are in dicts.
        is_hyperparam = lambda path, _: isinstance(path[-1], jax.tree_util.DictKey)  # noqa: E731
        return optax.tree_utils.tree_set(state, is_hyperparam, **numbers)


def check_fraction(name: str, value: Any) -> None:
    """Checks a decay, which must be at least 0 and below 1."""
    if not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")


def as_solver(value: Any) -> Solver:
    """Returns `value` if it is a solver, and `Optax` of an optax transformation.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, optax.GradientTransformation):
        return Optax(value)
    if isinstance(value, Solver):
        return value
    raise ValueError(
        "solver must be such as LBFGS, Adam or ScipyLBFGSB, or an optax transformation, not "
        f"{value!r}"
    )
