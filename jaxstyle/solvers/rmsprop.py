"""RMSprop as PyTorch has it, with its settings as traced numbers."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import optax

from jaxstyle.solvers.optax import Descent, check_fraction
from jaxstyle.solvers.protocol import check_settings


@dataclasses.dataclass(frozen=True)
class RMSprop(Descent):
    """RMSprop (Tieleman & Hinton 2012), with a guard against non-finite steps.

    It is PyTorch's: `eps` is added to the root, and the mean of squares, which begins with 0, is
    not corrected for that, so the first steps are up to ten times the learning rate.

    A step to a non-finite value is undone, the mean of squares is dropped, and the learning rate of
    that problem is divided by ten.

    `learning_rate`, `decay`, `eps` and `tolerance` may be traced arrays `()`; see `minimize`.

    Attributes:
        num_steps: steps, each one evaluation (one more is made at the start).
        learning_rate: in units of `x`.
        decay: of the mean of squared gradients.
        eps: added to its root.
        coarse_factor: what the learning rate is multiplied by at the smaller sizes of a pyramid.
        clip: see `Adam`.
        average: see `Adam`.
        tolerance: see `Adam`.
        patience: see `Adam`.
        coordinates: see `Adam`.
        levels: see `Adam`.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    num_steps: int = 1000
    learning_rate: float = 0.01
    decay: float = 0.99
    eps: float = 1e-8
    coarse_factor: float = 1.0
    clip: bool = False
    average: float = 0.0
    tolerance: float = 0.0
    patience: int = 20
    coordinates: Literal["pixels", "laplacian"] = "pixels"
    levels: int = 8

    traced: ClassVar = ("learning_rate", "decay", "eps", "tolerance")
    has_schedule: ClassVar = False

    def __post_init__(self) -> None:
        """Checks the settings."""
        self._check()
        check_settings(self, positive=("learning_rate", "eps", "coarse_factor"))
        if not isinstance(self.decay, jax.Array):
            check_fraction("decay", self.decay)

    def at_smaller_size(self, num_steps: int) -> "RMSprop":
        """Returns the solver for a smaller size of a pyramid."""
        rate = self.learning_rate * self.coarse_factor
        return dataclasses.replace(self, num_steps=num_steps, learning_rate=rate)

    def _transformation(self) -> optax.GradientTransformation:
        squares = optax.scale_by_rms(self.decay, self.eps, eps_in_sqrt=False)
        return optax.chain(squares, optax.scale(-1.0))

    def _rate(self) -> Any:
        return self.learning_rate
