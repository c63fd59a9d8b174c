"""Trains a network that doubles the size of pictures, with a perceptual loss on VGG19's features.

This is a Flax NNX training loop with its own model, data and optimizer. It calls two functions of
jaxstyle, each for one picture; `jax.vmap` makes a batch of them.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from jax.nn.initializers import zeros

import jaxstyle
from jaxstyle.io import SAMPLES
from jaxstyle.terms import Content

VGG = jaxstyle.VGG19()
# Pixels are in [0, 1] and features in the hundreds; the weights bring their errors to one scale.
TERM = Content(layers=("image", "relu2_2"), layer_weights=(1e3, 1e-4), reduction="mean")


def resize(images: Any, scale: float) -> jax.Array:
    batch, height, width, _ = images.shape
    return jax.image.resize(images, (batch, int(height * scale), int(width * scale), 3), "cubic")


class Doubler(nnx.Module):
    """`(B, h, w, 3)` -> `(B, 2 h, 2 w, 3)`: bicubic interpolation plus a learned residual."""

    def __init__(self, rngs: nnx.Rngs, width: int = 32) -> None:
        self.first = nnx.Conv(3, width, (5, 5), rngs=rngs)
        self.second = nnx.Conv(width, width, (3, 3), rngs=rngs)
        self.last = nnx.ConvTranspose(width, 3, (4, 4), 2, kernel_init=zeros, rngs=rngs)

    def __call__(self, small: jax.Array) -> jax.Array:
        x = nnx.relu(self.second(nnx.relu(self.first(small))))
        return resize(small, 2) + self.last(x)


@jax.jit
def perceptual_loss(images: jax.Array, originals: jax.Array, vgg: Any) -> jax.Array:
    def of_one(image: jax.Array, original: jax.Array) -> jax.Array:
        targets = jaxstyle.prepare_targets(VGG, vgg, (TERM,), original, None)
        return jaxstyle.evaluate(VGG, vgg, (TERM,), targets, {TERM.name: 1.0}, image)[0]

    return jnp.mean(jax.vmap(of_one)(images, originals))


@nnx.jit
def train(model: Doubler, optimizer: nnx.Optimizer, crops: Any, vgg: Any) -> jax.Array:
    def loss(model: Doubler) -> jax.Array:
        return perceptual_loss(model(resize(crops, 0.5)), crops, vgg)

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


def main(
    photos: tuple[Path, ...] = (SAMPLES / "content.png",),
    picture: Path = SAMPLES / "style.png",
    output: Path = Path("doubled.png"),
    size: int = 512,
    crop: int = 64,
    steps: int = 300,
) -> None:
    """Trains the network and applies it to a picture that it has not seen.

    Args:
        photos: Photos for training.
        picture: The picture to double.
        output: The doubled picture, by bicubic interpolation and by the network, and the original.
        size: Long edge of photos and picture, in pixels.
        crop: Edge of the training squares, in pixels; even.
        steps: Training steps, with eight squares each.
    """
    jaxstyle.io.check_writable(output)
    vgg = jaxstyle.io.load_params()
    images = [jaxstyle.io.load_image(path, size=size) for path in photos]
    original = jaxstyle.io.load_image(picture, size=size)[None]
    original = original[:, : original.shape[1] // 2 * 2, : original.shape[2] // 2 * 2]
    rng = np.random.default_rng(0)

    def random_crop() -> np.ndarray:
        image = images[rng.integers(len(images))]
        y, x = (rng.integers(length - crop + 1) for length in image.shape[:2])
        return image[y : y + crop, x : x + crop]

    model = Doubler(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    for step in range(steps):
        crops = np.stack([random_crop() for _ in range(8)])
        value = train(model, optimizer, crops, vgg)
        if step % 20 == 0:
            print(f"step {step}: {value:.4g}")
    small = resize(original, 0.5)
    shown: Any = {"bicubic": resize(small, 2), "network": model(small), "original": original}
    for name, image in shown.items():
        print(f"{name}: {perceptual_loss(image, original, vgg):.4g}")
    jaxstyle.io.save_image(output, np.concatenate([image[0] for image in shown.values()], axis=1))


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        tyro.cli(main)
