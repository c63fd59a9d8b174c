"""Runs a batch: finds the missing pairs, paints some at a time, and records each in the journal.

Which pairs are painted together does not depend on which are painted already. A run that resumes
a killed one paints the same batches, and saves what is missing.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from jax.sharding import Mesh

import jaxstyle
from jaxstyle.app import compile_cache, outputs
from jaxstyle.app.available_memory import available_memory
from jaxstyle.app.batch import resume
from jaxstyle.app.batch.painter import DeviceError, Painted, Painter
from jaxstyle.app.batch.pictures import Lane, load_lane, pictures_of, shape_of
from jaxstyle.app.batch.plan import Batch, BatchJob, Pair, default_batch_size, make_batches
from jaxstyle.app.batch.progress import Progress
from jaxstyle.app.batch.recorder import Recorder
from jaxstyle.app.console import print_json, print_message, show_progress
from jaxstyle.app.devices import take_devices
from jaxstyle.app.interrupts import Interrupts, leave
from jaxstyle.app.pages import batch_page
from jaxstyle.app.pages.html import check_folder, page_path, write_page
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import InputError
from jaxstyle.io.errors import count
from jaxstyle.io.journal import journal_path, journals_in
from jaxstyle.io.locations import URL, Location
from jaxstyle.io.network_weights.load import load_params_and_info

_THREADS = 4  # to read and write pictures
_PATIENCE = 1.0  # seconds until progress is shown


def run_batch(pairs: Sequence[Pair], job: BatchJob) -> int:
    """Paints the missing pairs; returns the exit code: 0, 1 if a pair failed, 128 + a signal.

    Raises:
        InputError: before painting starts: if a folder cannot be written or is in use, files
            would be lost, or pictures were made with other settings, weights or photos.
    """
    folder = job.output_dir
    if job.report is not None:
        check_folder(job.report)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make --output-dir {folder}: {error.strerror}") from None
    locks = resume.lock_paths(folder, *job.slice)
    outputs.check_batch(
        pairs,
        [] if isinstance(folder, URL) else [journal_path(folder, *job.slice), *locks],
        manifest=job.manifest,
        page=job.report and page_path(job.report),
        overwrite=job.overwrite,
    )
    if not isinstance(folder, URL) and not journals_in(
        folder
    ):  # refuse before the locks are made, which would stay there
        resume.check_replaceable(pairs, _name(job), job.overwrite)
    call = compile_cache.keep_compiled_programs()
    if not job.quiet:
        compile_cache.announce_compilation(call)
    with resume.lock_folder(folder, *job.slice):
        return _Runner(pairs, job, call).run()


def _name(job: BatchJob) -> str:
    """Returns the name of the manifest, for messages."""
    return str(job.manifest or job.output_dir)


class _StoppedError(Exception):
    """A signal has arrived, so the runner stops waiting."""


class _Runner:
    """Paints the missing pairs of a batch.

    Args:
        pairs: all of them.
        job: settings of the batch.
        call: calls compiled programs, see `stylize_steps`.
    """

    def __init__(self, pairs: Sequence[Pair], job: BatchJob, call: Callable[..., Any]) -> None:
        self.pairs = pairs
        self.job = job
        self.interrupts = Interrupts(again="stop at once")
        self.saving: list[Future[None]] = []
        self.progress = Progress(job.progress)
        self.mesh = self._mesh()
        params: dict[str, Any] = {}
        weights: dict[str, dict[str, Any]] = {}
        for each in {vgg_of(pair.settings.recipe).preprocessing for pair in pairs}:
            params[each], info = load_params_and_info(pairs[0].settings.params, preprocessing=each)
            weights[each] = {"source": info.source, "sha256": info.sha256}
        self.painter = Painter(params, self.mesh, call, self._is_stopped, self.progress.show_pairs)
        self.recorder = Recorder(job, weights, self.mesh, self.progress.add)

    def _mesh(self) -> Mesh | None:
        devices = take_devices(jax.local_devices(), self.job.devices)
        return None if len(devices) == 1 else jaxstyle.make_mesh(devices=devices)

    def run(self) -> int:
        """Paints in another thread, see `Interrupts`, and then writes the report."""
        with self.interrupts:
            problem = self.interrupts.watch(self._work, self._is_saving)
            if problem is not None and not isinstance(problem, _StoppedError):
                raise problem
            code = self._end()
            if self.interrupts.abandoned:
                leave(code)
        return code

    def _work(self) -> None:
        """Paints batch after batch, while threads read and write pictures of others."""
        threads = ThreadPoolExecutor(_THREADS)
        try:
            self._find_missing(threads)
            devices = 1 if self.mesh is None else self.mesh.size
            number = len(self.pairs)
            self._say(
                f"{count(number, 'pair')}, {number - len(self.recorder.missing)} of them in the "
                f"journal, on {count(devices, 'device')}"
            )
            self._paint_missing(threads)
        finally:
            threads.shutdown(cancel_futures=True)

    def _is_saving(self) -> bool:
        """Whether a painted picture is not on disk yet."""
        return not all(future.done() for future in self.saving)

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

    def _bar(self, unit: str) -> contextlib.AbstractContextManager[Callable[..., None]]:
        return show_progress(self.job.progress, self.job.quiet, unit)

    def _find_missing(self, threads: ThreadPoolExecutor) -> None:
        """Finds the pairs to paint, and refuses to lose files.

        Raises:
            InputError: see `run_batch`.
        """
        looking = {
            pair.row.output: threads.submit(
                resume.state_of,
                pair,
                self.recorder.entry(pair),
                self.recorder.weights_of(pair)["sha256"],
                retry=self.job.retry_failed,
            )
            for pair in self.pairs
        }
        with self._bar("pairs checked") as show:
            self._wait(list(looking.values()), show)
        states = {output: future.result() for output, future in looking.items()}
        wanted = {resume.MISSING}
        if self.job.force:
            wanted.update(resume.CHANGED)
        else:
            resume.refuse_changes(self.job.output_dir, states)
        self.recorder.missing = {output for output, state in states.items() if state in wanted}
        missing = [pair for pair in self.pairs if self.recorder.is_missing(pair)]
        resume.check_replaceable(missing, _name(self.job), self.job.overwrite)

    def _paint_missing(self, threads: ThreadPoolExecutor) -> None:
        if not self.recorder.missing:
            return
        shapes = self._read_shapes(threads)
        with self._bar("pairs") as self.progress.show:
            batches = self._plan(shapes)
            loaded: Future[Any] | None = None
            try:
                for number, batch in enumerate(batches):
                    loading = loaded or threads.submit(self._load, batch)
                    following = batches[number + 1 : number + 2]
                    self._wait([loading])
                    lanes = loading.result()
                    loaded = threads.submit(self._load, following[0]) if following else None
                    for future in self.saving:  # so that only one batch waits to be written
                        future.result()
                    self.saving = []
                    self.progress.begin(filter(self.recorder.is_missing, batch.pairs))
                    for painted in self.painter.paint(batch, lanes, self.recorder.missing):
                        self.saving.append(threads.submit(self._save, painted))
                    if self._is_stopped():
                        break
            except DeviceError as error:
                self.recorder.trouble = str(error)
            finally:
                for future in self.saving:
                    future.result()

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

    def _read_shapes(self, threads: ThreadPoolExecutor) -> dict[Any, Future[tuple[int, int]]]:
        """Returns the sizes of all pictures."""
        pictures = {picture for pair in self.pairs for picture in pictures_of(pair)}
        shapes = {picture: threads.submit(shape_of, *picture) for picture in pictures}
        with self._bar("pictures looked at") as show:
            self._wait(list(shapes.values()), show)
        return shapes

    def _plan(self, shapes: Mapping[Any, Future[tuple[int, int]]]) -> list[Batch]:
        """Returns the batches that have a missing pair."""
        good: list[tuple[Pair, list[tuple[int, int]]]] = []
        bad: list[tuple[Pair, InputError]] = []
        for pair in self.pairs:
            try:
                good.append((pair, [shapes[each].result() for each in pictures_of(pair)]))
            except InputError as error:
                bad.append((pair, error))
        budget = available_memory() if self.job.memory is None else self.job.memory
        devices = 1 if self.mesh is None else self.mesh.size

        def batch_size(pair: Pair, shape: tuple[int, int]) -> int:
            own = default_batch_size(pair.job.recipe, *shape, budget) * devices
            return self.job.batch_size or own

        batches = make_batches(good, batch_size)
        self.progress.total = len(self.recorder.missing)
        for pair, problem in bad:
            if self.interrupts.requested:
                raise _StoppedError
            self.recorder.fail(pair, problem)
        return [batch for batch in batches if any(map(self.recorder.is_missing, batch.pairs))]

    def _load(self, batch: Batch) -> list[Lane | None]:
        """Reads the pictures of a batch; None for a pair that fails."""
        lanes: list[Lane | None] = []
        for pair in batch.pairs:
            try:
                if self.recorder.is_missing(pair):
                    # Before it is read, so that the next run sees what is replaced meanwhile.
                    self.recorder.note_sources(pair)
                lanes.append(load_lane(pair, batch))
            except (InputError, MemoryError) as error:
                problem = str(error) or "there is not enough memory to read its pictures"
                self.recorder.fail(pair, problem)
                lanes.append(None)
        return lanes

    def _save(self, painted: Painted) -> None:
        self.recorder.save(painted)
