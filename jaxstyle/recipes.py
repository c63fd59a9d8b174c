"""Recipes: complete, named, citable settings.

Each constant here is a `Recipe`; `RECIPES` holds them by name. Change one with
`dataclasses.replace(recipe, ...)`, or over the arguments of `stylize`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from flax.core import FrozenDict

from jaxstyle.network.protocol import Network, check_layers
from jaxstyle.network.vgg import VGG19
from jaxstyle.pyramid import Pyramid
from jaxstyle.solvers import LBFGS, Adam, ScipyLBFGSB, Solver
from jaxstyle.solvers.protocol import check_solver
from jaxstyle.terms import (
    Content,
    GramStyle,
    NinePointVariation,
    Term,
    TotalVariation,
    Wasserstein2Style,
)
from jaxstyle.terms.protocol import layers_of, split_arrays


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A setting of everything but the pictures; frozen, and hashable unless terms hold arrays.

    Attributes:
        name: as on the command line.
        source: what it reproduces.
        description: one line.
        network: the network.
        terms: terms of the objective.
        weights: term name -> factor.
        solver: solver and number of steps.
        init: the image to start from: a copy of the `content`; `noise`, white and uniform in
            [0, 1]; or `mean`, the mean colour of the network's training images, with next to no
            noise (as jcjohnson/neural-style's `random`).
        pyramid: smaller sizes to begin with; None for none.
        size: long edge of the content in pixels, where nothing else is said.
        median_filter: side of the median filter that the *returned* image passes, in pixels;
            1 is none. The iteration never sees it.
        color: `style` takes colours as they come; `luminance` gives the *returned* image the
            content's chroma; `match` gives the styles the content's colours before. See
            `jaxstyle.color`.

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
    init: Literal["content", "noise", "mean"] = "content"
    pyramid: Pyramid | None = None
    size: int = 512
    median_filter: int = 1
    color: Literal["style", "luminance", "match"] = "style"

    @property
    def carry(self) -> str:
        """What the pyramid carries from size to size."""
        return "change" if self.pyramid is None else self.pyramid.carry

    def __post_init__(self) -> None:
        """Freezes the weights, so that the recipe can be hashed, and checks the settings."""
        self._check_terms()
        if not isinstance(self.weights, Mapping):
            raise ValueError(
                f"recipe {self.name}: weights must be a dict of term name -> factor, not "
                f"{self.weights!r}"
            )
        object.__setattr__(self, "weights", FrozenDict(self.weights))
        check_solver(self.solver)
        names = {term.name for term in self.terms}
        if len(names) < len(self.terms):
            raise ValueError(f"recipe {self.name}: two terms have the same name")
        if set(self.weights) != names:
            raise ValueError(f"recipe {self.name}: weights {set(self.weights)}, terms {names}")
        for field, value, valid in (
            ("init", self.init, ("content", "noise", "mean")),
            ("color", self.color, ("style", "luminance", "match")),
        ):
            if value not in valid:
                raise ValueError(
                    f"recipe {self.name}: {field} {value!r} is not one of {', '.join(valid)}"
                )
        if not _is_whole(self.median_filter) or self.median_filter % 2 == 0:
            raise ValueError(f"recipe {self.name}: median_filter must be odd and positive")
        if not _is_whole(self.size):
            raise ValueError(f"recipe {self.name}: size must be a positive number of pixels")
        if not isinstance(self.pyramid, Pyramid | None):
            raise ValueError(f"recipe {self.name}: pyramid must be a Pyramid or None")
        settings = {**vars(self), "terms": split_arrays(self.terms)[0]}
        try:
            hash(tuple(settings.values()))
        except TypeError as error:
            raise ValueError(
                f"recipe {self.name}: network, terms and weights must be hashable, with tuples and "
                "numbers instead of lists and arrays; a term with arrays must be registered, see "
                f"jaxstyle.terms.Term ({error})"
            ) from None

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

_CHANNELS = (64, 128, 256, 512, 512)  # of the style's layers

GATYS_NOTEBOOK = Recipe(
    name="gatys-notebook",
    source=_GATYS_2016 + ", the authors' PyTorch notebook (its first stage)",
    description="mean squared errors, layers weighted by 1e3 / C^2, max pooling",
    terms=(
        Content(reduction="mean"),
        GramStyle(layer_weights=tuple(1e3 / c**2 for c in _CHANNELS), reduction="mean"),
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

# Its total variation is of pixels in 0-255, which are its variables too.
KERAS_EXAMPLE = Recipe(
    name="keras-example",
    source="keras.io/examples/generative/neural_style_transfer, as it was with L-BFGS",
    description="sums of squares, undivided Gram matrices, total variation, restarted L-BFGS-B",
    terms=(
        Content(reduction="sum"),
        GramStyle(reduction="keras"),
        TotalVariation(power=1.25, pixel_range=255.0),
    ),
    weights={"content": 0.025, "style": 1.0, "total_variation": 8.5e-5},
    solver=ScipyLBFGSB(num_steps=10, maxfun=20),
)

# Departures: the value includes the total variation, of which the program has only the gradient;
# the first step is ours, since its 1 / |g|_1 is below the resolution of float32 pixels. The Gram
# matrix is divided by C h w there and by h w here, hence 1 / C^2.
JOHNSON = Recipe(
    name="johnson",
    source="jcjohnson/neural-style",
    description="Gram matrices over C h w, total variation, max pooling, start from mean colour",
    network=VGG19(white=256.0),
    terms=(
        Content(reduction="mean"),
        GramStyle(layer_weights=tuple(1 / c**2 for c in _CHANNELS), reduction="mean"),
        TotalVariation(pixel_range=256.0),
    ),
    weights={"content": 5.0, "style": 100.0, "total_variation": 0.5e-3},
    solver=LBFGS(num_steps=1000, history_size=100),
    init="mean",
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

_CROWSON_ADAM = Adam(num_steps=500, b2=0.99, clip=True, average=0.99, keep_moments=True)
_CROWSON_WEIGHTS = tuple(w / 341 for w in (256, 64, 16, 4, 1))

# Departures: sizes are made from the picture at full size by an antialiased cubic, rather than
# from the file; Keys' cubic (a = -0.5) takes iterates to the next size, rather than a = -0.75.
CROWSON_W2 = Recipe(
    name="crowson-w2",
    source="crowsonkb/style-transfer-pytorch, 2023",
    description="Wasserstein-2 distances, Adam, averaged iterates, sizes by sqrt(2) from 128 px "
    "on; torchvision's weights",
    network=VGG19(first_padding="replicate", preprocessing="torchvision"),
    terms=(
        Content(reduction="mean"),
        Wasserstein2Style(layer_weights=_CROWSON_WEIGHTS),
        NinePointVariation(),
    ),
    weights={"content": 0.015, "style": 1.0, "total_variation": 2.0},
    solver=_CROWSON_ADAM,
    pyramid=Pyramid(coarsest=128, factor=2**0.5, steps=(1000, 500), carry="image"),
)

CROWSON_GRAM = dataclasses.replace(
    CROWSON_W2,
    name="crowson-gram",
    source="crowsonkb/style-transfer-pytorch, 2021-2023",
    description="squared over absolute errors of features and Gram matrices; otherwise crowson-w2",
    terms=(
        Content(reduction="scaled"),
        GramStyle(layer_weights=_CROWSON_WEIGHTS, reduction="scaled"),
        NinePointVariation(),
    ),
    solver=dataclasses.replace(_CROWSON_ADAM, b2=0.999),
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
    recipe.name: recipe
    for recipe in (
        DEFAULT,
        GATYS,
        GATYS_NOTEBOOK,
        GOKALP_KIM,
        KERAS_EXAMPLE,
        JOHNSON,
        PASTICHE,
        CROWSON_W2,
        CROWSON_GRAM,
    )
}
"""All recipes by their names."""
