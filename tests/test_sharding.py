"""Many devices, and several processes, against one: the same pictures, with nothing whole."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxstyle

PROGRAM = [sys.executable, "-W", "error", str(Path(__file__).parent / "many_devices.py")]


def start(*arguments, devices=8):
    # Convolutions of float64 are plain loops, for which a little optimization pays where many run.
    level = int(arguments[0] in ("network", "recipe"))
    flags = f"--xla_backend_optimization_level={level}"
    flags += f" --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "True",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",
    }
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(program):
    output, errors = program.communicate(timeout=1200)
    assert program.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def test_eight_devices_paint_what_one_paints():
    """Batches over both axes of a mesh, not evenly; single pairs along columns and rows."""
    found = finish(start("small", "quick"))
    for how in ("both", "columns", "rows", "optax, rows"):
        assert found[how] < 1e-9, (how, found[how])
    assert 0.05 < found["held"] < 0.9  # of all pixels, by the solver's bounds
    assert found["largest"] <= found["activation"] / 4
    assert found["gathers"] == 0
    assert found["part of the history"] == 1 / 8
    assert found["part of a moment"] == 1 / 8


@pytest.mark.slow
def test_eight_devices_paint_batches_alone():
    found = finish(start("small", "all"))
    for how in (
        "batch", "both", "columns", "rows", "opposite edges", "optax, rows", "optax, both",
    ):  # fmt: skip
        assert found[how] < 1e-9, (how, found[how])


@pytest.mark.long
def test_other_networks_and_a_weight_map_on_eight_devices():
    found = finish(start("others"))
    assert len(found) == 4
    assert {case: each for case, each in found.items() if not each < 1e-9} == {}


@pytest.mark.long
def test_the_network_under_what_jax_has():
    """Value and gradients in pictures and parameters, of a network that is written anew.

    So much at once, since each needs eight devices, which a process has from its start.
    """
    found = finish(start("network", "quick"))
    assert len(found) == 14
    assert {case: each for case, each in found.items() if not each < 1e-9} == {}


@pytest.mark.slow
def test_the_network_under_all_that_jax_has():
    found = finish(start("network", "all"))
    assert len(found) > 50
    assert {case: each for case, each in found.items() if not each < 1e-9} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gatys-notebook", "default", "crowson-w2"])
def test_eight_devices_and_whole_recipes(name):
    found = finish(start("recipe", name))
    assert found["batch"] < 1e-9
    assert found["columns"] < 1e-9
    assert found["largest"] <= found["activation"] / 4


def two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [start("process", str(i), "2", port, devices=1) for i in range(2)]


def test_two_processes_paint_what_one_paints():
    for program in two_processes():
        found = finish(program)
        assert found["batch"] < 1e-9
        assert found["rows"] < 1e-9


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other(tmp_path, pictures, params_file):
    for name, seed in (("c", 0), ("s", 1)):
        jaxstyle.io.save_image(tmp_path / f"{name}.png", pictures(seed, 64, 64))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", "import sys; from jaxstyle.app import devices; "
             "from jaxstyle.app.cli.main import main; "
             "devices._SECONDS_OF_SILENCE = 10; sys.exit(main(sys.argv[1:]))", "stylize",
             "--content", str(tmp_path / "c.png"), "--style", str(tmp_path / "s.png"), "--size",
             "64", "--coarsest", "0", "--steps", "100000", "--params", params_file, "--shard",
             "rows", "--coordinator", address, "--processes", "2", "--process", str(i),
             "--output", str(tmp_path / "out.png")],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "cache")},
            stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    first, second = programs
    for line in first.stderr:
        if line.startswith("0/100000 steps"):
            break
    second.kill()
    begin = time.monotonic()
    _, said = first.communicate(timeout=120)
    print(f"ended with {first.returncode} after {time.monotonic() - begin:.1f} s")
    assert time.monotonic() - begin < 60
    assert first.returncode != 0
    assert "died" in said or "heartbeat" in said or "Connection" in said
    # The best picture so far is saved, if JAX lets the process.
    left = {path.name for path in tmp_path.iterdir()}
    assert left in ({"c.png", "s.png", "cache"}, {"c.png", "s.png", "cache", "out.png", "out.json"})
    second.communicate()


def test_meshes_that_do_not_fit():
    image = np.zeros((40, 40, 3), np.float32)
    devices = np.array(jax.devices()[:1])

    def paint(mesh, **settings):
        return jaxstyle.stylize({}, image, image, mesh=mesh, **settings)

    with pytest.raises(ValueError, match="axes columns: choose from batch and rows"):
        paint(Mesh(devices, ("columns",)))
    with pytest.raises(ValueError, match="2 x 3 devices, but there are only 1"):
        jaxstyle.make_mesh(batch=2, rows=3, devices=jax.devices()[:1])
    with pytest.raises(ValueError, match="ScipyLBFGSB runs on the host"):
        paint(Mesh(devices, ("rows",)), recipe=jaxstyle.recipes.GOKALP_KIM)
