"""The scripts run, small."""

import runpy
import sys
from pathlib import Path

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
