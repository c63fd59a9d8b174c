"""The batch runner, from the outside: killed, starved, fed with rubbish, and started again."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import types
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

import jaxstyle
from jaxstyle import terms
from jaxstyle.app.batch import plan, recorder, resume, runner, worker
from jaxstyle.app.cli.main import main
from jaxstyle.app.job import make_job
from jaxstyle.app.pages import batch_page
from jaxstyle.app.painting import paint as paint_one
from jaxstyle.app.repeat import job_of
from jaxstyle.io import InputError, describe_recipe
from jaxstyle.io.journal import Journal

SMALL = dataclasses.replace(
    SHALLOW,
    solver=jaxstyle.LBFGS(num_steps=5, history_size=5),
    pyramid=None,
)


@pytest.fixture
def folder(tmp_path, pictures):
    """Six photos of three sizes, two paintings, and a recipe that compiles fast."""
    for name, number, sizes in (("c", 6, ((32, 64), (64, 64), (40, 64))), ("s", 2, ((64, 32),))):
        for i in range(number):
            image = pictures(10 * number + i, *sizes[i % len(sizes)])
            Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / f"{name}{i}.png")
    (tmp_path / "small.json").write_text(json.dumps(describe_recipe(SMALL)))
    return tmp_path


def write_manifest(folder, number, **cells):
    """A manifest of so many pairs, all different; `cells` go over row i as `row<i>`."""
    rows = [
        {"content": f"c{i % 6}.png", "style": f"s{i % 2}.png", "output": f"{i % 3}/{i}.png",
         "weights": f"style={1000 * (i + 1)}", **cells.get(f"row{i}", {})}
        for i in range(number)
    ]  # fmt: skip
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [row["output"] for row in rows]


def arguments(folder, params_file, *options, output="out"):
    return [
        "batch", str(folder / "m.jsonl"), "--output-dir", str(folder / output), "--size", "64",
        "--recipe", str(folder / "small.json"), "--params", params_file, "--batch-size", "4",
        *options,
    ]  # fmt: skip


def journal_of(folder, output="out"):
    lines = (folder / output / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def contents_of(folder):
    """Path -> digest of all pictures and their JSON below a folder, but for times."""
    found = {}
    for path in sorted(folder.rglob("*.png")):
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        metadata = json.loads(path.with_suffix(".json").read_text())
        found[str(path.relative_to(folder)) + " loss"] = metadata["loss"]
    return found


def test_a_file_outside_of_root_is_not_looked_at(folder, params_file, capsys, monkeypatch):
    write_manifest(folder, 1)
    (folder / "below").mkdir()
    read = []
    monkeypatch.setattr("jaxstyle.app.batch.pictures.read_shape", read.append)
    assert main(arguments(folder, params_file, "--root", str(folder / "below"))) == 2
    assert "c0.png' is not below" in capsys.readouterr().err
    assert main(arguments(folder, params_file, "--root", str(folder / "none"))) == 2
    assert read == []


def test_another_seed_is_another_pair_where_it_changes_the_picture():
    def digest(recipe, settings, seed):
        options = {"content": "c.png", "style": ["s.png"], "output": "o.png", "size": 64}
        return plan._digest(make_job(**options, recipe=recipe, settings=settings, seed=seed))

    cases = {
        ("default", ()): True,  # by its grain
        ("default", ("grain=0",)): False,
        ("gatys", ()): False,
        ("nnst", ()): True,  # by its drawn positions
        ("sharp", ("grain=0",)): True,
    }
    for case, changes in cases.items():
        assert (digest(*case, 0) != digest(*case, 1)) == changes, case


def test_pairs_are_painted_as_one_by_one(folder, params_file, capsys):
    outputs = write_manifest(folder, 6, row2={"seed": 3, "init": "noise"}, row4={"size": "32.0"})
    # One step: rounding grows with each, so no bound holds after many.
    call = arguments(folder, params_file, "--steps", "1")
    assert main(call) == 0
    said = capsys.readouterr().err
    assert "6 pairs, 6 to paint" in said
    assert "6/6 pairs" in said
    entries = journal_of(folder)
    assert {entry["output"] for entry in entries} == set(outputs)

    changes = []
    params = jaxstyle.io.load_params(params_file)
    for i, output in enumerate(outputs):
        size = 32 if i == 4 else 64
        image = jaxstyle.io.load_image(folder / f"c{i % 6}.png", size=size)
        height, width, _ = image.shape
        # Working sizes are multiples of 32 px: a photo is continued by its reflection.
        filled = np.pad(image, ((0, -height % 32), (0, -width % 32), (0, 0)), "symmetric")
        style = jaxstyle.io.load_image(folder / f"s{i % 2}.png", size=size)
        style = style[:, : style.shape[1] // 32 * 32 or style.shape[1]]
        expected = jaxstyle.stylize(
            params,
            filled,
            style,
            recipe=SMALL,
            solver=dataclasses.replace(SMALL.solver, num_steps=1),
            weights={"style": 1000.0 * (i + 1)},
            init="noise" if i == 2 else None,
            key=jax.random.key(3 if i == 2 else 0),  # of the grain too
        )
        metadata = json.loads((folder / "out" / output).with_suffix(".json").read_text())
        assert metadata["recipe"]["weights"]["style"] == 1000 * (i + 1)
        assert metadata["trace"][-1]["loss"] == metadata["solver_loss"]
        for entry in metadata["trace"]:
            weights = metadata["recipe"]["weights"]
            weighted = sum(weights[name] * loss for name, loss in entry["terms"].items())
            np.testing.assert_allclose(entry["loss"], weighted, rtol=1e-4)
        rounding = 64 * 64 * np.finfo(np.float32).eps  # a sum over so many positions
        np.testing.assert_allclose(metadata["loss"], expected.loss, rtol=rounding)
        found = jaxstyle.io.load_image(folder / "out" / output)
        assert found.shape == image.shape
        # To the nearest of 256 values, on either side of which rounding may take it.
        np.testing.assert_allclose(found, expected.image[:height, :width], atol=1.1 / 255)
        changes.append(np.abs(found - image).max())
    assert max(changes) > 8 / 255  # they are other pictures than the photos

    # Again: nothing to do, and nothing is touched.
    def times():  # but for the lock, which older versions of filelock write
        files = [path for path in (folder / "out").rglob("*.*") if path.suffix != ".lock"]
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    assert main(call) == 0
    assert "6 pairs, 0 to paint" in capsys.readouterr().err
    assert before == times()

    # Other settings of one pair, or other weights: refused, unless forced, and then only that.
    write_manifest(folder, 6, row2={"seed": 4, "init": "noise"}, row4={"size": 32})
    assert main(call) == 2
    assert "1 picture in" in (said := capsys.readouterr().err)
    assert "made with other settings; --force" in said
    assert main([*call, "--force"]) == 0
    assert "1 painted" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.png")}
    assert [path.name for path in after if after[path] != before[path]] == ["2.png"]


def bomb() -> bytes:
    """A PNG that says it has 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def test_bad_pairs_do_not_take_others_along(folder, params_file, capsys):
    whole = (folder / "c0.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "text.png").write_text("no picture")
    Image.new("RGB", (64, 1)).save(folder / "small.png")
    bad = {
        "row1": {"content": "missing.png"},
        "row4": {"content": "truncated.png"},
        "row5": {"style": "bomb.png"},
        "row11": {"content": "text.png"},
        "row12": {"content": "small.png", "recipe": "gatys"},
        "row20": {"weights": "content=3e38", "init": "noise"},
    }
    outputs = write_manifest(folder, 30, **bad)
    # Missing pictures and files that are none are found before anything starts.
    assert main(arguments(folder, params_file)) == 2
    said = capsys.readouterr().err
    assert "has 4 bad rows; nothing was started" in said
    for line, name in ((2, "missing.png' does not exist"), (5, "truncated.png"), (6, "178 million"),
                       (12, "text.png")):  # fmt: skip
        assert re.search(rf"\n  line {line}: .*{name}", said), said
    assert not (folder / "out").exists()
    call = [*arguments(folder, params_file), "--keep-going"]
    assert main(call) == 1
    said = capsys.readouterr().err
    assert "24 painted" in said
    assert "6 failed" in said
    failed = {int(name[3:]) for name in bad}
    entries = {entry["output"]: entry for entry in journal_of(folder)}
    assert len(journal_of(folder)) == 30
    for i, output in enumerate(outputs):
        assert ("error" in entries[output]) == (i in failed)
        assert (folder / "out" / output).is_file() == (i not in failed)
    messages = [entries[outputs[i]]["error"] for i in sorted(failed)]
    for message, part in zip(
        messages,
        ["does not exist", "truncated", "178 million", "text.png", "at least", "not finite"],
        strict=True,
    ):
        assert part in message
        assert "\n" not in message

    # What failed is not tried again, unless asked for, or its picture is another one now.
    assert main(call) == 1
    assert "0 painted" in (said := capsys.readouterr().err)
    assert "30 pairs, 0 to paint" in said
    assert "line " not in said
    assert "0/0" not in said
    assert "6 of them failed in an earlier run; --retry-failed tries again" in said
    assert f"\n  {outputs[1]}: '" in said
    (folder / "truncated.png").write_bytes(whole)
    assert main(call) == 1
    assert "1 painted" in capsys.readouterr().err
    assert (folder / "out" / outputs[4]).is_file()
    assert main([*call, "--retry-failed", "--quiet"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 5
    assert main([*call, "--retry-failed"]) == 1
    assert "30 pairs, 5 to paint" in capsys.readouterr().err
    assert not (folder / "out" / outputs[1]).exists()


def test_batches_are_of_one_size(folder, params_file, monkeypatch):
    write_manifest(folder, 10)
    sizes = []

    def spy(params, contents, styles, **settings):
        sizes.append(len(contents))
        raise MemoryError

    monkeypatch.setattr(jaxstyle, "stylize_batch_steps", spy)
    assert main(arguments(folder, params_file)) == 1
    # Four pairs of one size and six of another, at most four at a time: not four and two.
    assert [size for size in sizes if size > 1] == [4, 2, 3]


def test_out_of_memory_halves_the_batch(folder, params_file, capsys, monkeypatch):
    write_manifest(folder, 8)
    sizes = []
    steps = jaxstyle.stylize_batch_steps

    def starving(params, contents, styles, **settings):
        sizes.append(len(contents))
        if len(contents) > 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 1 byte")
        return steps(params, contents, styles, **settings)

    monkeypatch.setattr(jaxstyle, "stylize_batch_steps", starving)
    assert main(arguments(folder, params_file)) == 0
    assert sorted(sizes, reverse=True) == [3, 3, *[1] * 8]  # each size of picture starves once
    assert "continuing with 1 pairs at a time" in capsys.readouterr().err
    assert len(contents_of(folder / "out")) == 16

    monkeypatch.setattr(
        jaxstyle, "stylize_batch_steps", lambda *_, **__: (_ for _ in ()).throw(MemoryError)
    )
    assert main(arguments(folder, params_file, output="none")) == 1
    assert all("out of memory" in entry["error"] for entry in journal_of(folder, "none"))


def test_a_full_disk_stops_and_says_so(folder, params_file, capsys, monkeypatch):
    outputs = write_manifest(folder, 8)
    real, written = os.fsync, []

    def fsync(file):
        written.append(file)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    assert main(arguments(folder, params_file)) == 1
    said = capsys.readouterr().err
    assert "No space left" in said
    assert "run the same command to resume" in said
    assert "Traceback" not in said
    monkeypatch.setattr(os, "fsync", real)
    done = {entry["output"] for entry in journal_of(folder)}
    assert 0 < len(done) < 8
    times = {name: (folder / "out" / name).stat().st_mtime_ns for name in done}
    assert not list((folder / "out").rglob("*.tmp*"))
    assert main(arguments(folder, params_file)) == 0
    assert {entry["output"] for entry in journal_of(folder)} == set(outputs)
    assert times == {name: (folder / "out" / name).stat().st_mtime_ns for name in done}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(folder, params_file, capsys):
    write_manifest(folder, 2)
    (folder / "out").mkdir(mode=0o500)
    assert main(arguments(folder, params_file)) == 2
    assert "is not writable" in capsys.readouterr().err


def test_folder_that_becomes_unwritable(folder, params_file, capsys, monkeypatch):
    write_manifest(folder, 3)
    call = arguments(folder, params_file)

    def refuse(*_):
        raise InputError("not here")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "check_target", refuse)
        patch.setattr(worker, "os", types.SimpleNamespace(access=lambda *_: False, W_OK=2, X_OK=1))
        assert main(call) == 1
    said = capsys.readouterr().err
    assert re.search("stopped: --output-dir .*out' is not writable; run the same command", said)
    assert not (folder / "out" / "journal.jsonl").exists()
    assert main(call) == 0
    assert len(journal_of(folder)) == 3


def start(folder, params_file, *options, output="out"):
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "jaxstyle", *arguments(folder, params_file, *options,
                                                            output=output)]  # fmt: skip
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_and_start_again(folder, params_file, pairs, kills):
    """Returns how often a run was killed while it painted."""
    outputs = write_manifest(folder, pairs)
    options = ("--steps", "60")  # so that a batch takes as long as a start, about
    undisturbed = start(folder, params_file, *options, output="undisturbed")
    _, said = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, said

    journal = folder / "out" / "journal.jsonl"
    rng = random.Random(0)
    changed: dict[str, int] = {}
    alive = 0

    def lines():
        # The last one may be torn.
        return journal.read_text().rpartition("\n")[0].splitlines() if journal.exists() else []

    for _ in range(kills):
        process = start(folder, params_file, *options)
        if rng.random() < 0.4:  # into a start
            time.sleep(rng.uniform(0.5, 4))
        else:  # into a batch, while the one before is written or after it
            before = len(lines())
            while len(lines()) == before and process.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.7))
        alive += process.poll() is None
        process.kill()
        process.communicate()
        # What was written stays, once each.
        names = [json.loads(line).get("output") for line in lines()[1:]]
        assert len(set(names)) == len(names)
        for name in names:
            time_of_change = (folder / "out" / name).stat().st_mtime_ns
            assert changed.setdefault(name, time_of_change) == time_of_change
    process = start(folder, params_file, *options)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert {entry["output"] for entry in journal_of(folder)} == set(outputs)
    assert contents_of(folder / "out") == contents_of(folder / "undisturbed")
    return alive


def test_killed_and_started_again(folder, params_file):
    assert kill_and_start_again(folder, params_file, pairs=8, kills=2) > 0


@pytest.mark.slow
def test_killed_twenty_times(folder, params_file):
    alive = kill_and_start_again(folder, params_file, pairs=60, kills=20)
    print(f"killed {alive} times of 20 before the end")
    assert alive > 15


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_and_the_next_start_goes_on(folder, params_file, number, code):
    outputs = write_manifest(folder, 9)
    process = start(folder, params_file, "--steps", "100")
    journal = folder / "out" / "journal.jsonl"
    for _ in range(600):
        if journal.exists() and len(journal.read_bytes().splitlines()) > 1:
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "run the same command to resume" in said
    done = {entry["output"] for entry in journal_of(folder)}
    assert 0 < len(done) < 9
    assert main(arguments(folder, params_file, "--steps", "100", "--quiet")) == 0
    assert {entry["output"] for entry in journal_of(folder)} == set(outputs)
    assert len(journal_of(folder)) == 9


def test_slices_share_a_manifest(folder, params_file, capsys):
    outputs = write_manifest(folder, 9)
    for i in (1, 3):
        assert main(arguments(folder, params_file, "--slice", f"{i}/3")) == 0
        assert "3 pairs, 3 to paint" in capsys.readouterr().err
    found = {str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*.png")}
    assert found == {*outputs[::3], *outputs[2::3]}
    # The next time there are two.
    for i in (1, 2):
        assert main(arguments(folder, params_file, "--slice", f"{i}/2")) == 0
    lines = [
        json.loads(line)["output"]
        for path in (folder / "out").glob("journal*.jsonl")
        for line in path.read_text().splitlines()[1:]
    ]
    assert sorted(lines) == sorted(outputs)


def test_slices_share_pairs_whatever_their_batches(folder, params_file):
    outputs = write_manifest(folder, 9)
    for i, size in ((1, "1"), (2, "4")):
        options = ("--slice", f"{i}/2", "--batch-size", size)
        assert main(arguments(folder, params_file, *options)) == 0
    assert all((folder / "out" / output).is_file() for output in outputs)


def test_the_latest_entry_counts(folder, params_file, capsys):
    write_manifest(folder, 3)
    content = (folder / "c2.png").read_bytes()
    (folder / "c2.png").write_bytes(b"")
    assert main(arguments(folder, params_file, "--keep-going")) == 1
    (folder / "c2.png").write_bytes(content)
    # `journal.jsonl`, with the failure, comes after the names of these.
    for i in (1, 2):
        options = ("--slice", f"{i}/2", "--retry-failed")
        assert main(arguments(folder, params_file, *options)) == 0
    capsys.readouterr()
    assert main(arguments(folder, params_file)) == 0
    assert "3 pairs, 0 to paint" in capsys.readouterr().err


def test_other_weights_are_refused_or_paint_again(folder, params_file, capsys):
    write_manifest(folder, 3)
    assert main(arguments(folder, params_file)) == 0
    before = contents_of(folder / "out")
    arrays = dict(np.load(params_file))
    np.savez(folder / "other.npz", **{**arrays, "conv1_1_W": 1.1 * arrays["conv1_1_W"]})
    other = str(folder / "other.npz")
    assert main(arguments(folder, other)) == 2
    assert "made with other pretrained weights; --force" in capsys.readouterr().err
    assert main(arguments(folder, other, "--force")) == 0
    assert "3 painted" in capsys.readouterr().err
    assert all(before[key] != value for key, value in contents_of(folder / "out").items())
    assert main(arguments(folder, other)) == 0
    assert "3 pairs, 0 to paint" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_one_that_fails(folder, params_file, capsys):
    outputs = write_manifest(folder, 6)
    (folder / "out" / outputs[1]).mkdir(parents=True)
    (folder / "out" / outputs[3]).with_suffix(".json").mkdir(parents=True)
    assert main(arguments(folder, params_file)) == 1
    assert "4 painted" in capsys.readouterr().err
    failed = {entry["output"] for entry in journal_of(folder) if "error" in entry}
    assert failed == {outputs[1], outputs[3]}


def test_what_the_library_refuses_is_a_pair_that_fails(folder, params_file, capsys):
    recipe = dataclasses.replace(
        SMALL,
        terms=(SMALL.terms[0], terms.MRFStyle(layers=("relu5_1",), layer_weights=(1.0,), size=9)),
    )
    (folder / "patches.json").write_text(json.dumps(describe_recipe(recipe)))
    outputs = write_manifest(folder, 3, row1={"recipe": str(folder / "patches.json")})
    assert main(arguments(folder, params_file)) == 1
    assert "2 painted" in capsys.readouterr().err
    entries = {entry["output"]: entry for entry in journal_of(folder)}
    assert "too few for patches" in entries[outputs[1]]["error"]


def test_a_file_that_is_no_journal(folder, params_file, capsys):
    write_manifest(folder, 2)
    (folder / "out").mkdir()
    journal = folder / "out" / "journal.jsonl"
    journal.write_text('{"some": "log"}\nand a line without an end')
    assert main(arguments(folder, params_file)) == 2
    assert "journal.jsonl' is not a journal" in capsys.readouterr().err
    assert journal.read_text() == '{"some": "log"}\nand a line without an end'


def test_one_run_at_a_time(folder, params_file, capsys):
    write_manifest(folder, 4)
    first = start(folder, params_file, "--steps", "1000")
    lock = folder / "out" / ".jaxstyle-1-of-1.lock"
    for _ in range(600):
        if lock.exists():
            break
        time.sleep(0.1)
    time.sleep(0.2)
    assert main(arguments(folder, params_file)) == 2
    assert "in use by another run" in capsys.readouterr().err
    first.kill()
    first.communicate()


WRONG = {
    "no manifest": ([], "give a MANIFEST"),
    "slice 0": (["m.jsonl", "--slice", "0/2"], "--slice 0/2: give I/N with I from 1 to N"),
    "empty slice": (["m.jsonl", "--slice", ""], "--slice : give I/N"),
    "half a slice": (["m.jsonl", "--slice", "2"], "--slice 2: give I/N"),
    "a process": (
        ["m.jsonl", "--processes", "2", "--process", "1"],
        "unknown option --processes; did you mean --slice I/N, counted from 1?",
    ),
    "batch size": (["m.jsonl", "--batch-size", "0"], "--batch-size"),
    "row": (["bad.jsonl"], "line 2: --size -1"),
    "recipe of a row": (["recipe.jsonl"], "gokalp-kim runs on the host"),
    "edges that fit": (["m.jsonl", "--recipe", "seamless"], "line 1: recipe seamless makes edges"),
    "recipe": (["m.jsonl", "--recipe", "monet"], "line 1: unknown recipe 'monet'"),
    "devices": (["m.jsonl", "--devices", "99"], "--devices 99"),
    "no folder": (["m.jsonl", "--output-dir", "no/where/at/all"], "make its folder first"),
    "no output folder": (
        ["m.jsonl", "--output-dir", "m.jsonl"],
        "m.jsonl is a file; name a folder",
    ),
    "an empty folder": (["--contents", "empty", "--styles", "s*.png"], "no picture in the folder"),
    "all that is wrong": (["all.jsonl"], "all.jsonl has 3 bad rows; nothing was started"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_before_anything_starts(name, folder, params_file, capsys,
                                                      monkeypatch):  # fmt: skip
    options, message = WRONG[name]
    monkeypatch.chdir(folder)
    write_manifest(folder, 2)
    row = '{"content": "c0.png", "style": "s0.png", "output": "%s.png"%s}\n'
    (folder / "bad.jsonl").write_text(row % ("a", "") + row % ("b", ', "size": -1'))
    bad = row % ("../a", "") + row % ("b", ', "size": -1') + (row % ("c", "")).replace("c0", "no")
    (folder / "all.jsonl").write_text(bad + row % ("d", ""))
    (folder / "empty").mkdir()
    (folder / "recipe.jsonl").write_text(row % ("a", ', "recipe": "gokalp-kim"'))
    assert main(["batch", "--output-dir", "out", "--params", params_file, *options]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert not (folder / "out" / "journal.jsonl").exists()


@pytest.mark.slow
def test_five_hundred_pairs_do_not_grow(folder, params_file):
    """Memory after 200 pairs is that after 500, but for a little."""
    (folder / "out").mkdir()
    sizes = []
    write_manifest(folder, 500)
    process = start(folder, params_file)
    journal = folder / "out" / "journal.jsonl"
    while process.poll() is None:
        time.sleep(0.2)
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            size = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
            sizes.append((len(journal.read_bytes().splitlines()), size))
    process.communicate()
    assert process.returncode == 0
    assert len(journal_of(folder)) == 500
    early = max(size for number, size in sizes if 100 < number <= 200)
    late = max(size for number, size in sizes if number > 400)
    print(f"resident after 200 pairs {early} kB, at the end {late} kB")
    assert late < 1.1 * early  # the allocator takes a few arenas more, then no more
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1.2 * early


@pytest.fixture
def paint(folder, params_file, capsys):
    """Runs a batch of one step; returns its exit code and what it said."""

    def run(*options):
        capsys.readouterr()
        code = main(arguments(folder, params_file, "--steps", "1", *options))
        return code, capsys.readouterr().err

    return run


def test_a_picture_is_painted_again_unless_it_is_the_one(folder, paint):
    outputs = write_manifest(folder, 3)
    assert paint()[0] == 0
    pictures = [folder / "out" / output for output in outputs]
    before = [path.read_bytes() for path in pictures]

    def flip(path):
        status, data = path.stat(), bytearray(path.read_bytes())
        data[-20] ^= 4
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # nothing but its content

    damages = [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        flip,
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_bytes(b""),
        lambda path: path.with_suffix(".json").write_bytes(b'{"generator": "jaxstyle 1", "los'),
    ]
    while damages:
        number = min(len(damages), 3)
        for path in pictures[:number]:
            damages.pop()(path)
        code, said = paint()
        assert code == 0, said
        assert f"3 pairs, {number} to paint" in said
        assert f"{number} painted" in said
        assert [path.read_bytes() for path in pictures] == before
        assert all(json.loads(path.with_suffix(".json").read_text())["loss"] for path in pictures)
    # Copied and touched, it is the same one.
    pictures[0].write_bytes(before[0])
    assert "3 pairs, 0 to paint" in paint()[1]
    # JSON that parses, but is not as it was written, may hold somebody's notes.
    beside = pictures[0].with_suffix(".json")
    flip(beside)
    edited = beside.read_bytes()
    code, said = paint()
    assert (code, beside.read_bytes()) == (2, edited)
    assert "was edited since jaxstyle wrote it" in said


def test_a_picture_that_the_journal_does_not_vouch_for_stays(folder, params_file, paint):
    _, second = write_manifest(folder, 2)
    assert paint()[0] == 0
    picture = folder / "out" / second
    painted, description = picture.read_bytes(), picture.with_suffix(".json").read_bytes()

    def assert_it_stays(*options):
        before = picture.read_bytes()
        code, said = paint(*options)
        assert code == 2, said
        assert f"such as {second}: not those that this batch painted; --force" in said
        assert picture.read_bytes() == before

    # Retouched by what keeps the field `Software`; with another row, and with options.
    image = jaxstyle.io.load_image(picture)
    jaxstyle.io.save_image(picture, 1 - image)
    write_manifest(folder, 3)
    assert_it_stays()
    assert_it_stays("--retry-failed")
    assert_it_stays("--overwrite")
    # Painted by `stylize`, which writes a JSON too; or without one.
    digest = hashlib.sha256(picture.read_bytes()).hexdigest()
    jaxstyle.io.write_json(
        picture.with_suffix(".json"), {"output": picture.name, "sha256": digest, "batch": None}
    )
    assert_it_stays()
    picture.with_suffix(".json").unlink()
    assert_it_stays()
    # Without its journal a picture is known by its JSON, unless the row has other pictures now.
    picture.write_bytes(painted)
    picture.with_suffix(".json").write_bytes(description)
    (folder / "out" / "journal.jsonl").unlink()
    write_manifest(folder, 2, row1={"content": "c4.png"})
    assert_it_stays()
    # The picture of a batch around this one.
    write_manifest(folder, 2, row0={"output": "other.png"}, row1={"output": "1.png"})
    call = arguments(folder, params_file, "--steps", "1", output="out/1")
    assert main(call) == 2
    assert picture.read_bytes() == painted
    write_manifest(folder, 2)
    code, said = paint()
    assert code == 0
    assert "2 painted" in said
    # An entry of a failure vouches for nothing.
    (folder / "c1.png").unlink()
    write_manifest(folder, 2, row1={"content": "c1.png", "seed": 1, "init": "noise"})
    assert paint("--force")[0] == 1
    assert "error" in journal_of(folder)[-1]
    write_manifest(folder, 2, row1={"content": "c4.png"})
    assert_it_stays()
    assert "1 painted" in paint("--force")[1]
    assert picture.read_bytes() != painted


def test_a_picture_is_never_there_before_its_json(folder, paint, monkeypatch):
    """A run that is killed leaves nothing that the next one does not know."""
    (output,) = write_manifest(folder, 1)
    picture, write = folder / "out" / output, worker.write_atomically

    def killed(path, data):
        write(path, data)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "write_atomically", killed)
        with pytest.raises(RuntimeError, match="killed"):
            paint()
    assert picture.is_file()
    assert not (folder / "out" / "journal.jsonl").exists()
    code, said = paint()
    assert code == 0, said
    assert "1 painted" in said


def test_what_comes_during_the_run_is_not_replaced(folder, paint, monkeypatch):
    outputs = write_manifest(folder, 2)
    foreign = folder / "out" / outputs[1]

    def load(*arguments):
        foreign.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "c0.png", foreign)
        return load_lane(*arguments)

    load_lane = worker.load_lane
    monkeypatch.setattr(worker, "load_lane", load)
    assert paint()[0] == 1
    assert foreign.read_bytes() == (folder / "c0.png").read_bytes()
    entries = {entry["output"]: entry for entry in journal_of(folder)}
    assert "did not write it" in entries[outputs[1]]["error"]
    assert "error" not in entries[outputs[0]]


def test_a_picture_too_large_for_its_format_is_refused(folder, params_file, capsys):
    Image.new("RGB", (17000, 16)).save(folder / "c1.png")
    write_manifest(folder, 2, row1={"output": "l.webp", "size": 17000})
    assert main(arguments(folder, params_file)) == 2
    said = capsys.readouterr().err
    assert "line 2: " in said
    assert "WEBP holds at most 16383 pixels along an edge; save it as .png" in said
    assert not (folder / "out").exists()


def test_a_pattern_that_matches_what_it_has_painted(folder, params_file, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    for i in range(2, 6):
        (folder / f"c{i}.png").unlink()
    call = [
        "batch", "--contents", "c*.png", "--styles", "s0.png", "--output-dir", ".", "--steps", "1",
        "--size", "64", "--recipe", "small.json", "--params", params_file,
    ]  # fmt: skip
    assert main(call) == 0
    assert "2 painted" in capsys.readouterr().err
    assert main(call) == 0
    assert "2 pairs, 0 to paint" in capsys.readouterr().err


def test_a_forced_run_that_was_killed_is_not_vouched_for(folder, params_file, paint, monkeypatch):
    (output,) = write_manifest(folder, 1)
    assert paint()[0] == 0
    before = (folder / "out" / output).read_bytes()
    with monkeypatch.context() as patch:

        def killed(self, entry):
            raise RuntimeError("killed")

        patch.setattr(Journal, "add", killed)
        with pytest.raises(RuntimeError, match="killed"):
            paint("--steps", "3", "--force")
    assert (folder / "out" / output).read_bytes() != before
    # A better one, for all that the journal knows.
    code, said = paint()
    assert code == 2
    assert "not those that this batch painted; --force" in said
    # Of these settings it is the one that the killed run has painted.
    code, said = paint("--steps", "3")
    assert code == 0
    assert "1 painted" in said
    assert paint("--force")[0] == 0
    assert (folder / "out" / output).read_bytes() == before


def test_what_is_not_ours_is_not_replaced(folder, paint):
    outputs = write_manifest(folder, 3)
    photo = (folder / "c0.png").read_bytes()
    foreign = folder / "out" / outputs[1]
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(photo)
    foreign.with_suffix(".json").write_text('{"my": "notes"}')
    code, said = paint()
    assert code == 2
    assert f"{outputs[1]}' exists, and jaxstyle did not write it" in said
    assert "line 2: " in said
    assert "nothing was started" in said
    assert foreign.read_bytes() == photo
    assert not list((folder / "out").rglob("0.*"))
    # Whoever puts a photo in the place of a picture that is painted has a photo there.
    assert paint("--overwrite")[0] == 0
    foreign.write_bytes(photo)
    code, said = paint()
    assert code == 2
    assert f"{outputs[1]}' exists, and jaxstyle did not write it" in said
    assert foreign.read_bytes() == photo
    foreign.unlink()
    foreign.with_suffix(".json").write_text('{"my": "notes"}')
    code, said = paint()
    assert code == 2
    assert "1.json' exists, and jaxstyle did not write it" in said
    assert foreign.with_suffix(".json").read_text() == '{"my": "notes"}'


def test_a_refused_batch_leaves_the_folder_as_it_was(folder, params_file, paint):
    """Also without a journal and locks."""
    (output, _) = write_manifest(folder, 2)
    picture = folder / "out" / output
    picture.parent.mkdir(parents=True)
    picture.write_bytes((folder / "c0.png").read_bytes())
    code, said = paint()
    assert code == 2
    assert "did not write" in said
    assert [path for path in (folder / "out").rglob("*") if path.is_file()] == [picture]
    assert picture.read_bytes() == (folder / "c0.png").read_bytes()


def test_what_is_read_is_not_replaced(folder, params_file, paint):
    write_manifest(folder, 2, row1={"output": "m.png"})
    (folder / "out" / "1").mkdir(parents=True)
    contents = {path: path.read_bytes() for path in folder.glob("*.*")}
    # The manifest, by a link or hard link, as the JSON of a picture, as the report or the journal.
    for name in ("m.json", "journal.jsonl", "page/index.html", ".jaxstyle.lock"):
        for link in (os.symlink, os.link):
            path = folder / "out" / name
            path.parent.mkdir(exist_ok=True)
            link(folder / "m.jsonl", path)
            code, said = paint("--overwrite", "--report", str(folder / "out" / "page"))
            assert code == 2, (name, link, said)
            assert path.exists()
            assert contents == {path: path.read_bytes() for path in folder.glob("*.*")}
            path.unlink()
    # Its recipe.
    (folder / "out" / "0").mkdir()
    os.link(folder / "small.json", folder / "out" / "0" / "0.json")
    code, said = paint("--overwrite")
    assert code == 2
    assert "is read and would be replaced" in said


def test_it_goes_on_from_any_folder(folder, params_file, capsys, monkeypatch):
    outputs = write_manifest(folder, 2)
    call = ["--size", "64", "--steps", "1", "--params", params_file, "--batch-size", "4"]
    monkeypatch.chdir(folder)
    shutil.copy("small.json", "mine.json")
    more = [*call, "--output-dir", "out", "--recipe", "mine.json"]
    assert main(["batch", "m.jsonl", *more]) == 0

    def assert_all_there(*arguments):
        capsys.readouterr()
        assert main(["batch", *arguments, *call]) == 0
        assert "2 pairs, 0 to paint" in capsys.readouterr().err

    assert_all_there(
        str(folder / "m.jsonl"), "--output-dir", str(folder / "out"), "--recipe", "mine.json"
    )
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    assert_all_there("../m.jsonl", "--output-dir", "../out", "--recipe", "../mine.json")
    # What a recipe is called, where it comes from, and its own size, which --size overrides.
    prose = {"name": "other", "source": "me", "description": "in better English", "size": 99}
    (folder / "same.json").write_text(json.dumps({**describe_recipe(SMALL), **prose}))
    assert_all_there("../m.jsonl", "--output-dir", "../out", "--recipe", "../same.json")
    # Another mount point, where all has other times.
    shutil.copytree(folder, folder / "copy", copy_function=shutil.copyfile)
    there = str(folder / "copy")
    assert_all_there(
        f"{there}/m.jsonl", "--output-dir", f"{there}/out", "--recipe", f"{there}/mine.json"
    )

    # But another photo under the same name.
    shutil.copy(folder / "c5.png", folder / "c0.png")
    monkeypatch.chdir(folder)
    assert main(["batch", "m.jsonl", *more]) == 2
    said = capsys.readouterr().err
    assert f"1 picture in 'out', such as {outputs[0]}: made with other pictures" in said
    assert main(["batch", "m.jsonl", *more, "--force"]) == 0
    assert "1 painted" in capsys.readouterr().err
    # One that is away is no other one: its picture is painted already.
    (folder / "c0.png").unlink()
    assert main(["batch", "m.jsonl", *more]) == 0
    assert "2 pairs, 0 to paint" in capsys.readouterr().err


def test_a_row_that_was_corrected_is_painted(folder, paint):
    outputs = write_manifest(folder, 2, row0={"content": "nowhere.png"})
    assert paint("--keep-going")[0] == 1
    assert "error" in journal_of(folder)[0]
    write_manifest(folder, 2)
    code, said = paint()
    assert code == 0
    assert "1 painted" in said
    assert "error" not in journal_of(folder)[-1]
    assert journal_of(folder)[-1]["output"] == outputs[0]
    # Whose picture is gone, that row has nothing to lose by other settings.
    (folder / "out" / outputs[0]).unlink()
    write_manifest(folder, 2, row0={"seed": 1, "init": "noise"})
    assert paint()[0] == 0


SLICES = {
    "itself": ((1, 1), (1, 1)),
    "a slice beside all": ((1, 1), (1, 2)),
    "all beside a slice": ((2, 2), (1, 1)),
    "slices of others": ((2, 2), (1, 3)),
    "the same slice": ((2, 2), (2, 2)),
}


@pytest.mark.parametrize("name", SLICES)
def test_no_two_runs_paint_the_same_pairs(name, tmp_path):
    held, wanted = SLICES[name]
    with (
        resume.lock_folder(tmp_path, *held),
        pytest.raises(jaxstyle.io.InputError, match="is in use by another run"),
        resume.lock_folder(tmp_path, *wanted),
    ):
        pass
    with resume.lock_folder(tmp_path, *wanted):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks(code, tmp_path, monkeypatch, capsys):
    """Lustre, NFS and sshfs, as they are mounted often; filelock may say that it is in use."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with resume.lock_folder(tmp_path, 1, 2):
        assert "has no locks: a file there says it is in use" in capsys.readouterr().err
        for wanted in ((1, 2), (1, 3)):
            with (
                pytest.raises(jaxstyle.io.InputError, match=r"in use.*remove that file if none"),
                resume.lock_folder(tmp_path, *wanted),
            ):
                pass
        with resume.lock_folder(tmp_path, 2, 2):
            pass
    assert not list(tmp_path.iterdir())
    jaxstyle.io.write_atomically(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_slices_do_not_wait_for_each_other(tmp_path):
    with contextlib.ExitStack() as stack:
        for index in (1, 2, 3):
            stack.enter_context(resume.lock_folder(tmp_path, index, 3))


def test_a_device_that_fails_ends_its_pairs_alone(folder, paint, monkeypatch):
    outputs = write_manifest(folder, 4)
    steps = jaxstyle.stylize_batch_steps
    calls = []

    def failing(times):
        def run(*arguments, **settings):
            calls.append(1)
            if len(calls) in times:
                raise jax.errors.JaxRuntimeError("INTERNAL: something\nbroke")
            return steps(*arguments, **settings)

        return run

    monkeypatch.setattr(jaxstyle, "stylize_batch_steps", failing({1}))
    code, said = paint()
    assert code == 1
    assert "Traceback" not in said
    entries = journal_of(folder)
    errors = [entry["error"] for entry in entries if "error" in entry]
    assert 0 < len(errors) < len(entries) == 4
    assert set(errors) == {"the device failed: INTERNAL: something broke"}
    # Twice in a row it is not the pairs: what is painted stays, the others are left as they are.
    calls.clear()
    monkeypatch.setattr(jaxstyle, "stylize_batch_steps", failing({1, 2, 3}))
    write_manifest(folder, 4, **{f"row{i}": {"weights": "style=7"} for i in range(4)})
    code, said = paint("--force")
    assert code == 1
    assert "error: stopped: the device failed" in said
    assert len(calls) == 2
    calls.clear()
    monkeypatch.setattr(jaxstyle, "stylize_batch_steps", steps)
    assert paint("--force", "--retry-failed")[0] == 0
    assert all((folder / "out" / output).is_file() for output in outputs)


def test_a_damaged_journal_is_named(folder, paint):
    write_manifest(folder, 2)
    assert paint()[0] == 0
    journal = folder / "out" / "journal.jsonl"
    data = bytearray(journal.read_bytes())
    data[data.index(b'"loss": ') + 9] ^= 1
    journal.write_bytes(data)
    code, said = paint()
    assert code == 2
    assert re.search(r"error: line [23] of '.*journal.jsonl' is damaged; delete that line", said)
    assert len(said.splitlines()) == 1
    assert journal.read_bytes() == data
    lines = data.splitlines(keepends=True)
    number = int(re.search(r"line (\d)", said)[1])
    journal.write_bytes(b"".join(lines[: number - 1] + lines[number:]))
    assert "1 painted" in paint()[1]


def test_a_picture_of_a_batch_is_the_same_alone(folder, paint, monkeypatch):
    # 40 px are extended to 64: with other borders the loss is another one.
    (output,) = write_manifest(folder, 1, row0={"content": "c2.png"})
    monkeypatch.chdir(folder)
    assert paint()[0] == 0
    path = folder / "out" / output
    metadata = json.loads(path.with_suffix(".json").read_text())
    assert metadata["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert metadata["command"].startswith("jaxstyle batch ")
    monkeypatch.chdir("/")
    job = job_of(path.with_suffix(".json"), output=folder / "alone.png", quiet=True)
    assert paint_one(job) == 0
    other = dataclasses.replace(job, output=folder / "other.png", multiple_of=1)
    assert paint_one(other) == 0
    losses = [
        json.loads((folder / f"{name}.json").read_text())["loss"] for name in ("alone", "other")
    ]
    rounding = 64 * 64 * np.finfo(np.float32).eps  # a sum over so many positions
    assert abs(losses[0] / metadata["loss"] - 1) < rounding
    assert abs(losses[1] / metadata["loss"] - 1) > 10 * rounding
    shapes = [jaxstyle.io.load_image(each).shape for each in (path, job.output)]
    assert shapes[0] == shapes[1]


def test_ctrl_c_while_pictures_are_looked_at(folder, params_file):
    """A folder that hangs, such as one on another machine, is not waited for."""
    write_manifest(folder, 4)
    (folder / "hanging.py").write_text(
        "import sys, time\n"
        "from jaxstyle.app.batch import runner\n"
        "from jaxstyle.app.cli.main import main\n"
        "runner.shape_of = lambda *_: (sys.stdout.write('looking\\n'), sys.stdout.flush(), "
        "time.sleep(100))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, str(folder / "hanging.py"), *arguments(folder, params_file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "looking\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10  # nothing is computed: this is for a machine that is busy
    assert process.returncode == 130
    assert "run the same command to resume" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_the_report_is_made(times, folder, params_file, paint, monkeypatch):
    outputs = write_manifest(folder, 3)
    read = batch_page.read_picture

    def interrupted(*arguments, **settings):
        signal.raise_signal(signal.SIGINT)
        return read(*arguments, **settings)

    monkeypatch.setattr(batch_page, "read_picture", interrupted)
    if times == 2:  # the first one has come before: what is painted is on disk
        add, runners = recorder.Recorder.add, []
        make = runner._Runner._engine

        def note_runner(self, painter):
            runners.append(self)
            return make(self, painter)

        def stop(self, entry):
            add(self, entry)
            runners[0].interrupts.first = signal.SIGINT

        end = runner._Runner._end

        def note(self):
            self.interrupts.count = 1
            return end(self)

        monkeypatch.setattr(runner._Runner, "_engine", note_runner)
        monkeypatch.setattr(recorder.Recorder, "add", stop)
        monkeypatch.setattr(runner._Runner, "_end", note)
    code, said = paint("--report", str(folder / "page"))
    assert code == 130
    assert "there is no report" in said
    assert not (folder / "page" / "index.html").exists()
    done = [entry["output"] for entry in journal_of(folder)]
    assert 0 < len(done) <= 3
    assert all((folder / "out" / output).is_file() for output in done)
    assert set(done) <= set(outputs)
    monkeypatch.undo()
    assert paint("--report", str(folder / "page"))[0] == 0
    assert (folder / "page" / "index.html").is_file()
