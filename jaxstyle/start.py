"""The picture that a run starts from: the content, noise, the mean color, or a given one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstyle.pictures import check_picture
from jaxstyle.problem import Problem
from jaxstyle.sharding import run_on_mesh


def check_init(
    init: ArrayLike | str, content: Any, key: Any, batched: bool
) -> tuple[Any, Any, Any]:
    """Validates the start and its random key.

    Returns:
        A given picture; or the data of random keys, with `init` and the keys' implementation for
        `make_noise`. All are None for a start from the content.

    Raises:
        ValueError: for another start, a picture of another shape, or a key that is missing.
    """
    if not isinstance(init, str):
        image = check_picture(init, "init", ("B",) * batched)
        if image.shape != content.shape:
            raise ValueError(f"init has shape {image.shape}, content {content.shape}")
        return image.astype(content.dtype), None, None
    if init == "content":
        return None, None, None
    if init not in ("noise", "mean"):
        raise ValueError(f"init {init!r} is not content, noise, mean or an image")
    if key is None:
        raise ValueError(f"a start from {init} needs key=jax.random.key(seed)")
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        kind = jax.random.key_impl(key)
        data, shape = jax.random.key_data(key), key.shape
    elif dtype == np.uint32 and key.ndim > 0:  # a jax.random.PRNGKey
        kind, data, shape = None, key, key.shape[:-1]
    else:
        raise ValueError(f"key must be a jax.random.key(seed), not {key!r}")
    valid = [(), content.shape[:1]] if batched else [()]
    if shape not in valid:
        raise ValueError(f"key has shape {shape} instead of {' or '.join(map(str, valid))}")
    if batched and shape == ():
        data = _split_key(data, kind, len(content))
    return None, data, (init, kind)


def _wrap_key(data: jax.Array, kind: str | None) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=kind)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _split_key(data: jax.Array, kind: str | None, number: int) -> jax.Array:
    return jax.random.key_data(jax.random.split(_wrap_key(data, kind), number))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def make_noise(
    problem: Problem, kind: tuple[str, str | None], batched: bool, content: jax.Array, keys: Any
) -> jax.Array:
    """Makes random pictures to start from, each on the devices of its pair."""
    init, implementation = kind

    def noise(content: jax.Array, data: jax.Array) -> jax.Array:
        key, (shape, dtype) = _wrap_key(data, implementation), (content.shape, content.dtype)
        if init == "noise":
            return jax.random.uniform(key, shape, dtype)
        mean, white = problem.network.mean_color(dtype=dtype), problem.network.white
        return mean[None, None] + 0.001 / white * jax.random.normal(key, shape, dtype)

    each = jax.vmap(noise) if batched else noise
    made: jax.Array = run_on_mesh(problem.mesh, each, (batched, batched))(content, keys)
    return made
