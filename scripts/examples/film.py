"""Makes a film of one photo, from one style to another and back; all frames are one batch.

Each pair of a batch may have its own style shares, so a film is a batch. Its frames match because
all of them start from the photo and make the same number of steps.
"""

import dataclasses
import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image

import jaxstyle
from jaxstyle.io import SAMPLES, InputError


def main(
    content: Path = SAMPLES / "content.png",
    styles: tuple[Path, Path] = (SAMPLES / "style.png", SAMPLES / "content.png"),
    output: Path = Path("film.gif"),
    number: int = 8,
    seconds: float = 1.5,
    size: int = 256,
    steps: int = 100,
) -> None:
    """Makes a film from one style to another and back.

    Args:
        content: The photo.
        styles: Two paintings.
        output: A GIF or WebP file.
        number: Number of pictures from one style to the other.
        seconds: Duration of the way from one style to the other.
        size: Long edge, in pixels.
        steps: Solver steps at full size.
    """
    kind = output.suffix[1:].upper()
    if kind not in ("GIF", "WEBP"):
        raise InputError(f"{str(output)!r} is not a film format; use .gif or .webp")
    jaxstyle.io.check_target(output)
    recipe = jaxstyle.recipes.DEFAULT
    photo, *paintings = (jaxstyle.io.load_image(path, size=size) for path in (content, *styles))

    def repeat(image: np.ndarray) -> jnp.ndarray:
        return jnp.broadcast_to(image, (number, *image.shape))

    share = jnp.linspace(0, 1, number)
    result = jaxstyle.stylize_batch(
        jaxstyle.io.load_params(),
        repeat(photo),
        tuple(map(repeat, paintings)),
        solver=dataclasses.replace(recipe.solver, num_steps=steps),
        style_weights=jnp.stack([1 - share, share], axis=-1),
    )
    pixels = np.asarray(jnp.rint(255 * result.image).astype(jnp.uint8))
    frames = [Image.fromarray(frame) for frame in pixels]
    others = frames[1:] + frames[-2:0:-1]
    duration = round(1000 * seconds / number)
    film = io.BytesIO()
    frames[0].save(film, kind, save_all=True, append_images=others, duration=duration, loop=0)
    jaxstyle.io.write_atomically(output, film.getvalue())


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        tyro.cli(main)
