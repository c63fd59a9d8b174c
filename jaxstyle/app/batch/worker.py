"""Reads, paints and writes the pairs of a batch: what runs where the devices are.

Nothing here knows of the journal. What is to be added to it is passed to `record`.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh

import jaxstyle
from jaxstyle import StyleResult
from jaxstyle.app import outputs
from jaxstyle.app.available_memory import available_memory
from jaxstyle.app.batch import resume
from jaxstyle.app.batch.painter import Painted, Painter
from jaxstyle.app.batch.pictures import Lane, Reader, load_lane
from jaxstyle.app.batch.plan import Batch, BatchJob, Machine, Pair
from jaxstyle.app.console import describe_stages
from jaxstyle.app.devices import take_devices
from jaxstyle.app.listeners import NOT_FINITE
from jaxstyle.app.sidecar import describe_losses, describe_picture, timed
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import InputError, write_atomically, write_json
from jaxstyle.io.files import check_target, describe_path
from jaxstyle.io.fingerprint import fingerprint, hashes_of
from jaxstyle.io.image_writer import encode_image
from jaxstyle.solvers import Status

THREADS = min(max(os.cpu_count() or 1, 4), 8)  # to read and write pictures

Record: TypeAlias = Callable[[Mapping[str, Any]], None]


class TroubleError(Exception):
    """What ends the whole batch, such as a full disk."""


class Network(NamedTuple):
    """The network weights of a batch, by the preprocessing that they are made for."""

    params: dict[Any, Any]
    info: dict[Any, Mapping[str, Any]]  # source and sha256

    def info_of(self, pair: Pair) -> Mapping[str, Any]:
        """Returns source and hash of the network weights that a pair is painted with."""
        return self.info[vgg_of(pair.settings.recipe).preprocessing]


def origin_of(pair: Pair, network: Network, sources: Any = None) -> dict[str, Any]:
    """Returns what a picture is made of, for its entry in the journal."""
    return {
        "output": pair.row.output,
        "digest": pair.digest,
        "weights": network.info_of(pair)["sha256"],
        "sources": sources or resume.describe_sources(pair),
    }


class Worker:
    """Paints batches on the devices of this process.

    Threads may load and save at the same time, while one of them paints.

    Args:
        job: settings of the batch.
        network: weights.
        painter: makes what paints, see `Painter`.
        call: calls compiled programs, see `stylize_steps`.
        stopped: returns whether to stop between two steps.
        show: called with the painted part of the current pairs.

    Attributes:
        machine: what the sizes of batches depend on.
    """

    def __init__(
        self,
        job: BatchJob,
        network: Network,
        painter: Callable[..., Painter],
        call: Callable[..., Any],
        stopped: Callable[[], bool],
        show: Callable[[float], None] = lambda _: None,
    ) -> None:
        devices = take_devices(jax.local_devices(), job.devices)
        self._mesh: Mesh | None = None
        if len(devices) > 1:
            self._mesh = jaxstyle.make_mesh(devices=devices)
        self._job, self._network = job, network
        memory = available_memory() if job.memory is None else job.memory
        self.machine = Machine(jax.default_backend(), len(devices), memory)
        self.paint = painter(network.params, self._mesh, call, stopped, show).paint
        self._sources: dict[str, Any] = {}  # output -> fingerprints of its pictures
        self._reader = Reader()

    def load(self, batch: Batch, threads: Executor, record: Record) -> list[Future[Lane | None]]:
        """Begins to read the pictures of a batch; None for a pair that fails or is not wanted."""
        return [
            threads.submit(self._load, batch, index, record) for index in range(len(batch.pairs))
        ]

    def _load(self, batch: Batch, index: int, record: Record) -> Lane | None:
        if index not in batch.wanted:
            return None
        pair = batch.pairs[index]
        try:
            # Before it is read, so that the next run sees what is replaced meanwhile.
            sources = self._sources[pair.row.output] = resume.describe_sources(pair)
            return load_lane(pair, batch, self._reader, sources)
        except (InputError, MemoryError) as error:
            problem = str(error) or "there is not enough memory to read its pictures"
            record({**self._origin(pair), "error": problem})
            return None

    def save(self, painted: Painted, record: Record) -> None:
        """Writes picture and JSON, and records the pair.

        Raises:
            TroubleError: if nothing can be written any more.
        """
        pair, result, seconds, problem, lane = painted
        if result is None or lane is None:
            record({**self._origin(pair), "error": problem})
            return
        status = Status(int(result.status))
        finite = np.isfinite(result.loss) and np.isfinite(result.image).all()
        if status == Status.NON_FINITE_START or not finite:
            record({**self._origin(pair), "error": NOT_FINITE})
            return
        try:
            self._check(pair)
            with timed(own := {**seconds}, "save"):
                data = encode_image(
                    pair.output,
                    result.image,
                    alpha=lane.alpha,
                    dpi=lane.dpi,
                    bits=pair.settings.bits,
                )
        except (InputError, OSError) as error:  # of this pair; a full disk is noticed below
            self._check_folder()
            record({**self._origin(pair), "error": str(error)})
            return
        origin = self._origin(pair)
        try:
            self._write(pair, {**self._describe(pair, result, own), "batch": origin}, data)
            entry = {
                **origin,
                "picture": fingerprint(pair.output),
                "json": fingerprint(pair.metadata_path),
                "status": status.name.lower(),
                "loss": float(result.loss),
                "seconds": round(sum(own.values()), 3),
            }
        except (InputError, OSError) as error:
            raise TroubleError(str(error)) from error
        record(entry)

    def _check(self, pair: Pair) -> None:
        """Makes the folder of a picture and checks that nothing of others is replaced."""
        pair.output.parent.mkdir(parents=True, exist_ok=True)
        for path in (pair.output, pair.metadata_path):
            check_target(path)
            if not self._job.overwrite:  # something may have come there since the start
                outputs.check_replaceable(path)

    def _check_folder(self) -> None:
        """Raises `TroubleError` if no picture can be written any more."""
        folder = self._job.output_dir
        if isinstance(folder, Path) and not os.access(folder, os.W_OK | os.X_OK):
            raise TroubleError(f"--output-dir {describe_path(folder)} is not writable")

    def _write(self, pair: Pair, metadata: dict[str, Any], data: bytes) -> None:
        # The JSON first, so that whenever the run is killed, a JSON vouches for the picture.
        write_json(pair.metadata_path, {**metadata, **hashes_of(pair.output, data)})
        write_atomically(pair.output, data)

    def _describe(
        self, pair: Pair, result: StyleResult, seconds: Mapping[str, float]
    ) -> dict[str, Any]:
        shape, info = result.image.shape, self._network.info_of(pair)
        trace = [
            {"step": step, **stage, **describe_losses(result, step)}
            for step, stage in enumerate(
                describe_stages(pair.settings.recipe, len(result.trace), shape), 1
            )
        ]
        return describe_picture(
            pair.job, result, shape, info, seconds, trace, tile=None, mesh=self._mesh
        )

    def _origin(self, pair: Pair) -> dict[str, Any]:
        return origin_of(pair, self._network, self._sources.pop(pair.row.output, None))
