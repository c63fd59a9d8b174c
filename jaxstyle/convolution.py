"""3x3 convolution, as VGG19 has it; on CPUs by Winograd's minimal filtering.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: F(4x4, 3x3) makes
four by four outputs of six by six inputs with 36 multiplications in the place of 144. What is
left is a batch of matrix products, which XLA:CPU computes as fast as its convolutions: two to
three times less time per layer. It rounds two to three times more, to 1e-6 of the result in
float32; under `jax.default_matmul_precision("highest")`, and on other devices, it is XLA's own
convolution.

A primitive, since that is what has another program for each kind of device, a transpose (all
that a gradient ever runs) as fast as itself, and batching that makes the products larger.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxstyle.sharding import devices_per_picture, vary_alike

Padding = Literal["zero", "replicate", "reflect"]

_TILE = 4  # outputs of a tile, along each axis
_POINTS = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
"""Where the polynomials of Toom and Cook are evaluated, besides infinity.

Of the sets that were tried this one rounds least, 1e-6 (the usual 0, +-1, +-2: 2.5e-6). It holds
the inverse of each of its points, which the transpose makes use of.
"""


def _minimal_filter() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices `A`, `B`, `G` of `y = A ((G g) * (B d))`: 4 outputs, 6 inputs, 3 taps."""

    def powers(number: int) -> np.ndarray:
        infinity = np.eye(number)[-1:]
        return np.concatenate([np.vander(_POINTS, number, increasing=True), infinity])

    inverse = np.linalg.inv(powers(len(_POINTS) + 1)).T
    return powers(_TILE).T, np.where(np.abs(inverse) < 1e-12, 0, inverse), powers(3)


_OUTPUT, _INPUT, _TAPS = _minimal_filter()
# A reversed filter's value at point p is p^2 times the filter's value at 1 / p. So the transposed
# convolution is one with the same transformed kernel, and the rows of the other two exchanged.
_INVERSE = [5, 3, 4, 1, 2, 0]
_OUTPUT_T = _OUTPUT[:, _INVERSE]
_INPUT_T = (_INPUT * np.array([1, *(p**2 for p in _POINTS[1:]), 1])[:, None])[_INVERSE]

# Bytes of transformed input or output that are worked on at a time, so that they stay in cache.
_BLOCK = 16 * 2**20
# Below this product of channels XLA's convolution is as fast. Below so many tiles it is so too, or
# so little slower that the longer compilation is not worth it.
_MIN_CHANNELS = 64 * 128
_MIN_TILES = 40


def convolution(
    x: jax.Array, kernel: jax.Array, padding: Padding = "zero", taps: jax.Array | None = None
) -> jax.Array:
    """Correlates, with stride 1 and a border one wide.

    Differentiable any number of times, forwards and backwards, in both arguments.

    Args:
        x: `(n, h, w, c)`, floating point.
        kernel: `(3, 3, c, d)`, of the same dtype.
        padding: what the border holds: `zero`, or `replicate` or `reflect` of what is inside.
        taps: `transform(kernel)`, for those who use one kernel often. Redundant: derivatives in
            the kernel do not come through it, and where it is not needed it is not computed. An
            array without elements: XLA's own convolution on every device.

    Returns:
        `(n, h, w, d)`, of the arguments' dtype.
    """
    # Asked for here, where it is traced: it may be set otherwise when it is compiled.
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    # Less exact ones, of parameters in another dtype, would make the result so.
    operands = (x, kernel) if taps is None or taps.dtype != x.dtype else (x, kernel, taps)
    return _convolution.bind(
        *vary_alike(*operands),
        padding=padding,
        transpose=False,
        precision=precision,
        whole=devices_per_picture() == 1,
    )


def transform(kernel: jax.Array) -> jax.Array:
    """Returns a kernel `(3, 3, c, d)` as Winograd's algorithm has it: `(36, c, d)`."""
    matrix = jnp.asarray(np.kron(_TAPS, _TAPS), kernel.dtype)
    return jnp.dot(matrix, kernel.reshape(9, -1)).reshape(-1, *kernel.shape[2:])


def is_transformed(kernel: jax.Array) -> bool:
    """Whether a kernel has channels enough for Winograd's algorithm to be of use."""
    return int(np.prod(kernel.shape[2:])) >= _MIN_CHANNELS


def _mirrors(padding: Padding, length: int) -> dict[int, list[int]]:
    """Index of a line inside -> those of the lines of a padded array that are filled with it."""
    inwards = 0 if padding == "replicate" else 1
    found: dict[int, list[int]] = {}
    if padding != "zero":
        found.setdefault(inwards, []).append(0)
        found.setdefault(length - 1 - inwards, []).append(length + 1)
    return found


def _line(x: jax.Array, index: int, axis: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, index, index + 1, axis=axis)


# Padding is written in place, over zeros, and from lines that are read beforehand, lest XLA copies
# the array for each line; `jnp.pad` copies it for each border.
def _pad(x: jax.Array, low: int, high: Sequence[int], padding: Padding) -> jax.Array:
    """Zeros around `(n, h, w, c)`, in the innermost line of which is what `padding` says."""
    zero = jnp.zeros((), x.dtype)
    y = jax.lax.pad(x, zero, ((0, 0, 0), (low, high[0], 0), (low, high[1], 0), (0, 0, 0)))
    for source, borders in _mirrors(padding, x.shape[2]).items():
        for border in borders:
            start = (0, low, low - 1 + border, 0)
            y = jax.lax.dynamic_update_slice(y, _line(x, source, 2), start)
    for source, borders in _mirrors(padding, x.shape[1]).items():
        line = _pad_width(_line(x, source, 1), padding)
        for border in borders:
            y = jax.lax.dynamic_update_slice(y, line, (0, low - 1 + border, low - 1, 0))
    return y


def _pad_width(x: jax.Array, padding: Padding) -> jax.Array:
    mode = "edge" if padding == "replicate" else "reflect"
    return jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)), mode=mode)


def _fold(y: jax.Array, padding: Padding) -> jax.Array:
    """The transpose of padding by one: `(n, h + 2, w + 2, c) -> (n, h, w, c)`."""
    x = _fold_width(y[:, 1:-1], padding)
    for source, borders in _mirrors(padding, y.shape[1] - 2).items():
        line = sum((_line(y, border, 1) for border in borders), _line(y, source + 1, 1))
        x = jax.lax.dynamic_update_slice_in_dim(x, _fold_width(line, padding), source, 1)
    return x


def _fold_width(y: jax.Array, padding: Padding) -> jax.Array:
    x = y[:, :, 1:-1]
    for source, borders in _mirrors(padding, y.shape[2] - 2).items():
        line = sum((_line(y, border, 2) for border in borders), _line(y, source + 1, 2))
        x = jax.lax.dynamic_update_slice_in_dim(x, line, source, 2)
    return x


def _direct(
    x: jax.Array,
    kernel: jax.Array,
    *taps: jax.Array,
    padding: Padding,
    transpose: bool,
    precision: Any,
    whole: bool,
) -> jax.Array:
    """XLA's convolution; with `transpose` its transpose, with a kernel `(3, 3, d, c)`."""
    del taps
    if not whole and padding != "zero":
        return _in_parts(x, kernel, padding, transpose, precision)
    if transpose:
        # Swapped, and not by its label, for which XLA:CPU has no fast kernel inside a loop.
        kernel = jax.lax.rev(kernel, (0, 1)).swapaxes(2, 3)
    border = 1
    if padding != "zero":
        x = x if transpose else _pad(x, 1, (1, 1), padding)
        border = 2 if transpose else 0
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [(border, border)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )
    return _fold(y, padding) if border == 2 else y


def _in_parts(
    x: jax.Array, kernel: jax.Array, padding: Padding, transpose: bool, precision: Any
) -> jax.Array:
    """`_direct` for a picture in parts on several devices, with a border that is not zero.

    With a border of zeros, which is nowhere stored, parts of equal size stay so. What another
    border adds to the outermost outputs is computed by itself.
    """

    def convolve(x: jax.Array, kernel: jax.Array, border: Sequence[tuple[int, int]]) -> jax.Array:
        labels = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), border, dimension_numbers=labels, precision=precision
        )

    def of_border(x: jax.Array) -> jax.Array:
        y: Any = 0
        for axis in (1, 2):
            length = x.shape[axis]
            position = jnp.arange(length).reshape(1, *[1] * (axis - 1), -1, *[1] * (3 - axis))
            for source, borders in _mirrors(padding, length).items():
                # A sum over a mask, and not a slice: the transpose of that is whole everywhere.
                line = jnp.sum(jnp.where(position == source, x, 0), axis, keepdims=True)
                # The corners of the border go with its rows.
                line = _pad_width(line, padding) if axis == 1 else line
                along = [(0, 0), (0, 0)] if axis == 1 else [(1, 1), (0, 0)]
                for border in borders:
                    tap = jax.lax.slice_in_dim(
                        kernel, *((0, 1) if border == 0 else (2, 3)), axis=axis - 1
                    )
                    at = position == min(border, length - 1)
                    y += jnp.where(at, convolve(line, tap, along), 0)
        return y

    inside = partial(_direct, padding="zero", transpose=transpose, precision=precision, whole=True)
    if not transpose:
        return inside(x, kernel) + of_border(x)
    shape = jax.ShapeDtypeStruct((*x.shape[:-1], kernel.shape[2]), x.dtype)
    (x_bar,) = jax.linear_transpose(of_border, shape)(x)
    return inside(x, kernel) + x_bar


def _on_cpu(
    x: jax.Array,
    kernel: jax.Array,
    *transformed: jax.Array,
    padding: Padding,
    transpose: bool,
    precision: Any,
    whole: bool,
) -> jax.Array:
    """`_direct`, or the same by Winograd's algorithm."""
    if not whole:
        # XLA's partitioner splits its own convolution, but no tiles.
        return _direct(
            x, kernel, padding=padding, transpose=transpose, precision=precision, whole=False
        )
    number, *size, _ = x.shape
    # The transpose has an output for each place of a border that is not zero.
    folds = transpose and padding != "zero"
    shape = [length + 2 * folds for length in size]
    rows, columns = (-(-length // _TILE) for length in shape)
    few = not is_transformed(kernel) or number * rows * columns < _MIN_TILES
    exact = precision in ("highest", "float32") or any(taps.size == 0 for taps in transformed)
    if few or exact or x.dtype not in (jnp.float32, jnp.float64):
        direct = partial(_direct, transpose=transpose, precision=precision, whole=True)
        if padding == "zero" or transpose:
            return direct(x, kernel, padding=padding)
        # Without a border of its own XLA:CPU's convolution takes four times as long.
        return direct(_pad(x, 1, (1, 1), padding), kernel, padding="zero")[:, 1:-1, 1:-1]

    taps = transformed[0] if transformed else transform(kernel)
    # Strips of tile rows, so many that few rows are left over for the last one.
    row_bytes = number * columns * len(taps) * max(kernel.shape[2:]) * x.dtype.itemsize
    fewest = min(-(-rows * row_bytes // _BLOCK), rows)
    strips = min(range(fewest, min(2 * fewest, rows + 1)), key=lambda n: (-rows % n, n))
    per_strip = -(-rows // strips)
    low = 1 + folds
    high = (_TILE * strips * per_strip + 2 - low - size[0], _TILE * columns + 2 - low - size[1])
    padded = _pad(x, low, high, "zero" if transpose else padding)

    def strip(start: jax.Array | int) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(padded, start, _TILE * per_strip + 2, axis=1)
        return _winograd(part, taps, transpose)

    if strips == 1:
        y = _winograd(padded, taps, transpose)
    else:
        y = jax.lax.map(strip, _TILE * per_strip * jnp.arange(strips)).swapaxes(0, 1)
        y = y.reshape(number, -1, *y.shape[3:])
    y = y[:, : shape[0], : shape[1]]
    # The barrier: XLA would compute all that leads to a line once more for each line.
    return _fold(jax.lax.optimization_barrier(y), padding) if folds else y


def _winograd(x: jax.Array, taps: jax.Array, transpose: bool) -> jax.Array:
    """`(n, 4 r + 2, 4 s + 2, c)` and `(36, c, d)` -> `(n, 4 r, 4 s, d)`."""
    number, height, width, channels = x.shape
    rows, columns = height // _TILE, width // _TILE
    to_input, to_output = (_INPUT_T, _OUTPUT_T) if transpose else (_INPUT, _OUTPUT)
    x = jnp.pad(x, ((0, 0), (0, _TILE - 2), (0, _TILE - 2), (0, 0)))
    x = x.reshape(number, rows + 1, _TILE, width + _TILE - 2, channels)
    x = _combine(to_input, _overlapping(x, 1), axis=0)
    x = x.reshape(-1, number, rows, columns + 1, _TILE, channels)
    x = _combine(to_input, _overlapping(x, 3), axis=1)
    x = x.reshape(len(taps), -1, channels)
    y = jax.lax.dot_general(x, taps, (((2,), (2 if transpose else 1,)), ((0,), (0,))))
    y = y.reshape(len(to_input), len(to_input), number, rows, columns, -1)
    y = _combine(to_output, [y[:, i] for i in range(len(to_input))], axis=4)
    y = y.reshape(len(to_input), number, rows, _TILE * columns, -1)
    return _combine(to_output, list(y), axis=2).reshape(number, _TILE * rows, _TILE * columns, -1)


def _overlapping(x: jax.Array, axis: int) -> list[jax.Array]:
    """The inputs of all tiles: of `(.., t + 1, 4, ..)`, in tiles of 4, six of `(.., t, ..)`."""
    first = jax.lax.slice_in_dim(x, 0, -1, axis=axis)
    second = jax.lax.slice_in_dim(x, 1, None, axis=axis)
    take = partial(jax.lax.index_in_dim, axis=axis + 1, keepdims=False)
    return [take(first, i) for i in range(_TILE)] + [take(second, i) for i in range(2)]


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array], axis: int) -> jax.Array:
    """The product of `matrix` with stacked `parts`, stacked along `axis`; written out, it fuses."""
    sums = []
    for row in matrix:
        terms = [float(a) * part for a, part in zip(row, parts, strict=True) if a != 0]
        sums.append(sum(terms[1:], start=terms[0]))
    return jnp.stack(sums, axis)


def _shape(x: Any, kernel: Any, *taps: Any, transpose: bool, **settings: Any) -> Any:
    del taps, settings
    channels, features = kernel.shape[:1:-1] if transpose else kernel.shape[2:]
    if kernel.shape[:2] != (3, 3) or channels != x.shape[-1] or kernel.dtype != x.dtype:
        raise ValueError(f"a kernel {kernel.shape} {kernel.dtype} for {x.shape} {x.dtype}")
    return x.update(shape=(*x.shape[:-1], features), weak_type=False)


def _derivative(primals: Any, tangents: Any, **settings: Any) -> Any:
    x, kernel, *taps = primals
    x_dot, kernel_dot, *_ = tangents
    y = _convolution.bind(x, kernel, *taps, **settings)
    y_dot = jnp.zeros_like(y)
    if type(x_dot) is not ad.Zero:
        y_dot = _convolution.bind(x_dot, kernel, *taps, **settings)
    if type(kernel_dot) is not ad.Zero:
        y_dot += _convolution.bind(x, kernel_dot, **settings)
    return y, y_dot


def _transpose(y: Any, x: Any, kernel: Any, *taps: Any, transpose: bool, **settings: Any) -> Any:
    """The cotangents of `x` or of `kernel`, whichever it is linear in."""
    nothing = (None,) * len(taps)
    if type(y) is ad.Zero:
        return None, None, *nothing
    if ad.is_undefined_primal(x):
        x = _convolution.bind(y, kernel, *taps, transpose=not transpose, **settings)
        return x, None, *nothing

    def of_kernel(kernel: jax.Array) -> jax.Array:
        return _direct(x, kernel, transpose=transpose, **settings)

    return None, *jax.linear_transpose(of_kernel, kernel.aval)(y), *nothing


def _batch(operands: Any, axes: Any, **settings: Any) -> tuple[jax.Array, int]:
    x, *kernels = operands
    if any(axis is not None for axis in axes[1:]):  # a kernel for each example
        kernel, axes = kernels[0], axes[:2]
        return jax.vmap(lambda x, kernel: _direct(x, kernel, **settings), axes)(x, kernel), 0
    x = jnp.moveaxis(x, axes[0], 0)
    y = _convolution.bind(x.reshape(-1, *x.shape[2:]), *kernels, **settings)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


_convolution = Primitive("convolution_3x3")
_convolution.def_abstract_eval(_shape)
_compiled = jax.jit(
    _convolution.bind, static_argnames=("padding", "transpose", "precision", "whole")
)


@_convolution.def_impl
def _run(*operands: Any, **settings: Any) -> jax.Array:
    # A primitive is one operation, so it is compiled even where `jax.disable_jit` is set.
    with jax.disable_jit(False):
        return _compiled(*operands, **settings)


ad.primitive_jvps[_convolution] = _derivative
ad.primitive_transposes[_convolution] = _transpose
batching.primitive_batchers[_convolution] = _batch
mlir.register_lowering(_convolution, mlir.lower_fun(_direct, multiple_results=False))
mlir.register_lowering(
    _convolution, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu"
)
