"""XLA's 3x3 convolution of a picture whose rows or columns are split over several devices.

With a border of zeros, XLA's partitioner keeps parts of equal size, because such a border is not
stored. Any other border would be stored and make the parts unequal. So the convolution has a
border of zeros here, and what the border really adds to the outermost outputs is computed apart.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle.network import xla
from jaxstyle.network.padding import Padding, mirrors, pad_width


def convolve(
    x: jax.Array, kernel: jax.Array, padding: Padding, transpose: bool, precision: Any
) -> jax.Array:
    """Computes what `xla.convolve` does, without an array that is whole on each device."""
    inside = xla.convolve(x, kernel, "zero", transpose, precision)
    if padding == "zero":
        return inside

    def outside(x: jax.Array) -> jax.Array:
        return _of_border(x, kernel, padding, precision)

    if not transpose:
        return inside + outside(x)
    shape = jax.ShapeDtypeStruct((*x.shape[:-1], kernel.shape[2]), x.dtype)
    (x_bar,) = jax.linear_transpose(outside, shape)(x)
    return inside + x_bar


def _of_border(x: jax.Array, kernel: jax.Array, padding: Padding, precision: Any) -> jax.Array:
    """What a border that is not zero adds to the outputs."""

    def convolve_line(
        line: jax.Array, kernel: jax.Array, border: Sequence[tuple[int, int]]
    ) -> jax.Array:
        labels = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            line, kernel, (1, 1), border, dimension_numbers=labels, precision=precision
        )

    y: Any = 0
    for axis in (1, 2):
        length = x.shape[axis]
        position = jnp.arange(length).reshape(1, *[1] * (axis - 1), -1, *[1] * (3 - axis))
        for source, borders in mirrors(padding, length).items():
            # A sum over a mask instead of a slice, whose transpose is whole on each device.
            line = jnp.sum(jnp.where(position == source, x, 0), axis, keepdims=True)
            # The corners of the border belong to its rows.
            line = pad_width(line, padding) if axis == 1 else line
            along = [(0, 0), (0, 0)] if axis == 1 else [(1, 1), (0, 0)]
            for border in borders:
                side = (0, 1) if border == 0 else (2, 3)
                of_side = jax.lax.slice_in_dim(kernel, *side, axis=axis - 1)
                at = position == min(border, length - 1)
                y += jnp.where(at, convolve_line(line, of_side, along), 0)
    return y
