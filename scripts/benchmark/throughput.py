"""Many pairs: one batch against one program for each pair."""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Options, Timings, report

from jaxstyle.io import SAMPLES

Pair = tuple[Path, Path]


def throughput(
    options: Options,
    contents: tuple[Path, ...] = (SAMPLES / "content.png",),
    styles: tuple[Path, ...] = (SAMPLES / "style.png",),
    size: int = 128,
    steps: int = 100,
    pairs: int = 64,
    loop: int = 8,
    peer: bool = True,
    warm: bool = True,
) -> None:
    """`jaxstyle batch` of many pairs, against a shell loop that starts a program for each.

    All programs make `steps` steps of pastiche's objective. The shell loop runs only the first
    `loop` pairs, since all pairs take the same time. A run beforehand compiles, and is not timed;
    `--no-warm` leaves it out, where an earlier benchmark has filled the cache.
    """
    chosen = list(itertools.islice(itertools.cycle(itertools.product(contents, styles)), pairs))
    with tempfile.TemporaryDirectory() as name:
        batched, programs = _programs(Path(name), chosen, size, steps, peer)
        if warm:
            _run_in_turns(programs, range(min(loop, len(set(chosen)))))
            batched()
        seconds = _run_in_turns(programs, range(loop // 2))
        begin = time.perf_counter()
        batched()
        ours = time.perf_counter() - begin
        for program, times in _run_in_turns(programs, range(loop // 2, loop)).items():
            seconds[program] += times
    rows = [{"program": "jaxstyle batch", "pairs": pairs, "seconds per pair": ours / pairs,
             "all": ours, "ratio": 1.0}]  # fmt: skip
    for program, times in seconds.items():
        each = float(np.mean(times))
        rows.append({"program": program, "pairs": loop, "seconds per pair": each,
                     "all": each * pairs, "ratio": each * pairs / ours})  # fmt: skip
    report("throughput", rows, options, size=size, steps=steps, seconds=seconds)


def _programs(
    folder: Path, pairs: Sequence[Pair], size: int, steps: int, peer: bool
) -> tuple[Callable[[], None], dict[str, Callable[[int], None]]]:
    """Returns a function that runs the batch, and one per program that runs a single pair."""
    python = Path(sys.executable)
    settings = ["--recipe", "pastiche", "--coarsest", "0", "--size", str(size), "--steps",
                str(steps), "--quiet"]  # fmt: skip
    lines = [f"{c.resolve()},{s.resolve()},{i}.png" for i, (c, s) in enumerate(pairs)]
    (folder / "pairs.csv").write_text("\n".join(["content,style,output", *lines]) + "\n")

    def run(*command: Any) -> None:
        subprocess.run(list(map(str, command)), check=True, capture_output=True)  # noqa: S603

    def batched() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            run(python, "-m", "jaxstyle", "batch", folder / "pairs.csv", "--output-dir",
                output, *settings)  # fmt: skip

    def single(i: int) -> None:
        run(python, "-m", "jaxstyle", "stylize", "--content", pairs[i][0], "--style",
            pairs[i][1], "--output", folder / "a.png", *settings)  # fmt: skip

    def pastiche(i: int) -> None:
        run(python.parent / "pastiche", "--size", size, "--num-steps", steps, "-c",
            pairs[i][0], "-s", pairs[i][1], "-o", folder / "b.png")  # fmt: skip

    programs: dict[str, Callable[[int], None]] = {"jaxstyle stylize": single}
    if peer:
        programs["pastiche"] = pastiche
    return batched, programs


def _run_in_turns(programs: Mapping[str, Callable[[int], None]], numbers: Sequence[int]) -> Timings:
    seconds: Timings = {name: [] for name in programs}
    for number in numbers:
        for name, program in programs.items():
            begin = time.perf_counter()
            program(number)
            seconds[name].append(time.perf_counter() - begin)
    return seconds
