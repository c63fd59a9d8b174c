"""Arrays in one safetensors file, with a hash of all its bytes."""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import PathType, describe_error, describe_path, open_source, write_atomically
from jaxstyle.io.ownership import GENERATOR

_NO_HASH = "0" * 64  # in place of the hash while it is computed


def write_tensors(
    path: PathType, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Writes a safetensors file, whole or not at all, with our mark and a hash.

    Args:
        path: a file in an existing folder.
        arrays: of any dtype, bfloat16 included.
        metadata: what JSON can express.

    Raises:
        InputError: if the file cannot be written.
    """
    import safetensors.numpy  # noqa: PLC0415  slow to import

    # As bytes, since safetensors does not support all dtypes of NumPy and JAX.
    plain = {
        name: np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        for name, array in arrays.items()
    }
    kinds = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
    data = safetensors.numpy.save(
        plain,
        {
            "generator": GENERATOR,
            "arrays": json.dumps(kinds),
            "metadata": json.dumps(metadata),
            "sha256": _NO_HASH,
        },
    )
    digest = hashlib.sha256(data).hexdigest()
    # The first match is the entry: the header precedes the arrays, and its texts escape quotes.
    write_atomically(path, data.replace(_entry(_NO_HASH), _entry(digest), 1))


def read_tensors(path: PathType) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a file that `write_tensors` has written.

    Args:
        path: the file.

    Returns:
        The arrays and the metadata.

    Raises:
        InputError: if it cannot be read, is not ours, or has changed by a single bit.
    """
    import ml_dtypes  # noqa: PLC0415  comes with JAX
    import safetensors.numpy  # noqa: PLC0415

    name = describe_path(path)
    with open_source(path) as file:
        try:
            data = file.read()
        except OSError as error:
            raise InputError(f"cannot read {name} ({describe_error(error)})") from None
    try:
        (length,) = struct.unpack("<Q", data[:8])
        texts = json.loads(data[8 : 8 + length])["__metadata__"]
        digest = texts["sha256"]
        whole = data.replace(_entry(digest), _entry(_NO_HASH), 1)
        if hashlib.sha256(whole).hexdigest() != digest:
            raise ValueError("its hash does not match")
        plain = safetensors.numpy.load(data)
        kinds = json.loads(texts["arrays"])
        arrays = {
            key: plain[key].view(getattr(ml_dtypes, dtype, None) or dtype).reshape(shape)
            for key, (dtype, shape) in kinds.items()
        }
        return arrays, json.loads(texts["metadata"])
    # On hostile files the readers may raise anything.
    except Exception as error:
        raise InputError(f"{name} is damaged") from error


def _entry(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()
