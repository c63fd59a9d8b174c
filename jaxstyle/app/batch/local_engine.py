"""Paints the batches of a run in this process, on all its devices."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jaxstyle.app.batch.painter import DeviceError, Painted
from jaxstyle.app.batch.plan import Batch, Machine
from jaxstyle.app.batch.progress import Progress
from jaxstyle.app.batch.recorder import Recorder
from jaxstyle.app.batch.worker import THREADS, TroubleError, Worker
from jaxstyle.io.errors import count


class LocalEngine:
    """Paints one batch after the other, while the next is read and the last is written."""

    def __init__(self, worker: Worker, wait: Callable[[Sequence[Future[Any]]], None]) -> None:
        """Takes what paints, and what waits for threads unless a signal arrives."""
        self.place = count(worker.machine.devices, "device")
        self._worker, self._wait = worker, wait
        self._saving: list[Future[None]] = []

    def machine(self) -> Machine:
        """Returns what the sizes of batches depend on."""
        return self._worker.machine

    def is_busy(self) -> bool:
        """Whether a painted picture is not on disk yet."""
        return not all(future.done() for future in self._saving)

    def paint(
        self,
        batches: Sequence[Batch],
        recorder: Recorder,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        """Paints batches until it is stopped, and records their pairs."""
        threads = ThreadPoolExecutor(THREADS)
        try:
            loading = [self._worker.load(batch, threads, recorder.add) for batch in batches[:1]]
            for number, batch in enumerate(batches):
                self._wait(now := loading.pop())
                following = batches[number + 1 : number + 2]
                loading = [self._worker.load(each, threads, recorder.add) for each in following]
                earlier = len(self._saving)
                progress.begin(batch.pairs[index] for index in batch.wanted)
                for painted in self._worker.paint(batch, [future.result() for future in now]):
                    self._saving.append(threads.submit(self._save, painted, recorder))
                self._finish(earlier)  # so that no more than one batch waits to be written
                if stopped():
                    break
        except DeviceError as error:
            recorder.trouble = str(error)
        finally:
            self._finish()
            threads.shutdown(cancel_futures=True)

    def _save(self, painted: Painted, recorder: Recorder) -> None:
        try:
            if recorder.trouble is None:
                self._worker.save(painted, recorder.add)
        except TroubleError as error:
            recorder.trouble = str(error)

    def _finish(self, number: int | None = None) -> None:
        """Waits until painted pictures are written: all, or as many as were painted first."""
        for future in self._saving[:number]:
            future.result()
        del self._saving[:number]
