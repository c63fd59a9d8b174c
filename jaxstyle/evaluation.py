"""The objective of an image: the weighted sum of the losses of its terms."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstyle.checks import as_factor, sum_dtype
from jaxstyle.guidance import Weights
from jaxstyle.losses import normalize_gradient
from jaxstyle.network.protocol import Network, Params, check_network
from jaxstyle.pictures import as_picture
from jaxstyle.regions import Guided, at_layers, fit, product
from jaxstyle.sampling import Drawn, draw_positions, rows_at
from jaxstyle.targets import Targets
from jaxstyle.terms import Features, MatchedStyle, PositionWeights, Term
from jaxstyle.terms.matched import Matched, at_grid
from jaxstyle.terms.protocol import check_terms, layers_of
from jaxstyle.terms.sampled import SampledTerm
from jaxstyle.tiling import (
    Planes,
    smaller_tile,
    sum_over_windows,
    surround,
    tiling_of,
    whole_features,
)


def evaluate(
    network: Network,
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
        params: its parameters.
        terms: a tuple of terms; static under `jax.jit`, except for arrays that they hold.
        targets: from `prepare_targets`.
        weights: term name -> `()`, the factor of each term; traced.
        image: `(H, W, 3)` sRGB in [0, 1]; values outside are allowed.
        tile: compute in windows that own about this many pixels each way, which needs the memory
            of one window; value and gradient are the same. None computes the whole image at once.

    Returns:
        The value `()`, which is `sum(weights[name] * losses[name])`, and the losses, a dict of
        term name -> `()`; all in the dtype of the image, or float32 if that is wider.

    Raises:
        ValueError: for a wrong shape or dtype, terms that are not a tuple of terms, unknown layers,
            targets or weights that do not belong to the terms, or parameters that are not the
            network's.
    """
    terms = check_terms(terms)
    check_names("targets", targets, terms)
    check_names("weights", weights, terms)
    layers = layers_of(terms)
    check_network(network, params, layers)
    image = as_picture(image, "image")
    dtype = sum_dtype(image)
    factors = {
        term.name: as_factor(weights[term.name], f"the weight of {term.name}", (), dtype)
        for term in terms
    }
    planes = _planes(network, terms, image)
    # What is drawn is drawn of the whole image.
    targets = {
        term.name: _draw(term, targets[term.name], image, planes.get(term.name)) for term in terms
    }
    tile = smaller_tile(tile, image)
    if tile is not None:
        sums = _sums_of_windows(network, params, terms, targets, image, planes, tile)
    else:
        targets = {
            term.name: _with_features(network, params, term, targets[term.name]) for term in terms
        }
        features = whole_features(network, params, image, layers)
        own = {name: fit(each, features) for name, each in planes.items()}
        sums = {
            term.name: _statistics(
                network,
                term,
                _with_normalized_gradients(term, features, factors[term.name]),
                targets[term.name],
                own.get(term.name),
            )
            for term in terms
        }
    per_term = {
        term.name: _loss(term, sums[term.name], targets[term.name], dtype) for term in terms
    }
    weighted = [factors[name] * loss for name, loss in per_term.items()]
    return functools.reduce(operator.add, weighted), per_term


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


def _planes(network: Network, terms: Sequence[Term], image: jax.Array) -> dict[str, Planes]:
    """Returns name -> layer -> `(h, w)`, of terms that weight the positions of the image."""
    found: dict[str, Planes] = {}
    for term in terms:
        weights = term.position_weights((image.shape[0], image.shape[1]))
        if weights is not None:
            what = f"position_weights of {term.name}"
            plane = as_factor(weights, what, image.shape[:2], sum_dtype(image))
            found[term.name] = at_layers(network, plane, term.layers)
    return found


def _sums_of_windows(
    network: Network,
    params: Params,
    terms: Sequence[Term],
    targets: Targets,
    image: jax.Array,
    planes: Mapping[str, Planes],
    tile: int,
) -> dict[str, Any]:
    for term in terms:
        if term.normalized_gradients():
            raise ValueError(
                f"{term.name} normalizes its gradient over the whole image: leave out tile"
            )
    # The parts of targets that belong to positions are cut with the image. The rest is the same
    # for all windows.
    maps: dict[Any, Planes] = {("weight", name): each for name, each in planes.items()}
    for term in terms:
        maps |= _maps_of_target(term, targets[term.name])

    def statistics(
        features: Features, here: Mapping[Any, Planes], owned: Planes, origin: jax.Array
    ) -> Any:
        sums = {}
        for term in terms:
            target = _cut_target(term, targets[term.name], here)
            if isinstance(target, _Sample):
                target = target._replace(origin=origin, owned=owned["image"])
                target = _with_features(network, params, term, target)
            own = product(here.get(("weight", term.name)), owned)
            sums[term.name] = _statistics(network, term, features, target, own, whole=False)
        return sums

    tiling = tiling_of(network, image, tile, terms)
    found: dict[str, Any] = sum_over_windows(tiling, network, params, image, maps, statistics)
    return found


def _maps_of_target(term: Term, target: Any) -> dict[Any, Planes]:
    """Returns the parts of a target that belong to positions of the image."""
    name = term.name
    maps: dict[Any, Planes] = {}
    for i, each in enumerate(target.targets if isinstance(target, Guided) else (target,)):
        if isinstance(each, Matched):
            maps["chosen", name, i] = each.chosen
    if isinstance(target, Guided):
        maps["target", name] = {
            layer: jnp.moveaxis(plane, 0, -1) for layer, plane in target.weights.items()
        }
    elif term.target_image == "content":
        maps["target", name] = target.target if isinstance(target, _Sample) else target
    return maps


def _cut_target(term: Term, target: Any, here: Mapping[Any, Planes], i: int = 0) -> Any:
    """Returns a target with its maps as they are in a window; `i` is the style's number."""
    if isinstance(target, Guided):
        weights = {
            layer: jnp.moveaxis(each, -1, 0) for layer, each in here["target", term.name].items()
        }
        each = tuple(_cut_target(term, own, here, i) for i, own in enumerate(target.targets))
        return target._replace(weights=weights, targets=each)
    if isinstance(target, Matched):
        return target._replace(chosen=here["chosen", term.name, i])
    if term.target_image != "content":
        return target
    own = here["target", term.name]
    return target._replace(target=own) if isinstance(target, _Sample) else own


class _Sample(NamedTuple):
    """The target of a `SampledTerm` in one evaluation, with the positions that it reads."""

    positions: tuple[jax.Array, ...]
    """`(N, 2)` pixels; of each region if there are masks."""
    target: Any
    """See `Drawn`."""
    key: jax.Array
    origin: jax.Array | None = None
    """`(2,)` the pixel at which a window begins."""
    owned: jax.Array | None = None
    """`(H, W)`, 1 for the pixels that a window owns."""


def _draw(term: Term, target: Any, image: jax.Array, planes: Planes | None) -> Any:
    """Draws the positions of a term that reads such; returns the target of another as it is."""
    if not isinstance(term, SampledTerm):
        return target
    if not isinstance(target, Drawn):
        raise ValueError(f"the target of {term.name} must be what prepare_targets returns for it")
    weight = None if planes is None else planes["image"]
    regions: list[Any] = [weight]
    if isinstance(target.target, Guided):
        regions = [
            region if weight is None else region * weight
            for region in target.target.weights["image"]
        ]
    positions = (draw_positions(target.key, term.samples, image.shape, each) for each in regions)
    return _Sample(tuple(positions), target.target, target.key)


def _with_features(network: Network, params: Params, term: Term, target: Any) -> Any:
    """Returns the target of a `SampledTerm` that has the content alone with its features."""
    if not isinstance(target, _Sample) or term.target_image != "content":
        return target
    if set(term.layers) <= set(target.target):
        return target
    features = whole_features(network, params, target.target["image"], term.layers)
    return target._replace(target=jax.lax.stop_gradient(features))


def _rows(network: Network, term: Term, features: Features, sample: _Sample, *, whole: bool) -> Any:
    """Returns the rows of the image, with those of the content if the term compares with it."""
    read = functools.partial(
        rows_at,
        strides={layer: network.stride(layer) for layer in term.layers},
        origin=sample.origin,
        owned=sample.owned,
        wraps=network.wraps and whole,
    )
    rows = tuple(read(features, positions=each) for each in sample.positions)
    if isinstance(sample.target, Guided):
        return rows
    if term.target_image != "content":
        return rows[0]
    return rows[0], read(sample.target, positions=sample.positions[0])


def _statistics(
    network: Network,
    term: Term,
    features: Features,
    target: Any,
    weight: PositionWeights,
    *,
    whole: bool = True,
) -> Any:
    """Returns a term's statistics of the image; a tuple of them if each style has a region.

    The features of a `whole` image that wraps do not hold what is beyond its edges, as windows do.
    """
    if isinstance(target, _Sample):
        return _rows(network, term, features, target, whole=whole)
    wraps = network.wraps and whole
    if wraps and isinstance(term, MatchedStyle):  # which reads no other neighbors
        features, wraps = {**features, **at_grid(term, features, wraps=True)}, False
    statistics = functools.partial(_around_edges, term) if wraps else term.statistics
    if not isinstance(target, Guided):
        return statistics(features, target, weight)
    regions = fit(target.weights, features)

    def of_region(i: int, target: Any) -> Any:
        region = {layer: regions[layer][i] for layer in ("image", *term.layers)}
        return statistics(features, target, product(region, weight))

    return tuple(of_region(i, each) for i, each in enumerate(target.targets))


def _around_edges(term: Term, features: Features, target: Any, weight: PositionWeights) -> Any:
    """Returns the statistics of features with what is beyond the edges, which itself weighs 0."""
    if term.reach == 0:
        return term.statistics(features, target, weight)
    features = {layer: features[layer] for layer in ("image", *term.layers)}
    if weight is None:
        weight = {layer: jnp.ones(each.shape[:2]) for layer, each in features.items()}
    if term.target_image == "content":
        target = {layer: surround(each, term.reach) for layer, each in target.items()}
    return term.statistics(
        {layer: surround(each, term.reach) for layer, each in features.items()},
        target,
        {layer: jnp.pad(weight[layer], term.reach) for layer in features},
    )


def _loss(term: Term, statistics: Any, target: Any, dtype: Any) -> jax.Array:
    of_term: Any = term.loss

    def loss(statistics: Any, target: Any) -> jax.Array:
        return as_factor(of_term(statistics, target), f"the loss of {term.name}", (), dtype)

    if isinstance(target, _Sample) and isinstance(term, SampledTerm):
        of_term = functools.partial(term.loss_of_draw, key=target.key)
        target = target.target
        if term.target_image == "content":
            statistics, target = statistics
    if not isinstance(target, Guided):
        return loss(statistics, target)
    factors = target.factors.astype(dtype)
    parts = [factors[i] * loss(statistics[i], each) for i, each in enumerate(target.targets)]
    return functools.reduce(operator.add, parts)


def _with_normalized_gradients(term: Term, features: Features, strength: jax.Array) -> Features:
    own = term.normalized_gradients()
    # Before it is normalized, a gradient may be larger than float16 can hold.
    wide = {layer: features[layer].astype(sum_dtype(features[layer])) for layer in own}
    normalized = {
        layer: normalize_gradient(wide[layer], strength * factor) for layer, factor in own.items()
    }
    return {**features, **normalized}
