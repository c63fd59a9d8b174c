"""What a term is, and what the terms of this package share."""

import abc
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_factor, as_number, sum_dtype

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


class Term(abc.ABC):
    """A scalar function of sums over positions; a frozen value.

    Inherit from it in a frozen dataclass and define `name`, `layers`, `statistics`, `loss` and, for
    `style`, `target`. The other members have defaults.

    A term whose fields are numbers, texts and tuples is static under `jax.jit`, so it must be
    hashable. A term may also hold arrays: register it with `jax.tree_util.register_dataclass`,
    arrays as data fields, all else as static ones. Its arrays are then traced, and differentiable.
    In a batch all pairs share them.
    """

    name: str
    """The key among weights, targets and losses."""

    layers: tuple[str, ...]
    """The names of the layers that are read. `image` is the picture itself."""

    target_image: ClassVar[TargetImage] = None
    """What the target is made of. With `content` it is the content's features, layer ->
    `(h, w, c)`; with `style` it is what `target` returns; with None it is None."""

    reach: ClassVar[int] = 1
    """How many positions around each one `statistics` reads; 0 if it reads no neighbors."""

    additive_target: ClassVar[bool] = True
    """Whether `target` needs only sums over the style's positions, and not the style as a whole."""

    rotations: bool = False
    """Whether a style's statistics also have those of the style turned by 90, 180 and 270 degrees.
    Only for statistics that are rows, arrays of equal lengths: four rows follow each other, one of
    each turn."""

    @abc.abstractmethod
    def statistics(self, features: Features, target: Any, weight: PositionWeights) -> Any:
        """Returns sums over positions, a pytree of arrays; over disjoint parts they add up.

        Args:
            features: layer -> `(h, w, c)`, at least of `layers` and `image`.
            target: the term's target; None for the statistics that `target` is made of.
            weight: layer -> `(h, w)`, the weight of each position, or None for all ones.
        """

    @abc.abstractmethod
    def loss(self, statistics: Any, target: Any) -> jax.Array:
        """Returns the loss, `()`.

        Args:
            statistics: of the image.
            target: the term's target.
        """

    def target(self, statistics: Sequence[Any], shares: Shares) -> Any:
        """Returns the target of a term with the `target_image` `style`; by default `mix` of both.

        Args:
            statistics: of each of S styles.
            shares: layer -> `(S,)`, the share of each style.
        """
        return mix(statistics, shares)

    def position_weights(self, shape: tuple[int, int]) -> jax.Array | None:
        """Returns the weight of each pixel of the image, `(H, W)`; by default None, all ones.

        A layer's positions have the mean of their pixels, which `statistics` gets in `weight`. It
        is the image's weight only, and not that of the content or the styles.

        Args:
            shape: `(H, W)` of the image. At the smaller sizes of a pyramid it is smaller.
        """
        del shape
        return None

    def normalized_gradients(self) -> Mapping[str, float]:
        """Returns the layers whose gradient is normalized, with a factor; by default none.

        The gradient of the term by the features of such a layer gets an L1 norm of the term's
        weight times the factor, see `losses.normalize_gradient`.
        """
        return {}


def split_arrays(terms: Sequence[Term]) -> tuple[tuple[Term, ...], list[Any]]:
    """Splits terms into what is static under `jax.jit`, and their arrays.

    Returns:
        The terms with `jax.ShapeDtypeStruct` in the place of arrays, which makes them hashable,
        and the arrays, for `fill_arrays`.
    """
    leaves, tree = jax.tree.flatten(tuple(terms))
    static = [
        leaf
        if isinstance(leaf, Term)  # not registered: a leaf, without arrays
        else jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
        for leaf in leaves
    ]
    arrays = [leaf for leaf in leaves if not isinstance(leaf, Term)]
    return jax.tree.unflatten(tree, static), arrays


def fill_arrays(terms: Sequence[Term], arrays: Sequence[Any]) -> tuple[Term, ...]:
    """Returns the terms that `split_arrays` has split."""
    leaves, tree = jax.tree.flatten(tuple(terms))
    rest = iter(arrays)
    filled = [leaf if isinstance(leaf, Term) else next(rest) for leaf in leaves]
    return tuple(jax.tree.unflatten(tree, filled))


def layers_of(terms: Iterable[Term]) -> tuple[str, ...]:
    """Returns the names of all layers that `terms` read, each once."""
    return tuple(dict.fromkeys(layer for term in terms for layer in term.layers))


def check_terms(terms: Any) -> tuple[Term, ...]:
    """Returns a tuple of terms, after checking that it is one.

    Raises:
        ValueError: if not.
    """
    if not isinstance(terms, tuple | list):
        kind = type(terms).__name__
        raise ValueError(f"terms must be a tuple of terms, not {kind}; (term,) for a single one")
    if not terms:
        raise ValueError("terms is empty: an objective needs at least one term")
    for term in terms:
        if not isinstance(term, Term):
            raise ValueError(
                f"{term!r} is not a term, an instance of a class that inherits from "
                "jaxstyle.terms.Term"
            )
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"terms must have different names, not {', '.join(names)}")
    return tuple(terms)


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
            # Not a matrix product, whose operands may be rounded: covariances are differences of
            # these means.
            parts = [factors[i] * mean.astype(dtype) for i, mean in enumerate(means)]
            return functools.reduce(operator.add, parts)

        return jax.tree.map(leaf, *(style[layer][0] for style in statistics))

    return {layer: average(layer) for layer in statistics[0]}


def _tuple_of(values: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(values, tuple | list):
        kind = type(values).__name__
        raise ValueError(
            f"{what} must be a tuple, not {kind}: settings are static, only the weights of whole "
            "terms are traced"
        )
    return tuple(values)


def check_name(term: Any) -> None:
    """Checks a term's name."""
    if not isinstance(term.name, str) or not term.name:
        raise ValueError(f"name must be a text, not {term.name!r}")


def check_layer_names(term: Any) -> tuple[str, ...]:
    """Checks a term's name and `layers`, and makes a tuple of `layers`, which it returns.

    Whether the network has those layers can only be checked where both are known.
    """
    check_name(term)
    layers = _tuple_of(term.layers, "layers")
    if not layers or any(not isinstance(name, str) for name in layers):
        raise ValueError(f"layers must be names of layers, not {term.layers!r}")
    if len(set(layers)) < len(layers):
        raise ValueError(f"layers {', '.join(layers)}: each can be named once only")
    object.__setattr__(term, "layers", layers)
    return layers


def check_layers(term: Any) -> None:
    """Checks a term's name, `layers` and `layer_weights`, and makes tuples of the last two."""
    layers = check_layer_names(term)
    weights = _tuple_of(term.layer_weights, "layer_weights")
    if len(weights) != len(layers):
        raise ValueError(f"{len(weights)} layer_weights for {len(layers)} layers")
    weights = tuple(as_number(each, "each of layer_weights") for each in weights)
    object.__setattr__(term, "layer_weights", weights)


def check_flag(what: str, value: Any) -> None:
    """Checks a setting that is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be True or False, not {value!r}")


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Checks a setting that is one of several words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(choices)}")


def check_target(term: Any, target: Any) -> Any:
    """Returns `target` after checking that it has all layers of the term."""
    if not isinstance(target, Mapping) or not set(term.layers) <= set(target):
        found = ", ".join(map(str, target)) if isinstance(target, Mapping) else "no layers"
        raise ValueError(
            f"the target of {term.name} has {found}, but its layers are {', '.join(term.layers)}: "
            "it must be what prepare_targets returns for these terms"
        )
    return target


def weight_of(weight: PositionWeights, layer: str, maps: jax.Array) -> jax.Array | None:
    """Returns the weight of each position of `maps`, in the dtype in which they are summed."""
    if weight is None:
        return None
    return as_factor(weight[layer], f"weight of {layer}", maps.shape[:2], sum_dtype(maps))


def total_weight(maps: jax.Array, weight: jax.Array | None) -> jax.Array:
    """Returns the number of positions, or the sum of their weights, at least 1e-6."""
    if weight is None:
        return jnp.asarray(maps.shape[0] * maps.shape[1], sum_dtype(maps))
    return jnp.maximum(jnp.sum(weight), 1e-6)


def weighted_sum(term: Any, loss: Callable[[str], jax.Array]) -> jax.Array:
    """Returns the sum of the layers' losses, each times its weight, `()`."""
    parts = [
        weight * loss(layer) for layer, weight in zip(term.layers, term.layer_weights, strict=True)
    ]
    return functools.reduce(operator.add, parts)
