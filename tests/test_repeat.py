"""Pictures painted again from the JSON beside them."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

from jaxstyle.app.cli.main import main
from jaxstyle.app.repeat import job_of
from jaxstyle.app.sidecar import without_folders
from jaxstyle.io import describe_recipe, write_json
from jaxstyle.io.files import sha256_of
from jaxstyle.io.network_weights.load import load_params_and_info


@pytest.fixture
def painted(tmp_path, pictures, params_file, monkeypatch):
    """A folder with pictures, and a run of all kinds of settings, typed with relative paths."""
    folder = tmp_path / "first"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, seed, shape in (
        ("c", 0, (48, 64)), ("s", 1, (40, 40)), ("t", 2, (40, 56)), ("start", 3, (48, 64)),
    ):  # fmt: skip
        Image.fromarray((255 * pictures(seed, *shape)).astype(np.uint8)).save(f"{name}.png")
    left = np.zeros((48, 64), np.uint8)
    left[:, :32] = 255
    Image.fromarray(left).save("left.png")
    Image.fromarray(255 - left).save("right.png")
    Path("small.json").write_text(json.dumps(describe_recipe(SHALLOW)))
    shutil.copy(params_file, "weights.npz")
    assert main([
        "stylize", "--content", "c.png", "--style", "s.png", "t.png", "--mask", "left.png",
        "right.png", "--recipe", "small.json", "--set", "solver.history_size=4", "--weights",
        "style=500", "--style-weights", "2", "1", "--style-scale", "0.8", "--init", "start.png",
        "--params", "weights.npz", "--size", "64", "--steps", "3", "--coarsest", "32",
        "--seed", "5", "--color", "luminance", "--quiet",
    ]) == 0  # fmt: skip
    return folder


def test_from_any_folder(painted, tmp_path, monkeypatch, capsys):
    elsewhere = tmp_path / "second"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (painted / "small.json").unlink()  # the recipe is in the JSON
    assert main(["repeat", str(painted / "out.json"), "--quiet"]) == 0
    assert Path("out-again.png").read_bytes() == (painted / "out.png").read_bytes()
    first, again = (
        json.loads(path.read_text()) for path in (painted / "out.json", Path("out-again.json"))
    )
    assert again["command"] == f"jaxstyle repeat {painted / 'out.json'} --quiet"
    assert first["working_directory"] == str(painted)
    assert first["files"]["content"]["path"] == str(painted / "c.png")
    different = {key for key in first if first[key] != again[key]}
    typed = {"content", "styles", "masks", "init", "command", "working_directory"}
    assert different <= {"output", "seconds", "trace", "checksum", *typed}

    # A picture that was painted again tells how as well; and the whole folder may have moved.
    painted.rename(tmp_path / "moved")
    assert main(["repeat", str(tmp_path / "moved" / "out.json"), "--output", "third.png"]) == 0
    assert Path("third.png").read_bytes() == Path("out-again.png").read_bytes()
    # What is read is not written.
    capsys.readouterr()
    assert main(["repeat", "third.json", "--output", str(tmp_path / "moved" / "c.png")]) == 2
    assert "is read and would be replaced" in capsys.readouterr().err


def test_what_has_changed_is_named(painted, pictures, capsys):
    def refused():
        assert main(["repeat", "out.json"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not Path("out-again.png").exists()
        return line

    shutil.copy("right.png", "left.png")
    Path("s.png").unlink()
    line = refused()
    assert "left.png' has changed since then" in line
    assert "s.png' is missing" in line
    assert "c.png" not in line
    data = Path("out.json").read_text()
    Path("out.json").write_text(data.replace('"seed": 5', '"seed": 6'))
    assert "checksum does not match" in refused()
    Path("out.json").write_text('{"recipe": {}}')
    assert "does not say how its picture was painted" in refused()


def test_other_weights_of_the_network(painted, capsys):
    metadata = json.loads(Path("out.json").read_text())
    metadata["weights"]["sha256"] = "0" * 64
    write_json("out.json", metadata)
    assert main(["repeat", "out.json"]) == 2
    assert "other network weights" in capsys.readouterr().err
    # For a visitor of the page, who has the pictures but not the server's folders.
    shown = without_folders(metadata)
    del shown["command"], shown["checksum"]
    assert str(painted) not in json.dumps(shown)
    assert shown["files"]["styles"][1]["path"] == "t.png"


@pytest.fixture
def told(tmp_path, pictures, params_file):
    """What tells of a run, of which only what `job_of` reads."""

    def entry(path):
        return {"path": str(path), "sha256": sha256_of(path)}

    path = tmp_path / "c.png"
    Image.fromarray((255 * pictures(0, 48, 64)).astype(np.uint8)).save(path)
    several = {"styles": [entry(path)], "masks": [], "style_masks": []}
    return {
        "files": {**several, "content": entry(path), "init": None, "params": entry(params_file)},
        "recipe": describe_recipe(SHALLOW),
        "output": "a.png",
        "size": [64, 48],
        "init": "noise",
        "seed": 2**32 - 1,
        "style_weights": None,
        "style_scale": 0.5,
        "precision": "tf32",
        "multiple_of": 32,
        "tile": 32,
        "weights": {"sha256": load_params_and_info(params_file)[1].sha256},
    }


HUGE = 10**30
EDITED = {
    "size": ["x", [None], {"a": 1}, [], [64], [64, 48.5], [64, 0], [64, 48, 3], [HUGE, 1], None],
    "init": [None, 0, [], "a\0b", "start.png"],
    "seed": ["x", -1, None, 0.5, True, 2**32, "a\nb"],
    "style_weights": ["x", [None], ["1"], [-1], [1, 1], [0], {"relu1_1": "x"}, 5],
    "style_scale": [None, "x", math.inf, math.nan, 0, -1, True],
    "precision": ["x", [], None],
    "multiple_of": [0, 1.5, None, -1, 7, HUGE, 32.0],
    "bits": [12, None, "x", 16.0, True],
    "tile": [0, -1, "x", 1.5, HUGE],
    "weights": [None, {}, {"sha256": None}],
    "output": [None, 5],
    "recipe": [None, [], {}, {"terms\n": 5}],
    "files": [None, {}, []],
}


@pytest.mark.parametrize("name", EDITED)
def test_edited_values_are_refused(name, told, tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(told))  # without its mark and checksum, so that it may be edited
    assert job_of(path).tile == 32
    for value in EDITED[name]:
        path.write_text(json.dumps({**told, name: value}))
        assert main(["repeat", str(path), "--output", str(tmp_path / "b.png")]) == 2, value
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert "a.json" in line
        assert not (tmp_path / "b.png").exists()
