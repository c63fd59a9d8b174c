"""The objective: a weighted sum of terms, and the targets that they compare with."""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstyle.checks import Shape, as_array, as_factor, as_integer, sum_dtype
from jaxstyle.losses import normalize_gradient
from jaxstyle.sharding import split
from jaxstyle.terms import Features, PositionWeights, Term
from jaxstyle.tiling import Tiling, compute_features, make_tiling, sum_over_windows
from jaxstyle.vgg import CONV_SHAPES, LAYERS, VGG19, number_of_poolings

Params = Mapping[str, Any]
Targets = Mapping[str, Any]
Weights = Mapping[str, Any]
Style = ArrayLike | Sequence[ArrayLike]
StyleWeights = ArrayLike | Sequence[float] | Mapping[str, ArrayLike | Sequence[float]]


class Guided(NamedTuple):
    """The target of a style term that has a region of the image for each style.

    Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer", CVPR 2017, section 4.
    """

    targets: tuple[Any, ...]
    """One for each of the S styles."""
    weights: dict[str, jax.Array]
    """Layer -> `(S, h, w)`, the weight of each position in each region."""
    factors: jax.Array
    """`(S,)` of the losses: shares times areas, so that no region is painted more strongly."""


def layers_of(terms: Iterable[Term]) -> tuple[str, ...]:
    """Returns the names of all layers that `terms` read, each once."""
    return tuple(dict.fromkeys(layer for term in terms for layer in term.layers))


def _features(network: VGG19, params: Params, image: Any, layers: Sequence[str]) -> Features:
    stride = max((2 ** number_of_poolings(layer) for layer in layers), default=1)
    return cast(Features, network.apply(params, split(image, stride), layers))


_IMAGE: Shape = ("H", "W", 3)


def _check_terms(terms: Any) -> tuple[Any, ...]:
    if not isinstance(terms, tuple | list):
        kind = type(terms).__name__
        raise ValueError(f"terms must be a tuple of terms, not {kind}; (term,) for a single one")
    if not terms:
        raise ValueError("terms is empty: an objective needs at least one term")
    for term in terms:
        if isinstance(term, type) or not isinstance(term, Term):
            raise ValueError(
                f"{term!r} is not a term: it needs name, layers, target_image, statistics and loss"
            )
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"terms must have different names, not {', '.join(names)}")
    return tuple(terms)


def check_names(what: str, given: Any, terms: Sequence[Term]) -> None:
    """Checks that `given`, named `what`, is a mapping of the names of `terms`.

    Raises:
        ValueError: if it is not.
    """
    names = sorted(term.name for term in terms)
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{what} must be a mapping of the terms' names, {', '.join(names)}, not "
            f"{type(given).__name__}"
        )
    if set(given) != set(names):
        raise ValueError(
            f"{what} for {', '.join(sorted(map(str, given))) or 'nothing'}, but the terms are "
            f"{', '.join(names)}"
        )


def _check_network(network: Any, params: Any, layers: Sequence[str]) -> None:
    """Checks that `params` has what the network needs up to `layers`."""
    if isinstance(network, type) or not hasattr(network, "apply"):
        raise ValueError(f"network must be a network such as jaxstyle.VGG19(), not {network!r:.80}")
    for layer in layers:
        number_of_poolings(layer)  # refuses unknown names
    deepest = max(("image", *layers), key=LAYERS.index)
    needed = {name for name in LAYERS[: LAYERS.index(deepest) + 1] if name in CONV_SHAPES}
    inside = params.get("params", {}) if isinstance(params, Mapping) else None
    if isinstance(inside, Mapping) and all(_is_convolution(inside, name) for name in needed):
        return
    advice = "jaxstyle.io.load_params() returns them"
    if isinstance(params, Mapping) and needed <= set(params):
        advice = 'these are the layers themselves: pass {"params": params}'
    raise ValueError(
        'params must be the variables of the network, {"params": {"conv1_1": {"kernel", "bias"}, '
        f"...}}}}, with all convolutions up to {deepest} in their shapes; {advice}"
    )


def _is_convolution(layers: Mapping[str, Any], name: str) -> bool:
    layer = layers.get(name)
    return isinstance(layer, Mapping) and all(
        getattr(layer.get(key), "shape", None) == shape
        for key, shape in zip(("kernel", "bias"), CONV_SHAPES[name], strict=True)
    )


def _as_mask(mask: Any, what: str, shape: Shape, dtype: Any) -> jax.Array:
    """A mask as an array of `dtype`, in which it is averaged over the pixels of each layer."""
    if jnp.issubdtype(getattr(mask, "dtype", float), np.bool_):
        mask = jnp.asarray(mask, dtype)
    return as_array(mask, what, shape, advice="with values in [0, 1]").astype(dtype)


def prepare_targets(
    network: VGG19,
    params: Params,
    terms: Sequence[Term],
    content: ArrayLike | None,
    style: Style | None,
    *,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    tile: int | None = None,
) -> dict[str, Any]:
    """Computes what each term compares the image with.

    Args:
        network: the network; static under `jax.jit`.
        params: its variables, as `jaxstyle.io.load_params` gives them.
        terms: a tuple of terms; static under `jax.jit`.
        content: `(H, W, 3)` sRGB in [0, 1]; None if no term needs it.
        style: `(h, w, 3)` sRGB in [0, 1], or a tuple of such of any sizes; None if no term
            needs it.
        style_weights: `(S,)`, the share of each of several styles, or a mapping of layers to
            such, which mixes styles by layer, fine strokes from one and coarse from another
            (Gatys et al. 2017, section 5). Equal by default, and for layers that are not named.
            They must not be negative and are divided by their sum, which must be positive; under
            `jax.jit` neither can be checked where they are traced.
        masks: `(S, H, W)` floating point in [0, 1] or bool, the region of the image that each
            style is for; by default every style applies everywhere. At a layer a position has
            the mean of its pixels.
        style_masks: for each style None, or `(h, w)` floating point in [0, 1] or bool, the region
            of the style that counts.
        tile: as in `evaluate`, for content and styles.

    Returns:
        Term name -> target, a dict to be passed to `evaluate`.

    Raises:
        ValueError: for a wrong shape or dtype, an image that is too small, or one that is missing;
            for what is no tuple of terms, variables that are not the network's, or style_weights
            that cannot be shares.
    """
    terms = _check_terms(terms)
    _check_network(network, params, layers_of(terms))
    styles = tuple(style) if isinstance(style, tuple | list) else (style,)
    number = len(styles)
    targets: dict[str, Any] = {term.name: None for term in terms}

    content_terms = [term for term in terms if term.target_image == "content"]
    if content_terms:
        _check_present(content_terms, "content", content)
        layers = layers_of(content_terms)
        image = as_array(content, "content", _IMAGE)
        if (here := _smaller(tile, image)) is None:
            features = _features(network, params, image, layers)
        else:
            tiling = make_tiling(image.shape, here, layers, {})
            features = {"image": image} | compute_features(tiling, network, params, image)
        for term in content_terms:
            targets[term.name] = {layer: features[layer] for layer in term.layers}

    style_terms: list[Any] = [term for term in terms if term.target_image == "style"]
    if not style_terms:
        return targets
    _check_present(style_terms, "style", *styles)
    layers = layers_of(style_terms)
    advice = "several styles are a tuple of such"
    images = [as_array(each, "style", ("h", "w", 3), advice=advice) for each in styles]
    dtype = sum_dtype(*images)
    style_masks = (None,) * number if style_masks is None else tuple(style_masks)
    if len(style_masks) != number:
        raise ValueError(f"{len(style_masks)} style_masks for {number} styles")
    shares = _shares(style_weights, layers, number, dtype)
    of_styles = [
        _style_statistics(network, params, style_terms, image, mask, tile)
        for image, mask in zip(images, style_masks, strict=True)
    ]
    guide: tuple[dict[str, jax.Array], jax.Array] | None = None
    if masks is not None:
        masks = _as_mask(masks, "masks", ("S", "H", "W"), dtype)
        if len(masks) != number:
            raise ValueError(f"masks of shape {masks.shape} for {number} styles, not (S, H, W)")
        if content is not None and masks.shape[1:] != jnp.shape(content)[:2]:
            raise ValueError(f"masks of shape {masks.shape} for a content of {jnp.shape(content)}")
        guide = _at_layers(masks, layers), jnp.mean(masks, (1, 2))
    for term in style_terms:
        statistics = [each[term.name] for each in of_styles]
        if guide is None:
            targets[term.name] = term.target(statistics, shares)
            continue
        if isinstance(style_weights, Mapping):
            raise ValueError("style_weights by layer mix styles, which masks keep apart")
        whole = {layer: jnp.ones(1, dtype) for layer in layers}
        targets[term.name] = Guided(
            tuple(term.target([each], whole) for each in statistics),
            guide[0],
            shares[layers[0]] * number * guide[1],
        )
    return targets


def _style_statistics(
    network: VGG19,
    params: Params,
    terms: Sequence[Any],
    image: jax.Array,
    mask: ArrayLike | None,
    tile: int | None,
) -> dict[str, Any]:
    """Term name -> statistics of one style."""
    layers = layers_of(terms)
    weights = _style_weights(image, mask, layers)
    tile = _smaller(tile, image)
    if tile is None:
        features = _features(network, params, image, layers)
        return {term.name: term.statistics(features, None, weights) for term in terms}
    for term in terms:
        if not getattr(term, "additive_target", True):
            raise ValueError(f"the target of {term.name} is no sum over positions: leave tile out")

    def statistics(features: Features, weights: Any, owned: PositionWeights) -> dict[str, Any]:
        own = _times(owned, weights)
        return {term.name: term.statistics(features, None, own) for term in terms}

    tiling = _tiling(image, tile, terms)
    return cast(
        dict[str, Any], sum_over_windows(tiling, network, params, image, weights, statistics)
    )


def _smaller(tile: int | None, image: jax.Array) -> int | None:
    """Returns `tile`, or None where it is as large as the image."""
    if tile is not None and as_integer(tile, "tile") < 1:
        raise ValueError(f"tile must be positive, not {tile}")
    return None if tile is None or tile >= max(image.shape[:2], default=0) else tile


def _tiling(image: jax.Array, tile: int, terms: Sequence[Any]) -> Tiling:
    # A term that does not say how far it reads around a position is taken to read neighbours.
    reach: dict[str, int] = {}
    for term in terms:
        for layer in term.layers:
            reach[layer] = max(reach.get(layer, 0), getattr(term, "reach", 1))
    return make_tiling(image.shape, tile, layers_of(terms), reach)


def _times(one: PositionWeights, other: PositionWeights) -> PositionWeights:
    if one is None or other is None:
        return one if other is None else other

    def product(plane: jax.Array, factor: jax.Array) -> jax.Array:
        dtype = sum_dtype(plane, factor)
        return plane.astype(dtype) * factor.astype(dtype)

    return {layer: product(plane, other[layer]) for layer, plane in one.items()}


def _check_present(terms: Sequence[Term], source: str, *images: Any) -> None:
    if not images or any(image is None for image in images):
        raise ValueError(f"{terms[0].name} needs a {source} image, but there is none")


def _shares(
    style_weights: StyleWeights | None, layers: Sequence[str], number: int, dtype: Any
) -> dict[str, jax.Array]:
    """Layer -> `(S,)`, which sum to 1."""
    equal = jnp.full((number,), 1 / number, dtype)

    def normalized(weights: Any) -> jax.Array:
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(weights)):
            _check_shares(jax.device_get(weights))
        share = as_factor(weights, f"style_weights of {number} styles", (number,), dtype)
        return share / jnp.sum(share)

    if style_weights is None:
        return dict.fromkeys(layers, equal)
    if not isinstance(style_weights, Mapping):
        return dict.fromkeys(layers, normalized(style_weights))
    if unknown := set(style_weights) - set(layers):
        raise ValueError(
            f"style_weights for {', '.join(sorted(unknown))}, but the style's layers are "
            f"{', '.join(layers)}"
        )
    return {
        layer: normalized(style_weights[layer]) if layer in style_weights else equal
        for layer in layers
    }


def _check_shares(weights: Any) -> None:
    """Checks what is known while a function is traced."""
    try:
        shares = np.asarray(weights, float)
    except (TypeError, ValueError):
        raise ValueError(f"style_weights must be numbers, not {weights!r}") from None
    if not np.all(np.isfinite(shares)) or np.any(shares < 0) or not np.any(shares > 0):
        raise ValueError(
            f"style_weights must be finite, none negative, and one of them positive, not {weights}"
        )


def _style_weights(
    image: jax.Array, mask: ArrayLike | None, layers: Sequence[str]
) -> PositionWeights:
    if mask is None:
        return None
    mask = _as_mask(mask, "a style mask", ("h", "w"), sum_dtype(image))
    if mask.shape != image.shape[:2]:
        raise ValueError(f"a style mask of shape {mask.shape} for a style of {image.shape}")
    return _at_layers(mask, layers)


def _at_layers(mask: jax.Array, layers: Sequence[str]) -> dict[str, jax.Array]:
    """`(..., H, W)` -> layer -> `(..., h, w)`: means over the pixels that are pooled together.

    Where a mask is zero all over a position's pixels, its weight there is exactly zero.
    """
    found = {"image": mask}
    scaled = [mask]
    for _ in range(max(number_of_poolings(layer) for layer in layers)):
        *batch, height, width = scaled[-1].shape
        cut = scaled[-1][..., : height // 2 * 2, : width // 2 * 2]
        scaled.append(cut.reshape(*batch, height // 2, 2, width // 2, 2).mean((-3, -1)))
    return found | {layer: scaled[number_of_poolings(layer)] for layer in layers}


def evaluate(
    network: VGG19,
    params: Params,
    terms: Sequence[Term],
    targets: Targets,
    weights: Weights,
    image: ArrayLike,
    *,
    tile: int | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the objective of one image; differentiable in the image, weights and params.

    Args:
        network: the network; static under `jax.jit`.
        params: its variables.
        terms: a tuple of terms; static under `jax.jit`.
        targets: from `prepare_targets`.
        weights: term name -> `()`, the factor of each term; traced.
        image: `(H, W, 3)` sRGB in [0, 1]; values outside are allowed.
        tile: compute in windows that own about this many pixels each way, which needs memory for
            one of them at a time; value and gradient are the same. None takes the image whole.

    Returns:
        The value `()`, which is `sum(weights[name] * losses[name])`, and the losses, a dict of
        term name -> `()`; all in the dtype of the image, or float32 if that is wider.

    Raises:
        ValueError: for a wrong shape or dtype; for what is no tuple of terms, targets or weights
            that do not belong to them, or variables that are not the network's.
    """
    terms = _check_terms(terms)
    check_names("targets", targets, terms)
    check_names("weights", weights, terms)
    _check_network(network, params, layers_of(terms))
    image = as_array(image, "image", _IMAGE)
    dtype = sum_dtype(image)
    factors = {
        term.name: as_factor(weights[term.name], f"the weight of {term.name}", (), dtype)
        for term in terms
    }
    tile = _smaller(tile, image)
    if tile is None:
        features = _features(network, params, image, layers_of(terms))
        sums = {
            term.name: _statistics(
                term,
                _with_normalized_gradients(term, features, factors[term.name]),
                targets[term.name],
                None,
            )
            for term in terms
        }
    else:
        sums = _sums_of_windows(network, params, terms, targets, image, tile)
    per_term = {
        term.name: _loss(term, sums[term.name], targets[term.name], dtype) for term in terms
    }
    weighted = [factors[name] * loss for name, loss in per_term.items()]
    return functools.reduce(operator.add, weighted), per_term


def _sums_of_windows(
    network: VGG19,
    params: Params,
    terms: Sequence[Any],
    targets: Targets,
    image: jax.Array,
    tile: int,
) -> dict[str, Any]:
    for term in terms:
        if getattr(term, "normalize_gradients", False):
            raise ValueError(
                f"{term.name} normalises its gradient by that of the whole image: leave tile out"
            )
    # What goes with positions is cut with the image; the rest of a target is the same for all.
    maps: dict[str, Any] = {}
    for term in terms:
        target = targets[term.name]
        if isinstance(target, Guided):
            maps[term.name] = {
                layer: jnp.moveaxis(plane, 0, -1) for layer, plane in target.weights.items()
            }
        elif term.target_image == "content":
            maps[term.name] = target

    def statistics(features: Features, here: Any, owned: PositionWeights) -> dict[str, Any]:
        sums = {}
        for term in terms:
            target = targets[term.name]
            if isinstance(target, Guided):
                weights = {
                    layer: jnp.moveaxis(plane, -1, 0) for layer, plane in here[term.name].items()
                }
                target = target._replace(weights=weights)
            elif term.target_image == "content":
                target = here[term.name]
            sums[term.name] = _statistics(term, features, target, owned)
        return sums

    tiling = _tiling(image, tile, terms)
    return cast(dict[str, Any], sum_over_windows(tiling, network, params, image, maps, statistics))


def _statistics(term: Term, features: Features, target: Any, owned: PositionWeights) -> Any:
    """One term's statistics; with regions, a tuple of those of each."""
    if not isinstance(target, Guided):
        return term.statistics(features, target, owned)
    return tuple(
        term.statistics(
            features,
            each,
            _times({layer: weights[i] for layer, weights in target.weights.items()}, owned),
        )
        for i, each in enumerate(target.targets)
    )


def _loss(term: Term, statistics: Any, target: Any, dtype: Any) -> jax.Array:
    def loss(statistics: Any, target: Any) -> jax.Array:
        return as_factor(term.loss(statistics, target), f"the loss of {term.name}", (), dtype)

    if not isinstance(target, Guided):
        return loss(statistics, target)
    factors = target.factors.astype(dtype)
    parts = [factors[i] * loss(statistics[i], each) for i, each in enumerate(target.targets)]
    return functools.reduce(operator.add, parts)


def _with_normalized_gradients(term: Any, features: Features, strength: jax.Array) -> Features:
    if not getattr(term, "normalize_gradients", False):
        return features
    own = dict(zip(term.layers, term.layer_weights, strict=True))
    # Before it is normalised, a gradient may be beyond what float16 can hold.
    wide = {layer: features[layer].astype(sum_dtype(features[layer])) for layer in own}
    return {
        **features,
        **{layer: normalize_gradient(wide[layer], strength * own[layer]) for layer in own},
    }
