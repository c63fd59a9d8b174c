"""Converts files of VGG19's weights to safetensors, by default into the cache."""

import logging
import os
import re
from pathlib import Path
from typing import Literal

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import PathType, check_source, describe_path, show_path
from jaxstyle.io.network_weights.cache import (
    default_file,
    make_cache,
    read_header,
    set_default,
    write_converted,
)
from jaxstyle.io.network_weights.fetch import recognize
from jaxstyle.io.network_weights.formats import FORMAT, read_file
from jaxstyle.io.network_weights.names import Weights
from jaxstyle.io.ownership import is_ours

_logger = logging.getLogger("jaxstyle")


def convert(
    path: PathType,
    *,
    output: PathType | None = None,
    preprocessing: Literal["caffe", "torchvision"] | None = None,
    default: bool = False,
) -> Path:
    """Converts a file of VGG19 weights to safetensors, and logs which file runs will use.

    A file in the cache becomes the default for its preprocessing if there is none yet, if it is
    the original one, or if `default` is set. Otherwise use it with `load_params(path)`.

    Args:
        path: Keras `.h5`, torch `.pth`, MatConvNet `.mat`, `.npz` or `.safetensors`.
        output: the `.safetensors` file to write. By default one in the cache, named after `path`
            and its content. Only converted weights are overwritten.
        preprocessing: what the weights were trained with. By default the file's hash or its
            biases say so; other files with torch's names or torch's kernels, `(out, in, 3, 3)`,
            need it, unless their names are Keras'; all others are Caffe's.
        default: make it the default from now on, in place of another one. A file of the cache
            becomes the default without being converted again.

    Returns:
        The file written.

    Raises:
        InputError: if the file is not VGG19's, does not say its preprocessing, or the output cannot
            be written.
    """
    if default and output is not None:
        raise InputError("the default is a file of the cache: leave out the output")
    if output is not None:
        _check_output(Path(os.fsdecode(output)), path)
    weights = read_file(path, preprocessing=preprocessing)
    if not weights.certain:
        raise InputError(
            f"{describe_path(path)} does not say its preprocessing; add --preprocessing "
            "torchvision if it is torchvision's, or caffe if it was converted from Caffe"
        )
    weights, original = recognize(path, weights)
    if weights.source.endswith("file"):
        weights = weights._replace(source=f"{weights.source}, {Path(show_path(path)).name}")
    _logger.warning(
        "%s: %s, %s preprocessing%s",
        describe_path(path),
        "float32" if weights.exact else "8-bit",
        weights.preprocessing,
        "" if preprocessing or original else " (change it with --preprocessing if that is wrong)",
    )
    if output is not None:
        return write_converted(weights, Path(os.fsdecode(output)))
    return _into_cache(path, weights, original, default)


def _into_cache(path: PathType, weights: Weights, original: str | None, default: bool) -> Path:
    """Writes the weights into the cache and settles the default; `original` is its known name."""
    folder, source = make_cache(), Path(os.fsdecode(path))
    before = default_file(weights.preprocessing)
    if source.suffix == ".safetensors" and os.path.samefile(source.parent, folder):
        target = source
    else:
        name = re.sub(r"[^\w.-]+", "_", Path(show_path(path)).name)[:100]
        target = folder / f"{original or f'vgg19-{name}-{weights.sha256[:8]}'}.safetensors"
        write_converted(weights, target)
    # A default that nobody has chosen is kept by writing it down.
    chosen = target if default or before is None else before
    now = default_file(weights.preprocessing)
    if now != chosen and (default or not original):
        set_default(weights.preprocessing, chosen)
        now = chosen
    _logger.warning(
        "runs with %s preprocessing use %s%s",
        weights.preprocessing,
        describe_path(now or target),
        ""
        if now == target
        else "; to use the converted file, pass its path to --params, or for all runs convert "
        "it with --default",
    )
    return target


def _check_output(target: Path, source: PathType) -> None:
    """Checks that converted weights may be written to `target`."""
    name = describe_path(target)
    if target.suffix.lower() != ".safetensors":
        raise InputError(f"{name}: weights are written as .safetensors; name such a file")
    if not target.exists():
        return
    check_source(source)
    # A checkpoint is a safetensors file of ours too, and a link may lead to a picture.
    if os.path.samefile(target, source) or not (is_ours(target) and _is_converted(target)):
        raise InputError(f"{name} is not jaxstyle's to replace; choose another path")


def _is_converted(path: Path) -> bool:
    try:
        return read_header(path).get("format") == FORMAT
    except InputError:
        return False
