"""Terms that read features at drawn positions, in the place of sums over all positions."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle.checks import sum_dtype
from jaxstyle.terms.protocol import Features, PositionWeights, Shares, Term, check_name

Rows = Mapping[str, jax.Array]
"""Layer -> `(N, c)`, the features at N drawn positions."""

HYPERCOLUMN = (
    *("image", "relu1_1", "relu1_2", "relu2_1", "relu2_2"),
    *("relu3_1", "relu3_2", "relu3_3", "relu4_3", "relu5_3"),
)
"""The layers that Kolkin et al. 2019 read at a position, in their program, with its 3 colors."""


class SampledTerm(Term):
    """A scalar function of features at drawn positions; a frozen value.

    Losses of pairs of positions, such as nearest neighbors, have a quadratic cost, so they are
    taken of a sample. Inherit from it in a frozen dataclass and define `name`, `layers`,
    `target_image`, the fields below, and `loss` or `loss_of_draw`.

    A position is a pixel. At a layer of stride s, the row of pixel p is read at `p / s`, bilinearly
    between the four positions around it. Pixels are drawn independently and with replacement, with
    probabilities proportional to their weights; a pixel of weight 0 is never drawn. A window fills
    in the rows of the pixels that it owns, so the sum over windows is the whole sample.
    """

    samples: int
    """N, the number of positions of the image, of each region if there are masks."""

    redraw: int
    """The number of steps between two draws; 0 draws once at each size of the image."""

    style_samples: int = 0
    """M, the number of positions of the styles together; drawn once at each size."""

    def statistics(self, features: Features, target: Any, weight: PositionWeights) -> Any:
        """Not used: `evaluate` reads the rows, which are this term's statistics."""
        raise NotImplementedError

    def loss_of_draw(self, statistics: Any, target: Any, key: jax.Array) -> jax.Array:
        """Returns the loss of one draw, `()`; by default `loss`.

        A term that draws more than positions, such as directions, defines it in the place of
        `loss`.

        Args:
            statistics: of the image.
            target: the term's target.
            key: `(2,)` uint32, another one for each draw.
        """
        del key
        return self.loss(statistics, target)

    def target(self, statistics: Sequence[Rows], shares: Shares) -> Any:
        """Returns layer -> `(M, c)`: of each style as many rows as it has shares.

        Args:
            statistics: layer -> `(M, c)`, of each of S styles.
            shares: layer -> `(S,)`. Rows of layers with equal shares belong together.
        """

        def chosen(layer: str) -> jax.Array:
            rows = jnp.stack([each[layer] for each in statistics])
            number = rows.shape[1]
            middles = (jnp.arange(number) + 0.5) / number
            ends = jnp.cumsum(shares[layer])[:-1]
            style = jnp.sum(middles[:, None] >= ends.astype(middles.dtype), axis=1)
            return jnp.take_along_axis(rows, style[None, :, None], axis=0)[0]

        return {layer: chosen(layer) for layer in self.layers}


def hypercolumns(rows: Rows, layers: Sequence[str]) -> jax.Array:
    """Returns `(N, c)`, the rows of all `layers` beside each other, in the dtype of sums."""
    dtype = sum_dtype(*(rows[layer] for layer in layers))
    return jnp.concatenate([rows[layer].astype(dtype) for layer in layers], axis=1)


def check_sampling(term: SampledTerm) -> None:
    """Checks a term's name and its numbers of positions and steps.

    Raises:
        ValueError: if one is not a whole number, or out of range.
    """
    check_name(term)
    style = ("style_samples",) if term.target_image == "style" else ()
    for field, least in (("samples", 1), ("redraw", 0), *((name, 1) for name in style)):
        value = getattr(term, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{field} must be a whole number from {least} on, not {value!r}")


def names_of_drawing(terms: Sequence[Term]) -> list[str]:
    """Returns the names of the terms that draw positions."""
    return [term.name for term in terms if isinstance(term, SampledTerm)]


def redraws(terms: Sequence[Term]) -> bool:
    """Returns whether the objective of `terms` changes from step to step."""
    return any(isinstance(term, SampledTerm) and term.redraw > 0 for term in terms)
