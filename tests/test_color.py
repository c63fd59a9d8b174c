"""Colours against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxstyle import VGG19
from jaxstyle.color import luminance_only, match_color, recolor
from jaxstyle.finishing import Colors, with_colors
from jaxstyle.problem import Problem
from jaxstyle.terms import GramStyle

YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)


def moments(image):
    flat = np.asarray(image, np.float64).reshape(-1, 3)
    return flat.mean(0), np.cov(flat.T, bias=True)


def test_what_weighs_nothing_has_no_color(pictures):
    """The palette is that of the parts that count, whatever is elsewhere."""
    style, content = pictures(0, 40, 30), pictures(1)
    weights = [np.zeros(image.shape[:2], np.float32) for image in (style, content)]
    weights[0][:, :20], weights[1][5:25] = 1, 0.5
    style = np.where(weights[0][..., None] > 0, style, 9)
    content = np.where(weights[1][..., None] > 0, content, 9)
    found = match_color(style, content, style_weight=weights[0], content_weight=weights[1])
    expected = match_color(style[:, :20], content[5:25])
    np.testing.assert_allclose(found[:, :20], expected, atol=1e-4)
    with pytest.raises(ValueError, match="weight"):
        match_color(style, content, style_weight=weights[1])


def test_luminance_of_the_image_and_chroma_of_the_content(pictures):
    image, content = pictures(0), pictures(1)
    found = np.asarray(jax.jit(luminance_only)(image, content), np.float64) @ YIQ.T
    np.testing.assert_allclose(found[..., 0], (image @ YIQ.T)[..., 0], atol=1e-5)
    np.testing.assert_allclose(found[..., 1:], (content @ YIQ.T)[..., 1:], atol=1e-5)
    with pytest.raises(ValueError, match="shape"):
        luminance_only(image, content[1:])


@pytest.mark.parametrize("method", ["pca", "cholesky"])
def test_the_style_gets_the_mean_and_covariance_of_the_content(method, pictures):
    styles = jnp.stack([pictures(i, 40, 30) for i in (0, 2)])
    contents = jnp.stack([0.3 * pictures(1), pictures(3) ** 3])
    found = jax.jit(jax.vmap(lambda s, c: match_color(s, c, method=method)))(styles, contents)
    for style, content, each in zip(styles, contents, found, strict=True):
        mean, covariance = moments(each)
        expected_mean, expected = moments(content)
        np.testing.assert_allclose(mean, expected_mean, atol=1e-4)
        np.testing.assert_allclose(covariance, expected, atol=1e-3 * np.abs(expected).max())
        np.testing.assert_allclose(match_color(style, content, method=method), each, atol=1e-4)


@pytest.mark.parametrize("method", ["pca", "cholesky"])
def test_flat_and_grey_pictures_are_no_trouble(method, pictures):
    flat = np.full((8, 8, 3), 0.4, np.float32)
    grey = np.repeat(pictures(0)[..., :1], 3, -1)
    for style, content in ((flat, pictures(0)), (pictures(0), flat), (grey, pictures(1))):
        found = match_color(style, content, method=method)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(moments(found)[0], moments(content)[0], atol=1e-3)


def test_mistakes(pictures):
    with pytest.raises(ValueError, match="pca, cholesky"):
        match_color(pictures(0), pictures(1), method="histogram")


@pytest.mark.parametrize("method", ["pca", "cholesky"])
def test_gradients_are_finite_for_grey_and_flat_pictures(method, pictures):
    """And those of two channels of equal variance, where eigenvalues coincide."""
    grey = np.repeat(pictures(0, 8, 8)[..., :1], 3, -1)
    flat = np.full((8, 8, 3), 0.5, np.float32)
    corners = np.zeros((8, 8, 3), np.float32)
    corners[4:, :, 0] = corners[:, 4:, 1] = 1
    value = lambda s, c: jnp.sum(match_color(s, c, method=method) ** 2)  # noqa: E731
    gradients = jax.jit(jax.grad(value, (0, 1)))
    for each in (grey, flat, corners):
        for pair in ((each, pictures(1, 8, 8)), (pictures(1, 8, 8), each), (each, each)):
            assert all(np.isfinite(grad).all() for grad in gradients(*pair))


@pytest.mark.parametrize("method", ["pca", "cholesky"])
def test_gradients_are_difference_quotients(method, pictures):
    with jax.enable_x64(True):
        both = [jnp.asarray(pictures(i, 6, 7), jnp.float64) for i in (0, 1)]
        value = jax.jit(lambda s, c: jnp.sum(match_color(s, c, method=method) ** 3))
        check_grads(value, both, order=1, eps=1e-5)


def test_sums_of_half_precision_are_float32(pictures):
    style, content = (jnp.asarray(pictures(i, 64, 64), jnp.bfloat16) for i in (0, 1))
    found = match_color(style, content)
    assert found.dtype == jnp.bfloat16
    # Pixels are rounded to 8 bits, which averages out.
    np.testing.assert_allclose(moments(found)[0], moments(content)[0], atol=1e-3)
    assert luminance_only(style, content).dtype == jnp.bfloat16


def test_products_have_full_precision(pictures):
    def both(s, c):
        return jnp.sum(luminance_only(match_color(s, c), c) ** 2)

    with jax.default_matmul_precision("bfloat16"):
        text = jax.jit(jax.grad(both)).lower(pictures(0), pictures(1)).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


@pytest.mark.parametrize("function", [luminance_only, match_color])
def test_wrong_arguments(function, pictures):
    picture = pictures(0)
    for wrong, message in (
        (picture[None], "vmap"),
        (picture[..., :2], "H, W, 3"),
        ((255 * picture).astype(np.uint8), "floating point"),
        (picture * 1j, "floating point"),
        (picture[:0], "empty"),
    ):
        for arguments in ((wrong, picture), (picture, wrong)):
            with pytest.raises(ValueError, match=message):
                function(*arguments)


LMS = np.array(
    [
        [0.4121656120, 0.5362752080, 0.0514575653],
        [0.2118591070, 0.6807189584, 0.1074065790],
        [0.0883097947, 0.2818474174, 0.6302613616],
    ]
)
LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def zca(flat, style, weight=None):
    """`flat` with the mean and covariance of `style`, by symmetric roots; `weight` is its own."""

    def root(x, power, weight=None):
        covariance = np.cov(x.T, bias=True, aweights=weight)
        values, vectors = np.linalg.eigh(covariance + 1e-4 * np.eye(x.shape[1]))
        return vectors * values**power @ vectors.T

    centered = flat - np.average(flat, 0, weight)
    return centered @ root(flat, -0.5, weight) @ root(style, 0.5) + style.mean(0)


def recolored_by_hand(image, content, style, weight=None):
    lab = lambda x: np.cbrt(np.clip(x, 0, 1) @ LMS.T) @ LAB.T  # noqa: E731
    own, photo, painting = lab(image), lab(content), lab(style).reshape(-1, 3)
    weight = None if weight is None else weight.ravel()
    height, width, _ = image.shape
    found = own.copy()
    found[..., 0] = np.clip(own[..., 0], painting[:, 0].min(), painting[:, 0].max())
    if np.abs(np.cov(painting[:, 1:].T, bias=True)).max() < 6e-5:
        found = zca(found.reshape(-1, 3), painting, weight).reshape(image.shape)
    else:
        hues = zca(photo[..., 1:].reshape(-1, 2), painting[:, 1:], weight)
        hues = hues.reshape(height, width, 2)
        for _ in range(5):
            smooth = np.zeros_like(hues)
            for i, j in np.ndindex(height, width):
                total = 0.0
                for di, dj in np.ndindex(3, 3):
                    at = np.clip(i + di - 1, 0, height - 1), np.clip(j + dj - 1, 0, width - 1)
                    weight = np.exp(-10 * abs(found[i, j, 0] - found[*at, 0]))
                    smooth[i, j] += weight * hues[at]
                    total += weight
                smooth[i, j] /= total
            hues = smooth
        found[..., 1:] = hues
    found = np.clip(found, painting.min(0), painting.max(0))
    lms = (found @ np.linalg.inv(LAB).T) ** 3
    return np.clip(lms @ np.linalg.inv(LMS).T, 0, 1)


@pytest.mark.parametrize("gray", [False, True])
def test_recolor_is_the_last_step_of_nnst(gray, pictures):
    """Lightness of the image, hues of the photo, colors of the painting."""
    image, content, style = pictures(0, 9, 12), pictures(1, 9, 12), 0.8 * pictures(2, 10, 7)
    if gray:
        style = np.repeat(style[..., :1], 3, -1)
    image = 2 * image - 0.5
    expected = recolored_by_hand(*(each.astype(float) for each in (image, content, style)))
    found = jax.jit(recolor)(image, content, style)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-4)
    batch = jax.jit(jax.vmap(recolor))(*(each[None] for each in (image, content, style)))
    np.testing.assert_allclose(batch[0], found, atol=1e-5)
    with jax.enable_x64(True):
        double = jax.jit(recolor)(*(each.astype(float) for each in (image, content, style)))
        np.testing.assert_allclose(double, expected, atol=1e-10)
    assert np.abs(found - np.clip(image, 0, 1)).mean() > 0.02
    with pytest.raises(ValueError, match="the content has"):
        recolor(image, content[1:], style)


@pytest.mark.parametrize("gray", [False, True])
def test_recolor_counts_pixels_by_their_weights(gray, pictures):
    """A style's pixel of weight 2 counts as two of them, one of weight 0 not even for the range."""
    image, content, style = pictures(0, 9, 12), pictures(1, 9, 12), 0.6 * pictures(2, 10, 7)
    if gray:
        style = np.repeat(style[..., :1], 3, -1)
    number = np.arange(70).reshape(10, 7) % 3
    style[number == 0] = 1, 0, 0.5  # of more color, and outside of the range of the others
    repeated = np.repeat(style.reshape(-1, 3), number.ravel(), 0)[None]
    weight = np.linspace(0, 1, 108).reshape(9, 12)
    expected = recolored_by_hand(*map(np.float64, (image, content, repeated)), weight)
    with jax.enable_x64(True):
        give = jax.jit(lambda *x: recolor(*x[:3], style_weight=x[3], content_weight=x[4]))
        arguments = [np.float64(each) for each in (image, content, style, number, weight)]
        np.testing.assert_allclose(give(*arguments), expected, atol=1e-10)
        assert np.isfinite(give(*arguments[:3], 0 * arguments[3], 0 * weight)).all()


def problem_of(padding="zero"):
    term = GramStyle(layers=("relu1_1", "relu2_1"), layer_weights=(1.0, 1.0))
    return Problem(VGG19(padding=padding), (term,))


def test_each_region_has_the_colors_of_its_own_style(pictures):
    """Of their own masks, blended where regions meet; a pixel in none keeps its color."""
    image, content = pictures(0, 9, 12), pictures(1, 9, 12)
    styles = 0.8 * pictures(2, 10, 7), pictures(3, 6, 8) ** 2
    masks = np.zeros((2, 9, 12), np.float32)
    masks[0, :, :7], masks[1, :6, 5:], masks[1, 6:, 5:] = 1, 1, 0.25
    own = np.ones((10, 7), np.float32)
    own[:4] = 0
    colors = Colors(content, styles, None, masks, (own, None))
    found = jax.jit(with_colors, static_argnums=0)(problem_of(), image, colors)
    first = recolored_by_hand(*map(np.float64, (image, content, styles[0][4:], masks[0])))
    second = recolored_by_hand(*map(np.float64, (image, content, styles[1], masks[1])))
    np.testing.assert_allclose(found[:, :5], first[:, :5], atol=2e-4)
    np.testing.assert_allclose(found[:6, 7:], second[:6, 7:], atol=2e-4)
    np.testing.assert_allclose(found[:6, 5:7], (first + second)[:6, 5:7] / 2, atol=2e-4)
    rest = 0.75 * image + 0.25 * second
    np.testing.assert_allclose(found[6:, 7:], rest[6:, 7:], atol=2e-4)
    # One region of both: the mixture's.
    colors = colors._replace(masks=masks[1:], style_masks=None)
    found = jax.jit(with_colors, static_argnums=0)(problem_of(), image, colors)
    np.testing.assert_array_equal(found[:, :5], image[:, :5])


@pytest.mark.parametrize("shares", [None, (1.0, 3.0), {"relu1_1": (0.0, 1.0)}])
def test_a_mixture_has_the_colors_of_its_styles_by_their_shares(shares, pictures):
    """Whatever their sizes; of shares by layer, by the mean of them all."""
    image, content = pictures(0, 9, 12), pictures(1, 9, 12)
    styles = 0.8 * pictures(2, 10, 7), pictures(3, 7, 15) ** 2
    numbers = (3, 2) if shares is None else (1, 2)
    one, other = (np.repeat(s.reshape(-1, 3), n, 0) for s, n in zip(styles, numbers, strict=True))
    expected = recolored_by_hand(*map(np.float64, (image, content, np.concatenate([one, other]))))
    if isinstance(shares, tuple):
        shares = np.float32(shares)
    elif shares is not None:
        shares = {layer: np.float32(own) for layer, own in shares.items()}
    give = jax.jit(with_colors, static_argnums=0)
    found = give(problem_of(), image, Colors(content, styles, shares))
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_colors_of_a_picture_that_wraps_move_with_it(pictures):
    image, content, style = pictures(0, 9, 12), pictures(1, 9, 12), pictures(2, 10, 7)
    moved = lambda x: np.roll(x, (4, 5), (0, 1))  # noqa: E731
    give = jax.jit(with_colors, static_argnums=0)
    found = give(problem_of("wrap"), image, Colors(content, (style,)))
    again = give(problem_of("wrap"), moved(image), Colors(moved(content), (style,)))
    np.testing.assert_allclose(again, moved(found), atol=1e-5)
    assert np.abs(found - give(problem_of(), image, Colors(content, (style,)))).max() > 1e-3
