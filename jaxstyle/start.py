"""The picture that a run starts from: the content, noise, the mean color, or a given one.

In a smooth area of a photo all pixels are alike, and a style's gradient changes all of them alike.
Strokes then grow from the borders and from the steps between 8-bit values, along the rows and
columns of pixels: a fine hatching. Grain, white noise as strong as the painting's own, gives them
something without a direction to grow from.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstyle.laplacian import unfold
from jaxstyle.pictures import check_picture
from jaxstyle.problem import Problem
from jaxstyle.sampling import key_data
from jaxstyle.sharding import run_on_mesh


class Noise(NamedTuple):
    """What kind of random picture a run starts from; static."""

    init: str
    grain: float
    implementation: Any
    """Of the random keys."""


def check_init(
    init: ArrayLike | str, content: Any, key: Any, batched: bool, grain: float
) -> tuple[Any, Any, Noise | None]:
    """Validates the start and its random key.

    Returns:
        A given picture; or the data of random keys and the kind of noise for `make_noise`. All are
        None for the content as it is.

    Raises:
        ValueError: for another start, a picture of another shape, or a key that is missing.
    """
    if not isinstance(init, str):
        image = check_picture(init, "init", ("B",) * batched)
        if image.shape != content.shape:
            raise ValueError(f"init has shape {image.shape}, content {content.shape}")
        return image.astype(content.dtype), None, None
    if init not in ("content", "noise", "mean", "detail"):
        raise ValueError(f"init {init!r} is not content, detail, noise, mean or an image")
    if init == "detail" or (init == "content" and grain == 0):
        return None, None, None  # see `make_detail`
    if init != "content" and key is None:
        raise ValueError(f"a start from {init} needs key=jax.random.key(seed)")
    data, kind = check_key(key, len(content) if batched else None)
    return None, data, Noise(init, grain, kind)


def check_key(key: Any, number: int | None) -> tuple[Any, Any]:
    """Validates a random key, or in a batch one for each of `number` pairs.

    None means the key of seed 0, for every pair.

    Returns:
        The data of the keys, and their implementation.

    Raises:
        ValueError: for what is no key, or for keys of another number.
    """
    if key is None:
        return np.zeros((2,) if number is None else (number, 2), np.uint32), "threefry2x32"
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        kind = jax.random.key_impl(key)
        data, shape = jax.random.key_data(key), key.shape
    elif dtype == np.uint32 and key.ndim > 0:  # a jax.random.PRNGKey
        kind, data, shape = None, key, key.shape[:-1]
    else:
        raise ValueError(f"key must be a jax.random.key(seed), not {key!r}")
    valid = [()] if number is None else [(), (number,)]
    if shape not in valid:
        raise ValueError(f"key has shape {shape} instead of {' or '.join(map(str, valid))}")
    if number is not None and shape == ():
        data = _split_key(data, kind, number)
    return data, kind


@functools.partial(jax.jit, static_argnums=(0, 1))
def make_draw_keys(kind: str | None, batched: bool, keys: jax.Array) -> jax.Array:
    """Makes the keys of the positions that terms draw, `(2,)` uint32 for each pair."""

    def make(data: jax.Array) -> jax.Array:
        return key_data(jax.random.fold_in(_wrap_key(data, kind), 1))

    return (jax.vmap(make) if batched else make)(keys)


def _wrap_key(data: jax.Array, kind: str | None) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=kind)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _split_key(data: jax.Array, kind: str | None, number: int) -> jax.Array:
    return jax.random.key_data(jax.random.split(_wrap_key(data, kind), number))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def make_noise(
    problem: Problem,
    kind: Noise,
    batched: bool,
    content: jax.Array,
    keys: Any,
    styles: tuple[jax.Array, ...],
    masks: jax.Array | None,
) -> jax.Array:
    """Makes random pictures to start from, each on the devices of its pair.

    `masks`, `(S, H, W)`, say where there is a style, and so grain.
    """

    def noise(content: jax.Array, data: jax.Array, styles: Any, masks: Any) -> jax.Array:
        key, (shape, dtype) = _wrap_key(data, kind.implementation), (content.shape, content.dtype)
        if kind.init == "noise":
            return jax.random.uniform(key, shape, dtype)
        if kind.init == "content":
            strength = kind.grain * sum(map(measure_grain, styles)) / max(len(styles), 1)
            # The same for all dtypes.
            added = strength * jax.random.normal(key, shape, jnp.float32).astype(dtype)
            return content + (added if masks is None else jnp.max(masks, 0)[..., None] * added)
        mean, white = problem.network.mean_color(dtype=dtype), problem.network.white
        return mean[None, None] + 0.001 / white * jax.random.normal(key, shape, dtype)

    each = jax.vmap(noise) if batched else noise
    arguments = content, keys, styles, masks
    made: jax.Array = run_on_mesh(problem.mesh, each, (batched,) * 4)(*arguments)
    return made


@functools.partial(jax.jit, static_argnums=(0, 1))
def make_detail(
    problem: Problem,
    batched: bool,
    content: jax.Array,
    styles: tuple[jax.Array, ...],
    style_masks: tuple[jax.Array | None, ...] | None,
) -> jax.Array:
    """Makes pictures of the styles' mean color, with the finest detail of the content.

    Kolkin et al., "Style Transfer by Relaxed Optimal Transport and Self-Similarity", CVPR 2019. The
    detail is the first level of a Laplacian pyramid: that of the size at which a run begins.
    """

    def mean(style: jax.Array, mask: jax.Array | None) -> jax.Array:
        weight = jnp.ones(style.shape[:2], style.dtype) if mask is None else mask
        return jnp.sum(weight[..., None] * style, (0, 1)) / jnp.sum(weight)

    def make(content: jax.Array, styles: Any, masks: Any) -> jax.Array:
        means = map(mean, styles, masks or [None] * len(styles))
        return sum(means) / len(styles) + unfold(content, 1)[0]

    each = jax.vmap(make) if batched else make
    made: jax.Array = run_on_mesh(problem.mesh, each, (batched,) * 3)(content, styles, style_masks)
    return made


def measure_grain(image: jax.Array) -> jax.Array:
    """Returns the standard deviation `()` of the white noise that has an image's finest detail.

    J. Immerkaer, "Fast Noise Variance Estimation", Computer Vision and Image Understanding 64,
    1996, over all channels. Edges count little.

    Args:
        image: `(H, W, 3)`. Below 3 pixels along an edge there is no such detail: the result is 0.
    """
    if min(image.shape[:2]) < 3:
        return jnp.zeros((), image.dtype)
    detail = image
    for axis in (0, 1):
        low, middle, high = (
            jax.lax.slice_in_dim(detail, i, detail.shape[axis] - 2 + i, axis=axis) for i in range(3)
        )
        detail = low - 2 * middle + high
    return jnp.mean(jnp.abs(detail)) * (math.sqrt(math.pi / 2) / 6)
