"""Another project installs the wheel of jaxstyle and uses it in a training step of its own."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY, check_public_names

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "sharpener"
version = "0"
dependencies = ["jaxstyle", "jax", "optax"]
"""

# What somebody else would write, with public names.
MODULE = '''
"""Learns a filter that undoes a blur, as VGG19 sees it."""

import inspect

import jax
import jax.numpy as jnp
import optax

import jaxstyle
from jaxstyle.terms import Content

NETWORK = jaxstyle.VGG19()
TERMS = (Content(layers=("image", "relu2_1"), layer_weights=(1.0, 1.0), reduction="mean"),)
OPTIMIZER = optax.adam(0.02)


def convolve(image, kernel):
    planes = jnp.moveaxis(jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge"), -1, 0)
    smooth = jax.vmap(lambda plane: jax.scipy.signal.convolve(plane, kernel, "valid"))(planes)
    return jnp.moveaxis(smooth, 0, -1)


def perceptual_loss(kernel, blurred, sharp, vgg):
    targets = jaxstyle.prepare_targets(NETWORK, vgg, TERMS, sharp, None)
    image = convolve(blurred, kernel)
    return jaxstyle.evaluate(NETWORK, vgg, TERMS, targets, {"content": 1.0}, image)[0]


@jax.jit
def train(kernel, state, blurred, sharp, vgg):
    def loss(kernel):
        return jnp.mean(jax.vmap(perceptual_loss, (None, 0, 0, None))(kernel, blurred, sharp, vgg))

    value, gradient = jax.value_and_grad(loss)(kernel)
    updates, state = OPTIMIZER.update(gradient, state)
    return optax.apply_updates(kernel, updates), state, value


def main():
    keys = jax.random.split(jax.random.key(0), 3)
    vgg = NETWORK.init(keys[0], jnp.zeros((16, 16, 3)), ("relu2_1",))
    sharp = jax.random.uniform(keys[1], (2, 24, 24, 3))
    blur = jnp.outer(jnp.array([0.1, 0.8, 0.1]), jnp.array([0.1, 0.8, 0.1]))
    blurred = jax.vmap(convolve, (0, None))(sharp, blur)
    kernel = jnp.zeros((3, 3)).at[1, 1].set(1.0)
    state, losses = OPTIMIZER.init(kernel), []
    for _ in range(40):
        kernel, state, value = train(kernel, state, blurred, sharp, vgg)
        losses.append(float(value))
    result = jaxstyle.stylize(
        vgg, sharp[0], sharp[1], solver=jaxstyle.LBFGS(num_steps=2), recipe=jaxstyle.Recipe(
            name="own", source="", description="", network=NETWORK, weights={"content": 1.0},
            terms=TERMS, init="noise"), key=keys[2],
    )
    return {
        "from": inspect.getfile(jaxstyle),
        "losses": losses,
        "centre": float(kernel[1, 1]),
        "side": float(kernel[0, 1]),
        "painted": [float(result.trace[0]), float(result.loss)],
    }
'''


@pytest.mark.slow
def test_a_project_of_its_own(tmp_path):
    def run(*command, **more):
        command = [sys.executable, *command]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=600, **more
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert len(check_public_names(MODULE)) == 7
    project, wheels, site = (tmp_path / name for name in ("project", "wheels", "site"))
    (project / "sharpener").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "sharpener" / "__init__.py").write_text(MODULE)

    quietly = ("--quiet", "--no-deps", "--disable-pip-version-check")
    # Dependencies are those that are installed here; both packages are new, in a folder of theirs.
    for source in (REPOSITORY, project):
        run("-m", "pip", "wheel", *quietly, "--no-build-isolation", "--wheel-dir", wheels, source)
    built = sorted(wheels.glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in built] == ["jaxstyle", "sharpener"]
    with zipfile.ZipFile(built[0]) as wheel:
        contents = wheel.namelist()
    for name in ("py.typed", "app/samples/content.png", "app/samples/style.png"):
        assert f"jaxstyle/{name}" in contents
    assert {name.split("/")[0].split("-")[0] for name in contents} == {"jaxstyle"}
    run("-m", "pip", "install", *quietly, "--no-index", "--target", site, *built)

    # A folder on PYTHONPATH comes before an editable install of the repository.
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = "import json, sharpener; print(json.dumps(sharpener.main()))"
    output = run("-W", "error", "-c", code, cwd=tmp_path, env=environment)
    said = json.loads(output.splitlines()[-1])
    assert Path(said["from"]).is_relative_to(site)
    losses = said["losses"]
    assert losses[-1] < 0.5 * losses[0]
    # The inverse of a blur is larger than 1 in the middle and negative beside it.
    assert said["centre"] > 1.1
    assert said["side"] < -0.02
    before, after = said["painted"]
    assert after < before
