"""Checks of arguments. A wrong one raises a `ValueError` when a function is called or traced."""

import math
import numbers
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[str | int, ...]
"""For each axis its name, or the size that it must have."""


def sum_dtype(*arrays: jax.Array) -> jnp.dtype:
    """Returns the dtype in which `arrays` are summed: the widest of them, at least float32."""
    dtypes = [jnp.dtype(jnp.float32), *(array.dtype for array in arrays)]
    # `jnp.promote_types` raises for unequal dtypes under strict promotion.
    return max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)


def as_array(
    value: Any, what: str, shape: Shape | None, *, advice: str = "batch with jax.vmap"
) -> jax.Array:
    """Returns `value` as an array of real floating-point numbers.

    Args:
        value: the argument to check.
        what: its name, for the message.
        shape: the shape that it must have; None for any shape.
        advice: the end of the message.

    Raises:
        ValueError: for another shape, an empty array, or another dtype.
    """
    array = convert(value, what, shape)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{what} must be floating point, not {array.dtype}; convert with .astype(jnp.float32)"
        )
    check_shape(array, what, shape, advice=advice)
    return array


def check_shape(array: Any, what: str, shape: Shape | None, *, advice: str) -> None:
    """Checks the shape of an array, on a device or on the host.

    Raises:
        ValueError: for another shape, with `advice` at its end, or an empty array.
    """
    if shape is not None and (len(array.shape) != len(shape) or not _fits(array.shape, shape)):
        raise ValueError(f"{what} must be {_text(shape)}, not of shape {array.shape}; {advice}")
    if 0 in array.shape:
        raise ValueError(f"{what} of shape {array.shape} is empty")


def as_factor(value: Any, what: str, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Returns `value` as an array of `dtype` and `shape` that other arrays are multiplied by.

    Args:
        value: real numbers of any dtype, or bool.
        what: its name, for the message.
        shape: the shape that it must have.
        dtype: dtype of the result. So a factor never changes the dtype of a loss.

    Raises:
        ValueError: for another shape, or numbers that are not real.
    """
    array = convert(float(value) if isinstance(value, int) else value, what, shape)
    if not jnp.issubdtype(array.dtype, jnp.bool_) and not (
        jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    ):
        raise ValueError(f"{what} must be real numbers, not {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{what} must have shape {shape}, not {array.shape}; batch with jax.vmap")
    return array.astype(dtype)


def as_number(value: Any, what: str) -> float:
    """Returns a static setting as a float.

    Args:
        value: the argument to check.
        what: its name, for the message.

    Raises:
        ValueError: if it is not a finite number. Arrays are refused too: they cannot be hashed.
    """
    if isinstance(value, jax.Array | np.ndarray):
        raise ValueError(f"{what} must be a number, not an array: settings are static and hashable")
    try:
        number = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, not {value!r:.50}")
    return number


def as_integer(value: Any, what: str) -> int:
    """Returns a static setting as an int.

    Args:
        value: the argument to check.
        what: its name, for the message.

    Raises:
        ValueError: if it is not a whole number.
    """
    if isinstance(value, bool | jax.Array | np.ndarray) or not hasattr(value, "__index__"):
        raise ValueError(f"{what} must be a whole number, not {value!r}")
    return operator.index(value)


def convert(value: Any, what: str, shape: Shape | None) -> jax.Array:
    """Returns `value`, which should have `shape`, as an array on a device.

    Raises:
        ValueError: if it is not an array.
    """
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        kind = "an array" if shape is None else _text(shape)
        raise ValueError(f"{what} must be {kind}, not {type(value).__name__}") from None


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    return all(isinstance(n, str) or n == size for size, n in zip(found, shape, strict=True))


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
