"""The command line, from the outside: what it writes, says and returns."""

import dataclasses
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxstyle
from jaxstyle import recipes
from jaxstyle.app.cli.arguments import join_repeated, options_of
from jaxstyle.app.cli.main import _COMMANDS, _WEIGHTS_COMMANDS, main
from jaxstyle.app.inputs import _load_content
from jaxstyle.app.job import make_job
from jaxstyle.io import describe_recipe
from jaxstyle.io.sources import write_object
from jaxstyle.recipes import RECIPES


@pytest.fixture
def pair(tmp_path, pictures):
    paths = []
    for name, seed in (("content", 0), ("style", 1)):
        path = tmp_path / f"{name}.png"
        Image.fromarray((255 * pictures(seed, 48, 64)).astype(np.uint8)).save(path)
        paths.append(str(path))
    return paths


def stylize(pair, params_file, output, *options):
    content, style = pair
    return main(
        ["stylize", "--content", content, "--style", style, "--params", params_file,
         "--output", str(output), "--size", "64", *options]
    )  # fmt: skip


def test_stylize_writes_picture_metadata_previews_and_curve(tmp_path, pair, params_file, capsys):
    output = tmp_path / "out.png"
    code = stylize(pair, params_file, output, "--steps", "4", "--preview-every", "2", "--plot")
    assert code == 0
    said = capsys.readouterr()
    assert "64x48 px" in said.err
    assert said.out == ""
    names = {path.name for path in tmp_path.iterdir()} - {"content.png", "style.png"}
    assert names == {"out.png", "out.json", "out-loss.png", "out-0002.png", "out-0004.png"}
    for name in names - {"out.json"}:
        with Image.open(tmp_path / name) as image:
            image.load()
    with Image.open(output) as image:
        assert image.size == (64, 48)

    metadata = json.loads((tmp_path / "out.json").read_text())
    assert metadata["recipe"]["name"] == "default"
    assert metadata["command"].startswith("jaxstyle stylize --content ")
    assert " --steps 4 " in metadata["command"]
    assert metadata["command"].endswith(" --preview-every 2 --plot")
    assert metadata["seed"] == 0
    assert set(metadata["weights"]) == {"source", "sha256"}
    assert metadata["size"] == [64, 48]
    assert metadata["status"] == "step_limit"
    assert metadata["num_evaluations"] == 5
    assert set(metadata["seconds"]) == {"load", "compile", "optimize", "save"}
    assert all(value >= 0 for value in metadata["seconds"].values())
    assert metadata["versions"]["jaxopt"]
    trace = metadata["trace"]
    assert [entry["step"] for entry in trace] == [0, 1, 2, 3, 4]
    assert trace[-1]["loss"] == metadata["loss"] < trace[0]["loss"]
    for entry in trace:
        factors = metadata["recipe"]["weights"]
        weighted = sum(factors[name] * loss for name, loss in entry["terms"].items())
        np.testing.assert_allclose(entry["loss"], weighted, rtol=1e-4)


def test_options_reach_the_run(tmp_path, pair, params_file, small_recipe):
    output = tmp_path / "out.jpg"
    shallow = ("--set", 'terms.style.layers=["relu1_1"]', "terms.style.layer_weights=[1]")
    code = stylize(
        pair, params_file, output, "--steps", "2", "--recipe", "gatys", "--init", "noise",
        "--seed", "7", "--weights", "style=3", "content=0", "--quiet", *shallow,
    )  # fmt: skip
    assert code == 0
    metadata = json.loads((tmp_path / "out.json").read_text())
    assert metadata["recipe"]["name"] == "gatys"
    assert metadata["recipe"]["network"]["pooling"] == "average"
    assert metadata["recipe"]["solver"]["num_steps"] == 2
    assert metadata["recipe"]["weights"] == {"style": 3.0}
    assert (metadata["seed"], metadata["init"]) == (7, "noise")
    with Image.open(output) as image:
        assert image.format == "JPEG"

    # The same seed makes the same picture again; a file and several styles are starts and styles.
    first = np.asarray(Image.open(output))
    again = tmp_path / "again.jpg"
    stylize(
        pair, params_file, again, "--steps", "2", "--recipe", "gatys", "--init", "noise",
        "--seed", "7", "--weights", "style=3", "content=0", "--quiet", *shallow,
    )  # fmt: skip
    np.testing.assert_array_equal(first, np.asarray(Image.open(again)))
    code = main(
        ["stylize", "--content", pair[0], "--style", pair[1], pair[0], "--params", params_file,
         "--style-weights", "3", "1", "--output", str(tmp_path / "two.png"), "--size", "64",
         "--steps", "1", "--init", pair[1], "--quiet", "--recipe", small_recipe]
    )  # fmt: skip
    assert code == 0
    assert json.loads((tmp_path / "two.json").read_text())["style_weights"] == [3.0, 1.0]


def test_sizes_and_precision_reach_the_run(tmp_path, pair, params_file, small_recipe):
    output = tmp_path / "out.png"
    code = stylize(
        pair, params_file, output, "--steps", "2", "--coarsest", "32", "--precision", "bfloat16",
        "--quiet", "--recipe", small_recipe,
    )  # fmt: skip
    assert code == 0
    metadata = json.loads((tmp_path / "out.json").read_text())
    assert metadata["recipe"]["pyramid"]["coarsest"] == 32
    assert metadata["recipe"]["pyramid"]["steps"] == [2]
    assert metadata["recipe"]["network"]["dtype"] == "bfloat16"
    assert metadata["precision"] == "bfloat16"
    # Two steps at 32 px, two at 64 px, and an evaluation before each.
    assert metadata["num_evaluations"] == 6
    assert [entry["step"] for entry in metadata["trace"]] == [0, 1, 2, 3, 4]
    code = stylize(
        pair, params_file, output, "--steps", "1", "--coarsest", "0", "--quiet", "--recipe",
        small_recipe,
    )  # fmt: skip
    assert code == 0
    metadata = json.loads((tmp_path / "out.json").read_text())
    assert metadata["recipe"]["pyramid"] is None
    assert metadata["num_evaluations"] == 2


def test_a_size_that_ends_early_leaves_its_steps_out(tmp_path, pair, params_file, small_recipe):
    code = stylize(
        pair, params_file, tmp_path / "out.png", "--steps", "4", "--coarsest", "32", "--quiet",
        "--set", "solver.tolerance=1", "solver.patience=2", "--recipe", small_recipe,
    )  # fmt: skip
    assert code == 0
    metadata = json.loads((tmp_path / "out.json").read_text())
    assert metadata["status"] == "converged"
    # Two steps at 32 px; the start at 64 px, and two steps there.
    told = [(entry["step"], entry["evaluations"]) for entry in metadata["trace"]]
    assert told == [(0, 1), (1, 2), (2, 3), (4, 4), (5, 5), (6, 6)]
    seconds = [entry["seconds"] for entry in metadata["trace"]]
    assert seconds == sorted(seconds)
    losses = [entry["loss"] for entry in metadata["trace"]]
    assert len({*losses[:3], *losses[4:]}) == 5  # each step's own, downhill or not


def test_a_second_start_compiles_nothing(tmp_path, pair, params_file, small_recipe):
    cache = {"JAXSTYLE_CACHE": str(tmp_path / "cache")}
    environment = {**os.environ, **cache, "JAX_LOG_COMPILES": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    kept, said, pictures = [], [], []
    for _ in range(2):
        process = subprocess.run(
            [sys.executable, "-m", "jaxstyle", "stylize", "--content", pair[0], "--style", pair[1],
             "--params", params_file, "--output", str(tmp_path / "out.png"), "--size", "64",
             "--steps", "1", "--quiet", "--recipe", small_recipe],
            check=True, env=environment, cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        said.append(process.stderr)
        pictures.append((tmp_path / "out.png").read_bytes())
        (folder,) = (tmp_path / "cache" / "compiled").iterdir()
        kept.append({path.name for path in folder.rglob("*")})
    assert kept[0] == kept[1]
    assert pictures[0] == pictures[1]
    assert len(list((folder / "programs").glob("[!.]*"))) == 5
    # Not even traced are the large ones.
    for function in ("make_noise", "compute_targets", "first_state", "_advance", "make_result"):
        assert f"compilation of jit({function})" in said[0]
        assert f"jit({function})" not in said[1]
        assert f"tracing {function} for" not in said[1]
    if hasattr(os, "getuid"):
        for path in (folder, folder / "programs"):
            assert path.stat().st_mode & 0o777 == 0o700


def test_controls_reach_the_run(tmp_path, pair, params_file, small_recipe, capsys):
    """Masks, colours, settings, styles by layer; and the run made again from its own JSON."""
    output = tmp_path / "out.png"
    left = np.zeros((48, 64), np.uint8)
    left[:, :32] = 255
    masks = [str(tmp_path / name) for name in ("left.png", "right.png")]
    for path, mask in zip(masks, (left, 255 - left), strict=True):
        Image.fromarray(mask).save(path)
    controls = ["--mask", *masks, "--style-mask", pair[1], pair[0], "--style-scale", "0.75"]
    code = main(
        ["stylize", "--content", pair[0], "--style", pair[1], pair[0], "--params", params_file,
         "--output", str(output), "--size", "64", "--steps", "2", "--quiet", *controls,
         "--set", "network.pooling=max", "terms.style.reduction=scaled", "--color", "luminance",
         "--strength", "0.5", "--tile", "32", "--recipe", small_recipe]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    metadata = json.loads((tmp_path / "out.json").read_text())
    assert metadata["masks"] == masks
    assert metadata["style_scale"] == 0.75
    assert metadata["recipe"]["color"] == "luminance"
    assert metadata["recipe"]["strength"] == 0.5
    assert metadata["recipe"]["network"]["pooling"] == "max"
    again = tmp_path / "again.png"
    code = main(
        ["stylize", "--content", pair[0], "--style", pair[1], pair[0], "--params", params_file,
         "--output", str(again), "--size", "64", "--quiet", *controls,
         "--recipe", str(tmp_path / "out.json"), "--tile", "32"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    with Image.open(output) as one, Image.open(again) as two:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))

    # A texture as large as its style, by a recipe from a file, its layers from two styles.
    two = ('terms.style.layers=["relu1_1", "relu2_1"]', "terms.style.layer_weights=[1, 1]")
    assert main(["recipes", "gatys-notebook", "--toml", "--set", *two]) == 0
    (tmp_path / "recipe.toml").write_text(capsys.readouterr().out)
    code = main(
        ["stylize", "--style", pair[1], pair[0], "--params", params_file, "--size", "48",
         "--output", str(output), "--weights", "content=0", "--init", "mean", "--steps", "2",
         "--recipe", str(tmp_path / "recipe.toml"), "--layer-style-weights", "relu1_1=0,1"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    metadata = json.loads((tmp_path / "out.json").read_text())
    assert metadata["content"] is None
    with Image.open(output) as image:
        assert metadata["size"] == list(image.size)
    assert metadata["style_weights"]["relu1_1"] == [0, 1]
    assert metadata["style_weights"]["relu2_1"] == [1, 1]
    assert list(metadata["trace"][-1]["terms"]) == ["style"]


def test_a_texture_whose_edges_fit_is_square(tmp_path, pair):
    settings = {"content": None, "style": [pair[1]], "output": str(tmp_path / "out.png")}
    for recipe, changed, shape in (
        ("seamless", (), (80, 80)),
        ("seamless", ("network.padding=zero",), (60, 80)),
    ):
        job = make_job(**settings, recipe=recipe, settings=changed, size=80)
        picture, start = _load_content(job)
        assert picture.image.shape == (*shape, 3)
        assert not picture.image.any()
        assert start == "noise"


def test_features_makes_contact_sheets(tmp_path, pair, params_file, capsys):
    code = main(
        ["features", pair[0], "--layers", "conv1_1", "pool2", "--params", params_file,
         "--output-dir", str(tmp_path / "new"), "--size", "64", "--maps", "9"]
    )  # fmt: skip
    assert code == 0
    for name, map_size in (("conv1_1", (64, 48)), ("pool2", (16, 12))):
        path = tmp_path / "new" / f"content-{name}.png"
        assert str(path) in capsys.readouterr().out or name == "pool2"
        with Image.open(path) as image:
            assert 3 * map_size[0] <= image.width <= 3 * map_size[0] + 8
            assert 3 * map_size[1] <= image.height <= 3 * map_size[1] + 8


def test_features_replaces_nothing(tmp_path, pair, params_file, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, style = (Path(path).read_bytes() for path in pair)
    Path("content-conv1_1.png").write_bytes(style)
    Path("link.png").symlink_to("link-conv1_1.png")
    Path("link-conv1_1.png").write_bytes(content)
    options = ["--layers", "conv1_1", "conv1_1", "--params", params_file, "--size", "64"]
    assert main(["features", "content.png", *options]) == 2
    assert "'content-conv1_1.png' exists, and jaxstyle did not write it" in capsys.readouterr().err
    for also in ([], ["--overwrite"]):
        assert main(["features", "link.png", *options, *also]) == 2
        assert "'link-conv1_1.png' is read and would be replaced" in capsys.readouterr().err
    assert Path("link-conv1_1.png").read_bytes() == content
    assert Path("content-conv1_1.png").read_bytes() == style
    assert main(["features", "content.png", *options, "--overwrite"]) == 0
    assert main(["features", "content.png", *options]) == 0  # ours by now
    assert Path("content-conv1_1.png").read_bytes() != style
    # As the picture of a run it has a JSON file, which would describe another one.
    Path("content-conv1_1.json").write_text('{"output": "content-conv1_1.png"}')
    assert main(["features", "content.png", *options]) == 2
    assert "is a finished picture" in capsys.readouterr().err


def test_recipes_and_info(capsys, tmp_path, monkeypatch):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)
    assert main(["recipes", "gokalp-kim"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["solver"] == {
        "type": "ScipyLBFGSB", "num_steps": 20, "maxfun": 20, "history_size": 10,
    }  # fmt: skip
    assert printed["median_filter"] == 3
    assert main(["recipes", "gatys", "--set", "solver.num_steps=9"]) == 0
    assert json.loads(capsys.readouterr().out)["solver"]["num_steps"] == 9
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path))
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path) in said
    assert "jaxlib" in said
    assert main(["weights", "list"]) == 0
    assert "none yet" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["stylize", "--help"], ["weights", "--help"]])
def test_help(arguments, capsys):
    assert main(arguments) == 0
    assert "jaxstyle" in capsys.readouterr().out


@pytest.fixture
def bad_files(tmp_path, pictures):
    def save(name, height, width):
        Image.fromarray((255 * pictures(0, height, width)).astype(np.uint8)).save(tmp_path / name)
        return str(tmp_path / name)

    good = save("good.png", 48, 64)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("this is not a picture\n" * 50)
    for name in ("folder.png", "taken.json", "curve-loss.png"):
        (tmp_path / name).mkdir()
    recipe = {**describe_recipe(recipes.DEFAULT), "solver": {"type": []}}
    (tmp_path / "lists.json").write_text(json.dumps(recipe))
    whole = tmp_path / "whole.jpg"
    Image.fromarray((255 * pictures(0, 128, 128)).astype(np.uint8)).save(whole)
    (tmp_path / "truncated.jpg").write_bytes(whole.read_bytes()[:1500])
    # A header that claims 40000 x 40000 pixels.
    header = Image.new("L", (1, 1))
    header.save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    import struct
    import zlib

    data[16:24] = struct.pack(">II", 40000, 40000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "bomb.png").write_bytes(bytes(data))
    save("one.png", 1, 1)
    save("eight.png", 8, 8)
    return tmp_path, good


BAD_CALLS = {
    "missing file": (["--content", "nowhere.png", "--style", "GOOD"], "nowhere.png"),
    "directory": (["--content", "folder.png", "--style", "GOOD"], "folder.png"),
    "empty": (["--content", "GOOD", "--style", "empty.png"], "empty.png"),
    "text": (["--content", "text.jpg", "--style", "GOOD"], "text.jpg"),
    "truncated": (["--content", "truncated.jpg", "--style", "GOOD"], "truncated.jpg"),
    "bomb": (["--content", "bomb.png", "--style", "GOOD"], "178 million"),
    "1x1": (["--content", "one.png", "--style", "GOOD", "--size", "1"], "16"),
    "8x8": (["--content", "eight.png", "--style", "GOOD", "--size", "8"], "16"),
    "small style": (["--content", "GOOD", "--style", "GOOD", "--size", "12"], "at least 16"),
    "only content": (["--content", "GOOD"], "--style"),
    "only style": (["--style", "GOOD"], "--content"),
    "no folder": (
        ["--content", "GOOD", "--style", "GOOD", "--output", "no/such/where.png"],
        "the folder of 'no/such' does not exist",
    ),
    "bad extension": (["--content", "GOOD", "--style", "GOOD", "--output", "out.xyz"], ".png"),
    "output is a folder": (
        ["--content", "GOOD", "--style", "GOOD", "--output", "folder.png"],
        "folder.png",
    ),
    "recipe": (["--recipe", "monet"], "gatys-notebook"),
    "option": (["--stile", "GOOD"], "--stile"),
    "size": (["--size", "-3"], "--size"),
    "zero size": (["--size", "0"], "at least 1"),
    "steps": (["--steps", "-1"], "at least 1"),
    "coarsest": (["--coarsest", "-1"], "--coarsest"),
    "precision": (["--precision", "half"], "bfloat16"),
    "not a number": (["--steps", "many"], "many"),
    "preview": (["--preview-every", "0"], "at least 1"),
    "tile": (["--tile", "0"], "at least 1"),
    "memory": (["--memory", "much"], "such as 4GB"),
    "too little memory": (
        ["--content", "GOOD", "--style", "GOOD", "--size", "64", "--memory", "500MB"],
        "64x48 px need about",
    ),
    "devices": (["--content", "GOOD", "--style", "GOOD", "--devices", "999"], "jaxstyle info"),
    "shard": (["--shard", "columns"], "rows"),
    "tile and devices": (["--tile", "64", "--devices", "2"], "give one"),
    "process": (["--process", "1"], "--coordinator"),
    "process of": (
        ["--coordinator", "127.0.0.1:1", "--processes", "2", "--process", "2"],
        "count from 0",
    ),
    "weights": (["--weights", "styl=3"], "content, style"),
    "single dash": (["-content_image", "GOOD"], "did you mean --content?"),
    "underscore": (["--content_weight", "5"], "did you mean --loss-weights content=VALUE?"),
    "iterations": (["--iterations", "5"], "did you mean --steps?"),
    "image size": (["--image-size=512"], "did you mean --size?"),
    "original colors": (["--original-colors"], "did you mean --color luminance?"),
    "misspelt option of another": (["--content_wieght", "5"], "--loss-weights content=VALUE"),
    "British": (["--original-colours"], "did you mean --color luminance?"),
    "a device": (["--cpu"], "JAX_PLATFORMS=cpu chooses the CPU"),
    "capitals": (["--Style_Weight=3"], "did you mean --loss-weights style=VALUE?"),
    "no value": (["--steps"], "--steps has no value"),
    "two edges": (["--size", "640x480"], "as --size 640; see jaxstyle stylize --help"),
    "pixels": (["--size=512px"], "the long edge, as --size 512"),
    "misspelt original": (["--size", "orginal"], "did you mean original?"),
    "size of nothing": (["--size", "original", "--content", "no.jpg", "--style", "GOOD"], "no.jpg"),
    "a trillion steps": (["--steps", "1e12"], "--steps 1000000000000: give at most 1000000; see"),
    "steps of a recipe": (
        ["--content", "GOOD", "--style", "GOOD", "--set", "solver.num_steps=2000000"],
        "give at most 1000000",
    ),
    "misspelt term": (["--loss-weights", "stlye=3"], "did you mean style? see jaxstyle stylize"),
    "misspelt recipe": (["--recipe", "gatsy"], "did you mean gatys"),
    "misspelt layer": (["--layer-style-weights", "relu11=1"], "did you mean relu1_1"),
    "misspelt choice": (["--color", "luminence"], "did you mean luminance? see jaxstyle stylize"),
    "like nothing": (["--zzzzz"], "jaxstyle stylize --help"),
    "no pair": (["--no-quiet"], "did you mean --quiet?"),
    "flag with a value": (["--plot=3"], "--plot takes no value"),
    "words for a size": (["--size", "abc"], "--size abc: give a whole number"),
    "part of a step": (["--steps=1.5"], "--steps 1.5: give a whole number"),
    "infinite size": (["--size", "1e999"], "--size 1e999: give a whole number"),
    "no share": (["--style-weights", "1", "a"], "--style-weights a: give a number"),
    "network weights": (["--weights", "a.safetensors"], "use --params a.safetensors"),
    "network weights again": (["--loss-weights", "style=1", "b/c.PTH"], "use --params b/c.PTH"),
    "a folder of photos": (["folder.png", "GOOD"], "batch --contents folder.png --styles"),
    "an output as a painting": (["GOOD", "GOOD", "out.png"], "use --output out.png"),
    "an address": (["ftp://a.org/b.jpg", "GOOD"], "cannot be read; give a path or an address of"),
    "commas": (["GOOD", "good.png,one.png"], "separate several pictures by spaces"),
    "comma of an option": (["--content", "GOOD", "--style", "good.png,one.png"], "--style "),
    "misspelt file": (["godo.png", "GOOD"], "'godo.png' does not exist; did you mean good.png?"),
    "stdin twice": (["-", "-"], "name a file for the others"),
    "picture and JSON": (
        ["GOOD", "GOOD", "-o", "-", "--progress", "json", "--size", "48"],
        "both write to stdout",
    ),
    "files next to stdout": (["GOOD", "GOOD", "-o", "-", "--plot", "--size", "48"], "--plot"),
    "one picture": (["GOOD"], "jaxstyle stylize PHOTO PAINTING"),
    "pictures twice": (["GOOD", "GOOD", "--content", "GOOD"], "are given twice"),
    "styles twice": (["GOOD", "GOOD", "--style", "GOOD"], "are given twice"),
    "no terms": (["--weights", "style=0", "content=0"], "nothing to optimize"),
    "texture from content": (["--style", "GOOD", "--weights", "content=0"], "--init noise"),
    "set": (["--set", "solver.steps=3"], "num_steps"),
    "set a value": (["--set", "network.pooling=min"], "max, average, l2"),
    "recipe file": (["--recipe", "nowhere.toml"], "nowhere.toml"),
    "color": (["--color", "blue"], "luminance"),
    "color of nothing": (
        ["--style", "GOOD", "--weights", "content=0", "--init", "noise", "--color", "match"],
        "--content",
    ),
    "style scale": (["--style-scale", "0"], "--style-scale"),
    "strength": (["--strength=-1"], "--strength -1.0: give 0 for the photo"),
    "strength of nothing": (
        ["--style", "GOOD", "--weights", "content=0", "--init", "noise", "--strength", "0.5"],
        "--strength 0.5 needs a --content",
    ),
    "masks": (
        ["--content", "GOOD", "--style", "GOOD", "--mask", "GOOD", "GOOD"],
        "2 pictures for 1",
    ),
    "missing mask": (["--content", "GOOD", "--style", "GOOD", "--mask", "no.png"], "no.png"),
    "mask of another shape": (
        ["--content", "GOOD", "--style", "GOOD", "--size", "64", "--mask", "eight.png"],
        "aspect ratio",
    ),
    "layer style weights": (["--layer-style-weights", "relu9_1=1"], "relu5_1"),
    "no shares by layer": (
        ["--recipe", "nnst", "--layer-style-weights", "relu4_1=1"], "give one share for each style"
    ),
    "layer style shares": (["--layer-style-weights", "relu1_1=1,2"], "1 numbers"),
    "negative weight": (["--weights", "style=-3"], "at least 0"),
    "weight of words": (["--weights", "style=big"], "number"),
    "style weights": (["--style-weights", "1", "2"], "2 numbers for 1"),
    "seed": (["--seed", "-1"], "--seed"),
    "init": (["--content", "GOOD", "--style", "GOOD", "--init", "nois"], "from content, noise"),
    "params": (["--content", "GOOD", "--style", "GOOD", "--params", "text.jpg"], "text.jpg"),
    "shares of no style": (
        ["--content", "GOOD", "--weights", "style=0", "--style-weights", "1"],
        "1 numbers for 0 styles",
    ),
    "output is the content": (
        ["--content", "GOOD", "--style", "GOOD", "--output", "GOOD"],
        "would be replaced",
    ),
    "JSON is a folder": (
        ["--content", "GOOD", "--style", "GOOD", "--output", "taken.png"],
        "taken.json",
    ),
    "curve is a folder": (
        ["--content", "GOOD", "--style", "GOOD", "--output", "curve.png", "--plot"],
        "curve-loss.png",
    ),
    "SciPy on devices": (
        ["--content", "GOOD", "--style", "GOOD", "--recipe", "gokalp-kim", "--devices", "1"],
        "runs on the host",
    ),
    "tile of a whole": (
        ["--content", "GOOD", "--style", "GOOD", "--size", "64", "--tile", "32",
         "--set", "terms.style.normalize_gradients=true"],
        "not a sum over positions",
    ),
    "start for a small texture": (
        ["--style", "GOOD", "--weights", "content=0", "--init", "eight.png", "--size", "8",
         "--style-scale", "4"],
        "init eight.png is 8x8 px",
    ),
    "recipe of lists": (["--recipe", "lists.json"], "type"),
    "number of 400 digits": (["--set", f"solver.first_step={'9' * 400}"], "must be a number"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_one_line_and_exit_code_2(name, bad_files, capsys, monkeypatch):
    folder, good = bad_files
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    arguments, hint = BAD_CALLS[name]
    arguments = [good if argument == "GOOD" else argument for argument in arguments]
    assert main(["stylize", "--quiet", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert hint in lines[0]
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["stilize"], "did you mean stylize?"),
        (["--size", "3"], "name a command before"),
        (["a.jpg", "b c.JPG"], "did you mean jaxstyle stylize a.jpg 'b c.JPG'?"),
        (["download"], "did you mean weights? see jaxstyle --help"),
        (["batch", "a.csv"], "--output-dir is missing: name one for pictures, their JSON"),
        (
            ["batch"],
            "example: jaxstyle batch --contents photos --styles paintings --output-dir out",
        ),
        (["batch"], "give a MANIFEST, or both --contents and --styles; --output-dir is missing"),
        (
            ["batch", "."],
            "'.' is a folder, not a manifest: use --contents; --output-dir is missing",
        ),
        (
            ["batch", "."],
            "example: jaxstyle batch --contents . --styles paintings --output-dir out",
        ),
        (["batch", "GOOD", "-o", "b c"], "good.png' is a picture, not a manifest: use --contents"),
        (["batch", "GOOD", "-o", "b c"], "good.png --styles paintings --output-dir 'b c'"),
        (["batch", "a.csv"], "example: jaxstyle batch a.csv --output-dir out"),
        (["batch", "lists.jsn", "-o", "b"], "'lists.jsn' does not exist; did you mean lists.json?"),
        (["batch", "a://b.csv", "-o", "b"], "'a://b.csv' is an address; download the manifest"),
        (
            ["stylize", "--params", "s3://b/w.npz"],
            "--params s3://b/w.npz is an address: download the file",
        ),
        (["repeat", "s3://b/a.json"], "s3://b/a.json is an address: download the JSON, and the"),
        (["batch", "--input", "a", "-o", "b"], "did you mean --contents?"),
        (["stylize", "GOOD", "GOOD", "-n", "9"], "option -n; did you mean --steps? see jaxstyle"),
        (
            ["stylize", "-c", "GOOD", "-s", "GOOD"],
            "option -c; did you mean --content? see jaxstyle",
        ),
        (["stylize", "~/a.jpg", "GOOD"], "'~/a.jpg' does not exist: only the shell replaces ~"),
        (["stylize", "a/b.jpg", "GOOD"], "'a/b.jpg' does not exist: there is no folder 'a'"),
        (["batch", "a.csv", "b.csv", "-o", "b"], "unexpected argument 'b.csv'"),
        (["features"], "see jaxstyle features --help"),
        (["help", "stilize"], "did you mean stylize?"),
        (["weights", "convrt"], "did you mean convert?"),
        (["batch", "--content", "a.jpg"], "--contents"),
        (["serve", "--hots", "0.0.0.0"], "--host"),
        (["features"], "IMAGE"),
        (["features", "GOOD", "--layers", "relu9_9"], "relu5_4"),
        (["features", "GOOD", "--layers", "relu43"], "relu5_4? see jaxstyle features --help"),
        (["features", "GOOD", "--size", "0"], "at least 1"),
        (["features", "GOOD", "-o", "GOOD"], "is a file; name a folder"),
        (["features", "GOOD", "-o", "no/where"], "the folder of 'no/where' does not exist"),
        (["features", "GOOD", "--layers", "pool5", "--size", "20"], "at least 32"),
        (["recipes", "monet"], "gatys"),
        (["recipes", "monet"], "file; see jaxstyle recipes --help"),
        (["recipes", "no.toml"], "'no.toml' does not exist; check the path; see jaxstyle recipes"),
        (
            ["repeat", "GOOD"],
            "not JSON, which is text in UTF-8; name another file; see jaxstyle repeat",
        ),
        (["repeat", "no.json"], "does not exist; check the path; see jaxstyle repeat --help"),
        (["recipes", "--toml"], "name a recipe"),
        (["recipes", "gatys", "--set", "solver.steps=3"], "num_steps"),
        (["weights"], "fetch, convert, verify"),
        (["weights", "steal"], "fetch"),
        (["weights", "convert", "nowhere.h5"], "nowhere.h5"),
        (["weights", "convert", "nowhere.h5"], "the path; see jaxstyle weights convert --help"),
        (["weights", "verify", "GOOD"], "of VGG19; see jaxstyle weights verify --help"),
    ],
)
def test_bad_calls_of_other_commands(arguments, hint, bad_files, capsys, monkeypatch):
    folder, good = bad_files
    monkeypatch.chdir(folder)
    assert main([good if argument == "GOOD" else argument for argument in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert hint.lower() in lines[0].lower()


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"], ["-h"]])
def test_short_help_has_examples(arguments, capsys):
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n  jaxstyle ") == 3
    for command in (*_COMMANDS, "weights"):
        assert f"\n  {command} " in said.out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxstyle {jaxstyle.__version__}\n"


def test_help_and_messages_do_not_wait_for_jax():
    code = (
        "import sys; from jaxstyle.app.cli.main import main\n"
        "for words in ([], ['--version'], ['stylize', '--help'], ['batch', '--iterations', '1']):\n"
        "    main(words)\n"
        "print(*{'jax', 'flax', 'PIL', 'numpy'} & {*sys.modules}, file=sys.stderr)"
    )
    run = [sys.executable, "-c", code]
    found = subprocess.run(run, capture_output=True, text=True, check=True)
    assert found.stderr.splitlines()[1:] == [""]


@pytest.mark.parametrize("words", [*([name] for name in _COMMANDS),
                                   *(["weights", name] for name in _WEIGHTS_COMMANDS)])  # fmt: skip
def test_help_has_a_line_for_each_option(words, capsys):
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert main(["help", *words]) == 0
    assert capsys.readouterr().out == text
    assert all(len(line) <= 100 for line in text.splitlines()), text
    assert not re.search(r"\{None\}|--no-|default:|STR", text)
    command = {**_COMMANDS, **_WEIGHTS_COMMANDS}[words[-1]]
    for parameter in options_of(command):
        if parameter.is_positional:
            continue
        option = "--loss-weights" if parameter.name == "weights" else parameter.spelling
        (line,) = re.findall(rf"^  (?:-., )?{option}(?: .*)?$", text, re.MULTILINE)
        assert re.search(r" [A-Z][^ ]*|[a-z]+: .*", line[30:]), line  # says what it is
        if isinstance(parameter.default, int | float) and parameter.default is not False:
            assert line.endswith(f" [{parameter.default}]")


def test_short_spellings_are_the_long_ones(monkeypatch, pair):
    jobs = []
    monkeypatch.setattr("jaxstyle.app.painting.paint", lambda job: jobs.append(job) or 0)
    content, style = pair
    long = ["--output", "x.png", "--quiet", "--weights", "style=2", "--steps", "200"]
    spellings = (["--content", content, "--style", style], [content, style],
                 [content, "--style", style])  # fmt: skip
    for pictures in spellings:
        for options in (long, ["-o", "x.png", "-q", "--loss-weights=style=2", "--steps=2e2"]):
            assert main(["stylize", *pictures, *options]) == 0
    assert main(["stylize", "-q", content, style, style]) == 0
    *jobs, mixed = jobs
    assert len(jobs) == 6
    for job in jobs:
        assert dataclasses.replace(job, command="") == dataclasses.replace(jobs[0], command="")
    assert jobs[0].recipe.weights["style"] == 2
    assert len(mixed.styles) == 2
    assert jobs[3].command.startswith(f"jaxstyle stylize {content} {style} --output x.png ")
    assert main(shlex.split(jobs[-1].command)[1:]) == 0


def test_previews_come_at_all_sizes(tmp_path, pair, params_file, small_recipe):
    options = ["--steps", "5", "--coarsest", "32", "--preview-every", "4", "--recipe", small_recipe]
    assert stylize(pair, params_file, tmp_path / "out.png", *options) == 0
    # Looks at the second size begin with its first step, the sixth of all.
    found = sorted(int(path.stem[4:]) for path in tmp_path.glob("out-*.png"))
    assert len(found) == 2
    assert [step // 4 for step in found] == [1, 2]


def test_side_files_that_cannot_be_written_do_not_take_the_picture_along(
    tmp_path, pair, params_file, small_recipe, capsys, monkeypatch
):
    (tmp_path / "out-0002.png").mkdir()
    (tmp_path / "kept").mkdir()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxstyle.app.checkpoint.write_tensors", full)
    monkeypatch.setattr("jaxstyle.app.checkpoint._SECONDS", 0.0)
    options = ["--steps", "4", "--preview-every", "2", "--overwrite"]
    options += ["--checkpoint", str(tmp_path / "kept")]
    options += ["--recipe", small_recipe]
    assert stylize(pair, params_file, tmp_path / "out.png", *options) == 0
    said = capsys.readouterr().err
    assert "no preview: " in said
    assert "No space left on device" in said
    assert (tmp_path / "out.png").is_file()
    assert (tmp_path / "out-0004.png").is_file()


class Pipe:
    """A pipe, as `sys.stdin` or `sys.stdout`."""

    def __init__(self, data=b"", terminal=False):
        self.buffer, self.isatty = io.BytesIO(data), lambda: terminal

    def write(self, text):
        self.buffer.write(text.encode())

    def flush(self):
        pass


def test_from_stdin_to_stdout(tmp_path, pair, params_file, small_recipe, capsys, monkeypatch):
    content, style = pair
    words = ["--params", params_file, "--size", "64", "--steps", "1", "--recipe", small_recipe]
    assert main(["stylize", content, style, "-o", str(tmp_path / "out.png"), *words]) == 0
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("next: --size 128 for a larger picture, --loss-weights")
    assert " at 64x48 px, 1 step in " in said
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", Pipe(Path(content).read_bytes()))
    monkeypatch.setattr(sys, "stdout", pipe := Pipe())
    assert main(["stylize", "--content", "-", "--style", style, "--output", "-", *words]) == 0
    assert pipe.buffer.getvalue() == (tmp_path / "out.png").read_bytes()
    assert "\nstdout: loss " in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert main(["repeat", "out.json", "--output", "-", "--quiet"]) == 0
    assert pipe.buffer.getvalue() == 2 * (tmp_path / "out.png").read_bytes()
    # Nothing but a picture, and no terminal.
    capsys.readouterr()
    for stdin, stdout, message in (
        (Pipe(), Pipe(), "stdin is empty"),
        (Pipe(b"no picture"), Pipe(), "stdin' is not a"),
        (Pipe(terminal=True), Pipe(), "add < photo.jpg"),
        (Pipe(Path(content).read_bytes()), Pipe(terminal=True), "add > out.png"),
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["stylize", "-", style, "-o", "-", *words]) == 2
        assert message in capsys.readouterr().err
        assert stdout.buffer.getvalue() == b""
    # Closed by the shell: there is none.
    for name, message in (("stdin", "stdin, which is closed"), ("stdout", "stdout, which is clo")):
        monkeypatch.setattr(sys, "stdin", Pipe(Path(content).read_bytes()))
        monkeypatch.setattr(sys, "stdout", Pipe())
        monkeypatch.setattr(sys, name, None)
        assert main(["stylize", "-", style, "-o", "-", *words]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    # A picture that came from stdin is repeated from a file of that name.
    monkeypatch.setattr(sys, "stdin", Pipe(Path(content).read_bytes()))
    monkeypatch.setattr(sys, "stdout", Pipe())
    assert main(["stylize", "-", style, "-o", "piped.png", "--quiet", *words]) == 0
    metadata = json.loads((tmp_path / "piped.json").read_text())
    assert (metadata["content"], metadata["files"]["content"]["path"]) == ("-", "-")
    capsys.readouterr()
    assert main(["repeat", "piped.json", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "came from stdin: save it as a file named stdin next to the JSON" in said
    assert said.count("\n") == 1
    (tmp_path / "stdin").write_bytes(Path(content).read_bytes())
    assert main(["repeat", "piped.json", "--quiet"]) == 0
    assert (tmp_path / "piped-again.png").read_bytes() == (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stylize", "PHOTO", "STYLE", "-o", "./-"], "extension"),
        (["stylize", "PHOTO", "STYLE", "--report", "-"], "--report - is no folder"),
        (["stylize", "PHOTO", "STYLE", "--checkpoint", "-"], "--checkpoint - is no folder"),
        (["features", "PHOTO", "-o", "-"], "--output-dir - is no folder"),
        (["batch", "--contents", "PHOTO", "--styles", "STYLE", "-o", "-"], "--output-dir - is no"),
    ],
)
def test_only_a_dash_is_stdout(words, message, tmp_path, pair, params_file, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    names = dict(zip(("PHOTO", "STYLE"), pair, strict=True))
    assert main([*[names.get(word, word) for word in words], "--params", params_file]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_raw_file_on_a_full_disk_stays_open():
    """With PYTHONUNBUFFERED, stdout's file is a raw one."""
    with open("/dev/full", "wb", buffering=0) as full:
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                write_object(full, bytes(100_000))
        assert not full.closed


def test_the_photos_own_size(tmp_path, pair, params_file, small_recipe, monkeypatch):
    jobs = []
    monkeypatch.setattr("jaxstyle.app.painting.paint", lambda job: jobs.append(job) or 0)
    Image.new("RGB", (90, 40)).save(tmp_path / "wide.png")
    wide = str(tmp_path / "wide.png")
    recipe = json.loads(Path(small_recipe).read_text())
    (tmp_path / "own.json").write_text(json.dumps({**recipe, "size": "original"}))
    assert main(["stylize", wide, pair[1], "--size", "original"]) == 0
    assert main(["stylize", wide, pair[1], "--recipe", str(tmp_path / "own.json")]) == 0
    assert main(["stylize", "--style", wide, "--size=original", "--weights", "content=0",
                 "--init", "noise"]) == 0  # fmt: skip
    assert [job.size for job in jobs] == [90, 90, 90]
    assert " --size original" in jobs[0].command


def test_nobody_reads_what_is_said(tmp_path, pair, params_file, small_recipe):
    content, style = pair
    command = [
        sys.executable, "-m", "jaxstyle", "stylize", "--content", content, "--style", style,
        "--params", params_file, "--output", str(tmp_path / "out.png"), "--size", "64",
        "--steps", "3", "--recipe", small_recipe,
    ]  # fmt: skip
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code = subprocess.run(command, stderr=writer, check=False, timeout=300).returncode
    finally:
        os.close(writer)
    assert code == 0
    assert json.loads((tmp_path / "out.json").read_text())["status"] == "step_limit"


def test_a_size_that_the_format_does_not_hold(tmp_path, pair, params_file, capsys):
    assert stylize(pair, params_file, tmp_path / "l.webp", "--size", "16384") == 2
    assert (
        "WEBP holds at most 16383 pixels along an edge; save it as .png" in capsys.readouterr().err
    )
    assert not (tmp_path / "l.webp").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("words", [["recipes"], ["recipes", "gatys"], ["--help"], ["--version"]])
def test_stdout_on_a_full_disk(words, capsys, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: No space left on device; free some space")
    assert len(said.splitlines()) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_stderr_on_a_full_disk(monkeypatch):
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert main(["nonsense"]) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove the current folder")
@pytest.mark.parametrize("command", ["stylize", "batch", "batch of patterns", "features"])
def test_the_current_folder_was_removed(command, tmp_path, pair, params_file, capsys, monkeypatch):
    content, style = pair
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"content,style,output\n{content},{style},a.png\n")
    words = {
        "stylize": ["stylize", content, style, "-o", "a.png"],
        "batch": ["batch", str(manifest), "--output-dir", "out"],
        "batch of patterns": ["batch", "--contents", content, "--styles", style,
                              "--output-dir", "out"],
        "features": ["features", content],
    }  # fmt: skip
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main([*words[command], "--params", params_file]) == 2
    said = capsys.readouterr().err
    assert "cannot be found (No such file or directory); change to a folder that exists" in said
    assert len(said.splitlines()) == 1


def test_a_backend_that_is_not_there(tmp_path, pair, params_file):
    command = [sys.executable, "-m", "jaxstyle", "stylize", "--output", str(tmp_path / "out.png")]
    environment = {**os.environ, "JAX_PLATFORMS": "nosuch"}
    found = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert found.returncode == 2
    assert "JAX_PLATFORMS" in found.stderr.strip().splitlines()[-1]
    assert "Traceback" not in found.stderr


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for a child on Windows")
@pytest.mark.parametrize("loading", ["numpy", "jaxlib", "flax"])
@pytest.mark.parametrize("command", ["-m jaxstyle", "-c import jaxstyle.__main__ as p; p.main()"])
def test_ctrl_c_while_jax_is_loaded(loading, command, tmp_path):
    output = tmp_path / "out.png"
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *command.split(" ", 1), "stylize", "--size", "64",
         "--steps", "1", "--output", str(output)],
        stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    try:
        for line in process.stderr:  # a line for each module that has been loaded
            if line.rpartition("|")[2].strip().startswith(loading):
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    # Ended by the signal itself, which a shell shows as 130.
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in errors
    assert not output.exists()


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for a child on Windows")
def test_ctrl_c_saves_the_best_image_so_far(tmp_path, pair, params_file, small_recipe):
    output = tmp_path / "out.png"
    # A shell that runs the tests in the background makes its children ignore SIGINT.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "import sys; from jaxstyle.app.cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", start, "stylize", "--content", pair[0], "--style", pair[1],
         "--params", params_file, "--output", str(output), "--size", "64", "--steps", "100000",
         "--preview-every", "3", "--recipe", small_recipe],
        stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "out-0006.png").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    metadata = json.loads((tmp_path / "out.json").read_text())
    assert metadata["status"] == "interrupted"
    assert metadata["trace"][-1]["step"] >= 6
    assert metadata["loss"] < metadata["trace"][0]["loss"]
    with Image.open(output) as image:
        image.load()


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ("--style a --style b", "--style a b"),
        ("p --style a b --size 3 --style c --plot", "p --style a b c --size 3 --plot"),
        ("--style=a --size=3 --style=b=c", "--style a b=c --size=3"),
        ("--style=-a --size 3 p", "--style=-a --size 3 p"),
        ("--style a --size 3 --size 4", "--style a --size 3 --size 4"),
        ("--weights a=1 --weights b=-1 -- --style c", "--weights a=1 b=-1 -- --style c"),
        ("", ""),
    ],
)
def test_a_repeated_option_gives_more_values(given, joined):
    assert join_repeated(_COMMANDS["stylize"], given.split()) == joined.split()


def test_serve_without_its_extra(monkeypatch, capsys):
    for name in ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE"):  # which it sets
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == (
        "error: the page needs Gradio: pip install '.[web]' where you installed jaxstyle from\n"
    )


@pytest.mark.parametrize("option", ["--port", "--max-size", "--max-steps", "--max-upload"])
def test_serve_refuses_numbers_below_one(option, capsys):
    assert main(["serve", option, "0"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {option} 0: give a whole number")


def test_serve_checks_names_before_it_starts(capsys):
    assert (
        main(["serve", "--allow-host", "good.example", "--allow-host", "https://a.example/b"]) == 2
    )
    assert capsys.readouterr().err.endswith("give one host name alone: --allow-host a.example\n")
    assert main(["serve", "--root-path", "paint"]) == 2
    assert capsys.readouterr().err.startswith("error: --root-path paint: give a path such as")
