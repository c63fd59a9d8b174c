"""The bundled pictures are what the program in scripts/ paints."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxstyle.io import SAMPLES

SCRIPT = Path(__file__).parent.parent / "scripts" / "paint_samples.py"


@pytest.fixture(scope="module")
def painter():
    spec = importlib.util.spec_from_file_location("paint_samples", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["content", pytest.param("style", marks=pytest.mark.slow)])
def test_painting_is_deterministic_and_depends_on_the_seed(painter, name):
    paint = getattr(painter, f"paint_{name}")
    first, again, other = paint(64, 0), paint(64, 0), paint(64, 1)
    assert first.shape == (48, 64, 3)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 1
    assert first.std() > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["content", "style"])
def test_the_bundled_pictures_are_painted_by_the_script(painter, name):
    with Image.open(SAMPLES / f"{name}.png") as image:
        bundled = image.convert("RGB")
    painted = Image.fromarray(getattr(painter, f"paint_{name}")(bundled.width))
    # Reduced, for other versions of Pillow may draw a line one pixel aside.
    small = [np.asarray(each.resize((80, 60)), float) for each in (bundled, painted)]
    assert np.abs(small[0] - small[1]).mean() < 1
