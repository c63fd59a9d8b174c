"""Style by optimal transport: distances of features, their moments, and colors at drawn positions.

Kolkin et al., "Style Transfer by Relaxed Optimal Transport and Self-Similarity", CVPR 2019.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax

from jaxstyle import losses
from jaxstyle.checks import as_number
from jaxstyle.terms.protocol import Shares, TargetImage, check_layer_names, check_target
from jaxstyle.terms.sampled import HYPERCOLUMN, Rows, SampledTerm, check_sampling, hypercolumns


@dataclasses.dataclass(frozen=True)
class RelaxedEMD(SampledTerm):
    """The relaxed earth mover's distance from the style's features (eq. 5).

    See `losses.relaxed_emd`. Each position of the image becomes like some position of the painting,
    and each position of the painting is represented in the image.

    Attributes:
        layers: layers whose features are compared together.
        samples: positions of the image.
        redraw: steps between two draws of them; 0 draws once at each size.
        style_samples: positions of the styles together.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = HYPERCOLUMN
    samples: int = 1024
    redraw: int = 1
    style_samples: int = 5000
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layer_names(self)
        check_sampling(self)

    def loss(self, statistics: Rows, target: Rows) -> jax.Array:
        """Returns the larger one of both mean distances, `()`."""
        check_target(self, target)
        rows, style_rows = (hypercolumns(each, self.layers) for each in (statistics, target))
        return losses.relaxed_emd(rows, style_rows)


@dataclasses.dataclass(frozen=True)
class SampleMoments(SampledTerm):
    """Absolute differences of mean and covariance from the style's (eq. 7).

    See `losses.moment_loss`. Means and covariances are those of all layers together. Cosine
    distances do not see the length of features; this term does.

    Attributes:
        layers: layers whose features are compared together.
        scale: factor of the features of all layers except `image`. The original network weights
            (Caffe) have much larger features than torchvision's, for which the loss was made;
            1 / 255 makes up for it.
        samples: positions of the image.
        redraw: steps between two draws of them; 0 draws once at each size.
        style_samples: positions of the styles together.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = HYPERCOLUMN
    scale: float = 1.0
    samples: int = 1024
    redraw: int = 1
    style_samples: int = 5000
    name: str = "moments"

    target_image: ClassVar[TargetImage] = "style"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layer_names(self)
        check_sampling(self)
        object.__setattr__(self, "scale", as_number(self.scale, "scale"))
        if self.scale <= 0:
            raise ValueError(f"scale must be positive, not {self.scale}")

    def _columns(self, rows: Rows) -> jax.Array:
        scaled = {
            layer: rows[layer] * (1 if layer == "image" else self.scale) for layer in self.layers
        }
        return hypercolumns(scaled, self.layers)

    def target(self, statistics: Sequence[Rows], shares: Shares) -> tuple[jax.Array, jax.Array]:
        """Returns the mean `(c,)` and the covariance `(c, c)` of all layers together."""
        return losses.row_moments(self._columns(super().target(statistics, shares)))

    def loss(self, statistics: Rows, target: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Returns the mean absolute difference of both, added, `()`."""
        return losses.moment_loss(self._columns(statistics), *target)


@dataclasses.dataclass(frozen=True)
class Palette(SampledTerm):
    """The relaxed earth mover's distance from the style's colors (section 2.4).

    See `losses.palette_emd`.

    Attributes:
        samples: positions of the image.
        redraw: steps between two draws of them; 0 draws once at each size.
        style_samples: positions of the styles together.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    samples: int = 1024
    redraw: int = 1
    style_samples: int = 5000
    name: str = "palette"

    layers: ClassVar[tuple[str, ...]] = ("image",)  # type: ignore[misc]
    target_image: ClassVar[TargetImage] = "style"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_sampling(self)

    def loss(self, statistics: Rows, target: Rows) -> jax.Array:
        """Returns the larger one of both mean distances, `()`."""
        return losses.palette_emd(statistics["image"], check_target(self, target)["image"])
