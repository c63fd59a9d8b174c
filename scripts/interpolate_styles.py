"""Paints one photo in a strip of mixtures of two styles, all of them in one batched run."""

import dataclasses
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro

import jaxstyle
from jaxstyle.app import runtime


def main(
    content: Path,
    styles: tuple[Path, Path],
    output: Path = Path("strip.png"),
    number: int = 5,
    size: int = 256,
    steps: int = 200,
    recipe: str = "default",
) -> None:
    """Paints a strip of pictures, from one style to the other.

    Args:
        content: The photo.
        styles: Two paintings.
        output: The picture to write.
        number: Pictures in the strip.
        size: Long edge of each, in pixels.
        steps: Steps of the solver.
        recipe: A name that `jaxstyle recipes` lists.
    """
    jaxstyle.io.check_writable(output)
    runtime.keep_compiled_programs()
    chosen = jaxstyle.recipes.RECIPES[recipe]
    photo, *paintings = (jaxstyle.io.load_image(path, size=size) for path in (content, *styles))

    def repeat(image: np.ndarray) -> jnp.ndarray:
        return jnp.broadcast_to(image, (number, *image.shape))

    share = jnp.linspace(0, 1, number)
    result = jaxstyle.stylize_batch(
        jaxstyle.io.load_params(),
        repeat(photo),
        tuple(map(repeat, paintings)),
        recipe=chosen,
        solver=dataclasses.replace(chosen.solver, num_steps=steps),
        style_weights=jnp.stack([1 - share, share], axis=-1),
    )
    jaxstyle.io.save_image(output, np.concatenate(np.asarray(result.image), axis=1))


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except jaxstyle.io.InputError as error:
        sys.exit(f"error: {error}")
