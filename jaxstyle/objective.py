"""The objective: a weighted sum of terms, and the targets that they compare with."""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstyle.terms import Features, Term
from jaxstyle.vgg import VGG19

Params = Mapping[str, Any]
Targets = Mapping[str, Any]
Weights = Mapping[str, Any]
Style = ArrayLike | Sequence[ArrayLike]


def layers_of(terms: Iterable[Term]) -> tuple[str, ...]:
    """Returns the names of all layers that `terms` read, each once."""
    return tuple(dict.fromkeys(layer for term in terms for layer in term.layers))


def _features(network: VGG19, params: Params, image: Any, layers: Sequence[str]) -> Features:
    return cast(Features, network.apply(params, image, layers))


def _check_names(what: str, given: Mapping[str, Any], terms: Sequence[Term]) -> None:
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"terms must have different names, not {', '.join(names)}")
    if set(given) != set(names):
        raise ValueError(
            f"{what} for {', '.join(sorted(given)) or 'nothing'}, but the terms are "
            f"{', '.join(sorted(names))}"
        )


def prepare_targets(
    network: VGG19,
    params: Params,
    terms: Sequence[Term],
    content: ArrayLike | None,
    style: Style | None,
    style_weights: ArrayLike | Sequence[float] | None = None,
) -> dict[str, Any]:
    """Computes what each term compares the image with.

    Args:
        network: the network; static under `jax.jit`.
        params: its variables, as `jaxstyle.io.load_params` gives them.
        terms: a tuple of terms; static under `jax.jit`.
        content: `(H, W, 3)` sRGB in [0, 1]; None if no term needs it.
        style: `(h, w, 3)` sRGB in [0, 1], or a tuple of such of any sizes; None if no term
            needs it.
        style_weights: `(S,)`, the share of each of several styles; equal by default. They are
            divided by their sum.

    Returns:
        Term name -> target, a dict to be passed to `evaluate`.

    Raises:
        ValueError: for a wrong shape, an image that is too small, or one that is missing.
    """
    styles = tuple(style) if isinstance(style, tuple | list) else (style,)
    if style_weights is None:
        share = jnp.full((len(styles),), 1 / len(styles))
    else:
        share = jnp.asarray(style_weights, float)
        if share.shape != (len(styles),):
            raise ValueError(f"style_weights of shape {share.shape} for {len(styles)} styles")
        share = share / jnp.sum(share)

    targets: dict[str, Any] = {term.name: None for term in terms}
    _check_names("targets", targets, terms)
    for source, images in (("content", (content,)), ("style", styles)):
        used = [term for term in terms if term.target_image == source]
        if not used:
            continue
        if any(image is None for image in images):
            raise ValueError(f"{used[0].name} needs a {source} image, but there is none")
        layers = layers_of(used)
        features = [_features(network, params, image, layers) for image in images]
        for term in used:
            of_each = [term.target(each) for each in features]
            if len(of_each) == 1:
                targets[term.name] = of_each[0]
            else:
                targets[term.name] = jax.tree.map(
                    lambda *leaves: jnp.tensordot(
                        share.astype(leaves[0].dtype), jnp.stack(leaves), axes=1
                    ),
                    *of_each,
                )
    return targets


def evaluate(
    network: VGG19,
    params: Params,
    terms: Sequence[Term],
    targets: Targets,
    weights: Weights,
    image: ArrayLike,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the objective of one image; differentiable in the image, weights and params.

    Args:
        network: the network; static under `jax.jit`.
        params: its variables.
        terms: a tuple of terms; static under `jax.jit`.
        targets: from `prepare_targets`.
        weights: term name -> `()`, the factor of each term; traced.
        image: `(H, W, 3)` sRGB in [0, 1]; values outside are allowed.

    Returns:
        The value `()`, which is `sum(weights[name] * losses[name])`, and the losses, a dict of
        term name -> `()`.

    Raises:
        ValueError: for a wrong shape, or if targets or weights do not belong to the terms.
    """
    _check_names("targets", targets, terms)
    _check_names("weights", weights, terms)
    features = _features(network, params, image, layers_of(terms))
    per_term = {}
    for term in terms:
        statistics = term.statistics(features, targets[term.name], None)
        per_term[term.name] = term.loss(statistics, targets[term.name])
    weighted = [weights[name] * loss for name, loss in per_term.items()]
    return functools.reduce(operator.add, weighted), per_term
