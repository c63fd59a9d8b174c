"""The objective of a run: its static part, and as a function of the image alone."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxstyle.evaluation import Weights, check_names, evaluate
from jaxstyle.guidance import merge_weights
from jaxstyle.image import scaled_shape
from jaxstyle.network.protocol import Network, Params, common_stride
from jaxstyle.recipe import Recipe
from jaxstyle.targets import Targets
from jaxstyle.terms import MatchedStyle, Term
from jaxstyle.terms.protocol import fill_arrays, layers_of, split_arrays
from jaxstyle.tiling import make_tiling


@dataclasses.dataclass(frozen=True)
class Problem:
    """All that is static about an objective; called, it is the objective.

    Problems of equal values are equal, so that `jax.jit` compiles once for them.

    Attributes:
        network: the network.
        terms: the terms, with shapes in the place of their arrays, see `split_arrays`.
        tile: pixels along the edge of a window; None takes the picture whole.
        mesh: the devices that share the pictures; None leaves the arrays where they are.
        turned: whether the solver's arrays are `(W, H, 3)`, which splits a picture along its
            columns.
        factors: term name -> factor of its loss weight, by default 1, see `Pyramid`.
    """

    network: Network
    terms: tuple[Term, ...]
    tile: int | None = None
    mesh: Mesh | None = None
    turned: bool = False
    factors: Mapping[str, float] = FrozenDict()

    @property
    def stride(self) -> int:
        """Pixels, along each axis, of which the edges of the parts of a picture are multiples."""
        return common_stride(self.network, layers_of(self.terms))

    def check_windows(self, shape: tuple[int, ...], scales: Sequence[float]) -> None:
        """Raises a `ValueError` if a picture cannot be divided into windows at one of the scales.

        `shape` is that at scale 1, `(..., H, W, 3)`.
        """
        for here in (scaled_shape(shape, scale)[-3:] for scale in scales):
            if self.tile is not None and self.tile < max(here[:2]):
                make_tiling(self.network, here, self.tile, layers_of(self.terms), {})

    def turn(self, x: jax.Array) -> jax.Array:
        """Converts pictures `(..., H, W, 3)` to the solver's layout, or back."""
        return x.swapaxes(-3, -2) if self.turned else x

    def active(self, arrays: Sequence[Any] | None = None) -> tuple[Term, ...]:
        """Returns the terms but those whose factor is 0; with their `arrays`, if they are given."""
        terms = self.terms if arrays is None else fill_arrays(self.terms, arrays)
        return tuple(term for term in terms if self.factors.get(term.name, 1) != 0)

    @property
    def needs_start(self) -> bool:
        """Whether a target is made of the picture that a size begins with."""
        return any(isinstance(term, MatchedStyle) for term in self.active())

    def __call__(
        self,
        x: jax.Array,
        params: Params,
        targets: Targets,
        weights: Weights,
        arrays: Sequence[Any] = (),
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the objective at the solver's `x`, see `jaxstyle.evaluate`.

        `arrays` are those of the terms.
        """
        image, terms = self.turn(x), self.active(arrays)
        names = [term.name for term in terms]
        targets = {name: targets[name] for name in names}
        own = {name: weights[name] * self.factors.get(name, 1) for name in names}
        value, losses = evaluate(self.network, params, terms, targets, own, image, tile=self.tile)
        nothing = {term.name: jnp.zeros_like(value) for term in self.terms}
        return value, {**nothing, **losses}


def objective(
    recipe: Recipe,
    params: Params,
    targets: Targets,
    *,
    weights: Weights | None = None,
    tile: int | None = None,
) -> Callable[[ArrayLike], tuple[jax.Array, dict[str, jax.Array]]]:
    """Returns a recipe's objective as a function of the image alone.

    For `minimize` with `has_aux=True`, for optax, or for a loop of your own::

        targets = jaxstyle.prepare_targets(recipe.network, params, recipe.terms, content, style)
        fun = jaxstyle.objective(recipe, params, targets)
        (value, per_term), gradient = jax.value_and_grad(fun, has_aux=True)(image)

    Style shares and masks are part of the targets: pass them to `prepare_targets`. The recipe's
    solver, start, color and median filter are not part of the objective, and of its pyramid only
    the factors of the loss weights at the full size, for a picture of the recipe's `size`.

    The function is pure, and can be compiled, batched and differentiated. It is also a pytree
    (a `jax.tree_util.Partial`) of `params`, `targets`, `weights` and the arrays of the terms. Pass
    it to a jitted function as an argument: in a closure its arrays become constants of the
    compiled program.

    Args:
        recipe: its network, terms and weights are used.
        params: the network's weights.
        targets: from `prepare_targets`, for the recipe's network and terms.
        weights: term name -> `()`, overrides those of the recipe; names that are left out keep
            theirs.
        tile: see `evaluate`.

    Returns:
        A function of an image, `(H, W, 3)` sRGB in [0, 1], that returns what `evaluate` does: the
        value `()`, and a dict of term name -> `()` its loss.

    Raises:
        ValueError: for no recipe, or for weights or targets of other terms. The function raises it
            for the reasons of `evaluate`.
    """
    check_recipe(recipe)
    check_names("targets", targets, recipe.terms)
    factors = merge_weights(recipe.weights, weights, jnp.result_type(float))
    terms, arrays = split_arrays(recipe.terms)
    by_size: FrozenDict[str, float] = FrozenDict()
    if recipe.pyramid is not None:
        edge = recipe.size if isinstance(recipe.size, int) else 1
        number = len(recipe.pyramid.scales(edge, edge)) + 1
        by_size = FrozenDict(recipe.pyramid.factors(number - 1, number))
    problem = Problem(recipe.network, terms, check_tile(tile), factors=by_size)
    return jax.tree_util.Partial(
        problem, params=params, targets=targets, weights=factors, arrays=arrays
    )


def check_recipe(recipe: Any) -> None:
    """Raises a `ValueError` for what is no recipe."""
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"recipe must be a Recipe, such as jaxstyle.recipes.GATYS, not {recipe!r:.50}"
        )


def check_tile(tile: Any) -> int | None:
    """Returns `tile` as an int, or None.

    Raises:
        ValueError: if it is not a positive whole number.
    """
    if tile is not None and not (isinstance(tile, int | np.integer) and tile >= 1):
        raise ValueError(f"tile must be a positive whole number of pixels, not {tile!r}")
    return None if tile is None else int(tile)
