"""Solvers against each other: the loss after a number of evaluations, and of the picture saved."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import scipy.optimize
from common import Options, load, objective, plot, problem, report

import jaxstyle
from jaxstyle import recipes, solvers

_MARKS = (25, 50, 100, 150, 200, 300, 500)
_BOUNDS = (0.0, 1.0)


class Curve(NamedTuple):
    """What a solver reached."""

    losses: list[float]
    """The lowest one after each evaluation."""
    saved: float
    """That of the picture, whose pixels are clipped to [0, 1]."""


def solver(options: Options, size: int = 256, evaluations: int = 150) -> None:
    """Loss of each solver after a number of evaluations at full size, on `gatys-notebook`.

    `saved` is the loss of the picture after clipping.
    """
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    recipe = recipes.GATYS_NOTEBOOK
    value_and_grad, arguments = problem(recipe, content, style, params)
    curves = _our_curves(recipe, params, content, style, evaluations)
    for bounds in (None, _BOUNDS):
        name = "SciPy L-BFGS-B" + (", bounds" if bounds else "")
        curves[name] = _scipy_curve(value_and_grad, content, arguments, evaluations, bounds)
        print(name, curves[name].losses[-1], flush=True)
    curves["jaxopt.LBFGS, unchanged"] = _jaxopt_curve(
        objective(recipe), content, arguments, evaluations
    )
    rows = []
    for name, (losses, saved) in curves.items():
        marks = {f"after {n}": min(losses[:n]) for n in _MARKS if n <= len(losses)}
        rows.append({"solver": name, **marks, "saved": saved})
    report("solver", rows, options, curves={name: curve.losses for name, curve in curves.items()})
    plot(
        "solver",
        {name: (range(1, len(y) + 1), y) for name, (y, _) in curves.items()},
        ("evaluations at full size", "loss"),
        options,
        log=True,
    )


def _our_curves(
    recipe: jaxstyle.Recipe, params: Any, content: Any, style: Any, evaluations: int
) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    smooth = solvers.LBFGS(num_steps=evaluations, smoothness=0.25)
    bounded = dataclasses.replace(smooth, bounds=_BOUNDS)
    for label, chosen, pyramid in (
        ("LBFGS", solvers.LBFGS(num_steps=evaluations), None),
        ("LBFGS, history 100", solvers.LBFGS(num_steps=evaluations, history_size=100), None),
        ("LBFGS, bounds", solvers.LBFGS(num_steps=evaluations, bounds=_BOUNDS), None),
        ("LBFGS, smooth", smooth, None),
        ("LBFGS, smooth, bounds", bounded, None),
        ("LBFGS, smooth, pyramid", smooth, jaxstyle.Pyramid()),
    ):
        here = dataclasses.replace(recipe, solver=chosen, pyramid=pyramid)
        result = jaxstyle.stylize(params, content, style, recipe=here)
        losses = [float(x) for x in result.trace[-evaluations:]]
        curves[label] = Curve(losses, float(result.loss))
        print(label, losses[-1], flush=True)
    return curves


def _scipy_curve(
    value_and_grad: Callable[..., Any],
    content: np.ndarray,
    arguments: Any,
    evaluations: int,
    bounds: tuple[float, float] | None,
) -> Curve:
    seen: list[float] = []
    best = content

    def counted(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        image = np.asarray(x.reshape(content.shape), np.float32)
        (value, _), grad = value_and_grad(image, *arguments)
        if len(seen) < evaluations:
            best = image if not seen or float(value) < seen[-1] else best
            seen.append(min([float(value), *seen[-1:]]))
        return float(value), np.asarray(grad, np.float64).ravel()

    scipy.optimize.minimize(
        counted,
        content.ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        bounds=None if bounds is None else [bounds] * content.size,
        options={"maxfun": evaluations, "maxiter": evaluations, "maxcor": 30},
    )
    (saved, _), _ = value_and_grad(np.clip(best, *_BOUNDS), *arguments)
    return Curve(seen, float(saved))


def _jaxopt_curve(
    fun: Callable[..., Any], content: np.ndarray, arguments: Any, evaluations: int
) -> Curve:
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
    saved, _ = jax.jit(fun)(jnp.clip(x, *_BOUNDS), *arguments)
    return Curve(curve[:evaluations], float(saved))
