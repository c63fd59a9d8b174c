"""Measures what the engines of batches cost, on this machine and on a Ray cluster of one node.

    python scripts/measure_engines.py scheduling --pairs 100000
    python scripts/measure_engines.py ratio --pairs 128 --rounds 5
    python scripts/measure_engines.py waits --pairs 96 --seconds 2

- `scheduling`: milliseconds per pair of 64 px with a stand-in for the painter, which returns the
  photo at once, and the driver's memory. What the local engine needs is reading and writing.
- `ratio`: seconds from the first line of the journal to the last with the painter, Ray / local,
  alternating. Programs are compiled, and workers have started, before the first line.
- `waits`: photos of 3000x2000 for pictures of 256 px, with a stand-in that sleeps for each batch of
  16. It prints which part of the time between its first and last batch it had no batch.

Run it inside `unshare --net` to keep the cluster on loopback.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from drill_ray import StandIn, paint, prepare, start_cluster
from PIL import Image

from jaxstyle.app.batch import runner
from jaxstyle.app.batch.painter import Painted
from jaxstyle.app.batch.pictures import Lane
from jaxstyle.app.batch.plan import Batch

ENGINES = ("local", "ray")
SAMPLES = Path(__file__).parents[1] / "jaxstyle" / "app" / "samples"
LARGE = (3000, 2000)


@dataclasses.dataclass(frozen=True)
class Timed(StandIn):
    """Notes when it begins and ends with each batch."""

    log: str

    def paint(self, batch: Batch, lanes: Sequence[Lane | None]) -> Iterator[Painted]:
        """Returns the photos."""
        begin = time.time()
        painted = [*super().paint(batch, lanes)]
        with open(self.log, "a") as file:
            file.write(json.dumps([begin, time.time()]) + "\n")
        yield from painted


def run(folder: Path, engine: str, address: str, options: list[str], what: object) -> float:
    """Runs a batch in a process of its own; returns the most memory that it had, in MB.

    `what` is the seconds of the stand-in, a list of them and of its log, or None for the painter.
    """
    call = ["batch", str(folder / "pairs.csv"), "--output-dir", str(folder / engine), *options]
    call += ["--recipe", str(folder / "recipe.json"), "--params", str(folder / "weights.npz")]
    call += ["--quiet", "--engine", engine, *(["--address", address] if engine == "ray" else [])]
    child = subprocess.Popen([sys.executable, __file__, "--child", json.dumps([call, what])])  # noqa: S603
    _, status, usage = os.wait4(child.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{engine} ends with {code}")
    return usage.ru_maxrss / 1024


def times(folder: Path, engine: str) -> list[float]:
    """Returns when each pair was recorded."""
    with (folder / engine / "journal.jsonl").open() as file:
        next(file)
        return [json.loads(line)["time"] for line in file]


def write_pairs(folder: Path, pairs: int, settings: int) -> None:
    """Writes a manifest of pairs with so many different settings."""
    prepare(folder, 1)
    rows = [f"{n % 12 // 3 * 3}.png,0.png,{n}.png,style={n % settings + 1}" for n in range(pairs)]
    (folder / "pairs.csv").write_text("\n".join(["content,style,output,weights", *rows, ""]))


def scheduling(folder: Path, address: str, pairs: int, settings: int, engines: list[str]) -> None:
    """Prints the costs of engines."""
    write_pairs(folder, pairs, settings)
    for engine in engines:
        begin = time.time()
        memory = run(folder, engine, address, ["--size", "64", "--batch-size", "8"], 0.0)
        found = times(folder, engine)
        whole, lines = (time.time() - begin) / pairs, (found[-1] - found[0]) / (pairs - 1)
        print(
            f"{engine}: {1000 * whole:.2f} ms a pair, {1000 * lines:.2f} from the first line on, "
            f"at most {memory:.0f} MB",
            flush=True,
        )


def ratio(folder: Path, address: str, pairs: int, rounds: int, steps: int) -> None:
    """Prints Ray / local."""
    write_pairs(folder, pairs, pairs)
    ratios = []
    for number in range(rounds):
        taken = {}
        for engine in ENGINES if number % 2 else ENGINES[::-1]:
            options = ["--size", "64", "--batch-size", "8", "--steps", str(steps)]
            for path in (folder / engine).glob("*"):
                path.unlink()
            run(folder, engine, address, options, None)
            found = times(folder, engine)
            taken[engine] = found[-1] - found[0]
        ratios.append(taken["ray"] / taken["local"])
        print(f"ray {taken['ray']:.2f} s, local {taken['local']:.2f} s", flush=True)
    print(f"ray / local: median {statistics.median(ratios):.3f}, {[*map('{:.3f}'.format, ratios)]}")


def waits(folder: Path, address: str, pairs: int, seconds: float) -> None:
    """Prints which part of the time a device waits."""
    prepare(folder, 1)
    for name in ("content", "style"):
        picture = Image.open(SAMPLES / f"{name}.png").convert("RGB").resize(LARGE)
        for number in range(pairs if name == "content" else 8):
            picture.putpixel((0, 0), (number % 256, number // 256, 0))
            picture.save(folder / f"{name}{number}.jpg", quality=92)
    rows = [f"content{number}.jpg,style{number % 8}.jpg,{number}.png" for number in range(pairs)]
    (folder / "pairs.csv").write_text("\n".join(["content,style,output", *rows, ""]))
    for engine in ENGINES:
        log = folder / f"{engine}.log"
        options = ["--size", "256", "--batch-size", "16"]
        run(folder, engine, address, options, [seconds, str(log)])
        spans = sorted(json.loads(line) for line in log.read_text().splitlines())
        gaps = [start - end for (_, end), (start, _) in itertools.pairwise(spans)]
        share = sum(gaps) / (spans[-1][1] - spans[0][0])
        print(
            f"{engine}: {len(spans)} batches of {seconds:g} s, waits {100 * share:.2f} % of the "
            f"time, {1000 * max(gaps):.0f} ms at most",
            flush=True,
        )


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("scheduling", "ratio", "waits"))
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--settings", type=int, default=20, help="of pairs, how many differ")
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of a painted pair")
    parser.add_argument("--seconds", type=float, default=2.0, help="for a batch of the stand-in")
    parser.add_argument("--folder", help="of the files, such as one on another disk")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        call, what = json.loads(given.child)
        if isinstance(what, list):
            runner.run_batch.__defaults__ = (Timed(*what),)
            what = None
        return paint(call, what)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        os.environ.setdefault("JAXSTYLE_CACHE", str(folder / "cache"))
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        cluster = start_cluster(1)
        if given.what == "scheduling":
            scheduling(folder, cluster.address, given.pairs, given.settings, given.engines)
        elif given.what == "ratio":
            ratio(folder, cluster.address, given.pairs, given.rounds, given.steps)
        else:
            waits(folder, cluster.address, given.pairs, given.seconds)
        cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
