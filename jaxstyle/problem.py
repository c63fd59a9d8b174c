"""The static part of an objective: network, terms, windows and devices."""

import dataclasses

import jax
from jax.sharding import Mesh

from jaxstyle.evaluation import Params, Targets, Weights, evaluate, layers_of
from jaxstyle.terms import Term
from jaxstyle.vgg import VGG19, number_of_poolings


@dataclasses.dataclass(frozen=True)
class Problem:
    """All that is static about an objective; called, it is the objective.

    Problems of equal values are equal, so that `jax.jit` compiles once for them.

    Attributes:
        network: the network.
        terms: the terms.
        tile: pixels along the edge of a window; None takes the picture whole.
        mesh: the devices that share the pictures; None leaves the arrays where they are.
        turned: whether the solver's arrays are `(W, H, 3)`, which splits a picture along its
            columns.
    """

    network: VGG19
    terms: tuple[Term, ...]
    tile: int | None = None
    mesh: Mesh | None = None
    turned: bool = False

    @property
    def stride(self) -> int:
        """Pixels, along each axis, that one position of the deepest layer covers."""
        return max(2 ** number_of_poolings(layer) for layer in layers_of(self.terms))

    def turn(self, x: jax.Array) -> jax.Array:
        """Converts pictures `(..., H, W, 3)` to the solver's layout, or back."""
        return x.swapaxes(-3, -2) if self.turned else x

    def __call__(
        self, x: jax.Array, params: Params, targets: Targets, weights: Weights
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the objective at the solver's `x`, see `jaxstyle.evaluate`."""
        image = self.turn(x)
        return evaluate(self.network, params, self.terms, targets, weights, image, tile=self.tile)
