"""Smoothness of the picture itself: total variation."""

import dataclasses
from typing import ClassVar, Literal

import jax

from jaxstyle import losses
from jaxstyle.checks import as_number, sum_dtype
from jaxstyle.terms.protocol import (
    Features,
    PositionWeights,
    Term,
    check_choice,
    check_name,
    total_weight,
    weight_of,
)


@dataclasses.dataclass(frozen=True)
class TotalVariation(Term):
    """Total variation of the image itself; see `losses.total_variation`.

    Attributes:
        power: 0.5 is the isotropic total variation, 1 the squared one.
        reduction: `sum` over pixels, or `mean`, which does not grow with the image.
        pixel_range: a factor for the pixels, such as 255 for pixels in 0-255.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    power: float = 1.0
    reduction: Literal["sum", "mean"] = "sum"
    pixel_range: float = 1.0
    name: str = "total_variation"

    layers: ClassVar[tuple[str, ...]] = ("image",)  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_name(self)
        object.__setattr__(self, "power", as_number(self.power, "power"))
        object.__setattr__(self, "pixel_range", as_number(self.pixel_range, "pixel_range"))
        if self.power <= 0 or self.pixel_range <= 0:
            raise ValueError(
                f"power and pixel_range must be positive, not {self.power}, {self.pixel_range}"
            )
        check_choice("reduction", self.reduction, ("sum", "mean"))

    def statistics(
        self, features: Features, target: None, weight: PositionWeights
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (sum, number of positions), both `()`."""
        image = features["image"].astype(sum_dtype(features["image"]))
        own = weight_of(weight, "image", image)
        return (
            losses.total_variation_sum(image * self.pixel_range, weight=own, power=self.power),
            total_weight(image, own),
        )

    def loss(self, statistics: tuple[jax.Array, jax.Array], target: None) -> jax.Array:
        """Returns the sum, or the mean over positions, `()`."""
        total, positions = statistics
        return total if self.reduction == "sum" else total / positions


@dataclasses.dataclass(frozen=True)
class NinePointVariation(Term):
    """Mean squared differences to all eight neighbours (Crowson, style-transfer-pytorch).

    `2 (mean dx^2 / 3 + mean dy^2 / 3 + mean d_diagonal^2 / 12 + mean d_antidiagonal^2 / 12)`, of
    the image padded with its outermost pixels; means over positions and channels.

    Attributes:
        name: the term's name.

    Raises:
        ValueError: for a name that is not a text.
    """

    name: str = "total_variation"

    layers: ClassVar[tuple[str, ...]] = ("image",)  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_name(self)

    def statistics(
        self, features: Features, target: None, weight: PositionWeights
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Returns (sum along axes, pixels, sum along diagonals, squares of pixels), all `()`."""
        image = features["image"]
        own = weight_of(weight, "image", image)
        axes, diagonals, squares = losses.nine_point_variation_sums(image, weight=own)
        return axes, total_weight(image, own), diagonals, squares

    def loss(self, statistics: tuple[jax.Array, ...], target: None) -> jax.Array:
        """Returns the mean, `()`."""
        axes, pixels, diagonals, squares = statistics
        return 2 / 3 * (axes / (3 * pixels) + diagonals / (12 * squares))
