"""Pooling of disjoint 2x2 windows."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

Pooling = Literal["max", "average", "l2"]


def pool(x: jax.Array, pooling: Pooling) -> jax.Array:
    """Pools disjoint 2x2 windows: `(h, w, c)` -> `(h // 2, w // 2, c)`.

    Elementwise operations on a reshaped array: on CPUs, the backward pass of XLA's `reduce_window`
    costs about as much as a convolution, and this one costs nothing.
    """
    height, width, channels = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
    x = x[: 2 * height, : 2 * width].reshape(height, 2, width, 2, channels)
    if pooling == "max":
        x = _larger(x[:, 0], x[:, 1])
        return _larger(x[:, :, 0], x[:, :, 1])
    if pooling == "average":
        x = x[:, 0] + x[:, 1]
        return (x[:, :, 0] + x[:, :, 1]) / 4
    # The root of the mean square. Its derivative at an all-zero window is set to zero.
    square = (x * x).mean((1, 3))
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


@jax.custom_jvp
def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    """`jnp.maximum`, whose derivative keeps one bit for each pair instead of both numbers.

    Of two equal ones the first counts. ReLU's zeros, which often are, have no derivative anyway.
    """
    return jnp.maximum(a, b)


@_larger.defjvp
def _derivative(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (a, b), (a_dot, b_dot) = primals, tangents
    return _larger(a, b), jnp.where(a >= b, a_dot, b_dot)
