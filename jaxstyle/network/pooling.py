"""Pooling of disjoint 2x2 windows."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

Pooling = Literal["max", "average", "l2"]


def pool(x: jax.Array, pooling: Pooling) -> jax.Array:
    """Pools disjoint 2x2 windows: `(h, w, c)` -> `(h // 2, w // 2, c)`.

    Elementwise operations, also backward: on CPUs, the backward pass of XLA's `reduce_window` costs
    about as much as a convolution, and this one costs nothing.
    """
    x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    if pooling == "max":
        return _max(x)
    if pooling == "average":
        return _sum(x) / 4
    # The root of the mean square. Its derivative at an all-zero window is set to zero.
    square = _sum(x * x) / 4
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def _corners(x: jax.Array) -> tuple[jax.Array, ...]:
    """The upper left, upper right, lower left and lower right number of each window."""
    return x[::2, ::2], x[::2, 1::2], x[1::2, ::2], x[1::2, 1::2]


def _windows(x: jax.Array) -> jax.Array:
    """`(2 h, 2 w, c)` -> `(h, 2, w, 2, c)`."""
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, x.shape[2])


# The derivatives are sums over windows, since the transpose of such a sum is a broadcast. That of
# a slice is a copy between zeros, and those of all slices would have to be added.


@jax.custom_jvp
def _max(x: jax.Array) -> jax.Array:
    """The largest number of each window.

    Its derivative keeps which one that is. Of equal ones the upper counts, then the left.
    """
    upper_left, upper_right, lower_left, lower_right = _corners(x)
    left, right = jnp.maximum(upper_left, lower_left), jnp.maximum(upper_right, lower_right)
    return jnp.maximum(left, right)


@_max.defjvp
def _max_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    upper_left, upper_right, lower_left, lower_right = _corners(x)
    left, right = jnp.maximum(upper_left, lower_left), jnp.maximum(upper_right, lower_right)
    is_right = left < right
    is_lower = jnp.where(is_right, upper_right < lower_right, upper_left < lower_left)
    index = 2 * is_lower.astype(jnp.int8) + is_right.astype(jnp.int8)
    places = jnp.arange(4, dtype=jnp.int8).reshape(1, 2, 1, 2, 1)
    chosen = index[:, None, :, None] == places
    return _max(x), jnp.sum(jnp.where(chosen, _windows(x_dot), 0), (1, 3))


@jax.custom_jvp
def _sum(x: jax.Array) -> jax.Array:
    """The sum of each window."""
    upper_left, upper_right, lower_left, lower_right = _corners(x)
    return (upper_left + lower_left) + (upper_right + lower_right)


@_sum.defjvp
def _sum_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    return _sum(x), jnp.sum(_windows(x_dot), (1, 3))
