"""Time and memory of large pictures."""

import json
import resource
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
from common import PROGRAM, Options, plot, report
from windows import compile_problem, load_exactly

import jaxstyle
from jaxstyle import recipes


def large(
    options: Options,
    sizes: tuple[str, ...] = ("512x512", "1024x1024", "2048x2048", "4096x4096"),
    tile: int = 1024,
    whole: int = 2048,
    recipe: str = "default",
) -> None:
    """One loss and gradient of large pictures, each in its own process: seconds and peak memory.

    A size up to `whole` px is computed as a whole, and one above `tile` px in windows of `tile`
    px; a size between the two is computed both ways.
    """
    rows: list[dict[str, Any]] = []
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for size in sizes:
        edge = max(map(int, size.split("x")))
        ways = [None] * (edge <= whole) + [tile] * (edge > tile)
        for way in ways:
            output = subprocess.run(  # noqa: S603
                [sys.executable, PROGRAM, "one", "--size", size, "--recipe", recipe,
                 "--content", str(options.content), "--style", str(options.style),
                 *(["--tile", str(way)] if way else [])],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            measured = json.loads(output.splitlines()[-1])
            rows.append(
                {"size": size, "windows of": way or "whole", "megapixels": measured["megapixels"],
                 "seconds": measured["seconds"],
                 "seconds per megapixel": measured["seconds"] / measured["megapixels"],
                 "scratch GB": measured["scratch"] / 1e9, "peak GB": measured["peak"] / 1e9}
            )  # fmt: skip
            print(*rows[-1].values(), file=sys.stderr, flush=True)
            x, y = curves.setdefault(f"windows of {way} px" if way else "whole", ([], []))
            x.append(measured["megapixels"])
            y.append(measured["peak"] / 1e9)
    report("large", rows, options, recipe=recipe)
    plot("large", curves, ("megapixels", "peak memory of the process, GB"), options)


def one(
    options: Options, size: str = "512x512", tile: int | None = None, recipe: str = "default"
) -> None:
    """One loss and gradient in this process, as JSON; `large` starts it."""
    params = jaxstyle.io.load_params()
    function, arguments = compile_problem(
        recipes.RECIPES[recipe], params, load_exactly(options, size), tile
    )
    megapixels = float(np.prod(arguments[0].shape[:2])) / 1e6
    seconds = []
    # The first call takes about twice as long, since the system first has to provide the memory.
    for _ in range(2 if megapixels < 20 else 1):
        begin = time.perf_counter()
        (value, _), _ = jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - begin)
    measured = {
        "megapixels": megapixels,
        "first": seconds[0],
        "seconds": seconds[-1],
        "scratch": function.memory_analysis().temp_size_in_bytes,
        "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "value": float(value),
    }
    print(json.dumps(measured))
