"""Targets: what the terms compare an image with, computed from the content and the styles."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstyle.checks import sum_dtype
from jaxstyle.guidance import (
    StyleWeights,
    check_layer_shares,
    check_masks,
    check_shares,
    check_style_masks,
    normalize_shares,
)
from jaxstyle.matching import candidates, match
from jaxstyle.network.protocol import Network, Params, check_network
from jaxstyle.pictures import as_picture
from jaxstyle.regions import Guided, at_layers, fit, product
from jaxstyle.sampling import Drawn, draw_positions, fold_in, key_data, rows_at, style_key
from jaxstyle.terms import Features, MatchedStyle, PositionWeights, Term
from jaxstyle.terms.protocol import check_terms, layers_of
from jaxstyle.terms.sampled import SampledTerm, names_of_drawing
from jaxstyle.tiling import (
    Planes,
    compute_features,
    make_tiling,
    smaller_tile,
    sum_over_windows,
    tiling_of,
    whole_features,
)

Targets = Mapping[str, Any]

Style = ArrayLike | Sequence[ArrayLike]


def prepare_targets(
    network: Network,
    params: Params,
    terms: Sequence[Term],
    content: ArrayLike | None,
    style: Style | None,
    *,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    tile: int | None = None,
    key: jax.Array | None = None,
    start: ArrayLike | None = None,
) -> dict[str, Any]:
    """Computes what each term compares the image with: its target.

    Args:
        network: the network; static under `jax.jit`.
        params: its parameters; those of VGG19 from `jaxstyle.io.load_params`.
        terms: a tuple of terms; static under `jax.jit`, except for arrays that they hold.
        content: `(H, W, 3)` sRGB in [0, 1]; None if no term needs it.
        style: `(h, w, 3)` sRGB in [0, 1], or a tuple of such of any sizes; None if no term
            needs it. A style never wraps, whatever the network's padding.
        style_weights: `(S,)`, the shares of several styles; or a mapping of layers to such, which
            mixes styles by layer, for example fine strokes of one style and coarse ones of another
            (Gatys et al. 2017, section 5). Shares are equal by default, and for layers that are
            not named. They must not be negative and are divided by their sum, which must be
            positive; traced shares cannot be checked under `jax.jit`.
        masks: `(S, H, W)` floating point in [0, 1] or bool, the region of the image that each
            style is for; by default every style applies everywhere. `(1, H, W)` is the region of
            the mixture of several styles. A position of a layer has the mean of its pixels.
        style_masks: for each style None, or `(h, w)` floating point in [0, 1] or bool, the region
            of the style that counts.
        tile: as in `evaluate`, for content and styles.
        key: a `jax.random.key`, for terms that read features at drawn positions (`SampledTerm`);
            by default `jax.random.key(0)`. The same key draws the same positions, see also
            `redraw_targets`. `stylize` derives a key for each size, and so draws others.
        start: `(H, W, 3)`, the picture so far, carried to this size, for `MatchedStyle`; None at
            the first size.

    Returns:
        Term name -> target, a dict to be passed to `evaluate`.

    Raises:
        ValueError: for a wrong shape or dtype, pixels that are not finite or clearly not in [0, 1]
            (not checked under `jax.jit`), an image that is too small or missing, terms that are
            not a tuple of terms, unknown layers, parameters that are not the network's,
            or style_weights that cannot be shares.
    """
    terms = check_terms(terms)
    check_network(network, params, layers_of(terms))
    keys = _keys(terms, key)
    targets: dict[str, Any] = {term.name: None for term in terms}
    content_terms = [term for term in terms if term.target_image == "content"]
    if content_terms:
        _check_present(content_terms, "content", content)
        features = _content_features(network, params, content_terms, content, tile)
        for term in content_terms:
            layers = term.layers if set(term.layers) <= set(features) else ("image",)
            targets[term.name] = {layer: features[layer] for layer in layers}
    style_terms = [term for term in terms if term.target_image == "style"]
    if style_terms:
        size = None if content is None else jnp.shape(content)[:2]
        guides = style_weights, masks, style_masks
        targets |= _style_targets(network, params, style_terms, style, guides, size, tile, keys)
    for term in style_terms:
        if isinstance(term, MatchedStyle):
            _check_present([term], "content", content)
            image = as_picture(content, "content", bounded=True)
            begun = None if start is None else as_picture(start, "start", shape=image.shape)
            targets[term.name] = _matched(
                network, params, term, targets[term.name], image, begun, tile
            )
    for name, own in keys.items():
        targets[name] = Drawn(own, targets[name])
    return targets


def _matched(
    network: Network,
    params: Params,
    term: MatchedStyle,
    found: Any,
    content: jax.Array,
    start: jax.Array | None,
    tile: int | None,
) -> Any:
    """Returns the target of a term, of the candidates in its styles, `found`."""
    if not isinstance(found, Guided):
        return match(network, params, term, (found,), None, content, start, tile)[0]
    stride = network.stride(term.grid)
    height, width = (n // stride for n in content.shape[:2])
    regions = found.weights[term.grid][:, :height, :width]
    targets = match(network, params, term, found.targets, regions, content, start, tile)
    return found._replace(targets=targets)


def _keys(terms: Sequence[Term], key: jax.Array | None) -> dict[str, jax.Array]:
    """Returns term name -> key, of the terms that draw positions.

    It is the same for all, so that terms with as many samples share them, and what is read there.
    """
    drawing = names_of_drawing(terms)
    return dict.fromkeys(drawing, key_data(key)) if drawing else {}


def _style_targets(
    network: Network,
    params: Params,
    style_terms: Sequence[Term],
    style: Style | None,
    guides: tuple[Any, Any, Any],
    size: tuple[int, ...] | None,
    tile: int | None,
    keys: Mapping[str, jax.Array],
) -> dict[str, Any]:
    """Returns the targets of the terms of styles.

    `guides` are shares, masks and style masks; `size` is `(H, W)` of the content.
    """
    targets: dict[str, Any] = {}
    style_weights, masks, style_masks = guides
    styles = tuple(style) if isinstance(style, tuple | list) else (style,)
    _check_present(style_terms, "style", *styles)
    images = [as_picture(each, "style", shape=("h", "w", 3), bounded=True) for each in styles]
    dtype, layers, number = sum_dtype(*images), layers_of(style_terms), len(images)
    regions = check_masks(masks, number, size, dtype)
    mixed = regions is None or len(regions) < number
    check_layer_shares(style_terms, style_weights)
    shares = check_shares(style_weights, layers, number, dtype, masked=not mixed)
    shares = normalize_shares(shares, layers, number, dtype)
    style_masks = check_style_masks(style_masks, images, dtype) or (None,) * number
    of_styles = [
        _turned_statistics(
            network,
            params,
            style_terms,
            image,
            mask,
            tile,
            {name: style_key(own, i) for name, own in keys.items()},
        )
        for i, (image, mask) in enumerate(zip(images, style_masks, strict=True))
    ]
    if regions is None:
        for term in style_terms:
            targets[term.name] = term.target([each[term.name] for each in of_styles], shares)
        return targets

    weights, areas = at_layers(network, regions, layers), jnp.mean(regions, (1, 2))
    whole = {layer: jnp.ones(1, dtype) for layer in layers}
    for term in style_terms:
        own = [each[term.name] for each in of_styles]
        if mixed:
            targets[term.name] = Guided((term.target(own, shares),), weights, areas)
            continue
        factors = shares[layers[0]] * number * areas
        each = tuple(term.target([statistics], whole) for statistics in own)
        targets[term.name] = Guided(each, weights, factors)
    return targets


def _content_features(
    network: Network,
    params: Params,
    terms: Sequence[Term],
    content: ArrayLike | None,
    tile: int | None,
) -> Features:
    image = as_picture(content, "content", bounded=True)
    tile = smaller_tile(tile, image)
    if tile is None:
        return whole_features(network, params, image, layers_of(terms))
    # Maps of the whole content are the largest arrays of a run in windows. A term that reads few
    # positions of them gets the content itself, and `evaluate` computes them window by window.
    layers = layers_of(term for term in terms if not isinstance(term, SampledTerm))
    if not layers:
        return {"image": image}
    tiling = make_tiling(network, image.shape, tile, layers, {})
    return {"image": image} | compute_features(tiling, network, params, image)


def _turned_statistics(
    network: Network,
    params: Params,
    terms: Sequence[Term],
    image: jax.Array,
    mask: Any,
    tile: int | None,
    keys: Mapping[str, jax.Array],
) -> dict[str, Any]:
    """Returns term name -> statistics of one style, with its rotations where a term wants them."""
    found = _style_statistics(network, params, terms, image, mask, tile, keys)
    turning = [term for term in terms if term.rotations]
    if not turning:
        return found

    def turned(turns: int) -> dict[str, Any]:
        region = None if mask is None else jnp.rot90(mask, turns)
        own = {name: fold_in(key, turns) for name, key in keys.items()}
        here = jnp.rot90(image, turns)
        return _style_statistics(network, params, turning, here, region, tile, own)

    every = [found, *map(turned, (1, 2, 3))]

    def together(*rows: jax.Array) -> jax.Array:
        return jnp.stack(rows, axis=1).reshape(-1, *rows[0].shape[1:])

    rows = {term.name: [each[term.name] for each in every] for term in turning}
    return found | {name: jax.tree.map(together, *each) for name, each in rows.items()}


def _style_statistics(
    network: Network,
    params: Params,
    terms: Sequence[Term],
    image: jax.Array,
    mask: Any,
    tile: int | None,
    keys: Mapping[str, jax.Array],
) -> dict[str, Any]:
    """Returns term name -> statistics of one style. `keys` are those of its positions."""
    network = network.without_wrapping()  # a painting's opposite edges do not fit
    weights = None if mask is None else at_layers(network, mask, layers_of(terms))
    positions = {
        term.name: draw_positions(keys[term.name], term.style_samples, image.shape, mask)
        for term in terms
        if isinstance(term, SampledTerm)
    }

    def statistics(features: Features, weights: PositionWeights, **window: Any) -> dict[str, Any]:
        def of_term(term: Term) -> Any:
            if isinstance(term, MatchedStyle):
                return candidates(network, term, image.shape, features, weights, **window)
            if not isinstance(term, SampledTerm):
                return term.statistics(features, None, weights)
            strides = {layer: network.stride(layer) for layer in term.layers}
            return rows_at(features, strides, positions[term.name], **window)

        return {term.name: of_term(term) for term in terms}

    tile = smaller_tile(tile, image)
    if tile is None:
        features = whole_features(network, params, image, layers_of(terms))
        return statistics(features, None if weights is None else fit(weights, features))
    for term in terms:
        if not term.additive_target:
            raise ValueError(
                f"the target of {term.name} is not a sum over positions: leave out tile"
            )

    def of_window(
        features: Features, here: Any, owned: Planes, origin: jax.Array
    ) -> dict[str, Any]:
        weights = product(here.get("mask"), owned)
        return statistics(features, weights, origin=origin, owned=owned["image"])

    maps = {} if weights is None else {"mask": weights}
    tiling = tiling_of(network, image, tile, terms)
    sums: dict[str, Any] = sum_over_windows(tiling, network, params, image, maps, of_window)
    return sums


def _check_present(terms: Sequence[Term], source: str, *images: Any) -> None:
    if not images or any(image is None for image in images):
        raise ValueError(f"{terms[0].name} needs a {source} image, but there is none")
