"""Saves the pictures of a batch, and records each pair in the journal."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxstyle import StyleResult
from jaxstyle.app import outputs
from jaxstyle.app.batch import resume
from jaxstyle.app.batch.painter import Painted
from jaxstyle.app.batch.plan import BatchJob, Pair
from jaxstyle.app.console import print_message, sizes_of_steps
from jaxstyle.app.listeners import NOT_FINITE
from jaxstyle.app.sidecar import describe_losses, describe_picture, timed
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import InputError, write_atomically, write_json
from jaxstyle.io.files import check_target
from jaxstyle.io.fingerprint import fingerprint, hashes_of
from jaxstyle.io.image_writer import encode_image
from jaxstyle.io.remote_journal import open_journal
from jaxstyle.solvers import Status


class Recorder:
    """Saves the picture of a pair, or its error, and adds it to the journal.

    Threads may call its methods at the same time.

    Attributes:
        journal: the journal of this run.
        missing: outputs that are to be painted.
        trouble: what ends the whole batch, such as a full disk, or None.
    """

    def __init__(
        self,
        job: BatchJob,
        weights: Mapping[Any, dict[str, Any]],
        mesh: Mesh | None,
        advance: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Opens the journal.

        Args:
            job: the batch.
            weights: preprocessing -> source and hash of the network weights for it.
            mesh: of several devices, or None.
            advance: called with each new entry of the journal.
        """
        self.journal = open_journal(job.output_dir, job.slice)
        self.missing: set[str] = set()
        self.trouble: str | None = None
        self._job, self._weights, self._mesh, self._advance = job, weights, mesh, advance
        self._sources: dict[str, Any] = {}  # output -> fingerprints of its pictures
        self._writing = threading.Lock()

    def weights_of(self, pair: Pair) -> dict[str, Any]:
        """Returns source and hash of the network weights that a pair is painted with."""
        return self._weights[vgg_of(pair.settings.recipe).preprocessing]

    def entry(self, pair: Pair) -> Mapping[str, Any]:
        """Returns the entry of a pair in the journal, empty if it has none."""
        return self.journal.entries.get(pair.row.output, {})

    def is_missing(self, pair: Pair) -> bool:
        """Whether a pair is to be painted."""
        return pair.row.output in self.missing

    def failures(self, pairs: Sequence[Pair]) -> list[tuple[str, str, bool]]:
        """Returns outputs and errors of pairs that failed, and whether in an earlier run."""
        return [
            (pair.row.output, str(entry["error"]), not self.is_missing(pair))
            for pair in pairs
            if "error" in (entry := self.entry(pair))
        ]

    def note_sources(self, pair: Pair) -> None:
        """Notes the files of a pair before they are read, so that later changes are found."""
        self._sources[pair.row.output] = resume.describe_sources(pair)

    def fail(self, pair: Pair, error: object) -> None:
        """Adds the error of a pair to the journal, if the pair is to be painted."""
        if not self.is_missing(pair):
            return
        message = str(error)
        print_message(f"line {pair.row.line}: {pair.row.output}: {message}")
        entry = {**self._origin(pair), "error": message}
        try:
            with self._writing:
                self.journal.add(entry)
                self._advance(entry)
        except InputError as trouble:
            self.trouble = str(trouble)

    def save(self, painted: Painted) -> None:
        """Writes picture and JSON, and then the journal."""
        pair, result, seconds, problem, lane = painted
        if result is None or lane is None:
            self.fail(pair, problem)
            return
        if self.trouble is not None:
            return
        status = Status(int(result.status))
        finite = np.isfinite(result.loss) and np.isfinite(result.image).all()
        if status == Status.NON_FINITE_START or not finite:
            self.fail(pair, NOT_FINITE)
            return
        try:
            self._check(pair)
            with timed(own := {**seconds}, "save"):
                data = encode_image(
                    pair.output,
                    result.image,
                    alpha=lane.alpha,
                    dpi=lane.dpi,
                    bits=pair.job.bits,
                )
        except (InputError, OSError) as error:  # of this pair; a full disk is noticed below
            self.fail(pair, error)
            return
        try:
            origin = self._origin(pair)
            self._write(pair, {**self._describe(pair, result, own), "batch": origin}, data)
            entry = {
                **origin,
                "picture": fingerprint(pair.output),
                "json": fingerprint(pair.metadata_path),
                "status": status.name.lower(),
                "loss": float(result.loss),
                "seconds": round(sum(own.values()), 3),
            }
            with self._writing:
                self.journal.add(entry)
                self._advance(entry)
        except (InputError, OSError) as error:
            self.trouble = str(error)

    def _check(self, pair: Pair) -> None:
        """Makes the folder of a picture and checks that nothing of others is replaced."""
        pair.output.parent.mkdir(parents=True, exist_ok=True)
        for path in (pair.output, pair.metadata_path):
            check_target(path)
            if not self._job.overwrite:  # something may have come there since the start
                outputs.check_replaceable(path)

    def _write(self, pair: Pair, metadata: dict[str, Any], data: bytes) -> None:
        # The JSON first, so that whenever the run is killed, a JSON vouches for the picture.
        write_json(pair.metadata_path, {**metadata, **hashes_of(pair.output, data)})
        write_atomically(pair.output, data)

    def _describe(
        self, pair: Pair, result: StyleResult, seconds: Mapping[str, float]
    ) -> dict[str, Any]:
        shape, weights = result.image.shape, self.weights_of(pair)
        trace = [
            {"step": step, "size": [*size], **describe_losses(result, step)}
            for step, size in enumerate(
                sizes_of_steps(pair.job.recipe, len(result.trace), shape), 1
            )
        ]
        return describe_picture(
            pair.job, result, shape, weights, seconds, trace, tile=None, mesh=self._mesh
        )

    def _origin(self, pair: Pair) -> dict[str, Any]:
        """Returns what a picture is made of, for its entry in the journal."""
        sources = self._sources.pop(pair.row.output, None) or resume.describe_sources(pair)
        return {
            "output": pair.row.output,
            "digest": pair.digest,
            "weights": self.weights_of(pair)["sha256"],
            "sources": sources,
        }
