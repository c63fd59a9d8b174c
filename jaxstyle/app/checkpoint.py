"""Checkpoints of a single run, from which a killed run resumes."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxstyle
from jaxstyle import Checkpoint, Recipe, StyleResult
from jaxstyle.app.console import print_message
from jaxstyle.app.job import MAXIMUM_STEPS, Job
from jaxstyle.io import InputError, check_target
from jaxstyle.io.files import describe_error, describe_path, remove_leftovers, sha256_of
from jaxstyle.io.ownership import is_ours
from jaxstyle.io.recipe_codec import convert
from jaxstyle.io.tensor_file import read_tensors, write_tensors

FILE_NAME = "jaxstyle-checkpoint.safetensors"

_ADVICE = "; remove it to start over, or name another --checkpoint"

_SECONDS = 10.0  # at least, between two checkpoints
_SHARE = 0.05  # of the time, at most, to save them


class Resumed(NamedTuple):
    """A run that was ended before its last step."""

    checkpoint: Checkpoint
    recipe: Recipe
    """That of the job, with the steps at smaller sizes as they were made."""
    trace: list[dict[str, Any]]
    """The entries up to it, as in the JSON."""
    damaged: str
    """What to say if it is."""

    def check(self, step: int, result: StyleResult) -> None:
        """Checks the first result of the resumed run, which repeats the last one of the trace.

        Raises:
            InputError: if they differ, or the picture has a number that is not finite.
        """
        last = self.trace[-1]
        same = (step, int(result.num_evaluations)) == (last["step"], last["evaluations"])
        if not same or not np.isfinite(result.loss) or not np.isfinite(result.image).all():
            raise InputError(self.damaged)


class CheckpointFile:
    """The latest checkpoint of a run: one file in a folder, which may have other files too."""

    def __init__(self, job: Job, weights: Mapping[str, Any]) -> None:
        """Prepares for the checkpoints of `job`; writes nothing.

        Args:
            job: the run. Its pictures are hashed, to detect changes.
            weights: of the network, with their `sha256`.
        """
        assert job.checkpoint is not None  # noqa: S101
        self._folder = job.checkpoint.resolve()
        self._path = self._folder / FILE_NAME
        self._made_folder = False
        self._is_unknown = (
            f"checkpoint {describe_path(self._path)} is damaged, or of another version{_ADVICE}"
        )
        self._run = _identify(job, weights)
        self._recipe = job.recipe
        self._quiet = job.quiet
        self._last = time.monotonic()
        self._pause = _SECONDS
        self._unsaved: tuple[Checkpoint, Sequence[Any]] | None = None
        self.snapshots: dict[int, str] = {}
        """Step -> picture, for the report; they are kept with each checkpoint."""

    def latest(self) -> Resumed | None:
        """Returns the checkpoint and the trace up to it, and restores `snapshots`.

        Returns None if there is no checkpoint.

        Raises:
            InputError: if it is the checkpoint of another run, or cannot be read.
        """
        if not self._path.exists():
            return None
        try:
            arrays, kept = read_tensors(self._path)
        except InputError as error:
            raise InputError(f"checkpoint {error}{_ADVICE}") from None
        earlier = kept.get("run") if isinstance(kept, Mapping) else None
        if not isinstance(earlier, Mapping):
            raise InputError(self._is_unknown)
        if _without_steps(earlier) != _without_steps(self._run):
            old, new = _without_steps(earlier), _without_steps(self._run)
            changed = [key for key in new if old.get(key) != new[key]]
            raise InputError(
                f"checkpoint {describe_path(self._path)} is of another run: other "
                f"{', '.join(changed) or 'settings'}{_ADVICE}"
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
            entries = _checked(kept["trace"])
            step = entries[-1]["step"]
            shown = {int(step): str(picture) for step, picture in kept["snapshots"].items()}
            recipe = _with_steps(self._recipe, earlier["settings"]["recipe"]["pyramid"])
            self._made_folder = bool(kept["made_folder"])
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
            raise InputError(self._is_unknown) from None
        self.snapshots |= shown
        if recipe.pyramid is not None:  # for whoever resumes the resumed run
            self._run = json.loads(json.dumps(self._run))
            self._run["settings"]["recipe"]["pyramid"]["steps"] = list(recipe.pyramid.steps)
        if not self._quiet:
            print_message(f"resuming from about step {step}, from {self._path}")
            _announce_steps(recipe, self._recipe)
        return Resumed(checkpoint, recipe, entries, self._is_unknown)

    def keep(self, checkpoint: Checkpoint, trace: Sequence[Mapping[str, Any]]) -> None:
        """Saves a checkpoint if the last one is long enough ago; prints a message if it cannot."""
        self._unsaved = checkpoint, trace
        if time.monotonic() - self._last >= self._pause:
            self.save()

    def save(self, quiet: bool = False) -> None:
        """Saves the checkpoint that `keep` was last called with, unless it is saved already."""
        if self._unsaved is None:
            return
        begin = time.monotonic()
        checkpoint, trace = self._unsaved
        self._unsaved = None
        try:
            self._write(checkpoint, trace)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            # The picture is still being painted, and must not be lost for this.
            if not quiet:
                print_message(
                    f"no checkpoint in {describe_path(self._folder)}: {describe_error(error)}"
                )
        self._last = time.monotonic()
        self._pause = max(_SECONDS, (self._last - begin) / _SHARE)

    def print_advice(self) -> None:
        """Says how to resume the run, if a checkpoint was saved."""
        if self._path.exists() and not self._quiet:
            print_message(f"run the same command again to resume, from {describe_path(self._path)}")

    def _write(self, checkpoint: Checkpoint, trace: Sequence[Any]) -> None:
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
            "snapshots": {str(step): picture for step, picture in self.snapshots.items()},
        }
        if self._path.exists() and not is_ours(self._path):
            raise InputError(f"{describe_path(self._path)} was replaced by another program")
        write_tensors(self._path, arrays, kept)

    def remove(self) -> None:
        """Removes the file after a completed run, and its folder if the run made it."""
        with contextlib.suppress(OSError):
            if is_ours(self._path):
                self._path.unlink()
            remove_leftovers(self._folder)
            if self._made_folder:
                self._folder.rmdir()  # only if it is empty


def check_checkpoint(job: Job) -> Path | None:
    """Checks that the checkpoints of a run can be saved; returns the file, None for none.

    Raises:
        InputError: if the solver cannot save its state, or the folder cannot be used.
    """
    folder = job.checkpoint
    if folder is None:
        return None
    if job.recipe.solver.on_host:
        raise InputError(
            f"--checkpoint: recipe {job.recipe.name} runs on SciPy, whose state cannot be saved; "
            "leave it out"
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
    """Returns what must not change between a run and the one that resumes it, by name."""
    return {
        "settings": job.identity,
        "pictures": [sha256_of(path) for path in job.pictures],
        "weights": weights["sha256"],
        "version of jaxstyle": jaxstyle.__version__,
    }


def _without_steps(run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `_identify` did without the numbers of steps: a run can be made longer.

    At each size, no step depends on how many follow. Only if the full size has two stages, the
    first one has as many steps as before.
    """
    run = json.loads(json.dumps(run))  # a copy
    with contextlib.suppress(LookupError, TypeError, AttributeError):  # then they differ anyway
        recipe = run["settings"]["recipe"]
        pyramid = recipe["pyramid"] or {}
        pyramid.pop("steps", None)
        if not pyramid.get("finish"):
            recipe["solver"].pop("num_steps")
    return dict(run)


def _with_steps(recipe: Recipe, pyramid: Mapping[str, Any] | None) -> Recipe:
    """Returns a recipe with the steps at smaller sizes of an earlier pyramid.

    Raises:
        KeyError: if there are none.
        ValueError: if they are wrong.
    """
    if recipe.pyramid is None or pyramid is None:
        return recipe
    steps = convert(tuple[int, ...], pyramid["steps"], "steps")
    if max(steps, default=0) > MAXIMUM_STEPS:
        raise ValueError
    return dataclasses.replace(recipe, pyramid=dataclasses.replace(recipe.pyramid, steps=steps))


def _announce_steps(made: Recipe, asked: Recipe) -> None:
    """Says if the smaller sizes have fewer steps than a run from the start would give them."""
    if made.pyramid is None or asked.pyramid is None or made.pyramid.steps == asked.pyramid.steps:
        return
    before, now = (
        ", ".join(map(str, each.pyramid.steps)) for each in (made, asked) if each.pyramid
    )
    print_message(
        f"the smaller sizes keep the {before} steps that this run was started with; one run from "
        f"the start would make {now} there, and its picture differs"
    )


def _checked(trace: Any) -> list[dict[str, Any]]:
    """Returns the entries of a trace, with checked types; steps grow from one to the next.

    Raises:
        ValueError: if one is wrong, or there are none.
        LookupError, TypeError, AttributeError: likewise.
    """
    entries: list[dict[str, Any]] = []
    step, evaluations = -1, 0
    for each in trace:
        for name in ("step", "evaluations"):
            convert(int, each[name], name)
        for value in (each["seconds"], each["loss"], *each["terms"].values()):
            convert(float, value, "trace")
        if not (
            each["step"] > step and each["evaluations"] >= evaluations and each["seconds"] >= 0
        ):
            raise ValueError
        step, evaluations = each["step"], each["evaluations"]
        entries.append(dict(each))
    if not entries:
        raise ValueError
    return entries
