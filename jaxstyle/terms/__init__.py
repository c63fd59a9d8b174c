"""Terms of an objective: frozen, hashable values built on `losses`, without arrays.

A term is a scalar function of *sums over positions*. It says so in two pure methods:

- `statistics(features, target, weight)`: sums over positions, which add up over disjoint parts of
  an image; `weight` maps a layer to `(h, w)` weights per position, or is None for all ones;
- `loss(statistics, target)`: the scalar.

Beside them stand `name` (its key among weights and targets), `layers` (what it reads) and
`target_image`, which says what its target is: with `content`, the content's features, layer ->
`(h, w, c)`; with `style`, whatever its third method `target(statistics, shares)` makes of the
statistics of each style (taken with None for a target) and of each style's share, layer -> `(S,)`;
with None, None.

An optional `reach` says how many positions around each one `statistics` reads, for tiling; where
it is left out, neighbours are taken to be read.

A term of your own is any frozen dataclass with these; there is nothing to inherit from or to
register.
"""

from jaxstyle.terms.content import Content
from jaxstyle.terms.gram import GramStyle
from jaxstyle.terms.moments import MomentStyle, Wasserstein2Style
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
from jaxstyle.terms.variation import NinePointVariation, TotalVariation

__all__ = [
    "CONTENT_LAYERS",
    "STYLE_LAYERS",
    "Content",
    "Features",
    "GramStyle",
    "MRFStyle",
    "MomentStyle",
    "NinePointVariation",
    "PositionWeights",
    "Shares",
    "TargetImage",
    "Term",
    "TotalVariation",
    "Wasserstein2Style",
    "mix",
]
