"""Operations on images that need no network: median filter and resizing."""

import functools
import math

import jax
import jax.numpy as jnp


def median_filter(image: jax.Array, *, size: int = 3, wraps: bool = False) -> jax.Array:
    """Replaces each pixel by the median of the `size` x `size` pixels around it, per channel.

    Args:
        image: `(H, W, c)` of any scale.
        size: odd; 1 returns the image.
        wraps: whether the pixels beyond an edge are those at the opposite edge; otherwise the
            outermost pixels are repeated.

    Returns:
        `(H, W, c)`.

    Raises:
        ValueError: if `size` is not odd and positive, or the image is not of rank 3.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"the size of a median filter must be odd and positive, not {size}")
    if image.ndim != 3:
        raise ValueError(f"image must be (H, W, c), not {image.shape}; batch with jax.vmap")
    if size == 1:
        return image
    height, width, _ = image.shape
    border = size // 2
    widths = ((border, border), (border, border), (0, 0))
    padded = jnp.pad(image, widths, mode="wrap" if wraps else "edge")
    window = jnp.stack(
        [padded[i : i + height, j : j + width] for i in range(size) for j in range(size)]
    )
    return jnp.sort(window, axis=0)[size * size // 2]


def scaled_shape(shape: tuple[int, ...], scale: float) -> tuple[int, ...]:
    """Returns the shape `(..., H, W, c)` with height and width scaled, at least 1 each."""
    *batch, height, width, channels = shape
    return (*batch, max(round(height * scale), 1), max(round(width * scale), 1), channels)


def resize(image: jax.Array, shape: tuple[int, ...], wraps: bool = False) -> jax.Array:
    """Resizes `(..., H, W, c)` bicubically, with antialiasing where it becomes smaller.

    An image that `wraps` has the opposite edge beyond an edge.
    """
    if image.shape == shape:
        return image
    if not wraps:
        return jax.image.resize(image, shape, "cubic")
    axes = (image.ndim - 3, image.ndim - 2)
    scales = [shape[axis] / image.shape[axis] for axis in axes]
    # A pixel is made of those up to two pixels away, on the coarser of both grids.
    border = math.ceil(2 / min(1, *scales)) + 1
    widths = [(border, border) if axis in axes else (0, 0) for axis in range(image.ndim)]
    return jax.image.scale_and_translate(
        jnp.pad(image, widths, mode="wrap"),
        shape,
        axes,
        jnp.asarray(scales, image.dtype),
        jnp.asarray([-border * scale for scale in scales], image.dtype),
        "cubic",
    )


_jitted_resize = jax.jit(resize, static_argnums=(1, 2))


def shrink(image: jax.Array, scale: float, wraps: bool = False) -> jax.Array:
    """Scales `(..., H, W, c)` by at most 1, as `resize` does."""
    return image if scale == 1 else _jitted_resize(image, scaled_shape(image.shape, scale), wraps)


def shrink_mask(mask: jax.Array, scale: float) -> jax.Array:
    """Scales `(..., H, W)` by at most 1, linearly.

    So a mask stays in [0, 1], and is zero where all pixels that are merged are zero.
    """
    return mask if scale == 1 else _resize_mask(mask, scale)


@functools.partial(jax.jit, static_argnums=1)
def _resize_mask(mask: jax.Array, scale: float) -> jax.Array:
    *_, height, width, _ = scaled_shape((*mask.shape, 1), scale)
    return jax.image.resize(mask, (*mask.shape[:-2], height, width), "linear")
