"""Kills nodes, workers and drivers of batches on Ray, and checks that nothing is lost.

    python scripts/drill_ray.py --rounds 20 --pairs 500

Each round starts a Ray cluster of four nodes on this machine, and paints pairs of 64 px there. At
random moments it kills two nodes (-9), kills the driver and starts it again, and adds a node. It
checks that

- all pairs are painted, and each is in the journal once,
- what the killed driver has recorded is not painted again,
- all pictures are those of the local engine, bit for bit,
- nothing else is left in the output folder.

Most rounds have a stand-in for the painter, which returns the photo after some time; `--real N`
rounds paint. `--scheduling PAIRS` measures what the engine costs: seconds per pair with the
stand-in, which then takes no time, and the driver's memory. Run it inside `unshare --net` to keep
the cluster on loopback.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import random
import shutil
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


def command(folder: Path, output: str, *options: str) -> list[str]:
    """Returns the arguments of a batch."""
    return [
        "batch", str(folder / "pairs.csv"), "--output-dir", str(folder / output), "--size", "64",
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


def lines(folder: Path) -> list[str]:
    """Returns the outputs that the journal names."""
    path = folder / "out" / "journal.jsonl"
    text = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line)["output"] for line in text.splitlines()[1:]]


def hashes(folder: Path) -> dict[str, str]:
    """Returns a hash of each picture."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.png")
    }


def attempt(
    folder: Path, cluster: Any, pairs: int, stand_in: float | None, seed: int
) -> tuple[list[str], str]:
    """Runs one round; returns what is wrong, and what was done."""
    rng = random.Random(seed)  # noqa: S311
    shutil.rmtree(folder / "out", ignore_errors=True)
    arguments = command(folder, "out", "--engine", "ray", "--address", cluster.address, "--quiet")
    child = [sys.executable, __file__, "--child", json.dumps([arguments, stand_in])]
    log = (folder / "log").open("a")

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen(child, stderr=log, stdout=log)  # noqa: S603

    moments = sorted(rng.sample(range(1, pairs), 4))
    actions = ["node", "node", "driver", "add"]
    rng.shuffle(actions)
    driver, done, wrong, kept = begin(), [], [], {}
    deadline = time.monotonic() + 600
    for moment, action in zip(moments, actions, strict=True):
        while len(lines(folder)) < moment and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        done.append(f"{action} at {len(lines(folder))}")
        if action == "node":
            nodes = [each for each in cluster.list_all_nodes() if not each.is_head()]
            cluster.remove_node(rng.choice(nodes), allow_graceful=False)
        elif action == "add":
            cluster.add_node(**NODE)
        else:
            driver.kill()
            driver.wait()
            kept = {name: (folder / "out" / name).stat().st_mtime_ns for name in lines(folder)}
            driver = begin()
    try:
        code = driver.wait(max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        driver.kill()
        code = driver.wait()
        wrong.append("it hangs")
    log.close()
    if code != 0:
        wrong.append(f"the driver ends with {code}: {(folder / 'log').read_text()[-500:]}")
    names = lines(folder)
    if sorted(names) != sorted(f"{number}.png" for number in range(pairs)):
        wrong.append(f"{len(names)} entries, {len(set(names))} different ones")
    again = [
        name for name, when in kept.items() if (folder / "out" / name).stat().st_mtime_ns != when
    ]
    if again:
        wrong.append(f"{len(again)} pictures were painted again")
    expected = hashes(folder / f"local-{stand_in is None}")
    found = hashes(folder / "out")
    different = [name for name in expected if found.get(name) != expected[name]]
    if different or len(found) != len(expected):
        wrong.append(f"{len(different)} pictures differ, {len(found)} of {len(expected)} are there")
    left = [path.name for path in (folder / "out").iterdir() if path.suffix in (".tmp", ".run")]
    if left:
        wrong.append(f"left: {left}")
    return wrong, ", ".join(done)


def drill(folder: Path, arguments: argparse.Namespace) -> int:
    """Runs all rounds; returns how many failed."""
    prepare(folder, arguments.pairs)
    for real in (False, True) if arguments.real else (False,):
        out = command(folder, f"local-{real}", "--quiet")
        child = [sys.executable, __file__, "--child", json.dumps([out, None if real else 0.0])]
        subprocess.run(child, check=True)  # noqa: S603
    failed = 0
    for number in range(arguments.rounds):
        begin = time.monotonic()
        cluster = start_cluster(4)
        stand_in = None if number < arguments.real else 1.0
        wrong, done = attempt(folder, cluster, arguments.pairs, stand_in, arguments.seed + number)
        cluster.shutdown()
        failed += bool(wrong)
        kind = "painter" if stand_in is None else "stand-in"
        print(
            f"{number}: {kind}, {done}; {time.monotonic() - begin:.0f} s: {wrong or 'well'}",
            flush=True,
        )
    print(f"{failed} of {arguments.rounds} rounds failed")
    return failed


def measure(folder: Path, pairs: int) -> None:
    """Prints what the engine costs for each pair."""
    prepare(folder, pairs)
    cluster = start_cluster(1)
    begin = time.perf_counter()
    call = command(folder, "out", "--engine", "ray", "--address", cluster.address)
    child = [sys.executable, __file__, "--child", json.dumps([call, 0.0])]
    driver = subprocess.Popen(child)  # noqa: S603
    _, status, usage = os.wait4(driver.pid, 0)
    seconds, peak = time.perf_counter() - begin, usage.ru_maxrss / 1024
    code = os.waitstatus_to_exitcode(status)
    print(f"exit code {code}: {1000 * seconds / pairs:.2f} ms a pair, driver at most {peak:.0f} MB")
    cluster.shutdown()


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--real", type=int, default=1, help="rounds with the real painter")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scheduling", type=int, help="measure with so many pairs instead")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return paint(*json.loads(arguments.child))
    with tempfile.TemporaryDirectory() as name:
        os.environ.setdefault("JAXSTYLE_CACHE", str(Path(name) / "cache"))
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        if arguments.scheduling:
            measure(Path(name), arguments.scheduling)
            return 0
        return int(drill(Path(name), arguments) > 0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
