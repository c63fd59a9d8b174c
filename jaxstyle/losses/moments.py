"""Means and covariances of features, square roots of matrices, and a distance of Gaussians."""

import functools

import jax
import jax.numpy as jnp

from jaxstyle.checks import as_array, as_integer, sum_dtype
from jaxstyle.losses.arguments import MAPS, MATRIX, ROWS, as_matrix, difference_of, matmul, weighted
from jaxstyle.losses.gram import gram_sum, self_product


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
    features = as_array(features, "features", MAPS)
    wide = features.astype(sum_dtype(features))
    return jnp.sum(weighted(wide, weight), (0, 1)), gram_sum(features, weight=weight)


def row_moments(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the covariance of rows: features at drawn positions.

    Args:
        rows: `(N, c)`.

    Returns:
        `(c,)` and `(c, c)`, the covariance over N.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    rows = as_array(rows, "rows", ROWS)
    rows = rows.astype(sum_dtype(rows))
    mean = jnp.mean(rows, 0)
    return mean, self_product(rows - mean) / len(rows)


def moment_loss(rows: jax.Array, mean: jax.Array, covariance: jax.Array) -> jax.Array:
    """Mean absolute differences of the mean and of the covariance of rows.

    Kolkin, Salavon & Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and
    Self-Similarity", CVPR 2019, eq. 7; with means over the elements, as in the authors' program.

    Args:
        rows: `(N, c)` of the image.
        mean: `(c,)` of the style, from `row_moments`.
        covariance: `(c, c)` of the style.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype.
    """
    own_mean, own_covariance = row_moments(rows)
    of_mean = difference_of(own_mean, mean, "the mean of rows", ("c",))
    of_covariance = difference_of(own_covariance, covariance, "the covariance of rows", MATRIX)
    return jnp.mean(jnp.abs(of_mean)) + jnp.mean(jnp.abs(of_covariance))


def square_root(matrix: jax.Array, *, iterations: int = 12) -> jax.Array:
    """The square root of a matrix by coupled Newton-Schulz iterations.

    Higham, "Functions of Matrices", 2008, eq. 6.35; Lin & Maji, "Improved Bilinear Pooling with
    CNNs", BMVC 2017. It consists of matrix products only, which are fast on accelerators and in
    batches. Each iteration multiplies eigenvalues that are small relative to the Frobenius norm by
    1.5^2, so 12 iterations resolve those above about 1e-4 of it. Negative eigenvalues, which come
    from rounding, grow as fast: in float32 they may explode after more than 18 iterations.

    Args:
        matrix: `(c, c)`, symmetric and positive semidefinite.
        iterations: number of iterations, at least 1; static.

    Returns:
        `(c, c)`.

    Raises:
        ValueError: for a wrong shape or dtype, or fewer than 1 iteration.
    """
    if as_integer(iterations, "iterations") < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}")
    matrix = as_matrix(matrix, "matrix")
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    norm = _frobenius_norm(matrix)

    def iterate(_: int, roots: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        root, inverse = roots
        correction = 1.5 * identity - 0.5 * matmul(inverse, root)
        return matmul(root, correction), matmul(correction, inverse)

    root, _ = jax.lax.fori_loop(0, iterations, iterate, (matrix / norm, identity))
    return root * jnp.sqrt(norm)


def _frobenius_norm(matrix: jax.Array) -> jax.Array:
    """The Frobenius norm, also of tiny elements; 1 for a matrix of zeros."""
    largest = jnp.max(jnp.abs(matrix))
    largest = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(matrix / largest)), 1))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def trace_of_square_root(matrix: jax.Array, iterations: int) -> jax.Array:
    """The trace of the square root of a matrix.

    Its derivative is half the inverse of the root, computed with as many iterations. It is the
    solution of the Lyapunov equation of Lin & Maji, where all matrices are polynomials of the root
    and commute. So no derivative goes through the iterations or through differences of
    eigenvalues. Small eigenvalues contribute less than they should, which keeps it stable.

    Args:
        matrix: `(c, c)`, symmetric and positive semidefinite.
        iterations: see `square_root`; static.

    Returns:
        `()`.

    Raises:
        ValueError: for a wrong shape or dtype, or fewer than 1 iteration.
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
        correction = 1.5 * identity - 0.5 * matmul(sign, sign)
        return matmul(sign, correction), matmul(inverse, correction)

    _, inverse = jax.lax.fori_loop(0, iterations, iterate, (root / norm, identity / norm))
    return jnp.trace(root), 0.5 * jnp.sum(inverse * tangent.astype(root.dtype))


def covariance_distance(
    covariance: jax.Array, target: jax.Array, target_root: jax.Array, *, iterations: int = 12
) -> jax.Array:
    """The covariance part of the squared Wasserstein-2 distance of two Gaussians.

    Olkin & Pukelsheim, "The distance between two random vectors with given dispersion matrices",
    Linear Algebra and its Applications 48, 1982.

    Args:
        covariance: `(c, c)`.
        target: `(c, c)`.
        target_root: `(c, c)`, the square root of `target`.
        iterations: number of Newton-Schulz iterations, see `square_root`.

    Returns:
        `()`, `tr(K + A - 2 (A^1/2 K A^1/2)^1/2)`.

    Raises:
        ValueError: for a wrong shape or dtype, or fewer than 1 iteration.
    """
    covariance, target = as_matrix(covariance, "covariance"), as_matrix(target, "target")
    target_root = as_matrix(target_root, "target_root")
    if not covariance.shape == target.shape == target_root.shape:
        raise ValueError(
            f"covariance, target and target_root have shapes {covariance.shape}, {target.shape} "
            f"and {target_root.shape}: they must be the same"
        )
    product = matmul(matmul(target_root, covariance), target_root)
    cross = trace_of_square_root(0.5 * (product + product.T), iterations)
    return jnp.trace(covariance) + jnp.trace(target) - 2 * cross
