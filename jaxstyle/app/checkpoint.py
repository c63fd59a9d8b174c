"""Checkpoints of a single long run, so that a killed one goes on where it was."""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

import jaxstyle
from jaxstyle.app.job import Job, say
from jaxstyle.io import InputError
from jaxstyle.io.files import describe_error, describe_path
from jaxstyle.transfer import Checkpoint

_SECONDS = 10.0  # at least, between two of them
_SHARE = 0.05  # of the time that may go into them


class CheckpointFolder:
    """The latest checkpoint of a run, in a folder of its own."""

    def __init__(self, folder: Path, job: Job, weights: Mapping[str, Any]) -> None:
        """Opens the folder, or makes it.

        Args:
            folder: of this run and nothing else.
            job: the run; the pictures it names are read, to tell when they have changed.
            weights: with the `sha256` of the network's.

        Raises:
            InputError: if the folder cannot be made, has something else in it, or if the recipe
                has no state.
        """
        import orbax.checkpoint as ocp  # noqa: PLC0415  slow to import

        if isinstance(job.recipe.solver, jaxstyle.ScipyLBFGSB):
            raise InputError(
                f"--checkpoint: SciPy, which recipe {job.recipe.name} runs on, keeps its state to "
                "itself; leave it out"
            )
        self._ocp = ocp
        self._folder = folder.resolve()
        self._run = _identify(job, weights)
        self._quiet = job.quiet
        self._last = time.monotonic()
        self._pause = _SECONDS
        try:
            folder.mkdir(exist_ok=True)
            foreign = [path for path in folder.iterdir() if not path.name[:1].isdigit()]
        except OSError as error:
            raise InputError(
                f"cannot use --checkpoint {describe_path(folder)} ({describe_error(error)})"
            ) from None
        if foreign:
            raise InputError(
                f"--checkpoint {describe_path(folder)} has other files in it, such as "
                f"{foreign[0].name!r}; name a new folder"
            )
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def latest(self, trace: list[dict[str, Any]], snapshots: dict[int, str]) -> Checkpoint | None:
        """Returns the checkpoint, if there is one, and adds what was told and shown until then.

        Raises:
            InputError: if it is of another run, or cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        advice = f"; remove {describe_path(self._folder)} to begin anew, or name another"
        items = self._ocp.args.Composite(
            arrays=self._ocp.args.StandardRestore(), run=self._ocp.args.JsonRestore()
        )
        try:
            found = self._manager.restore(step, args=items)
            run, arrays = found["run"], found["arrays"]
            number, stage, steps = (int(run[key]) for key in ("leaves", "stage", "steps"))
            leaves = [arrays[f"leaf_{i}"] for i in range(number)]
            traces = tuple(arrays[f"trace_{i}"] for i in range(int(run["traces"])))
            evaluations = jax.numpy.asarray(arrays["num_evaluations"])
            checkpoint = Checkpoint(stage, steps, leaves, traces, evaluations)
            earlier, told = dict(run["run"]), list(run["trace"])
            shown = {int(step): str(picture) for step, picture in run["snapshots"].items()}
        # Whatever is wrong with files that lie about themselves, and orbax has many ways to say it.
        except Exception as error:
            raise InputError(
                f"the checkpoint cannot be read ({describe_error(error)}){advice}"
            ) from None
        if earlier != self._run:
            changed = [key for key in self._run if earlier.get(key) != self._run[key]]
            raise InputError(
                f"the checkpoint is of another run: other {', '.join(changed) or 'settings'}"
                f"{advice}"
            )
        trace += told
        snapshots |= shown
        if not self._quiet:
            say(f"going on from about step {trace[-1]['step']}, out of {self._folder}")
        return checkpoint

    def keep(
        self,
        checkpoint: Checkpoint,
        trace: Sequence[Mapping[str, Any]],
        snapshots: Mapping[int, str],
    ) -> None:
        """Saves a checkpoint, if the last one is long enough ago; says so if it cannot."""
        begin = time.monotonic()
        if begin - self._last < self._pause or len(trace) <= (self._manager.latest_step() or 0):
            return
        leaves = jax.device_get(jax.tree.leaves(checkpoint.state))
        arrays = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        traces = jax.tree.leaves(checkpoint.traces)
        arrays |= {f"trace_{i}": np.asarray(leaf) for i, leaf in enumerate(traces)}
        arrays["num_evaluations"] = np.asarray(checkpoint.num_evaluations)
        run = {
            "run": self._run,
            "stage": int(checkpoint.stage),
            "steps": int(checkpoint.steps),
            "leaves": len(leaves),
            "traces": len(traces),
            "trace": list(trace),
            "snapshots": {str(step): picture for step, picture in snapshots.items()},
        }
        items = self._ocp.args.Composite(
            arrays=self._ocp.args.StandardSave(arrays), run=self._ocp.args.JsonSave(run)
        )
        try:
            self._manager.save(len(trace), args=items, force=True)
        except (OSError, ValueError, RuntimeError) as error:
            # No reason to lose the picture, which is still being painted.
            say(f"no checkpoint in {describe_path(self._folder)}: {describe_error(error)}")
        self._last = time.monotonic()
        self._pause = max(_SECONDS, (self._last - begin) / _SHARE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def remove(self) -> None:
        """Removes the folder: the run has come to its end."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder)


def _identify(job: Job, weights: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a run to go on, by name."""
    return {
        # As JSON gives them back: without tuples.
        "settings": json.loads(json.dumps(job.settings)),
        "pictures": [hashlib.sha256(path.read_bytes()).hexdigest() for path in job.pictures],
        "weights": weights["sha256"],
        "version of jaxstyle": jaxstyle.__version__,
    }
