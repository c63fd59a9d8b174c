"""Stops runs at random moments and checks that nothing is lost.

    python scripts/drill.py --trials 200

Each trial starts `jaxstyle stylize`, with or without a checkpoint, or `jaxstyle batch`, in a folder
full of other people's files. It stops the run by a signal at a random moment, a disk that is full
from some write on, a single write that fails, or an XLA error. Then it starts the same command
again. It checks that

- every existing file keeps its bytes, mode and modification time,
- every reported picture can be read, and is the one that was reported,
- the best picture is saved if a step had been reported, unless the run was killed by SIGKILL,
- the exit code says how the run ended,
- the second start succeeds and leaves no temporary file behind.

It prints a line for each trial and a table of all trials. The exit code is 1 if a trial failed.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxstyle.io.network_weights.cache import cache_dir

SAMPLES = Path(__file__).parents[1] / "jaxstyle" / "app" / "samples"
KINDS = ("single", "checkpoint", "batch")
SIGNALS = {
    "kill": (signal.SIGKILL,),
    "term": (signal.SIGTERM,),
    "hangup": (signal.SIGHUP,),
    "interrupt": (signal.SIGINT,),
    "interrupt twice": (signal.SIGINT, signal.SIGINT),
}
FAULTS = ("full disk", "failed write", "XLA error")
CODES = {"term": 143, "hangup": 129, "interrupt": 130, "interrupt twice": 130}
SECONDS = 240  # after which a run counts as hanging

# Replaces one function by one that fails, then runs the program.
FAULTY = """
import errno, os, sys
fault, number, folder = sys.argv[1], int(sys.argv[2]), os.path.realpath(sys.argv[3])
del sys.argv[1:4]
calls = 0
def due(once):
    global calls
    calls += 1
    return calls == number if once else calls >= number
if fault == "XLA error":
    import jax
    from jaxstyle.app import compile_cache
    call = compile_cache.KeptPrograms.__call__
    def failing(*arguments):
        if due(True):
            raise jax.errors.JaxRuntimeError("INTERNAL: a drill")
        return call(*arguments)
    compile_cache.KeptPrograms.__call__ = failing
else:
    once = fault == "failed write"
    sync = os.fsync
    def fsync(file):
        path = os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
        if path.startswith(folder + os.sep) and os.path.isfile(path) and due(once):
            raise OSError(errno.EIO if once else errno.ENOSPC, "a drill")
        return sync(file)
    os.fsync = fsync
from jaxstyle.app.cli.main import main
sys.exit(main())
"""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What to run, and how to stop it."""

    number: int
    kind: str
    end: str
    moment: float  # in [0, 1): when the signal is sent, or which call fails
    seed: int


@dataclasses.dataclass
class Run:
    """What a process printed, and how it ended."""

    code: int
    entries: list[tuple[float, dict[str, Any]]]  # seconds, and an object from stdout
    stderr: str
    ended: float | None = None  # seconds until the signal


def write_recipe(path: Path, steps: int) -> None:
    """Writes a recipe of one layer, which compiles and runs fast."""
    layers = ["relu1_1"]
    content = {"type": "Content", "name": "content", "layers": layers, "reduction": "mean"}
    style = {"type": "GramStyle", "name": "style", "layers": layers, "layer_weights": [1.0]}
    path.write_text(
        json.dumps(
            {
                "terms": [content, style],
                "weights": {"content": 1.0, "style": 1000.0},
                "solver": {"type": "LBFGS", "num_steps": steps, "history_size": 5},
            }
        )
    )


def fill(folder: Path, rng: random.Random) -> None:
    """Writes other people's files; some names resemble those that jaxstyle writes."""
    (folder / "checkpoint").mkdir()
    (folder / "out").mkdir()
    photo = (SAMPLES / "style.png").read_bytes()
    names = [
        "20240101_123456.png", "out.jpg", "out-notes.txt", "out-0003.jpg", "out-loss.txt",
        ".jaxstyle-notes.tmp", ".jaxstyle-0123456789abcdef.tmp.txt", "journal.txt",
        "checkpoint/20240102_090000.png", "checkpoint/1", "checkpoint/2/holiday.png",
        "checkpoint/checkpoint.json", "out/mine.png", "out/mine.json", "out/journal.json",
        "out/index.html", "package.json", "index.html",
    ]  # fmt: skip
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photo if path.suffix == ".png" else rng.randbytes(300))
        path.chmod(rng.choice((0o644, 0o600, 0o444)))
    (folder / "link.png").symlink_to("20240101_123456.png")


def describe(folder: Path) -> dict[str, Any]:
    """Returns content, mode and modification time of every file in a folder, by name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path)
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = digest, status.st_mode, status.st_mtime_ns
    return found


def command_of(kind: str, folder: Path) -> list[str]:
    """Returns the arguments of the program, which runs in `folder`."""
    common = ["--recipe", "recipe.json", "--progress", "json"]
    if kind == "batch":
        return ["batch", "pairs.csv", "--output-dir", "out", "--batch-size", "2", *common]
    command = ["stylize", "--content", "content.png", "--style", "style.png"]
    command += ["--output", "out.png", *common, "--coarsest", "0", "--size", "64"]
    return [*command, "--checkpoint", "checkpoint"] if kind == "checkpoint" else command


def prepare(folder: Path, trial: Trial, steps: int) -> None:
    """Writes all files that exist before the run."""
    rng = random.Random(trial.seed)  # noqa: S311
    fill(folder, rng)
    for name in ("content.png", "style.png"):
        shutil.copy(SAMPLES / name, folder / name)
    # A batch runs three compiled programs, one after the other.
    write_recipe(folder / "recipe.json", steps // 10 if trial.kind == "batch" else steps)
    rows = [f"content.png,style.png,o{number}.png,{64 + 32 * (number // 3)}" for number in range(6)]
    (folder / "pairs.csv").write_text("\n".join(["content,style,output,size", *rows, ""]))


def start(folder: Path, arguments: list[str], trial: Trial | None, at: float, calls: int) -> Run:
    """Runs the program, and stops it as the trial says."""
    program = [sys.executable, "-m", "jaxstyle"]
    if trial is not None and trial.end in FAULTS:
        number = 1 + int(trial.moment * calls)
        program = [sys.executable, "-c", FAULTY, trial.end, str(number), str(folder)]
    temporary = folder.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary), "HOME": str(folder.parent)}
    environment.setdefault("JAXSTYLE_CACHE", str(cache_dir()))
    begin = time.monotonic()
    process = subprocess.Popen(  # noqa: S603
        [*program, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in an interactive shell: a script may start background jobs with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    entries: list[tuple[float, dict[str, Any]]] = []

    def listen() -> None:
        for line in process.stdout or ():
            entries.append((time.monotonic() - begin, json.loads(line)))

    errors: list[str] = []
    threads = [
        threading.Thread(target=listen),
        threading.Thread(target=lambda: errors.append(process.stderr.read())),  # type: ignore[union-attr]
    ]
    for thread in threads:
        thread.start()
    ended = None
    try:
        if trial is not None and trial.end in SIGNALS:
            try:
                process.wait(at)
            except subprocess.TimeoutExpired:
                ended = time.monotonic() - begin
                for number in SIGNALS[trial.end]:
                    process.send_signal(number)
                    time.sleep(random.Random(trial.seed).uniform(0.01, 0.5))  # noqa: S311
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        errors.append(f"hangs: killed after {SECONDS} s")
    for thread in threads:
        thread.join()
    return Run(process.returncode, entries, "".join(errors), ended)


def is_picture(path: Path) -> bool:
    """Returns whether a picture can be read and is not of one color."""
    try:
        with Image.open(path) as image:
            return float(np.asarray(image, np.float32).std()) > 1
    except (OSError, ValueError, SyntaxError):
        return False


def check_first(trial: Trial, folder: Path, run: Run) -> list[str]:
    """Returns what is wrong after a run that was stopped."""
    wrong = []
    if "Traceback" in run.stderr and trial.end != "kill":
        wrong.append(f"a traceback: {run.stderr.strip().splitlines()[-1]}")
    if "hangs" in run.stderr:
        wrong.append(run.stderr.splitlines()[-1])
    steps = [seconds for seconds, entry in run.entries if "step" in entry]
    reported = [entry for _, entry in run.entries if entry.get("output") and "step" not in entry]
    if trial.kind == "batch":
        for entry in reported:
            path = folder / "out" / str(entry["output"])
            if "error" not in entry and "total" in entry and path.suffix and not is_picture(path):
                wrong.append(f"{entry['output']} was reported and is missing or broken")
    else:
        for entry in reported:
            if not is_picture(folder / entry["output"]):
                wrong.append(f"{entry['output']} was reported and is missing or broken")
    began = steps and (run.ended is None or steps[0] < run.ended)
    finished = any("status" in entry for entry in reported)
    # Before its handler is installed and after it is removed, SIGINT ends the process itself.
    codes = (0, CODES.get(trial.end), -signal.SIGINT if "interrupt" in trial.end else 0)
    if trial.end in CODES and run.ended is not None and began and run.code not in codes:
        wrong.append(f"exit code {run.code} after {trial.end}")
    if trial.end in FAULTS and run.code not in (0, 1):
        wrong.append(f"exit code {run.code} after {trial.end}")
    if trial.kind != "batch" and trial.end != "kill" and began and not finished:
        # If the write to the usual place failed, the last line names another.
        named = re.findall(r"'([^']+\.png)'", run.stderr)
        if not any(is_picture(folder / name) for name in ["out.png", *named]):
            wrong.append(
                f"no picture, though {len(steps)} steps were reported; {run.stderr!r:.300}"
            )
    return wrong


def check_second(trial: Trial, folder: Path, run: Run) -> list[str]:
    """Returns what is wrong after the second start."""
    wrong = []
    if run.code != 0:
        wrong.append(f"the second start ends with {run.code}: {run.stderr.strip()!r:.300}")
        return wrong
    pictures = [folder / "out.png"]
    if trial.kind == "batch":
        pictures = [folder / "out" / f"o{number}.png" for number in range(6)]
    for path in pictures:
        if not is_picture(path) or not path.with_suffix(".json").exists():
            wrong.append(f"{path.name} or its JSON is missing or broken after the second start")
            continue
        recorded = json.loads(path.with_suffix(".json").read_text()).get("sha256")
        if recorded not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
            wrong.append(f"{path.name} is not the picture of its JSON")
    left = [
        path.name for path in folder.rglob(".jaxstyle-*.tmp") if path.name != ".jaxstyle-notes.tmp"
    ]
    if left:
        wrong.append(f"temporary files are left: {left}")
    return wrong


def attempt(trial: Trial, duration: float, steps: int) -> list[str]:
    """Runs one trial; returns what is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        prepare(folder, trial, steps)
        before = describe(folder)
        arguments = command_of(trial.kind, folder)
        at = trial.moment * duration * 1.05
        first = start(folder, arguments, trial, at, calls=12)
        wrong = check_first(trial, folder, first)
        # Pairs that failed with an XLA error are only painted again with --retry-failed.
        retry = trial.kind == "batch" and trial.end == "XLA error"
        second = start(folder, [*arguments, *["--retry-failed"] * retry], None, 0, 0)
        wrong += check_second(trial, folder, second)
        after = describe(folder)
        for path, was in before.items():
            if after.get(path) != was:
                wrong.append(f"{path} was changed or removed")
        for folder_ in ("checkpoint/2", "out", "checkpoint"):
            if not (folder / folder_).is_dir():
                wrong.append(f"folder {folder_} was removed")
        return wrong


def main() -> int:
    """Runs all trials."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000, help="steps of each run")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel trials")
    parser.add_argument("--only", type=int, help="run only the trial with this number")
    arguments = parser.parse_args()

    rng = random.Random(arguments.seed)  # noqa: S311
    ends = [*SIGNALS, *FAULTS]
    trials = [
        Trial(number, KINDS[number % 3], ends[number // 3 % len(ends)], rng.random(), number)
        for number in range(arguments.trials)
    ]
    # Twice: the first run compiles.
    durations = {}
    for kind in KINDS:
        for _ in range(2):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name).resolve() / "work"
                folder.mkdir()
                prepare(folder, Trial(0, kind, "", 0, 0), arguments.steps)
                begin = time.monotonic()
                run = start(folder, command_of(kind, folder), None, 0, 0)
                durations[kind] = time.monotonic() - begin
                if run.code != 0:
                    print(f"an undisturbed run fails ({run.code}): {run.stderr}")
                    return 1
        print(f"{kind}: {durations[kind]:.1f} s undisturbed", flush=True)

    failed: collections.Counter[tuple[str, str]] = collections.Counter()
    made: collections.Counter[tuple[str, str]] = collections.Counter()
    chosen = [trial for trial in trials if arguments.only in (None, trial.number)]
    with ThreadPoolExecutor(arguments.jobs) as threads:
        results = threads.map(lambda t: (t, attempt(t, durations[t.kind], arguments.steps)), chosen)
        for trial, wrong in results:
            made[trial.kind, trial.end] += 1
            failed[trial.kind, trial.end] += bool(wrong)
            if not wrong:
                print(f"trial {trial.number} ({trial.kind}, {trial.end}): passed", flush=True)
            for each in wrong:
                print(f"trial {trial.number} ({trial.kind}, {trial.end}): {each}", flush=True)
    print(f"\n{'end':16} " + " ".join(f"{kind:>12}" for kind in KINDS))
    for end in ends:
        cells = [f"{made[kind, end] - failed[kind, end]}/{made[kind, end]}" for kind in KINDS]
        print(f"{end:16} " + " ".join(f"{cell:>12}" for cell in cells))
    print(f"{sum(made.values()) - sum(failed.values())} passed, {sum(failed.values())} failed")
    return 1 if sum(failed.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
