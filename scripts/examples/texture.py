"""Makes a texture out of a painting: its statistics, and nothing of any photo.

Gatys, Ecker & Bethge, "Texture Synthesis Using Convolutional Neural Networks", NIPS 2015: without
a content term no content is needed, and the start is noise, of any size.
"""

import dataclasses
from pathlib import Path

import jax
import tyro

import jaxstyle
from jaxstyle.io import SAMPLES
from jaxstyle.recipes import DEFAULT


def main(
    style: Path = SAMPLES / "style.png",
    output: Path = Path("texture.png"),
    height: int = 256,
    width: int = 256,
    style_size: int = 256,
    steps: int = 200,
    seed: int = 0,
) -> None:
    """Makes a texture.

    Args:
        style: The picture that it looks like.
        output: The texture.
        height: Its height, in pixels.
        width: Its width, in pixels.
        style_size: Long edge that the style is resized to, in pixels; with it grows what is on it.
        steps: Steps of the solver at the full size.
        seed: Of the noise.
    """
    jaxstyle.io.check_writable(output)
    recipe = dataclasses.replace(
        DEFAULT,
        terms=tuple(term for term in DEFAULT.terms if term.target_image == "style"),
        weights={"style": 1.0},
        solver=dataclasses.replace(DEFAULT.solver, num_steps=steps),
    )
    result = jaxstyle.stylize(
        jaxstyle.io.load_params(),
        None,
        jaxstyle.io.load_image(style, size=style_size),
        recipe=recipe,
        init=jax.random.uniform(jax.random.key(seed), (height, width, 3)),
    )
    print(f"loss {result.trace[0]:.4g} -> {result.loss:.4g}")
    jaxstyle.io.save_image(output, result.image)


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        tyro.cli(main)
