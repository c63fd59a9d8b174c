"""Compiled programs on disk: found again, told from others, and made anew when they are damaged."""

import dataclasses
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHALLOW

import jaxstyle
from jaxstyle import terms, transfer
from jaxstyle.app import programs
from jaxstyle.app.programs import KeptPrograms

PROBLEM = transfer.Problem(jaxstyle.VGG19(), (terms.TotalVariation(),))
SMALL = dataclasses.replace(
    SHALLOW,
    solver=jaxstyle.LBFGS(num_steps=5, history_size=3),
    pyramid=jaxstyle.Pyramid(coarsest=16, steps=(3,)),
)
ADAM = dataclasses.replace(
    SMALL, solver=jaxstyle.Adam(num_steps=5, average=0.9, keep_moments=True), color="luminance"
)


@pytest.fixture
def counted(monkeypatch):
    """A jitted function of two static arguments, and a list that grows when it is compiled."""

    def function(problem, factor, x, y):
        return {"a": factor * x["x"] + y, "b": (x["x"].sum(),)}

    compiled, original = [], KeptPrograms._compile

    def compile_and_count(kept, name, *arguments):
        compiled.append(name)
        return original(kept, name, *arguments)

    monkeypatch.setattr(KeptPrograms, "_compile", compile_and_count)
    return jax.jit(function, static_argnums=(0, 1), donate_argnums=2), compiled


def test_a_program_is_found_again(counted, tmp_path):
    function, compiled = counted
    x = np.arange(3, dtype=np.float32)
    for _ in range(2):
        call = KeptPrograms(tmp_path)
        for shift in (1.0, 2.0):
            found = call(function, (PROBLEM, 2), {"x": jnp.asarray(x)}, jnp.float32(shift))
            np.testing.assert_array_equal(found["a"], 2 * x + shift)
            np.testing.assert_array_equal(found["b"][0], 3)
    assert [path.name for path in tmp_path.iterdir()] == compiled


def test_another_one_is_told_apart(counted, tmp_path, monkeypatch):
    function, compiled = counted
    x, y = {"x": jnp.arange(3.0)}, jnp.float32(1)

    def call(static=(PROBLEM, 2), x=x, y=y):
        before = len(compiled)
        found = KeptPrograms(tmp_path)(function, static, jax.tree.map(jnp.copy, x), y)["a"]
        np.testing.assert_allclose(found, static[1] * x["x"] + y)
        return len(compiled) - before

    others = transfer.Problem(jaxstyle.VGG19(pooling="average"), PROBLEM.terms)
    assert [call(), call()] == [1, 0]
    assert call((PROBLEM, 3)) == 1
    assert call((others, 2)) == 1
    assert call((PROBLEM._replace(tile=64), 2)) == 1
    assert call(x={"x": jnp.arange(4.0)}) == 1
    assert call(x={"x": jnp.arange(3)}) == 1
    assert call(y=jnp.ones(3)) == 1
    assert call(y=1.0) == 1  # weakly typed
    with jax.default_matmul_precision("highest"):
        assert call() == 1
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
        assert call() == 1
    with monkeypatch.context() as patch:
        patch.setattr(programs, "_SOURCE", ("another",))
        assert call() == 1
    assert call() == 0
    assert len(set(compiled)) == len(compiled) == 11


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_damaged_one_is_made_again(damage, counted, tmp_path):
    function, compiled = counted
    for _ in range(3):
        found = KeptPrograms(tmp_path)(function, (PROBLEM, 2), {"x": jnp.ones(2)}, jnp.zeros(2))
        np.testing.assert_array_equal(found["a"], 2)
        if len(compiled) == 1:
            (path,) = tmp_path.iterdir()
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert len(compiled) == 2


def test_what_was_unused_for_longest_makes_room(counted, tmp_path, monkeypatch):
    function, _ = counted

    def call(length):
        KeptPrograms(tmp_path)(function, (PROBLEM, 2), {"x": jnp.ones(length)}, jnp.zeros(length))
        return set(tmp_path.iterdir())

    for length in (2, 3, 4):
        files = call(length)
        for age, path in enumerate(sorted(files, key=lambda path: path.stat().st_mtime)):
            os.utime(path, (0, time.time() - 100 + age))
    assert len(files) == 3
    call(2)  # the oldest is used
    size = max(path.stat().st_size for path in files)
    monkeypatch.setattr(programs, "_BYTES", 3 * size + size // 2)
    after = call(5)
    assert len(after) == 3
    assert len(files & after) == 2


def test_compiled_in_threads_and_found_beside_the_cache_of_jax(tmp_path):
    """What JAX's cache has returned could be written, but not be run when it is read again."""
    run = """
import sys
from concurrent.futures import ThreadPoolExecutor
import jax
import jax.numpy as jnp
from jaxstyle.app.programs import KeptPrograms
jax.config.update("jax_compilation_cache_dir", sys.argv[1] + "/jax")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
class Problem:
    mesh = None
    def __repr__(self): return "problem"
problem = Problem()
def of(power):
    function = lambda problem, x: jnp.sin(x @ x.T).sum(0) ** power
    function.__name__ = f"power{power}"
    return jax.jit(function, static_argnums=0)
call, x = KeptPrograms(__import__("pathlib").Path(sys.argv[1] + "/kept")), jnp.ones((9, 9))
plain = [of(power)(problem, x) for power in range(8)]  # in JAX's cache
with ThreadPoolExecutor(4) as threads:
    found = list(threads.map(lambda power: call(of(power), (problem,), x), range(8)))
assert all(bool(jnp.all(a == b)) for a, b in zip(plain, found))
"""
    for _ in range(2):
        command = [sys.executable, "-c", run, str(tmp_path)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        assert len(list((tmp_path / "kept").iterdir())) == 8
    assert len(list((tmp_path / "jax").glob("jit_power*-cache"))) == 8


def test_a_folder_that_cannot_be_written_costs_no_run(counted, tmp_path):
    function, _ = counted
    (tmp_path / "file").touch()
    call = KeptPrograms(tmp_path / "file")
    found = call(function, (PROBLEM, 2), {"x": jnp.ones(2)}, jnp.zeros(2))
    np.testing.assert_array_equal(found["a"], 2)


def test_a_program_that_cannot_be_written_costs_no_run(counted, tmp_path, monkeypatch):
    def refuse(program):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no serialization")

    monkeypatch.setattr(programs, "serialize", refuse)
    function, _ = counted
    found = KeptPrograms(tmp_path)(function, (PROBLEM, 2), {"x": jnp.ones(2)}, jnp.zeros(2))
    np.testing.assert_array_equal(found["a"], 2)
    assert not list(tmp_path.iterdir())


def test_several_devices_are_left_to_jax(counted, tmp_path):
    function, compiled = counted
    problem = PROBLEM._replace(mesh=jaxstyle.make_mesh(batch=1))
    found = KeptPrograms(tmp_path)(function, (problem, 2), {"x": jnp.ones(2)}, jnp.zeros(2))
    np.testing.assert_array_equal(found["a"], 2)
    assert not compiled
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", [SMALL, ADAM], ids=["lbfgs", "adam"])
@pytest.mark.parametrize("batched", [False, True])
def test_runs_are_what_they_are_without(recipe, batched, random_params, pictures, tmp_path):
    content, styles = pictures(0, 32, 48), (pictures(1), pictures(2))
    masks = np.linspace(0, 1, 32 * 48, dtype=np.float32).reshape(1, 32, 48)
    settings = {"recipe": recipe, "masks": np.concatenate([masks, 1 - masks]), "every": 2}
    steps = jaxstyle.stylize_steps
    if batched:
        steps = jaxstyle.stylize_batch_steps
        content, *styles = (np.stack([each, each[::-1]]) for each in (content, *styles))
    pair = random_params, content, tuple(styles)
    expected = dict(steps(*pair, **settings))
    for _ in range(2):  # compiled, and loaded
        found = dict(steps(*pair, **settings, call=KeptPrograms(tmp_path)))
        assert list(found) == list(expected)
        for step, result in found.items():
            jax.tree.map(np.testing.assert_array_equal, result, expected[step])
