"""Single runs that are killed and started again."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

import jaxstyle
from jaxstyle import recipes
from jaxstyle.app import checkpoint
from jaxstyle.app.cli.main import main
from jaxstyle.app.job import make_job
from jaxstyle.io import InputError, describe_recipe
from jaxstyle.io.ownership import is_ours
from jaxstyle.io.tensor_file import read_tensors, write_tensors

SMALL = dataclasses.replace(
    SHALLOW,
    solver=jaxstyle.LBFGS(num_steps=12, history_size=5),
    pyramid=jaxstyle.Pyramid(coarsest=32, steps=(8,)),
)
ADAM = dataclasses.replace(
    SMALL,
    solver=jaxstyle.Adam(num_steps=12, keep_moments=True, average=0.9, clip=True),
    pyramid=jaxstyle.Pyramid(coarsest=32, steps=(8,), carry="image"),
)


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)


@pytest.fixture
def folder(tmp_path, pictures):
    for name, seed in (("c", 0), ("s", 1), ("other", 2)):
        image = (255 * pictures(seed, 48, 64)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    (tmp_path / "small.json").write_text(json.dumps(describe_recipe(SMALL)))
    return tmp_path


def arguments(folder, params_file, *options):
    return [
        "stylize", "--content", str(folder / "c.png"), "--style", str(folder / "s.png"),
        "--recipe", str(folder / "small.json"), "--params", params_file, "--size", "64",
        "--output", str(folder / "out.png"), "--checkpoint", str(folder / "kept"), *options,
    ]  # fmt: skip


@pytest.mark.parametrize("recipe", [SMALL, ADAM], ids=["lbfgs", "adam"])
def test_a_run_goes_on_from_every_checkpoint(recipe, random_params, pictures):
    pair = random_params, pictures(0, 48, 64), pictures(1, 48, 64)
    kept = {}

    def keep(found):
        stage, steps, state, traces, evaluations = found
        leaves = jax.device_get(jax.tree.leaves(state))
        key = int(steps) + 8 * int(stage)
        kept[key] = jaxstyle.Checkpoint(stage, steps, leaves, traces, evaluations)

    whole = dict(jaxstyle.stylize_steps(*pair, recipe=recipe, every=3, keep=keep))
    assert whole[20].loss < 0.95 * whole[11].loss  # there is something to go on with
    assert list(kept) == [step for step in whole if step > 0] == [3, 6, 8, 11, 14, 17, 20]
    for step in (3, 8, 14, 20):
        rest = dict(jaxstyle.stylize_steps(*pair, recipe=recipe, every=3, checkpoint=kept[step]))
        assert list(rest) == [later for later in whole if later >= step]
        for later, result in rest.items():
            jax.tree.map(np.testing.assert_array_equal, result, whole[later])

    # Arrays on the device stay what they are, and can be gone on from again.
    on_device = jax.tree.map(jnp.asarray, kept[14])
    for _ in range(2):
        rest = dict(jaxstyle.stylize_steps(*pair, recipe=recipe, every=3, checkpoint=on_device))
        jax.tree.map(np.testing.assert_array_equal, rest[20], whole[20])

    # A longer run, with room for more steps, is the same as far as the shorter one went.
    for more in (15, 70):
        longer = dataclasses.replace(
            recipe, solver=dataclasses.replace(recipe.solver, num_steps=more)
        )
        rest = dict(jaxstyle.stylize_steps(*pair, recipe=longer, every=3, checkpoint=kept[20]))
        assert max(rest) == 8 + more
        assert len(rest[8 + more].trace) == 8 + more
        np.testing.assert_array_equal(rest[23].trace[:20], whole[20].trace)
        if more == 15:  # and with the same program, also from there on
            undisturbed = jaxstyle.stylize(*pair, recipe=longer)
            jax.tree.map(np.testing.assert_array_equal, rest[23], undisturbed)
    shorter = dataclasses.replace(recipe.solver, num_steps=11)
    with pytest.raises(ValueError, match="has made 12 steps already: ask for more"):
        jaxstyle.stylize_steps(*pair, recipe=recipe, solver=shorter, checkpoint=kept[20])

    single = dataclasses.replace(recipe, pyramid=None)
    with pytest.raises(ValueError, match="of another run: of size 2"):
        dict(jaxstyle.stylize_steps(*pair, recipe=single, every=3, checkpoint=kept[14]))
    other = dataclasses.replace(recipe, solver=jaxstyle.LBFGS(num_steps=12, history_size=4))
    with pytest.raises(ValueError, match="of another run"):
        dict(jaxstyle.stylize_steps(*pair, recipe=other, every=3, checkpoint=kept[3]))
    with pytest.raises(ValueError, match="ScipyLBFGSB"):
        dict(jaxstyle.stylize_steps(*pair, recipe=recipes.KERAS_EXAMPLE, keep=keep))


RUN = """
import sys
from jaxstyle.app import checkpoint
from jaxstyle.app.cli.main import main
checkpoint._SECONDS, checkpoint._SHARE = 0.0, 1e9
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_at_random_and_started_again(kills, folder, params_file, capsys):
    steps = ("--steps", "300")  # so many that no run gets to its end before it is killed
    plain = arguments(folder, params_file, *steps)
    del plain[plain.index("--checkpoint") : plain.index("--checkpoint") + 2]
    assert main(plain) == 0
    undisturbed = json.loads((folder / "out.json").read_text())
    picture = (folder / "out.png").read_bytes()
    (folder / "out.png").unlink()

    # Without the program's cache, as here: that compiles with other options, which round otherwise.
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", RUN, *arguments(folder, params_file, *steps)]
    times = lambda: [path.stat().st_mtime_ns for path in folder.glob("kept/*.safetensors")]  # noqa: E731
    rng = random.Random(1)
    went_on = 0
    for _ in range(kills):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        begin = time.monotonic()
        kept = times()
        while process.poll() is None and time.monotonic() - begin < 120:
            time.sleep(0.05)
            if times() != kept:
                time.sleep(rng.uniform(0, 0.4))
                break
        process.kill()
        _, said = process.communicate()
        went_on += "resuming from about step" in said
    assert went_on >= kills // 2
    assert main(arguments(folder, params_file, *steps)) == 0
    assert "resuming from about step" in capsys.readouterr().err
    metadata = json.loads((folder / "out.json").read_text())
    np.testing.assert_allclose(metadata["loss"], undisturbed["loss"], rtol=1e-5)
    assert [entry["step"] for entry in metadata["trace"]] == list(range(0, len(metadata["trace"])))
    losses = [[entry["loss"] for entry in each["trace"]] for each in (metadata, undisturbed)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert (folder / "out.png").read_bytes() == picture
    assert not (folder / "kept").exists()


def interrupted(folder, params_file, monkeypatch, number=signal.SIGINT, options=()):
    """A run that is stopped by a signal after some steps."""
    saved = checkpoint.CheckpointFile.keep

    def keep(self, found, trace):
        saved(self, found, trace)
        if 5 <= len(trace) < 12:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.CheckpointFile, "keep", keep)
        return main(arguments(folder, params_file, *options))


def test_signals_keep_the_checkpoint_and_the_picture(folder, params_file, capsys, monkeypatch):
    assert interrupted(folder, params_file, monkeypatch, signal.SIGTERM) == 143
    assert json.loads((folder / "out.json").read_text())["status"] == "interrupted"
    (path,) = (folder / "kept").iterdir()
    assert path.name == "jaxstyle-checkpoint.safetensors"
    capsys.readouterr()

    # Something else has changed in between: nothing is mixed up.
    for change, what in (
        (("--seed", "7"), "settings"),
        (("--weights", "style=2"), "settings"),
        (("--style", str(folder / "other.png")), "pictures"),
    ):
        words = arguments(folder, params_file, *change)
        if change[0] == "--style":  # in the place of the other one
            words[words.index("--style") : words.index("--style") + 2] = []
        assert main(words) == 2
        assert f"is of another run: other {what}" in capsys.readouterr().err

    # A checkpoint that has been damaged.
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data[:-1] + bytes([data[-1] ^ 1])):
        path.write_bytes(damaged)
        assert main(arguments(folder, params_file)) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(("error: checkpoint", "error: --checkpoint: jaxstyle did not"))
        path.write_bytes(data)

    # Neither prose nor the names of files make another run.
    recipe = json.loads((folder / "small.json").read_text())
    renamed = {**recipe, "name": "other", "description": "other words", "source": "nowhere"}
    (folder / "small.json").write_text(json.dumps(renamed))
    (folder / "c.png").rename(folder / "photo.png")
    (folder / "kept" / "diary.txt").write_text("mine")
    assert main(arguments(folder, params_file, "--content", str(folder / "photo.png"))) == 0
    assert "resuming from about step" in capsys.readouterr().err
    assert [path.name for path in (folder / "kept").iterdir()] == ["diary.txt"]


def test_more_steps_go_on_from_there(folder, params_file, capsys, monkeypatch):
    """The steps at smaller sizes stay as they were made, and the seconds are those of both runs."""
    few = ("--set", "pyramid.steps=[5]")
    longer = ("--steps", "200", *few)
    assert main(arguments(folder, params_file, "--output", str(folder / "whole.png"), *longer)) == 0
    whole = json.loads((folder / "whole.json").read_text())
    shorter = ("--steps", "150", *few)
    assert interrupted(folder, params_file, monkeypatch, options=shorter) == 130
    before = json.loads((folder / "out.json").read_text())
    assert before["recipe"]["pyramid"]["steps"] == [5]
    capsys.readouterr()
    assert main(arguments(folder, params_file, "--steps", "200")) == 0
    said = capsys.readouterr().err
    assert "resuming from about step" in said
    assert "the smaller sizes keep the 5 steps" in said
    assert "would make 8 there" in said
    found = json.loads((folder / "out.json").read_text())
    assert found["recipe"]["pyramid"]["steps"] == [5]
    assert found["recipe"]["solver"]["num_steps"] == 200
    assert [each["loss"] for each in found["trace"]] == [each["loss"] for each in whole["trace"]]
    assert (folder / "out.png").read_bytes() == (folder / "whole.png").read_bytes()
    seconds = found["seconds"]
    assert seconds["optimize"] + seconds["compile"] >= found["trace"][-1]["seconds"] - 1e-3


def test_other_contents_with_a_hash_that_fits(folder, params_file, capsys):
    options = arguments(folder, params_file)
    job = make_job(
        content=options[2], style=[options[4]], output=options[12], recipe=options[6], size=64,
        checkpoint=folder, params=params_file, quiet=True,
    )  # fmt: skip
    file = checkpoint.CheckpointFile(job, {"sha256": "0"})
    path = folder / "jaxstyle-checkpoint.safetensors"
    entry = {"step": 1, "evaluations": 1, "seconds": 0.5, "loss": 1.0, "terms": {}}
    arrays = {"leaf_0": np.zeros(3), "num_evaluations": np.array(0)}
    kept = {
        "run": file._run, "made_folder": False, "stage": 0, "steps": 1, "leaves": 1, "traces": 0,
        "trace": [entry], "snapshots": {"1": "data:"},
    }  # fmt: skip
    write_tensors(path, arrays, kept)
    resumed = file.latest()
    assert resumed.checkpoint.steps == 1
    assert (resumed.trace, file.snapshots) == ([entry], {1: "data:"})
    bad = [{}, [], None, 5, {"run": 5}, {"run": file._run}]
    bad += [{key: value for key, value in kept.items() if key != name} for name in kept]
    bad += [
        {**kept, **other}
        for other in (
            {"stage": "x"}, {"stage": -1}, {"steps": None}, {"leaves": 2}, {"leaves": "x"},
            {"trace": []}, {"trace": [{"step": 1}]}, {"trace": 5}, {"snapshots": []},
            {"snapshots": {"x": ""}},
        )
    ]  # fmt: skip
    bad += [
        {**kept, "trace": [entry | other]}
        for other in (
            {"step": "x"}, {"step": -5}, {"step": 1.5}, {"evaluations": "x"}, {"evaluations": -1},
            {"seconds": "x"}, {"seconds": float("nan")}, {"seconds": -1.0}, {"loss": None},
            {"loss": float("inf")}, {"terms": [1]}, {"terms": {"style": "x"}},
        )
    ]  # fmt: skip
    bad += [{**kept, "trace": [entry, entry]}]
    pyramids = [10**9], [-1], [], ["x"], 5
    bad += [
        json.loads(json.dumps(kept).replace('"steps": [8]', f'"steps": {json.dumps(each)}'))
        for each in pyramids
    ]
    assert kept not in bad
    for each in bad:
        write_tensors(path, arrays, each)
        file = checkpoint.CheckpointFile(job, {"sha256": "0"})
        with pytest.raises(InputError, match=r"or of another version; remove it"):
            file.latest()
        assert file.snapshots == {}
    write_tensors(path, {"leaf_0": np.zeros(3), "num_evaluations": np.zeros(2)}, kept)
    with pytest.raises(InputError, match="of another version"):
        file.latest()
    # And from the command line, before anything is painted.
    write_tensors(path, {}, {"run": 5})
    assert main(arguments(folder, params_file, "--checkpoint", str(folder), "--quiet")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged, or of another version" in line
    assert not (folder / "out.png").exists()


def test_the_first_result_must_be_that_of_the_trace():
    entry = {"step": 4, "evaluations": 5, "seconds": 0.5, "loss": 1.0, "terms": {}}
    resumed = checkpoint.Resumed(None, SMALL, [entry], "it is damaged")
    result = jaxstyle.StyleResult(*[None] * len(jaxstyle.StyleResult._fields))
    good = result._replace(num_evaluations=5, loss=1.0, image=np.zeros((2, 2, 3)))
    resumed.check(4, good)
    damaged = np.full((2, 2, 3), np.nan)
    for step, found in (
        (3, good),
        (4, good._replace(num_evaluations=6)),
        (4, good._replace(loss=np.inf)),
        (4, good._replace(image=damaged)),
    ):
        with pytest.raises(InputError, match="it is damaged"):
            resumed.check(step, found)


def test_what_the_user_has_in_the_folder_stays(folder, params_file, capsys, monkeypatch):
    # A camera's folder, into which the picture is painted as well, and which keeps checkpoints.
    holiday = folder / "20240101"
    holiday.mkdir()
    (folder / "c.png").rename(holiday / "20240101_123456.png")
    (holiday / "1").mkdir()
    before = {path.name for path in holiday.iterdir()}
    options = [
        "--content", str(holiday / "20240101_123456.png"), "--checkpoint", str(holiday),
        "--output", str(holiday / "2024.png"), "--preview-every", "5",
        "--report", str(holiday / "page"),
    ]  # fmt: skip
    assert main(arguments(folder, params_file, *options)) == 0
    after = {path.name for path in holiday.iterdir()}
    assert before <= after
    assert after - before == {"2024.json", "2024.png", "page"} | {
        path.name for path in holiday.glob("2024-00*.png")
    }
    assert (holiday / "page" / "index.html").is_file()


def test_folders_that_cannot_be_used(folder, params_file, capsys):
    kept = folder / "kept"
    kept.mkdir()
    foreign = kept / "jaxstyle-checkpoint.safetensors"
    foreign.write_text("mine")
    for options in ((), ("--overwrite",)):
        assert main(arguments(folder, params_file, *options)) == 2
        assert "jaxstyle did not write" in capsys.readouterr().err
        assert foreign.read_text() == "mine"
    for path in (folder / "no" / "where", folder / "c.png"):
        assert main(arguments(folder, params_file, "--checkpoint", str(path))) == 2
        assert "--checkpoint" in capsys.readouterr().err
    foreign.unlink()
    assert main(arguments(folder, params_file, "--recipe", "gokalp-kim")) == 2
    assert "whose state cannot be saved" in capsys.readouterr().err


def test_every_bit_of_a_file_of_arrays_counts(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.asarray(jnp.asarray([1.5, -2], jnp.bfloat16)),
        "c": np.array(True),
        "d": np.zeros((0, 2), np.int32),
    }
    metadata = {"trace": [{"loss": 0.1}], "quoted": '"sha256":"0"'}
    write_tensors(path, arrays, metadata)
    assert is_ours(path)
    found, told = read_tensors(path)
    assert told == metadata
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 7):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(InputError, match="is damaged"):
            read_tensors(path)
