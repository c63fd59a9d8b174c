"""Makes a texture with the style statistics of a painting, without a photo.

Gatys, Ecker & Bethge, "Texture Synthesis Using Convolutional Neural Networks", NIPS 2015. Without a
content term, `stylize` needs no content; it starts from noise of any size.
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
        style: The painting.
        output: The texture.
        height: Height of the texture, in pixels.
        width: Width of the texture, in pixels.
        style_size: Long edge of the painting, in pixels; larger means larger details.
        steps: Solver steps at full size.
        seed: Seed of the noise.
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
