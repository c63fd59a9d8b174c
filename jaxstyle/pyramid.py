"""Coarse-to-fine schedules: paint small first, then carry the change to larger sizes.

A step at half the size costs a quarter. The receptive field of the network covers large strokes
there, and the final loss at the full size is lower than without smaller sizes.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from flax.core import FrozenDict

from jaxstyle.checks import as_integer, as_number


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
        last_carry: what the full size takes over; None for the same as `carry`.
        finish: steps of one more stage at the full size, after the solver's own `num_steps`: it
            begins with the picture so far, and counts as one more size; 0 is none.
        weight_factors: term name -> factors of its loss weight, one for each stage: each size from
            small to large, then `finish`. Terms that are left out have 1. Where the factor is 0,
            the term is not computed, and its loss is reported as 0.
        factors_from: which stage the factors are aligned with. `full`: the last factor is for the
            last stage; with more stages than factors the first factor is repeated, with fewer the
            first factors are unused. `smallest`: the first factor is for the smallest size; with
            more stages the last factor is repeated, with fewer the last factors are unused.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    coarsest: int = 128
    factor: float = 2.0
    steps: tuple[int, ...] = (100,)
    carry: Literal["change", "image"] = "change"
    last_carry: Literal["change", "image"] | None = None
    finish: int = 0
    weight_factors: Mapping[str, tuple[float, ...]] = FrozenDict()
    factors_from: Literal["full", "smallest"] = "full"

    def __post_init__(self) -> None:
        """Freezes the factors, which makes the schedule hashable, and checks the settings."""
        if self.coarsest < 1 or not 1 < self.factor < math.inf:
            raise ValueError(
                f"coarsest must be positive and factor above 1, not {self.coarsest}, {self.factor}"
            )
        if not self.steps or min(self.steps) < 1:
            raise ValueError(f"steps must be positive, not {self.steps}")
        if as_integer(self.finish, "finish") < 0:
            raise ValueError(f"finish must be 0 or positive, not {self.finish}")
        for name in ("carry", "last_carry"):
            value = getattr(self, name)
            if value not in ("change", "image") and (name == "carry" or value is not None):
                raise ValueError(f"{name} {value!r} is not change or image")
        if self.factors_from not in ("full", "smallest"):
            raise ValueError(f"factors_from {self.factors_from!r} is not full or smallest")
        object.__setattr__(self, "weight_factors", _frozen(self.weight_factors))

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

    def factors(self, index: int, number: int) -> dict[str, float]:
        """Returns term name -> factor of its loss weight at one size.

        Args:
            index: of the size; 0 is the smallest one.
            number: of sizes, with the full one.
        """

        def at(factors: tuple[float, ...]) -> float:
            here = index if self.factors_from == "smallest" else len(factors) - number + index
            return factors[min(max(here, 0), len(factors) - 1)]

        return {name: at(each) for name, each in self.weight_factors.items()}


def _frozen(factors: object) -> FrozenDict[str, tuple[float, ...]]:
    if not isinstance(factors, Mapping):
        raise ValueError(f"weight_factors must be a dict of term name -> numbers, not {factors!r}")
    for name, each in factors.items():
        if not isinstance(each, tuple | list) or not each:
            raise ValueError(f"weight_factors of {name} must be a tuple of numbers, not {each!r}")
    return FrozenDict(
        {
            name: tuple(as_number(value, f"each of weight_factors of {name}") for value in each)
            for name, each in factors.items()
        }
    )
