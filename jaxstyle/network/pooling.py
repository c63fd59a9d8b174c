"""Pooling of disjoint 2x2 windows."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

Pooling = Literal["max", "average", "l2"]


def pool(x: jax.Array, pooling: Pooling) -> jax.Array:
    """Pools disjoint 2x2 windows: `(h, w, c)` -> `(h // 2, w // 2, c)`.

    Elementwise operations on a reshaped array, also backward: on CPUs, the backward pass of XLA's
    `reduce_window` costs about as much as a convolution, and this one costs nothing.
    """
    height, width, channels = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
    x = x[: 2 * height, : 2 * width].reshape(height, 2, width, 2, channels)
    if pooling == "max":
        return _max(x)
    if pooling == "average":
        return _sum(x) / 4
    # The root of the mean square. Its derivative at an all-zero window is set to zero.
    square = (x * x).mean((1, 3))
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


# The derivatives are sums over windows, since the transpose of such a sum is a broadcast. That of
# a slice is a copy between zeros, and those of all slices would have to be added.


@jax.custom_jvp
def _max(x: jax.Array) -> jax.Array:
    """The largest number of each window, `(h, 2, w, 2, c)` -> `(h, w, c)`.

    Its derivative keeps which one that is. Of equal ones the upper counts, then the left.
    """
    x = jnp.maximum(x[:, 0], x[:, 1])
    return jnp.maximum(x[:, :, 0], x[:, :, 1])


@_max.defjvp
def _max_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    lower = x[:, 0] < x[:, 1]
    column = jnp.maximum(x[:, 0], x[:, 1])
    right = column[:, :, 0] < column[:, :, 1]
    row = jnp.where(right, lower[:, :, 1], lower[:, :, 0])
    index = (2 * row.astype(jnp.int8) + right.astype(jnp.int8))[:, None, :, None]
    places = jnp.arange(4, dtype=jnp.int8).reshape(1, 2, 1, 2, 1)
    return _max(x), jnp.sum(jnp.where(index == places, x_dot, 0), (1, 3))


@jax.custom_jvp
def _sum(x: jax.Array) -> jax.Array:
    """The sum of each window, `(h, 2, w, 2, c)` -> `(h, w, c)`."""
    x = x[:, 0] + x[:, 1]
    return x[:, :, 0] + x[:, :, 1]


@_sum.defjvp
def _sum_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    return _sum(x), jnp.sum(x_dot, (1, 3))
