"""Names of files that are not UTF-8: nothing is lost, and nothing that is printed breaks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

from jaxstyle.app.cli.main import main
from jaxstyle.app.inputs import load_mask
from jaxstyle.io import describe_recipe
from jaxstyle.io.files import describe_path, show_path

NAMES = [b"caf\xe9.png", b"st\xff<b>\n.png", b"out\xfe.png", b"rep\xfd"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    for name in NAMES[:2]:
        try:
            with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
                Image.fromarray(pixels).save(file, "PNG")
        except OSError:
            pytest.skip("this file system wants UTF-8")
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_names_as_text(name: bytes) -> None:
    for text in (show_path(name), show_path(os.fsdecode(name)), describe_path(name)):
        assert text.isprintable()
        text.encode()
    assert show_path("caf\xe9 \U0001f642.png") == "caf\xe9 \U0001f642.png"
    assert show_path(b"caf\xe9") == r"caf\xe9"


def test_a_run_with_such_names(folder: Path, params_file: str) -> None:
    (folder / "small.json").write_text(json.dumps(describe_recipe(SHALLOW)))
    content, style, output, report = NAMES
    command = [sys.executable, "-m", "jaxstyle", "stylize", "--content", content, "--style", style]
    command += ["--output", output, "--report", report, "--plot", "--recipe", "small.json"]
    command += ["--size", "48", "--steps", "2", "--coarsest", "0", "--progress", "json"]
    command += ["--params", params_file]
    result = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    assert b"Traceback" not in result.stderr
    files = set(os.listdir(os.fsencode(folder)))
    assert {output, b"out\xfe.json", report} <= files
    assert b"out\xfe-loss.png" in files
    metadata = json.loads((folder / os.fsdecode(b"out\xfe.json")).read_text())
    assert os.fsencode(metadata["content"]) == content
    page = (folder / os.fsdecode(report) / "index.html").read_text(encoding="utf-8")
    assert "<b>" not in page.partition("<body")[2]
    last = json.loads(result.stdout.splitlines()[-1])
    assert os.fsencode(last["output"]) == output


def test_features_of_such_a_name(
    folder: Path, params_file: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    picture = os.fsdecode(os.fsencode(folder) + b"/" + NAMES[0])
    arguments = ["features", picture, "--layers", "relu1_1", "--size", "40"]
    arguments += ["--output-dir", str(folder), "--params", params_file]
    assert main(arguments) == 0
    assert capfdbinary.readouterr().out.strip().endswith(b"/caf\xe9-relu1_1.png")
    assert (folder / os.fsdecode(b"caf\xe9-relu1_1.png")).exists()


def test_masks_that_say_nothing_are_mentioned_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And paint on a transparent layer is the mask, whatever lies below."""
    image = np.zeros((6, 4, 3), np.float32)
    layer = np.full((6, 4, 4), 255, np.uint8)
    layer[:, 2:, 3] = 0
    Image.fromarray(layer).save(tmp_path / "layer.png")
    mask = load_mask("--mask", tmp_path / "layer.png", image)
    np.testing.assert_array_equal(mask, np.tile([1, 1, 0, 0], (6, 1)))
    assert capsys.readouterr().err == ""
    Image.new("L", (4, 6), 255).save(tmp_path / "white.png")
    load_mask("--mask", tmp_path / "white.png", image)
    assert "white.png' is all white" in capsys.readouterr().err
    Image.new("RGBA", (4, 6), (255, 255, 255, 0)).save(tmp_path / "empty.png")
    with pytest.raises(ValueError, match="all black"):
        load_mask("--mask", tmp_path / "empty.png", image)
