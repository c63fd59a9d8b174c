"""One step of a solver, against one evaluation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import optax
from common import Options, alternate, compare, load, objective, problem, report

import jaxstyle
from jaxstyle import recipes, solvers


def iteration(options: Options, size: int = 512, steps: int = 5) -> None:
    """One step of each solver, as a multiple of one evaluation."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    image = jnp.asarray(content)
    recipe = recipes.GATYS_NOTEBOOK
    value_and_grad, arguments = problem(recipe, content, style, params)
    fun = objective(recipe)
    functions: dict[str, Callable[[], Any]] = {
        "evaluation": lambda: value_and_grad(image, *arguments)
    }
    per_call = {"evaluation": 1}
    for label, solver in {
        "LBFGS, history 30": solvers.LBFGS(num_steps=10_000),
        "LBFGS, history 30, smooth": solvers.LBFGS(num_steps=10_000, smoothness=0.25),
        "LBFGS, history 30, bounds": solvers.LBFGS(num_steps=10_000, bounds=(0.0, 1.0)),
        "LBFGS, history 100": solvers.LBFGS(num_steps=10_000, history_size=100),
    }.items():
        here = dataclasses.replace(recipe, solver=solver)
        run = jaxstyle.stylize_steps(params, content, style, recipe=here, every=steps)
        next(run)  # the start
        functions[label] = lambda run=run: next(run)[1].loss  # type: ignore[misc]
        per_call[label] = steps

    functions["jaxopt.LBFGS, unchanged"] = _jaxopt(fun, image, arguments)
    functions["optax.lbfgs"] = _optax(lambda x: fun(x, *arguments)[0], image)
    times = alternate(functions, options)
    rows = []
    for name, seconds in times.items():
        each = [second / per_call.get(name, 1) for second in seconds]
        rows.append(
            {"what": name, "seconds": float(np.median(each)),
             **compare(each, times["evaluation"], "evaluation")}
        )  # fmt: skip
    report("iteration", rows, options, size=content.shape[:2])


def _jaxopt(fun: Any, image: Any, arguments: Any) -> Callable[[], Any]:
    line_search = jaxopt.LBFGS(fun, has_aux=True, history_size=30)
    update = jax.jit(lambda x, state: line_search.update(x, state, *arguments))
    return _stepper(line_search.init_state(image, *arguments), update, image)


def _optax(value: Callable[[Any], Any], image: Any) -> Callable[[], Any]:
    zoom = optax.lbfgs(memory_size=30)
    reuse = optax.value_and_grad_from_state(value)

    @jax.jit
    def update(x: Any, state: Any) -> Any:
        current, gradient = reuse(x, state=state)
        updates, state = zoom.update(
            gradient, state, x, value=current, grad=gradient, value_fn=value
        )
        return optax.apply_updates(x, updates), state

    return _stepper(zoom.init(image), update, image)


def _stepper(state: Any, update: Callable[[Any, Any], Any], image: Any) -> Callable[[], Any]:
    states = [(image, state)]

    def run() -> Any:
        states[0] = update(*states[0])
        return states[0][0]

    return run
