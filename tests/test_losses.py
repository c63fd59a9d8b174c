"""Losses against plain NumPy, their derivatives, and their behaviour under jit and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

import jaxstyle
from jaxstyle import losses

RNG = np.random.default_rng(1)
F = RNG.normal(size=(5, 7, 4))
P = RNG.normal(size=(5, 7, 4))
WEIGHT = RNG.uniform(size=(5, 7))


def numpy_gram(f):
    flat = f.reshape(-1, f.shape[-1])
    return sum(np.outer(row, row) for row in flat) / len(flat)


def numpy_total_variation(x, power, weight=None):
    total = 0.0
    height, width, channels = x.shape
    for i in range(height - 1):
        for j in range(width - 1):
            for c in range(channels):
                dx, dy = x[i, j + 1, c] - x[i, j, c], x[i + 1, j, c] - x[i, j, c]
                total += (dx**2 + dy**2) ** power * (1 if weight is None else weight[i, j])
    return total


def numpy_root(a):
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def numpy_nine_point(x):
    """All pairs of neighbours: (sum along the axes, sum along the diagonals, squares)."""
    height, width, _ = x.shape
    at = lambda i, j: x[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]  # noqa: E731
    pixels = [(i, j) for i in range(height) for j in range(width)]
    corners = [(i, j) for i in range(-1, height) for j in range(-1, width)]
    axes = sum(
        np.sum((at(i, j + 1) - at(i, j)) ** 2 + (at(i + 1, j) - at(i, j)) ** 2) for i, j in pixels
    )
    diagonals = sum(
        np.sum((at(i + 1, j + 1) - at(i, j)) ** 2 + (at(i + 1, j) - at(i, j + 1)) ** 2)
        for i, j in corners
    )
    return np.array([axes, diagonals, len(corners)])


def matting_laplacian(content, epsilon):
    """Levin, Lischinski & Weiss 2008, eq. 12, entry by entry."""
    height, width, channels = content.shape
    index = np.arange(height * width).reshape(height, width)
    matrix = np.zeros((height * width, height * width))
    for i in range(height - 2):
        for j in range(width - 2):
            window = content[i : i + 3, j : j + 3].reshape(9, channels)
            centered = window - window.mean(0)
            covariance = centered.T @ centered / 9 + epsilon / 9 * np.eye(channels)
            shares = (1 + centered @ np.linalg.solve(covariance, centered.T)) / 9
            own = index[i : i + 3, j : j + 3].ravel()
            matrix[np.ix_(own, own)] += np.eye(9) - shares
    return matrix


def numpy_local_affine(image, content, epsilon=1e-7):
    flat = image.reshape(-1, image.shape[2])
    return np.sum(flat * (matting_laplacian(content, epsilon) @ flat))


def numpy_nearest_loss(x, s):
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(s, axis=1)[None]
    return np.mean(np.min(1 - x @ s.T / norms, axis=1))


GRAM, TARGET_GRAM = numpy_gram(F), numpy_gram(P)
FACTORS = [RNG.normal(size=(4, 4)) for _ in range(2)]


def covariance(factor):
    return factor @ factor.T + np.eye(4, dtype=factor.dtype)


COVARIANCES = [covariance(each) for each in FACTORS]
ROOTS = [numpy_root(each) for each in COVARIANCES]
# Rows of features at drawn positions, and colors.
ROWS, STYLE_ROWS = RNG.normal(size=(9, 4)), RNG.normal(size=(14, 4))
COLORS, STYLE_COLORS = RNG.uniform(0.1, 1, (9, 3)), RNG.uniform(0.1, 1, (14, 3))
DIRECTIONS = RNG.normal(size=(4, 6))
CASES = {
    "self_similarity_loss": (
        losses.self_similarity_loss,
        (ROWS, STYLE_ROWS[:9]),
        reference.self_similarity(ROWS, STYLE_ROWS[:9]),
    ),
    "relaxed_emd": (
        losses.relaxed_emd,
        (ROWS, STYLE_ROWS),
        reference.relaxed_emd(reference.cosine_distances(ROWS, STYLE_ROWS)),
    ),
    "relaxed_emd_from_the_style": (
        losses.relaxed_emd,
        (ROWS[:2], STYLE_ROWS),
        reference.relaxed_emd(reference.cosine_distances(ROWS[:2], STYLE_ROWS)),
    ),
    "palette_emd": (
        losses.palette_emd,
        (COLORS, STYLE_COLORS),
        reference.relaxed_emd(reference.palette_distances(COLORS, STYLE_COLORS)),
    ),
    "moment_loss": (
        lambda x, y: losses.moment_loss(x, *losses.row_moments(y)),
        (ROWS, STYLE_ROWS),
        reference.moments_of_rows(ROWS, STYLE_ROWS),
    ),
    "sliced_wasserstein": (
        lambda x, y, v: losses.sliced_wasserstein(x, y, directions=v),
        (ROWS, STYLE_ROWS, DIRECTIONS),
        reference.sliced_wasserstein(ROWS, STYLE_ROWS, DIRECTIONS),
    ),
    "sliced_wasserstein_of_axes": (
        losses.sliced_wasserstein,
        (STYLE_ROWS, ROWS),
        reference.sliced_wasserstein(STYLE_ROWS, ROWS, np.eye(4)),
    ),
    "gram_matrix": (jaxstyle.gram_matrix, (F,), GRAM),
    "gram_sum": (
        lambda f, w: losses.gram_sum(f, weight=w),
        (F, WEIGHT),
        np.einsum("hwi,hwj,hw->ij", F, F, WEIGHT),
    ),
    "content_loss": (jaxstyle.content_loss, (F, P), 0.5 * np.sum((F - P) ** 2)),
    "squared_error_sum": (
        lambda f, p, w: losses.squared_error_sum(f, p, weight=w),
        (F, P, WEIGHT),
        np.sum((F - P) ** 2 * WEIGHT[..., None]),
    ),
    "style_loss": (
        jaxstyle.style_loss,
        (GRAM, TARGET_GRAM),
        np.sum((GRAM - TARGET_GRAM) ** 2) / (4 * 4**2),
    ),
    "total_variation": (jaxstyle.total_variation, (F,), numpy_total_variation(F, 1)),
    "total_variation_keras": (
        lambda x: jaxstyle.total_variation(x, power=1.25),
        (F,),
        numpy_total_variation(F, 1.25),
    ),
    "total_variation_isotropic": (
        lambda x, w: losses.total_variation_sum(x, weight=w, power=0.5),
        (F, WEIGHT),
        numpy_total_variation(F, 0.5, WEIGHT),
    ),
    "nine_point_variation_sums": (
        lambda x: jnp.stack(losses.nine_point_variation_sums(x)),
        (F,),
        numpy_nine_point(F),
    ),
    "local_affine_sum": (
        losses.local_affine_sum,
        (F[..., :1], P[..., :2]),
        numpy_local_affine(F[..., :1], P[..., :2]),
    ),
    "moment_sums": (
        lambda f, w: losses.moment_sums(f, weight=w)[0],
        (F, WEIGHT),
        np.einsum("hwc,hw->c", F, WEIGHT),
    ),
    "square_root": (
        lambda a: losses.square_root(covariance(a), iterations=20),
        FACTORS[:1],
        ROOTS[0],
    ),
    "trace_of_square_root": (
        lambda a: losses.trace_of_square_root(covariance(a), 20),
        FACTORS[:1],
        np.trace(ROOTS[0]),
    ),
    "covariance_distance": (
        lambda a, b: losses.covariance_distance(
            covariance(a),
            covariance(b),
            losses.square_root(covariance(b), iterations=20),
            iterations=25,
        ),
        FACTORS,
        np.trace(sum(COVARIANCES)) - 2 * np.trace(numpy_root(ROOTS[1] @ COVARIANCES[0] @ ROOTS[1])),
    ),
    "scaled_squared_error": (
        losses.scaled_squared_error,
        (F, P),
        np.sum((F - P) ** 2) / (np.sum(np.abs(F - P)) + 1e-8),
    ),
    "absolute_error_sum": (
        lambda f, p, w: losses.absolute_error_sum(f, p, weight=w),
        (F, P, WEIGHT),
        np.sum(np.abs(F - P) * WEIGHT[..., None]),
    ),
    "patches": (
        losses.patches,
        (F,),
        np.stack([[F[i : i + 3, j : j + 3].ravel() for j in range(5)] for i in range(3)]),
    ),
    "nearest_loss": (losses.nearest_loss, (F[0], P[1]), numpy_nearest_loss(F[0], P[1])),
    "cosine_distances": (
        losses.cosine_distances,
        (F[0], P[0]),
        np.array([numpy_nearest_loss(F[0, i : i + 1], P[0, i : i + 1]) for i in range(7)]),
    ),
    "median_filter": (
        lambda x: jaxstyle.median_filter(x, size=3),
        (F,),
        np.stack(
            [
                np.median(
                    [
                        np.pad(F[..., c], 1, mode="edge")[i : i + 5, j : j + 7]
                        for i in range(3)
                        for j in range(3)
                    ],
                    axis=0,
                )
                for c in range(4)
            ],
            -1,
        ),
    ),
}


def rounding(dtype):
    """Bounds the relative error of a sum of as many terms of one sign as F has, in any order."""
    return F.size * float(jnp.finfo(dtype).eps) / 2


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_numpy(name, dtype):
    fun, arguments, expected = CASES[name]
    with jax.enable_x64(dtype == "float64"):
        arguments = [jnp.asarray(a, dtype) for a in arguments]
        value = fun(*arguments)
        assert value.dtype == dtype
        # Relative to the largest element: the small ones of a Gram matrix are sums that cancel.
        close = {"rtol": 0, "atol": rounding(dtype) * np.abs(expected).max()}
        np.testing.assert_allclose(value, expected, **close)
        np.testing.assert_allclose(jax.jit(fun)(*arguments), value, **close)
        batch = [np.stack([a, 2 * a, a - 1]) for a in map(np.asarray, arguments)]
        each = np.stack([fun(*[b[i] for b in batch]) for i in range(3)])
        close["atol"] *= np.abs(each).max() / np.abs(expected).max()
        np.testing.assert_allclose(jax.jit(jax.vmap(fun))(*batch), each, **close)


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    fun, arguments, _ = CASES[name]
    with jax.enable_x64(True):
        check_grads(jax.jit(fun), [jnp.asarray(a) for a in arguments], order=2, eps=1e-5)


@pytest.mark.parametrize("power", [0.5, 0.75, 1.0, 1.25])
def test_total_variation_of_a_flat_image_has_a_zero_gradient(power):
    fun = lambda x: jaxstyle.total_variation(x, power=power)  # noqa: E731
    value, grad = jax.value_and_grad(fun)(jnp.full((6, 6, 3), 0.3))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


def test_sums_over_parts_add_up():
    """What tiling and masks rest on: weights that share out the positions share out the sums."""
    part = (RNG.uniform(size=(5, 7)) > 0.5).astype(np.float64)
    with jax.enable_x64(True):  # for sums that cancel
        _check_that_sums_add_up(jnp.asarray(F), jnp.asarray(P), part)


def _check_that_sums_add_up(f, p, part):
    for fun in (
        lambda w: losses.gram_sum(f, weight=w),
        lambda w: losses.squared_error_sum(f, p, weight=w),
        lambda w: losses.total_variation_sum(f, weight=w, power=0.5),
        lambda w: losses.absolute_error_sum(f, p, weight=w),
        lambda w: losses.local_affine_sum(f, p, weight=w),
        lambda w: losses.moment_sums(f, weight=w)[0],
        lambda w: jnp.stack(losses.nine_point_variation_sums(f, weight=w)),
    ):
        np.testing.assert_allclose(fun(part) + fun(1 - part), fun(None), rtol=1e-9)


def _photo(dtype, gray=False):
    """A picture with an edge, a flat sky of 8-bit steps and noise; gray is the worst condition."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:12, :14]
    base = np.where(y > 5 + 0.3 * x, 0.2, 0.8)[..., None] + 0.02 * rng.normal(size=(12, 14, 3))
    base[:4] = 0.7 + np.array([0, 1, 2]) / 255 * (x[:4] > 6)[..., None]
    base = np.repeat(base[..., :1], 3, 2) if gray else base
    return np.clip(base, 0, 1).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gray", [False, True], ids=["color", "gray"])
def test_local_affine_distance_is_the_matting_laplacian(dtype, gray):
    """Value and gradient, against the matrix itself.

    In float32 the orthonormal columns are off by the rounding of X / sqrt(epsilon), in norm at most
    sqrt(2.25 / epsilon) = 5e3 units; an error in `a` counts squared in the value.
    """
    content = _photo("float32", gray)
    image = np.random.default_rng(8).uniform(size=content.shape).astype("float32")
    matrix = matting_laplacian(content.astype(np.float64), 1e-7)
    flat = image.astype(np.float64).reshape(-1, 3)
    gradient = 2 * matrix @ flat
    with jax.enable_x64(dtype == "float64"):
        value, found = jax.jit(jax.value_and_grad(losses.local_affine_sum))(
            jnp.asarray(image, dtype), jnp.asarray(content, dtype)
        )
    condition = 1 if dtype == "float64" else np.sqrt(2.25 / 1e-7)
    unit = 1e-10 if dtype == "float64" else 2.0**-24
    np.testing.assert_allclose(value, np.sum(flat * gradient) / 2, rtol=32 * unit)
    bound = condition * unit * np.abs(gradient).max()
    np.testing.assert_allclose(np.reshape(found, (-1, 3)), gradient, rtol=0, atol=bound)


def test_affine_functions_of_the_content_cost_only_epsilon():
    content = _photo("float64")
    mixing = np.array([[0.5, 0.2, -0.1], [0.3, 0.9, 0.1], [-0.2, 0.1, 1.2]])
    with jax.enable_x64(True):
        value = float(losses.local_affine_sum(content @ mixing + 0.1, content))
    assert 0 <= value <= 10 * 12 * 1e-7 * np.sum(mixing**2)  # 10 x 12 windows


def test_the_relaxed_earth_mover_follows_the_larger_mean_only():
    """Its derivative is that of all distances, through the nearest pairs of this mean."""

    def means(x, y):
        x, y = (each / jnp.linalg.norm(each, axis=1, keepdims=True) for each in (x, y))
        distances = 1 - jnp.matmul(x, y.T, precision="highest")
        return jnp.stack([jnp.mean(jnp.min(distances, axis)) for axis in (1, 0)])

    with jax.enable_x64(True):
        x, y = jnp.asarray(ROWS), jnp.asarray(STYLE_ROWS)
        for own, other, larger in ((x, y[:2], 0), (x[:2], y, 1)):
            both, of_both = jax.jit(lambda x, y: (means(x, y), jax.jacobian(means)(x, y)))(
                own, other
            )
            assert both[larger] > both[1 - larger]
            found = jax.jit(jax.grad(losses.relaxed_emd))(own, other)
            np.testing.assert_allclose(found, of_both[larger], rtol=1e-12, atol=1e-12)


def test_nothing_of_all_pairs_is_kept_for_the_derivative():
    x, y = jax.ShapeDtypeStruct((67, 3), "float32"), jax.ShapeDtypeStruct((83, 3), "float32")
    for loss in (losses.relaxed_emd, losses.palette_emd):
        kept = jax.eval_shape(lambda x, y, loss=loss: jax.vjp(loss, x, y)[1], x, y)
        shapes = {leaf.shape for leaf in jax.tree.leaves(kept)}
        assert (67, 3) in shapes
        assert max(map(np.prod, shapes)) < 67 * 83


def test_rows_without_a_direction_have_finite_losses():
    """Rows that are all alike, whose self-similarity is nothing but rounding, and rows of zeros."""
    plain, alike, black = jnp.asarray(ROWS, jnp.float32), jnp.full((9, 4), 0.3), jnp.zeros((9, 4))
    pairs = ((plain, alike), (alike, plain), (alike, alike))
    pairs += ((plain, black), (black, plain), (black, black))

    def both_of_all(x, y):
        return [
            jax.value_and_grad(loss)(x, y)
            for loss in (
                losses.self_similarity_loss,
                losses.relaxed_emd,
                losses.palette_emd,
                losses.sliced_wasserstein,
                lambda x, y: losses.moment_loss(x, *losses.row_moments(y)),
            )
        ]

    for value, grad in jax.jit(jax.vmap(both_of_all))(*map(jnp.stack, zip(*pairs, strict=True))):
        assert np.isfinite(value).all()
        assert np.abs(grad).max() < 100


def test_bfloat16_features_are_summed_in_float32():
    f = jnp.asarray(RNG.normal(size=(16, 16, 8)), jnp.bfloat16)
    exact = numpy_gram(np.asarray(f, np.float64))
    # What a sum of so many terms can be off in float32; in bfloat16 each term alone is off by more.
    relative = f.size * float(jnp.finfo(jnp.float32).eps) / 2
    gram = losses.gram_matrix(f)
    assert gram.dtype == jnp.float32
    np.testing.assert_allclose(gram, exact, rtol=0, atol=relative * exact.max())
    zero = jnp.zeros_like(f)
    loss = losses.content_loss(f, zero)
    np.testing.assert_allclose(loss, 0.5 * np.sum(np.asarray(f, np.float64) ** 2), rtol=relative)


@pytest.mark.parametrize(
    ("fun", "arguments", "message"),
    [
        (jaxstyle.gram_matrix, [(2, 3)], "h, w, c"),
        (jaxstyle.gram_matrix, [(1, 2, 3, 4)], "vmap"),
        (jaxstyle.content_loss, [(2, 3, 4), (2, 3, 5)], "shape"),
        (jaxstyle.style_loss, [(4, 4), (3, 3)], "shape"),
        (jaxstyle.total_variation, [(4, 4)], "H, W, c"),
        (jaxstyle.median_filter, [(4, 4)], "H, W, c"),
    ],
)
def test_wrong_shapes(fun, arguments, message):
    with pytest.raises(ValueError, match=message):
        fun(*[jnp.zeros(shape) for shape in arguments])


def test_nearest_patches_are_those_of_the_largest_normalised_correlation():
    f, style = jnp.asarray(F, jnp.float32), jnp.asarray(P, jnp.float32)
    candidates = losses.patches(style).reshape(-1, 36)
    allowed = jnp.arange(len(candidates)) != 3
    found = losses.nearest_patches(f, candidates, allowed)
    for i in range(3):
        for j in range(5):
            own = F[i : i + 3, j : j + 3].ravel()
            correlation = [
                own @ np.asarray(c) / np.linalg.norm(c) if ok else -np.inf
                for c, ok in zip(candidates, allowed, strict=True)
            ]
            assert int(found[i, j]) == int(np.argmax(correlation))
    everywhere = jnp.ones(len(candidates), bool)
    own = losses.nearest_patches(style, candidates, everywhere)
    np.testing.assert_array_equal(own.ravel(), np.arange(len(candidates)))


def test_square_root_of_singular_and_tiny_matrices_are_finite():
    for matrix in (
        np.zeros((3, 3)),
        np.diag([1.0, 0, 0]),
        1e-30 * np.eye(3),
        np.diag([1, 0, -1e-7]),
    ):
        assert np.isfinite(losses.square_root(jnp.asarray(matrix, jnp.float32))).all()
        grad = jax.grad(lambda x: losses.trace_of_square_root(x, 12))(jnp.float32(matrix))
        assert np.isfinite(grad).all()


def test_normalized_gradients_have_their_strength_for_a_norm():
    x = jnp.asarray(F, jnp.float32)
    fun = lambda x, s: s * jnp.sum(losses.normalize_gradient(x, s) ** 2)  # noqa: E731
    for strength in (0.0, 1e-3, 50.0):
        value, grad = jax.value_and_grad(fun)(x, strength)
        np.testing.assert_allclose(value, strength * np.sum(F**2), rtol=1e-5)
        expected = strength * 2 * F / np.sum(np.abs(2 * F))
        np.testing.assert_allclose(grad, expected, rtol=1e-5)


HALF = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


@HALF
def test_nearest_patches_in_half_precision_have_the_largest_correlation(dtype):
    """Whole numbers up to 200: exact in either dtype, as their products are in float32."""
    rng = np.random.default_rng(3)
    f, style = (rng.integers(0, 200, (6, 7, 4)).astype(np.float64) for _ in range(2))
    candidates = np.stack([style[i : i + 3, j : j + 3].ravel() for i in range(4) for j in range(5)])
    found = losses.nearest_patches(
        jnp.asarray(f, dtype), jnp.asarray(candidates, dtype), jnp.ones(len(candidates), bool)
    )
    unit = candidates / np.linalg.norm(candidates, axis=1, keepdims=True)
    assert np.linalg.norm(candidates, axis=1).max() ** 2 > 65504  # what float16 ends at
    for i in range(4):
        for j in range(5):
            correlation = unit @ f[i : i + 3, j : j + 3].ravel()
            # A division and a square root in float32.
            assert correlation[found[i, j]] >= correlation.max() * (1 - 4 * 2**-24)


@HALF
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_normalized_gradients_of_half_precision_have_their_strength(dtype, scale):
    g = jnp.asarray(np.random.default_rng(4).normal(size=(64, 64, 8)), jnp.float32)
    assert scale < 1 or jnp.sum(jnp.abs(scale * g)) > 65504 / 4

    def fun(x):
        return jnp.sum(losses.normalize_gradient(x, 2.0).astype(jnp.float32) * scale * g)

    grad = jax.grad(fun)(g.astype(dtype))
    assert grad.dtype == dtype
    # Each element is rounded to 8 bits twice, or in float16 to a multiple of 2^-24.
    bound = 2 * 2 * 2**-8 + g.size * 2**-25
    assert abs(float(jnp.sum(jnp.abs(grad.astype(jnp.float32)))) - 2) < bound


@HALF
def test_weights_are_not_rounded_to_the_dtype_of_the_features(dtype):
    f = jnp.asarray(RNG.normal(size=(20, 20, 8)), dtype)
    weight = jnp.full((20, 20), 0.3)
    for fun in (
        lambda w: losses.gram_sum(f, weight=w),
        lambda w: losses.moment_sums(f, weight=w)[0],
        lambda w: losses.squared_error_sum(f, f[::-1], weight=w),
        lambda w: losses.absolute_error_sum(f, f[::-1], weight=w),
        lambda w: losses.total_variation_sum(f, weight=w),
    ):
        whole = np.asarray(fun(None))
        assert whole.dtype == np.float32
        # The sums cancel: relative to the largest.
        bound = 400 * 2**-24 * np.abs(whole).max()
        np.testing.assert_allclose(fun(weight), 0.3 * whole, rtol=0, atol=bound)


@HALF
def test_differences_of_half_precision_are_not_rounded(dtype):
    f, p = (jnp.asarray(RNG.uniform(1, 30, (8, 8, 4)), dtype) for _ in range(2))
    exact = np.asarray(f, np.float64) - np.asarray(p, np.float64)
    np.testing.assert_allclose(losses.content_loss(f, p), 0.5 * np.sum(exact**2), rtol=1e-5)
    scaled = losses.scaled_squared_error(f, p)
    np.testing.assert_allclose(scaled, np.sum(exact**2) / np.sum(np.abs(exact)), rtol=1e-5)


MATRIX_PRODUCTS = {
    "gram_matrix": (losses.gram_matrix, (F,)),
    "gram_sum": (lambda f, w: losses.gram_sum(f, weight=w), (F, WEIGHT)),
    "moment_sums": (lambda f: losses.moment_sums(f)[1], (F,)),
    "square_root": (losses.square_root, COVARIANCES[:1]),
    "covariance_distance": (losses.covariance_distance, (*COVARIANCES, ROOTS[1])),
    "row_moments": (lambda x: losses.row_moments(x)[1], (ROWS,)),
    "self_similarity_loss": (losses.self_similarity_loss, (ROWS, ROWS[::-1])),
    "sliced_wasserstein": (
        lambda x, y, v: losses.sliced_wasserstein(x, y, directions=v),
        (ROWS, STYLE_ROWS, DIRECTIONS),
    ),
}


@pytest.mark.parametrize("name", MATRIX_PRODUCTS)
def test_products_have_full_precision_whatever_the_default(name):
    fun, arguments = MATRIX_PRODUCTS[name]
    both = jax.jit(jax.value_and_grad(lambda *each: jnp.sum(fun(*each))))
    with jax.default_matmul_precision("bfloat16"):
        text = both.lower(*[jnp.asarray(each, jnp.float32) for each in arguments]).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) >= 2  # forwards and backwards
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_weights_do_not_decide_the_dtype():
    with jax.enable_x64(True):
        f, p = jnp.asarray(F, jnp.float32), jnp.asarray(P, jnp.float32)
        weight = np.asarray(WEIGHT, np.float64)
        for value in (
            losses.gram_sum(f, weight=weight),
            losses.squared_error_sum(f, p, weight=weight),
            losses.total_variation_sum(f, weight=weight, power=np.float64(0.5)),
            losses.nine_point_variation_sums(f, weight=weight)[1],
            losses.normalize_gradient(f, np.float64(2)),
        ):
            assert value.dtype == jnp.float32


MAPS, SQUARE = jnp.ones((5, 7, 4)), jnp.eye(4)
WRONG = {
    "features for Gram matrices": (lambda: losses.style_loss(MAPS, MAPS), "call gram_matrix"),
    "features for one": (lambda: losses.style_loss(SQUARE, MAPS), "call gram_matrix"),
    "not square": (lambda: losses.style_loss(MAPS[0], MAPS[0]), r"\(c, c\)"),
    "batched": (lambda: losses.content_loss(MAPS[None], MAPS[None]), "vmap"),
    "batched errors": (lambda: losses.absolute_error_sum(MAPS[None], MAPS[None]), "vmap"),
    "batched roots": (lambda: losses.square_root(SQUARE[None]), "vmap"),
    "batched variation": (lambda: losses.nine_point_variation_sums(MAPS[None]), "vmap"),
    "integers": (lambda: losses.content_loss(MAPS.astype("uint8"), MAPS), "floating point"),
    "integer target": (lambda: losses.content_loss(MAPS, MAPS.astype("int32")), "floating point"),
    "integer Gram": (lambda: losses.gram_matrix(MAPS.astype("uint8")), "floating point"),
    "integer image": (lambda: losses.total_variation(MAPS.astype("uint8")), "floating point"),
    "complex": (lambda: losses.gram_matrix(MAPS.astype("complex64")), "floating point"),
    "complex errors": (lambda: losses.scaled_squared_error(MAPS * 1j, MAPS), "floating point"),
    "list": (lambda: losses.content_loss([1.0, 2.0], [1.0, 3.0]), r"\(h, w, c\)"),
    "nothing": (lambda: losses.gram_matrix(None), r"\(h, w, c\)"),
    "empty": (lambda: losses.gram_matrix(MAPS[:0]), "empty"),
    "weight per column": (lambda: losses.gram_sum(MAPS, weight=jnp.ones((1, 7))), r"\(5, 7\)"),
    "weight per channel": (lambda: losses.squared_error_sum(MAPS, MAPS, weight=MAPS), "weight"),
    "complex weight": (lambda: losses.gram_sum(MAPS, weight=1j * MAPS[..., 0]), "real"),
    "power": (lambda: losses.total_variation(MAPS, power=0), "positive"),
    "array for power": (lambda: losses.total_variation(MAPS, power=jnp.ones(())), "array"),
    "iterations": (lambda: losses.square_root(SQUARE, iterations=0), "at least 1"),
    "fractional iterations": (lambda: losses.square_root(SQUARE, iterations=1.5), "whole"),
    "unequal covariances": (
        lambda: losses.covariance_distance(SQUARE, jnp.eye(3), SQUARE),
        "the same",
    ),
    "epsilon": (lambda: losses.local_affine_sum(MAPS, MAPS, epsilon=0), "positive"),
    "content of another size": (lambda: losses.local_affine_sum(MAPS, MAPS[1:]), "the content has"),
    "no window": (lambda: losses.local_affine_sum(MAPS[:2], MAPS[:2]), "from 1 to h and w"),
    "sums": (lambda: losses.scaled_ratio(MAPS[0, 0], MAPS[0, 0]), r"\(\)"),
    "large patches": (lambda: losses.patches(MAPS, size=6), "from 1 to h and w"),
    "patches of another width": (
        lambda: losses.nearest_patches(MAPS, jnp.ones((3, 35)), jnp.ones(3, bool)),
        r"\(K, 36\)",
    ),
    "allowed": (
        lambda: losses.nearest_patches(MAPS, jnp.ones((3, 36)), jnp.ones(4, bool)),
        "allowed",
    ),
    "style rows of another width": (
        lambda: losses.nearest_loss(SQUARE, MAPS[0, :, :3]),
        r"\(M, 4\)",
    ),
    "maps for own rows": (lambda: losses.nearest_rows(MAPS, SQUARE), r"\(N, c\)"),
    "rows to choose from": (
        lambda: losses.nearest_rows(SQUARE, SQUARE, allowed=jnp.ones(3, bool)),
        "allowed",
    ),
    "unequal rows": (lambda: losses.cosine_distances(MAPS[0], SQUARE), "7 rows, but 4"),
    "rows of another width": (lambda: losses.relaxed_emd(SQUARE, SQUARE[:, :3]), r"\(M, 4\)"),
    "maps for rows": (lambda: losses.palette_emd(MAPS, MAPS), r"\(N, c\)"),
    "rows of other positions": (
        lambda: losses.self_similarity_loss(SQUARE, SQUARE[:3]),
        r"\(4, k\)",
    ),
    "directions": (
        lambda: losses.sliced_wasserstein(SQUARE, SQUARE, directions=SQUARE[:3]),
        r"\(4, K\)",
    ),
    "moments of another width": (
        lambda: losses.moment_loss(SQUARE, jnp.ones(3), SQUARE),
        "shape",
    ),
    "integer rows": (lambda: losses.row_moments(jnp.ones((3, 2), int)), "floating point"),
    "integer features": (lambda: losses.normalize_gradient(jnp.arange(3), 1.0), "floating point"),
    "strength": (lambda: losses.normalize_gradient(MAPS, jnp.ones(2)), "strength"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_name_what_is_expected(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(ValueError, match=message):
        jax.jit(call)()
