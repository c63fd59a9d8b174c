"""Terms of an objective: scalar functions of sums over positions, built on `losses`.

Every term inherits from `Term` and has two pure methods:

- `statistics(features, target, weight)` returns sums over positions, which add up over disjoint
  parts of an image;
- `loss(statistics, target)` makes a scalar of them.

So masks, mixtures of styles, windows and sharding work for every term. See `Term` for terms of your
own.
"""

from jaxstyle.terms.content import Content
from jaxstyle.terms.gram import GramStyle
from jaxstyle.terms.local_affine import LocalAffine
from jaxstyle.terms.matched import MatchedStyle
from jaxstyle.terms.moments import MomentStyle, Wasserstein2Style
from jaxstyle.terms.nearest import NearestStyle
from jaxstyle.terms.patches import MRFStyle
from jaxstyle.terms.protocol import (
    CONTENT_LAYERS,
    STYLE_LAYERS,
    Features,
    PositionWeights,
    Shares,
    TargetImage,
    Term,
    mix,
)
from jaxstyle.terms.sampled import Rows, SampledTerm
from jaxstyle.terms.self_similarity import SelfSimilarity
from jaxstyle.terms.sliced import SlicedStyle
from jaxstyle.terms.transport import Palette, RelaxedEMD, SampleMoments
from jaxstyle.terms.variation import NinePointVariation, TotalVariation

__all__ = [
    "CONTENT_LAYERS",
    "STYLE_LAYERS",
    "Content",
    "Features",
    "GramStyle",
    "LocalAffine",
    "MRFStyle",
    "MatchedStyle",
    "MomentStyle",
    "NearestStyle",
    "NinePointVariation",
    "Palette",
    "PositionWeights",
    "RelaxedEMD",
    "Rows",
    "SampleMoments",
    "SampledTerm",
    "SelfSimilarity",
    "Shares",
    "SlicedStyle",
    "TargetImage",
    "Term",
    "TotalVariation",
    "Wasserstein2Style",
    "mix",
]
