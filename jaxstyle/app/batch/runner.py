"""Runs a batch: finds the missing pairs, plans batches of them, and lets an engine paint those.

An engine takes planned batches and passes the entry of each pair, once its picture is on disk, to
the recorder, which alone writes the journal. Which pairs are painted together does not depend on
which are painted already, nor on the engine. A run that resumes a killed one paints the same
batches, and saves what is missing.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxstyle.app import compile_cache, outputs
from jaxstyle.app.batch import resume
from jaxstyle.app.batch.engine import Engine
from jaxstyle.app.batch.local_engine import LocalEngine
from jaxstyle.app.batch.painter import Painter
from jaxstyle.app.batch.pictures import pictures_of, shape_of
from jaxstyle.app.batch.plan import (
    Batch,
    BatchJob,
    Pair,
    default_batch_size,
    make_batches,
    missing_parts,
)
from jaxstyle.app.batch.progress import Progress
from jaxstyle.app.batch.recorder import Recorder
from jaxstyle.app.batch.worker import THREADS, Network, Worker, origin_of
from jaxstyle.app.compile_ahead import is_compiling
from jaxstyle.app.console import print_json, print_message, show_progress
from jaxstyle.app.interrupts import Interrupts, leave
from jaxstyle.app.pages import batch_page
from jaxstyle.app.pages.html import check_folder, page_path, write_page
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import InputError
from jaxstyle.io.errors import count
from jaxstyle.io.journal import journal_path, journals_in
from jaxstyle.io.locations import Location
from jaxstyle.io.network_weights.load import load_params_and_info

_AT_ONCE = 256  # pairs or pictures that a thread looks at
_PATIENCE = 1.0  # seconds until progress is shown


def run_batch(
    pairs: Sequence[Pair], job: BatchJob, painter: Callable[..., Painter] = Painter
) -> int:
    """Paints the missing pairs; returns the exit code: 0, 1 if a pair failed, 128 + a signal.

    Args:
        pairs: all of them.
        job: settings of the batch.
        painter: makes what paints a batch.

    Raises:
        InputError: before painting starts: if a folder cannot be written or is in use, files
            would be lost, or pictures were made with other settings, weights or photos.
    """
    with contextlib.ExitStack() as stack:
        if job.engine == "ray":
            from jaxstyle.app.batch.ray_cluster import connect  # noqa: PLC0415  an extra

            stack.enter_context(connect(job.address))
        _check(pairs, job)
        stack.enter_context(resume.lock_folder(job.output_dir, *job.slice))
        return _Runner(pairs, job, painter).run()


def _check(pairs: Sequence[Pair], job: BatchJob) -> None:
    """Makes the folder, and refuses to lose files."""
    folder = job.output_dir
    if job.report is not None:
        check_folder(job.report)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make --output-dir {folder}: {error.strerror}") from None
    kept: list[Path] = []
    if isinstance(folder, Path):
        kept = [
            journal_path(folder, *job.slice),
            *resume.lock_paths(folder, *job.slice),
            resume.ticket_path(folder, *job.slice),
        ]
    outputs.check_batch(
        pairs,
        kept,
        manifest=job.manifest,
        page=job.report and page_path(job.report),
        overwrite=job.overwrite,
    )
    # Refuse before the locks are made, which would stay there.
    if isinstance(folder, Path) and not journals_in(folder):
        resume.check_replaceable(pairs, job.name, job.overwrite)


class _StoppedError(Exception):
    """A signal has arrived, so the runner stops waiting."""


class _Runner:
    """Paints the missing pairs of a batch.

    Args:
        pairs: all of them.
        job: settings of the batch.
        painter: makes what paints a batch.
    """

    def __init__(
        self, pairs: Sequence[Pair], job: BatchJob, painter: Callable[..., Painter]
    ) -> None:
        self.pairs = pairs
        self.job = job
        self.interrupts = Interrupts(again="stop at once")
        self.progress = Progress(job.progress)
        self.network = Network({}, {})
        for each in {vgg_of(pair.settings.recipe).preprocessing for pair in pairs}:
            params, info = load_params_and_info(pairs[0].settings.params, preprocessing=each)
            self.network.params[each] = params
            self.network.info[each] = {"source": info.source, "sha256": info.sha256}
        self.recorder = Recorder(job, self.progress.add)
        self.engine = self._engine(painter)

    def _engine(self, painter: Callable[..., Painter]) -> Engine:
        if self.job.engine == "ray":
            from jaxstyle.app.batch.ray_engine import RayEngine  # noqa: PLC0415  an extra

            return RayEngine(self.job, self.network, painter)
        call = compile_cache.keep_compiled_programs()
        if not self.job.quiet:
            compile_cache.announce_compilation(call)
        show = self.progress.show_pairs
        worker = Worker(self.job, self.network, painter, call, self._is_stopped, show)
        return LocalEngine(worker, self._wait)

    def run(self) -> int:
        """Paints in another thread, see `Interrupts`, and then writes the report."""
        with self.interrupts:
            problem = self.interrupts.watch(self._work, self.engine.is_busy)
            if problem is not None and not isinstance(problem, _StoppedError):
                raise problem
            code = self._end()
            if self.interrupts.abandoned or (self.interrupts.requested and is_compiling()):
                leave(code)
        return code

    def _work(self) -> None:
        """Paints batch after batch, while threads read and write pictures of others."""
        threads = ThreadPoolExecutor(THREADS)
        try:
            self._find_missing(threads)
            pairs, missing = len(self.pairs), len(self.recorder.missing)
            self._say(f"{count(pairs, 'pair')}, {missing} to paint, on {self.engine.place}")
            self._paint_missing(threads)
        finally:
            threads.shutdown(cancel_futures=True)

    def _is_stopped(self) -> bool:
        return self.interrupts.requested or self.recorder.trouble is not None

    def _say(self, text: str) -> None:
        if not self.job.quiet:
            print_message(text)

    def _wait(
        self, waiting: Sequence[Future[Any]], show: Callable[..., None] = lambda *_: None
    ) -> None:
        """Waits for the threads, and shows progress if it takes long.

        Raises:
            _StoppedError: when a signal has arrived.
        """
        begin = time.perf_counter()
        for done, future in enumerate(waiting, 1):
            while not future.done() and not self.interrupts.requested:
                futures.wait([future], timeout=0.1)
            if self.interrupts.requested:
                raise _StoppedError
            if time.perf_counter() - begin > _PATIENCE:
                show(done, len(waiting), "")

    def _map(
        self,
        threads: ThreadPoolExecutor,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        unit: str,
    ) -> list[Any]:
        """Calls a function in threads, with some items at a time: there may be a million.

        Raises:
            _StoppedError: when a signal has arrived.
        """
        size = min(max(len(items) // (8 * THREADS), 1), _AT_ONCE)
        calls = [
            threads.submit(lambda part: [*map(function, part)], items[start : start + size])
            for start in range(0, len(items), size)
        ]
        with self._bar(unit) as show:
            total = len(items)
            self._wait(calls, lambda done, _, text: show(min(done * size, total), total, text))
        return [each for call in calls for each in call.result()]

    def _bar(self, unit: str) -> contextlib.AbstractContextManager[Callable[..., None]]:
        return show_progress(self.job.progress, self.job.quiet, unit)

    def _find_missing(self, threads: ThreadPoolExecutor) -> None:
        """Finds the pairs to paint, and refuses to lose files.

        Raises:
            InputError: see `run_batch`.
        """

        def state(pair: Pair) -> str:
            sha256 = self.network.info_of(pair)["sha256"]
            entry = self.recorder.entry(pair)
            return resume.state_of(pair, entry, sha256, retry=self.job.retry_failed)

        found = self._map(threads, state, self.pairs, "pairs checked")
        states = {pair.row.output: each for pair, each in zip(self.pairs, found, strict=True)}
        wanted = {resume.MISSING}
        if self.job.force:
            wanted.update(resume.CHANGED)
        else:
            resume.refuse_changes(self.job.output_dir, states)
        missing = [pair for pair in self.pairs if states[pair.row.output] in wanted]
        self.recorder.missing = {pair.row.output: pair for pair in missing}
        resume.check_replaceable(missing, self.job.name, self.job.overwrite)

    def _paint_missing(self, threads: ThreadPoolExecutor) -> None:
        if not self.recorder.missing:
            return
        shapes = self._read_shapes(threads)
        with self._bar("pairs") as self.progress.show:
            batches = self._plan(shapes)
            self.engine.paint(batches, self.recorder, self.progress, self._is_stopped)

    def _end(self) -> int:
        """Prints a summary and writes the report; returns the exit code."""
        failed = self.recorder.failures(self.pairs)
        failures = len(failed)
        for line in self.progress.summary(failed):
            self._say(line)
        taken, painted = self.progress.seconds, self.progress.painted
        status, code = "done", 1 if failures else 0
        if self.recorder.trouble is not None:
            print_message(
                f"error: stopped: {self.recorder.trouble}; run the same command to resume"
            )
            status, code = f"stopped: {self.recorder.trouble}", 1
        elif self.interrupts.requested:
            print_message("interrupted; run the same command to resume")
            status, code = "interrupted", self.interrupts.code
        page = self.job.report
        if page is not None:
            code = self._report(page, status) or code
        print_json(
            self.job.progress,
            {
                "output": str(self.job.output_dir),
                "report": str(page_path(page)) if page else None,
                "status": status,
                "painted": painted,
                "failed": failures,
                "total": len(self.pairs),
                "seconds": round(taken, 3),
            },
        )
        return code

    def _report(self, folder: Location, status: str) -> int:
        """Writes the page.

        Returns:
            The exit code if the page cannot be written, or else 0.
        """
        before, begin = min(self.interrupts.count, 1), time.perf_counter()
        try:
            with self._bar("pictures of the report") as show:

                def look(done: int, total: int) -> None:
                    if self.interrupts.count > before:
                        raise _StoppedError
                    if time.perf_counter() - begin > _PATIENCE:
                        show(done, total, "")

                html = batch_page.describe_batch(
                    folder,
                    self.job.output_dir,
                    self.pairs,
                    self.recorder.journal.entries,
                    status=status,
                    command=self.job.command,
                    look=look,
                )
                write_page(folder, html)
        except InputError as error:
            print_message(f"error: there is no report: {error}")
            return 1
        except _StoppedError:
            print_message("interrupted: there is no report; run the same command to make it")
            return self.interrupts.code
        return 0

    def _read_shapes(self, threads: ThreadPoolExecutor) -> dict[Any, Any]:
        """Returns the size of each picture, or the error of one that cannot be read."""

        def shape(picture: tuple[Any, int]) -> tuple[int, int] | InputError:
            try:
                return shape_of(*picture)
            except InputError as error:
                return error

        pictures = [*{picture for pair in self.pairs for picture in pictures_of(pair)}]
        found = self._map(threads, shape, pictures, "pictures looked at")
        return dict(zip(pictures, found, strict=True))

    def _plan(self, shapes: Mapping[Any, Any]) -> list[Batch]:
        """Returns the batches that have a missing pair."""
        good: list[tuple[Pair, list[tuple[int, int]]]] = []
        bad: list[tuple[Pair, InputError]] = []
        for pair in self.pairs:
            own = [shapes[each] for each in pictures_of(pair)]
            problem = next((each for each in own if isinstance(each, InputError)), None)
            if problem is None:
                good.append((pair, own))
            else:
                bad.append((pair, problem))
        machine = self.engine.machine()

        def batch_size(pair: Pair, shape: tuple[int, int]) -> int:
            return self.job.batch_size or default_batch_size(pair.job.recipe, *shape, machine)

        planned = make_batches(good, batch_size)
        self.progress.total = len(self.recorder.missing)
        for pair, problem in bad:
            if self.interrupts.requested:
                raise _StoppedError
            if self.recorder.is_missing(pair):
                self.recorder.add({**origin_of(pair, self.network), "error": str(problem)})
        return missing_parts(planned, self.recorder.is_missing)
