"""The Python of README and guides runs as it stands, on small pictures and few steps."""

import functools
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxstyle

REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
GUIDES = REPOSITORY / "scripts" / "docs"
DOCUMENTS = [README, *sorted(GUIDES.glob("*.md"))]


@pytest.fixture
def run(tmp_path, monkeypatch, random_params, pictures):
    """Runs the Python blocks of a document, one after the other, and returns its names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxstyle.io, "load_params", lambda: random_params)
    load = lambda name, size: pictures(len(name))  # noqa: E731
    monkeypatch.setattr(jaxstyle.io, "load_image", load)
    quick = functools.partial(jaxstyle.stylize, solver=jaxstyle.LBFGS(num_steps=2))
    monkeypatch.setattr(jaxstyle, "stylize", quick)

    def blocks_of(path, number):
        names: dict = {}
        blocks = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
        assert len(blocks) == number
        for block in blocks:
            exec(block, names)
        return names

    return blocks_of


def test_readme(run, random_params):
    names = run(README, 3)
    assert Path("out.png").exists()
    assert names["features"]["relu4_2"].ndim == 3

    # The term of the last example takes part in the objective.
    recipe, content, style = names["recipe"], names["content"], names["style"]
    targets = jaxstyle.prepare_targets(recipe.network, random_params, recipe.terms, content, style)
    value, per_term = jaxstyle.evaluate(
        recipe.network, random_params, recipe.terms, targets, recipe.weights, 1 - content
    )
    assert per_term["edges"] > 0
    weighted = sum(recipe.weights[name] * loss for name, loss in per_term.items())
    assert jnp.allclose(value, weighted, rtol=1e-4)


def test_research_guide(run):
    names = run(GUIDES / "research.md", 8)
    per_term, sweep = names["per_term"], names["sweep"]
    expected = per_term["content"] + sweep["style"] * per_term["style"]
    np.testing.assert_allclose(names["values"], expected, rtol=1e-4)
    assert names["gradients"].shape == (3, *names["content"].shape)
    # A little way against the style's gradient the loss is lower.
    style, slope = names["style"], names["style_gradient"]
    step = 1e-3 * slope / jnp.max(jnp.abs(slope))
    assert names["loss_of_style"](style - step) < names["loss_of_style"](style)
    np.testing.assert_allclose(names["tiled"], names["whole"], rtol=1e-5)
    masked = names["gradient_of_mask"]
    expected = jnp.sum((1 - 2 * names["content"]) ** 2, -1)
    np.testing.assert_allclose(masked, expected, rtol=1e-4)
    assert names["painted"].solver_loss <= names["painted"].trace[0]
    loss = names["trace"].loss
    assert loss[-1] < loss[0]
    np.testing.assert_allclose(names["exact"], names["value"], rtol=1e-3)


def test_embedding_guide(run):
    names = run(GUIDES / "embedding.md", 4)
    assert names["train"]._cache_size() == 2  # for arrays on one device, and on a mesh
    assert names["evaluate"]._cache_size() == 2
    assert jnp.any(names["model"]["kernel"] != 0)
    photo = names["photos"][0]
    perceptual_loss, params = names["perceptual_loss"], names["vgg_params"]
    assert perceptual_loss(params, photo, photo) == 0
    assert perceptual_loss(params, photo, 1 - photo) > 0


def test_recipes_and_commands_are_those_of_the_program():
    text = (GUIDES / "recipes.md").read_text()
    for name in jaxstyle.recipes.RECIPES:
        assert f"| `{name}` |" in text
    text = README.read_text()
    for command in (
        "stylize",
        "batch",
        "features",
        "info",
        "weights fetch",
        "weights convert",
        "serve",
    ):
        assert f"jaxstyle {command}" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_and_links(document):
    text = document.read_text()
    commands = (REPOSITORY / "jaxstyle" / "app" / "cli").glob("*.py")
    source = "".join(path.read_text() for path in commands) + "loss_weights"
    # Lines of a shell that begin with another program have that one's options.
    own = re.sub(r"^(ray|srun|sbatch|#SBATCH) .*$", "", text, flags=re.MULTILINE)
    for option in re.findall(r"(?<!XLA_FLAGS=)--([a-z-]+)", own):
        assert option.replace("-", "_") in source, option
    if document == README:  # `make docs` follows the others
        for target in re.findall(r"\]\((?!https://)([^)#]+)", text):
            assert (REPOSITORY / target).exists(), target
    for url in re.findall(r"\]\((\w+:[^)]*)\)", text):
        assert re.fullmatch(r"https://[\w.-]+\.[a-z]+(/[\w./%~+-]*)?(#[\w-]+)?", url), url
    for name in re.findall(r"--recipe ([a-z-]+)[`\n ]", text):
        assert name in jaxstyle.recipes.RECIPES
    for path in re.findall(r"--set ([\w.]+)=", text):
        functools.reduce(getattr, path.split("."), jaxstyle.recipes.DEFAULT)


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, REPOSITORY / "CONTRIBUTING.md"], ids=lambda path: path.name
)
def test_files_that_are_named_exist(document):
    for path in re.findall(
        r"`((?:jaxstyle|scripts|tests|weights)/[\w./-]*)`", document.read_text()
    ):
        assert (REPOSITORY / path).exists(), path


def test_statuses_are_all_explained():
    text = (GUIDES / "research.md").read_text()
    assert re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE) == list(
        jaxstyle.Status.__members__
    )
