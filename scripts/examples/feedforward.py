"""Trains a small network that paints any photo in one style, and paints one with it.

Johnson, Alahi & Fei-Fei, "Perceptual Losses for Real-Time Style Transfer", ECCV 2016, with
instance normalisation (Ulyanov et al. 2017); smaller, for training on a CPU, and what it paints is
a change of the photo, nothing at first, so that it need not learn to copy.
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

import jaxstyle
from jaxstyle.io import SAMPLES
from jaxstyle.terms import Content, GramStyle, TotalVariation

NETWORK = jaxstyle.VGG19(pooling="average", padding="replicate")
LAYERS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512}
CONTENT = Content(layers=("relu3_1",), reduction="mean")
STYLE = GramStyle(tuple(LAYERS), tuple(1e3 / c**2 for c in LAYERS.values()), reduction="mean")
TERMS = (CONTENT, STYLE, TotalVariation(reduction="mean", pixel_range=255.0))


class Painter(nn.Module):
    """`(H, W, 3)` sRGB in [0, 1] -> the same, of any size."""

    @nn.compact
    def __call__(self, photo: jax.Array) -> jax.Array:
        """Paints one photo."""

        def conv(x: jax.Array, channels: int, size: int = 3, stride: int = 1) -> jax.Array:
            x = nn.Conv(channels, (size, size), stride, padding="REFLECT", use_bias=False)(x)
            return nn.LayerNorm(reduction_axes=(0, 1))(x)  # of an instance: over its positions

        def larger(x: jax.Array, like: jax.Array) -> jax.Array:
            return jax.image.resize(x, (*like.shape[:2], x.shape[2]), "nearest")

        fine = nn.relu(conv(photo, 16, 9))
        half = nn.relu(conv(fine, 32, stride=2))
        x = nn.relu(conv(half, 64, stride=2))
        for _ in range(4):
            x += conv(nn.relu(conv(x, 64)), 64)
        x = nn.relu(conv(larger(x, half), 32))
        x = nn.relu(conv(larger(x, fine), 16))
        change = nn.Conv(3, (9, 9), padding="REFLECT", kernel_init=nn.initializers.zeros)(x)
        return nn.sigmoid(4 * photo - 2 + change)


def main(
    photos: tuple[Path, ...] = (SAMPLES / "content.png",),
    style: Path = SAMPLES / "style.png",
    content: Path = SAMPLES / "content.png",
    output: Path = Path("painted.png"),
    parameters: Path = Path("painter.safetensors"),
    size: int = 512,
    style_size: int = 384,
    crop: int = 128,
    batch: int = 2,
    steps: int = 3000,
    save_every: int = 250,
    learning_rate: float = 2e-3,
    content_weight: float = 20.0,
) -> None:
    """Trains a network that paints any photo in one style, and paints one with it.

    Args:
        photos: What it is trained with; dozens are better than a few.
        style: The painting.
        content: The photo to paint.
        output: What it is painted to.
        parameters: The network's parameters, a safetensors file.
        size: Long edge of all photos, in pixels.
        style_size: That of the painting: strokes are as large as there.
        crop: Edge of the squares that it is trained with, in pixels.
        batch: Squares for each step.
        steps: Steps of the training.
        save_every: Steps after which parameters and picture are saved.
        learning_rate: Of Adam, at first; it ends at zero.
        content_weight: Weight of the content; the style's is 1.
    """
    jaxstyle.io.check_writable(output)
    jaxstyle.io.check_target(parameters)
    rng = np.random.default_rng(0)
    photo, *images = (jaxstyle.io.load_image(path, size=size) for path in (content, *photos))
    if min(length for image in images for length in image.shape[:2]) < crop:
        raise jaxstyle.io.InputError(f"a photo is narrower than {crop} px; choose a smaller --crop")
    vgg = NETWORK.prepare(jaxstyle.io.load_params())
    painting = jaxstyle.io.load_image(style, size=style_size)
    of_style = jaxstyle.prepare_targets(NETWORK, vgg, (STYLE,), None, painting)
    weights = {"content": content_weight, "style": 1.0, "total_variation": 10.0}
    painter = Painter()
    paint = jax.jit(painter.apply)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(params: Any, crops: Any, vgg: Any, of_style: Any) -> tuple[jax.Array, Any]:
        def of_one(crop: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            of_content = jaxstyle.prepare_targets(NETWORK, vgg, (CONTENT,), crop, None)
            targets = {**of_style, **of_content, "total_variation": None}
            painted: Any = painter.apply(params, crop)
            return jaxstyle.evaluate(NETWORK, vgg, TERMS, targets, weights, painted)

        return jax.tree.map(jnp.mean, jax.vmap(of_one)(crops))

    @jax.jit
    def train(params: Any, state: Any, *arguments: Any) -> tuple[Any, Any, Any]:
        (_, terms), grads = jax.value_and_grad(loss, has_aux=True)(params, *arguments)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, terms

    def random_crop() -> np.ndarray:
        image = images[rng.integers(len(images))]
        y, x = (rng.integers(length - crop + 1) for length in image.shape[:2])
        return image[y : y + crop, x : x + crop][:, :: rng.choice((-1, 1))]

    params = painter.init(jax.random.key(0), photo)
    state = optimizer.init(params)
    for step in range(1, steps + 1):
        crops = np.stack([random_crop() for _ in range(batch)])
        params, state, terms = train(params, state, crops, vgg, of_style)
        if step % save_every == 0 or step == steps:
            print(step, *(f"{name} {weights[name] * value:.4g}" for name, value in terms.items()))
            arrays = flatten_dict(jax.device_get(params), sep=".")
            jaxstyle.io.write_atomically(parameters, save(arrays))
            jaxstyle.io.save_image(output, paint(params, photo))


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        tyro.cli(main)
