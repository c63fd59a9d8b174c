"""The sizes that a run paints at, one after the other: with what solver, and what objective."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
from flax.core import FrozenDict

from jaxstyle.image import scaled_shape
from jaxstyle.problem import Problem
from jaxstyle.recipe import Recipe
from jaxstyle.solvers.protocol import Solver
from jaxstyle.terms.protocol import layers_of


class Stage(NamedTuple):
    """One size of a run."""

    scale: float
    """1 for the full size."""
    solver: Solver
    problem: Problem
    """The objective, with the factors of the loss weights at this size."""
    carry: str
    """What it takes over from the size before, see `Pyramid`."""


def stages_of(
    recipe: Recipe,
    solver: Solver,
    problem: Problem,
    content: jax.Array,
    styles: Sequence[jax.Array],
) -> list[Stage]:
    """Returns the sizes to paint at, smallest first."""
    pyramid = recipe.pyramid
    if pyramid is None:
        return [Stage(1.0, solver, problem, recipe.carry)]
    scales = pyramid.scales(*content.shape[-3:-1])
    sizes = [(scale, solver.at_smaller_size(steps)) for scale, steps in scales] + [(1.0, solver)]
    if pyramid.finish:
        sizes.append((1.0, dataclasses.replace(solver, num_steps=pyramid.finish)))
    minimum = recipe.network.minimum_size(layers_of(recipe.terms))
    stages: list[Stage] = []
    for i, (scale, solver_here) in enumerate(sizes):
        shapes = [scaled_shape(image.shape, scale) for image in (content, *styles)]
        # Sizes are left out at which one of the pictures is too small for the network.
        if scale < 1 and min(min(shape[-3:-1]) for shape in shapes) < minimum:
            continue
        factors: FrozenDict[str, float] = FrozenDict(pyramid.factors(i, len(sizes)))
        carry = recipe.carry if scale < 1 or pyramid.last_carry is None else pyramid.last_carry
        here = dataclasses.replace(problem, factors=factors)
        stages.append(Stage(scale, solver_here, here, carry))
    return stages
