"""Patches of features, and the most similar ones of a style."""

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_array, as_factor, as_integer, sum_dtype
from jaxstyle.losses.arguments import MAPS


def patches(features: jax.Array, *, size: int = 3) -> jax.Array:
    """Returns all patches of `size` x `size` positions.

    Args:
        features: `(h, w, c)`.
        size: at most h and w.

    Returns:
        `(h - size + 1, w - size + 1, size^2 c)`.

    Raises:
        ValueError: for a wrong shape or dtype, or a size that does not fit.
    """
    features = as_array(features, "features", MAPS)
    _check_size(size, features)
    height, width = (extent - size + 1 for extent in features.shape[:2])
    shifted = [features[i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1)


def nearest_patches(
    features: jax.Array, style_patches: jax.Array, allowed: jax.Array, *, size: int = 3
) -> jax.Array:
    """Finds the most similar patch of the style for each patch of the image.

    Li & Wand, "Combining Markov Random Fields and Convolutional Neural Networks for Image
    Synthesis", CVPR 2016, eq. 3: the largest normalized cross-correlation. It is a convolution with
    the style's patches as kernels, computed row by row to save memory.

    Args:
        features: `(h, w, c)`.
        style_patches: `(K, size^2 c)`.
        allowed: `(K,)`, whether each may be chosen.
        size: of the patches, in positions.

    Returns:
        `(h - size + 1, w - size + 1)` indices into `style_patches`. Their derivative is zero.

    Raises:
        ValueError: for a wrong shape or dtype, or a size that does not fit.
    """
    features = jax.lax.stop_gradient(as_array(features, "features", MAPS))
    _check_size(size, features)
    width = size**2 * features.shape[2]
    style_patches = jax.lax.stop_gradient(as_array(style_patches, "style_patches", ("K", width)))
    number = len(style_patches)
    allowed = as_factor(allowed, "allowed", (number,), bool)[None]
    dtype = sum_dtype(features, style_patches)
    narrow = features.dtype if features.dtype == style_patches.dtype else dtype
    norms = jnp.sqrt(jnp.sum(jnp.square(style_patches.astype(dtype)), axis=1))[None]
    norms = jnp.where(norms > 0, norms, 1)
    features, kernels = features.astype(narrow), style_patches.astype(narrow).T

    def row(start: jax.Array) -> jax.Array:
        strip = jax.lax.dynamic_slice_in_dim(features, start, size)
        # By far the largest product, so in the caller's precision: bfloat16 operands change one
        # index in 200, to a patch whose correlation is at most 5e-4 smaller.
        products = jnp.matmul(patches(strip, size=size)[0], kernels, preferred_element_type=dtype)
        # Not infinity: `jax_debug_infs` would raise.
        return jnp.argmax(jnp.where(allowed, products / norms, jnp.finfo(dtype).min), axis=1)

    return jax.lax.map(row, jnp.arange(features.shape[0] - size + 1))


def _check_size(size: int, features: jax.Array) -> None:
    if not 1 <= as_integer(size, "size") <= min(features.shape[:2]):
        raise ValueError(f"size must be from 1 to h and w, not {size} for {features.shape}")
