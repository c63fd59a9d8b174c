"""An actor of `ray_engine`: paints batches on one node of a Ray cluster."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ray

import jaxstyle
from jaxstyle.app import compile_cache
from jaxstyle.app.batch.painter import Painted, Painter
from jaxstyle.app.batch.plan import Batch, BatchJob, Machine
from jaxstyle.app.batch.worker import THREADS, Network, TroubleError, Worker
from jaxstyle.app.xla_flags import set_flags


class Ticket(NamedTuple):
    """A file in the output folder, which says whose folder it is."""

    path: Path
    text: str

    def is_valid(self) -> bool:
        """Whether this is the folder of the run that has written the ticket, and its last run."""
        try:
            return self.path.read_text() == self.text
        except (OSError, ValueError):
            return False


class Description(NamedTuple):
    """What a worker says of itself."""

    node: str  # Ray's
    name: str  # of the node, for messages
    version: str  # of jaxstyle
    machine: Machine | None  # None if it does not see the output folder


class Outcome(NamedTuple):
    """What has become of a batch."""

    entries: list[Mapping[str, Any]]  # for the journal
    unread: list[Mapping[str, Any]]  # the same, of pairs whose pictures this node could not read
    trouble: str | None  # why this node cannot write


class RayWorker:
    """Paints batches. Ray calls its methods in threads, several at the same time.

    Args:
        job: settings of the batch.
        network: weights, as NumPy arrays.
        painter: makes what paints.
        folder: where the driver was started; paths may be relative to it.
        ticket: of the run.
    """

    def __init__(
        self,
        job: BatchJob,
        network: Network,
        painter: Callable[..., Painter],
        folder: str,
        ticket: Ticket | None,
    ) -> None:
        set_flags()
        with contextlib.suppress(OSError):  # a node may lack it, where all paths are absolute
            os.chdir(folder)
        self._ticket = ticket
        self._stop, self._device = threading.Event(), threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS)
        self._worker: Worker | None = None
        if ticket is None or ticket.is_valid():
            call = compile_cache.keep_compiled_programs()
            network = network._replace(params=jax.tree.map(jnp.asarray, network.params))
            self._worker = Worker(job, network, painter, call, self._stop.is_set)

    def describe(self) -> Description:
        """Returns where this worker is, and what it paints with."""
        node = ray.get_runtime_context().get_node_id()
        name = f"{socket.gethostname()}-{node[:4]}"
        machine = None if self._worker is None else self._worker.machine
        return Description(node, name, jaxstyle.__version__, machine)

    def stop(self) -> None:
        """Stops all calls of `paint` after their step."""
        self._stop.set()

    def paint(self, batch: Batch) -> Outcome:
        """Paints a batch. Meanwhile another call may read its pictures, or write them."""
        worker = self._worker
        assert worker is not None  # noqa: S101  it has no work otherwise
        entries: list[Mapping[str, Any]] = []
        unread: list[Mapping[str, Any]] = []
        trouble: list[str] = []

        def save(painted: Painted) -> None:
            try:
                # A worker that outlives its driver must not write into a later run.
                if self._ticket is None or self._ticket.is_valid():
                    worker.save(painted, entries.append)
                else:
                    trouble.append("the output folder was removed, or another run has begun there")
            except TroubleError as error:
                trouble.append(str(error))

        lanes = [each.result() for each in worker.load(batch, self._threads, unread.append)]
        with self._device:
            saving = []
            if not self._stop.is_set():
                for painted in worker.paint(batch, lanes):
                    saving.append(self._threads.submit(save, painted))
        for each in saving:
            each.result()
        return Outcome(entries, unread, trouble[0] if trouble else None)
