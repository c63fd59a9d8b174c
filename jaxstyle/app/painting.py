"""Paints the pairs of a batch in one compiled program, as many at a time as memory holds."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

import jaxstyle
from jaxstyle.app import runtime
from jaxstyle.app.job import say
from jaxstyle.app.pairs import Batch, Lane, Pair, stack_shares
from jaxstyle.app.progress import work_of_steps
from jaxstyle.app.sidecar import count_compilation, timed
from jaxstyle.app.vgg import vgg_of
from jaxstyle.compiled import StyleResult
from jaxstyle.io.files import describe_error

_CPU_CHUNK = 2**20  # pixels of all lanes times steps, between two looks at whether to stop


class DeviceError(Exception):
    """The device has failed for two parts in a row, so it is not these pairs."""


class Painted(NamedTuple):
    """What has become of a pair: a result, or the error that it ended with."""

    pair: Pair
    result: StyleResult | None
    seconds: dict[str, float]
    error: str = ""


class Painter:
    """Paints batches.

    Args:
        params: network parameters, by the preprocessing that they are made for.
        mesh: of several devices, or None.
        call: how compiled programs are called, see `stylize_steps`.
        stopped: tells whether to end between two steps.
        show: called with the pairs that are in work, as far as they are painted.
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
        self.limits: dict[Any, int] = {}  # lanes that fit, where memory has run out
        self.failing = False  # the device, in the last part

    def paint(
        self, batch: Batch, lanes: Sequence[Lane | None], missing: set[str]
    ) -> Iterator[Painted]:
        """Yields what is missing of a batch; fewer if it is stopped.

        Args:
            batch: the pairs.
            lanes: their pictures, None for a pair whose pictures cannot be read.
            missing: outputs that are to be painted.

        Raises:
            DeviceError: see there.
        """
        whole = next((lane for lane in lanes if lane is not None), None)
        if whole is None:
            return
        # A lane that failed, or that is left over, repeats another: all lanes are independent.
        filled = [lane or whole for lane in lanes]
        wanted = [
            lane is not None and pair.row.output in missing
            for pair, lane in zip(batch.pairs, lanes, strict=True)
        ]
        size = min(batch.size, self.limits.get(batch.shape, batch.size))
        start = 0
        while start < len(batch.pairs):
            here = range(start, min(start + size, len(batch.pairs)))
            chosen = [index for index in here if wanted[index]]
            if not chosen:
                start += size
                continue
            lanes_here = [*here, *[here[-1]] * (size - len(here))]
            seconds = dict.fromkeys(("load", "compile", "optimize", "save"), 0.0)
            try:
                with timed(seconds, "optimize"), count_compilation(seconds):
                    results = self._run(
                        [batch.pairs[index] for index in lanes_here],
                        [filled[index] for index in lanes_here],
                        len(chosen),
                    )
                self.failing = False
            except (RuntimeError, MemoryError, ValueError) as error:
                if _is_out_of_memory(error) and size > 1:
                    size //= 2
                    self.limits[batch.shape] = size
                    say(f"out of memory: going on with {size} pairs at a time")
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
                yield Painted(batch.pairs[index], result._replace(image=image), each)
            start += size

    def _describe(self, error: Exception) -> str:
        """Says what has gone wrong with some pairs.

        Raises:
            DeviceError: see there.
        """
        if _is_out_of_memory(error):
            return "out of memory; use a smaller size"
        if isinstance(error, ValueError):  # the library refuses their settings
            return describe_error(error)
        text = f"the device failed: {describe_error(error)}"
        if self.failing:
            raise DeviceError(text) from error
        self.failing = True
        return text

    def _run(self, pairs: Sequence[Pair], lanes: Sequence[Lane], number: int) -> Any:
        """Runs one program on so many lanes, `number` of which count; None if it is stopped."""
        job = pairs[0].job
        recipe = job.recipe
        contents = np.stack([lane.content for lane in lanes])
        styles = tuple(
            np.stack(each) for each in zip(*(lane.styles for lane in lanes), strict=True)
        )
        masks = None
        if lanes[0].masks is not None:
            masks = np.stack([lane.masks for lane in lanes if lane.masks is not None])
        steps = jaxstyle.stylize_batch_steps(
            self.params[vgg_of(recipe).preprocessing],
            contents,
            styles,
            recipe=recipe,
            weights={
                name: np.array([pair.job.recipe.weights[name] for pair in pairs], np.float32)
                for name in recipe.weights
            },
            style_weights=stack_shares([pair.job for pair in pairs]),
            masks=masks,
            init=job.init,
            key=jax.vmap(jax.random.key)(np.array([pair.job.seed for pair in pairs], np.uint32)),
            mesh=self.mesh,
            every=runtime.steps_at_once(math.prod(contents.shape[:3]), cpu=_CPU_CHUNK, other=25),
            call=self.call,
        )
        result = None
        with runtime.precision(job.precision):
            for step, best in steps:
                if self.stopped():
                    return None
                result = best
                work = work_of_steps(recipe, best.trace.shape[-1], contents.shape[1:])
                self.show(number * sum(work[:step]) / sum(work))
        return jax.device_get(result)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
