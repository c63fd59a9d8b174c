"""The examples run, small; what they print and write is checked; they use public names only."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import check_public_names
from flax.serialization import msgpack_restore
from PIL import Image
from scipy import ndimage

import jaxstyle

REPOSITORY = Path(__file__).parent.parent
EXAMPLES = REPOSITORY / "scripts" / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOK = EXAMPLES / "tour.ipynb"


def code_cells(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def code_of(path):
    text = path.read_text()
    return text if path.suffix == ".py" else "\n".join(code_cells(json.loads(text)))


@pytest.mark.parametrize("path", [*SCRIPTS, NOTEBOOK], ids=lambda path: path.name)
def test_only_public_names_are_used(path):
    assert check_public_names(code_of(path))


def test_the_guide_lists_every_example():
    text = (REPOSITORY / "scripts" / "docs" / "examples.md").read_text()
    for path in (*SCRIPTS, NOTEBOOK):
        assert f"| `{path.name}` |" in text


def test_the_readme_and_the_example_have_the_same_term(pictures):
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if "class Edges" in block)
    names: dict = {}
    exec(block[: block.index("recipe = ")], names)
    example, readme = runpy.run_path(str(EXAMPLES / "custom_term.py"))["Edges"](), names["Edges"]()
    assert (example.name, example.layers) == (readme.name, readme.layers)
    assert example.target_image == readme.target_image
    image, target = ({"image": jnp.asarray(pictures(seed))} for seed in (0, 1))
    for weight in (None, {"image": jnp.asarray(pictures(2)[..., 0])}):
        value = example.loss(example.statistics(image, target, weight), target)
        other = readme.loss(readme.statistics(image, target, weight), target)
        assert value > 0
        assert value == other


@pytest.fixture
def run(monkeypatch, random_params, tmp_path, pictures, capsys):
    """Runs an example in a folder with a photo and two paintings; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxstyle.io, "load_params", lambda: random_params)
    for seed, name in enumerate(("photo", "one", "two")):
        jaxstyle.io.save_image(f"{name}.png", pictures(seed, 36, 48))

    def call(name, command):
        monkeypatch.setattr(sys, "argv", [name, *command.split()])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return call


def numbers(text):
    return [float(number) for number in re.findall(r"(?<!\w)\d[\d.]*(?:e[+-]?\d+)?", text)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_missing_file_is_one_line(run, path, tmp_path, capsys):
    other = {"texture.py": "--style", "perceptual_loss.py": "--picture"}
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as error:
        run(path.name, f"{other.get(path.name, '--content')} missing.png")
    assert error.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: 'missing.png' does not exist")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_custom_term(run):
    out = run(
        "custom_term.py", "--content photo.png --style one.png --size 48 --steps 4 --weight 0.01"
    )
    without, with_it = numbers(out.split("edges")[1].splitlines()[0])
    assert with_it < 0.5 * without
    first, second = np.split(jaxstyle.io.load_image("edges.png"), 2, axis=1)
    assert first.shape == (36, 48, 3)
    photo = jaxstyle.io.load_image("photo.png")
    assert np.abs(first - photo).mean() > 0.003
    sharp, blunt = (ndimage.laplace(image - photo, axes=(0, 1)) for image in (second, first))
    assert np.square(sharp).mean() < 0.7 * np.square(blunt).mean()


@pytest.mark.slow
def test_sweep(run):
    out = run(
        "sweep.py",
        "--content photo.png --style one.png --size 48 --steps 4 "
        "--content-weights 0.01 1e3 --smoothness 0 1e3 1e6",
    )
    content, variation = (
        np.reshape(numbers(out.split(name + ":")[1].split(":")[0]), (2, 3))
        for name in ("content", "total_variation")
    )
    assert content[1, 0] < content[0, 0]
    assert variation[0, 2] < variation[0, 0]
    sheet = jaxstyle.io.load_image("sweep.png")
    assert sheet.shape == (2 * 36, 3 * 48, 3)
    roughness = np.abs(np.diff(sheet, axis=1))
    assert roughness[:36, 96:].mean() < roughness[:36, :47].mean()


@pytest.mark.slow
def test_gradients_agree_with_finite_differences(run, random_params):
    out = run("gradients.py", "--content photo.png --style one.png --size 48 --steps 3")
    predicted = dict(re.findall(r"(\w+) \S+, with 1 % more weight on the style (\S+)", out))
    photo, painting = (jaxstyle.io.load_image(f"{name}.png") for name in ("photo", "one"))
    recipe = jaxstyle.recipes.DEFAULT
    solver = jaxstyle.LBFGS(num_steps=3, smoothness=recipe.solver.smoothness)

    def losses(weight):
        return jaxstyle.stylize(
            random_params, photo, painting, recipe=recipe, solver=solver, weights={"style": weight}
        ).term_losses

    before, after = losses(jnp.exp(-0.01)), losses(jnp.exp(0.01))
    assert predicted.keys() == before.keys()
    for name, value in losses(1.0).items():
        expected = (after[name] - before[name]) / 2
        assert abs(expected) > 1e-5 * value
        np.testing.assert_allclose(float(predicted[name]) - value, expected, rtol=0.05)

    # Against its gradient the painting comes nearer to the photo.
    left, right = np.split(jaxstyle.io.load_image("of_painting.png"), 2, axis=1)
    np.testing.assert_allclose(left, painting, atol=1e-6)

    @jax.jit
    def style_loss(painting):
        problem = recipe.network, random_params, recipe.terms
        targets = jaxstyle.prepare_targets(*problem, photo, painting)
        return jaxstyle.evaluate(*problem, targets, recipe.weights, photo)[1]["style"]

    step = 0.02 * (right - 0.5)
    assert style_loss(painting - step) < style_loss(painting) < style_loss(painting + step)


@pytest.mark.slow
def test_feedforward(run):
    options = "--photos photo.png one.png --style two.png --content photo.png --size 48 --crop 32"
    out = run("feedforward.py", f"{options} --steps 20")
    losses = [sum(numbers(line)[1:]) for line in out.splitlines()]
    assert len(losses) == 10
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    photo, painted = (jaxstyle.io.load_image(f"{name}.png") for name in ("photo", "painted"))
    assert np.abs(painted - photo).mean() > 0.02
    # The saved parameters are those that have painted it.
    params = msgpack_restore(Path("painted.msgpack").read_bytes())
    painter = runpy.run_path(str(EXAMPLES / "feedforward.py"))["Painter"]()
    np.testing.assert_allclose(painter.apply(params, photo), painted, atol=0.501 / 255)
    assert painter.apply(params, photo[:33, :41]).shape == (33, 41, 3)


@pytest.mark.slow
def test_perceptual_loss(run):
    # Edges, which interpolation blurs.
    for name in ("photo", "one"):
        image = jaxstyle.io.load_image(f"{name}.png")[::6, ::6]
        jaxstyle.io.save_image(f"{name}.png", image.repeat(6, 0).repeat(6, 1))
    out = run(
        "perceptual_loss.py", "--photos photo.png --picture one.png --size 48 --crop 32 --steps 100"
    )
    losses = {name: float(loss) for name, loss in re.findall(r"(\w+): (\S+)", out)}
    assert losses["network"] < 0.95 * losses["bicubic"]
    assert losses["original"] == 0
    bicubic, network, original = np.split(jaxstyle.io.load_image("doubled.png"), 3, axis=1)
    np.testing.assert_allclose(original, jaxstyle.io.load_image("one.png"), atol=1e-6)
    assert np.square(network - original).mean() < np.square(bicubic - original).mean()


@pytest.mark.slow
def test_texture(run):
    out = run("texture.py", "--style one.png --height 32 --width 40 --style-size 48 --steps 5")
    first, last = numbers(out)
    assert last < 0.9 * first
    assert jaxstyle.io.load_image("texture.png").shape == (32, 40, 3)


@pytest.mark.slow
def test_a_film_goes_from_one_style_to_the_other_and_back(run):
    run(
        "film.py",
        "--content photo.png --styles one.png two.png --number 4 --size 48 --steps 4 --seconds 0.4",
    )
    with Image.open("film.gif") as film:
        assert film.size == (48, 36)
        assert film.n_frames == 6
        assert film.info["loop"] == 0
        assert film.info["duration"] == 100
        frames = []
        for index in range(6):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB"), float))
    distance = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert 0.5 < distance[1] < distance[2] < distance[3]
    # Back as it came.
    np.testing.assert_allclose(distance[4:], distance[2:0:-1], atol=0.1)


def test_a_film_is_a_gif_or_webp(run):
    with pytest.raises(SystemExit) as error:
        run("film.py", "--output film.mp4")
    assert error.value.code == 2


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(params, tmp_path):
    pytest.importorskip("nbclient", reason="needs the extra `dev`")
    nbformat = pytest.importorskip("nbformat")
    committed = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(committed)
    for cell in committed.cells:
        assert not cell.get("outputs"), "commit the notebook without outputs"
        assert cell.get("execution_count") is None
    command = [sys.executable, "-m", "jupyter", "execute", str(NOTEBOOK)]
    target = tmp_path / "tour.ipynb"
    subprocess.run([*command, f"--output={target}"], check=True, cwd=tmp_path, timeout=900)
    executed = nbformat.read(target, as_version=4)
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 5
