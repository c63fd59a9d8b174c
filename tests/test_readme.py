"""The README's Python runs as it stands, on small pictures and few steps."""

import functools
import re
from pathlib import Path

import jax.numpy as jnp

import jaxstyle

README = Path(__file__).parent.parent / "README.md"


def test_python_examples(tmp_path, monkeypatch, random_params, pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxstyle.io, "load_params", lambda: random_params)
    load = lambda name, size: pictures(len(name))  # noqa: E731
    monkeypatch.setattr(jaxstyle.io, "load_image", load)
    quick = functools.partial(jaxstyle.stylize, solver=jaxstyle.LBFGS(num_steps=2))
    monkeypatch.setattr(jaxstyle, "stylize", quick)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "out.png").exists()
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


def test_recipes_and_commands_are_those_of_the_program():
    text = README.read_text()
    for name in jaxstyle.recipes.RECIPES:
        assert f"| `{name}` |" in text
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
    for option in re.findall(r"--([a-z-]+)", text):
        source = (README.parent / "jaxstyle" / "app" / "cli.py").read_text()
        assert option.replace("-", "_") in source, option
