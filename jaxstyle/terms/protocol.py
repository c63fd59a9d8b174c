"""What a term is, and what the terms of this package share."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_factor, as_number, sum_dtype
from jaxstyle.network.vgg import LAYERS

Features = Mapping[str, jax.Array]
"""Layer -> `(h, w, c)`."""

PositionWeights = Mapping[str, jax.Array] | None
"""Layer -> `(h, w)`, not negative; None for all ones."""

Shares = Mapping[str, jax.Array]
"""Layer -> `(S,)`, the share of each style; they sum to 1."""

TargetImage = Literal["content", "style"] | None
"""The image that a term's target is made of."""

CONTENT_LAYERS = ("relu4_2",)
"""The layer that Gatys et al. 2016 compare with the content's, their conv4_2."""

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""The layers that Gatys et al. 2016 compare with the style's, their conv1_1 to conv5_1."""

FIFTHS = (0.2, 0.2, 0.2, 0.2, 0.2)


@runtime_checkable
class Term(Protocol):
    """What `prepare_targets` and `evaluate` need of a term; see the module's docstring."""

    target_image: ClassVar[TargetImage]
    """What the target is made of."""

    @property
    def name(self) -> str:
        """The key among weights, targets and losses."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that are read; `image` is one."""
        ...

    def statistics(self, features: Features, target: Any, weight: PositionWeights) -> Any:
        """Returns sums over positions: a pytree of arrays."""
        ...

    def loss(self, statistics: Any, target: Any) -> jax.Array:
        """Returns the loss, `()`."""
        ...


def mix(
    statistics: Sequence[Mapping[str, tuple[Any, jax.Array]]], shares: Shares
) -> dict[str, Any]:
    """Mixes styles: their statistics per position, averaged by `shares`.

    Args:
        statistics: of each of S styles, layer -> (sums, of any shape; number of positions, `()`).
        shares: layer -> `(S,)`, the share of each style.

    Returns:
        Layer -> sums over positions divided by their number, averaged; of the shape of the sums.

    Raises:
        ValueError: if there are no statistics, or not a share for each of them.
    """
    if not statistics:
        raise ValueError("no statistics of styles to mix")

    def average(layer: str) -> Any:
        def leaf(*sums: jax.Array) -> jax.Array:
            means = [each / style[layer][1] for each, style in zip(sums, statistics, strict=True)]
            dtype = sum_dtype(*means)
            factors = as_factor(shares[layer], f"shares of {layer}", (len(means),), dtype)
            # Not a product of matrices: its operands may be rounded, and covariances are
            # differences of these.
            parts = [factors[i] * mean.astype(dtype) for i, mean in enumerate(means)]
            return functools.reduce(operator.add, parts)

        return jax.tree.map(leaf, *(style[layer][0] for style in statistics))

    return {layer: average(layer) for layer in statistics[0]}


def _tuple_of(values: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(values, tuple | list):
        kind = type(values).__name__
        raise ValueError(
            f"{what} must be a tuple, not {kind}: settings are static; what is traced are the "
            "weights of whole terms"
        )
    return tuple(values)


def check_settings(term: Any) -> None:
    """Checks what terms have in common, and makes it hashable: tuples, bool, str and floats."""
    if not isinstance(term.name, str) or not term.name:
        raise ValueError(f"name must be a text, not {term.name!r}")
    if hasattr(term, "layer_weights"):
        layers = _tuple_of(term.layers, "layers")
        if not layers or any(not isinstance(n, str) or n not in LAYERS for n in layers):
            raise ValueError(f"layers {term.layers!r} are not names out of {', '.join(LAYERS)}")
        if len(set(layers)) < len(layers):
            raise ValueError(f"layers {', '.join(layers)}: each can be named once only")
        weights = _tuple_of(term.layer_weights, "layer_weights")
        if len(weights) != len(layers):
            raise ValueError(f"{len(weights)} layer_weights for {len(layers)} layers")
        weights = tuple(as_number(each, "each of layer_weights") for each in weights)
        object.__setattr__(term, "layers", layers)
        object.__setattr__(term, "layer_weights", weights)
    if not isinstance(getattr(term, "normalize_gradients", False), bool):
        raise ValueError(
            f"normalize_gradients must be True or False, not {term.normalize_gradients!r}"
        )


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Checks a setting that is one of several words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(choices)}")


def check_target(term: Any, target: Any) -> Any:
    """Returns `target` if it has what the term's layers are compared with."""
    if not isinstance(target, Mapping) or not set(term.layers) <= set(target):
        found = ", ".join(map(str, target)) if isinstance(target, Mapping) else "no layers"
        raise ValueError(
            f"the target of {term.name} has {found}, but its layers are {', '.join(term.layers)}: "
            "it must be what prepare_targets returns for these terms"
        )
    return target


def weight_of(weight: PositionWeights, layer: str, maps: jax.Array) -> jax.Array | None:
    """The weight of each position of `maps`, in the dtype that they are summed in."""
    if weight is None:
        return None
    return as_factor(weight[layer], f"weight of {layer}", maps.shape[:2], sum_dtype(maps))


def total_weight(maps: jax.Array, weight: jax.Array | None) -> jax.Array:
    """The number of positions, or the sum of their weights: of an empty region, almost none."""
    if weight is None:
        return jnp.asarray(maps.shape[0] * maps.shape[1], sum_dtype(maps))
    return jnp.maximum(jnp.sum(weight), 1e-6)


def weighted_sum(term: Any, loss: Callable[[str], jax.Array]) -> jax.Array:
    """Returns the sum of the layers' losses, each times its weight, `()`."""
    parts = [
        weight * loss(layer) for layer, weight in zip(term.layers, term.layer_weights, strict=True)
    ]
    return functools.reduce(operator.add, parts)
