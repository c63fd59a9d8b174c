"""Checks of pictures and masks: shape, dtype and range, with advice for common mistakes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.checks import Shape, check_shape

PICTURE: Shape = ("H", "W", 3)

# How far outside [0, 1] pixels may be. Bicubic resizing and sharpening overshoot by some tenths,
# pixels that were optimized without bounds by up to about one. Pictures in 0..255, in [-1, 1] or
# standardized exceed this, unless they are nearly black.
_OVERSHOOT = {"init": 2.0, "content": 0.5, "style": 0.5, "mask": 1e-3}


def as_picture(
    value: Any, what: str, *, shape: Shape = PICTURE, bounded: bool = False
) -> jax.Array:
    """Returns `value` as a picture on a device, of floating-point pixels.

    Args:
        value: the argument to check.
        what: its name, for the message.
        shape: the shape that it must have.
        bounded: whether pixels must be in [0, 1], as far as `check_range` can tell.

    Raises:
        ValueError: for another shape or dtype, or pixels that are clearly not in [0, 1].
    """
    array = to_array(value, what)
    _check_picture(array, what, shape, value)
    if bounded:
        check_range(array, what)
    return jnp.asarray(array)


def check_picture(value: Any, what: str, batch: tuple[str, ...] = ()) -> Any:
    """Returns `value` as a picture to optimize, or as a batch of these; on the host if it is there.

    Raises:
        ValueError: for another shape or dtype, or pixels that are clearly not in [0, 1].
    """
    array = to_array(value, what)
    _check_picture(array, what, (*batch, *PICTURE), value)
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
    array = to_array(value, what)
    if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{what} must be floating point in [0, 1], or bool, not {array.dtype}"
            f"{_dtype_advice(array)}"
        )
    check_range(array, "mask")
    return array.astype(dtype)


def _check_picture(array: Any, what: str, shape: Shape, value: Any) -> None:
    wrong = "" if jnp.issubdtype(array.dtype, jnp.floating) else _dtype_advice(array)
    if array.shape == () and not jnp.issubdtype(array.dtype, jnp.number):
        kind = type(value).__name__
        advice = "read a file with jaxstyle.io.load_image"
        if isinstance(value, Mapping):
            advice = (
                "it looks like network weights, the argument params: check the arguments' order"
            )
        raise ValueError(
            f"{what} must be an array ({', '.join(map(str, shape))}), not {kind}; {advice}"
        )
    if type(value).__module__.startswith("PIL."):
        wrong = "; of a PIL image take np.asarray(image.convert('RGB'), np.float32) / 255"
    check_shape(array, what, shape, advice=_shape_advice(array.shape, len(shape)) + wrong)
    if wrong:
        raise ValueError(f"{what} must be floating point in [0, 1], not {array.dtype}{wrong}")


def _shape_advice(shape: tuple[int, ...], rank: int) -> str:
    """Says what an array looks like that has not the shape of a picture, and how to convert it."""
    found = []
    if len(shape) == 4 and rank == 3:
        if shape[0] == 1:
            found.append("it looks like a batch of one: take image[0]")
        found.append("batch with jax.vmap or stylize_batch; several styles are a tuple")
        shape = shape[1:]
    elif len(shape) == 3 and rank == 4 and shape[-1] == 3:
        found.append("one picture for all pairs must be repeated for each")
    channels = {rank: shape[-1:], rank - 1: () if shape[-1:] == (3,) else (1,)}.get(len(shape), ())
    if len(shape) == rank and shape[-1] > 4 and shape[-3] <= 4:
        found.append("channels come last: use jnp.moveaxis(jnp.asarray(image), -3, -1)")
        channels = shape[-3:-2]
    if channels == (4,):
        found.append("it looks like RGBA: leave the alpha out, image[..., :3]")
    elif channels in ((1,), (2,)):
        found.append("it looks gray: repeat it for the three channels")
    return "; ".join(found or ["height, width, and the channels red, green and blue"])


def _dtype_advice(array: Any) -> str:
    """Says how to convert an array that is not of floating-point numbers."""
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        return "; take its real part"
    if array.dtype == bool:
        return "; convert it with .astype(np.float32)"
    if jnp.issubdtype(array.dtype, jnp.integer):
        return f"; divide by {65535 if array.dtype == np.uint16 else 255}"
    return "; give an array of numbers"


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
    elif low > -140 and high < 170:
        advice = "the mean color looks subtracted: undo that, since the network does it itself"
    raise ValueError(f"{what} must be in [0, 1], but has values from {low:g} to {high:g}: {advice}")


@jax.jit
def _extremes(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.min(array), jnp.max(array)


def to_array(value: Any, what: str = "the argument") -> Any:
    """Returns an array of a dtype that JAX has; an array on the host stays there.

    Raises:
        ValueError: for what NumPy cannot make an array of.
    """
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "__jax_array__"):
        return jnp.asarray(value)
    try:
        array = np.asarray(value)
        if array.dtype.kind == "f":  # JAX has no other byte order, nor more than 64 bits
            array = array.astype(f"f{min(array.itemsize, 8)}", copy=False)
        with np.errstate(all="ignore"):  # an overflow is found as infinity
            return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    except Exception as error:  # an array of another library may raise anything
        advice = str(error).partition("\n")[0]
        if type(value).__module__.startswith("torch"):
            advice = "use tensor.detach().cpu().numpy()"
        elif isinstance(value, list | tuple):
            advice = "a list needs arrays of one shape, or numbers"
        raise ValueError(f"{what} must be an array, not {type(value).__name__}: {advice}") from None
