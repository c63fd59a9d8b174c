"""`Recipe`: all settings of a run but its pictures."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

from flax.core import FrozenDict

from jaxstyle.network.protocol import Network, check_layers
from jaxstyle.network.vgg import VGG19
from jaxstyle.pyramid import Pyramid
from jaxstyle.solvers import LBFGS, Solver
from jaxstyle.solvers.optax import as_solver
from jaxstyle.terms import Term
from jaxstyle.terms.protocol import layers_of, split_arrays

Color = Literal["style", "luminance", "match", "recolor"]
"""Whose colors a result has, see `Recipe`."""

MOST = 1e6
"""Of `grain` and `strength`; more would be no picture."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of a run but its pictures; frozen, and hashable unless terms hold arrays.

    Attributes:
        name: its name on the command line.
        source: what it reproduces.
        description: one line.
        network: the network.
        terms: the terms of the objective.
        weights: loss weights, term name -> factor.
        solver: the solver, with its number of steps; an optax transformation becomes an `Optax`.
        init: the image to start from: a copy of the `content`; `noise`, white and uniform in
            [0, 1]; `mean`, the mean color of the network's training images, with hardly any noise
            (as jcjohnson/neural-style's `random`); or `detail`, the mean color of the styles, with
            the finest detail that the content has at the smallest size of the pyramid (as STROTSS).
        grain: strength of the white noise that is added to a start from the content: its standard
            deviation over that of the paintings' finest detail; 0 adds none. Smooth areas of a
            photo have nothing else that strokes could grow from, and fill with hatching along the
            pixel grid.
        pyramid: smaller sizes to paint first; None for none.
        size: default long edge of the content, in pixels; `original` is that of its file.
        median_filter: side, in pixels, of the median filter of the *returned* image; 1 disables
            it. The iteration never sees the filtered image.
        color: `style` leaves the colors to the style; `luminance` gives the *returned* image the
            chroma of the content; `match` first gives the styles the colors of the content;
            `recolor` gives the *returned* image the content's chroma, matched to the chroma of
            the styles. `jaxstyle.color` has the functions.
        strength: how far the *returned* image is from the content: 0 is the content, 1 the result,
            and more goes beyond it.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    name: str
    source: str
    description: str
    terms: tuple[Term, ...]
    weights: Mapping[str, float]
    network: Network = VGG19()
    solver: Solver = LBFGS()
    init: Literal["content", "noise", "mean", "detail"] = "content"
    grain: float = 0.0
    pyramid: Pyramid | None = None
    size: int | Literal["original"] = 512
    median_filter: int = 1
    color: Color = "style"
    strength: float = 1.0

    @property
    def carry(self) -> str:
        """What the pyramid carries from size to size."""
        return "change" if self.pyramid is None else self.pyramid.carry

    def __post_init__(self) -> None:
        """Freezes the weights, which makes the recipe hashable, and validates the settings."""
        self._check_terms()
        if not isinstance(self.weights, Mapping):
            raise ValueError(
                f"recipe {self.name}: weights must be a dict of term name -> factor, not "
                f"{self.weights!r}"
            )
        object.__setattr__(self, "weights", FrozenDict(self.weights))
        object.__setattr__(self, "solver", as_solver(self.solver))
        names = {term.name for term in self.terms}
        if len(names) < len(self.terms):
            raise ValueError(f"recipe {self.name}: two terms have the same name")
        if set(self.weights) != names:
            raise ValueError(f"recipe {self.name}: weights {set(self.weights)}, terms {names}")
        for field, value, valid in (
            ("init", self.init, ("content", "noise", "mean", "detail")),
            ("color", self.color, get_args(Color)),
        ):
            if value not in valid:
                raise ValueError(
                    f"recipe {self.name}: {field} {value!r} is not one of {', '.join(valid)}"
                )
        if not _is_whole(self.median_filter) or self.median_filter % 2 == 0:
            raise ValueError(f"recipe {self.name}: median_filter must be odd and positive")
        if not _is_whole(self.size) and self.size != "original":
            raise ValueError(
                f"recipe {self.name}: size must be a positive number of pixels, or 'original'"
            )
        for field, number in (("grain", self.grain), ("strength", self.strength)):
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if not is_number or not 0 <= number <= MOST:
                raise ValueError(
                    f"recipe {self.name}: {field} must be from 0 to {MOST:g}, not {number}"
                )
        self._check_pyramid(names)
        settings = {**vars(self), "terms": split_arrays(self.terms)[0]}
        try:
            hash(tuple(settings.values()))
        except TypeError as error:
            raise ValueError(
                f"recipe {self.name}: network, terms and weights must be hashable, with tuples and "
                "numbers instead of lists and arrays; a term with arrays must be registered, see "
                f"jaxstyle.terms.Term ({error})"
            ) from None

    def _check_pyramid(self, names: set[str]) -> None:
        """Checks the pyramid, and that every size has terms left, of `names`."""
        if not isinstance(self.pyramid, Pyramid | None):
            raise ValueError(f"recipe {self.name}: pyramid must be a Pyramid or None")
        factors = {} if self.pyramid is None else self.pyramid.weight_factors
        if unknown := set(factors) - names:
            raise ValueError(
                f"recipe {self.name}: weight_factors of {', '.join(map(str, unknown))}, terms "
                f"{', '.join(sorted(names))}"
            )
        number = max(map(len, factors.values()), default=0)
        for index in range(number):
            here = self.pyramid.factors(index, number) if self.pyramid else {}
            if set(here) == names and not any(here.values()):
                raise ValueError(f"recipe {self.name}: all weight_factors of one size are 0")

    def _check_terms(self) -> None:
        """Checks the terms, and that the network has their layers."""
        if not isinstance(self.terms, tuple) or not self.terms:
            raise ValueError(
                f"recipe {self.name}: terms must be a tuple of one or more terms, such as "
                f"(GramStyle(),), not {self.terms!r}"
            )
        for term in self.terms:
            if not isinstance(term, Term):
                raise ValueError(f"recipe {self.name}: {term!r} in terms is not a term")
        if not isinstance(self.network, Network):
            raise ValueError(f"recipe {self.name}: network {self.network!r} is not a network")
        try:
            check_layers(self.network, layers_of(self.terms))
        except ValueError as error:
            raise ValueError(f"recipe {self.name}: {error}") from None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and value >= 1
