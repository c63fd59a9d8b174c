"""The yardstick of scripts/quality.py, on pictures whose figures are known."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "scripts"))

from yardstick.distances import (
    color_distance,
    laplacian_pyramid,
    patch_distance,
    sliced_distance,
    to_lab,
)
from yardstick.spectrum import BANDS, clipped, hatching, peak, ring_energy, spectrum


def grating(cycles: tuple[float, float], height: int = 96, width: int = 128) -> np.ndarray:
    """Waves of amplitude 0.1 with so many cycles a pixel along the columns and the rows."""
    y, x = np.mgrid[:height, :width]
    wave = 0.5 + 0.1 * np.cos(2 * np.pi * (cycles[0] * y + cycles[1] * x))
    return np.repeat(wave[..., None], 3, -1)


def test_energy_is_where_the_grating_is():
    found = spectrum(grating((0.0, 0.25)))
    row, column = np.unravel_index(found.energy.argmax(), found.energy.shape)
    assert (found.y[row, 0], found.x[0, column]) == (0, 0.25)
    assert ring_energy(found, (0.2, 0.3)) > 1e6 * ring_energy(found, (0.35, 0.5))
    # Half of the energy lies at each of the frequencies f and -f, of which one is stored.
    total = found.energy.sum() / (96 * 128)
    assert total == pytest.approx(3 * 0.1**2 / 2 / 2, rel=1e-6)


def test_energy_does_not_depend_on_the_size():
    rng = np.random.default_rng(0)
    for shape in ((96, 128, 3), (190, 161, 3)):
        noise = rng.normal(0.5, 0.1, shape)
        for band in BANDS:  # 3 channels of variance 0.01; a ring has more than 500 frequencies
            assert ring_energy(spectrum(noise), band) == pytest.approx(0.03, rel=0.2)


@pytest.mark.parametrize("band", BANDS)
def test_hatching_tells_the_pixel_grid_from_other_directions(band):
    middle = sum(band) / 2
    noise = np.random.default_rng(0).normal(0, 0.01, (192, 256, 3))
    assert hatching(spectrum(noise), band) == pytest.approx(1, abs=0.35)
    for along in ((0, middle), (middle, 0)):
        assert hatching(spectrum(grating(along, 192, 256) + noise), band) > 50
    oblique = (0.8 * middle, 0.6 * middle)
    assert hatching(spectrum(grating(oblique, 192, 256) + noise), band) < 0.1


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_pattern_of_a_pooling_is_a_peak_at_its_stride_only(stride):
    image = np.random.default_rng(0).normal(0.5, 0.02, (128, 160, 3))
    assert all(0.5 < peak(spectrum(image), each) < 2 for each in (2, 4, 8))
    image[::stride, ::stride] += 0.2
    assert peak(spectrum(image), stride) > 50
    larger = 2 * stride
    assert peak(spectrum(image), larger) < 2


def test_clipped_counts_what_8_bits_store_as_black_or_full():
    image = np.full((2, 2, 3), 0.5)
    image[0, 0] = (0, 1, 0.9999)
    assert clipped(image) == 3 / 12


def test_lab_of_known_colors():
    colors = np.array([[1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]], float)
    # The values that colorimetry tables print for sRGB under D65.
    expected = [[53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [100, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(to_lab(colors), expected, atol=0.02)


def test_sliced_distance_of_shifted_and_of_uneven_sets():
    points = np.random.default_rng(0).standard_normal((50, 3))
    direction = np.array([[0.6], [0.8], [0.0]])
    assert sliced_distance(points, points + np.array([1, 2, 7]), direction) == pytest.approx(2.2)
    # The same distribution, each point twice: the quantiles lie between the same points.
    line = np.arange(100.0)[:, None]
    assert sliced_distance(line, np.repeat(line, 2, 0), np.ones((1, 1))) <= 0.25


def test_finest_level_has_the_detail_only():
    flat, ramp = np.full((70, 67, 1), 0.3), np.mgrid[:70, :67][1][..., None] / 67
    for image in (flat, ramp):
        fine, rest, smallest = laplacian_pyramid(image)
        assert (rest.shape, smallest.shape) == ((35, 34, 1), (18, 17, 1))
        np.testing.assert_allclose(fine[8:-8, 8:-8], 0, atol=1e-12)
    np.testing.assert_allclose(laplacian_pyramid(flat)[0], 0, atol=1e-12)
    np.testing.assert_allclose(smallest[4:-4, 4:-4], ramp[::4, ::4][4:-4, 4:-4])
    image = np.random.default_rng(0).standard_normal((34, 40, 3))
    fine, rest = laplacian_pyramid(image)
    # White noise: the binomial filter keeps (70 / 256)^2 of its variance.
    assert rest.std() == pytest.approx(70 / 256, rel=0.15)


def test_distances_are_0_for_equal_pictures_and_grow_with_the_change(pictures):
    image, other = pictures(0, 33, 36), pictures(1, 33, 36)
    for distance in (patch_distance, color_distance):
        assert distance(image, image) == 0
        near, far = distance(0.9 * image + 0.1 * other, image), distance(other, image)
        assert 0 < near < far
    darker = image - np.float32(0.05)
    assert color_distance(darker, image) > 1
