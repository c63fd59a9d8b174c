"""A picture as a Laplacian pyramid.

Level i of the pyramid is what picture i has that picture i + 1, half as large, does not; the last
level is the smallest picture. A solver's step along the levels (`coordinates="laplacian"`) moves
large areas together: each level adds its own change to a pixel.
"""

import jax


def unfold(image: jax.Array, levels: int) -> tuple[jax.Array, ...]:
    """Divides `(H, W, c)` into a Laplacian pyramid.

    Burt & Adelson, "The Laplacian Pyramid as a Compact Image Code", IEEE Trans. Communications 31,
    1983, with bilinear filters, as STROTSS and NNST have it.

    Args:
        image: `(H, W, c)`.
        levels: how often it is halved, at most; the long edge of the smallest picture has at least
            2 pixels.

    Returns:
        The details of each size, `(H, W, c)`, `(H // 2, W // 2, c)` and so on, and the smallest
        picture. An edge has at least one pixel.
    """
    pyramid = []
    for _ in range(levels):
        height, width, channels = image.shape
        if max(height, width) < 4:
            break
        smaller = _resize(image, (max(height // 2, 1), max(width // 2, 1), channels))
        pyramid.append(image - _resize(smaller, image.shape))
        image = smaller
    return (*pyramid, image)


def fold(pyramid: tuple[jax.Array, ...]) -> jax.Array:
    """Returns the picture `(H, W, c)` that `unfold` has divided; linear."""
    *details, image = pyramid
    for detail in reversed(details):
        image = detail + _resize(image, detail.shape)
    return image


def _resize(image: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Bilinear, without antialiasing: halving an even edge takes the means of pairs."""
    return jax.image.resize(image, shape, "linear", antialias=False)
