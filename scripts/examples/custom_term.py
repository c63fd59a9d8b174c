"""Adds the README's term to a recipe; it keeps the edges of the photo."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxstyle
from jaxstyle.io import SAMPLES
from jaxstyle.recipes import DEFAULT
from jaxstyle.terms import TargetImage, Term


def laplacian(x: jax.Array) -> jax.Array:
    return 4 * x[1:-1, 1:-1] - x[2:, 1:-1] - x[:-2, 1:-1] - x[1:-1, 2:] - x[1:-1, :-2]


@dataclasses.dataclass(frozen=True)
class Edges(Term):
    """Keeps the photo's edges: squared difference of the Laplacians."""

    name: str = "edges"
    layers = ("image",)
    target_image: ClassVar[TargetImage] = "content"

    def statistics(self, features: Any, target: Any, weight: Any) -> jax.Array:
        square = (laplacian(features["image"]) - laplacian(target["image"])) ** 2
        weight = 1 if weight is None else weight["image"][1:-1, 1:-1, None]
        return jnp.sum(weight * square)

    def loss(self, statistics: jax.Array, target: Any) -> jax.Array:
        return statistics


def main(
    content: Path = SAMPLES / "content.png",
    style: Path = SAMPLES / "style.png",
    output: Path = Path("edges.png"),
    weight: float = 100.0,
    size: int = 256,
    steps: int = 100,
) -> None:
    """Paints a photo without the term and with it, side by side.

    Args:
        content: The photo.
        style: The painting.
        output: The two pictures.
        weight: Loss weight of the edges in the second picture.
        size: Long edge of each picture, in pixels.
        steps: Solver steps at full size.
    """
    jaxstyle.io.check_writable(output)
    params = jaxstyle.io.load_params()
    photo, painting = (jaxstyle.io.load_image(path, size=size) for path in (content, style))
    recipe = dataclasses.replace(
        DEFAULT,
        terms=(*DEFAULT.terms, Edges()),
        weights={**DEFAULT.weights, "edges": weight},
        solver=dataclasses.replace(DEFAULT.solver, num_steps=steps),
    )

    def paint(weight: jax.Array) -> jaxstyle.StyleResult:
        return jaxstyle.stylize(params, photo, painting, recipe=recipe, weights={"edges": weight})

    result = jax.vmap(paint)(jnp.array([0.0, weight]))
    for name, losses in result.term_losses.items():
        print(f"{name:8} without {losses[0]:.4g}, with {losses[1]:.4g}")
    jaxstyle.io.save_image(output, np.concatenate(result.image, axis=1))


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        tyro.cli(main)
