"""The layers of VGG networks: their names, and the shapes of their convolutions."""

from collections.abc import Mapping, Sequence
from typing import Any

CHANNELS = (64, 128, 256, 512, 512)
"""Of the five blocks; a pooling layer ends each of them."""

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Name of a convolution -> shapes of its kernel, `(3, 3, in, out)`, and of its bias, `(out,)`."""


def layers_of_blocks(depths: Sequence[int]) -> tuple[str, ...]:
    """Returns the names of all layers; `depths` are the numbers of convolutions of the blocks."""
    names = ["image"]
    for block, depth in enumerate(depths, start=1):
        for number in range(1, depth + 1):
            names += [f"conv{block}_{number}", f"relu{block}_{number}"]
        names.append(f"pool{block}")
    return tuple(names)


def shapes_of(layers: Sequence[str]) -> Shapes:
    """Returns the shapes of all convolutions among `layers`."""
    shapes = {}
    channels = 3
    for name in layers:
        if name.startswith("conv"):
            features = CHANNELS[int(name[4]) - 1]
            shapes[name] = ((3, 3, channels, features), (features,))
            channels = features
    return shapes


def have_shapes(layers: Any, needed: Shapes) -> bool:
    """Returns whether `layers`, which may be anything, have kernels and biases of these shapes."""
    return isinstance(layers, Mapping) and all(
        isinstance(layer := layers.get(name), Mapping)
        and all(
            hasattr(layer.get(key), "shape") and layer[key].shape == shape
            for key, shape in zip(("kernel", "bias"), shapes, strict=True)
        )
        for name, shapes in needed.items()
    )
