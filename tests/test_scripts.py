"""The scripts run, small."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxstyle

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def run(monkeypatch, random_params, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxstyle.io, "load_params", lambda: random_params)

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")

    return call


@pytest.mark.slow
def test_every_figure_of_the_paper_is_made(run, tmp_path):
    run("reproduce_paper.py", "--size", "32", "--iterations", "2", "--maxfun", "2", "--steps", "2")
    page = (tmp_path / "out" / "paper" / "index.html").read_text()
    names = [
        "figure-7", "figure-2", "figure-9", "figure-10", "figure-12", "figure-13",
        "content-layer", "white-noise", "weights", "trade-off",
    ]  # fmt: skip
    for name in names:
        assert f'src="{name}.png"' in page
        with Image.open(tmp_path / "out" / "paper" / f"{name}.png") as image:
            image.load()


@pytest.mark.slow
def test_a_strip_goes_from_one_style_to_the_other(run, tmp_path, pictures):
    for name, seed in (("photo", 0), ("one", 1), ("two", 2)):
        jaxstyle.io.save_image(tmp_path / f"{name}.png", pictures(seed, 36, 48))
    run(
        "interpolate_styles.py", "--content", "photo.png", "--styles", "one.png", "two.png",
        "--number", "3", "--size", "48", "--steps", "3", "--recipe", "gatys",
    )  # fmt: skip
    with Image.open(tmp_path / "strip.png") as image:
        assert image.size == (3 * 48, 36)
        first, _, last = np.split(np.asarray(image, float), 3, axis=1)
    assert np.abs(first - last).mean() > 0.5
