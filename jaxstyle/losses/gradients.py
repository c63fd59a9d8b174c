"""Gradients that are normalized."""

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_array, as_factor, sum_dtype


def normalize_gradient(x: jax.Array, strength: jax.Array) -> jax.Array:
    """Returns `x`, and normalizes its gradient.

    In reverse mode a gradient `strength * g` becomes `strength * g / (|g|_1 + 1e-8)`. This is
    `normalize_gradients` of jcjohnson/neural-style, where the gradient of each loss by its layer's
    features has an L1 norm equal to the loss's weight. The norm is computed in float32 or better.
    A gradient in float16 must itself stay below 65504, so convert `x` to float32 before.

    Args:
        x: any shape.
        strength: `()`, the weight that the gradient has been multiplied by.

    Returns:
        `x`, of any shape.

    Raises:
        ValueError: for a strength that is not a number, or a wrong dtype.
    """
    x = as_array(x, "x", None)
    return _normalize_gradient(x, as_factor(strength, "strength", (), sum_dtype(x)))


@jax.custom_vjp
def _normalize_gradient(x: jax.Array, strength: jax.Array) -> jax.Array:
    del strength
    return x


def _normalize_forward(x: jax.Array, strength: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, strength


def _normalize_backward(strength: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    gradient = grad.astype(strength.dtype)
    norm = jnp.sum(jnp.abs(gradient)) + 1e-8 * jnp.abs(strength)
    scale = jnp.abs(strength) / jnp.where(norm > 0, norm, 1)  # the gradient has its sign
    return (gradient * scale).astype(grad.dtype), jnp.zeros_like(strength)


_normalize_gradient.defvjp(_normalize_forward, _normalize_backward)
