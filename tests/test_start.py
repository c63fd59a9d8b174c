"""The grain of a start from the content."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from conftest import SHALLOW

import jaxstyle
from jaxstyle.app.devices import random_keys
from jaxstyle.start import measure_grain

GRAINY = dataclasses.replace(
    SHALLOW, grain=0.5, pyramid=None, solver=jaxstyle.LBFGS(num_steps=1, bounds=(0.0, 1.0))
)


def starts(params, content, style, *, batched=False, **options):
    """The pictures before the first step."""
    run = jaxstyle.stylize_batch_steps if batched else jaxstyle.stylize_steps
    options = {"recipe": GRAINY, **options}
    return np.asarray(next(run(params, content, style, **options))[1].image)


def test_grain_of_a_picture_is_its_finest_detail(pictures):
    rng = np.random.default_rng(0)
    # The mask has the norm 6, so white noise keeps its deviation; of 1.9e5 values it is known to
    # about 1 %, since neighbors depend on each other.
    noise = 0.5 + rng.normal(0, 0.05, (256, 256, 3))
    np.testing.assert_allclose(measure_grain(jnp.float32(noise)), 0.05, rtol=0.03)
    y, x = np.mgrid[:9, :12] / 16
    ramp = np.stack([x, y, x * 0.5 + y * 0.25], -1).astype(np.float32)
    assert float(measure_grain(jnp.asarray(ramp))) == 0
    assert float(measure_grain(jnp.asarray(noise[:2], jnp.float32))) == 0
    with jax.enable_x64(True):
        image = pictures(3).astype(np.float64)
        mask = np.outer([1, -2, 1], [1, -2, 1])[..., None]
        detail = scipy.ndimage.convolve(image, mask)[1:-1, 1:-1]
        expected = np.mean(np.abs(detail)) / 6 * math.sqrt(math.pi / 2)
        np.testing.assert_allclose(jax.jit(measure_grain)(jnp.asarray(image)), expected, rtol=1e-12)


def test_a_start_from_the_content_has_the_grain_of_the_paintings(random_params, pictures):
    content, style, other = 0.2 + 0.6 * pictures(0), pictures(1), 0.3 * pictures(2)
    noise = jax.random.normal(jax.random.key(0), content.shape)
    deviation = float(measure_grain(jnp.asarray(style)))
    expected = np.asarray(content + 0.5 * deviation * noise)
    assert 0 < expected.min() < expected.max() < 1
    found = starts(random_params, content, style)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 0.01 < np.std(found - content) < 0.05
    np.testing.assert_array_equal(
        found, starts(random_params, content, style, key=jax.random.key(0))
    )
    assert np.abs(found - starts(random_params, content, style, key=jax.random.key(1))).max() > 0.01

    both = deviation + float(measure_grain(jnp.asarray(other)))
    mixed = starts(random_params, content, (style, other))
    np.testing.assert_allclose(mixed, content + 0.25 * both * noise, atol=1e-6)

    # None where no style is, none for a start from a picture, and none without strength.
    mask = np.zeros((1, *content.shape[:2]), np.float32)
    mask[:, :, :20] = 1
    masked = starts(random_params, content, style, masks=mask)
    np.testing.assert_allclose(masked[:, :20], expected[:, :20], atol=1e-6)
    np.testing.assert_array_equal(masked[:, 20:], content[:, 20:])
    np.testing.assert_array_equal(starts(random_params, content, style, init=content), content)
    without = dataclasses.replace(GRAINY, grain=0.0)
    np.testing.assert_array_equal(starts(random_params, content, style, recipe=without), content)


def test_grain_of_a_batch_is_that_of_single_pairs(random_params, pictures):
    contents = np.stack([0.2 + 0.6 * pictures(seed) for seed in (0, 1)])
    styles = np.stack([pictures(seed) for seed in (2, 3)])
    keys = jax.vmap(jax.random.key)(np.arange(2, dtype=np.uint32))
    for key, own in ((None, [None, None]), (keys, keys)):
        together = starts(random_params, contents, styles, batched=True, key=key)
        for lane in (0, 1):
            single = starts(random_params, contents[lane], styles[lane], key=own[lane])
            np.testing.assert_allclose(together[lane], single, atol=1e-6)
            assert np.abs(single - contents[lane]).max() > 0.01


def test_a_start_from_detail_has_the_mean_color_of_the_paintings(random_params, pictures):
    """And the finest detail of the photo, at the size at which the run begins."""
    content, styles = pictures(0, 16, 20), (pictures(1), 0.3 * pictures(2, 18, 14))
    mask = np.zeros((18, 14), np.float32)
    mask[:5] = 0.5
    small = content.reshape(8, 2, 10, 2, 3).mean((1, 3))  # bilinear
    detail = content - jax.image.resize(small, content.shape, "linear", antialias=False)
    for masks, second in ((None, styles[1]), ((None, mask), styles[1][:5])):
        mean = (styles[0].mean((0, 1)) + second.mean((0, 1))) / 2
        found = starts(random_params, content, styles, init="detail", style_masks=masks)
        np.testing.assert_allclose(found, np.clip(mean + detail, 0, 1), atol=1e-6)
    texture = dataclasses.replace(SHALLOW, terms=SHALLOW.terms[:1], weights={"content": 1.0})
    with pytest.raises(ValueError, match="mean color of a style, but there is none"):
        jaxstyle.stylize(random_params, content, None, recipe=texture, init="detail")


@pytest.mark.parametrize("grain", [-1.0, math.inf, math.nan, "much", True, 2e6])
def test_a_grain_that_cannot_be(grain):
    with pytest.raises(ValueError, match="grain must be from 0 to 1e"):
        dataclasses.replace(SHALLOW, grain=grain)


def test_the_program_s_keys_are_those_of_the_default_generator():
    expected = [jax.random.key_data(jax.random.key(seed)) for seed in (0, 7, 2**32 - 1)]
    with jax.transfer_guard("disallow"), jax.default_prng_impl("rbg"):
        keys = random_keys([0, 7, 2**32 - 1])
        single = random_keys(7)
    np.testing.assert_array_equal(jax.random.key_data(keys), expected)
    np.testing.assert_array_equal(jax.random.key_data(single), expected[1])
