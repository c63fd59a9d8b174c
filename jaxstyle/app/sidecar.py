"""The JSON next to a picture, and the facts that it records."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxstyle import StyleResult
from jaxstyle.app.compile_cache import AHEAD, LOADED, WAITED
from jaxstyle.app.job import Job
from jaxstyle.io import InputError, describe_recipe, describe_versions
from jaxstyle.io.files import sha256_of
from jaxstyle.io.fingerprint import fingerprint
from jaxstyle.io.locations import URL, Location
from jaxstyle.solvers import Status

STDIN = "-"
"""The path of a picture that came from stdin."""
SECONDS = ("load", "compile", "optimize", "save")
"""The parts that the seconds of a run are split into."""


def describe_picture(
    job: Job,
    result: StyleResult,
    shape: Sequence[int],
    weights_info: Mapping[str, Any],
    seconds: Mapping[str, float],
    trace: Sequence[Mapping[str, Any]],
    *,
    tile: int | None,
    mesh: Mesh | None,
    files: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the content of the JSON next to a picture of `shape` `(H, W, 3)`.

    The picture can be painted again from it in any folder, see `jaxstyle.app.repeat`. `files` is
    what `describe_files` returned before the run, since files may have changed meanwhile.
    """
    return {
        "output": job.output.name,
        "recipe": describe_recipe(job.recipe),
        "command": job.command or None,
        "content": text_of(job.content, job) if job.content else None,
        "styles": [text_of(path, job) for path in job.styles],
        "style_weights": job.style_weights,
        "style_scale": job.style_scale,
        "masks": [text_of(path, job) for path in job.masks],
        "style_masks": [text_of(path, job) for path in job.style_masks],
        "init": job.init if job.init_picture is None else text_of(job.init_picture, job),
        "seed": job.seed,
        "weights": weights_info,
        "files": describe_files(job) if files is None else files,
        "working_directory": _working_directory(),
        "versions": describe_versions(),
        "device": device_name(),
        "precision": job.precision,
        "multiple_of": job.multiple_of,
        "bits": job.bits,
        "tile": tile,
        "shard": job.shard,
        "devices": 1 if mesh is None else mesh.size,
        "size": [shape[1], shape[0]],
        "status": Status(int(result.status)).name.lower(),
        "num_evaluations": int(result.num_evaluations),
        "seconds": round_seconds(seconds),
        "loss": float(result.loss),
        "solver_loss": float(result.solver_loss),
        "trace": trace,
    }


def text_of(path: Location, job: Job) -> str:
    """Returns a path for the JSON; `-` for the temporary file of what stdin held."""
    return STDIN if path == job.stdin else str(path)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # the folder was removed
        return None


def describe_files(job: Job) -> dict[str, Any]:
    """Returns path and hash of each file that `job` reads, by its role."""

    def describe(path: Location) -> dict[str, Any]:
        place = STDIN if path == job.stdin else str(path)
        if path != job.stdin and not isinstance(path, URL):
            place = os.path.abspath(path)
        return {"path": place, "sha256": hash_or_none(path)}

    single = {"content": job.content, "init": job.init_picture, "params": job.params}
    several = {"styles": job.styles, "masks": job.masks, "style_masks": job.style_masks}
    return {
        **{name: None if path is None else describe(path) for name, path in single.items()},
        **{name: [describe(path) for path in paths] for name, paths in several.items()},
    }


def without_folders(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `describe_picture` returned, with names of files in the place of paths."""

    def strip(value: Any) -> Any:
        if isinstance(value, list):
            return [strip(each) for each in value]
        if isinstance(value, Mapping):
            return {**value, "path": Path(value["path"]).name}
        return None if value is None else Path(value).name

    names = ("content", "styles", "masks", "style_masks")
    stripped = {name: strip(metadata[name]) for name in names}
    files = {name: strip(value) for name, value in metadata["files"].items()}
    return {**metadata, **stripped, "files": files, "working_directory": None}


def describe_losses(result: StyleResult, step: int) -> dict[str, Any]:
    """Returns loss and terms after a step, 0 for the start, as in the JSON."""
    if step == 0:
        loss, terms = result.loss, result.term_losses
    else:
        loss = result.trace[step - 1]
        terms = {name: trace[step - 1] for name, trace in result.term_traces.items()}
    return {"loss": float(loss), "terms": {name: float(value) for name, value in terms.items()}}


def round_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Returns timings as in the JSON."""
    return {name: round(value, 3) for name, value in seconds.items()}


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the duration of the block to `seconds[name]`."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - begin


@contextmanager
def count_compilation(seconds: dict[str, float]) -> Iterator[None]:
    """Adds the time in which programs are compiled and loaded to `seconds["compile"]`.

    What is compiled while the run goes on does not count, unless the run waits for it.
    """

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        # Tracing is not counted: its events nest and would be counted twice.
        compiled = event.endswith(("/backend_compile_duration", "/jaxpr_to_mlir_module_duration"))
        ahead = threading.current_thread().name == AHEAD
        if (compiled or event in (LOADED, WAITED)) and not ahead:
            seconds["compile"] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def hash_or_none(path: Location) -> str | None:
    """Returns the hash of a file; None if it cannot be read, so that the JSON is still written.

    An unchanged file of this machine is read once, not for each picture of a batch.
    """
    try:
        return sha256_of(path) if isinstance(path, URL) else str(fingerprint(path)["sha256"])
    except (InputError, OSError):
        return None


def device_name() -> str:
    """Returns the name of the device, for messages and JSON."""
    device = jax.devices()[0]
    return f"{device.platform} ({device.device_kind})"
