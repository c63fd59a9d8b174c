"""What a run needs: the estimate against the compiler's own account, and what follows from it."""

import dataclasses
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import psutil
import pytest

from jaxstyle import compiled, recipes
from jaxstyle.app import available_memory, memory_estimate
from jaxstyle.app.cli.main import main
from jaxstyle.io import InputError
from jaxstyle.network.vgg import CONV_SHAPES
from jaxstyle.problem import Problem


def compiled_bytes(recipe, height, width, tile):
    """Arguments and scratch memory of the program that makes the steps."""
    shape = lambda *lengths: jax.ShapeDtypeStruct(lengths, jnp.float32)  # noqa: E731
    params = {
        "params": {
            name: {"kernel": shape(*kernel), "bias": shape(*bias)}
            for name, (kernel, bias) in CONV_SHAPES.items()
        }
    }
    problem = Problem(recipe.network, recipe.terms, tile)
    image, weights = shape(height, width, 3), {name: shape() for name in recipe.weights}

    def targets(params, image):
        key = jax.random.key_data(jax.random.key(0))
        arguments = (params, image, (image,), None, None, None, key)
        return compiled.compute_targets(problem, False, *arguments)

    def start(*arguments):
        return compiled.first_state(problem, recipe.solver, False, *arguments)

    target = jax.eval_shape(targets, params, image)
    state = jax.eval_shape(start, image, None, params, target, weights)
    stop = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (problem, recipe.solver, False, state, stop, params, target, weights)
    account = compiled.advance_in_place.lower(*arguments).compile().memory_analysis()
    return account.argument_size_in_bytes + account.temp_size_in_bytes


@pytest.mark.parametrize(
    ("name", "height", "width", "tile"),
    [
        ("gatys-notebook", 192, 256, None),
        pytest.param("sharp", 96, 128, None, marks=pytest.mark.long),
        pytest.param("default", 384, 512, None, marks=pytest.mark.slow),
        pytest.param("crowson-w2", 384, 512, None, marks=pytest.mark.slow),
        pytest.param("default", 768, 1024, 256, marks=pytest.mark.slow),
        pytest.param("gatys-notebook", 1536, 2048, 512, marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_near_what_the_compiler_says(name, height, width, tile):
    recipe = recipes.RECIPES[name]
    found = memory_estimate.estimate_memory(recipe, height, width, tile=tile)
    found -= memory_estimate._program(recipe, height, width, cut=tile is not None)
    assert 0.9 < found / compiled_bytes(recipe, height, width, tile) < 1.3


def test_the_hypercolumns_that_a_step_compares_with_are_counted():
    def needed(rotations, style):
        match, *others = recipes.NNST.terms
        match = dataclasses.replace(match, rotations=rotations)
        recipe = dataclasses.replace(recipes.NNST, terms=(match, *others))
        return memory_estimate.estimate_memory(recipe, 2048, 2048, style_shapes=[style])

    one_style = 128 * 96 * (2 * 64 + 2 * 128 + 3 * 256 + 3 * 512) * 4  # float32
    saved = needed(True, (512, 384, 3)) - needed(False, (512, 384, 3))
    assert saved == pytest.approx(3 * one_style)
    # Of a large style the search needs most, which has them twice; positions are thinned out.
    saved = needed(True, (4096, 4096, 3)) - needed(False, (4096, 4096, 3))
    assert saved == pytest.approx(2 * 3 * one_style * 16384 / (128 * 96))


@pytest.mark.parametrize(
    ("name", "height", "width", "tile", "peak"),
    [
        ("default", 384, 512, None, 1.48),
        ("default", 768, 1024, None, 3.42),
        ("default", 768, 1024, 256, 2.51),
        ("strotss", 384, 512, None, 2.27),
        ("strotss", 384, 512, 256, 2.43),
        ("strotss", 1536, 2048, 512, 4.84),
        ("strotss", 3071, 4096, 512, 6.46),
        ("nnst", 384, 512, None, 3.17),
    ],
)
def test_the_estimate_is_near_what_runs_took(name, height, width, tile, peak):
    """Peaks in GB of whole processes with few steps, of a painting of the photo's size."""
    recipe = recipes.RECIPES[name]
    found = memory_estimate.estimate_memory(recipe, height, width, tile=tile)
    assert 0.88 < found / 1e9 / peak < 1.15


def test_each_pair_of_a_batch_has_its_own_drawn_positions():
    """At least the rows of three terms, and the distances of two, in float32."""
    recipe = recipes.SHARP
    pair = memory_estimate.estimate_memory(recipe, 64, 64, batch=9) / 8
    pair -= memory_estimate.estimate_memory(recipe, 64, 64) / 8
    rows = 2048 * (1024 + 2048 + 2048 + 2048)
    assert pair > 4 * (rows + 1024 * 1024 + 2048 * 2048)


def test_what_is_advised_fits():
    """Windows of a small picture need more than the picture as a whole: their program is larger."""
    recipe, budget = recipes.DEFAULT, 1.3e9
    whole = memory_estimate.estimate_memory(recipe, 384, 512)
    assert budget < whole < memory_estimate.estimate_memory(recipe, 384, 512, tile=128)
    for height, width in [(384, 512), (768, 1024)]:
        with pytest.raises(InputError, match="try --size 448") as refused:
            memory_estimate.choose_tile(recipe, height, width, budget)
        assert ("windows of 128 px" in str(refused.value)) == (width == 1024)
    assert memory_estimate.choose_tile(recipe, 336, 448, budget) is None
    # One size alone has nothing to compile ahead.
    alone = dataclasses.replace(recipe, pyramid=None)
    assert memory_estimate.choose_tile(alone, 384, 512, budget) == 128


def test_windows_are_as_large_as_the_budget_allows():
    recipe = recipes.DEFAULT
    assert memory_estimate.choose_tile(recipe, 384, 512, 16e9) is None
    tile = memory_estimate.choose_tile(recipe, 3072, 4096, 16e9)
    assert memory_estimate.estimate_memory(recipe, 3072, 4096, tile=tile) <= 16e9
    assert memory_estimate.estimate_memory(recipe, 3072, 4096, tile=tile + 128) > 16e9
    with pytest.raises(InputError, match=r"4096x3072 px need about .* try --size [0-9]+"):
        memory_estimate.choose_tile(recipe, 3072, 4096, 6e9)
    # A style larger than the picture counts as well: in windows, or not at all.
    style = [(2560, 2560, 3)]
    tile = memory_estimate.choose_tile(recipe, 96, 128, 4e9, style_shapes=style)
    assert tile is not None
    assert memory_estimate.estimate_memory(recipe, 96, 128, tile=tile, style_shapes=style) <= 4e9
    with pytest.raises(InputError, match="128x96 px need about"):
        memory_estimate.choose_tile(recipe, 96, 128, 8e8, style_shapes=style)
    # Less history, a larger picture; bfloat16 halves it.
    short = dataclasses.replace(recipe, solver=dataclasses.replace(recipe.solver, history_size=5))
    assert memory_estimate.choose_tile(short, 3072, 4096, 6e9) is not None
    half = dataclasses.replace(
        recipe, solver=dataclasses.replace(recipe.solver, history_dtype="bfloat16")
    )
    saved = memory_estimate.estimate_memory(recipe, 3072, 4096) - memory_estimate.estimate_memory(
        half, 3072, 4096
    )
    assert saved == pytest.approx(2 * 30 * 2 * 3 * 3072 * 4096)
    # Terms that are no sums over positions take the picture whole.
    assert not memory_estimate.can_be_tiled(dataclasses.replace(
        recipe,
        terms=tuple(dataclasses.replace(term, normalize_gradients=True) for term in recipe.terms),
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"),
    [("4GB", 4e9), ("500 MB", 5e8), ("1.5g", 1.5e9), ("2GiB", 2**31), ("7kB", 7000)],
)
def test_memory_is_read_as_people_write_it(text, number):
    assert memory_estimate.parse_memory(text) == number


@pytest.mark.parametrize("text", ["", "four", "4XB", "-1GB", "0", "1.2.3GB", "inf"])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match="such as 4GB"):
        memory_estimate.parse_memory(text)


@pytest.mark.parametrize("text", ["4", "16", "7b", "1.5"])
def test_a_number_needs_its_unit(text):
    with pytest.raises(InputError, match=f"add a unit, such as {text.rstrip('b')}GB"):
        memory_estimate.parse_memory(text)


GB = 2**30


@pytest.mark.parametrize(
    ("files", "environment", "limit"),
    [
        ({}, {}, math.inf),
        ({"sys/fs/cgroup/memory.max": "max"}, {}, math.inf),
        ({"sys/fs/cgroup/memory.max": f"{3 * GB}"}, {}, 3 * GB),
        # A scope of systemd's, its own and those above; memory.high slows down long before.
        ({"proc/self/cgroup": "0::/user.slice/run-1.scope", "sys/fs/cgroup/memory.max": "max",
          "sys/fs/cgroup/user.slice/memory.max": f"{8 * GB}",
          "sys/fs/cgroup/user.slice/run-1.scope/memory.max": f"{9 * GB}",
          "sys/fs/cgroup/user.slice/run-1.scope/memory.high": f"{7 * GB}"}, {}, 7 * GB),
        # A step of SLURM's; a limit of another job does not hold.
        ({"proc/self/cgroup": "0::/slurm/job_1/step_0",
          "sys/fs/cgroup/slurm/job_1/memory.max": f"{2 * GB}",
          "sys/fs/cgroup/slurm/job_2/memory.max": f"{GB}",
          "sys/fs/cgroup/slurm/job_1/step_0/memory.max": "max"}, {}, 2 * GB),
        # Version 1, where no limit is a large number; and both versions side by side.
        ({"proc/self/cgroup": "11:cpu,cpuacct:/a\n5:memory:/docker/abc\n0::/b",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
          "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{4 * GB}",
          "sys/fs/cgroup/unified/b/memory.high": f"{5 * GB}"}, {}, 4 * GB),
        # A container that sees its own group as the root, and a path of the host's.
        ({"proc/self/cgroup": "5:memory:/docker/abc",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GB}"}, {}, GB),
        ({"proc/self/cgroup": "0::/../../other", "sys/fs/cgroup/memory.max": f"{GB}"}, {}, GB),
        ({}, {"SLURM_MEM_PER_NODE": "2048"}, 2 * GB),
        ({}, {"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "8"}, 4 * GB),
        ({}, {"SLURM_MEM_PER_CPU": "512"}, math.inf),
        ({}, {"SLURM_MEM_PER_NODE": "0"}, math.inf),
        ({"sys/fs/cgroup/memory.max": f"{3 * GB}"}, {"SLURM_MEM_PER_NODE": "1024"}, GB),
        ({}, {"SLURM_MEM_PER_GPU": "8G", "SLURM_GPUS_ON_NODE": "2"}, 16 * GB),
        ({}, {"SLURM_MEM_PER_NODE": "all"}, math.inf),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/memory.max": ""}, {}, math.inf),
        # A limit of a parent that is not visible, told by version 1; and one with swap.
        ({"proc/self/cgroup": "3:memory:/", "sys/fs/cgroup/memory/memory.stat":
          f"cache 1\nhierarchical_memory_limit {2 * GB}\ntotal_cache {GB}"}, {}, 2 * GB),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GB}",
          "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes": f"{3 * GB - 1}"}, {}, 3 * GB - 1),
        # The kernel says where the groups are mounted: elsewhere, and from a part of their tree.
        ({"proc/self/mountinfo": "5 1 0:3 / /cgroup/mem\\040ory rw - tmpfs none rw\n"
          "6 1 0:4 / /cgroup/cpu rw - cgroup cgroup rw,cpu\n"
          "7 1 0:5 / /cgroup/both rw,relatime shared:9 - cgroup cgroup rw,cpu,memory",
          "proc/self/cgroup": "7:cpu,memory:/job", "cgroup/cpu/job/memory.limit_in_bytes": "1",
          "cgroup/both/job/memory.limit_in_bytes": f"{5 * GB}"}, {}, 5 * GB),
        # So in a container: its own group `docker` is not the host's.
        ({"proc/self/mountinfo": "7 1 0:5 /docker/a /sys/fs/cgroup rw - cgroup2 none rw",
          "proc/self/cgroup": "0::/docker/a/step", "sys/fs/cgroup/docker/memory.max": "1",
          "sys/fs/cgroup/docker/a/memory.max": "1", "sys/fs/cgroup/memory.max": f"{4 * GB}",
          "sys/fs/cgroup/step/memory.max": f"{3 * GB}"}, {}, 3 * GB),
        ({"proc/self/mountinfo": "7 1 0:5 /../.. /sys/fs/cgroup rw - cgroup2 none rw",
          "proc/self/cgroup": "0::/../../system.slice/x.service",
          "sys/fs/cgroup/system.slice/memory.max": f"{2 * GB}"}, {}, 2 * GB),
        ({"proc/self/mountinfo": "7 1 0:5 /a /sys/fs/cgroup rw - cgroup2 none rw",
          "proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": f"{2 * GB}"}, {}, 2 * GB),
    ],
)  # fmt: skip
def test_the_smallest_limit_holds(tmp_path, monkeypatch, files, environment, limit):
    monkeypatch.setattr(available_memory, "_limits_of_process", lambda: iter(()))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory.memory_limit(tmp_path, environment) == limit


@pytest.mark.parametrize("stat", ["anon {}\nfile 7", "rss 5\ntotal_rss {}\ntotal_cache 7"])
def test_memory_of_other_processes_is_not_free(tmp_path, monkeypatch, stat):
    monkeypatch.setattr(available_memory, "_limits_of_process", lambda: iter(()))
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{64 * GB}")
    (tmp_path / "sys/fs/cgroup/memory.stat").write_text(stat.format(50 * GB))
    # What this process has already is its own to use.
    assert 14 * GB < available_memory.memory_limit(tmp_path, {}) < 64 * GB
    (tmp_path / "sys/fs/cgroup/memory.stat").write_text(stat.format(99 * GB))
    assert available_memory.memory_limit(tmp_path, {}) == 0


def test_the_system_tells_what_is_free(monkeypatch):
    total = psutil.virtual_memory().total
    assert 0 < available_memory.available_memory() <= total
    monkeypatch.setattr(available_memory, "memory_limit", lambda: 5e8)
    assert available_memory.available_memory() <= 5e8


def test_limits_of_the_process(tmp_path):
    code = (
        "import resource; from pathlib import Path; from jaxstyle.app import available_memory; "
        "resource.setrlimit(resource.RLIMIT_DATA, (2**45, -1)); "
        "print(available_memory.memory_limit(Path('none'), {})); "
        "resource.setrlimit(resource.RLIMIT_AS, (2**44, -1)); "
        "print(available_memory.memory_limit(Path('none'), {}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(2.0**45), str(2.0**44)]


def test_info_says_what_a_size_needs(capsys):
    assert main(["info", "--memory", "4GB", "--recipe", "gatys"]) == 0
    said = capsys.readouterr().out
    assert "512x384" in said
    assert "whole" in said
    assert "windows of" in said
    assert "does not fit" in said
