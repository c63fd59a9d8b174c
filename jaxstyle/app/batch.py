"""Many pairs: checked and planned whole, painted some at a time, journaled one by one.

Pairs of one recipe and one working size share a compiled program. Which pairs are painted
together does not depend on what is painted already, so a run that was killed and started again
paints the same batches, and saves what is missing.
"""

import contextlib
import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import jaxstyle
from jaxstyle.app import outputs, resume, runtime
from jaxstyle.app.interrupts import Interrupts, leave
from jaxstyle.app.job import say
from jaxstyle.app.memory import available_memory
from jaxstyle.app.pages import batch_page
from jaxstyle.app.pages.html import check_folder, page_path, write_page
from jaxstyle.app.painting import DeviceError, Painted, Painter
from jaxstyle.app.pairs import (
    Batch,
    Lane,
    Pair,
    default_batch_size,
    load_lane,
    make_batches,
    pictures_of,
    shape_of,
)
from jaxstyle.app.progress import show_progress, tell_program, time_left
from jaxstyle.app.sidecar import describe_losses, describe_run, timed
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import InputError, write_atomically, write_json
from jaxstyle.io.files import check_target
from jaxstyle.io.fingerprint import fingerprint
from jaxstyle.io.image_writer import encode_image
from jaxstyle.io.journal import Journal, journal_path
from jaxstyle.io.network_weights.load import load_params_and_info
from jaxstyle.solvers import Status

_THREADS = 4  # that read and write pictures
_PATIENCE = 1.0  # seconds after which a wait is shown
_REPORTED = ("output", "status", "loss", "seconds", "error")  # of an entry, to a program


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run of many pairs needs to know, besides the pairs."""

    output_dir: Path
    manifest: Path | None = None
    batch_size: int | None = None
    devices: int | None = None
    memory: float | None = None
    process: int = 0
    processes: int = 1
    force: bool = False
    retry_failed: bool = False
    overwrite: bool = False  # files of others
    report: Path | None = None  # a folder
    command: str = ""  # that goes on
    progress: str = "auto"  # plain, json
    quiet: bool = False


def run_batch(pairs: Sequence[Pair], options: Options) -> int:
    """Paints what is missing; returns the exit code: 0, 1 if a pair failed, 128 + a signal.

    Raises:
        InputError: before anything is painted: a folder that cannot be written or is in use, files
            that would be lost, or pictures that were made with other settings, weights or photos.
    """
    folder = options.output_dir
    if options.report is not None:
        check_folder(options.report)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make --output-dir {folder}: {error.strerror}") from None
    share = options.process, options.processes
    outputs.check_batch(
        [pair.job for pair in pairs],
        [journal_path(folder, *share), *resume.lock_paths(folder, *share)],
        manifest=options.manifest,
        page=options.report and page_path(options.report),
        overwrite=options.overwrite,
    )
    call = runtime.keep_compiled_programs()
    with resume.lock_folder(folder, *share):
        return _Runner(pairs, options, call).run()


class _StoppedError(Exception):
    """A signal has come, and what we wait for is not needed any more."""


class _Runner:
    def __init__(self, pairs: Sequence[Pair], options: Options, call: Callable[..., Any]) -> None:
        self.pairs = pairs
        self.options = options
        self.interrupts = Interrupts(again="stop at once")
        self.saving: list[Future[None]] = []
        self.trouble: str | None = None  # that ends the run: a full disk
        self.missing: set[str] = set()  # outputs
        self.sources: dict[str, Any] = {}  # output -> fingerprints of its pictures
        self.painted = self.failed = self.total = 0  # of the pairs that this process has to paint
        self.begin = time.perf_counter()
        self.show: Callable[..., None]
        self.mesh = self._mesh()
        params: dict[str, Any] = {}
        self.infos: dict[str, dict[str, Any]] = {}  # of the weights, by preprocessing
        for each in {vgg_of(pair.job.recipe).preprocessing for pair in pairs}:
            params[each], info = load_params_and_info(pairs[0].job.params, preprocessing=each)
            self.infos[each] = {"source": info.source, "sha256": info.sha256}
        self.painter = Painter(params, self.mesh, call, self._is_stopped, self._show_progress)
        path = journal_path(options.output_dir, options.process, options.processes)
        self.journal = Journal(path)
        self.writing = threading.Lock()

    def _mesh(self) -> Mesh | None:
        devices = runtime.take_devices(jax.local_devices(), self.options.devices)
        return None if len(devices) == 1 else jaxstyle.make_mesh(devices=devices)

    def _info(self, pair: Pair) -> dict[str, Any]:
        """Source and hash of the weights that a pair is painted with."""
        return self.infos[vgg_of(pair.job.recipe).preprocessing]

    def _entry(self, pair: Pair) -> Mapping[str, Any]:
        return self.journal.entries.get(pair.row.output, {})

    def run(self) -> int:
        """Paints what is missing in another thread, see `Interrupts`; then makes the report."""
        with self.interrupts:
            problem = self.interrupts.watch(self._work, self._is_saving)
            if problem is not None and not isinstance(problem, _StoppedError):
                raise problem
            code = self._end()
            if self.interrupts.abandoned:
                leave(code)
        return code

    def _work(self) -> None:
        """Paints batch after batch, while others are read and written."""
        threads = ThreadPoolExecutor(_THREADS)
        try:
            self._find_missing(threads)
            devices = 1 if self.mesh is None else self.mesh.size
            self._say(
                f"{len(self.pairs)} pairs, {len(self.pairs) - len(self.missing)} of them in the "
                f"journal, on {devices} device(s)"
            )
            self._paint_missing(threads)
        finally:
            threads.shutdown(cancel_futures=True)

    def _is_saving(self) -> bool:
        """Whether a picture that is painted is not on disk yet; others have nothing to lose."""
        return not all(future.done() for future in self.saving)

    def _share(self) -> Sequence[Pair]:
        """The pairs of this process, whatever sizes of batches its machine is good for."""
        return self.pairs[self.options.process :: self.options.processes]

    def _is_stopped(self) -> bool:
        return self.interrupts.requested or self.trouble is not None

    def _say(self, text: str) -> None:
        if not self.options.quiet:
            say(text)

    def _wait(
        self, waiting: Sequence[Future[Any]], show: Callable[..., None] = lambda *_: None
    ) -> None:
        """Waits for what the threads do, showing how far they are if it takes long.

        Raises:
            _StoppedError: when a signal has come.
        """
        begin = time.perf_counter()
        for done, future in enumerate(waiting, 1):
            while not future.done() and not self.interrupts.requested:
                futures.wait([future], timeout=0.1)
            if self.interrupts.requested:
                raise _StoppedError
            if time.perf_counter() - begin > _PATIENCE:
                show(done, len(waiting), "")

    def _progress(self, unit: str) -> contextlib.AbstractContextManager[Callable[..., None]]:
        return show_progress(self.options.progress, self.options.quiet, unit)

    def _find_missing(self, threads: ThreadPoolExecutor) -> None:
        """Finds which pairs are to be painted, and refuses to lose anything.

        Raises:
            InputError: see `run_batch`.
        """
        looking = {
            pair.row.output: threads.submit(
                resume.state_of,
                pair,
                self._entry(pair),
                self._info(pair)["sha256"],
                retry=self.options.retry_failed,
            )
            for pair in self.pairs
        }
        with self._progress("pairs checked") as show:
            self._wait(list(looking.values()), show)
        states = {output: future.result() for output, future in looking.items()}
        wanted = {resume.MISSING}
        if self.options.force:
            wanted.update(resume.CHANGED)
        else:
            resume.refuse_changes(self.options.output_dir, states)
        self.missing = {output for output, state in states.items() if state in wanted}
        mine = [pair for pair in self._share() if pair.row.output in self.missing]
        name = str(self.options.manifest or self.options.output_dir)
        resume.check_replaceable(mine, name, self.options.overwrite)

    def _paint_missing(self, threads: ThreadPoolExecutor) -> None:
        mine, shapes = self._read_shapes(threads)
        with self._progress("pairs") as self.show:
            batches = self._plan(mine, shapes)
            loaded: Future[Any] | None = None
            try:
                for number, batch in enumerate(batches):
                    loading = loaded or threads.submit(self._load, batch)
                    following = batches[number + 1 : number + 2]
                    self._wait([loading])
                    lanes = loading.result()
                    loaded = threads.submit(self._load, following[0]) if following else None
                    for future in self.saving:  # only one batch is waiting to be written
                        future.result()
                    self.saving = []
                    for painted in self.painter.paint(batch, lanes, self.missing):
                        self.saving.append(threads.submit(self._save, painted))
                    if self._is_stopped():
                        break
            except DeviceError as error:
                self.trouble = str(error)
            finally:
                for future in self.saving:
                    future.result()

    def _end(self) -> int:
        """Says how it went, and makes the report; returns the exit code."""
        failures = sum("error" in self._entry(pair) for pair in self.pairs)
        taken = time.perf_counter() - self.begin
        self._say(
            f"{self.painted} painted in {taken:.0f} s ({self.painted / taken:.2f} a second), "
            f"{failures} failed{', see the journal' if failures else ''}"
        )
        status, code = "done", 1 if failures else 0
        if self.trouble is not None:
            say(f"error: stopped: {self.trouble}; start again to go on")
            status, code = f"stopped: {self.trouble}", 1
        elif self.interrupts.requested:
            say("interrupted; start again to go on")
            status, code = "interrupted", self.interrupts.code
        page = self.options.report
        if page is not None:
            code = self._report(page, status) or code
        tell_program(
            self.options.progress,
            {
                "output": str(self.options.output_dir),
                "report": str(page_path(page)) if page else None,
                "status": status,
                "painted": self.painted,
                "failed": failures,
                "total": len(self.pairs),
                "seconds": round(taken, 3),
            },
        )
        return code

    def _report(self, folder: Path, status: str) -> int:
        """Writes the page; other processes may have gone on with the same pairs.

        Returns:
            The exit code if there is no page, or else 0.
        """
        before, begin = min(self.interrupts.count, 1), time.perf_counter()
        try:
            with self._progress("pictures of the report") as show:

                def look(done: int, total: int) -> None:
                    if self.interrupts.count > before:
                        raise _StoppedError
                    if time.perf_counter() - begin > _PATIENCE:
                        show(done, total, "")

                self.journal.refresh()
                html = batch_page.describe_batch(
                    folder,
                    self.options.output_dir,
                    self.pairs,
                    self.journal.entries,
                    status=status,
                    command=self.options.command,
                    look=look,
                )
                write_page(folder, html)
        except InputError as error:
            say(f"error: there is no report: {error}")
            return 1
        except _StoppedError:
            say("interrupted: there is no report; start again to make it")
            return self.interrupts.code
        return 0

    def _advance(self, entry: Mapping[str, Any]) -> None:
        """Tells of a pair that is in the journal now."""
        seconds = time.perf_counter() - self.begin
        self._show_progress()
        told = {key: entry[key] for key in _REPORTED if key in entry}
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

    def _read_shapes(
        self, threads: ThreadPoolExecutor
    ) -> tuple[Sequence[Pair], dict[Any, Future[tuple[int, int]]]]:
        """Returns the pairs of this process, and the sizes of their pictures."""
        mine = self._share()
        pictures = {picture for pair in mine for picture in pictures_of(pair)}
        shapes = {picture: threads.submit(shape_of, *picture) for picture in pictures}
        with self._progress("pictures looked at") as show:
            self._wait(list(shapes.values()), show)
        return mine, shapes

    def _plan(
        self, mine: Sequence[Pair], shapes: Mapping[Any, Future[tuple[int, int]]]
    ) -> list[Batch]:
        """Returns the batches of this process in which a pair is missing."""
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
            if self.interrupts.requested:
                raise _StoppedError
            self._fail(pair, problem)
        return [
            batch
            for batch in batches
            if any(pair.row.output in self.missing for pair in batch.pairs)
        ]

    def _origin(self, pair: Pair) -> dict[str, Any]:
        """What a picture is made of, for its entry in the journal."""
        return {
            "output": pair.row.output,
            "digest": pair.digest,
            "weights": self._info(pair)["sha256"],
            "sources": self.sources.pop(pair.row.output, None) or resume.describe_sources(pair),
        }

    def _fail(self, pair: Pair, error: object) -> None:
        """Notes that a pair has failed, if it is one of those to be painted."""
        if pair.row.output not in self.missing:
            return
        message = str(error)
        say(f"line {pair.row.line}: {pair.row.output}: {message}")
        entry = {**self._origin(pair), "error": message}
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
                if pair.row.output in self.missing:
                    # Before it is read: what is replaced meanwhile has changed, at the next start.
                    self.sources[pair.row.output] = resume.describe_sources(pair)
                lanes.append(load_lane(pair, batch))
            except (InputError, MemoryError) as error:
                self._fail(pair, str(error) or "there is not enough memory to read its pictures")
                lanes.append(None)
        return lanes

    def _save(self, painted: Painted) -> None:
        """Writes picture and JSON, and then the journal."""
        pair, result, seconds, problem = painted
        if result is None:
            self._fail(pair, problem)
            return
        if self.trouble is not None:
            return
        status = Status(int(result.status))
        finite = np.isfinite(result.loss) and np.isfinite(result.image).all()
        if status == Status.NON_FINITE_START or not finite:
            self._fail(pair, "the loss is not finite at the start; use smaller weights")
            return
        info = self._info(pair)
        trace = [
            {"step": step, **describe_losses(result, step)}
            for step in range(1, len(result.trace) + 1)
        ]
        try:
            pair.job.output.parent.mkdir(parents=True, exist_ok=True)
            for path in (pair.job.output, pair.job.metadata_path):
                check_target(path)
                if not self.options.overwrite:  # something may have come there since the start
                    outputs.check_replaceable(path)
            with timed(own := {**seconds}, "save"):
                data = encode_image(pair.job.output, result.image)
        except (InputError, OSError) as error:  # of this pair; a full disk is found out below
            self._fail(pair, error)
            return
        shape = result.image.shape
        try:
            metadata = describe_run(
                pair.job, result, shape, info, own, trace, tile=None, mesh=self.mesh
            )
            origin = self._origin(pair)
            sha256 = hashlib.sha256(data).hexdigest()
            # Before the picture, so that whenever the run is killed, a JSON vouches for it.
            write_json(pair.job.metadata_path, {**metadata, "batch": origin, "sha256": sha256})
            write_atomically(pair.job.output, data)
            entry = {
                **origin,
                "picture": fingerprint(pair.job.output),
                "json": fingerprint(pair.job.metadata_path),
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
