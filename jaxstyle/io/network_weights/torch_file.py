"""Reads tensors out of `torch.save` files, old and new, without torch.

A pickle is a program. A small machine of ours carries it out; it knows lists, dicts, numbers,
strings and tensors, and cannot call anything else. `pickle.Unpickler` with an allow-list in its
`find_class` would run nothing foreign either, but a file could still crash it: 8 bytes make it ask
for 32 GB (`LONG_BINPUT`), 1 MB of nested tuples as a key of a dict overflows the stack of C, and
shared tuples as a key double the time every 5 bytes.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxstyle.io.errors import InputError

_MAX_PICKLE = 2**20  # bytes; a network's is some kilobytes
_MAX_TENSORS = 2**31  # bytes; VGG19 with its classifier has 575 MB
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_STORAGES = {
    f"torch.{name}Storage": np.dtype(dtype)
    for name, dtype in {
        "Double": "<f8",
        "Float": "<f4",
        "Half": "<f2",
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }.items()
}
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "params_ema", "params")
_FUNCTIONS = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


# Instructions that push their argument.
_VALUES = frozenset(
    ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT", "BINUNICODE",
     "SHORT_BINUNICODE", "UNICODE", "BINSTRING", "SHORT_BINSTRING")
)  # fmt: skip
# Instructions that push a constant or something new.
_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
# Instructions that take items from the stack -> how many; None: all above the last mark.
_COLLECTIONS = {
    "TUPLE": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "LIST": None, "DICT": None,
    "APPEND": 1, "APPENDS": None, "SETITEM": 2, "SETITEMS": None,
}  # fmt: skip


class _RefusedError(Exception):
    """Says why a file is not read; used inside this module."""


def read_torch(data: bytes) -> dict[str, NDArray[Any]]:
    """Returns the tensors of a saved state dict, by name.

    Args:
        data: the file: a zip archive (torch 1.6 or newer) or the older stream of pickles.

    Raises:
        InputError: if it is damaged, or holds anything but tensors in a dict. None of its code is
            run.
    """
    try:
        return _read_zip(data) if data[:4] == b"PK\x03\x04" else _read_legacy(data)
    except _RefusedError as error:
        raise InputError(f"not a state dict of torch: {error}") from None
    except Exception as error:
        # On a hostile stream the machine, pickletools or zipfile may raise anything.
        raise InputError("damaged or incomplete torch file; get it again") from error


def _read_zip(data: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _RefusedError("the archive holds no data.pkl")
        root = pickles[0].removesuffix("data.pkl")

        def read(name: str, limit: int) -> bytes:
            # torch does not compress its members; compression could hide a bomb.
            info = members.get(name)
            if info is None or info.file_size > limit or info.compress_type != zipfile.ZIP_STORED:
                raise _RefusedError(f"member {name!r:.60} is missing, compressed or too large")
            return archive.read(info)

        if f"{root}byteorder" in members and read(f"{root}byteorder", 16) != b"little":
            raise _RefusedError("its numbers are big-endian")
        tree = _run(io.BytesIO(read(pickles[0], _MAX_PICKLE)))
        tensors = _tensors(tree)
        keys = {tensor.storage.key for tensor in tensors.values()}
        # The archive may lie about the places of its members, so that all are the same bytes.
        if sum(members[f"{root}data/{key}"].file_size for key in keys) > len(data):
            raise _RefusedError("its members overlap")
        contents = {key: read(f"{root}data/{key}", _MAX_TENSORS) for key in keys}
        return _build(tensors, contents)


def _read_legacy(data: bytes) -> dict[str, NDArray[Any]]:
    stream = io.BytesIO(data)
    if _run(stream) != _LEGACY_MAGIC:
        raise _RefusedError("it has another magic number")
    _run(stream)  # the protocol's version
    _run(stream)  # sizes of C types
    tree = _run(stream)
    keys = _run(stream)
    tensors = _tensors(tree)
    lengths = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _RefusedError("its storages are not in a list")
    contents: dict[str, bytes] = {}
    for key in keys:
        storage = lengths.get(key)
        if storage is None:
            raise _RefusedError("a storage belongs to no tensor")
        length = int.from_bytes(stream.read(8), "little")
        if length != storage.length:
            raise _RefusedError("a storage has another length than its tensors expect")
        contents[key] = stream.read(length * storage.dtype.itemsize)
    return _build(tensors, contents)


def _tensors(tree: Any) -> dict[str, _Tensor]:
    for _ in range(3):
        # A checkpoint holds the state dict next to others, under a key of whoever wrote it.
        inner = [tree[key] for key in _WRAPPERS if key in tree] if isinstance(tree, dict) else []
        tree = next((each for each in inner if isinstance(each, dict)), tree)
    if not isinstance(tree, dict):
        raise _RefusedError("its content is not a dict")
    return {
        name: value
        for name, value in tree.items()
        if isinstance(name, str) and isinstance(value, _Tensor)
    }


def _build(tensors: dict[str, _Tensor], contents: dict[str, bytes]) -> dict[str, NDArray[Any]]:
    """Returns views of the storages; several tensors may share one."""
    arrays = {}
    for name, tensor in tensors.items():
        storage, offset, shape, strides = tensor
        size = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if (
            size == 0
            or min((offset, *shape, *strides)) < 0
            or last >= storage.length
            # A larger tensor than its storage would turn a few bytes into many.
            or size > storage.length
        ):
            raise _RefusedError(f"tensor {name!r:.60} does not fit its storage")
        content = contents[storage.key]
        if len(content) != storage.length * storage.dtype.itemsize:
            raise _RefusedError(f"the file ends within tensor {name!r:.60}")
        flat = np.frombuffer(content, storage.dtype)[offset:]
        arrays[name] = np.lib.stride_tricks.as_strided(
            flat, shape, [stride * storage.dtype.itemsize for stride in strides], writeable=False
        )
    return arrays


def _run(stream: io.BytesIO) -> Any:
    """Carries out one pickle and returns its result; `stream` is left at its end."""
    start = stream.tell()
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(stream):
        if stream.tell() - start > _MAX_PICKLE:
            raise _RefusedError("its pickle is too long")
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.carry_out(opcode.name, argument)
    raise _RefusedError("its pickle has no end")


class _Machine:
    """The state of a pickle: a stack, the marks in it, and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # how many items are below each
        self.memo: dict[Any, Any] = {}

    def carry_out(self, name: str, argument: Any) -> None:
        """Carries out one instruction."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name in _COLLECTIONS:
            self._collect(name)
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(_find(*str(argument).split(" ")))
        elif name == "STACK_GLOBAL":
            attribute = stack.pop()
            stack.append(_find(stack.pop(), attribute))
        elif name == "BINPERSID":
            stack.append(_find_storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_call(stack.pop(), arguments))
        elif name == "BUILD":
            stack.pop()  # attributes of a state dict, such as its version: not needed
        elif name not in ("PROTO", "FRAME"):
            raise _RefusedError(f"it holds the instruction {name}")

    def _collect(self, name: str) -> None:
        """Carries out an instruction that puts items into a tuple, a list or a dict."""
        number = _COLLECTIONS[name]
        start = self.marks.pop() if number is None else len(self.stack) - number
        items = self.stack[max(start, 0) :]
        del self.stack[max(start, 0) :]
        if name.startswith("TUPLE"):
            self.stack.append(tuple(items))
        elif name == "LIST":
            self.stack.append(items)
        elif name == "DICT":
            self.stack.append(_set_items({}, items))
        elif name.startswith("APPEND"):
            self.stack[-1].extend(items)
        else:
            _set_items(self.stack[-1], items)


def _set_items(target: Any, items: list[Any]) -> dict[Any, Any]:
    if not isinstance(target, dict):
        raise _RefusedError("it sets items of something that is not a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Hashing nested tuples could take forever, and large numbers could share one hash.
        if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < 2**31):
            raise _RefusedError("a dict has a key that is neither a string nor a small number")
        target[key] = value
    return target


def _find(module: Any, attribute: Any) -> _Global:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise _RefusedError("it asks for something without a name")
    name = f"{module}.{attribute}"
    if name not in _FUNCTIONS and name not in _STORAGES:
        raise _RefusedError(
            f"it asks for {name!r:.80}, which was not run; of a whole model, save its state_dict()"
        )
    return _Global(name)


def _find_storage(identifier: Any) -> _Storage:
    kind, storage_type, key, _, length = identifier[:5]
    view = identifier[5] if len(identifier) > 5 else None
    if kind != "storage" or view is not None or not isinstance(key, str | int):
        raise _RefusedError("it holds a storage of an unknown kind")
    if not isinstance(length, int) or length < 0:
        raise _RefusedError("a storage has no length")
    return _Storage(_STORAGES[storage_type.name], str(key), length)


def _call(function: Any, arguments: Any) -> Any:
    """Calls one of the three functions that a state dict needs."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise _RefusedError("it calls something that is not a function")
    if function.name == "collections.OrderedDict":
        pairs = arguments[0] if arguments else []
        if type(pairs) is not list or any(
            type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs
        ):
            raise _RefusedError("a dict is not made of pairs")
        items = [each for pair in pairs for each in pair]
        pairs.clear()  # or a file could make thousands of dicts from one long list
        return _set_items({}, items)
    if function.name == "torch._utils._rebuild_parameter":
        return arguments[0]
    if function.name == "torch._utils._rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        if not all(type(each) is tuple and len(each) <= 8 for each in (shape, strides)):
            raise _RefusedError("a tensor has no shape")
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(n) is int for n in numbers):
            raise _RefusedError("a tensor is not made of a storage and numbers")
        return _Tensor(storage, offset, shape, strides)
    raise _RefusedError(f"it calls {function.name}")
