"""Recipes: complete, named, citable settings.

Each constant here is a `Recipe`; `RECIPES` holds them by name. Change one with
`dataclasses.replace(recipe, ...)`, or over the arguments of `stylize`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from flax.core import FrozenDict

from jaxstyle.pyramid import Pyramid
from jaxstyle.solvers import LBFGS, ScipyLBFGSB, Solver
from jaxstyle.terms import Content, GramStyle, Term
from jaxstyle.vgg import VGG19


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A setting of everything but the pictures; frozen and hashable.

    Attributes:
        name: as on the command line.
        source: what it reproduces.
        description: one line.
        network: the network.
        terms: terms of the objective.
        weights: term name -> factor.
        solver: solver and number of steps.
        init: the image to start from: a copy of the `content`, or `noise` (white, uniform in
            [0, 1]).
        pyramid: smaller sizes to begin with; None for none.
        size: long edge of the content in pixels, where nothing else is said.
        median_filter: side of the median filter that the *returned* image passes, in pixels;
            1 is none. The iteration never sees it.
    """

    name: str
    source: str
    description: str
    terms: tuple[Term, ...]
    weights: Mapping[str, float]
    network: VGG19 = VGG19()
    solver: Solver = LBFGS()
    init: Literal["content", "noise"] = "content"
    pyramid: Pyramid | None = None
    size: int = 512
    median_filter: int = 1

    @property
    def carry(self) -> str:
        """What the pyramid carries from size to size."""
        return "change" if self.pyramid is None else self.pyramid.carry

    def __post_init__(self) -> None:
        """Freezes the weights, so that the recipe can be hashed, and checks the settings."""
        object.__setattr__(self, "weights", FrozenDict(self.weights))
        names = {term.name for term in self.terms}
        if set(self.weights) != names:
            raise ValueError(f"recipe {self.name}: weights {set(self.weights)}, terms {names}")
        if self.init not in ("content", "noise"):
            raise ValueError(f"recipe {self.name}: init {self.init!r} is not content or noise")
        if self.median_filter < 1 or self.median_filter % 2 == 0:
            raise ValueError(f"recipe {self.name}: median_filter must be odd and positive")


_GATYS_2016 = "Gatys, Ecker & Bethge, Image Style Transfer Using CNNs, CVPR 2016"

GATYS = Recipe(
    name="gatys",
    source=_GATYS_2016,
    description="the paper's losses, average pooling, alpha/beta = 1e-3",
    network=VGG19(pooling="average"),
    terms=(Content(), GramStyle()),
    weights={"content": 1e-3, "style": 1.0},
    solver=LBFGS(num_steps=500),
)

# The notebook's 1e3 / C^2 * MSE(G, A) is 4e3 / C^2 times eq. 4 (whose 1 / N^2 is the mean).
GATYS_NOTEBOOK = Recipe(
    name="gatys-notebook",
    source=_GATYS_2016 + ", the authors' PyTorch notebook (its first stage)",
    description="mean squared errors, layers weighted by 1e3 / C^2, max pooling",
    terms=(
        Content(reduction="mean"),
        GramStyle(layer_weights=tuple(4e3 / c**2 for c in (64, 128, 256, 512, 512))),
    ),
    weights={"content": 1.0, "style": 1.0},
    solver=LBFGS(num_steps=500, history_size=100),
)

# The paper's section 4.2 names the two weights the other way round; section 1.2, which gives
# alpha / beta = 0.025 / 1.0 and agrees with the program it grew from, is followed here.
GOKALP_KIM = Recipe(
    name="gokalp-kim",
    source="Gokalp & Kim, Painting the Starry Night (after the Keras example)",
    description="the paper's losses, max pooling, alpha/beta = 0.025, restarted L-BFGS-B, 3x3 "
    "median filter on the saved image",
    terms=(Content(), GramStyle()),
    weights={"content": 0.025, "style": 1.0},
    solver=ScipyLBFGSB(num_steps=20, maxfun=20),
    median_filter=3,
)

# The 1e-2 in front of all of the notebook's objective is pastiche's.
PASTICHE = Recipe(
    name="pastiche",
    source="dstein64/pastiche",
    description="gatys-notebook's losses times 0.01",
    terms=GATYS_NOTEBOOK.terms,
    weights={"content": 0.01, "style": 0.01},
    solver=LBFGS(num_steps=1000, history_size=100),
)

# Chosen by looking (see the README): average pooling and replicate padding give cleaner strokes
# and truer colours than the notebook's max pooling and zeros, and none of its checkered ripples;
# all losses are means, so the weights carry from size to size.
DEFAULT = dataclasses.replace(
    GATYS_NOTEBOOK,
    name="default",
    source="jaxstyle",
    description="gatys-notebook's losses with average pooling, replicate padding, more content",
    network=VGG19(pooling="average", padding="replicate"),
    weights={"content": 2.5, "style": 1.0},
    solver=LBFGS(num_steps=200, smoothness=0.25),
    pyramid=Pyramid(),
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe for recipe in (DEFAULT, GATYS, GATYS_NOTEBOOK, GOKALP_KIM, PASTICHE)
}
