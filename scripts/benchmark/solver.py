"""Solvers against each other: the loss after a number of evaluations."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import scipy.optimize
from common import Options, load, objective, plot, problem, report

import jaxstyle
from jaxstyle import recipes, solvers

_MARKS = (25, 50, 100, 150, 200, 300, 500)


def solver(options: Options, size: int = 256, evaluations: int = 150) -> None:
    """Loss of each solver after a number of evaluations at full size, on `gatys-notebook`."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    recipe = recipes.GATYS_NOTEBOOK
    value_and_grad, arguments = problem(recipe, content, style, params)
    curves = _our_curves(recipe, params, content, style, evaluations)
    curves["SciPy L-BFGS-B"] = _scipy_curve(value_and_grad, content, arguments, evaluations)
    curves["jaxopt.LBFGS, unchanged"] = _jaxopt_curve(
        objective(recipe), content, arguments, evaluations
    )
    rows = [
        {"solver": name, **{f"after {n}": min(curve[:n]) for n in _MARKS if n <= len(curve)}}
        for name, curve in curves.items()
    ]
    report("solver", rows, options, curves=curves)
    plot(
        "solver",
        {name: (range(1, len(y) + 1), y) for name, y in curves.items()},
        ("evaluations at full size", "loss"),
        options,
        log=True,
    )


def _our_curves(
    recipe: jaxstyle.Recipe, params: Any, content: Any, style: Any, evaluations: int
) -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {}
    smooth = solvers.LBFGS(num_steps=evaluations, smoothness=0.25)
    for label, chosen, pyramid in (
        ("LBFGS", solvers.LBFGS(num_steps=evaluations), None),
        ("LBFGS, history 100", solvers.LBFGS(num_steps=evaluations, history_size=100), None),
        ("LBFGS, smooth", smooth, None),
        ("LBFGS, smooth, pyramid", smooth, jaxstyle.Pyramid()),
    ):
        here = dataclasses.replace(recipe, solver=chosen, pyramid=pyramid)
        result = jaxstyle.stylize(params, content, style, recipe=here)
        curves[label] = [float(x) for x in result.trace[-evaluations:]]
        print(label, curves[label][-1], flush=True)
    return curves


def _scipy_curve(
    value_and_grad: Callable[..., Any], content: np.ndarray, arguments: Any, evaluations: int
) -> list[float]:
    seen: list[float] = []

    def counted(x: np.ndarray) -> tuple[float, np.ndarray]:
        (value, _), grad = value_and_grad(
            jnp.asarray(x.reshape(content.shape), jnp.float32), *arguments
        )
        seen.append(min([float(value), *seen[-1:]]))
        return float(value), np.asarray(grad, np.float64).ravel()

    scipy.optimize.minimize(
        counted,
        content.ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": evaluations, "maxiter": evaluations, "maxcor": 30},
    )
    return seen[:evaluations]


def _jaxopt_curve(
    fun: Callable[..., Any], content: np.ndarray, arguments: Any, evaluations: int
) -> list[float]:
    count = [0]

    def counted(x: Any, *arguments: Any) -> Any:
        jax.debug.callback(lambda: count.__setitem__(0, count[0] + 1))
        return fun(x, *arguments)

    line_search = jaxopt.LBFGS(counted, has_aux=True, history_size=30)
    update = jax.jit(line_search.update)
    x, state = jnp.asarray(content), line_search.init_state(jnp.asarray(content), *arguments)
    curve: list[float] = []
    while count[0] < evaluations:
        x, state = update(x, state, *arguments)
        jax.effects_barrier()
        # Each point of the line search costs one evaluation: a value, and a gradient elsewhere.
        best = min([float(state.value), *curve[-1:]])
        curve += [best] * (count[0] - len(curve))
    return curve[:evaluations]
