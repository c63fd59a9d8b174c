"""Kills nodes, workers and drivers of batches on Ray, and checks that nothing is lost.

    python scripts/drill_ray.py --rounds 20 --pairs 500

Each round starts a Ray cluster of four nodes on this machine, and paints pairs of 64 px there. At
random moments it kills two nodes (-9), kills the driver and starts it again, and adds a node. It
checks that

- all pairs are painted, and each is recorded once,
- what the killed driver has recorded is not painted again,
- all pictures are those of the local engine, bit for bit,
- nothing else is left in the output folder,
- another start finds all of them.

With `--s3`, manifest, pictures and outputs are on an S3 server of this machine, of whose requests
every fifth fails (`tests/s3_server.py`; it needs `pip install 'jaxstyle[dev-urls]'`).

Most rounds have a stand-in for the painter, which returns the photo after some time; `--real N`
rounds paint. Run it inside `unshare --net` to keep the cluster on loopback.
`measure_engines.py` measures what the engines cost.
"""

import argparse
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drill import write_recipe
from drill_places import Bucket, Disk, File, md5_of
from PIL import Image

from jaxstyle import StyleResult
from jaxstyle.app.batch import runner
from jaxstyle.app.batch.painter import Painted, Painter
from jaxstyle.app.batch.pictures import Lane
from jaxstyle.app.batch.plan import Batch
from jaxstyle.app.cli.main import main as jaxstyle
from jaxstyle.network.vgg import CONV_SHAPES
from jaxstyle.solvers import Status

NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
PHOTOS = 12


@dataclasses.dataclass(frozen=True)
class StandIn:
    """Makes painters that return the photo after `seconds` for each batch."""

    seconds: float

    def __call__(self, *_: Any) -> "Painter":
        """Returns this, as what paints."""
        return self  # type: ignore[return-value]

    def paint(self, batch: Batch, lanes: Sequence[Lane | None]) -> Iterator[Painted]:
        """Returns the photos."""
        time.sleep(self.seconds)
        for pair, lane in zip(batch.pairs, lanes, strict=True):
            if lane is None:
                continue
            one: Any = np.float32(1)
            image: Any = lane.content[: lane.shape[0], : lane.shape[1]]
            trace: Any = np.ones(1, np.float32)
            number: Any = np.int32(0)
            status: Any = np.int32(Status.STEP_LIMIT)
            result = StyleResult(
                image=image, loss=one, solver_loss=one, term_losses={}, term_traces={},
                trace=trace, num_evaluations=number,
                status=status,
            )  # fmt: skip
            yield Painted(
                pair,
                result,
                dict.fromkeys(("load", "compile", "optimize"), 0.0) | {"save": 0.0},
                lane=lane,
            )


def prepare(folder: Path, pairs: int) -> None:
    """Writes pictures, a recipe, network weights and a manifest."""
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        height, width = ((64, 64), (48, 64), (64, 40))[number % 3]
        pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    write_recipe(folder / "recipe.json", 5)
    arrays: dict[str, Any] = {}
    for name, (kernel, bias) in CONV_SHAPES.items():
        scale = np.float32(np.sqrt(2 / np.prod(kernel[:3])))
        arrays[f"{name}_W"] = scale * rng.standard_normal(kernel, np.float32)
        arrays[f"{name}_b"] = np.zeros(bias, np.float32)
    np.savez(folder / "weights.npz", **arrays)
    rows = [
        f"{number % PHOTOS}.png,{(number + 1) % 3}.png,{number}.png,{number % 7},style={number + 1}"
        for number in range(pairs)
    ]
    (folder / "pairs.csv").write_text("\n".join(["content,style,output,seed,weights", *rows, ""]))


def command(folder: Path, manifest: str, output: str, *options: str) -> list[str]:
    """Returns the arguments of a batch."""
    return [
        "batch", manifest, "--output-dir", output, "--size", "64",
        "--recipe", str(folder / "recipe.json"), "--params", str(folder / "weights.npz"),
        "--batch-size", "8", *options,
    ]  # fmt: skip


def paint(arguments: list[str], stand_in: float | None) -> int:
    """Runs the program in this process, with the stand-in unless it is None."""
    if stand_in is not None:
        runner.run_batch.__defaults__ = (StandIn(stand_in),)
    return jaxstyle(arguments)


def start_cluster(nodes: int) -> Any:
    """Starts a head without CPUs, and nodes."""
    from ray.cluster_utils import Cluster

    head = {**NODE, "num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes):
        cluster.add_node(**NODE)
    return cluster


def attempt(
    folder: Path, cluster: Any, place: Disk | Bucket, pairs: int, stand_in: float | None, seed: int
) -> tuple[list[str], str]:
    """Runs one round; returns what is wrong, and what was done."""
    rng = random.Random(seed)  # noqa: S311
    options = ["--engine", "ray", "--address", cluster.address, "--quiet", "--progress", "json"]
    call = command(folder, f"{place.start}/pairs.csv", f"{place.start}/out", *options)
    log, progress = (folder / "log").open("w"), (folder / "progress").open("w")

    def begin() -> subprocess.Popen[bytes]:
        child = [sys.executable, __file__, "--child", json.dumps([call, stand_in])]
        return subprocess.Popen(child, stderr=log, stdout=progress)  # noqa: S603

    moments = sorted(rng.sample(range(1, pairs), 4))
    actions = ["node", "node", "driver", "add"]
    rng.shuffle(actions)
    driver, done, kept = begin(), [], dict[str, File]()
    deadline = time.monotonic() + 600
    for moment, action in zip(moments, actions, strict=True):
        while (
            len(place.recorded()) < moment and driver.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        done.append(f"{action} at {len(place.recorded())}")
        if action == "node":
            nodes = [each for each in cluster.list_all_nodes() if not each.is_head()]
            cluster.remove_node(rng.choice(nodes), allow_graceful=False)
        elif action == "add":
            cluster.add_node(**NODE)
        else:
            driver.kill()
            driver.wait()
            files = place.files()
            kept = {name: files[name] for name in place.recorded()}
            driver = begin()
    wrong = wait(driver, deadline - time.monotonic(), folder)
    wrong += check(folder / f"local-{stand_in is None}", place, pairs, kept)
    before = place.files()
    wrong += wait(begin(), 120, folder)
    if place.files() != before:
        wrong.append("another start has painted")
    log.close()
    progress.close()
    return wrong, ", ".join(done)


def wait(driver: subprocess.Popen[bytes], seconds: float, folder: Path) -> list[str]:
    """Waits for a driver; returns what is wrong."""
    try:
        code = driver.wait(max(seconds, 1))
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()
        return ["it hangs"]
    said = [line for line in (folder / "log").read_text().splitlines() if not line.startswith("[")]
    return [f"the driver ends with {code}: {said[-5:]}"] if code else []


def check(local: Path, place: Disk | Bucket, pairs: int, kept: dict[str, File]) -> list[str]:
    """Returns what is wrong with the outputs; `kept` is what a driver has recorded."""
    wrong, names, files = [], place.recorded(), place.files()
    expected = {f"{number}.png" for number in range(pairs)}
    # What workers have painted after their driver was killed is found by the next one in a bucket.
    missing = expected - {*names} if isinstance(place, Disk) else {*names} - expected
    if missing or len(names) != len({*names}):
        wrong.append(f"{len(names)} entries, {len({*names})} different ones, {missing} wrong")
    if again := [name for name, file in kept.items() if files.get(name) != file]:
        wrong.append(f"{len(again)} pictures were painted again")
    hashes = {path.name: md5_of(path) for path in local.glob("*.png")}
    if different := [
        name for name in expected if name not in files or files[name].md5 != hashes[name]
    ]:
        wrong.append(f"{len(different)} of {pairs} pictures are lost or differ")
    whole = expected | {f"{number}.json" for number in range(pairs)}
    if {*files} != whole:
        wrong.append(f"left, or lost: {sorted({*files} ^ whole)}")
    return wrong


def drill(folder: Path, arguments: argparse.Namespace) -> int:
    """Runs all rounds; returns how many failed."""
    prepare(folder, arguments.pairs)
    for real in (False, True) if arguments.real else (False,):
        out = command(folder, str(folder / "pairs.csv"), str(folder / f"local-{real}"), "--quiet")
        child = [sys.executable, __file__, "--child", json.dumps([out, None if real else 0.0])]
        subprocess.run(child, check=True)  # noqa: S603
    failed = 0
    for number in range(arguments.rounds):
        begin = time.monotonic()
        place = Bucket(folder) if arguments.s3 else Disk(folder)
        cluster = start_cluster(4)
        stand_in = None if number < arguments.real else 1.0
        seed = arguments.seed + number
        wrong, done = attempt(folder, cluster, place, arguments.pairs, stand_in, seed)
        done += place.close()
        cluster.shutdown()
        failed += bool(wrong)
        kind = "painter" if stand_in is None else "stand-in"
        print(
            f"{number}: {kind}, {done}; {time.monotonic() - begin:.0f} s: {wrong or 'well'}",
            flush=True,
        )
    print(f"{failed} of {arguments.rounds} rounds failed")
    return failed


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--real", type=int, default=1, help="rounds with the real painter")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--s3", action="store_true", help="files on an S3 server that fails")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return paint(*json.loads(arguments.child))
    with tempfile.TemporaryDirectory() as name:
        os.environ.setdefault("JAXSTYLE_CACHE", str(Path(name) / "cache"))
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        return int(drill(Path(name), arguments) > 0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
