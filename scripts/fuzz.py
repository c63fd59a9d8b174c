"""Feeds the readers of files with rubbish: whatever comes in, an array or an InputError comes out.

    pip install -e '.[fuzz]'
    python scripts/fuzz.py image --runs 100000     # or torch, hdf5, npz, mat, csv, jsonl

Atheris (libFuzzer) mutates small valid files, guided by the branches that the readers take. It
stops at the first other exception, at an input that takes over 10 s, or beyond the memory limit,
and leaves that input in the current folder.
"""

import argparse
import io
import os
import pickle
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import h5py
import numpy as np
import scipy.io
from PIL import Image

with atheris.instrument_imports(include=["jaxstyle.io"]):
    from jaxstyle.io import InputError, load_image
    from jaxstyle.io.manifest import read_manifest
    from jaxstyle.io.weight_formats import read_file


def _images() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    found = []
    for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK"):
        image = Image.fromarray(pixels).convert(mode)
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
            file = io.BytesIO()
            try:
                image.save(file, kind)
            except (OSError, ValueError):  # JPEG has no transparency, and so on
                continue
            found.append(file.getvalue())
    return found


def _torch() -> list[bytes]:
    # Protocol 2 pickles with the words that occur in torch's files; made without torch.
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
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})  # of torch before 1.6
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


_CSV = b"content,style,output,weights,size\na.jpg,b.jpg|c.jpg,d/e.png,style=2|content=1,64\n"
_JSONL = b'{"content": "a", "style": ["b", "c"], "output": "d.png", "weights": {"style": 2}}\n'
# Name -> seeds, the file's name, and the reader.
READERS: dict[str, tuple[Callable[[], list[bytes]], str, Callable[[Path], Any]]] = {
    "image": (_images, "a.png", lambda path: load_image(path, size=16)),
    "torch": (_torch, "a.pth", read_file),
    "hdf5": (_hdf5, "a.h5", read_file),
    "npz": (_npz, "a.npz", read_file),
    "mat": (_mat, "a.mat", read_file),
    "csv": (lambda: [_CSV], "a.csv", lambda path: read_manifest(path, output_dir=path.parent)),
    "jsonl": (lambda: [_JSONL], "a.jsonl", lambda path: read_manifest(path, output_dir="out")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--memory", type=int, default=1024, help="limit in MB")
    options = parser.parse_args()
    seeds, name, read = READERS[options.reader]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds()):
        (corpus / str(number)).write_bytes(data)
    path = folder / name
    counts = {"inputs": 0, "accepted": 0}
    begin = time.perf_counter()

    def one(data: bytes) -> None:
        path.write_bytes(data)
        counts["inputs"] += 1
        try:
            read(path)
            counts["accepted"] += 1
        except InputError as error:
            # One line, but for the list of a manifest's bad rows.
            if not str(error).isprintable() and name not in ("a.csv", "a.jsonl"):
                raise AssertionError(f"not one printable line: {error!s}") from error
        if counts["inputs"] == options.runs:
            seconds = time.perf_counter() - begin
            print(
                f"{options.reader}: {options.runs} inputs in {seconds:.0f} s, "
                f"{counts['accepted']} accepted, the others refused",
                flush=True,
            )
            os._exit(0)  # libFuzzer would go on with its own statistics

    flags = ["-timeout=10", f"-rss_limit_mb={options.memory}", "-max_len=20000", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
