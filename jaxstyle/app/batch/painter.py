"""Paints the pairs of a batch in one compiled program, as many at a time as memory allows."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

import jaxstyle
from jaxstyle import Recipe, StyleResult
from jaxstyle.app import devices
from jaxstyle.app.batch.pictures import Lane, stack_masks, stack_shares, stack_style_masks
from jaxstyle.app.batch.plan import Batch, Pair
from jaxstyle.app.compile_ahead import compile_ahead
from jaxstyle.app.console import print_message, sizes_of_steps
from jaxstyle.app.listeners import Latest, Listener, Step, follow
from jaxstyle.app.sidecar import SECONDS, count_compilation, timed
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io.files import describe_error

_CPU_CHUNK = 2**20  # pixels of all lanes times steps, between two looks at whether to stop


class DeviceError(Exception):
    """The device failed twice in a row, so the pairs are not the cause."""


class Painted(NamedTuple):
    """A painted pair: its result, or the error that it failed with."""

    pair: Pair
    result: StyleResult | None
    seconds: dict[str, float]
    error: str = ""
    lane: Lane | None = None


class Painter:
    """Paints batches.

    Args:
        params: network weights, by the preprocessing that they are made for.
        mesh: of several devices, or None.
        call: calls compiled programs, see `stylize_steps`.
        stopped: returns whether to stop between two steps.
        show: called with the painted part of the current pairs.
    """

    def __init__(
        self,
        params: dict[str, Any],
        mesh: Mesh | None,
        call: Callable[..., Any],
        stopped: Callable[[], bool],
        show: Callable[[float], None],
    ) -> None:
        self.params, self.mesh, self.call = params, mesh, call
        self.stopped, self.show = stopped, show
        self.limits: dict[Any, int] = {}  # shape -> lanes that fit, after memory ran out
        self.failing = False  # whether the device failed in the last part

    def paint(self, batch: Batch, lanes: Sequence[Lane | None]) -> Iterator[Painted]:
        """Yields the pairs that have pictures, painted; fewer if it is stopped.

        Args:
            batch: the pairs.
            lanes: their pictures, None for a pair that is not wanted or cannot be read.

        Raises:
            DeviceError: if the device keeps failing.
        """
        whole = next((lane for lane in lanes if lane is not None), None)
        if whole is None:
            return
        # A lane without pictures repeats another one. Lanes do not affect each other.
        filled = [lane or whole for lane in lanes]
        size = min(batch.size, self.limits.get(batch.shape, batch.size))
        start = 0
        while start < len(batch.pairs):
            here = range(start, min(start + size, len(batch.pairs)))
            chosen = [index for index in here if lanes[index] is not None]
            if not chosen:
                start += size
                continue
            lanes_here = [*here, *[here[-1]] * (size - len(here))]
            seconds = dict.fromkeys(SECONDS, 0.0)
            try:
                with timed(seconds, "optimize"), count_compilation(seconds):
                    results = self._run(
                        [batch.pairs[index] for index in lanes_here],
                        [filled[index] for index in lanes_here],
                        len(chosen),
                    )
                self.failing = False
            except (RuntimeError, MemoryError, ValueError) as error:
                if devices.is_out_of_memory(error) and size > 1:
                    size //= 2
                    self.limits[batch.shape] = size
                    print_message(f"out of memory: continuing with {size} pairs at a time")
                    continue
                problem = self._describe(error)
                yield from (Painted(batch.pairs[i], None, seconds, problem) for i in chosen)
                start += size
                continue
            if results is None:
                return
            seconds["optimize"] -= seconds["compile"]
            each = {name: value / len(here) for name, value in seconds.items()}
            for index in chosen:
                result = jax.tree.map(lambda leaf, i=index - start: leaf[i], results)
                height, width = filled[index].shape
                image = result.image[:height, :width]
                result = result._replace(image=image)
                yield Painted(batch.pairs[index], result, each, lane=filled[index])
            start += size

    def _describe(self, error: Exception) -> str:
        """Returns why some pairs failed.

        Raises:
            DeviceError: if the device keeps failing.
        """
        if devices.is_out_of_memory(error):
            return "out of memory; use a smaller size"
        if isinstance(error, ValueError):  # the library rejects their settings
            return describe_error(error)
        text = f"the device failed: {describe_error(error)}"
        if self.failing:
            raise DeviceError(text) from error
        self.failing = True
        return text

    def _run(self, pairs: Sequence[Pair], lanes: Sequence[Lane], number: int) -> Any:
        """Runs one program on all lanes, of which `number` are needed; None if it is stopped."""
        job = pairs[0].job
        recipe = job.recipe
        contents = np.stack([lane.content for lane in lanes])
        styles = tuple(
            np.stack(each) for each in zip(*(lane.styles for lane in lanes), strict=True)
        )
        pictures: Any = {
            "params": self.params[vgg_of(recipe).preprocessing],
            "contents": contents,
            "styles": styles,
        }
        options: Any = {
            "recipe": recipe,
            "weights": {
                name: np.array([pair.job.recipe.weights[name] for pair in pairs], np.float32)
                for name in recipe.weights
            },
            "style_weights": stack_shares([pair.job for pair in pairs]),
            "masks": stack_masks(lanes),
            "style_masks": stack_style_masks(lanes),
            "init": str(job.init),
            "key": devices.random_keys([pair.job.seed for pair in pairs]),
            "mesh": self.mesh,
        }
        every = devices.steps_at_once(math.prod(contents.shape[:3]), cpu=_CPU_CHUNK, other=25)
        latest = Latest()
        progress = _Progress(self.show, number, recipe, contents.shape[1:])
        steps = jaxstyle.stylize_batch_steps
        with (
            devices.precision(job.precision),
            compile_ahead(self.call, job.precision, steps, pictures, options) as call,
        ):
            results = steps(**pictures, **options, every=every, call=call)
            made = (Step(step, best.trace.shape[-1], best) for step, best in results)
            complete = follow(made, [latest, progress], self.stopped)
        return jax.device_get(latest.step.result) if complete and latest.step else None


class _Progress(Listener):
    """Shows how far the pairs of a program are painted."""

    def __init__(
        self, show: Callable[[float], None], number: int, recipe: Recipe, shape: tuple[int, ...]
    ) -> None:
        """Shows `number` pairs of contents of `shape`, `(H, W, 3)`."""
        self._show, self._number, self._recipe, self._shape = show, number, recipe, shape

    def see(self, step: Step) -> None:
        """Shows the share of the work that is done."""
        sizes = sizes_of_steps(self._recipe, step.total, self._shape)
        work = [width * height for width, height in sizes]
        self._show(self._number * sum(work[: step.number]) / sum(work))
