"""`--sheet`: one pair under several settings, painted by a stand-in except in the last test."""

import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import jaxstyle
from jaxstyle import StyleResult, recipes
from jaxstyle.app import inputs
from jaxstyle.app.cli.main import main
from jaxstyle.app.sheet import painter
from jaxstyle.app.sheet.drawing import Panel, draw_sheet
from jaxstyle.app.sheet.plan import make_cells
from jaxstyle.io import InputError, load_image
from jaxstyle.io.ownership import is_ours


def result_of(content, recipe, weight, number, total):
    """A picture whose color says what it was painted with, after some steps."""
    image = np.full_like(content, 0.2 if recipe.name == "gatys" else 0.8)
    image[0, 0] = number / total
    loss = np.float32(weight * (total - number + 1))
    return StyleResult(
        image,
        loss,
        {},
        np.full(total, loss),
        np.int32(number + 1),
        np.int32(jaxstyle.Status.STEP_LIMIT),
        {},
        loss,
    )


def steps_of(content, recipe, weight, total=3):
    for number in range(total + 1):
        if recipe.name == "gokalp-kim" and number == 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        yield number, result_of(content, recipe, weight, number, total)


@pytest.fixture
def lanes(monkeypatch):
    """Lets nothing be computed; returns the weights of the style of each run."""
    found = []

    def single(params, content, styles, *, recipe, **_):
        found.append([recipe.weights.get("style")])
        yield from steps_of(content, recipe, recipe.weights["style"])

    def batch(params, contents, styles, *, recipe, weights, key, **_):
        found.append([float(each) for each in weights["style"]])
        assert len(key) == len(contents) == len(styles[0]) == len(found[-1])
        runs = [steps_of(contents[0], recipe, weight) for weight in weights["style"]]
        for lanes in zip(*runs, strict=True):
            fields = zip(*(result for _, result in lanes), strict=True)
            yield (
                lanes[0][0],
                StyleResult(
                    *(each[0] if isinstance(each[0], dict) else np.stack(each) for each in fields)
                ),
            )

    monkeypatch.setattr(jaxstyle, "stylize_steps", single)
    monkeypatch.setattr(jaxstyle, "stylize_batch_steps", batch)
    info = SimpleNamespace(source="a test", sha256="0" * 64)
    for module in (inputs, painter):
        monkeypatch.setattr(module, "load_params_and_info", lambda *_, **__: ({}, info))
    return found


def places(image, sheet, tolerance=1e-4):
    """Where a picture is on a sheet: top and left."""
    height, width, _ = image.shape
    there = (np.abs(sheet - image[0, 0]) <= tolerance).all(-1)
    there = there[: len(sheet) - height + 1, : sheet.shape[1] - width + 1]
    return [
        (top, left)
        for top, left in np.argwhere(there)
        if np.abs(sheet[top : top + height, left : left + width] - image).max() <= tolerance
    ]


@pytest.fixture
def pair(tmp_path, pictures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("photo.png", 0), ("painting.png", 1)):
        Image.fromarray((255 * pictures(seed, 48, 64)).astype(np.uint8)).save(name)
    return ["photo.png", "painting.png"]


def paint(pair, *options):
    return main(["stylize", *pair, "--size", "64", *options])


def test_recipes_are_painted_one_by_one(pair, lanes, capsys, tmp_path):
    code = paint(pair, "--sheet", "gatys", "gokalp-kim", "seamless", "default", "-o", "s.png",
                 "--set", "terms.content.layers=[\"relu4_1\"]", "--report", "page")  # fmt: skip
    said = capsys.readouterr().err
    assert code == 1
    assert lanes == [[1.0], [1.0], [1.0]]
    assert "seamless: not painted: --set" in said
    assert "gokalp-kim: not painted: RESOURCE_EXHAUSTED: out of memory; use a smaller" in said
    assert "3 pictures of 64x48 px, up to " in said
    assert "s.png: 2 of 4 pictures in " in said
    record = json.loads((tmp_path / "s.json").read_text())
    assert [(each["label"], each["status"]) for each in record["cells"]] == [
        ("gatys", "step_limit"), ("gokalp-kim", "failed"), ("seamless", "failed"),
        ("default", "step_limit"),
    ]  # fmt: skip
    assert record["cells"][0]["command"] == (
        "jaxstyle stylize photo.png painting.png --output s-gatys.png --recipe gatys --set "
        "'terms.content.layers=[\"relu4_1\"]' --size 64"
    )
    assert record["cells"][3]["recipe"]["terms"][0]["layers"] == ["relu4_1"]
    # Photo, painting and four cells in two rows; pictures are drawn pixel by pixel.
    sheet = load_image("s.png")
    assert record["size"] == [sheet.shape[1], sheet.shape[0]]
    assert len(places(load_image("photo.png"), sheet)) == 1
    for shade in (0.2, 0.8):
        painted = np.isclose(sheet, np.rint(shade * 255) / 255, atol=1e-4).all(-1)
        assert 48 * 64 - 9 <= painted.sum() <= 48 * 64 + 9
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count('class="compare"') == 2
    assert page.count('class="failed"') == 2
    assert is_ours("page/index.html")
    assert is_ours("s.png")
    assert main(["repeat", "s.json"]) == 2
    assert "s.json' is that of a sheet: run its command" in capsys.readouterr().err
    # Ours, so that the same command may run again.
    assert paint(pair, "--sheet", "gatys", "-o", "s.png", "--report", "page", "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_loss_weights_are_painted_in_lockstep(pair, lanes, capsys, tmp_path):
    code = paint(pair, "--sheet", "style=0.5,2,2,0.5,8", "--recipe", "gatys", "--loss-weights",
                 "content=3", "--progress", "json", "-o", "s.png", "--strength", "0.5")  # fmt: skip
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert lanes == [[0.5, 2.0, 8.0]]
    assert [line.get("cell") for line in lines] == ["style 0.5", "style 2", "style 8", None]
    assert [line["loss"] for line in lines[:3]] == [0.5, 2.0, 8.0]
    assert (lines[3]["status"], lines[3]["painted"], lines[3]["total"]) == ("done", 3, 3)
    cells = json.loads((tmp_path / "s.json").read_text())["cells"]
    assert [each["recipe"]["weights"] for each in cells] == [
        {"content": 3.0, "style": weight} for weight in (0.5, 2.0, 8.0)
    ]
    assert cells[1]["command"].endswith(
        "--output s-style-2.png --recipe gatys --weights content=3 style=2.0 --strength 0.5 "
        "--size 64 --progress json"
    )


def test_an_interrupt_saves_what_is_painted(pair, lanes, capsys, tmp_path, monkeypatch):
    single = jaxstyle.stylize_steps

    def interrupted(*arguments, recipe, **options):
        for number, result in single(*arguments, recipe=recipe, **options):
            if recipe.name == "pastiche" and number == 1:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.3)  # the main thread notes it
            yield number, result

    monkeypatch.setattr(jaxstyle, "stylize_steps", interrupted)
    code = paint(pair, "--sheet", "gatys", "pastiche", "johnson", "-o", "s.png")
    said = capsys.readouterr().err
    assert code == 130
    assert "s.png: 2 of 3 pictures, 1 of them stopped early, in" in said
    assert "3/3 pictures" not in said
    assert "1/3 pictures" in said
    cells = json.loads((tmp_path / "s.json").read_text())["cells"]
    assert [each["status"] for each in cells] == ["step_limit", "interrupted", "missing"]
    assert cells[1]["steps"] == 1
    assert len(lanes) == 2


def test_a_sheet_on_stdout(pair, lanes, monkeypatch):
    class Binary(io.TextIOWrapper):
        def isatty(self):
            return False

    written = Binary(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", written)
    assert paint(pair, "--sheet", "style=1,2", "--quiet", "-o", "-") == 0
    written.seek(0)
    with Image.open(written.buffer) as image:
        assert (image.format, image.size[1]) == ("PNG", 196)
    assert sorted(path.name for path in Path().iterdir()) == ["painting.png", "photo.png"]


def test_nothing_of_others_is_replaced(pair, lanes, capsys, tmp_path):
    (tmp_path / "s.png").write_bytes(b"theirs")
    assert paint(pair, "--sheet", "gatys", "-o", "s.png") == 2
    assert "jaxstyle did not write it" in capsys.readouterr().err
    (tmp_path / "my.json").write_text(json.dumps(jaxstyle.io.describe_recipe(recipes.GATYS)))
    assert paint(pair, "--sheet", "gatys", "my.json", "-o", "my.png") == 2
    assert "'my.json' is read and would be replaced" in capsys.readouterr().err
    assert lanes == []
    assert (tmp_path / "s.png").read_bytes() == b"theirs"
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["recipes", "photo.jpg"], "give the pictures before it"),
        (["defualt"], "did you mean default"),
        (["style=1,2", "gatys"], "write one term and its loss weights"),
        (["styel=1,2"], "the terms of the recipe are content, style; did you mean style"),
        (["style=1,x"], "'x' is no number of at least 0"),
        (["style=1,-1"], "'-1' is no number"),
        (["style="], "write one term"),
        (["gatys", "--recipe", "johnson"], "leave out --recipe, or write --sheet johnson"),
        (["gatys", "--checkpoint", "c"], "--sheet does not go with --checkpoint"),
        (["gatys", "--preview-every", "3"], "--sheet does not go with --preview-every"),
        (["gatys", "johnson", "--set", "solver.nothing=1"], "has no setting 'nothing'"),
        (["gatys", "--content", "photo.png"], "given twice"),
    ],
)
def test_mistakes_are_one_line(options, hint, pair, lanes, capsys, tmp_path):
    assert paint(pair, "--quiet", "--sheet", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert hint in line
    assert lanes == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["painting.png", "photo.png"]


def test_all_recipes_are_those_that_paint_a_photo():
    cells = make_cells(["recipes", "seamless"], "default", (), lambda **each: each)
    assert [cell.label for cell in cells] == [cell.job["recipe"] for cell in cells]
    photos = [name for name in recipes.RECIPES if name != "seamless"]
    assert [cell.label for cell in cells] == [*photos, "seamless"]

    def refuse(**_):
        raise InputError("too small")

    with pytest.raises(InputError, match="too small"):
        make_cells(["recipes"], "default", (), refuse)


@pytest.mark.parametrize("shape", [(8, 6), (48, 64), (300, 200)])
def test_a_sheet_has_room_for_all_cells(shape):
    rng = np.random.default_rng(0)
    images = [np.rint(255 * rng.random((*shape, 3))) / 255 for _ in range(5)]
    texts = "a name \N{SNOWMAN} \N{GREEK SMALL LETTER OMEGA} " * 9
    panels = [Panel(texts, texts, image) for image in images]
    sheet = draw_sheet([*panels, Panel("empty", texts, None)], shape)
    assert sheet.dtype == np.float32
    assert 0 <= sheet.min() < sheet.max() <= 1
    for image in images:
        assert len(places(image, sheet)) == 1
    # Between the cells and at the border there is nothing.
    assert (sheet[:, :12] == 1).all()
    assert (sheet[:12] == 1).all()


def test_a_sheet_is_painted_as_each_picture_alone(pair, params_file, small_recipe, tmp_path):
    options = ["--params", params_file, "--steps", "2", "--coarsest", "0", "--quiet"]
    assert paint(pair, "--sheet", "style=1,1000", "--recipe", small_recipe, "-o", "s.png",
                 *options) == 0  # fmt: skip
    record = json.loads((tmp_path / "s.json").read_text())
    assert paint(pair, "--loss-weights", "style=1000", "--recipe", small_recipe, "-o", "a.png",
                 *options) == 0  # fmt: skip
    alone = json.loads((tmp_path / "a.json").read_text())
    assert record["cells"][1]["loss"] == pytest.approx(alone["loss"], rel=1e-3)
    assert record["cells"][1]["weights"] == alone["weights"]
    assert record["cells"][1]["recipe"] == alone["recipe"]
    assert len(places(load_image("a.png"), load_image("s.png"), 0.05)) == 1
