"""Many devices, and several processes, against one: the same pictures, with nothing whole."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxstyle

PROGRAM = [sys.executable, "-W", "error", str(Path(__file__).parent / "many_devices.py")]


def start(*arguments, devices=8, x64=True):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": str(x64),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"
        " --xla_llvm_disable_expensive_passes=true",
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
    found = finish(start("small"))
    for how in ("batch", "both", "columns", "rows"):
        assert found[how] < 1e-9, (how, found[how])
    assert found["largest"] <= found["activation"] / 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gatys-notebook", "default", "crowson-w2"])
def test_eight_devices_and_whole_recipes(name):
    found = finish(start("recipe", name, x64=False))
    assert found["batch"] < 1e-4
    assert found["columns"] < 1e-4
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


def test_meshes_that_do_not_fit():
    image = np.zeros((40, 40, 3), np.float32)
    devices = np.array(jax.devices()[:1])

    def paint(mesh, **settings):
        return jaxstyle.stylize({}, image, image, mesh=mesh, **settings)

    with pytest.raises(ValueError, match="axes columns: choose from batch and rows"):
        paint(Mesh(devices, ("columns",)))
    with pytest.raises(ValueError, match="2 x 3 devices of 1"):
        jaxstyle.make_mesh(2, 3, devices=jax.devices()[:1])
    with pytest.raises(ValueError, match="ScipyLBFGSB runs on the host"):
        paint(Mesh(devices, ("rows",)), recipe=jaxstyle.recipes.GOKALP_KIM)
