"""Pictures by their spatial frequencies, for the steps of `LBFGS(smoothness=...)`.

The frequencies are those of the cosine transform (DCT-II), which continues a picture by its
reflection. A Fourier transform continues it by itself: each border acts on the opposite one, and
the jump between them becomes hatching along the rows and columns of pixels.
"""

import math

import jax
import jax.numpy as jnp

from jaxstyle.sharding import row_major


def scale_frequencies(image: jax.Array, exponent: float) -> jax.Array:
    """Multiplies each spatial frequency of `(H, W, c)` by `(2 f)^exponent`.

    `f` is in cycles per pixel, and at least half a cycle over the long edge. The map is linear and
    symmetric.
    """
    planes = _transform(_transform(jnp.moveaxis(image, -1, 0)).mT)
    planes = planes * _frequencies(image, exponent)
    return jnp.moveaxis(_invert(_invert(planes).mT), 0, -1).astype(image.dtype)


def energy(image: jax.Array, exponent: float) -> jax.Array:
    """Returns `vdot(image, scale_frequencies(image, exponent))`, `()`, by Parseval's theorem."""
    height, width, _ = image.shape
    planes = _transform(_transform(jnp.moveaxis(image, -1, 0)).mT)
    # The cosines of frequency 0 have twice the norm of the others.
    halved = [jnp.ones(n, image.dtype).at[0].set(0.5) for n in (width, height)]
    weights = halved[0][:, None] * halved[1][None] * _frequencies(image, exponent)[0]
    return jnp.sum(planes**2 * weights[None]) * (4 / (height * width))


def _transform(x: jax.Array) -> jax.Array:
    """The cosine transform along the last axis, by a Fourier transform of half the work.

    J. Makhoul, "A Fast Cosine Transform in One and Two Dimensions", IEEE Trans. Acoustics, Speech
    and Signal Processing 28, 1980.
    """
    length = x.shape[-1]
    even_then_odd = jnp.concatenate([x[..., ::2], x[..., 1::2][..., ::-1]], axis=-1)
    spectrum = jnp.fft.rfft(row_major(even_then_odd)) * _rotation(x, -1)
    # The second half of the frequencies, from the last one down, is in the imaginary part.
    tail = -jnp.imag(spectrum)[..., 1 : (length + 1) // 2]
    return jnp.concatenate([jnp.real(spectrum), tail[..., ::-1]], axis=-1)


def _invert(x: jax.Array) -> jax.Array:
    """The inverse of `_transform`."""
    length = x.shape[-1]
    head = x[..., : length // 2 + 1]
    tail = x[..., length - length // 2 :][..., ::-1]
    tail = jnp.concatenate([jnp.zeros_like(x[..., :1]), tail], axis=-1)
    spectrum = jax.lax.complex(head, -tail) * _rotation(x, 1)
    even_then_odd = row_major(jnp.fft.irfft(row_major(spectrum), n=length))
    even, odd = jnp.split(even_then_odd, [(length + 1) // 2], axis=-1)
    odd = jnp.pad(odd[..., ::-1], [(0, 0)] * (x.ndim - 1) + [(0, length % 2)])
    return jnp.stack([even, odd], axis=-1).reshape(*x.shape[:-1], -1)[..., :length]


def _rotation(x: jax.Array, sign: int) -> jax.Array:
    """A quarter of a turn over the frequencies of the last axis of `x`."""
    length = x.shape[-1]
    angle = jnp.arange(length // 2 + 1, dtype=x.dtype) * (sign * math.pi / (2 * length))
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle)).reshape(*[1] * (x.ndim - 1), -1)


def _frequencies(image: jax.Array, exponent: float) -> jax.Array:
    """The factors of the frequencies, `(1, W, H)`."""
    height, width, _ = image.shape
    columns = jnp.arange(width, dtype=image.dtype)[:, None] / (2 * width)
    rows = jnp.arange(height, dtype=image.dtype)[None] / (2 * height)
    lowest = 1 / (2 * max(height, width))
    radius = jnp.sqrt(jnp.maximum(columns**2 + rows**2, lowest**2))
    return ((2 * radius) ** exponent)[None]
