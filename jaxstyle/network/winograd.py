"""3x3 convolution by Winograd's minimal filtering, which is fast on CPUs.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: F(4x4, 3x3) makes
4x4 outputs of 6x6 inputs with 36 multiplications instead of 144. What remains is a batch of matrix
products, which XLA:CPU computes as fast as its convolutions, so a layer is two to three times
faster. The rounding error is two to three times larger, 1e-6 of the result in float32.

Own code, because no library has this algorithm for JAX on CPUs.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.network.padding import Padding, fold, pad

_TILE = 4  # outputs of a tile, along each axis
# Where the polynomials of Toom and Cook are evaluated, besides infinity. Of the sets that were
# tried this one rounds least, 1e-6 (the usual 0, +-1, +-2: 2.5e-6). It contains the inverse of each
# of its points, which the transpose uses.
_POINTS = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)


def _minimal_filter() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns `A`, `B`, `G` of `y = A ((G g) * (B d))`: 4 outputs, 6 inputs, 3 filter taps."""

    def powers(number: int) -> np.ndarray:
        infinity = np.eye(number)[-1:]
        return np.concatenate([np.vander(_POINTS, number, increasing=True), infinity])

    inverse = np.linalg.inv(powers(len(_POINTS) + 1)).T
    return powers(_TILE).T, np.where(np.abs(inverse) < 1e-12, 0, inverse), powers(3)


_OUTPUT, _INPUT, _KERNEL = _minimal_filter()
# A reversed filter's value at point p is p^2 times the filter's value at 1 / p. So the transposed
# convolution uses the same transformed kernel, with the rows of the other two matrices exchanged.
_INVERSE = [5, 3, 4, 1, 2, 0]
_OUTPUT_T = _OUTPUT[:, _INVERSE]
_INPUT_T = (_INPUT * np.array([1, *(p**2 for p in _POINTS[1:]), 1])[:, None])[_INVERSE]

# Bytes of transformed input or output that are processed at a time, so that they stay in cache.
_BLOCK = 16 * 2**20
# Below this product of channels XLA's convolution is as fast. Below this number of tiles it is as
# fast, or so little slower that the longer compilation does not pay.
_MIN_CHANNELS = 64 * 128
_MIN_TILES = 40


def transform(kernel: jax.Array) -> jax.Array:
    """Returns a kernel `(3, 3, c, d)` at all pairs of points: `(36, c, d)`."""
    matrix = jnp.asarray(np.kron(_KERNEL, _KERNEL), kernel.dtype)
    return jnp.dot(matrix, kernel.reshape(9, -1)).reshape(-1, *kernel.shape[2:])


def is_transformed(kernel: jax.Array) -> bool:
    """Returns whether a kernel has enough channels for Winograd's algorithm to be faster."""
    return int(np.prod(kernel.shape[2:])) >= _MIN_CHANNELS


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    transformed: jax.Array | None,
    padding: Padding,
    transpose: bool,
) -> jax.Array:
    """Computes what `xla.convolve` does; `transformed` is `transform(kernel)`, if it is known."""
    number, *size, _ = x.shape
    shape = _output_shape(size, padding, transpose)
    folds = shape != size
    rows, columns = _tiles(shape)
    kernels = transform(kernel) if transformed is None else transformed
    # Strips of tile rows, as many as leave few rows for the last one.
    row_bytes = number * columns * len(kernels) * max(kernel.shape[2:]) * x.dtype.itemsize
    fewest = min(-(-rows * row_bytes // _BLOCK), rows)
    strips = min(range(fewest, min(2 * fewest, rows + 1)), key=lambda n: (-rows % n, n))
    per_strip = -(-rows // strips)
    low = 1 + folds
    high = (_TILE * strips * per_strip + 2 - low - size[0], _TILE * columns + 2 - low - size[1])
    padded = pad(x, low, high, "zero" if transpose else padding)

    def strip(start: jax.Array | int) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(padded, start, _TILE * per_strip + 2, axis=1)
        return _convolve_tiles(part, kernels, transpose)

    if strips == 1:
        y = _convolve_tiles(padded, kernels, transpose)
    else:
        y = jax.lax.map(strip, _TILE * per_strip * jnp.arange(strips)).swapaxes(0, 1)
        y = y.reshape(number, -1, *y.shape[3:])
    y = y[:, : shape[0], : shape[1]]
    # The barrier keeps XLA from computing again, for each line, all that leads to it.
    return fold(jax.lax.optimization_barrier(y), padding) if folds else y


def is_faster(x: jax.Array, kernel: jax.Array, padding: Padding, transpose: bool) -> bool:
    """Returns whether `x` and `kernel` are large enough to be faster than XLA's convolution."""
    number, *size, _ = x.shape
    rows, columns = _tiles(_output_shape(size, padding, transpose))
    return is_transformed(kernel) and number * rows * columns >= _MIN_TILES


def _output_shape(size: Sequence[int], padding: Padding, transpose: bool) -> list[int]:
    """Height and width of the outputs; the transpose has one for each place of a stored border."""
    return [length + 2 * (transpose and padding != "zero") for length in size]


def _tiles(shape: Sequence[int]) -> tuple[int, int]:
    rows, columns = (-(-length // _TILE) for length in shape)
    return rows, columns


def _convolve_tiles(x: jax.Array, kernels: jax.Array, transpose: bool) -> jax.Array:
    """`(n, 4 r + 2, 4 s + 2, c)` and `(36, c, d)` -> `(n, 4 r, 4 s, d)`."""
    number, height, width, channels = x.shape
    rows, columns = height // _TILE, width // _TILE
    to_input, to_output = (_INPUT_T, _OUTPUT_T) if transpose else (_INPUT, _OUTPUT)
    x = jnp.pad(x, ((0, 0), (0, _TILE - 2), (0, _TILE - 2), (0, 0)))
    x = x.reshape(number, rows + 1, _TILE, width + _TILE - 2, channels)
    x = _combine(to_input, _overlapping(x, 1), axis=0)
    x = x.reshape(-1, number, rows, columns + 1, _TILE, channels)
    x = _combine(to_input, _overlapping(x, 3), axis=1)
    x = x.reshape(len(kernels), -1, channels)
    y = jax.lax.dot_general(x, kernels, (((2,), (2 if transpose else 1,)), ((0,), (0,))))
    y = y.reshape(len(to_input), len(to_input), number, rows, columns, -1)
    y = _combine(to_output, [y[:, i] for i in range(len(to_input))], axis=4)
    y = y.reshape(len(to_input), number, rows, _TILE * columns, -1)
    return _combine(to_output, list(y), axis=2).reshape(number, _TILE * rows, _TILE * columns, -1)


def _overlapping(x: jax.Array, axis: int) -> list[jax.Array]:
    """Returns the six inputs of each tile: `(.., t + 1, 4, ..)` -> six arrays `(.., t, ..)`."""
    first = jax.lax.slice_in_dim(x, 0, -1, axis=axis)
    second = jax.lax.slice_in_dim(x, 1, None, axis=axis)
    take = partial(jax.lax.index_in_dim, axis=axis + 1, keepdims=False)
    return [take(first, i) for i in range(_TILE)] + [take(second, i) for i in range(2)]


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array], axis: int) -> jax.Array:
    """Returns the product of `matrix` with `parts`, stacked along `axis`.

    It is written as sums, which XLA fuses, instead of a matrix product.
    """
    sums = []
    for row in matrix:
        terms = [float(a) * part for a, part in zip(row, parts, strict=True) if a != 0]
        sums.append(sum(terms[1:], start=terms[0]))
    return jnp.stack(sums, axis)
