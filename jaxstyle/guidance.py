"""Checks of what guides a run besides its pictures: loss weights, style shares and masks.

`batch` is `()` for a single pair and `(B,)` for a batch. Arrays on the host stay there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstyle.pictures import check_mask, to_array
from jaxstyle.terms import MatchedStyle, Term

Weights = Mapping[str, Any]

StyleWeights = ArrayLike | Sequence[float] | Mapping[str, ArrayLike | Sequence[float]]


def merge_weights(
    defaults: Weights, weights: Weights | None, dtype: Any, batch: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Returns the loss weights `defaults`, overridden by `weights`, as arrays of shape `batch`.

    Raises:
        ValueError: for other names, other shapes than `()` or `batch`, or no numbers.
    """
    weights = {} if weights is None else weights
    if not isinstance(weights, Mapping):
        raise ValueError(f"weights must be a dict of term name -> factor, not {weights!r}")
    if unknown := set(weights) - set(defaults):
        raise ValueError(
            f"weights for {', '.join(map(str, unknown))}, but the terms are "
            f"{', '.join(sorted(defaults))}"
        )
    # Arrays, so that other numbers do not compile again.
    factors = {
        name: _to_numbers(weights.get(name, default), dtype) for name, default in defaults.items()
    }
    for name, factor in factors.items():
        if factor.shape not in ((), batch):
            raise ValueError(
                f"the weight of {name} has shape {factor.shape} instead of {_either(((), batch))}"
            )
    return {name: _broadcast(factor, batch) for name, factor in factors.items()}


def check_shares(
    style_weights: StyleWeights | None,
    layers: Sequence[str],
    number: int,
    dtype: Any,
    *,
    masked: bool,
    batch: tuple[int, ...] = (),
) -> Any:
    """Returns the shares of `number` styles, `(*batch, S)`; by layer, a dict of these.

    Raises:
        ValueError: for other layers than `layers`, another shape, or numbers that cannot be shares.
    """
    if style_weights is None:
        return None
    if number == 0:
        raise ValueError("style_weights, but there is no style")
    if not isinstance(style_weights, Mapping):
        shares = _to_numbers(style_weights, dtype)
        valid = ((number,), (*batch, number))
        if shares.shape not in valid:
            raise ValueError(
                f"style_weights of shape {shares.shape} for {number} styles instead of "
                f"{_either(valid)}"
            )
        if not isinstance(shares, jax.core.Tracer):
            _check_shares(jax.device_get(shares))
        return _broadcast(shares, valid[-1])
    if unknown := set(style_weights) - set(layers):
        raise ValueError(
            f"style_weights for {', '.join(map(str, unknown))}, but the style's layers are "
            f"{', '.join(layers)}"
        )
    if masked:
        raise ValueError("style_weights by layer mix styles, which masks keep apart")
    return {
        layer: check_shares(shares, layers, number, dtype, masked=masked, batch=batch)
        for layer, shares in style_weights.items()
    }


def check_layer_shares(terms: Sequence[Term], style_weights: StyleWeights | None) -> None:
    """Checks that no term compares several layers with one style, where shares are by layer.

    Raises:
        ValueError: if one does.
    """
    if not isinstance(style_weights, Mapping):
        return
    for term in terms:
        if isinstance(term, MatchedStyle) and set(style_weights) & set(term.layers):
            raise ValueError(
                f"style shares by layer, but {term.name} compares all layers of a position with "
                "one style: give one share for each style"
            )


def _check_shares(shares: np.ndarray) -> None:
    negative, none = np.any(shares < 0), not np.all(np.any(shares > 0, -1))
    if not np.all(np.isfinite(shares)) or negative or none:
        raise ValueError(
            "style_weights must be finite, none negative, and one of them positive, so that they "
            f"have a positive sum, not {shares}"
        )


def normalize_shares(
    shares: Any, layers: Sequence[str], number: int, dtype: Any
) -> dict[str, jax.Array]:
    """Returns layer -> `(S,)`, which sum to 1; equal where `shares` has none."""
    equal = jnp.full((number,), 1 / number, dtype)
    if shares is None:
        return dict.fromkeys(layers, equal)
    if not isinstance(shares, Mapping):
        return dict.fromkeys(layers, jnp.asarray(shares / jnp.sum(shares)))
    return {
        layer: jnp.asarray(shares[layer] / jnp.sum(shares[layer])) if layer in shares else equal
        for layer in layers
    }


def check_masks(
    masks: ArrayLike | None,
    number: int,
    size: tuple[int, ...] | None,
    dtype: Any,
    *,
    batch: tuple[int, ...] = (),
) -> Any:
    """Returns masks of `number` styles, `(*batch, S, H, W)`, of a picture of a `size`, if known.

    One mask for several styles, `(*batch, 1, H, W)`, is the region of their mixture.

    Raises:
        ValueError: for another shape, another dtype, or values that are not in [0, 1].
    """
    if masks is None:
        return None
    found = check_mask(masks, "masks", dtype)
    regions = 1 if found.shape[-3:-2] == (1,) else number
    shape = (regions, *(found.shape[-2:] if size is None else size))
    valid = (shape, (*batch, *shape))
    if len(shape) != 3 or found.shape not in valid:
        wanted = " or ".join(dict.fromkeys(f"{'(B, ' if b else '('}S, H, W)" for b in ((), batch)))
        raise ValueError(
            f"masks of shape {found.shape} instead of {wanted}, for {number} styles"
            + f" and a picture of {size}" * (size is not None)
            + "; of a mask that was read as a picture take one channel, mask[..., 0]"
            * (found.shape[-1:] == (3,))
        )
    return _broadcast(found, valid[-1])


def check_style_masks(
    style_masks: Sequence[ArrayLike | None] | None, styles: Sequence[Any], dtype: Any
) -> tuple[Any, ...] | None:
    """Returns a mask for each of `styles`, or None for a style that counts everywhere.

    Raises:
        ValueError: for another number or shape, another dtype, or values that are not in [0, 1].
    """
    if style_masks is None:
        return None
    if not isinstance(style_masks, tuple | list) or len(style_masks) != len(styles):
        raise ValueError(f"style_masks must be a list of {len(styles)}, one for each style")
    found = tuple(
        None if mask is None else check_mask(mask, "a style mask", dtype) for mask in style_masks
    )
    for mask, image in zip(found, styles, strict=True):
        if mask is not None and mask.shape != image.shape[:-1]:
            raise ValueError(
                f"a style mask of shape {mask.shape} for a style of {image.shape}"
                + "; take one channel, mask[..., 0]" * (mask.shape == image.shape)
            )
    return found


def _to_numbers(values: Any, dtype: Any) -> Any:
    array = to_array(values)
    if not jnp.issubdtype(array.dtype, jnp.number) and array.dtype != bool:
        raise ValueError(f"numbers are needed, not {values!r}")
    return array.astype(dtype)


def _either(shapes: Sequence[tuple[int, ...]]) -> str:
    return " or ".join(map(str, dict.fromkeys(shapes)))


def _broadcast(array: Any, shape: tuple[int, ...]) -> Any:
    return (jnp if isinstance(array, jax.Array) else np).broadcast_to(array, shape)
