"""Losses of style transfer: pure functions from arrays to a scalar, and the sums behind them.

Features are `(h, w, c)` floating point of any scale, one image at a time; images are sRGB in
[0, 1]. `weight`, where a function takes one, is a non-negative weight per position, `(h, w)`; the
functions that take one are *sums* over positions, so that sums over parts of an image add up to
the sum over the whole.

Half-precision arguments become float32 before anything is subtracted, weighted or summed, and the
results are float32 or better; a weight never decides their dtype. Products of matrices take
float32 operands as they are, whatever `jax.default_matmul_precision` says: with operands rounded
to bfloat16, a TPU's default, square roots of covariances diverge, and close to the style the
gradient of a Gram matrix is off by 1 %, that of `covariance_distance` by 3 %.

With F the `(h * w, c)` features of the image, P of the content, N = c and M = h * w, equation
numbers are those of Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural
Networks", CVPR 2016.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle.checks import Shape, as_array, as_factor, as_integer, as_number, sum_dtype
from jaxstyle.sharding import split_axis_first

_MAPS = ("h", "w", "c")
_IMAGE = ("H", "W", "c")
_MATRIX = ("c", "c")


def _difference(x: Any, target: Any, what: str, shape: Shape | None) -> jax.Array:
    """`x - target`, in the dtype of sums."""
    x, target = as_array(x, what, shape), as_array(target, "the target", shape)
    if x.shape != target.shape:
        raise ValueError(f"{what} of shape {x.shape}, but the target has shape {target.shape}")
    dtype = sum_dtype(x, target)
    return x.astype(dtype) - target.astype(dtype)


def _weighted(maps: jax.Array, weight: Any) -> jax.Array:
    """`(h, w, c)` times the weight of each position."""
    if weight is None:
        return maps
    return maps * as_factor(weight, "weight", maps.shape[:2], maps.dtype)[..., None]


def _matrix(matrix: Any, what: str) -> jax.Array:
    matrix = as_array(matrix, what, _MATRIX)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{what} must be (c, c), not of shape {matrix.shape}")
    return matrix.astype(sum_dtype(matrix))


def gram_sum(features: jax.Array, *, weight: jax.Array | None = None) -> jax.Array:
    """Returns the weighted sum over positions of `f f^T` (eq. 3).

    Args:
        features: `(h, w, c)`.
        weight: `(h, w)`; by default all ones.

    Returns:
        `(c, c)`, symmetric.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    features = as_array(features, "features", _MAPS)
    if weight is None:
        return _self_product(_flatten(features))
    features = features.astype(sum_dtype(features))
    return _product(_flatten(_weighted(features, weight)), _flatten(features))


def _flatten(maps: jax.Array) -> jax.Array:
    return split_axis_first(maps).reshape(-1, maps.shape[-1])


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return _matmul(left.T, right, preferred_element_type=sum_dtype(right))


_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def _self_product(flat: jax.Array) -> jax.Array:
    """`F^T F`. Its tangent is `T + T^T` with `T = F^T dF`: one product, and so one backwards."""
    return _product(flat, flat)


@_self_product.defjvp
def _self_product_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (flat,), (flat_dot,) = primals, tangents
    half = _product(flat, flat_dot)
    return _self_product(flat), half + half.T


def gram_matrix(features: jax.Array) -> jax.Array:
    """Returns the Gram matrix divided by the number of positions.

    Gatys et al. (eq. 3) leave it undivided; divided by M, images of unequal sizes compare.

    Args:
        features: `(h, w, c)`.

    Returns:
        `(c, c)`, `F^T F / M`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    height, width, _ = as_array(features, "features", _MAPS).shape
    return gram_sum(features) / (height * width)


def squared_error_sum(
    features: jax.Array, target: jax.Array, *, weight: jax.Array | None = None
) -> jax.Array:
    """Returns the weighted sum over positions of `|f - p|^2`.

    Args:
        features: `(h, w, c)`.
        target: `(h, w, c)`.
        weight: `(h, w)`; by default all ones.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    square = jnp.square(_difference(features, target, "features", _MAPS))
    return jnp.sum(_weighted(square, weight))


def content_loss(features: jax.Array, target: jax.Array) -> jax.Array:
    """Half the squared error of the features (eq. 1).

    Args:
        features: `(h, w, c)` of the image.
        target: `(h, w, c)` of the content.

    Returns:
        `()`, `1/2 sum (F - P)^2`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    return 0.5 * squared_error_sum(features, target)


def style_loss(gram: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error of the Gram matrices of one layer (E_l of eq. 4).

    Args:
        gram: `(c, c)`, the image's `gram_matrix`.
        target: `(c, c)`, the style's.

    Returns:
        `()`, `sum (G - A)^2 / (4 N^2)`. The paper's `1 / M^2` is in `gram_matrix`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    for matrix, what in ((gram, "the Gram matrix"), (target, "the target")):
        if jnp.ndim(matrix) == 3:
            raise ValueError(
                f"{what} has the shape of features, {jnp.shape(matrix)}, not (c, c): call "
                "gram_matrix on the features first"
            )
        _matrix(matrix, what)
    difference = _difference(gram, target, "the Gram matrix", _MATRIX)
    return jnp.sum(jnp.square(difference)) / (4 * len(difference) ** 2)


def total_variation_sum(
    image: jax.Array, *, weight: jax.Array | None = None, power: float = 1.0
) -> jax.Array:
    """Like `total_variation`, each position `(i, j)` weighted by `weight[i, j]`.

    Args:
        image: `(H, W, c)` of any scale.
        weight: `(H, W)`; by default all ones.
        power: see `total_variation`.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype, or a power that is not positive.
    """
    image = as_array(image, "image", _IMAGE)
    image = image.astype(sum_dtype(image))
    power = as_number(power, "power")
    if power <= 0:
        raise ValueError(f"power must be positive, not {power}")
    if weight is not None:
        weight = as_factor(weight, "weight", image.shape[:2], image.dtype)[:-1, :-1]
    corner = image[:-1, :-1]
    square = jnp.square(image[1:, :-1] - corner) + jnp.square(image[:-1, 1:] - corner)
    if power != 1:
        # u^power has an infinite derivative at 0 for power < 1: flat pixels get none.
        positive = square > 0
        square = jnp.where(positive, jnp.where(positive, square, 1) ** power, 0)
    return jnp.sum(_weighted(square, weight))


def total_variation(image: jax.Array, *, power: float = 1.0) -> jax.Array:
    """Total variation: `sum (dx^2 + dy^2)^power` over the (H-1) x (W-1) upper left pixels.

    Mahendran & Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015,
    section 2.2, with beta = 2 * power; the Keras example has power 1.25 on pixels in 0-255.

    Args:
        image: `(H, W, c)` of any scale.
        power: positive; 0.5 is the isotropic total variation.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype, or a power that is not positive.
    """
    return total_variation_sum(image, power=power)


def nine_point_variation_sums(
    image: jax.Array, *, weight: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums of squared differences along the axes and along the diagonals.

    Args:
        image: `(H, W, c)` of any scale; continued by its outermost pixels.
        weight: `(H, W)`; the sums over parts add up to those of the whole. By default all ones.

    Returns:
        `()` the sum along both axes, over all pixels; `()` that along both diagonals, over the
        `(H+1) x (W+1)` squares of 2x2 pixels; and `()` the number of those squares.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    image = as_array(image, "image", _IMAGE)
    image = image.astype(sum_dtype(image))
    weight = jnp.ones(image.shape[:2], image.dtype) if weight is None else weight
    weight = as_factor(weight, "weight", image.shape[:2], image.dtype)
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    center = padded[1:-1, 1:-1]
    axes = jnp.square(padded[1:-1, 2:] - center) + jnp.square(padded[2:, 1:-1] - center)
    diagonals = jnp.square(padded[1:, 1:] - padded[:-1, :-1])
    diagonals += jnp.square(padded[1:, :-1] - padded[:-1, 1:])
    # Each square belongs to its lower right pixel, the last ones to the last pixel there is.
    owner = jnp.pad(weight, ((0, 1), (0, 1)), mode="edge")
    return (
        jnp.sum(axes * weight[..., None]),
        jnp.sum(diagonals * owner[..., None]),
        jnp.sum(owner),
    )


def moment_sums(
    features: jax.Array, *, weight: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Returns the weighted sums over positions of `f` and `f f^T`.

    Args:
        features: `(h, w, c)`.
        weight: `(h, w)`; by default all ones.

    Returns:
        `(c,)` and `(c, c)`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    features = as_array(features, "features", _MAPS)
    weighted = _weighted(features.astype(sum_dtype(features)), weight)
    return jnp.sum(weighted, (0, 1)), gram_sum(features, weight=weight)


def square_root(matrix: jax.Array, *, iterations: int = 12) -> jax.Array:
    """The square root of a matrix by coupled Newton-Schulz iterations.

    Higham, "Functions of Matrices", 2008, eq. 6.35; Lin & Maji, "Improved Bilinear Pooling with
    CNNs", BMVC 2017. Matrix products only, so it is as fast on accelerators, and in batches, as
    anything. Each iteration brings eigenvalues that are small beside the Frobenius norm closer by
    a factor of 1.5^2: 12 see those above some 1e-4 of it. Negative ones, of rounding, grow by as
    much; in float32 beyond some 18 iterations they may explode.

    Args:
        matrix: `(c, c)`, symmetric and positive semidefinite.
        iterations: their number, at least 1; static.

    Returns:
        `(c, c)`.

    Raises:
        ValueError: for a wrong shape or dtype, or fewer iterations.
    """
    if as_integer(iterations, "iterations") < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}")
    matrix = _matrix(matrix, "matrix")
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    norm = _frobenius_norm(matrix)

    def iterate(_: int, roots: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        root, inverse = roots
        correction = 1.5 * identity - 0.5 * _matmul(inverse, root)
        return _matmul(root, correction), _matmul(correction, inverse)

    root, _ = jax.lax.fori_loop(0, iterations, iterate, (matrix / norm, identity))
    return root * jnp.sqrt(norm)


def _frobenius_norm(matrix: jax.Array) -> jax.Array:
    """The norm, of tiny elements too; 1 for a matrix of zeros."""
    largest = jnp.max(jnp.abs(matrix))
    largest = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(matrix / largest)), 1))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def trace_of_square_root(matrix: jax.Array, iterations: int) -> jax.Array:
    """The trace of the square root of a matrix.

    Its derivative is half the inverse of the root, by as many iterations: the solution of the
    Lyapunov equation of Lin & Maji, where all matrices are polynomials of the root and commute.
    No derivative goes through the iterations, nor through differences of eigenvalues. Small
    eigenvalues count for less in it than they should, which is what keeps it stable.

    Args:
        matrix: `(c, c)`, symmetric and positive semidefinite.
        iterations: see `square_root`; static.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype, or fewer iterations than 1.
    """
    return jnp.trace(square_root(matrix, iterations=iterations))


@trace_of_square_root.defjvp
def _trace_of_square_root_jvp(
    iterations: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (matrix,), (tangent,) = primals, tangents
    root = square_root(matrix, iterations=iterations)
    identity = jnp.eye(root.shape[-1], dtype=root.dtype)
    norm = _frobenius_norm(root)

    def iterate(_: int, both: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        sign, inverse = both
        correction = 1.5 * identity - 0.5 * _matmul(sign, sign)
        return _matmul(sign, correction), _matmul(inverse, correction)

    _, inverse = jax.lax.fori_loop(0, iterations, iterate, (root / norm, identity / norm))
    return jnp.trace(root), 0.5 * jnp.sum(inverse * tangent.astype(root.dtype))


def covariance_distance(
    covariance: jax.Array, target: jax.Array, target_root: jax.Array, *, iterations: int = 12
) -> jax.Array:
    """The part of the squared Wasserstein-2 distance of two Gaussians that has the covariances.

    Olkin & Pukelsheim, "The distance between two random vectors with given dispersion matrices",
    Linear Algebra and its Applications 48, 1982.

    Args:
        covariance: `(c, c)`.
        target: `(c, c)`.
        target_root: `(c, c)`, the square root of `target`.
        iterations: of the Newton-Schulz iteration, see `square_root`.

    Returns:
        `()`, `tr(K + A - 2 (A^1/2 K A^1/2)^1/2)`.

    Raises:
        ValueError: for a wrong shape or dtype, or fewer iterations than 1.
    """
    covariance, target = _matrix(covariance, "covariance"), _matrix(target, "target")
    target_root = _matrix(target_root, "target_root")
    if not covariance.shape == target.shape == target_root.shape:
        raise ValueError(
            f"covariance, target and target_root have shapes {covariance.shape}, {target.shape} "
            f"and {target_root.shape}: they must be the same"
        )
    product = _matmul(_matmul(target_root, covariance), target_root)
    cross = trace_of_square_root(0.5 * (product + product.T), iterations)
    return jnp.trace(covariance) + jnp.trace(target) - 2 * cross


def scaled_squared_error(x: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error over absolute error, whose gradient has an L1 norm of about 1.

    Crowson, style-transfer-pytorch.

    Args:
        x: any shape.
        target: any shape, that of `x`.

    Returns:
        `()`, `sum (x - t)^2 / (sum |x - t| + 1e-8)`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    difference = _difference(x, target, "x", None)
    return scaled_ratio(jnp.sum(jnp.square(difference)), jnp.sum(jnp.abs(difference)))


def scaled_ratio(square: jax.Array, absolute: jax.Array) -> jax.Array:
    """`scaled_squared_error` of sums.

    Args:
        square: `()`, the sum of squares.
        absolute: `()`, the sum of absolute values.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    square, absolute = as_array(square, "square", ()), as_array(absolute, "absolute", ())
    dtype = sum_dtype(square, absolute)
    return square.astype(dtype) / (absolute.astype(dtype) + 1e-8)


def absolute_error_sum(
    features: jax.Array, target: jax.Array, *, weight: jax.Array | None = None
) -> jax.Array:
    """Returns the weighted sum over positions of `|f - p|`, L1.

    Args:
        features: `(h, w, c)`.
        target: `(h, w, c)`.
        weight: `(h, w)`; by default all ones.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    absolute = jnp.abs(_difference(features, target, "features", _MAPS))
    return jnp.sum(_weighted(absolute, weight))


def _check_size(size: int, features: jax.Array) -> None:
    if not 1 <= as_integer(size, "size") <= min(features.shape[:2]):
        raise ValueError(f"size must be from 1 to h and w, not {size} for {features.shape}")


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
    features = as_array(features, "features", _MAPS)
    _check_size(size, features)
    height, width = (extent - size + 1 for extent in features.shape[:2])
    shifted = [features[i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1)


def nearest_patches(
    features: jax.Array, style_patches: jax.Array, allowed: jax.Array, *, size: int = 3
) -> jax.Array:
    """Finds the most similar patch of the style for each patch of the image.

    Li & Wand, "Combining Markov Random Fields and Convolutional Neural Networks for Image
    Synthesis", CVPR 2016, eq. 3: the largest normalised cross-correlation. (A convolution with the
    style's patches as kernels, row by row, so that only a row of correlations is ever held.)

    Args:
        features: `(h, w, c)`.
        style_patches: `(K, size^2 c)`.
        allowed: `(K,)`, which of them may be taken.
        size: of the patches, in positions.

    Returns:
        `(h - size + 1, w - size + 1)` indices into `style_patches`. Their derivative is zero.

    Raises:
        ValueError: for a wrong shape or dtype, or a size that does not fit.
    """
    features = jax.lax.stop_gradient(as_array(features, "features", _MAPS))
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
        # The largest product by far, so of the caller's precision: bfloat16 operands change one
        # index in 200, to a patch whose correlation is less by 5e-4 at most.
        products = jnp.matmul(patches(strip, size=size)[0], kernels, preferred_element_type=dtype)
        # Not infinity, which `jax_debug_infs` would stop at.
        return jnp.argmax(jnp.where(allowed, products / norms, jnp.finfo(dtype).min), axis=1)

    return jax.lax.map(row, jnp.arange(features.shape[0] - size + 1))


def normalize_gradient(x: jax.Array, strength: jax.Array) -> jax.Array:
    """Returns `x`; backwards, a gradient `strength * g` becomes `strength * g / (|g|_1 + 1e-8)`.

    The `normalize_gradients` of jcjohnson/neural-style, where each loss's gradient by its own
    layer's features has an L1 norm of its weight. The norm is taken in float32 or better; but a
    gradient in float16 must itself stay within 65504, so make `x` float32 before.

    Args:
        x: any shape.
        strength: `()`, the weight that the gradient comes with.

    Returns:
        `x`, of any shape.

    Raises:
        ValueError: for a strength that is no number, or a wrong dtype.
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
