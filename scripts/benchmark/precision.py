"""What a network in lower precision costs in loss."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from common import Options, load, problem, report

import jaxstyle
from jaxstyle import recipes
from jaxstyle.app import devices
from jaxstyle.app.vgg import vgg_of


def precision(options: Options, size: int = 128, steps: int = 100) -> None:
    """The final loss, computed in float32, of runs whose network has a lower precision."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    recipe = dataclasses.replace(recipes.DEFAULT, pyramid=None)
    chosen = dataclasses.replace(recipe.solver, num_steps=steps)
    rows: list[dict[str, Any]] = []
    for name in ("float32", "tf32", "bfloat16"):
        network = vgg_of(recipe).clone(dtype=jnp.bfloat16 if name == "bfloat16" else None)
        here = dataclasses.replace(recipe, network=network, solver=chosen)
        with devices.precision(name):
            result = jaxstyle.stylize(params, content, style, recipe=here)
        with devices.precision("float32"):
            value_and_grad, arguments = problem(recipe, content, style, params)
            (value, _), _ = value_and_grad(result.image, *arguments)
        rows.append({"network": name, "own loss": float(result.loss), "float32 loss": float(value)})
        rows[-1]["/ float32"] = rows[-1]["float32 loss"] / rows[0]["float32 loss"]
    report("precision", rows, options, size=content.shape[:2], steps=steps)
