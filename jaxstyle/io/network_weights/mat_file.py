"""Reads a variable of a MATLAB 5 file and checks all bounds; SciPy's reader crashes on bad files.

The format is MathWorks' "MAT-File Format" (2019), chapter 1: elements with a type, a length and
data. Some are compressed, and a matrix is an element that contains elements.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxstyle.io.errors import InputError

_MAX_BYTES = 2**30  # of a variable; VGG19 is one of 575 MB
_MAX_RATIO = 16  # of a variable to its compressed size
_MAX_DEPTH = 8  # of nested cells and structs; MatConvNet's layers have 3
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
# Numbers of the types of elements, and of the classes of matrices.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
          13: "u8", 16: "u1"}  # fmt: skip
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8",
            15: "u8"}  # fmt: skip


def read_mat(data: bytes, name: str) -> Any:
    """Returns the variable `name`.

    Cells become lists and structs become lists of dicts, both in MATLAB's (column-major) order;
    texts become `str`, and numbers become arrays of the same shape.

    Raises:
        InputError: if there is no such variable, or it contains anything else.
    """
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise InputError("no MATLAB 5 header")
    reader = _Reader("<" if data[126:128] == b"IM" else ">")
    for kind, body in reader.elements(memoryview(data)[128:]):
        matrix = body if kind == _MATRIX else memoryview(b"")
        if kind == _COMPRESSED:
            # Weights hardly shrink; data that shrinks this much is meant to do harm.
            inflate = zlib.decompressobj()
            limit = min(_MAX_BYTES, _MAX_RATIO * len(body) + 2**16)
            unpacked = memoryview(inflate.decompress(body, limit))
            if inflate.unconsumed_tail:
                raise InputError("a variable that is compressed too well for weights, or too large")
            matrix = reader.take(reader.elements(unpacked), _MATRIX)
        if reader.name(matrix) == name:
            return reader.matrix(matrix, 0)
    raise InputError(f"no variable {name!r}")


class _Reader:
    def __init__(self, order: str) -> None:
        self.order = order

    def elements(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yields type and data of each element."""
        at = 0
        while at < len(data):
            if len(data) - at < 8:
                raise InputError("an element that is cut off")
            kind, size = struct.unpack_from(self.order + "II", data, at)
            if kind >> 16:  # the short form: at most four bytes, inside the tag
                kind, size = kind & 0xFFFF, kind >> 16
                start, end, at = at + 4, at + 4 + size, at + 8
            else:
                start = at + 8
                end = start + size
                at = end if kind == _COMPRESSED else -(-end // 8) * 8
            if end > min(at, len(data)):
                raise InputError("an element that is longer than the file")
            yield kind, data[start:end]

    def take(self, elements: Iterator[tuple[int, memoryview]], wanted: int) -> memoryview:
        """Returns the data of the next element, which must be of the type `wanted`."""
        kind, body = next(elements, (0, memoryview(b"")))
        if kind != wanted:
            raise InputError(f"an element of type {kind} in the wrong place")
        return body

    def head(self, body: memoryview) -> tuple[int, tuple[int, ...], str, Any]:
        """Returns a matrix's class, shape and name, and its other elements."""
        elements = self.elements(body)
        flags = self.take(elements, 6)
        if len(flags) != 8:
            raise InputError("array flags of a wrong length")
        shape = tuple(self.numbers(5, self.take(elements, 5)).tolist())
        if not 2 <= len(shape) <= 8 or min(shape) < 0:
            raise InputError(f"an array of shape {shape}")
        name = bytes(self.take(elements, 1)).decode("latin-1")
        return struct.unpack_from(self.order + "I", flags)[0] & 0xFF, shape, name, elements

    def name(self, body: memoryview) -> str:
        return self.head(body)[2] if len(body) else ""

    def numbers(self, kind: int, body: memoryview) -> Any:
        dtype = np.dtype(self.order + _TYPES[kind])
        if len(body) % dtype.itemsize:
            raise InputError("numbers that are cut off")
        return np.frombuffer(body, dtype)

    def matrix(self, body: memoryview, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise InputError("cells or structs that are nested too deeply")
        if not len(body):
            return np.zeros((0, 0))
        kind, shape, _, elements = self.head(body)
        count = math.prod(shape)
        if kind == _CELL:
            return [self.matrix(self.take(elements, _MATRIX), depth + 1) for _ in range(count)]
        if kind == _STRUCT:
            width = self.numbers(5, self.take(elements, 5))
            if width.shape != (1,) or not 1 <= width[0] <= 1024:
                raise InputError("field names of a wrong length")
            text, width = bytes(self.take(elements, 1)), int(width[0])
            fields = [
                text[i : i + width].split(b"\0")[0].decode("latin-1")
                for i in range(0, len(text), width)
            ]
            if not fields and count:
                raise InputError("a struct without fields")
            return [
                {field: self.matrix(self.take(elements, _MATRIX), depth + 1) for field in fields}
                for _ in range(count)
            ]
        found, content = next(elements, (0, memoryview(b"")))
        if found not in _TYPES:
            raise InputError(f"numbers of type {found}")
        if kind == _CHAR:
            # Two bytes are UTF-16; one byte is UTF-8 or Latin-1, by its type.
            codes = self.numbers(found, content)
            return (
                bytes(content).decode("utf-8", "replace")
                if found == 16
                else "".join(
                    chr(code) if 0 <= code < 0xD800 else "\ufffd" for code in codes.tolist()
                )
            )
        if kind not in _CLASSES:
            raise InputError(f"a matrix of class {kind}")
        # Whole numbers may be stored in a smaller type than their own.
        values = self.numbers(found, content)
        if len(values) != count:
            raise InputError(f"{len(values)} numbers for an array of shape {shape}")
        return values.astype(_CLASSES[kind]).reshape(shape, order="F")
