"""Flips bits in every kind of file that jaxstyle reads back, and counts the outcomes.

    python scripts/flip_bits.py --flips 10000

It writes checkpoints, the JSON next to a picture, journals, compiled programs and cached network
parameters, damages them in 1 to 4 places, and reads them. A reader must refuse a damaged file, or
return exactly what was written if the flip changed only the layout. Any other outcome is wrong, and
the exit code is 1.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.app.private_folder import PrivateFolder
from jaxstyle.io import InputError, list_weights, load_params, verify
from jaxstyle.io.journal import Journal, journal_path
from jaxstyle.io.json_file import read_json, write_json
from jaxstyle.io.tensor_file import read_tensors, write_tensors

_LARGE = 2**24  # bytes; larger files get fewer flips, since each read hashes the whole file


def _checkpoint(folder: Path) -> tuple[Path, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "leaf_0": rng.normal(size=(8, 8, 3)).astype(np.float32),
        "leaf_1": np.arange(5),
    }
    path = folder / "jaxstyle-checkpoint.safetensors"
    write_tensors(path, arrays, {"stage": 1, "trace": [{"step": 1, "loss": 0.5}]})

    def read() -> Any:
        found, metadata = read_tensors(path)
        return {name: array.tolist() for name, array in found.items()}, metadata

    return path, read


def _json(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path = folder / "out.json"
    trace = [{"step": step, "loss": 1 / (step + 1)} for step in range(100)]
    write_json(path, {"seed": 3, "recipe": {"name": "x", "weights": [1.0, 2.0]}, "trace": trace})
    return path, lambda: read_json(path)


def _journal(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path = journal_path(folder)
    journal = Journal(path)
    for number in range(6):
        journal.add({"output": f"{number}.png", "digest": "abcdef", "loss": number / 3})
    return path, lambda: dict(Journal(path).entries)


def _program(folder: Path) -> tuple[Path, Callable[[], Any]]:
    private = PrivateFolder(folder / "programs")
    private.write("a" * 64, os.urandom(20_000))
    return folder / "programs" / ("a" * 64), lambda: private.read("a" * 64)


def _weights(folder: Path) -> tuple[Path, Callable[[], Any]]:
    source = next(iter(list_weights()), None)
    if source is None:
        load_params()  # downloads them
        source = list_weights()[0]
    path = folder / "vgg19.safetensors"
    path.write_bytes(source.path.read_bytes())
    # The hash of all numbers stands for the numbers.
    return path, lambda: verify(path).sha256


KINDS = {
    "checkpoint": _checkpoint,
    "json": _json,
    "journal": _journal,
    "program": _program,
    "weights": _weights,
}


def flip(kind: str, flips: int, seed: int) -> Counter[str]:
    """Damages a file of that kind `flips` times; returns the number of each outcome."""
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        path, read = KINDS[kind](Path(name))
        whole, expected = path.read_bytes(), read()
        for _ in range(flips if len(whole) < _LARGE else max(flips // 50, 1)):
            damaged = bytearray(whole)
            for _ in range(rng.choice((1, 1, 2, 4))):
                # Half of all flips hit the first kilobytes, which hold the headers.
                end = len(whole) if rng.random() < 0.5 else min(len(whole), 4096)
                damaged[rng.integers(end)] ^= 1 << rng.integers(8)
            if bytes(damaged) == whole:
                continue
            path.write_bytes(damaged)
            try:
                found = read()
                if found == expected:
                    counts["same"] += 1
                elif kind == "journal" and found.items() <= expected.items():
                    counts["last line dropped"] += 1  # its picture is painted again
                else:
                    counts["WRONG"] += 1
            except (InputError, OSError, ValueError) as error:
                if not isinstance(error, InputError) and kind != "program":
                    counts[f"CRASH {type(error).__name__}"] += 1
                counts["refused"] += 1
            path.write_bytes(whole)
    return counts


def main() -> int:
    """Damages files of all kinds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", help=f"some of {', '.join(KINDS)} [all]")
    parser.add_argument("--flips", type=int, default=10_000, help="of each kind; fewer of weights")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bad = 0
    for kind in arguments.kinds or KINDS:
        counts = flip(kind, arguments.flips, arguments.seed)
        print(f"{kind:11} {json.dumps(dict(sorted(counts.items())))}", flush=True)
        bad += sum(number for what, number in counts.items() if what[:1].isupper())
    print(f"{bad} wrong results or crashes")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
