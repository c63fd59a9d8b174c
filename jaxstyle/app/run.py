"""One run of the program: load, stylise with progress and previews, save everything."""

import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxstyle
from jaxstyle.app import runtime
from jaxstyle.app.plot import plot_losses
from jaxstyle.io import (
    InputError,
    check_writable,
    describe_recipe,
    describe_versions,
    load_image,
    save_image,
    write_json,
)
from jaxstyle.io.weights import load_params_and_info
from jaxstyle.objective import layers_of
from jaxstyle.pyramid import Pyramid
from jaxstyle.recipes import Recipe
from jaxstyle.solvers import Status
from jaxstyle.transfer import StyleResult

SAMPLES = Path(__file__).parent / "samples"


def say(text: str) -> None:
    """Tells the user something, on stderr."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Job:
    """What `run` needs to know; paths are not checked yet."""

    content: Path
    styles: tuple[Path, ...]
    output: Path
    recipe: Recipe
    size: int
    init: str  # content, noise or a path
    seed: int
    style_weights: tuple[float, ...] | None
    params: Path | None
    precision: str  # float32, tf32 or bfloat16
    preview_every: int | None
    plot: bool
    quiet: bool

    @property
    def metadata_path(self) -> Path:
        """The JSON beside the output."""
        return self.output.with_suffix(".json")

    @property
    def plot_path(self) -> Path:
        """The loss curve beside the output."""
        return self.output.with_name(f"{self.output.stem}-loss.png")

    def preview_path(self, step: int) -> Path:
        """A preview beside the output."""
        return self.output.with_name(f"{self.output.stem}-{step:04d}{self.output.suffix}")


def run(job: Job) -> int:
    """Runs `job`; returns the exit code: 0, 1 if it failed, 130 after Ctrl-C.

    Raises:
        InputError: for anything that is wrong with the input, before the run starts.
    """
    check_writable(job.output)
    if problem := runtime.keep_compiled_programs():
        say(problem)
    seconds = dict.fromkeys(("load", "compile", "optimize", "save"), 0.0)
    with _timed(seconds, "load"):
        content, styles, init = _load_images(job)
        params, weights_info = _load_weights(job)

    if not job.quiet:
        height, width, _ = content.shape
        say(
            f"{job.content.name} at {width}x{height} px, style {_names(job.styles)}, "
            f"recipe {job.recipe.name}, on {_device()}"
        )

    trace: list[dict[str, Any]] = []
    best: StyleResult | None = None
    interrupted = False
    with (
        runtime.precision(job.precision),
        _timed(seconds, "optimize"),
        _count_compilation(seconds),
    ):
        steps = jaxstyle.stylize_steps(
            params,
            content,
            styles,
            recipe=job.recipe,
            style_weights=job.style_weights,
            init=init,
            key=jax.random.key(job.seed),
            every=_chunk(job),
        )
        try:
            for step, result in _show_progress(steps, job, trace):
                best = result
                if job.preview_every and step and step % job.preview_every == 0:
                    save_image(job.preview_path(step), np.asarray(result.image))
        except KeyboardInterrupt:
            interrupted = True
    seconds["optimize"] -= seconds["compile"]
    if best is None:
        say("interrupted before there was anything to save")
        return 130
    if best.status == Status.NON_FINITE_START:
        say("error: the loss is not finite at the start; use smaller --weights. Nothing was saved")
        return 1

    # The JSON tells how long saving the picture took, so it comes last.
    with _timed(seconds, "save"):
        save_image(job.output, np.asarray(best.image))
        if job.plot:
            plot_losses(job.plot_path, trace, job.recipe.weights, f"{job.output.name}: loss")
    status = "interrupted" if interrupted else Status(int(best.status)).name.lower()
    metadata = {
        "recipe": describe_recipe(job.recipe),
        "content": str(job.content),
        "styles": [str(path) for path in job.styles],
        "style_weights": job.style_weights,
        "init": job.init,
        "seed": job.seed,
        "weights": weights_info,
        "versions": describe_versions(),
        "device": _device(),
        "precision": job.precision,
        "size": [content.shape[1], content.shape[0]],
        "status": status,
        "num_evaluations": int(best.num_evaluations),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "loss": float(best.loss),
        "trace": trace,
    }
    write_json(job.metadata_path, metadata)
    if not job.quiet:
        say(
            f"{job.output}: loss {trace[0]['loss']:.4g} -> {float(best.loss):.4g} in "
            f"{int(best.num_evaluations)} evaluations, {seconds['optimize']:.1f} s "
            f"(+ {seconds['compile']:.1f} s compilation), {status.replace('_', ' ')}"
        )
    return 130 if interrupted else 0


def with_settings(
    recipe: Recipe, steps: int | None, coarsest: int | None, precision: str
) -> Recipe:
    """Returns `recipe` with what the command line says over it."""
    pyramid, solver, network = recipe.pyramid, recipe.solver, recipe.network
    if coarsest == 0:
        pyramid = None
    elif coarsest is not None:
        pyramid = dataclasses.replace(pyramid or Pyramid(), coarsest=coarsest)
    if steps is not None:
        solver = dataclasses.replace(solver, num_steps=steps)
        if pyramid is not None:
            fewer = tuple(min(steps, each) for each in pyramid.steps)
            pyramid = dataclasses.replace(pyramid, steps=fewer)
    if precision == "bfloat16":
        network = network.clone(dtype=jnp.bfloat16)
    return dataclasses.replace(recipe, pyramid=pyramid, solver=solver, network=network)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - begin


@contextmanager
def _count_compilation(seconds: dict[str, float]) -> Iterator[None]:
    """Adds what JAX spends on compiling to `seconds["compile"]`."""

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        # Tracing is left out: it nests, and would be counted twice.
        if event.endswith(("/backend_compile_duration", "/jaxpr_to_mlir_module_duration")):
            seconds["compile"] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _load_images(job: Job) -> tuple[np.ndarray, tuple[np.ndarray, ...], Any]:
    content = _load(job, job.content, "content", job.size)
    styles = tuple(_load(job, path, "style", job.size) for path in job.styles)
    init: Any = job.init
    if init not in ("content", "noise"):
        init = load_image(init, size=job.size)
        if init.shape != content.shape:
            raise InputError(
                f"--init {job.init} has another aspect ratio than the content: "
                f"{init.shape[1]}x{init.shape[0]} px instead of "
                f"{content.shape[1]}x{content.shape[0]}; crop it, or start from content or noise"
            )
    return content, styles, init


def _load(job: Job, path: Path, source: str, size: int) -> np.ndarray:
    image = load_image(path, size=size)
    layers = layers_of(term for term in job.recipe.terms if term.target_image == source)
    # The image that is optimised has the content's size, and passes all layers.
    layers = layers_of(job.recipe.terms) if source == "content" else layers
    minimum = job.recipe.network.minimum_size(layers)
    if min(image.shape[:2]) < minimum:
        raise InputError(
            f"{source} {path} is {image.shape[1]}x{image.shape[0]} px at --size {size}; recipe "
            f"{job.recipe.name} needs at least {minimum} px on the short edge: use a larger --size "
            "or a less narrow image"
        )
    return image


def _load_weights(job: Job) -> tuple[Any, dict[str, Any]]:
    preprocessing = job.recipe.network.preprocessing
    params, info = load_params_and_info(job.params, preprocessing=preprocessing)
    return params, {"source": info.source, "sha256": info.sha256}


def _chunk(job: Job) -> int:
    """Steps between two looks at the result: one where a step takes long anyway."""
    every = 1 if jax.default_backend() == "cpu" else 10
    return math.gcd(every, job.preview_every or every)


def _show_progress(
    steps: Iterator[tuple[int, StyleResult]], job: Job, trace: list[dict[str, Any]]
) -> Iterator[tuple[int, StyleResult]]:
    """Passes `steps` on, notes each in `trace`, and draws a bar where there is a terminal."""
    from rich.console import Console  # noqa: PLC0415  slow to import
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    begin = time.perf_counter()
    columns = (
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, disable=job.quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None, loss="...")
        for step, result in steps:
            total = result.trace.shape[-1]
            loss = float(result.loss)
            trace.append(
                {
                    "step": step,
                    "evaluations": int(result.num_evaluations),
                    "seconds": round(time.perf_counter() - begin, 3),
                    "loss": loss,
                    "terms": {name: float(value) for name, value in result.term_losses.items()},
                }
            )
            bar.update(task, total=total, completed=step, loss=f"{loss:.4g}")
            if not (job.quiet or console.is_terminal) and step % max(total // 10, 1) == 0:
                say(f"step {step}/{total}  loss {loss:.4g}  {trace[-1]['seconds']:.0f} s")
            yield step, result


def _device() -> str:
    device = jax.devices()[0]
    return f"{device.platform} ({device.device_kind})"


def _names(paths: Sequence[Path]) -> str:
    return " + ".join(path.name for path in paths)


def parse_weights(texts: Sequence[str], recipe: Recipe) -> Mapping[str, float]:
    """Parses `NAME=VALUE` texts into weights over those of `recipe`.

    Raises:
        InputError: for anything else, an unknown name, or a number that is negative or not finite.
    """
    weights = dict(recipe.weights)
    for text in texts:
        name, _, value = text.partition("=")
        if name not in weights:
            raise InputError(
                f"--weights {text}: the terms of recipe {recipe.name} are "
                f"{', '.join(weights)}; write NAME=VALUE"
            )
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = math.nan
        if not 0 <= weights[name] < math.inf:
            raise InputError(f"--weights {text}: write NAME=VALUE, with a number of at least 0")
    return weights
