"""Checkpoints of a single long run, so that a killed one goes on where it was."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxstyle
from jaxstyle.app.job import Job, say
from jaxstyle.checkpoint import Checkpoint
from jaxstyle.io import InputError, check_target
from jaxstyle.io.files import describe_error, describe_path, remove_leftovers, sha256_of
from jaxstyle.io.ownership import is_ours
from jaxstyle.io.tensor_file import read_tensors, write_tensors

FILE_NAME = "jaxstyle-checkpoint.safetensors"

_TRACE = ("step", "evaluations", "seconds", "loss", "terms")  # what each step has

_SECONDS = 10.0  # at least, between two of them
_SHARE = 0.05  # of the time that may go into them


class CheckpointFile:
    """The latest checkpoint of a run: one file in a folder, whatever else is there."""

    def __init__(self, job: Job, weights: Mapping[str, Any]) -> None:
        """Prepares for the checkpoints of `job`; writes nothing.

        Args:
            job: the run, which names the folder; the pictures it names are read, to tell when
                they have changed.
            weights: with the `sha256` of the network's.
        """
        assert job.checkpoint is not None  # noqa: S101
        self._folder = job.checkpoint.resolve()
        self._path = self._folder / FILE_NAME
        self._made_folder = False
        self._is_unknown = (
            f"checkpoint {describe_path(self._path)} is damaged, or of another version"
        )
        self._run = _identify(job, weights)
        self._quiet = job.quiet
        self._last = time.monotonic()
        self._pause = _SECONDS
        self._unsaved: tuple[Checkpoint, Sequence[Any], Mapping[int, str]] | None = None

    def latest(self, trace: list[dict[str, Any]], snapshots: dict[int, str]) -> Checkpoint | None:
        """Returns the checkpoint, if there is one, and adds what was told and shown until then.

        Raises:
            InputError: if it is of another run, or cannot be read.
        """
        if not self._path.exists():
            return None
        advice = "; remove it to begin anew, or name another --checkpoint"
        try:
            arrays, kept = read_tensors(self._path)
        except InputError as error:
            raise InputError(f"checkpoint {error}{advice}") from None
        earlier = kept.get("run") if isinstance(kept, Mapping) else None
        if not isinstance(earlier, Mapping):
            raise InputError(self._is_unknown + advice)
        if earlier != self._run:
            changed = [key for key in self._run if earlier.get(key) != self._run[key]]
            raise InputError(
                f"checkpoint {describe_path(self._path)} is of another run: other "
                f"{', '.join(changed) or 'settings'}{advice}"
            )
        try:
            checkpoint = Checkpoint(
                int(kept["stage"]),
                int(kept["steps"]),
                [arrays[f"leaf_{i}"] for i in range(kept["leaves"])],
                tuple(arrays[f"trace_{i}"] for i in range(kept["traces"])),
                jax.numpy.asarray(arrays["num_evaluations"]),
            )
            if min(checkpoint.stage, checkpoint.steps) < 0 or checkpoint.num_evaluations.shape:
                raise ValueError
            entries = [{key: each[key] for key in _TRACE} | each for each in kept["trace"]]
            step = int(entries[-1]["step"])
            shown = {int(step): str(picture) for step, picture in kept["snapshots"].items()}
            self._made_folder = bool(kept["made_folder"])
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
            raise InputError(self._is_unknown + advice) from None
        trace += entries
        snapshots |= shown
        if not self._quiet:
            say(f"going on from about step {step}, out of {self._path}")
        return checkpoint

    def keep(
        self,
        checkpoint: Checkpoint,
        trace: Sequence[Mapping[str, Any]],
        snapshots: Mapping[int, str],
    ) -> None:
        """Saves a checkpoint, if the last one is long enough ago; says so if it cannot."""
        self._unsaved = checkpoint, trace, snapshots
        if time.monotonic() - self._last >= self._pause:
            self.save()

    def save(self, quiet: bool = False) -> None:
        """Saves what `keep` was called with last, unless it is; says so if it cannot."""
        if self._unsaved is None:
            return
        begin = time.monotonic()
        checkpoint, trace, snapshots = self._unsaved
        self._unsaved = None
        try:
            self._write(checkpoint, trace, snapshots)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            # No reason to lose the picture, which is still being painted.
            if not quiet:
                say(f"no checkpoint in {describe_path(self._folder)}: {describe_error(error)}")
        self._last = time.monotonic()
        self._pause = max(_SECONDS, (self._last - begin) / _SHARE)

    def _write(
        self, checkpoint: Checkpoint, trace: Sequence[Any], snapshots: Mapping[int, str]
    ) -> None:
        if not trace:  # of a run that goes on, before it has made a step
            return
        leaves = jax.device_get(jax.tree.leaves(checkpoint.state))
        arrays = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        traces = jax.tree.leaves(checkpoint.traces)
        arrays |= {f"trace_{i}": np.asarray(leaf) for i, leaf in enumerate(traces)}
        arrays["num_evaluations"] = np.asarray(checkpoint.num_evaluations)
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir()
            self._made_folder = True
        kept = {
            "run": self._run,
            "made_folder": self._made_folder,
            "stage": int(checkpoint.stage),
            "steps": int(checkpoint.steps),
            "leaves": len(leaves),
            "traces": len(traces),
            "trace": list(trace),
            "snapshots": {str(step): picture for step, picture in snapshots.items()},
        }
        if self._path.exists() and not is_ours(self._path):
            raise InputError(f"{describe_path(self._path)} is not ours any more")
        write_tensors(self._path, arrays, kept)

    def remove(self) -> None:
        """Removes the file, since the run has come to its end, and the folder that we made."""
        with contextlib.suppress(OSError):
            if is_ours(self._path):
                self._path.unlink()
            remove_leftovers(self._folder)
            if self._made_folder:
                self._folder.rmdir()  # only an empty one


def check_checkpoint(job: Job) -> Path | None:
    """Checks that a run can keep checkpoints, if it is to; returns the file.

    Raises:
        InputError: if the recipe has no state, or the folder cannot be used.
    """
    folder = job.checkpoint
    if folder is None:
        return None
    if isinstance(job.recipe.solver, jaxstyle.ScipyLBFGSB):
        raise InputError(
            f"--checkpoint: SciPy, which recipe {job.recipe.name} runs on, keeps its state to "
            "itself; leave it out"
        )
    path = folder / FILE_NAME
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--checkpoint {describe_path(folder)} is a file; name a folder")
    try:
        check_target(path if folder.exists() else folder)
    except InputError as error:
        raise InputError(f"--checkpoint: {error}") from None
    if path.exists() and not is_ours(path):
        raise InputError(
            f"--checkpoint: jaxstyle did not write {describe_path(path)}; name another folder"
        )
    return path


def _identify(job: Job, weights: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a run to go on, by name."""
    return {
        "settings": job.identity,
        "pictures": [sha256_of(path) for path in job.pictures],
        "weights": weights["sha256"],
        "version of jaxstyle": jaxstyle.__version__,
    }
