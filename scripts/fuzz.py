"""Fuzzes every file reader: it must return a value or raise InputError, whatever the file holds.

    python scripts/fuzz.py                    # all readers, 100,000 inputs each; Parquet 500
    python scripts/fuzz.py image torch --runs 1000

Small valid files are changed at random: bits, bytes and numbers are replaced, and pieces are
copied, cut out or taken from another file. Any exception other than InputError is a crash; so is
an input that takes more than 2 s. The first input of each kind of crash is saved in the current
folder, and the exit code is 1. If a library ends the process, the input is in the folder printed at
the start.
"""

import argparse
import io
import json
import logging
import pickle
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import h5py
import numpy as np
import safetensors.numpy
import scipy.io
import tomli_w
from PIL import Image

from jaxstyle import recipes
from jaxstyle.app import repeat
from jaxstyle.io import InputError, describe_recipe, load_image, read_recipe, read_shape
from jaxstyle.io import images as images_module
from jaxstyle.io.files import sha256_of
from jaxstyle.io.image_writer import encode_image
from jaxstyle.io.images import read_picture
from jaxstyle.io.journal import Journal
from jaxstyle.io.json_file import read_json, write_json
from jaxstyle.io.manifest import read_manifest
from jaxstyle.io.network_weights.formats import read_file
from jaxstyle.io.ownership import is_ours
from jaxstyle.io.tensor_file import read_tensors, write_tensors

_SLOW = 2.0  # seconds
_WORDS = (
    *(b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", bytes(4), b"\xff" * 4, b"\xff" * 8),
    *(b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\1\0", b"-1", b"1e999", b"NaN", b"null"),
    *(b"[", b"{", b'"', b"\n", b",", b"|", b"..", b"/", b"99999999999999999999"),
)


_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        2**70,
        1e308,
        0.5,
        "",
        "a",
        "\0",
        "\ud800",
        "\n",
        "a" * 5000,
        [],
        {},
        [[]],
    ),
    *([1, "a"], {"a": 1}, {"": {}}, ["/dev/zero"], "/", "/dev/zero", ".", float("nan")),
)


def _images() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x0131] = 6, "jaxstyle 0"
    found = []
    for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "F", "I;16"):
        image = Image.fromarray(pixels)
        image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF"):
            file = io.BytesIO()
            try:
                image.save(file, kind, **({"exif": exif} if kind != "BMP" else {}))
            except (OSError, ValueError):  # for example, JPEG has no transparency
                continue
            found.append(file.getvalue())
    gray = (pixels[..., 0] / 255).astype(np.float32)
    deep: dict[str, Any] = {"alpha": gray, "dpi": (300.0, 72.0), "bits": 16}
    found += [encode_image(f"x{kind}", pixels / 255, **deep) for kind in (".png", ".tif")]
    return found + _heic(Image.fromarray(np.dstack([pixels, pixels[..., 0]])), exif.tobytes())


def _heic(image: Image.Image, exif: bytes) -> list[bytes]:
    try:
        import pillow_heif
    except ImportError:
        print("without HEIC: pillow-heif is not installed", flush=True)
        return []
    file = io.BytesIO()
    pillow_heif.from_pillow(image.resize((64, 48))).save(file, format="HEIF", exif=exif)
    return [file.getvalue()]


def _torch() -> list[bytes]:
    # Pickles of protocol 2 with the globals of torch's files, made without torch.
    words = b"".join(
        b"X" + len(word).to_bytes(4, "little") + word for word in (b"storage", b"0", b"cpu")
    )
    tensor = (
        b"\x80\x02}(X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((" + words[:12]
        + b"ctorch\nFloatStorage\n" + words[12:] + b"K\x04tQK\x00(K\x02K\x02t(K\x02K\x01t\x89"
        b"ccollections\nOrderedDict\n)RtRu."
    )  # fmt: skip
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", tensor)
        archive.writestr("archive/data/0", bytes(16))
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})  # torch before 1.6
    legacy = b"".join(pickle.dumps(part, 2) for part in parts) + tensor
    return [legacy + pickle.dumps(["0"], 2) + (4).to_bytes(8, "little") + bytes(16),
            file.getvalue()]  # fmt: skip


def _hdf5() -> list[bytes]:
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        for name in ("block1_conv1", "other"):
            group = h5.create_group(name)
            group["kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
            group["bias:0"] = np.zeros(64, np.float32)
    return [file.getvalue()]


def _npz() -> list[bytes]:
    file = io.BytesIO()
    np.savez(
        file, conv1_1_W=np.zeros((3, 3, 3, 64), np.float32), conv1_1_b=np.zeros(64, np.float32)
    )
    return [file.getvalue()]


def _mat() -> list[bytes]:
    pair = np.empty((1, 2), object)
    pair[0, 0], pair[0, 1] = np.zeros((3, 3, 3, 4), np.float32), np.zeros((4, 1))
    layers = np.empty((1, 1), object)
    layers[0, 0] = {"name": "conv1_1", "weights": pair}
    files = io.BytesIO(), io.BytesIO()
    for file, compressed in zip(files, (False, True), strict=True):
        scipy.io.savemat(file, {"layers": layers, "other": 1}, do_compression=compressed)
    return [file.getvalue() for file in files]


def _parquet() -> list[bytes]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        print("without Parquet: pyarrow is not installed", flush=True)
        return [b"PAR1"]
    file = io.BytesIO()
    table = {"content": ["a", "b"], "style": [["c", "d"], ["e"]], "output": ["1.png", "2.png"]}
    table |= {"size": [64, None], "weights": [{"style": 2.0}, None]}
    pyarrow.parquet.write_table(pyarrow.table(table), file, row_group_size=1)
    return [file.getvalue()]


_CSV = b"content,style,output,weights,size\na.jpg,b.jpg|c.jpg,d/e.png,style=2|content=1,64\n"
_JSONL = b'{"content": "a", "style": ["b", "c"], "output": "d.png", "weights": {"style": 2}}\n'


def _safetensors() -> list[bytes]:
    arrays: dict[str, Any] = {
        "conv1_1.kernel": np.zeros((3, 3, 3, 64), np.float32),
        "features.0.bias": np.ones(4),
    }
    return [safetensors.numpy.save(arrays, {"format": "pt", "sha256": "0"}),
            safetensors.numpy.save(arrays, {"generator": "jaxstyle 0", "seal": "0"})]  # fmt: skip


def _recipes() -> list[bytes]:
    described = describe_recipe(recipes.DEFAULT), describe_recipe(recipes.CROWSON_W2)
    return [json.dumps(each).encode() for each in (*described, {"recipe": described[0]})]


def _toml() -> list[bytes]:
    def without_none(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_none(each) for key, each in value.items() if each is not None}
        return [without_none(each) for each in value] if isinstance(value, list) else value

    return [tomli_w.dumps(without_none(describe_recipe(recipes.DEFAULT))).encode()]


def _outputs() -> list[bytes]:
    trace = [{"step": 1, "loss": 2.5, "terms": {"content": 1.0}}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.json"
        write_json(path, {"recipe": describe_recipe(recipes.DEFAULT), "trace": trace, "seed": 0})
        whole = path.read_bytes()
    # Without generator and checksum, an edited file is read too.
    plain = {k: v for k, v in json.loads(whole).items() if k not in ("generator", "checksum")}
    return [whole, json.dumps(plain).encode()]


def _repeated() -> list[bytes]:
    # Existing files with their hashes, so that the fields checked after the hashes are read too.
    here = {"path": str(Path(__file__).resolve()), "sha256": sha256_of(Path(__file__))}
    files = {"content": here, "styles": [here, here], "init": None, "params": None}
    files |= {"masks": [], "style_masks": []}
    shares: list[Any] = [None, [1.0, 2.0], {"relu1_1": [0.0, 1.0]}]
    rest = {"output": "out.png", "size": [64, 48], "init": "content", "seed": 0, "tile": None}
    rest |= {
        "style_scale": 1.0,
        "precision": "float32",
        "multiple_of": 1,
        "weights": {"sha256": "0" * 64},
    }
    recipe = describe_recipe(recipes.DEFAULT)
    return [
        json.dumps({**rest, "style_weights": each, "files": files, "recipe": recipe}).encode()
        for each in shares
    ]


def _repeat(path: Path) -> Any:
    with mock.patch.object(repeat, "_find_params"):  # reads 80 MB
        return repeat.job_of(path)


def _journals() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        journal = Journal(path)
        for number in range(3):
            journal.add({"output": f"{number}.png", "status": "done", "loss": 1.5})
        return [path.read_bytes()]


def _checkpoints() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        arrays: dict[str, Any] = {"leaf_0": np.zeros((3, 4), np.float32), "trace_0": np.zeros(5)}
        write_tensors(path, arrays, {"stage": 0, "run": {"seed": 0}})
        return [path.read_bytes()]


def _ours() -> list[bytes]:
    page = b'<!doctype html><meta name="generator" content="jaxstyle 0">'
    return [*_images(), *_outputs(), *_checkpoints(), page]


class Reader(NamedTuple):
    """A reader: its valid files, the file name it gets, and the function."""

    seeds: Callable[[], list[bytes]]
    name: str
    read: Callable[[Path], Any]


READERS: dict[str, Reader] = {
    "image": Reader(_images, "a.png", lambda path: load_image(path, size=16)),
    "shape": Reader(_images, "a.png", read_shape),
    "mask": Reader(_images, "a.tif", lambda path: load_image(path, size=16, background=0.0)),
    "picture": Reader(_images, "a.jpg", lambda path: read_picture(path, shape=(9, 16))),
    "recipe": Reader(_recipes, "a.json", read_recipe),
    "toml": Reader(_toml, "a.toml", read_recipe),
    "output": Reader(_outputs, "a.json", lambda path: (read_json(path), read_recipe(path))),
    "repeat": Reader(_repeated, "a.json", _repeat),
    "csv": Reader(lambda: [_CSV], "a.csv", lambda path: read_manifest(path, output_dir="out")),
    "jsonl": Reader(lambda: [_JSONL], "a.jsonl", lambda path: read_manifest(path, output_dir="o")),
    "parquet": Reader(_parquet, "a.pq", lambda path: read_manifest(path, output_dir="o")),
    "journal": Reader(_journals, "journal.jsonl", Journal),
    "torch": Reader(_torch, "a.pth", read_file),
    "hdf5": Reader(_hdf5, "a.h5", read_file),
    "npz": Reader(_npz, "a.npz", read_file),
    "mat": Reader(_mat, "a.mat", read_file),
    "safetensors": Reader(_safetensors, "a.safetensors", read_file),
    "checkpoint": Reader(_checkpoints, "a.safetensors", read_tensors),
    "ours": Reader(_ours, "a", is_ours),
}


def mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Replaces one value of a JSON file; returns other files unchanged."""
    try:
        value = json.loads(data)
    except ValueError:
        return data
    owner: Any = None
    key: Any = None
    here = value
    while isinstance(here, dict | list) and here and (owner is None or rng.integers(0, 4)):
        keys = list(here) if isinstance(here, dict) else range(len(here))
        owner, key = here, keys[int(rng.integers(0, len(keys)))]
        here = owner[key]
    if owner is not None:
        owner[key] = _VALUES[int(rng.integers(0, len(_VALUES)))]
    return json.dumps(value).encode()


def mutate(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """Changes a file in 1 to 8 places; half of them are near its start, where formats differ."""
    changed = bytearray(data)
    for kind in rng.integers(0, 8, rng.integers(1, 9)):
        reach = len(changed) if rng.integers(0, 2) else min(len(changed), 200)
        at = int(rng.integers(0, max(reach, 1)))
        size = int(rng.integers(1, 1 + min(64, max(len(changed) - at, 1))))
        if kind == 0 and changed:
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            changed[at : at + 1] = bytes([int(rng.integers(0, 256))])
        elif kind == 2:
            words = _WORDS[int(rng.integers(0, len(_WORDS)))]
            changed[at : at + (len(words) if rng.integers(0, 2) else 0)] = words
        elif kind == 3:
            del changed[at : at + size]
        elif kind == 4:
            changed[at:at] = changed[at : at + size] * int(rng.integers(1, 20))
        elif kind == 5:
            other = others[int(rng.integers(0, len(others)))]
            start = int(rng.integers(0, len(other)))
            changed[at : at + size] = other[start : start + size]
        elif kind == 6:
            number = struct.pack("<>"[int(rng.integers(0, 2))] + "I", int(rng.integers(0, 2**32)))
            changed[at : at + 4] = number
        elif kind == 7 and rng.integers(0, 4) == 0:
            del changed[at:]
    return bytes(changed)


def fuzz(name: str, runs: int, folder: Path, seed: int) -> bool:
    """Runs a reader on `runs` inputs, prints the outcomes, and returns whether none was a crash."""
    reader, rng = READERS[name], np.random.default_rng(seed)
    seeds = reader.seeds()
    path = folder / reader.name
    accepted, slowest, crashes = 0, 0.0, dict[str, int]()
    begin = time.perf_counter()
    runs = runs if name != "parquet" else -(-runs // 200)  # each starts a process
    for number in range(runs):
        data = seeds[int(rng.integers(0, len(seeds)))]
        if rng.integers(0, 2):
            data = mutate_json(data, rng)
        if data in seeds or rng.integers(0, 2):
            data = mutate(data, seeds, rng)
        path.write_bytes(data)
        start, problem = time.perf_counter(), None
        try:
            reader.read(path)
            accepted += 1
        except InputError as error:
            # Only a manifest has messages of several lines: one for each bad row.
            if not str(error).isprintable() and name not in ("csv", "jsonl", "parquet"):
                problem = "a message that is not one printable line"
        except Exception as error:
            at = error.__traceback__
            while at is not None and at.tb_next is not None:
                at = at.tb_next
            where = f"{at.tb_frame.f_code.co_name}:{at.tb_lineno}" if at is not None else ""
            problem = f"{type(error).__name__} in {where}"
        seconds = time.perf_counter() - start
        slowest = max(slowest, seconds)
        if problem is None and seconds > _SLOW:
            problem = f"over {_SLOW:g} s"
        if problem is not None:
            if problem not in crashes:
                Path(f"crash-{name}-{number}").write_bytes(data)
            crashes[problem] = crashes.get(problem, 0) + 1
    print(
        f"{name:12} {runs} inputs in {time.perf_counter() - begin:.0f} s, {accepted} accepted, "
        f"{sum(crashes.values())} crashes, slowest {slowest:.2f} s"
        + "".join(f"\n{'':12} {count} times {problem}" for problem, count in crashes.items()),
        flush=True,
    )
    return not crashes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.readers:
        if name not in READERS:
            parser.error(f"no reader {name}: choose from {', '.join(READERS)}")
    logging.getLogger("jaxstyle").setLevel(logging.ERROR)
    # A changed header may declare any number of pixels; this limit keeps decoding fast.
    images_module.MAX_PIXELS = 10**6
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"the current input is in {folder}", flush=True)
    well = [fuzz(name, options.runs, folder, options.seed) for name in options.readers or READERS]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
