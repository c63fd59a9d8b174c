"""The scripts run, small."""

import importlib
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxstyle
from jaxstyle.io import InputError
from jaxstyle.io.json_file import read_json

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def run(monkeypatch, random_params, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxstyle.io, "load_params", lambda: random_params)

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")

    return call


def test_benchmarks_replace_no_file_of_somebody_else(tmp_path, monkeypatch, capsys):
    for folder in ("benchmark", "."):
        monkeypatch.syspath_prepend(SCRIPTS / folder)
    common = importlib.import_module("common")
    options = common.Options(out=tmp_path)
    for _ in range(2):
        common.check_outputs("solver", options)
        rows = [{"solver": "a", "loss": np.float32(1.5)}, {"solver": "b", "loss": math.nan}]
        common.report("solver", rows, options)
        common.plot("solver", {"a": ([1, 2], [3, 4])}, ("x", "y"), options)
    assert [row["loss"] for row in read_json(tmp_path / "solver.json")["rows"]] == [1.5, None]
    assert "a " in capsys.readouterr().out
    (tmp_path / "solver.png").write_bytes(b"theirs")
    with pytest.raises(InputError, match="did not write it: name another folder"):
        common.check_outputs("solver", options)
    common.check_outputs("windows", options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "none"}, "--recipe none: choose from default, "),
        ({"programs": ()}, "name one at least"),
        ({"batch": 0}, "--batch 0: it must be positive"),
        ({"mesh": (0, 1)}, "--mesh 0 1: both numbers must be positive"),
        ({"mesh": (2, 8)}, "their product at most 8"),
    ],
)
def test_nothing_is_compiled_for_wrong_settings(wrong, message, tmp_path, monkeypatch):
    for folder in ("benchmark", "."):
        monkeypatch.syspath_prepend(SCRIPTS / folder)
    common, compiling = map(importlib.import_module, ("common", "compiling"))
    with pytest.raises(InputError, match=message):
        compiling.compile(common.Options(out=tmp_path / "new"), **wrong)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="name another folder"):
        common.check_outputs("compile", common.Options(out=tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


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


PROGRAM = """
%fused_computation (param_0: bf16[2,8,64]) -> bf16[2,8,64] {
  %param_0 = bf16[2,8,64]{2,1,0:T(8,128)(2,1)} parameter(0)
  ROOT %multiply = bf16[2,8,64]{2,1,0:T(8,128)(2,1)} multiply(%param_0, %param_0)
}

%body (state: (s32[], bf16[2,8,64])) -> (s32[], bf16[2,8,64]) {
  %state = (s32[]{:T(128)}, bf16[2,8,64]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %map = bf16[2,8,64]{2,1,0:T(8,128)(2,1)} get-tuple-element(%state), index=1
  %fusion = bf16[2,8,64]{2,1,0:T(8,128)(2,1)S(1)} fusion(%map), kind=kLoop, calls=%fused_computation
  ROOT %tuple = (s32[]{:T(128)}, bf16[2,8,64]{2,1,0:T(8,128)(2,1)}) tuple(%count, %fusion)
}

ENTRY %main (map: bf16[2,8,64]) -> bf16[2,8,64] {
  %start = (s32[]{:T(128)}, bf16[2,8,64]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %while = (s32[]{:T(128)}, bf16[2,8,64]{2,1,0:T(8,128)(2,1)}) while(%start), body=%body
  %copy-start = (f32[16,128]{1,0:T(8,128)S(1)}, f32[16,128]{1,0:T(8,128)}) copy-start(%while)
  ROOT %copy-done = f32[16,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
}
"""


def test_bytes_of_a_tpus_main_memory_are_told_from_those_of_its_vector_memory(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS / "benchmark")
    from traffic import main_memory_bytes

    # The fusion reads two maps whose 64 channels fill tiles of 128; the copy moves one array.
    assert main_memory_bytes(PROGRAM) == 2 * 8 * 128 * 2 + 16 * 128 * 4
