"""The static part of an objective: network, terms, windows and devices."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from jaxstyle.evaluation import Weights, evaluate
from jaxstyle.network.protocol import Network, Params, common_stride
from jaxstyle.targets import Targets
from jaxstyle.terms import Term
from jaxstyle.terms.protocol import fill_arrays, layers_of


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
    """

    network: Network
    terms: tuple[Term, ...]
    tile: int | None = None
    mesh: Mesh | None = None
    turned: bool = False

    @property
    def stride(self) -> int:
        """Pixels, along each axis, of which the edges of the parts of a picture are multiples."""
        return common_stride(self.network, layers_of(self.terms))

    def turn(self, x: jax.Array) -> jax.Array:
        """Converts pictures `(..., H, W, 3)` to the solver's layout, or back."""
        return x.swapaxes(-3, -2) if self.turned else x

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
        image, terms = self.turn(x), fill_arrays(self.terms, arrays)
        return evaluate(self.network, params, terms, targets, weights, image, tile=self.tile)
