"""Compiled programs on disk: found again, told from others, and made anew when they are damaged."""

import ctypes
import dataclasses
import os
import platform
import pwd
import stat
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHALLOW

import jaxstyle
from jaxstyle import compiled, terms
from jaxstyle.app import compile_cache
from jaxstyle.app.compile_ahead import compile_ahead
from jaxstyle.app.compile_cache import KeptPrograms
from jaxstyle.io import InputError, fetch, list_weights
from jaxstyle.io.network_weights.cache import cache_dir
from jaxstyle.problem import Problem

KEEP = compile_cache.keep_compiled_programs  # before a fixture replaces it
PROBLEM = Problem(jaxstyle.VGG19(), (terms.TotalVariation(),))
SMALL = dataclasses.replace(
    SHALLOW,
    solver=jaxstyle.LBFGS(num_steps=5, history_size=3),
    pyramid=jaxstyle.Pyramid(coarsest=16, steps=(3,)),
)
ADAM = dataclasses.replace(
    SMALL, solver=jaxstyle.Adam(num_steps=5, average=0.9, keep_moments=True), color="luminance"
)


def programs_in(folder):
    return [path for path in folder.iterdir() if path.name != ".key"]


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
    assert [path.name for path in programs_in(tmp_path)] == compiled


def test_another_one_is_told_apart(counted, tmp_path, monkeypatch):
    function, compiled = counted
    x, y = {"x": jnp.arange(3.0)}, jnp.float32(1)

    def call(static=(PROBLEM, 2), x=x, y=y):
        before = len(compiled)
        found = KeptPrograms(tmp_path)(function, static, jax.tree.map(jnp.copy, x), y)["a"]
        np.testing.assert_allclose(found, static[1] * x["x"] + y)
        return len(compiled) - before

    others = Problem(jaxstyle.VGG19(pooling="average"), PROBLEM.terms)
    assert [call(), call()] == [1, 0]
    assert call((PROBLEM, 3)) == 1
    assert call((others, 2)) == 1
    assert call((dataclasses.replace(PROBLEM, tile=64), 2)) == 1
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
        patch.setattr(compile_cache, "_SOURCE", ("another",))
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
            (path,) = programs_in(tmp_path)
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert len(compiled) == 2


def test_what_was_unused_for_longest_makes_room(counted, tmp_path, monkeypatch):
    function, _ = counted

    def call(length):
        KeptPrograms(tmp_path)(function, (PROBLEM, 2), {"x": jnp.ones(length)}, jnp.zeros(length))
        return set(programs_in(tmp_path))

    for length in (2, 3, 4):
        files = call(length)
        for age, path in enumerate(sorted(files, key=lambda path: path.stat().st_mtime)):
            os.utime(path, (0, time.time() - 100 + age))
    assert len(files) == 3
    call(2)  # the oldest is used
    size = max(path.stat().st_size for path in files)
    monkeypatch.setattr(compile_cache, "_BYTES", 3 * size + size // 2)  # the key is smaller
    after = call(5)
    assert len(after) == 3
    assert len(files & after) == 2


def test_few_are_in_memory(counted, tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "_PROGRAMS", 2)
    function, compiled = counted
    call, kept = KeptPrograms(tmp_path), []
    for length in (2, 3, 2, 4, 3):  # 3 is the least recently used one when 4 comes
        call(function, (PROBLEM, 2), {"x": jnp.ones(length)}, jnp.zeros(length))
        kept.append([*call._programs])
    two, three, four = kept[0][0], kept[1][1], kept[3][1]
    assert kept == [[two], [two, three], [three, two], [two, four], [four, three]]
    assert len(compiled) == 3  # the fifth was loaded


def test_compiled_in_threads(tmp_path):
    """Each compiles without a change of JAX's settings, which are those of all threads."""
    seen = []

    def of(power):
        def function(problem, x):
            seen.append(dict(jax.config.values))
            return jnp.sin(x @ x.T).sum(0) ** power

        function.__name__ = f"power{power}"
        return jax.jit(function, static_argnums=0)

    x, before = jnp.ones((9, 9)), dict(jax.config.values)
    for traced in (4, 4):  # compiled, and loaded
        call, functions = KeptPrograms(tmp_path), map(of, range(4))
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(call, functions, [(PROBLEM,)] * 4, [x] * 4))
        for power, each in enumerate(found):
            np.testing.assert_allclose(each, (9 * np.sin(9.0)) ** power, rtol=1e-5)
        assert len(seen) == traced
    assert all(settings == before for settings in seen)
    assert len(programs_in(tmp_path)) == 4


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="nothing is kept on Windows")
def test_caches_that_others_can_write_are_passed_over(tmp_path, capsys):
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    shared.chmod(0o777)
    kept = compile_cache._keep_in(shared, own)
    assert isinstance(kept, KeptPrograms)
    assert not list(shared.iterdir())
    assert stat.S_IMODE(shared.stat().st_mode) == 0o777
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"compiled programs are not kept in {shared}: other users may write")
    assert f"chmod go-w {shared}; they are kept in {own / 'compiled'}" in said
    assert list(own.glob("compiled/*/programs/.key"))
    assert compile_cache._keep_in(shared) is compiled.call_jitted


def test_no_home_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compile_cache._keep_in(Path("~/.cache/jaxstyle")) is compiled.call_jitted
    assert "set JAXSTYLE_CACHE" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    assert compile_cache._keep_in(tmp_path / "file") is compiled.call_jitted
    said = capsys.readouterr().err
    assert said.startswith(f"compiled programs are not kept in {tmp_path / 'file'}: ")
    assert "set JAXSTYLE_CACHE" in said
    assert (tmp_path / "file").read_text() == "mine"


def unknown_user(monkeypatch):
    """As in containers that start with any user id."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])


def empty_home(monkeypatch):
    monkeypatch.setenv("HOME", "")


def tilde(monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", "~nobody-of-this-name/cache")


@pytest.mark.parametrize("home", [unknown_user, empty_home, tilde])
def test_no_cache_without_a_home(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("JAXSTYLE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    home(monkeypatch)
    for use in (cache_dir, fetch, list_weights):
        with pytest.raises(InputError, match="JAXSTYLE_CACHE"):
            use()
    monkeypatch.setenv("JAXSTYLE_CACHE", "cache")
    assert cache_dir() == Path("cache")
    assert not list(tmp_path.iterdir())


def test_programs_without_a_home(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("JAXSTYLE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    unknown_user(monkeypatch)
    monkeypatch.setattr(compile_cache, "_keep_in", lambda *caches: caches)
    assert KEEP() == ()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("compiled programs are not kept: there is no home folder")
    assert "set JAXSTYLE_CACHE" in line
    tilde(monkeypatch)  # what the user has set is at fault
    assert KEEP() == ()
    assert "~nobody-of-this-name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_program_that_cannot_be_written_costs_no_run(counted, tmp_path, monkeypatch, capsys):
    def refuse(program):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no serialization")

    monkeypatch.setattr(compile_cache, "serialize", refuse)
    function, compiled = counted
    call = KeptPrograms(tmp_path)
    call.announces = True
    for length in (2, 3):
        arrays = {"x": jnp.ones(length)}, jnp.zeros(length)
        np.testing.assert_array_equal(call(function, (PROBLEM, 2), *arrays)["a"], 2)
    assert len(compiled) == 2
    assert not programs_in(tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        "compiling for this recipe and size; later runs load the programs",
        f"compiled programs are not kept in {tmp_path}: UNIMPLEMENTED: no serialization",
    ]


LOADS = """
import sys
import jax
import numpy as np
from jaxstyle import VGG19, color
from jaxstyle.app.compile_cache import LOADED, KeptPrograms
from jaxstyle.problem import Problem
from jaxstyle.terms import TotalVariation

loaded = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **more: loaded.append(name) if name == LOADED else None
)
rng = np.random.default_rng(0)
pictures = [rng.uniform(size=(16, 20, 3)).astype(np.float32) for _ in range(3)]
problem, kept = Problem(VGG19(), (TotalVariation(),)), KeptPrograms(sys.argv[1])
for name in ("recolor", "match_color", "luminance_only"):
    function = getattr(color, name)
    number = 3 if name == "recolor" else 2
    def call(problem, *pictures, function=function):
        return function(*pictures)
    call.__name__ = name
    print(np.sum(kept(jax.jit(call, static_argnums=0), (problem,), *pictures[:number])))
print(len(loaded))
"""


def test_linear_algebra_runs_in_the_next_process(tmp_path):
    """jaxlib finds LAPACK only where something that needs it is lowered."""
    run = [sys.executable, "-W", "error", "-c", LOADS, str(tmp_path / "programs")]
    first, second = (
        subprocess.run(run, capture_output=True, text=True, check=False) for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    *sums, made = first.stdout.split()
    *same, loaded = second.stdout.split()
    assert (made, loaded) == ("0", "3")
    assert len(sums) == 3
    assert sums == same


def test_files_of_others_are_left_where_programs_are_kept(counted, tmp_path, monkeypatch):
    function, _ = counted
    mine = tmp_path / "notes.txt"
    mine.write_bytes(bytes(10**5))
    left = tmp_path / ".tmp-0123456789abcdef"  # by a process that was killed
    left.write_bytes(bytes(10**5))
    for path in (mine, left):
        os.utime(path, (0, 0))
    monkeypatch.setattr(compile_cache, "_BYTES", 9 * 10**4)
    KeptPrograms(tmp_path)(function, (PROBLEM, 2), {"x": jnp.ones(2)}, jnp.zeros(2))
    assert mine.read_bytes() == bytes(10**5)
    assert not left.exists()
    assert len(programs_in(tmp_path)) == 2


def test_a_mesh_has_programs_of_its_own(counted, tmp_path):
    function, compiled = counted
    for _ in range(2):
        for mesh in (None, jaxstyle.make_mesh(batch=1)):
            call = KeptPrograms(tmp_path)
            static = (dataclasses.replace(PROBLEM, mesh=mesh), 2)
            found = call(function, static, {"x": jnp.ones(2)}, jnp.zeros(2))
            np.testing.assert_array_equal(found["a"], 2)
    assert len(compiled) == 2


@pytest.mark.parametrize("recipe", [SMALL, ADAM], ids=["lbfgs", "adam"])
@pytest.mark.parametrize("batched", [False, True])
def test_runs_are_what_they_are_without(
    recipe, batched, random_params, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(compile_cache, "_quick", dict)  # other options round otherwise
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


DRAWING = dataclasses.replace(
    SMALL,
    terms=(jaxstyle.terms.SelfSimilarity(layers=("relu1_1",), samples=32), SHALLOW.terms[1]),
    solver=jaxstyle.RMSprop(num_steps=5),
)


@pytest.fixture
def noted(monkeypatch):
    """The names of large programs: prepared in another thread, and called."""
    prepared, called, program = [], [], KeptPrograms.program

    def note(kept, function, static, arrays):
        prepared.append(kept._name(function, static, arrays, jax.devices()[:1]))

    def call(kept, function, static, arrays, announce=None):
        if function in (compiled.compute_targets, compiled.advance_in_place):
            called.append(kept._name(function, static, arrays, jax.devices()[:1]))
        return program(kept, function, static, arrays, announce)

    monkeypatch.setattr(KeptPrograms, "prepare", note)
    monkeypatch.setattr(KeptPrograms, "program", call)
    return prepared, called


def wait_for_compilation():
    for thread in threading.enumerate():
        if thread.name == compile_cache.AHEAD:
            thread.join()


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [(SMALL, "guided"), (SMALL, "batch"), (ADAM, "plain"), (DRAWING, "plain")],
    ids=["guided", "batch", "adam", "drawing"],
)
def test_what_is_compiled_ahead_is_what_the_run_calls(
    recipe, kind, random_params, pictures, tmp_path, noted
):
    pair = {"params": random_params, "content": pictures(0, 32, 48), "style": (pictures(1),)}
    options = {"recipe": recipe, "key": jax.random.key(3), "mesh": None}
    steps = jaxstyle.stylize_steps
    if kind == "guided":
        mask = np.linspace(0, 1, 32 * 48, dtype=np.float32).reshape(1, 32, 48)
        options |= {"masks": mask, "init": pictures(2, 32, 48)}
    if kind == "batch":
        contents, style = (np.stack([each, each]) for each in (pair["content"], *pair["style"]))
        pair = {"params": random_params, "contents": contents, "styles": (style,)}
        options["key"] = jax.random.split(options["key"], 2)
        options["weights"] = {"content": np.array([1, 2], np.float32), "style": 1e3}
        steps = jaxstyle.stylize_batch_steps
    with compile_ahead(KeptPrograms(tmp_path), "float32", steps, pair, options) as call:
        for _ in steps(**pair, **options, call=call):
            pass
        wait_for_compilation()
    prepared, called = noted
    assert len(set(prepared)) == 4  # targets and steps, at two sizes
    assert prepared == [*dict.fromkeys(called)]


@pytest.mark.parametrize("problem", ["none", "it is over", "an error"])
def test_a_program_is_waited_for_and_not_compiled_twice(
    problem, random_params, pictures, tmp_path, monkeypatch
):
    pair = {"params": random_params, "content": pictures(0, 32, 48), "style": (pictures(1),)}
    options = {"recipe": SMALL, "mesh": None}
    threads, compile_one = {}, KeptPrograms._compile

    def note(kept, name, *arguments):
        assert name not in threads
        threads[name] = threading.current_thread().name
        if problem == "an error" and threads[name] == compile_cache.AHEAD:
            del threads[name]
            raise MemoryError
        return compile_one(kept, name, *arguments)

    monkeypatch.setattr(KeptPrograms, "_compile", note)
    expected = jaxstyle.stylize(**pair, **options)
    steps = jaxstyle.stylize_steps
    with compile_ahead(KeptPrograms(tmp_path), "float32", steps, pair, options) as call:
        call.is_over = problem == "it is over"
        *_, (_, result) = steps(**pair, **options, call=call)
        wait_for_compilation()
    assert (compile_cache.AHEAD in threads.values()) == (problem == "none")
    # Other options of the compiler round otherwise.
    np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-3)


def test_python_waits_for_the_thread_at_its_end(random_params, pictures, tmp_path, monkeypatch):
    pair = {"params": random_params, "content": pictures(0, 32, 48), "style": (pictures(1),)}
    options, steps = {"recipe": SMALL, "mesh": None}, jaxstyle.stylize_steps
    waited = []

    def note(*_):
        waited.append(not threading.current_thread().daemon)

    def paint():  # in a thread of its own, as the program does
        with compile_ahead(KeptPrograms(tmp_path), "float32", steps, pair, options) as call:
            next(iter(steps(**pair, **options, call=call)))
            wait_for_compilation()

    monkeypatch.setattr(KeptPrograms, "prepare", note)
    thread = threading.Thread(target=paint, daemon=True)
    thread.start()
    thread.join()
    assert waited == [True] * 4


def test_what_is_compiled_quickly():
    problem = dataclasses.replace(PROBLEM, tile=None)
    state = types.SimpleNamespace(best_x=np.zeros((128, 256, 3)))
    large = types.SimpleNamespace(best_x=np.zeros((128, 257, 3)))
    is_quick = compile_cache._is_quick
    assert is_quick(compiled.compute_targets, (problem, False), ())
    assert not is_quick(compiled.compute_targets, (problem, True), ())
    assert is_quick(compiled.advance_in_place, (problem, None, False), (state,))
    assert not is_quick(compiled.advance_in_place, (problem, None, False), (large,))
    assert not is_quick(compiled.advance_in_place, (problem, None, True), (state,))
    windows = dataclasses.replace(problem, tile=64)
    assert not is_quick(compiled.compute_targets, (windows, False), ())
    assert "xla_backend_optimization_level" in compile_cache._quick()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a function of glibc")
def test_memory_that_was_freed_goes_back_to_the_system():
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]

    def resident():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    size, number = 2**16, 800  # smaller blocks than those that glibc maps one by one
    blocks = [library.malloc(size) for _ in range(number)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[:-1]:  # the last one keeps the heap from shrinking by itself
        library.free(block)
    before = resident()
    compile_cache.return_freed_memory()
    after = resident()
    library.free(blocks[-1])  # only now: it lets the heap shrink by itself
    assert before - after > size * number / 2
