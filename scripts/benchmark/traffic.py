"""Bytes that a compiled TPU program reads from the chip's main memory, and writes to it.

XLA's own count also has what stays in the chip's vector memory, which the compiler marks with
`S(1)` in an array's layout.
"""

import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(
    r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*?\{$(?P<body>.*?)^\}", re.M | re.S
)
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>[\w.-]+) = (?P<type>.*?) (?P<kind>[a-z][\w-]*)\((?P<rest>.*)$", re.M
)
_ARRAY = re.compile(r"\b(pred|bf16|[suf]\d+)\[([\d,]*)\](?:\{([\d,]*)([^}]*)\})?")
_MOVES_NOTHING = {
    *("parameter", "tuple", "get-tuple-element", "bitcast", "constant", "conditional"),
    *("after-all", "copy-done", "slice-done"),
}


def main_memory_bytes(text: str) -> float:
    """Returns the bytes of one round of each loop; arrays count with what their tiles pad.

    Args:
        text: the optimized HLO of a TPU program.
    """
    computations = {each["name"]: each["body"] for each in _COMPUTATION.finditer(text)}
    entry = next(each["name"] for each in _COMPUTATION.finditer(text) if each["entry"])
    return _of_computation(entry, computations)


def _of_computation(name: str, computations: dict[str, str]) -> float:
    instructions = list(_INSTRUCTION.finditer(computations[name]))
    types = {each["name"]: each["type"] for each in instructions}
    total = 0.0
    for each in instructions:
        kind, rest = each["kind"], each["rest"]
        if kind == "while":
            body = re.search(r"body=%?([\w.-]+)", rest)
            total += _of_computation(body[1], computations) if body else 0
        elif kind in ("copy-start", "slice-start"):  # from one memory to the other
            total += list(_sizes(each["type"]))[kind == "slice-start"][0]
        elif kind not in _MOVES_NOTHING and "ConcatBitcast" not in rest:
            operands = re.findall(r"%([\w.-]+)", rest.split(")")[0])
            arrays = [each["type"], *(types[operand] for operand in operands if operand in types)]
            total += sum(size for array in arrays for size, is_main in _sizes(array) if is_main)
    return total


def _sizes(kind: str) -> Iterator[tuple[float, bool]]:
    """Yields the bytes of each array of a type, and whether it is in main memory."""
    for dtype, shape, order, layout in _ARRAY.findall(kind):
        lengths = [int(length) for length in shape.split(",") if length]
        tile = re.search(r"T\(([\d,]+)\)", layout)
        if tile and order:
            # The tile is that of the dimensions that change fastest, which `order` has first.
            edges = [int(edge) for edge in tile[1].split(",")][::-1]
            for dimension, edge in zip(map(int, order.split(",")), edges, strict=False):
                lengths[dimension] = -(-lengths[dimension] // edge) * edge
        bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
        yield bits / 8 * math.prod(lengths), "S(" not in layout
