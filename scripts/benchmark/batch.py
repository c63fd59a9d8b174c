"""Pairs in lockstep, against a single pair."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from common import Options, alternate, compare, load, report

import jaxstyle
from jaxstyle import recipes, solvers


def batch(options: Options, size: int = 128, sizes: tuple[int, ...] = (1, 2, 4, 8)) -> None:
    """Time per pair of a batch, as a multiple of a single pair's; pairs per second."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    recipe = dataclasses.replace(recipes.GATYS_NOTEBOOK, solver=solvers.LBFGS(num_steps=10))

    def single() -> Any:
        return jaxstyle.stylize(params, content, style, recipe=recipe).loss

    functions: dict[str, Callable[[], Any]] = {"single": single}
    for number in sizes:
        contents, styles = (jnp.stack([x] * number) for x in (content, style))
        functions[str(number)] = functools.partial(
            lambda c, s: jaxstyle.stylize_batch(params, c, s, recipe=recipe).loss, contents, styles
        )
    times = alternate(functions, options)
    rows = []
    for name, seconds in times.items():
        pairs = 1 if name == "single" else int(name)
        each = [second / pairs for second in seconds]
        rows.append(
            {"pairs": name, "seconds per pair and 10 steps": float(np.median(each)),
             **compare(each, times["single"], "single"),
             "pairs per second": 1 / float(np.median(each))}
        )  # fmt: skip
    report("batch", rows, options, size=content.shape[:2])
