"""Adam with its settings as traced numbers, and moments that last through a pyramid."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from jaxstyle.solvers.optax import Descent, DescentState, check_fraction
from jaxstyle.solvers.protocol import check_settings
from jaxstyle.solvers.state import State


@dataclasses.dataclass(frozen=True)
class Adam(Descent):
    """Adam (Kingma & Ba 2015), optax's, with a guard against non-finite steps.

    A step to a non-finite value is undone, the moments are dropped, and the learning rate of that
    problem is divided by ten.

    With an `average`, the result is not the best iterate but the mean of all of them, in which
    later ones weigh more. It is smoother, and its loss is lower than that of the iterates around it
    once the steps only oscillate. The reported loss is the last iterate's, since the mean is never
    evaluated.

    `learning_rate`, `b1`, `b2`, `eps` and `tolerance` may be traced arrays `()`; see `minimize`.

    Attributes:
        num_steps: steps, each one evaluation (one more is made at the start).
        learning_rate: in units of `x`.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        coordinates: what moments are kept of, and steps are taken in: `pixels`, the elements of
            `x`; or `laplacian`, the levels of its Laplacian pyramid (only for `x` of shape
            `(H, W, c)`). A pixel then moves by the sum of its levels' steps, and large areas move
            together, as in STROTSS and NNST.
        levels: how often a Laplacian pyramid is halved, at most: its smallest level has a long edge
            of at least 2 pixels.
        clip: whether `x` is kept in [0, 1] after each step.
        average: decay of the bias-corrected mean of the iterates, below 1; 0 is none.
        keep_moments: whether each size of a pyramid starts with the moments of the size before,
            resized (only for `x` of shape `(H, W, c)`).
        tolerance: stop when `x` no longer changes: when over `patience` steps its mean absolute
            change is below this, in units of `x`; 0 never stops.
        patience: see `tolerance`.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    num_steps: int = 1000
    learning_rate: float = 0.02
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    clip: bool = False
    average: float = 0.0
    keep_moments: bool = False
    tolerance: float = 0.0
    patience: int = 20
    coordinates: Literal["pixels", "laplacian"] = "pixels"
    levels: int = 8

    traced: ClassVar = ("learning_rate", "b1", "b2", "eps", "tolerance")
    has_schedule: ClassVar = False

    def __post_init__(self) -> None:
        """Checks the settings."""
        self._check()
        check_settings(self, positive=("learning_rate", "eps"))
        for name in ("b1", "b2"):
            if not isinstance(value := getattr(self, name), jax.Array):
                check_fraction(name, value)

    def _transformation(self) -> optax.GradientTransformation:
        return optax.adam(1.0, self.b1, self.b2, self.eps)

    def _rate(self) -> Any:
        return self.learning_rate

    def carried(self, state: State) -> DescentState | None:
        """Returns the moments, if they are kept, with what else the solver's state has."""
        return state.inner if self.keep_moments else None

    def warm_start(self, state: State, carried: DescentState) -> State:
        """Gives a `start` at a larger size the moments that a smaller one ended with."""

        def resized(moments: Any, like: Any, method: str) -> Any:
            found = jax.tree.leaves(moments)

            def of_level(level: jax.Array) -> jax.Array:
                # Of a Laplacian pyramid, which may have fewer levels, the one of the nearest size.
                ratio = lambda each: abs(math.log(each.size / level.size))  # noqa: E731
                return jax.image.resize(min(found, key=ratio), level.shape, method)

            return jax.tree.map(of_level, like)

        adam, *others = carried.transformation
        new = state.inner.transformation[0]
        moments = adam._replace(
            mu=resized(adam.mu, new.mu, "cubic"),
            nu=jax.tree.map(lambda nu: jnp.maximum(nu, 0), resized(adam.nu, new.nu, "linear")),
        )
        inner = state.inner._replace(transformation=(moments, *others))
        return state._replace(inner=inner)
