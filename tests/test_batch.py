"""The batch runner, from the outside: killed, starved, fed with rubbish, and started again."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

import jaxstyle
from jaxstyle import terms
from jaxstyle.app.cli import main
from jaxstyle.io import describe_recipe

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


def test_pairs_are_painted_as_one_by_one(folder, params_file, capsys):
    outputs = write_manifest(folder, 6, row2={"seed": 3, "init": "noise"}, row4={"size": 32})
    # One step, since several would make the rounding of a pair that is painted alone large.
    call = arguments(folder, params_file, "--steps", "1")
    assert main(call) == 0
    said = capsys.readouterr().err
    assert "6 pairs, 0 of them in the journal" in said
    assert "6/6 pairs" in said
    entries = journal_of(folder)
    assert {entry["output"] for entry in entries} == set(outputs)

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
            key=jax.random.key(3),
        )
        metadata = json.loads((folder / "out" / output).with_suffix(".json").read_text())
        assert metadata["recipe"]["weights"]["style"] == 1000 * (i + 1)
        assert metadata["trace"][-1]["loss"] == metadata["loss"]
        for entry in metadata["trace"]:
            weights = metadata["recipe"]["weights"]
            weighted = sum(weights[name] * loss for name, loss in entry["terms"].items())
            np.testing.assert_allclose(entry["loss"], weighted, rtol=1e-4)
        np.testing.assert_allclose(metadata["loss"], expected.loss, rtol=1e-4)
        found = jaxstyle.io.load_image(folder / "out" / output)
        assert found.shape == image.shape
        np.testing.assert_allclose(found, expected.image[:height, :width], atol=0.51 / 255)
        assert np.abs(found - image).max() > 8 / 255  # it is another picture than the photo

    # Again: nothing to do, and nothing is touched.
    def times():  # but for the lock, which older versions of filelock write
        files = [path for path in (folder / "out").rglob("*.*") if path.suffix != ".lock"]
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    assert main(call) == 0
    assert "6 pairs, 6 of them in the journal" in capsys.readouterr().err
    assert before == times()

    # Other settings of one pair, or other weights: refused, unless forced, and then only that.
    write_manifest(folder, 6, row2={"seed": 4, "init": "noise"}, row4={"size": 32})
    assert main(call) == 2
    assert "1 pictures in" in (said := capsys.readouterr().err)
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
    assert main(arguments(folder, params_file)) == 1
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

    # What failed is not tried again, unless asked for.
    (folder / "truncated.png").write_bytes(whole)
    assert main(arguments(folder, params_file)) == 1
    assert "0 painted" in capsys.readouterr().err
    assert main(arguments(folder, params_file, "--retry-failed", "--quiet")) == 1
    assert (folder / "out" / outputs[4]).is_file()
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
    assert "going on with 1 pairs at a time" in capsys.readouterr().err
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
        if len(written) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    assert main(arguments(folder, params_file)) == 1
    said = capsys.readouterr().err
    assert "No space left" in said
    assert "start again to go on" in said
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
    assert "may not be written" in capsys.readouterr().err


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
    assert kill_and_start_again(folder, params_file, pairs=12, kills=3) > 0


@pytest.mark.slow
def test_killed_twenty_times(folder, params_file):
    alive = kill_and_start_again(folder, params_file, pairs=60, kills=20)
    print(f"killed {alive} times of 20 before the end")
    assert alive > 15


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
    assert "start again to go on" in said
    done = {entry["output"] for entry in journal_of(folder)}
    assert 0 < len(done) < 9
    assert main(arguments(folder, params_file, "--steps", "100", "--quiet")) == 0
    assert {entry["output"] for entry in journal_of(folder)} == set(outputs)
    assert len(journal_of(folder)) == 9


def test_several_processes_share_a_manifest(folder, params_file, capsys):
    outputs = write_manifest(folder, 9)
    for i in (0, 2):
        assert main(arguments(folder, params_file, "--processes", "3", "--process", str(i))) == 0
    assert 0 < len(list((folder / "out").rglob("*.png"))) < 9
    # The next time there are two.
    for i in (0, 1):
        assert main(arguments(folder, params_file, "--processes", "2", "--process", str(i))) == 0
    lines = [
        json.loads(line)["output"]
        for path in (folder / "out").glob("journal*.jsonl")
        for line in path.read_text().splitlines()[1:]
    ]
    assert sorted(lines) == sorted(outputs)


def test_processes_share_pairs_whatever_their_batches(folder, params_file):
    outputs = write_manifest(folder, 9)
    for i, size in ((0, "1"), (1, "4")):
        options = ("--processes", "2", "--process", str(i), "--batch-size", size)
        assert main(arguments(folder, params_file, *options)) == 0
    assert all((folder / "out" / output).is_file() for output in outputs)


def test_the_latest_entry_counts(folder, params_file, capsys):
    write_manifest(folder, 3)
    content = (folder / "c2.png").read_bytes()
    (folder / "c2.png").write_bytes(b"")
    assert main(arguments(folder, params_file)) == 1
    (folder / "c2.png").write_bytes(content)
    # `journal.jsonl`, with the failure, comes after the names of these.
    for i in (0, 1):
        options = ("--processes", "2", "--process", str(i), "--retry-failed")
        assert main(arguments(folder, params_file, *options)) == 0
    capsys.readouterr()
    assert main(arguments(folder, params_file)) == 0
    assert "3 pairs, 3 of them in the journal" in capsys.readouterr().err


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
    assert "3 of them in the journal" in capsys.readouterr().err


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
    (folder / "out" / "journal-1.jsonl").write_text('{"some": "log"}\n')
    assert main(arguments(folder, params_file)) == 2
    assert "journal-1.jsonl' is no journal" in capsys.readouterr().err


def test_one_run_at_a_time(folder, params_file, capsys):
    write_manifest(folder, 4)
    first = start(folder, params_file, "--steps", "1000")
    lock = folder / "out" / ".journal.lock"
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
    "half a process": (["m.jsonl", "--process", "1"], "--processes"),
    "batch size": (["m.jsonl", "--batch-size", "0"], "--batch-size"),
    "row": (["bad.jsonl"], "line 2: --size -1"),
    "recipe of a row": (["recipe.jsonl"], "gokalp-kim runs on the host"),
    "recipe": (["m.jsonl", "--recipe", "monet"], "line 1: unknown recipe 'monet'"),
    "devices": (["m.jsonl", "--devices", "99"], "--devices 99"),
    "no folder": (["m.jsonl", "--output-dir", "no/where/at/all"], "make its folder first"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_before_anything_starts(name, folder, params_file, capsys,
                                                      monkeypatch):  # fmt: skip
    options, message = WRONG[name]
    monkeypatch.chdir(folder)
    write_manifest(folder, 2)
    row = '{"content": "c0.png", "style": "s0.png", "output": "%s.png"%s}\n'
    (folder / "bad.jsonl").write_text(row % ("a", "") + row % ("b", ', "size": -1'))
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
