"""Content by self-similarity: which places are alike, whatever they look like."""

import dataclasses
from typing import ClassVar

import jax

from jaxstyle import losses
from jaxstyle.terms.protocol import TargetImage, check_layer_names, check_target
from jaxstyle.terms.sampled import HYPERCOLUMN, Rows, SampledTerm, check_sampling, hypercolumns


@dataclasses.dataclass(frozen=True)
class SelfSimilarity(SampledTerm):
    """Differences of the distances among positions from those among the content's positions.

    Kolkin et al., "Style Transfer by Relaxed Optimal Transport and Self-Similarity", CVPR 2019,
    section 2.3; see `losses.self_similarity_loss`. Features of the image are never compared with
    those of the content, so colors and strokes are free.

    Attributes:
        layers: layers whose features are compared together.
        samples: positions of the image and of the content, the same in both.
        redraw: steps between two draws of them; 0 draws once at each size.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = HYPERCOLUMN
    samples: int = 1024
    redraw: int = 1
    name: str = "content"

    target_image: ClassVar[TargetImage] = "content"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layer_names(self)
        check_sampling(self)

    def loss(self, statistics: Rows, target: Rows) -> jax.Array:
        """Returns the sum of absolute differences over the number of positions, `()`."""
        check_target(self, target)
        rows, content_rows = (hypercolumns(each, self.layers) for each in (statistics, target))
        return losses.self_similarity_loss(rows, content_rows)
