"""Masks and starts, which have the aspect ratio of their picture but for rounding."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxstyle.app.matching import check_fits, is_same_ratio, load_mask, load_start
from jaxstyle.io import InputError
from jaxstyle.io.images import Picture


@pytest.mark.parametrize("rounding", [round, int])
@pytest.mark.parametrize("photo", [(4000, 6000), (3000, 4000), (1080, 1920), (2731, 4096)])
def test_every_size_of_a_photo_fits_every_other(photo, rounding):
    """As other programs write them: the short edge rounded to nearest, or cut off."""
    height, width = photo
    sizes = [64, 100, 256, 341, 512, 1000, 1024, 1999, 2048]
    for here in sizes:
        content = (int(height * here / width + 0.5), here)
        for there in sizes:
            other = (rounding(height * there / width), there)
            assert is_same_ratio(content, other), (content, other)
            assert is_same_ratio(other[::-1], content[::-1])


@pytest.mark.parametrize(
    ("content", "other"),
    [
        ((683, 1024), (681, 1024)),
        ((683, 1024), (340, 512)),
        ((48, 64), (8, 8)),
        ((64, 48), (48, 64)),
    ],
)
def test_two_pixels_are_another_ratio(content, other):
    assert not is_same_ratio(content, other)


def test_what_does_not_fit_is_told_how_it_would(tmp_path):
    path = tmp_path / "m.png"
    Image.new("L", (600, 400)).save(path)
    with pytest.raises(InputError, match="600x400 px for one of 512x288 px; crop it to 600x338"):
        check_fits("--mask", path, (288, 512))
    with pytest.raises(InputError, match="600x400 px for one of 40x90 px; crop it to 178x400"):
        check_fits("--mask", path, (90, 40, 3))
    with pytest.raises(InputError, match="turned by 90 degrees"):
        check_fits("--init", path, (768, 512))


def test_a_mask_gets_the_shape_of_its_picture(tmp_path):
    left = np.zeros((667, 1000), np.uint8)
    left[:, :500] = 255
    Image.fromarray(left).save(tmp_path / "m.png")
    mask = load_mask("--mask", tmp_path / "m.png", np.zeros((341, 512, 3)))
    assert mask.shape == (341, 512)
    np.testing.assert_allclose(mask[:, 10:240], 1, atol=1e-5)
    np.testing.assert_allclose(mask[:, 270:], 0, atol=1e-5)


@pytest.mark.parametrize(("value", "said"), [(255, "all white"), (128, "gray of 50% everywhere")])
def test_a_mask_of_one_gray_is_mentioned(tmp_path, capsys, value, said):
    rng = np.random.default_rng(0)
    for name, noise in (("m.png", 0), ("m.jpg", 2)):  # as a JPEG may hold it
        flat = value - noise * rng.random((16, 16))
        Image.fromarray(flat.astype(np.uint8)).save(tmp_path / name)
        load_mask("--mask", tmp_path / name, np.zeros((16, 16, 3)))
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert name in line


def test_a_mask_of_nothing_is_refused(tmp_path):
    Image.new("L", (16, 16), 1).save(tmp_path / "m.jpg")
    with pytest.raises(InputError, match="all black, and transparent parts count as black: paint"):
        load_mask("--mask", tmp_path / "m.jpg", np.zeros((16, 16, 3)))


def test_a_start_gets_the_shape_of_the_content_and_shows_it_where_it_is_transparent(tmp_path):
    content = Picture(np.full((683, 1024, 3), 0.25, np.float32), None, None)
    pixels = np.full((341, 512, 4), 255, np.uint8)
    pixels[:, :256, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "i.png")
    start = load_start(tmp_path / "i.png", content)
    assert start.shape == (683, 1024, 3)
    np.testing.assert_allclose(start[:, :500], 0.25, atol=1e-6)
    np.testing.assert_allclose(start[:, 524:], 1, atol=1e-6)
    with pytest.raises(InputError, match="does not exist"):
        load_start(Path("no.png"), content)
