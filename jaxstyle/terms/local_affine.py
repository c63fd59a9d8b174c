"""What keeps a photo a photo: colors change by local affine functions only."""

import dataclasses
from typing import ClassVar, Literal

import jax

from jaxstyle import losses
from jaxstyle.checks import as_number, sum_dtype
from jaxstyle.terms.protocol import (
    Features,
    PositionWeights,
    TargetImage,
    Term,
    check_choice,
    check_name,
    check_target,
    total_weight,
    weight_of,
)


@dataclasses.dataclass(frozen=True)
class LocalAffine(Term):
    """Distance of the image from local affine functions of the content's colors.

    Luan et al., "Deep Photo Style Transfer", CVPR 2017, eq. 2; see `losses.local_affine_sum`. Edges
    stay where and as straight as they are; colors may change.

    Attributes:
        epsilon: see `losses.local_affine_sum`.
        reduction: `sum` over windows as in the paper, which grows with the image; or `mean`, over
            windows, their pixels and channels, which does not.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    epsilon: float = 1e-7
    reduction: Literal["sum", "mean"] = "sum"
    name: str = "local_affine"

    layers: ClassVar[tuple[str, ...]] = ("image",)  # type: ignore[misc]
    target_image: ClassVar[TargetImage] = "content"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_name(self)
        object.__setattr__(self, "epsilon", as_number(self.epsilon, "epsilon"))
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be positive, not {self.epsilon}")
        check_choice("reduction", self.reduction, ("sum", "mean"))

    def statistics(
        self, features: Features, target: Features, weight: PositionWeights
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (sum over windows, number of pixels in them and channels), both `()`."""
        image, content = features["image"], check_target(self, target)["image"]
        own = weight_of(weight, "image", image)
        total = losses.local_affine_sum(image, content, weight=own, epsilon=self.epsilon)
        inside = image[1:-1, 1:-1].astype(sum_dtype(image))
        windows = total_weight(inside, None if own is None else own[1:-1, 1:-1])
        return total, 9 * image.shape[2] * windows

    def loss(self, statistics: tuple[jax.Array, jax.Array], target: Features) -> jax.Array:
        """Returns the sum, or the mean, `()`."""
        total, number = statistics
        return total if self.reduction == "sum" else total / number
