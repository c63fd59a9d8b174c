"""Checks of pictures and masks: shape, dtype and range, with advice for common mistakes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.checks import Shape, check_shape, convert

PICTURE: Shape = ("H", "W", 3)

# How far outside [0, 1] pixels may be. Bicubic resizing and sharpening overshoot by some tenths,
# pixels that were optimized without bounds by up to about one. Pictures in 0..255, in [-1, 1] or
# standardized exceed this, unless they are nearly black.
_OVERSHOOT = {"init": 2.0, "content": 0.5, "style": 0.5, "mask": 1e-3}


def as_picture(value: Any, what: str, *, shape: Shape = PICTURE) -> jax.Array:
    """Returns `value` as a picture on a device, of floating-point pixels of any range.

    Raises:
        ValueError: for another shape or dtype.
    """
    array = convert(value, what, shape)
    _check_picture(array, what, shape)
    return array


def check_picture(value: Any, what: str, batch: tuple[str, ...] = ()) -> Any:
    """Returns `value` as a picture to optimize, or as a batch of these; on the host if it is there.

    Raises:
        ValueError: for another shape or dtype, or pixels that are clearly not in [0, 1].
    """
    array = to_array(value)
    _check_picture(array, what, (*batch, *PICTURE))
    if jnp.finfo(array.dtype).bits < 32:
        raise ValueError(
            f"{what} is {array.dtype}, too coarse for pixels that are optimized: use float32, and "
            f"VGG19(dtype=jnp.{array.dtype}) for the network"
        )
    check_range(array, what)
    return array


def check_mask(value: Any, what: str, dtype: Any) -> Any:
    """Returns `value` as a mask of `dtype`; on the host if it is there.

    Raises:
        ValueError: if it is neither floating point nor bool, or clearly not in [0, 1].
    """
    array = to_array(value)
    if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{what} must be floating point in [0, 1], or bool, not {array.dtype}")
    check_range(array, "mask")
    return array.astype(dtype)


def _check_picture(array: Any, what: str, shape: Shape) -> None:
    check_shape(array, what, shape, advice=_shape_advice(array.shape, len(shape) == 4))
    if not jnp.issubdtype(array.dtype, jnp.floating):
        advice = "; divide by 255" if array.dtype == np.uint8 else ""
        raise ValueError(f"{what} must be floating point in [0, 1], not {array.dtype}{advice}")


def _shape_advice(shape: tuple[int, ...], batched: bool) -> str:
    rank = 3 + batched
    if len(shape) == 3 and batched and shape[-1] == 3:
        return "one picture for all pairs must be repeated for each"
    if len(shape) == rank and shape[-3] in (1, 3, 4) and shape[-1] > 4:
        return "channels come last: use jnp.moveaxis(image, -3, -1)"
    if len(shape) == rank and shape[-1] == 4:
        return "it looks like RGBA: leave the alpha out, image[..., :3]"
    if len(shape) == 2 + batched or shape[-1:] == (1,):
        return "it looks grey: repeat it for the three channels"
    if len(shape) == 4:
        return "batch with jax.vmap or stylize_batch; several styles are a tuple"
    return "height, width, and the channels red, green and blue"


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


def to_array(value: Any) -> Any:
    """Returns an array of a dtype that JAX has; an array on the host stays there."""
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "__jax_array__"):
        return jnp.asarray(value)
    array = np.asarray(value)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
