"""Validated pictures: shape, dtype, range and size, with advice for common mistakes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstyle.recipes import Recipe
from jaxstyle.targets import Style
from jaxstyle.terms import Term
from jaxstyle.terms.protocol import layers_of

# How far outside [0, 1] pixels may be. Bicubic resizing and sharpening overshoot by some tenths,
# pixels that were optimized without bounds by up to about one. Pictures in 0..255, in [-1, 1] or
# standardized exceed this, unless they are nearly black.
_OVERSHOOT = {"init": 2.0, "content": 0.5, "style": 0.5, "mask": 1e-3}


def to_array(value: Any) -> Any:
    """Returns an array of a dtype that JAX has; an array on the host stays there."""
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "__jax_array__"):
        return jnp.asarray(value)
    array = np.asarray(value)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def to_numbers(values: Any, dtype: Any) -> Any:
    """Returns numbers as an array of `dtype`; an array on the host stays there.

    Raises:
        ValueError: if they are not numbers.
    """
    array = to_array(values)
    if not jnp.issubdtype(array.dtype, jnp.number) and array.dtype != bool:
        raise ValueError(f"numbers are needed, not {values!r}")
    return array.astype(dtype)


def check_image(image: ArrayLike, what: str, batched: bool) -> Any:
    """Returns a picture `(H, W, 3)`, or a batch of them, as an array.

    Raises:
        ValueError: for a wrong shape or dtype, or pixels that are clearly not in [0, 1].
    """
    array = to_array(image)
    shape = "(B, H, W, 3)" if batched else "(H, W, 3)"
    if array.ndim != 3 + batched or array.shape[-1] != 3:
        raise ValueError(f"{what} must be {shape}, not {array.shape}{_shape_hint(array, batched)}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        hint = "; divide by 255" if array.dtype == np.uint8 else ""
        raise ValueError(f"{what} must be floating point in [0, 1], not {array.dtype}{hint}")
    if jnp.finfo(array.dtype).bits < 32:
        raise ValueError(
            f"{what} is {array.dtype}, too coarse for pixels that are optimised: use float32, and "
            f"VGG19(dtype=jnp.{array.dtype}) for the network"
        )
    check_range(array, what)
    return array


def _shape_hint(array: Any, batched: bool) -> str:
    shape = array.shape[-3:]
    if array.ndim == 4 and not batched:
        return "; a batch is for stylize_batch, and several styles are a tuple"
    if array.ndim == 3 and batched and shape[-1] == 3:
        return "; one picture for all pairs must be repeated for each"
    if array.ndim == 3 + batched and shape[0] in (1, 3, 4) and shape[-1] > 4:
        return "; channels come last: use jnp.moveaxis(image, -3, -1)"
    if array.ndim == 3 + batched and shape[-1] == 4:
        return ", which looks like RGBA: leave the alpha out, image[..., :3]"
    if array.ndim == 2 + batched or shape[-1:] == (1,):
        return ", which looks like grey: repeat it for the three channels"
    return ""


def check_range(array: Any, what: str) -> None:
    """Checks that values are in [0, 1], give or take some overshoot; traced ones cannot be checked.

    Raises:
        ValueError: if they are not, with advice what to do.
    """
    if isinstance(array, jax.core.Tracer) or array.size == 0:
        return
    if isinstance(array, jax.Array):
        if not array.is_fully_addressable:
            return
        with jax.ensure_compile_time_eval():  # also inside of somebody's own jit
            low, high = jax.device_get(_extremes(array))
    else:
        low, high = np.min(array), np.max(array)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{what} has values that are not finite")
    slack = _OVERSHOOT[what]
    if -slack <= low and high <= 1 + slack:
        return
    advice = "bring them to [0, 1]"
    if low >= 0:
        advice = f"divide by {255 if high <= 255 else 65535 if high <= 65535 else f'{high:g}'}"
    elif low >= -1 and high <= 1:
        advice = "these look like [-1, 1]: take (x + 1) / 2"
    elif max(-low, high) < 5:
        advice = "these look standardised: undo that"
    raise ValueError(f"{what} must be in [0, 1], but has values from {low:g} to {high:g}: {advice}")


@jax.jit
def _extremes(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.min(array), jnp.max(array)


def check_styles(style: Style | None, recipe: Recipe, batched: bool) -> tuple[Any, ...]:
    """Returns the style pictures as arrays.

    Raises:
        ValueError: if one is not valid or too small, or none is given to a recipe that needs one.
    """
    styles = tuple(
        check_image(each, "style", batched)
        for each in (style if isinstance(style, tuple | list) else (style,))
        if each is not None
    )
    reading = [term for term in recipe.terms if term.target_image == "style"]
    if reading and not styles:
        raise ValueError(f"{reading[0].name} needs a style image, but there is none")
    for each in styles:
        check_size(each, "style", recipe, reading)
    return styles


def check_size(image: Any, what: str, recipe: Recipe, terms: Sequence[Term]) -> None:
    """Checks that `image` is large enough for the layers that `terms` read.

    Raises:
        ValueError: if it is not, with the smallest size.
    """
    layers = layers_of(terms)
    minimum, (height, width) = recipe.network.minimum_size(layers), image.shape[-3:-1]
    if min(height, width) < minimum:
        raise ValueError(
            f"{what} of {width}x{height} px is too small for {', '.join(layers)}: at least "
            f"{minimum}x{minimum} px"
        )
