"""Pictures in Fourier coordinates, for the steps of `LBFGS(smoothness=...)`."""

import jax
import jax.numpy as jnp

from jaxstyle.sharding import row_major


def scale_frequencies(image: jax.Array, exponent: float) -> jax.Array:
    """Multiplies each spatial frequency of `(H, W, c)` by `(2 f)^exponent`.

    `f` is in cycles per pixel, and at least one cycle over the long edge. The highest frequency
    along an axis is therefore left as it is. The map is linear and symmetric.
    """
    height, width, _ = image.shape
    spectrum = row_major(_spectrum(image) * _frequencies(image, exponent))
    planes = row_major(jnp.fft.irfft2(spectrum, s=(height, width)))
    return jnp.moveaxis(planes, 0, -1).astype(image.dtype)


def energy(image: jax.Array, exponent: float) -> jax.Array:
    """Returns `vdot(image, scale_frequencies(image, exponent))`, `()`, by Parseval's theorem."""
    height, width, _ = image.shape
    spectrum = _spectrum(image)
    power = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
    # Each column stands for its mirror image too, except for the first and, if even, the last.
    column = jnp.arange(power.shape[-1])
    single = (column == 0) | (2 * column == width)
    twice = jnp.where(single, 1, 2).astype(image.dtype)[None, None]
    return jnp.sum(power * twice * _frequencies(image, exponent)) / (height * width)


def _spectrum(image: jax.Array) -> jax.Array:
    """The transform `(c, H, W // 2 + 1)` of `(H, W, c)`."""
    return row_major(jnp.fft.rfft2(row_major(jnp.moveaxis(image, -1, 0))))


def _frequencies(image: jax.Array, exponent: float) -> jax.Array:
    """The factors of a spectrum, `(1, H, W // 2 + 1)`."""
    height, width, _ = image.shape
    rows = jnp.fft.fftfreq(height, dtype=image.dtype)[:, None]
    squared = rows**2 + jnp.fft.rfftfreq(width, dtype=image.dtype)[None] ** 2
    return (2 * jnp.sqrt(jnp.maximum(squared, max(height, width) ** -2.0)))[None] ** exponent
