"""Reads VGG19's convolutions from files of any common format, whatever names they use.

The first bytes decide the format, not the file's name. Kernels become `(3, 3, in, out)`; the input
of the first one is BGR for weights trained with Caffe.
"""

import hashlib
import io
import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import PathType, describe_path, open_source
from jaxstyle.io.network_weights.mat_file import read_mat
from jaxstyle.io.network_weights.names import (
    Arrays,
    Weights,
    hash_params,
    is_of_a_convolution,
    layer_of,
    sort_arrays,
)
from jaxstyle.io.network_weights.other_formats import describe_archive, describe_other
from jaxstyle.io.network_weights.torch_file import read_torch

_MAX_FILE = 2**31  # bytes
_MAX_ARRAYS = 2**28  # bytes of all arrays; VGG19's convolutions have 160 MB in float64
_MAX_ITEMS = 10_000  # groups and arrays of an HDF5 file
_MAX_CHUNKS = 4096  # of an array in an HDF5 file
_MAX_HEADER = 10_000  # bytes of an array's header in an .npz file, as NumPy has it


FORMAT = "jaxstyle-vgg19-sealed"
"""The format name of a converted file; those of older versions have no seal."""

# First 8 digits of the SHA-256 of files with torchvision's names: preprocessing and source.
_KNOWN_FILES = {
    "dcbb9e9d": ("torchvision", "torchvision's vgg19-dcbb9e9d.pth"),
    "d01eb7cb": ("caffe", "vgg19-d01eb7cb.pth, converted from Caffe"),
}


def read_file(path: PathType, *, preprocessing: str | None = None) -> Weights:
    """Reads a file of any known format.

    Args:
        path: the file.
        preprocessing: `caffe` or `torchvision`; None takes it from the file.

    Raises:
        InputError: for anything else than a file of VGG19's convolutions.
    """
    with open_source(path) as file:
        data = file.read(_MAX_FILE + 1)
    name = describe_path(path)
    if len(data) > _MAX_FILE:
        raise InputError(f"{name} is larger than 2 GiB: no file of VGG19 is")
    try:
        with np.errstate(all="ignore"):  # an overflow is refused as infinity
            weights = _read(data)
        _check_metadata(weights)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    weights = _recognize(weights, data)
    if preprocessing is not None:
        weights = weights._replace(preprocessing=preprocessing, certain=True)
    return weights


def _recognize(weights: Weights, data: bytes) -> Weights:
    """Fills in what is known about the file with these bytes."""
    if weights.certain or (digits := hashlib.sha256(data).hexdigest()[:8]) not in _KNOWN_FILES:
        return weights
    preprocessing, source = _KNOWN_FILES[digits]
    return weights._replace(preprocessing=preprocessing, source=source, certain=True)


def seal(header: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a safetensors header without its own `seal`.

    The metadata includes the SHA-256 of the numbers, so the seal covers the whole file.

    Args:
        header: names, types, shapes and offsets of the arrays, and `__metadata__`.
    """
    metadata = {key: value for key, value in header["__metadata__"].items() if key != "seal"}
    text = json.dumps({**header, "__metadata__": metadata}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_metadata(weights: Weights) -> None:
    """Compares the numbers of a converted file with the hash in its header."""
    ours = weights.metadata.get("format", "").startswith("jaxstyle")
    if ours and weights.metadata.get("sha256") != weights.sha256:
        raise InputError("damaged: its content has another SHA-256 than its header says")


def _read(data: bytes) -> Weights:
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        return sort_arrays(_guard("HDF5", _read_hdf5, data), "a Keras HDF5 file")
    if data[:4] == b"PK\x03\x04":
        names = _guard("zip", lambda data: zipfile.ZipFile(io.BytesIO(data)).namelist(), data)
        if any(name.endswith(".npy") for name in names):
            return sort_arrays(_guard("npz", _read_npz, data), "an .npz file")
        if not any(name.endswith("/data.pkl") for name in names):
            raise InputError(describe_archive(names))
        return sort_arrays(read_torch(data), "a torch file")
    if data[:2] == b"\x80\x02":
        return sort_arrays(read_torch(data), "a torch file")
    if data[:19] == b"MATLAB 5.0 MAT-file":
        return _guard("MatConvNet", _read_mat, data)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return _guard("safetensors", _read_safetensors, data)
    raise InputError(describe_other(data))


def _guard(kind: str, read: Callable[[bytes], Any], data: bytes) -> Any:
    """Calls a reader; on a hostile file its library may raise anything."""
    try:
        return read(data)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"damaged or incomplete {kind} file; get it again") from error


def _read_hdf5(data: bytes) -> dict[str, NDArray[Any]]:
    import h5py  # noqa: PLC0415  slow to import

    arrays: dict[str, NDArray[Any]] = {}
    seen = itertools.count()

    def walk(group: Any, prefix: str, depth: int) -> None:
        for key in group:
            # Other links may lead out of the file or in circles.
            if not isinstance(group.get(key, getlink=True), h5py.HardLink) or depth > 4:
                raise InputError("HDF5 files with links or deep nesting are refused")
            if next(seen) >= _MAX_ITEMS:
                raise InputError("an HDF5 file with this many groups is not VGG19's")
            item, name = group[key], f"{prefix}/{key}"
            if isinstance(item, h5py.Group):
                walk(item, name, depth + 1)
            elif layer_of(name) and item.shape:
                if item.is_virtual or item.external:
                    raise InputError(f"dataset {name!r:.60} is virtual or external")
                _check_shape(name, item.shape, item.dtype, arrays)
                _check_chunks(name, item)
                arrays[name] = item[()]

    with h5py.File(io.BytesIO(data), "r") as file:
        walk(file, "", 0)
    return arrays


def _check_chunks(name: str, item: Any) -> None:
    """Refuses a dataset whose chunks are larger than itself, as stored or when they unpack."""
    from h5py import h5z  # noqa: PLC0415

    if item.chunks is None:
        return
    number = math.prod(item.chunks)
    settings = item.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    known = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
    if not known.issuperset(filters) or len(set(filters)) < len(filters):
        raise InputError(f"dataset {name!r:.60} is compressed by other means than gzip")
    if number > max(2 * item.size, 2**16) or item.id.get_num_chunks() > _MAX_CHUNKS:
        raise InputError(f"dataset {name!r:.60} has too large or too many chunks")
    most = number * item.dtype.itemsize + 64  # with a checksum
    for i in range(item.id.get_num_chunks()):
        _, stored = item.id.read_direct_chunk(item.id.get_chunk_info(i).chunk_offset)
        # HDF5 itself unpacks a chunk to whatever size its bytes say.
        if (
            h5z.FILTER_DEFLATE in filters
            and len(zlib.decompressobj().decompress(stored, most)) >= most
        ):
            raise InputError(f"dataset {name!r:.60} unpacks to more than its size")


def _check_shape(name: str, shape: tuple[int, ...], dtype: Any, arrays: Arrays) -> None:
    """Refuses an array before it is read, if no convolution can have it next to `arrays`."""
    if len(shape) not in (1, 4) or max(shape) > 512 or math.prod(shape) > 3 * 3 * 512 * 512:
        raise InputError(f"array {name!r:.60} has shape {shape}, which VGG19 does not have")
    if dtype.kind != "f":  # strings could have any length
        raise InputError(f"array {name!r:.60} holds {dtype} instead of floating-point numbers")
    size = math.prod(shape) * dtype.itemsize + sum(each.nbytes for each in arrays.values())
    if size > _MAX_ARRAYS or len(arrays) > 500:
        raise InputError("its arrays are too large or too many for VGG19")


def _read_npz(data: bytes) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if not is_of_a_convolution(name):
                continue
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                prefix = member.read(2 * version[0])
                length = int.from_bytes(prefix, "little")
                if length > _MAX_HEADER or name in arrays:
                    raise InputError(f"array {name!r:.60} is there twice, or has a huge header")
                header = io.BytesIO(prefix + member.read(length))
                shape, fortran, dtype = read_header(header)
                _check_shape(name, shape, dtype, arrays)
                content = member.read(math.prod(shape) * dtype.itemsize)
            array = np.frombuffer(content, dtype)  # raises for objects
            arrays[name] = array.reshape(shape, order="F" if fortran else "C")
    return arrays


def _read_mat(data: bytes) -> Weights:
    arrays: dict[str, NDArray[Any]] = {}
    try:
        layers = read_mat(data, "layers")
    except InputError as error:
        raise InputError(
            f"damaged, or not a MatConvNet file of VGG19: it has {error}; get it again"
        ) from error
    for (layer,) in layers:
        name = layer.get("name")
        if not isinstance(name, str) or layer_of(name) != name:
            continue
        pair = layer.get("weights") or (layer["filters"], layer["biases"])
        for kind, array in zip(("kernel", "bias"), pair, strict=True):
            if f"{name}.{kind}" in arrays:
                raise InputError(f"it has the layer {name} twice; save one network")
            # MATLAB has no vectors, and drops trailing dimensions of 1.
            arrays[f"{name}.{kind}"] = array if kind == "kernel" else array.ravel()
    weights = sort_arrays(arrays, "a MatConvNet file")
    # MatConvNet's images are RGB: the channels of the original's first kernel are reversed.
    first = weights.params["conv1_1"]
    first["kernel"] = np.ascontiguousarray(first["kernel"][:, :, ::-1])
    return weights._replace(sha256=hash_params(weights.params))


def _read_safetensors(data: bytes) -> Weights:
    import safetensors.numpy  # noqa: PLC0415  slow to import

    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = {str(k): str(v) for k, v in header.get("__metadata__", {}).items()}
    # Several words mark a sealed file, because any of them may be damaged.
    sealed = "seal" in metadata or "generator" in metadata or metadata.get("format") == FORMAT
    if sealed and metadata.get("seal") != seal(header):
        raise InputError("damaged: its header has another SHA-256 than its seal says")
    arrays = safetensors.numpy.load(data)
    weights = sort_arrays(arrays, metadata.get("source", "a .safetensors file"))
    return weights._replace(
        exact=metadata.get("exact", "true") == "true",
        preprocessing=metadata.get("preprocessing", weights.preprocessing),
        certain=weights.certain or "preprocessing" in metadata,
        metadata=metadata,
    )
