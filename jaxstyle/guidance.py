"""Validated controls of a run: loss weights, style shares and masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstyle.evaluation import Weights
from jaxstyle.pictures import check_range, to_numbers
from jaxstyle.recipes import Recipe
from jaxstyle.targets import StyleWeights
from jaxstyle.terms.protocol import layers_of


def merge_weights(
    recipe: Recipe, weights: Weights | None, content: Any, batched: bool
) -> dict[str, Any]:
    """Returns the recipe's loss weights, overridden by `weights`, as arrays.

    Raises:
        ValueError: for other names, other shapes than `()` or `(B,)`, or no numbers.
    """
    weights = {} if weights is None else weights
    if not isinstance(weights, Mapping):
        raise ValueError(f"weights must be a dict of term name -> factor, not {weights!r}")
    if unknown := set(weights) - set(recipe.weights):
        raise ValueError(
            f"weights for {', '.join(map(str, unknown))}, but the terms of recipe {recipe.name} "
            f"are {', '.join(sorted(recipe.weights))}"
        )
    # Arrays of the pixels' dtype, so that other numbers do not compile again.
    factors = {
        name: to_numbers(weights.get(name, factor), content.dtype)
        for name, factor in recipe.weights.items()
    }
    shapes = [(), content.shape[:1]] if batched else [()]
    for name, factor in factors.items():
        if factor.shape not in shapes:
            raise ValueError(
                f"the weight of {name} has shape {factor.shape} instead of "
                f"{' or '.join(map(str, shapes))}"
            )
    if not batched:
        return factors
    return {name: _broadcast(factor, (len(content),)) for name, factor in factors.items()}


def check_style_weights(
    style_weights: StyleWeights | None,
    recipe: Recipe,
    styles: Sequence[Any],
    masked: bool,
    batched: bool,
) -> Any:
    """Returns the styles' shares, `(S,)` or in a batch `(B, S)`; by layer, a dict of these.

    Raises:
        ValueError: for another shape, other layers, or a sum that is not positive.
    """
    if style_weights is None:
        return None
    if not styles:
        raise ValueError("style_weights, but there is no style")
    if isinstance(style_weights, Mapping):
        layers = layers_of([term for term in recipe.terms if term.target_image == "style"])
        if unknown := set(style_weights) - set(layers):
            raise ValueError(
                f"style_weights for {', '.join(map(str, unknown))}, but the style's layers are "
                f"{', '.join(layers)}"
            )
        if masked:
            raise ValueError("style_weights by layer mix styles, which masks keep apart")
        return {
            layer: check_style_weights(shares, recipe, styles, masked, batched)
            for layer, shares in style_weights.items()
        }
    shares = to_numbers(style_weights, styles[0].dtype)
    valid = [(len(styles),)] + [(len(styles[0]), len(styles))] * batched
    if shares.shape not in valid:
        raise ValueError(
            f"style_weights of shape {shares.shape} for {len(styles)} styles instead of "
            f"{' or '.join(map(str, valid))}"
        )
    # In NumPy, which works inside of somebody's own jit too.
    if not isinstance(shares, jax.core.Tracer) and not np.all(np.sum(np.asarray(shares), -1) > 0):
        raise ValueError("style_weights must have a positive sum")
    return _broadcast(shares, valid[-1])


def check_masks(
    masks: ArrayLike | None,
    style_masks: Sequence[ArrayLike | None] | None,
    content: Any,
    styles: Sequence[Any],
    batched: bool,
) -> tuple[Any, tuple[Any, ...] | None]:
    """Returns the masks `([B,] S, H, W)`, and those of the styles, `([B,] h, w)` or None.

    Raises:
        ValueError: for another shape, or values outside [0, 1].
    """

    def checked(mask: ArrayLike) -> Any:
        array = to_numbers(mask, content.dtype)
        check_range(array, "mask")
        return array

    found = None
    if masks is not None:
        found = checked(masks)
        shape = (len(styles), *content.shape[-3:-1])
        valid = [shape] + [(len(content), *shape)] * batched
        if found.shape not in valid:
            raise ValueError(
                f"masks of shape {found.shape} instead of (S, H, W) = {shape}"
                + f" or (B, S, H, W) = {valid[-1]}" * batched
            )
        found = _broadcast(found, valid[-1])
    if style_masks is None:
        return found, None
    if not isinstance(style_masks, tuple | list) or len(style_masks) != len(styles):
        raise ValueError(f"style_masks must be a list of {len(styles)}, one for each style")
    of_styles = tuple(None if mask is None else checked(mask) for mask in style_masks)
    for mask, image in zip(of_styles, styles, strict=True):
        if mask is not None and mask.shape != image.shape[:-1]:
            raise ValueError(f"a style mask of shape {mask.shape} for a style of {image.shape}")
    return found, of_styles


def _broadcast(array: Any, shape: tuple[int, ...]) -> Any:
    return (jnp if isinstance(array, jax.Array) else np).broadcast_to(array, shape)
