"""Style by the nearest features of the painting."""

import dataclasses
import functools
import operator
from typing import ClassVar

import jax

from jaxstyle import losses
from jaxstyle.checks import as_number
from jaxstyle.terms.protocol import TargetImage, check_flag, check_target
from jaxstyle.terms.sampled import Rows, SampledTerm, check_sampling, hypercolumns


@dataclasses.dataclass(frozen=True)
class NearestStyle(SampledTerm):
    """Cosine distance of each position from the most similar one of the styles.

    By default the nearest neighbor feature matching of Zhang et al., "ARF: Artistic Radiance
    Fields", ECCV 2022, at drawn positions. With a group for each layer, `center` and `rotations`,
    the last phase of Kolkin et al., "Neural Neighbor Style Transfer", 2022.

    Each position of the image is pulled toward the position of the painting that it already
    resembles most. So combine this term with a content term, or start from the content.

    Attributes:
        groups: layers that are compared together; each group has its own nearest positions.
        group_weights: a factor for each of them.
        samples: positions of the image.
        redraw: steps between two draws of them; 0 draws once at each size.
        style_samples: positions of the styles together; with `rotations` four times as many.
        center: whether image and style have the mean of their own features subtracted first.
        rotations: whether the styles also count turned by 90, 180 and 270 degrees.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    groups: tuple[tuple[str, ...], ...] = (("relu3_1", "relu3_2", "relu3_3"),)
    group_weights: tuple[float, ...] = (1.0,)
    samples: int = 4096
    redraw: int = 1
    style_samples: int = 16384
    center: bool = False
    rotations: bool = False
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_sampling(self)
        check_flag("center", self.center)
        check_flag("rotations", self.rotations)
        groups = self.groups if isinstance(self.groups, tuple | list) else ()
        for each in (groups, self.group_weights, *groups):
            if not isinstance(each, tuple | list) or not each:
                raise ValueError(
                    "groups must be tuples of layers in a tuple, such as "
                    f'(("relu3_1", "relu3_2"),), with a weight each, not {self.groups!r}'
                )
        if len(self.group_weights) != len(self.groups):
            raise ValueError(f"{len(self.group_weights)} group_weights, {len(self.groups)} groups")
        if any(not isinstance(layer, str) for group in self.groups for layer in group):
            raise ValueError(f"groups must be of names of layers, not {self.groups!r}")
        if any(len(set(group)) < len(group) for group in self.groups):
            raise ValueError(f"groups {self.groups!r}: a group can name each layer once only")
        weights = tuple(as_number(each, "each of group_weights") for each in self.group_weights)
        object.__setattr__(self, "groups", tuple(map(tuple, self.groups)))
        object.__setattr__(self, "group_weights", weights)

    @property
    def layers(self) -> tuple[str, ...]:  # type: ignore[override]
        """The layers of all groups, each once."""
        return tuple(dict.fromkeys(layer for group in self.groups for layer in group))

    def loss(self, statistics: Rows, target: Rows) -> jax.Array:
        """Returns the weighted sum over groups, `()`."""
        check_target(self, target)

        def of_group(group: tuple[str, ...]) -> jax.Array:
            both = (hypercolumns(rows, group) for rows in (statistics, target))
            return losses.nearest_loss(*both, center=self.center)

        parts = [
            weight * of_group(group)
            for group, weight in zip(self.groups, self.group_weights, strict=True)
        ]
        return functools.reduce(operator.add, parts)
