"""XLA's own 3x3 convolution of a whole picture, and its transpose."""

from typing import Any

import jax

from jaxstyle.network.padding import Padding, fold, pad


def convolve(
    x: jax.Array, kernel: jax.Array, padding: Padding, transpose: bool, precision: Any
) -> jax.Array:
    """Correlates `(n, h, w, c)` with a kernel `(3, 3, c, d)` and a border one wide.

    With `transpose`, it is the transpose of that, from `(n, h, w, d)` to `(n, h, w, c)`.
    """
    if transpose:
        # Swapped here: XLA:CPU has no fast kernel for swapped dimension numbers inside a loop.
        kernel = jax.lax.rev(kernel, (0, 1)).swapaxes(2, 3)
    border = 1
    if padding != "zero":
        x = x if transpose else pad(x, 1, (1, 1), padding)
        border = 2 if transpose else 0
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [(border, border)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )
    return fold(y, padding) if border == 2 else y
