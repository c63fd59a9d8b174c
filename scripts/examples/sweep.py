"""Paints one photo with every combination of two loss weights, in one compiled program.

Loss weights are traced and `stylize` works under `jax.vmap`, so a sweep is a `jax.vmap`, and a
sweep over two loss weights is a `jax.vmap` of a `jax.vmap`. Other loss weights do not recompile.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxstyle
from jaxstyle.io import SAMPLES
from jaxstyle.recipes import DEFAULT
from jaxstyle.terms import TotalVariation


def main(
    content: Path = SAMPLES / "content.png",
    style: Path = SAMPLES / "style.png",
    output: Path = Path("sweep.png"),
    content_weights: tuple[float, ...] = (0.3, 3.0, 30.0),
    smoothness: tuple[float, ...] = (0.0, 1e2, 1e3),
    size: int = 192,
    steps: int = 100,
) -> None:
    """Makes a sheet of pictures: a row per content weight, a column per smoothness weight.

    Args:
        content: The photo.
        style: The painting.
        output: The sheet.
        content_weights: Loss weights of the content.
        smoothness: Loss weights of the total variation.
        size: Long edge of each picture, in pixels.
        steps: Solver steps at full size.
    """
    jaxstyle.io.check_writable(output)
    params = jaxstyle.io.load_params()
    photo, painting = (jaxstyle.io.load_image(path, size=size) for path in (content, style))
    variation = TotalVariation(reduction="mean", pixel_range=255.0)
    recipe = dataclasses.replace(
        DEFAULT,
        terms=(*DEFAULT.terms, variation),
        weights={**DEFAULT.weights, variation.name: 0.0},
        solver=dataclasses.replace(DEFAULT.solver, num_steps=steps),
    )

    def paint(content_weight: jax.Array, smoothness: jax.Array) -> jaxstyle.StyleResult:
        weights = {"content": content_weight, variation.name: smoothness}
        return jaxstyle.stylize(params, photo, painting, recipe=recipe, weights=weights)

    for_all = jax.vmap(jax.vmap(paint, (None, 0)), (0, None))
    result = for_all(jnp.array(content_weights), jnp.array(smoothness))
    for name, losses in result.term_losses.items():
        print(f"{name}:\n{np.array_str(np.asarray(losses), precision=3)}")
    # (rows, columns, H, W, 3) -> (rows H, columns W, 3)
    jaxstyle.io.save_image(output, np.concatenate(np.concatenate(result.image, axis=1), axis=1))


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        tyro.cli(main)
