"""Coarse-to-fine schedules: paint small first, then carry the change to larger sizes.

A step at half the size costs a quarter. The receptive field of the network covers large strokes
there, and the final loss at the full size is lower than without smaller sizes.
"""

import dataclasses
import math
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """A schedule of smaller sizes before the full size; frozen, without arrays.

    The sizes are the full size divided by `factor`, `factor^2`, ..., while the long edge has at
    least `coarsest` pixels. Contents, styles and start shrink together. The solver's own
    `num_steps` are the steps at the full size.

    Attributes:
        coarsest: the smallest long edge, in pixels. Below 128 the network sees the whole picture
            at once, and copies the layout of the painting too.
        factor: ratio of one size to the one before; above 1.
        steps: steps at each smaller size, from the smallest one; the last number is repeated for
            all further sizes.
        carry: what the next size takes over: `change` adds the change made so far to the start at
            the next size, which keeps the fine detail of the photo; `image` takes the picture
            itself, as most programs do.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    coarsest: int = 128
    factor: float = 2.0
    steps: tuple[int, ...] = (100,)
    carry: Literal["change", "image"] = "change"

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.coarsest < 1 or not 1 < self.factor < math.inf:
            raise ValueError(
                f"coarsest must be positive and factor above 1, not {self.coarsest}, {self.factor}"
            )
        if not self.steps or min(self.steps) < 1:
            raise ValueError(f"steps must be positive, not {self.steps}")
        if self.carry not in ("change", "image"):
            raise ValueError(f"carry {self.carry!r} is not change or image")

    def scales(self, height: int, width: int) -> tuple[tuple[float, int], ...]:
        """Returns (scale below 1, steps) of each smaller size, the smallest first.

        Args:
            height: of the picture at full size, in pixels.
            width: of the picture at full size, in pixels.
        """
        long_edge, number = max(height, width), 0
        # In whole pixels: 512 / sqrt(2)^4 is 128, whatever the rounding of the root.
        while round(long_edge / self.factor ** (number + 1)) >= self.coarsest:
            number += 1
        steps = self.steps + self.steps[-1:] * number
        return tuple((self.factor ** (i - number), steps[i]) for i in range(number))
