"""Solvers: they move one array downhill, one loss-and-gradient evaluation per step.

A solver is a frozen, hashable value. `minimize` runs one on any function of one array; `start` and
`step` are the two halves of it, which `stylize` uses to run many problems in lockstep or to stop
between steps. In place of a line search, each problem has a guard: a step to a non-finite or
exploding value is undone and tried again shorter.
"""

from jaxstyle.solvers.adam import Adam
from jaxstyle.solvers.lbfgs import LBFGS
from jaxstyle.solvers.minimize import minimize
from jaxstyle.solvers.optax import Optax
from jaxstyle.solvers.protocol import Solver
from jaxstyle.solvers.rmsprop import RMSprop
from jaxstyle.solvers.scipy import ScipyLBFGSB
from jaxstyle.solvers.state import Status, Trace

__all__ = [
    "LBFGS",
    "Adam",
    "Optax",
    "RMSprop",
    "ScipyLBFGSB",
    "Solver",
    "Status",
    "Trace",
    "minimize",
]
