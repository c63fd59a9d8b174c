"""`minimize`: runs a solver on a function of one array."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxstyle.solvers.lbfgs import LBFGS
from jaxstyle.solvers.optax import as_solver
from jaxstyle.solvers.protocol import Solver, split_settings, with_settings
from jaxstyle.solvers.state import Objective, Trace


def minimize(
    fun: Callable[..., Any],
    init: jax.Array,
    *args: Any,
    solver: Solver | optax.GradientTransformation | None = None,
    has_aux: bool = False,
) -> tuple[jax.Array, Trace]:
    """Minimizes `fun(x, *args)` over `x`, starting from `init`.

    A program is compiled for each function, shape and set of static settings of a solver. Define
    `fun` outside of a loop that calls this, since each new function compiles again. The number
    settings of `LBFGS` and `Adam` (`first_step`, `learning_rate`, ...) and the `hyperparams` of
    `Optax` are arguments of the program. Another value does not compile again, and may be traced:
    `jax.vmap(lambda rate: minimize(fun, init, solver=Adam(learning_rate=rate)))(rates)`.

    Runs under `jax.jit` and `jax.vmap` (except with `ScipyLBFGSB`).

    Args:
        fun: returns a scalar, or with `has_aux` a pair of a scalar and anything; pure, as for
            `jax.jit`. Pass arrays through `args`, or in a `jax.tree_util.Partial` such as
            `jaxstyle.objective` returns; in a closure they become constants of the program.
        init: one floating-point array, any shape.
        *args: further arguments of `fun`.
        solver: a solver, or an optax transformation, see `Optax`; by default `LBFGS()`.
        has_aux: whether `fun` returns a pair.

    Returns:
        The point with the lowest loss that was seen, never above that of `init` (with an
        `average`, the mean of the iterates), of any shape that `init` has; and a `Trace`.

    Raises:
        ValueError: if `init` is not one floating-point array with at least one element, if `fun`
            returns something else than described above, if `solver` is not a solver, or for
            `ScipyLBFGSB` under a transformation.
    """
    solver = LBFGS() if solver is None else as_solver(solver)
    x = _check_init(init)
    fun, held = _split_arrays(fun)
    objective = _WithoutAux(fun, has_aux)
    compiled, settings = split_settings(solver, x.dtype)
    run: Callable[..., tuple[jax.Array, Trace]] = functools.partial(_minimize, objective)
    if not solver.on_host and _can_be_kept(fun):
        run = _jitted_minimize(objective)
    stop = jax.device_put(np.int32(solver.num_steps))
    found, trace = run(compiled, settings, stop, x, held, *args)
    return found, trace._replace(loss=_first(trace.loss, solver.num_steps))


def _minimize(
    objective: Objective,
    solver: Solver,
    settings: dict[str, Any],
    stop: jax.Array,
    x: jax.Array,
    *args: Any,
) -> tuple[jax.Array, Trace]:
    solver = with_settings(solver, settings)
    state = solver.advance(objective, solver.start(objective, x, *args), stop, *args)
    return state.best_x, Trace(state.trace[0], state.num_evaluations, state.status)


@functools.lru_cache(maxsize=64)  # programs of functions no longer used must not fill the memory
def _jitted_minimize(objective: Objective) -> Callable[..., tuple[jax.Array, Trace]]:
    return jax.jit(functools.partial(_minimize, objective), static_argnums=0)


_first = jax.jit(lambda trace, number: trace[:number], static_argnums=1)


def _split_arrays(fun: Any) -> tuple[Any, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Splits the arrays off a `jax.tree_util.Partial`, such as those of `jaxstyle.objective`.

    They are arguments of the compiled program, instead of constants.
    """
    if isinstance(fun, jax.tree_util.Partial) and all(
        isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(fun)
    ):
        return fun.func, (fun.args, fun.keywords)
    return fun, ((), {})


def _can_be_kept(fun: Any) -> bool:
    """Whether programs of `fun` can be cached: if it can be hashed and holds no tracers.

    Tracers in a closure belong to a transformation of the caller, and must not outlive it.
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
    """An objective made of `fun`. All that are made of one `fun` are equal, for jit's cache."""

    fun: Callable[..., Any]
    has_aux: bool

    def __call__(self, x: jax.Array, held: Any, *args: Any) -> Any:
        first, keywords = held
        value = self.fun(*first, x, *args, **keywords)
        if self.has_aux and not (isinstance(value, tuple | list) and len(value) == 2):
            raise ValueError("with has_aux, fun must return a pair of a scalar and anything")
        return value[0] if self.has_aux else value, ()
