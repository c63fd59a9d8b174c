"""What all benchmarks share: options, timing in turns, the objective, tables and plots."""

import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

import jaxstyle
from jaxstyle.app.outputs import check_replaceable
from jaxstyle.io import SAMPLES, InputError, write_json
from jaxstyle.io.files import describe_error
from jaxstyle.io.ownership import GENERATOR

mpl.use("Agg")
import matplotlib.pyplot as plt

sys.path.append(str(Path(__file__).parent.parent))
from yardstick.tables import print_table

Timings = dict[str, list[float]]
PROGRAM = str(Path(__file__).parent)  # `python PROGRAM COMMAND` starts another benchmark


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of every command."""

    content: Path = SAMPLES / "content.png"
    """The photo."""
    style: Path = SAMPLES / "style.png"
    """The painting."""
    out: Path = Path("out/benchmark")
    """Folder for the results."""
    repeats: int = 15
    """Number of timings of each alternative."""
    pause: float = 0.3
    """Seconds between two timings, so that the threads of the other program go to sleep."""


def load(options: Options, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Content and style, with a long edge of `size` px."""
    return tuple(  # type: ignore[return-value]
        jaxstyle.io.load_image(path, size=size) for path in (options.content, options.style)
    )


def alternate(functions: Mapping[str, Callable[[], Any]], options: Options) -> Timings:
    """Times each function `repeats` times, in turns, after two calls to warm up."""
    for function in functions.values():
        for _ in range(2):
            jax.block_until_ready(function())
    times: Timings = {name: [] for name in functions}
    order = list(functions)
    for _ in range(options.repeats):
        for name in order:
            time.sleep(options.pause)
            begin = time.perf_counter()
            jax.block_until_ready(functions[name]())
            times[name].append(time.perf_counter() - begin)
        order.reverse()
    return times


def compare(seconds: Sequence[float], reference: Sequence[float], label: str) -> dict[str, Any]:
    """The part of a row that compares timings with those of the reference, made side by side."""
    ratios = np.asarray(seconds) / np.asarray(reference)
    low, median, high = np.percentile(ratios, (25, 50, 75))
    return {f"/ {label}": float(median), "quartiles": f"{low:.3f} - {high:.3f}"}


def objective(recipe: jaxstyle.Recipe, tile: int | None = None) -> Callable[..., Any]:
    """The objective of `recipe`: (image, params, targets, weights) -> (value, per_term)."""

    def value(image: Any, params: Any, targets: Any, weights: Any) -> Any:
        return jaxstyle.evaluate(
            recipe.network, params, recipe.terms, targets, weights, image, tile=tile
        )

    return value


def problem(
    recipe: jaxstyle.Recipe, content: Any, style: Any, params: Any, tile: int | None = None
) -> tuple[Any, Any]:
    """The jitted loss and gradient of `recipe`, and its arguments after the image."""
    targets = jax.jit(
        lambda params, content, style: jaxstyle.prepare_targets(
            recipe.network, params, recipe.terms, content, style, tile=tile
        )
    )(params, content, style)
    weights = {name: jnp.asarray(weight) for name, weight in recipe.weights.items()}
    value_and_grad = jax.value_and_grad(objective(recipe, tile), has_aux=True)
    return jax.jit(value_and_grad), (params, targets, weights)


def machine() -> dict[str, Any]:
    """The CPU, the devices and the versions."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
        vector = next((x for x in lines if x.startswith("flags")), "")
        model += ", AVX-512" if "avx512f" in vector else ", AVX2" if "avx2" in vector else ""
    can_count = hasattr(os, "sched_getaffinity")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if can_count else os.cpu_count(),
        "devices": [f"{device} {device.device_kind}" for device in jax.devices()],
        "versions": jaxstyle.io.describe_versions(),
    }


def check_outputs(command: str, options: Options) -> None:
    """Checks before a command measures that its folder is there, and that it replaces no file.

    Raises:
        InputError: if there can be no such folder, or it would replace a file of somebody else.
    """
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {options.out}: {describe_error(error)}; name another folder"
        ) from None
    ours = f"{command}-{options.content.stem}"  # of the one that has a file for each photo
    for name in (f"{command}.json", f"{command}.png", f"{ours}.json", f"{ours}-a.png",
                 f"{ours}-b.png"):  # fmt: skip
        check_replaceable(options.out / name, "name another folder")


def report(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    options: Options,
    *,
    title: str | None = None,
    **more: Any,
) -> None:
    """Prints `rows` as a table and writes them, with the machine, to OUT/NAME.json."""
    content = {"command": sys.argv, "machine": machine(), "rows": rows, **more}
    print_table(title or f"{name} on {content['machine']['cpu']}", rows)
    # JSON has neither NumPy's numbers nor NaN.
    plain = json.loads(json.dumps(content, default=float), parse_constant=lambda _: None)
    write_json(options.out / f"{name}.json", plain)


def plot(
    name: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    labels: tuple[str, str],
    options: Options,
    *,
    log: bool = False,
) -> None:
    """Draws curves, each `(x, y)`, to OUT/NAME.png."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for label, (x, y) in curves.items():
        axes.plot(x, y, label=label, marker="o" if len(x) < 12 else None)
    axes.set(xlabel=labels[0], ylabel=labels[1], yscale="log" if log else "linear")
    axes.legend()
    figure.savefig(options.out / f"{name}.png", dpi=120, metadata={"Software": GENERATOR})
    plt.close(figure)
