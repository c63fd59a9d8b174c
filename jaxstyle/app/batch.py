"""Many pairs: checked and planned whole, painted some at a time, journaled one by one.

Pairs of one recipe and one working size share a compiled program. Which pairs are painted
together does not depend on what is painted already, so a run that was killed and started again
paints the same batches, and saves what is missing.
"""

import dataclasses
import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np
from jax.sharding import Mesh

import jaxstyle
from jaxstyle.app import gallery, report, runtime
from jaxstyle.app.job import say
from jaxstyle.app.memory import available_memory
from jaxstyle.app.pairs import (
    Batch,
    Lane,
    Pair,
    default_batch_size,
    load_lane,
    make_batches,
    pictures_of,
    shape_of,
    stack_shares,
)
from jaxstyle.app.progress import show_progress, tell_program, time_left, work_of_steps
from jaxstyle.app.run import count_compilation, describe_losses, describe_run, timed
from jaxstyle.io import (
    InputError,
    save_image,
    write_json,
)
from jaxstyle.io.files import check_target, describe_error
from jaxstyle.io.journal import Journal
from jaxstyle.io.weights import load_params_and_info
from jaxstyle.solvers import Status

_THREADS = 4  # that read and write pictures
_CPU_CHUNK = 2**20  # pixels of all lanes times steps, between two looks at whether to stop


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run of many pairs needs to know, besides the pairs."""

    output_dir: Path
    batch_size: int | None = None
    devices: int | None = None
    memory: float | None = None
    process: int = 0
    processes: int = 1
    force: bool = False
    retry_failed: bool = False
    report: Path | None = None  # a folder
    command: str = ""  # that goes on
    progress: str = "auto"  # plain, json
    quiet: bool = False


def run_batch(pairs: Sequence[Pair], options: Options) -> int:
    """Paints what is missing; returns the exit code: 0, 1 if a pair failed, 130 or 143.

    Raises:
        InputError: before anything is painted: a folder that cannot be written or is in use, or
            results that were made with other settings or weights.
    """
    folder = options.output_dir
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make --output-dir {folder}: {error.strerror}") from None
    if options.report is not None:
        report.check_folder(options.report)
    call = runtime.keep_compiled_programs()
    name = "journal"
    if options.processes > 1:
        name += f"-{options.process}-of-{options.processes}"
    lock = filelock.FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(f"--output-dir {folder} is in use by another run; wait for it") from None
    except OSError as error:
        raise InputError(f"--output-dir {folder} may not be written: {error.strerror}") from None
    try:
        return _Runner(pairs, options, name, call).run()
    finally:
        lock.release()


class _Runner:
    def __init__(
        self, pairs: Sequence[Pair], options: Options, name: str, call: Callable[..., Any]
    ) -> None:
        self.options = options
        self.call = call  # of compiled programs
        self.signal: int | None = None  # that asked us to stop
        self.trouble: str | None = None  # that ends the run: a full disk
        self.painted = self.failed = self.total = 0  # of the pairs that this process has to paint
        self.begin = time.perf_counter()
        self.show: Callable[..., None]
        self.limits: dict[Any, int] = {}  # lanes that fit, where memory has run out
        self.mesh = self._mesh()
        self.params: dict[str, tuple[Any, dict[str, Any]]] = {}
        for preprocessing in {pair.job.recipe.network.preprocessing for pair in pairs}:
            params, info = load_params_and_info(pairs[0].job.params, preprocessing=preprocessing)
            self.params[preprocessing] = params, {"source": info.source, "sha256": info.sha256}
        header = {"journal": 1, "version": jaxstyle.__version__}
        self.open_journal = functools.partial(Journal, options.output_dir, f"{name}.jsonl", header)
        self.journal = self.open_journal()
        self.writing = threading.Lock()
        self._refuse_changes(pairs)
        self.pairs = pairs
        self.missing = {pair.row.output for pair in pairs if self._is_missing(pair)}

    def _mesh(self) -> Mesh | None:
        devices = runtime.take_devices(jax.local_devices(), self.options.devices)
        return None if len(devices) == 1 else jaxstyle.make_mesh(devices=devices)

    def _refuse_changes(self, pairs: Sequence[Pair]) -> None:
        if self.options.force:
            return
        for key, what in (("digest", "settings"), ("weights", "pretrained weights")):
            changed = [
                pair.row.output
                for pair in pairs
                if (entry := self._entry(pair)) and entry.get(key) != self._origin(pair)[key]
            ]
            if changed:
                raise InputError(
                    f"{len(changed)} pictures in {self.options.output_dir}, such as {changed[0]}, "
                    f"were made with other {what}; --force paints them again, or take another "
                    "--output-dir"
                )

    def _origin(self, pair: Pair) -> dict[str, str]:
        """What a picture was made of, as its entry in the journal tells."""
        _, info = self.params[pair.job.recipe.network.preprocessing]
        return {"digest": pair.digest, "weights": info["sha256"]}

    def _entry(self, pair: Pair) -> Mapping[str, Any]:
        return self.journal.entries.get(pair.row.output, {})

    def _is_missing(self, pair: Pair) -> bool:
        entry = self._entry(pair)
        if any(entry.get(key) != value for key, value in self._origin(pair).items()):
            return True
        if "error" in entry:
            return self.options.retry_failed
        return not pair.job.output.is_file()

    def run(self) -> int:
        """Paints batch after batch, while others are read and written."""
        known = len(self.pairs) - len(self.missing)
        say_or_not = (lambda text: None) if self.options.quiet else say
        say_or_not(
            f"{len(self.pairs)} pairs, {known} of them in the journal, on "
            f"{1 if self.mesh is None else self.mesh.size} device(s)"
        )
        with (
            ThreadPoolExecutor(_THREADS) as threads,
            # After the steps that are being made; a second one stops at once.
            runtime.on_signal(self._stop, signal.SIGINT, signal.SIGTERM),
            show_progress(self.options.progress, self.options.quiet, "pairs") as self.show,
        ):
            batches = self._plan(threads)
            loaded: Future[Any] | None = None
            saving: list[Future[None]] = []
            for number, batch in enumerate(batches):
                loading = loaded or threads.submit(self._load, batch)
                following = batches[number + 1 : number + 2]
                lanes = loading.result()
                loaded = threads.submit(self._load, following[0]) if following else None
                for future in saving:  # not more than one batch is waiting to be written
                    future.result()
                saving = []
                for pair, result, seconds in self._paint(batch, lanes):
                    saving.append(threads.submit(self._save, pair, result, seconds))
                if self.signal is not None or self.trouble is not None:
                    break
            for future in saving:
                future.result()
        failures = sum("error" in self._entry(pair) for pair in self.pairs)
        taken = time.perf_counter() - self.begin
        say_or_not(
            f"{self.painted} painted in {taken:.0f} s ({self.painted / taken:.2f} a second), "
            f"{failures} failed{', see the journal' if failures else ''}"
        )
        status, code = "done", 1 if failures else 0
        if self.trouble is not None:
            say(f"error: stopped: {self.trouble}; start again to go on")
            status, code = f"stopped: {self.trouble}", 1
        elif self.signal is not None:
            say("interrupted; start again to go on")
            status, code = "interrupted", 128 + self.signal
        page = self.options.report
        if page is not None:
            try:
                self._report(page, status)
            except InputError as error:
                say(f"error: there is no report: {error}")
                code = code or 1
        tell_program(
            self.options.progress,
            {
                "output": str(self.options.output_dir),
                "report": str(report.page_path(page)) if page else None,
                "status": status,
                "painted": self.painted,
                "failed": failures,
                "total": len(self.pairs),
                "seconds": round(taken, 3),
            },
        )
        return code

    def _stop(self, number: int) -> None:
        self.signal = number

    def _report(self, folder: Path, status: str) -> None:
        """Writes the page; other processes may have gone on with the same pairs."""
        body = gallery.describe_batch(
            folder,
            self.options.output_dir,
            self.pairs,
            self.open_journal().entries,
            status=status,
            command=self.options.command,
        )
        report.write_page(folder, f"{len(self.pairs)} pairs", body)

    def _advance(self, entry: Mapping[str, Any]) -> None:
        """Tells of a pair that is in the journal now."""
        seconds = time.perf_counter() - self.begin
        self._show_progress()
        told = {key: value for key, value in entry.items() if key not in ("digest", "weights")}
        counts = {"painted": self.painted, "failed": self.failed, "total": self.total}
        tell_program(self.options.progress, {**told, **counts, "elapsed": round(seconds, 3)})

    def _show_progress(self, begun: float = 0.0) -> None:
        """Shows what is done; `begun` are pairs, as far as they are painted."""
        number, seconds = self.painted + self.failed, time.perf_counter() - self.begin
        done = number + begun
        text = ""
        if done:
            left = time_left(seconds / done * max(self.total - done, 0))
            text = f"{left}, {self.failed} failed, {done / seconds:.3g} pairs/s"
        self.show(number, self.total, text, begun)

    def _plan(self, threads: ThreadPoolExecutor) -> list[Batch]:
        """Returns the batches of this process in which a pair is missing."""
        # Of each process, whatever sizes of batches its machine is good for.
        mine = self.pairs[self.options.process :: self.options.processes]
        pictures = {picture for pair in mine for picture in pictures_of(pair)}
        shapes = {picture: threads.submit(shape_of, *picture) for picture in pictures}
        good: list[tuple[Pair, list[tuple[int, int]]]] = []
        bad: list[tuple[Pair, InputError]] = []
        for pair in mine:
            try:
                good.append((pair, [shapes[each].result() for each in pictures_of(pair)]))
            except InputError as error:
                bad.append((pair, error))
        budget = available_memory() if self.options.memory is None else self.options.memory
        devices = 1 if self.mesh is None else self.mesh.size

        def batch_size(pair: Pair, shape: tuple[int, int]) -> int:
            own = default_batch_size(pair.job.recipe, *shape, budget) * devices
            return self.options.batch_size or own

        batches = make_batches(good, batch_size)
        self.total = sum(pair.row.output in self.missing for pair in mine)
        self.show(0, self.total, "")
        for pair, problem in bad:
            self._fail(pair, problem)
        return [
            batch
            for batch in batches
            if any(pair.row.output in self.missing for pair in batch.pairs)
        ]

    def _fail(self, pair: Pair, error: object) -> None:
        """Notes that a pair has failed, if it is one of those to be painted."""
        if pair.row.output not in self.missing:
            return
        message = str(error)
        say(f"line {pair.row.line}: {pair.row.output}: {message}")
        entry = {"output": pair.row.output, **self._origin(pair), "error": message}
        try:
            with self.writing:
                self.journal.add(entry)
                self.failed += 1
                self._advance(entry)
        except InputError as trouble:
            self.trouble = str(trouble)

    def _load(self, batch: Batch) -> list[Lane | None]:
        """Reads the pictures of a batch; None for a pair that fails."""
        lanes: list[Lane | None] = []
        for pair in batch.pairs:
            try:
                lanes.append(load_lane(pair, batch))
            except InputError as error:
                self._fail(pair, error)
                lanes.append(None)
        return lanes

    def _paint(
        self, batch: Batch, lanes: Sequence[Lane | None]
    ) -> Iterator[tuple[Pair, Any, dict[str, float]]]:
        """Yields what is missing of a batch: pair, result with `image`, and seconds."""
        whole = next((lane for lane in lanes if lane is not None), None)
        if whole is None:
            return
        # A lane that failed, or that is left over, repeats another: all lanes are independent.
        filled = [lane or whole for lane in lanes]
        size = min(batch.size, self.limits.get(batch.shape, batch.size))
        start = 0
        while start < len(batch.pairs):
            part = slice(start, start + size)
            chosen, chosen_lanes = batch.pairs[part], filled[part]
            if not any(pair.row.output in self.missing for pair in chosen):
                start += size
                continue
            short = size - len(chosen)
            seconds = dict.fromkeys(("load", "compile", "optimize", "save"), 0.0)
            try:
                with timed(seconds, "optimize"), count_compilation(seconds):
                    results = self._run(
                        [*chosen, *chosen[-1:] * short], [*chosen_lanes, *chosen_lanes[-1:] * short]
                    )
            except (RuntimeError, MemoryError) as error:
                if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                if size == 1:
                    self._fail(batch.pairs[start], "out of memory; use a smaller size")
                    start += 1
                    continue
                size //= 2
                self.limits[batch.shape] = size
                say(f"out of memory: going on with {size} pairs at a time")
                continue
            except ValueError as error:  # the library refuses their settings
                for pair, lane in zip(chosen, lanes[part], strict=True):
                    if lane is not None:
                        self._fail(pair, describe_error(error))
                start += size
                continue
            if results is None:
                return
            seconds["optimize"] -= seconds["compile"]
            each = {name: value / len(chosen) for name, value in seconds.items()}
            for offset, pair in enumerate(chosen):
                index = start + offset
                if lanes[index] is not None and pair.row.output in self.missing:
                    result = jax.tree.map(lambda leaf, i=offset: leaf[i], results)
                    height, width = filled[index].shape
                    yield pair, result._replace(image=result.image[:height, :width]), each
            start += size

    def _run(self, pairs: Sequence[Pair], lanes: Sequence[Lane]) -> Any:
        """Runs one program on so many lanes; None if it was asked to stop."""
        job = pairs[0].job
        recipe = job.recipe
        params, _ = self.params[recipe.network.preprocessing]
        contents = np.stack([lane.content for lane in lanes])
        styles = tuple(
            np.stack(each) for each in zip(*(lane.styles for lane in lanes), strict=True)
        )
        masks = None
        if lanes[0].masks is not None:
            masks = np.stack([lane.masks for lane in lanes if lane.masks is not None])
        steps = jaxstyle.stylize_batch_steps(
            params,
            contents,
            styles,
            recipe=recipe,
            weights={
                name: np.array([pair.job.recipe.weights[name] for pair in pairs], np.float32)
                for name in recipe.weights
            },
            style_weights=stack_shares([pair.job for pair in pairs]),
            masks=masks,
            init=job.init,
            key=jax.vmap(jax.random.key)(np.array([pair.job.seed for pair in pairs], np.uint32)),
            mesh=self.mesh,
            every=runtime.steps_at_once(math.prod(contents.shape[:3]), cpu=_CPU_CHUNK, other=25),
            call=self.call,
        )
        here = len({pair.row.output for pair in pairs} & self.missing)
        result = None
        with runtime.precision(job.precision):
            for step, best in steps:
                if self.signal is not None or self.trouble is not None:
                    return None
                result = best
                work = work_of_steps(recipe, best.trace.shape[-1], contents.shape[1:])
                self._show_progress(here * sum(work[:step]) / sum(work))
        return jax.device_get(result)

    def _save(self, pair: Pair, result: Any, seconds: dict[str, float]) -> None:
        """Writes picture and JSON, and then the journal."""
        if self.trouble is not None:
            return
        status = Status(int(result.status))
        if status == Status.NON_FINITE_START or not np.isfinite(result.image).all():
            self._fail(pair, "the loss is not finite at the start; use smaller weights")
            return
        _, info = self.params[pair.job.recipe.network.preprocessing]
        trace = [
            {"step": step, **describe_losses(result, step)}
            for step in range(1, len(result.trace) + 1)
        ]
        try:
            pair.job.output.parent.mkdir(parents=True, exist_ok=True)
            for path in (pair.job.output, pair.job.metadata_path):
                check_target(path)
        except (InputError, OSError) as error:  # of this pair; a full disk is found out below
            self._fail(pair, error)
            return
        try:
            with timed(own := {**seconds}, "save"):
                save_image(pair.job.output, result.image)
            shape = result.image.shape
            metadata = describe_run(
                pair.job, result, shape, info, own, trace, tile=None, mesh=self.mesh
            )
            write_json(pair.job.metadata_path, metadata)
            entry = {
                "output": pair.row.output,
                **self._origin(pair),
                "status": status.name.lower(),
                "loss": float(result.loss),
                "seconds": round(sum(own.values()), 3),
            }
            with self.writing:
                self.journal.add(entry)
                self.painted += 1
                self._advance(entry)
        except (InputError, OSError) as error:
            self.trouble = str(error)
