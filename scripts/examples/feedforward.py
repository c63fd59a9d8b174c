"""Trains a small network that paints any photo in one style, and paints one photo with it.

Johnson, Alahi & Fei-Fei, "Perceptual Losses for Real-Time Style Transfer", ECCV 2016, with instance
normalization (Ulyanov et al. 2017). This network is smaller, so that it trains on a CPU. It outputs
a change of the photo, initially zero, so it does not have to learn to copy. The paper's total
variation is left out: it made the strokes coarser and removed no ripples.
"""

from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import tyro
from flax.serialization import to_bytes
from flax.training.train_state import TrainState
from jax.nn.initializers import zeros

import jaxstyle
from jaxstyle.io import SAMPLES
from jaxstyle.terms import Content, GramStyle

NETWORK = jaxstyle.VGG19(pooling="average", padding="replicate")
CHANNELS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512}
CONTENT = Content(layers=("relu3_1",), reduction="mean")
STYLE = GramStyle(tuple(CHANNELS), tuple(1e3 / c**2 for c in CHANNELS.values()), reduction="mean")


class Painter(nn.Module):
    """`(H, W, 3)` sRGB in [0, 1] -> the same, of any size."""

    @nn.compact
    def __call__(self, rgb: jax.Array) -> jax.Array:
        """Paints one photo."""

        def conv(x: jax.Array, channels: int, size: int = 3, stride: int = 1) -> jax.Array:
            x = nn.Conv(channels, (size, size), stride, padding="REFLECT", use_bias=False)(x)
            return nn.LayerNorm(reduction_axes=(0, 1))(x)  # instance normalization

        fine = nn.relu(conv(rgb, 16, 9))
        half = nn.relu(conv(fine, 32, stride=2))
        x = nn.relu(conv(half, 64, stride=2))
        for _ in range(4):
            x += conv(nn.relu(conv(x, 64)), 64)
        for like, channels in ((half, 32), (fine, 16)):
            x = jax.image.resize(x, (*like.shape[:2], x.shape[2]), "nearest")
            x = nn.relu(conv(x, channels))
        return nn.sigmoid(4 * rgb - 2 + nn.Conv(3, (9, 9), padding="REFLECT", kernel_init=zeros)(x))


def main(
    photos: tuple[Path, ...] = (SAMPLES / "content.png",),
    style: Path = SAMPLES / "style.png",
    content: Path = SAMPLES / "content.png",
    output: Path = Path("painted.png"),
    size: int = 512,
    crop: int = 192,
    steps: int = 2000,
    content_weight: float = 20.0,
) -> None:
    """Trains a network that paints any photo in one style, and paints one photo with it.

    Args:
        photos: Photos for training; dozens are better than a few.
        style: The painting.
        content: The photo to paint.
        output: The painted photo; the trained weights are saved next to it, as `.msgpack`.
        size: Long edge of all pictures, in pixels.
        crop: Edge of the training squares, in pixels; a narrower photo gives rectangles.
        steps: Training steps; weights and picture are saved ten times during training.
        content_weight: Loss weight of the content; that of the style is 1.
    """
    jaxstyle.io.check_writable(output)
    jaxstyle.io.check_target(output.with_suffix(".msgpack"))
    read = partial(jaxstyle.io.load_image, size=size)
    photo, painting, images = read(content), read(style), [*map(read, photos)]
    vgg = NETWORK.prepare(jaxstyle.io.load_params())
    of_style = jaxstyle.prepare_targets(NETWORK, vgg, (STYLE,), None, painting)
    weights = {"content": content_weight, "style": 1.0}

    @jax.jit
    def train(state: TrainState, square: Any, vgg: Any, of_style: Any) -> Any:
        def loss(params: Any) -> Any:
            of_content = jaxstyle.prepare_targets(NETWORK, vgg, (CONTENT,), square, None)
            painted, targets = state.apply_fn(params, square), of_style | of_content
            return jaxstyle.evaluate(NETWORK, vgg, (CONTENT, STYLE), targets, weights, painted)

        (_, terms), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), terms

    rng = np.random.default_rng(0)
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    params = Painter().init(jax.random.key(0), photo)
    state = TrainState.create(apply_fn=jax.jit(Painter().apply), params=params, tx=optimizer)
    for step in range(1, steps + 1):
        image = images[rng.integers(len(images))][:, :: rng.choice((-1, 1))]
        y, x = (rng.integers(max(n - crop, 0) + 1) for n in image.shape[:2])
        state, terms = train(state, image[y : y + crop, x : x + crop], vgg, of_style)
        if step % -(-steps // 10) == 0 or step == steps:
            print(step, *(f"{name} {weights[name] * value:.4g}" for name, value in terms.items()))
            jaxstyle.io.write_atomically(output.with_suffix(".msgpack"), to_bytes(state.params))
            jaxstyle.io.save_image(output, state.apply_fn(state.params, photo))


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        tyro.cli(main)
