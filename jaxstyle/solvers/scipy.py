"""SciPy's L-BFGS-B, which runs on the host."""

import dataclasses
from typing import Any, ClassVar

import jax

from jaxstyle.solvers.jaxopt import load_jaxopt
from jaxstyle.solvers.protocol import Solver, check_settings
from jaxstyle.solvers.state import Objective, State, evaluate, initial_state, is_active, record

_evaluate = jax.jit(evaluate, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class ScipyLBFGSB(Solver):
    """SciPy's L-BFGS-B (through jaxopt), restarted: each step is a run of its own.

    It has a line search and runs on the host: one problem at a time, and not under `jit` or `vmap`.

    Attributes:
        num_steps: outer iterations; each starts where the last one ended, without history.
        maxfun: evaluations after which an outer iteration ends. SciPy completes its current
            iteration first, which may take a few more.
        history_size: curvature pairs kept.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    num_steps: int = 20
    maxfun: int = 20
    history_size: int = 10

    on_host: ClassVar = True

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_settings(self, whole=("num_steps", "maxfun", "history_size"))

    def start(self, fun: Objective, x: jax.Array, *args: Any) -> State:
        """Evaluates at `x` and returns the state before the first step."""
        # Everything is on the host: no transfer here is one that a guard should report.
        with jax.transfer_guard("allow"):
            state = initial_state(fun, x, args, self.num_steps)
        first = _evaluate(fun, x, *args)
        if isinstance(first.value, jax.core.Tracer):
            raise ValueError(
                "ScipyLBFGSB runs on the host, not under jax.jit, jax.vmap or jax.grad: use LBFGS "
                "or Adam there"
            )
        with jax.transfer_guard("allow"):
            return record(state, first, first.finite)

    def step(self, fun: Objective, state: State, *args: Any) -> State:
        """Makes one outer iteration: about `maxfun` evaluations, and one of its result."""

        def value_and_grad(x: jax.Array, *args: Any) -> tuple[jax.Array, jax.Array]:
            evaluation = _evaluate(fun, x, *args)
            return evaluation.value, evaluation.grad

        solver = load_jaxopt().ScipyMinimize(
            fun=value_and_grad,
            value_and_grad=True,
            jit=False,
            method="L-BFGS-B",
            options={"maxfun": self.maxfun, "maxcor": self.history_size},
        )
        x, info = solver.run(state.x, *args)
        new = _evaluate(fun, x, *args)
        recorded = record(state, new, new.finite & (new.value <= state.value))
        return recorded._replace(num_evaluations=recorded.num_evaluations + info.num_fun_eval)

    def advance(self, fun: Objective, state: State, stop: int | jax.Array, *args: Any) -> State:
        """Steps until `stop` steps are made in all, or the problem has stopped."""
        # Here and in jaxopt, scalars move between host and device.
        with jax.transfer_guard("allow"):
            while state.step < stop and is_active(state.status):
                state = self.step(fun, state, *args)
        return state
