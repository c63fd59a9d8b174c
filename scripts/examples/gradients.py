"""Differentiates with respect to the painting, and with respect to a loss weight.

The first derivative is an ordinary gradient, in reverse mode through `prepare_targets` and
`evaluate`. The second is in forward mode, by `jax.jacfwd`, through all of `stylize` and every step
of L-BFGS: how the finished picture and each of its losses change with the loss weight of the style.
(JAX has no reverse mode for a loop with a data-dependent end, and would have to store every step.)
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxstyle
from jaxstyle.io import SAMPLES
from jaxstyle.recipes import DEFAULT


def main(
    content: Path = SAMPLES / "content.png",
    style: Path = SAMPLES / "style.png",
    of_painting: Path = Path("of_painting.png"),
    of_weight: Path = Path("of_weight.png"),
    size: int = 192,
    steps: int = 20,
) -> None:
    """Saves both derivatives, each next to the differentiated picture; gray is zero.

    Args:
        content: The photo.
        style: The painting.
        of_painting: The painting, and the gradient of the photo's style loss with respect to it.
        of_weight: The picture, and its derivative with respect to the log of the style weight.
        size: Long edge, in pixels.
        steps: Solver steps.
    """
    for path in (of_painting, of_weight):
        jaxstyle.io.check_writable(path)
    params = jaxstyle.io.load_params()
    photo, painting = (jaxstyle.io.load_image(path, size=size) for path in (content, style))
    # Within bounds, a step jumps where a pixel comes to one. Without, it is smooth.
    solver = jaxstyle.LBFGS(num_steps=steps, smoothness=0.25)
    recipe = dataclasses.replace(DEFAULT, solver=solver, pyramid=None)

    @jax.jit
    def style_loss(painting: jax.Array, photo: jax.Array, params: Any) -> jax.Array:
        problem = recipe.network, params, recipe.terms
        targets = jaxstyle.prepare_targets(*problem, photo, painting)
        return jaxstyle.evaluate(*problem, targets, recipe.weights, photo)[1]["style"]

    def paint(log_weight: jax.Array) -> tuple[Any, Any]:
        weights = {"style": jnp.exp(log_weight)}
        result = jaxstyle.stylize(params, photo, painting, recipe=recipe, weights=weights)
        return (result.term_losses, result.image), result

    def save(path: Path, image: Any, derivative: Any) -> None:
        scale = 2 * jnp.quantile(jnp.abs(derivative), 0.99)
        jaxstyle.io.save_image(path, np.concatenate([image, 0.5 + derivative / scale], axis=1))

    save(of_painting, painting, jax.grad(style_loss)(painting, photo, params))
    (losses, image), result = jax.jacfwd(paint, has_aux=True)(0.0)
    for name, change in losses.items():
        value = result.term_losses[name]
        print(f"{name} {value:.8g}, with 1 % more weight on the style {value + 0.01 * change:.8g}")
    save(of_weight, result.image, image)


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        tyro.cli(main)
