"""The colors of a finished picture: those of the content, or also of the styles, by region."""

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle.color import luminance_only, recolor
from jaxstyle.guidance import normalize_shares
from jaxstyle.problem import Problem
from jaxstyle.recipe import Recipe
from jaxstyle.terms import Term
from jaxstyle.terms.protocol import layers_of


class Colors(NamedTuple):
    """What gives a picture its colors; in a batch all have a leading dimension."""

    content: jax.Array
    styles: tuple[jax.Array, ...] = ()
    """Empty: only the chroma of the content."""
    shares: Any = None
    """Of the styles: `(S,)`, or layer -> `(S,)`; None for equal ones."""
    masks: jax.Array | None = None
    """`(S, H, W)` or `(1, H, W)`, see `stylize`."""
    style_masks: tuple[jax.Array | None, ...] | None = None


def colors_of(
    recipe: Recipe,
    content: jax.Array,
    styles: tuple[jax.Array, ...],
    shares: Any,
    guides: tuple[Any, Any],
) -> Colors | None:
    """Returns what gives a result its colors, or None if they are as painted."""
    if recipe.color == "luminance":
        return Colors(content)
    return Colors(content, styles, shares, *guides) if recipe.color == "recolor" else None


def with_colors(problem: Problem, image: jax.Array, colors: Colors) -> jax.Array:
    """Gives a picture `(H, W, 3)` its colors.

    Each region has the colors of its own styles. A pixel that no style is for keeps its color.
    """
    content, styles, shares, masks, style_masks = colors
    if not styles:
        return luminance_only(image, content)
    weights = style_masks or (None,) * len(styles)
    give = functools.partial(recolor, image, content, wraps=problem.network.wraps)
    if masks is not None and len(masks) == len(styles):
        found = [
            give(style, style_weight=weight, content_weight=mask)
            for style, weight, mask in zip(styles, weights, masks, strict=True)
        ]
    else:
        mixture, weight = _mixture(problem.terms, styles, shares, weights)
        region = None if masks is None else masks[0]
        found = [give(mixture, style_weight=weight, content_weight=region)]
    if masks is None:
        return found[0]
    image = jnp.clip(image, 0, 1)
    parts = masks / jnp.maximum(jnp.sum(masks, 0), 1)
    changes = [part[..., None] * (each - image) for part, each in zip(parts, found, strict=True)]
    return functools.reduce(operator.add, changes, image)


def _mixture(
    terms: Sequence[Term], styles: Sequence[jax.Array], shares: Any, weights: Sequence[Any]
) -> tuple[jax.Array, jax.Array | None]:
    """Returns the pixels `(1, N, 3)` of all styles, wherever they are, and their weight `(1, N)`.

    The weights of a style's pixels sum to its share, or to its mean share of all layers.
    """
    pixels = jnp.concatenate([each.reshape(1, -1, 3) for each in styles], axis=1)
    if len(styles) == 1:
        return pixels, None if weights[0] is None else weights[0].reshape(1, -1)
    layers = layers_of([term for term in terms if term.target_image == "style"]) or ("image",)
    by_layer = normalize_shares(shares, layers, len(styles), pixels.dtype)
    mean = functools.reduce(operator.add, by_layer.values()) / len(by_layer)

    def of_style(style: jax.Array, weight: Any, share: jax.Array) -> jax.Array:
        own = jnp.ones(style.shape[:2], style.dtype) if weight is None else weight
        return (own * (share / jnp.maximum(jnp.sum(own), 1e-6))).reshape(1, -1)

    each = [of_style(*of) for of in zip(styles, weights, mean, strict=True)]
    return pixels, jnp.concatenate(each, axis=1)
