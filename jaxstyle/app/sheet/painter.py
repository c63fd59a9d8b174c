"""Paints the cells of a sheet, those of a group in lockstep."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import jaxstyle
from jaxstyle import StyleResult
from jaxstyle.app import devices
from jaxstyle.app.console import print_message, time_left
from jaxstyle.app.interrupts import Interrupts
from jaxstyle.app.listeners import NOT_FINITE, Listener, Step, follow
from jaxstyle.app.sheet.plan import Cell, Group, tell
from jaxstyle.app.sidecar import count_compilation
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io.files import describe_error
from jaxstyle.io.image_alpha import on_white
from jaxstyle.io.network_weights.load import load_params_and_info
from jaxstyle.solvers import Status

_CPU_CHUNK = 2**18  # pixels of all lanes times steps, between two looks at the results


class SheetPainter:
    """Paints group after group.

    Args:
        groups: what to paint.
        call: calls compiled programs, see `stylize_steps`.
        interrupts: ends the work.
        show: shows progress, see `show_progress`.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        call: Callable[..., Any],
        interrupts: Interrupts,
        show: Callable[..., None],
    ) -> None:
        self._groups, self._call, self._interrupts = groups, call, interrupts
        self._show = show
        self._total = sum(len(group.cells) for group in groups)
        self._work = sum(group.work() * len(group.cells) for group in groups)
        self._done, self._work_done = 0, 0.0
        self._begin = time.perf_counter()

    def paint(self) -> None:
        """Paints all cells, or those before an interrupt; a cell that fails says why."""
        self._begin = time.perf_counter()
        for group in self._groups:
            for start in range(0, len(group.cells), group.lanes):
                if self._interrupts.requested:
                    return
                self._paint_or_say_why(group, group.cells[start : start + group.lanes])

    def _paint_or_say_why(self, group: Group, cells: Sequence[Cell]) -> None:
        try:
            self._paint_together(group, cells)
        except (RuntimeError, MemoryError, ValueError) as error:
            if devices.is_out_of_memory(error) and len(cells) > 1:
                print_message("out of memory: continuing with one picture at a time")
                for cell in cells:
                    self._paint_or_say_why(group, [cell])
                return
            refused = isinstance(error, ValueError)  # by the library
            problem = describe_error(error) + ("" if refused else devices.advice_for(error))
            for cell in cells:
                cell.problem = problem
        for cell in cells:
            tell(cell, group.job.progress)
        if self._interrupts.requested:
            return
        self._done += len(cells)
        self._work_done += group.work() * len(cells)
        self._show_progress(cells, 0.0)

    def _paint_together(self, group: Group, cells: Sequence[Cell]) -> None:
        """Paints cells in lockstep; after each step they have their best pictures so far."""
        job = group.job
        params, info = load_params_and_info(
            job.params, preprocessing=vgg_of(job.recipe).preprocessing
        )
        for cell in cells:
            cell.facts = {"weights": {"source": info.source, "sha256": info.sha256}}
        compiled = {"compile": 0.0}
        with devices.precision(job.precision), count_compilation(compiled):
            steps = (
                Step(number, result.trace.shape[-1], jax.device_get(result))
                for number, result in self._steps(group, cells, params)
            )
            watch = _Watch(group, cells, compiled, self._show_progress)
            complete = follow(steps, [watch], lambda: self._interrupts.requested)
        for cell in cells:
            cell.is_done = complete and not cell.problem

    def _steps(
        self, group: Group, cells: Sequence[Cell], params: Any
    ) -> Iterator[tuple[int, StyleResult]]:
        """Returns the steps of a run, whose results have a leading dimension for the cells."""
        job, pictures, number = group.job, group.loaded.pictures, len(cells)
        content = pictures.content
        chunk = devices.steps_at_once(number * content[..., 0].size, cpu=_CPU_CHUNK, other=10)
        options: dict[str, Any] = {
            "recipe": job.recipe,
            "style_weights": job.style_weights if len(job.styles) > 1 else None,
            "every": 1 if job.recipe.solver.on_host else chunk,
            "call": self._call,
            "tile": group.tile,
        }
        if number == 1:
            single = jaxstyle.stylize_steps(
                params,
                content,
                pictures.styles,
                masks=pictures.masks,
                style_masks=pictures.style_masks,
                init=pictures.init,
                key=devices.random_keys(job.seed),
                **options | {"recipe": cells[0].accepted.recipe},
            )
            for step, result in single:
                yield step, jax.tree.map(lambda leaf: np.asarray(leaf)[None], result)
            return

        def repeat(value: Any) -> Any:
            return value if value is None or isinstance(value, str) else np.stack([value] * number)

        style_masks = pictures.style_masks
        names = job.recipe.weights
        lanes = [cell.accepted.recipe.weights for cell in cells]
        yield from jaxstyle.stylize_batch_steps(
            params,
            repeat(content),
            tuple(map(repeat, pictures.styles)),
            weights={name: np.array([own[name] for own in lanes], np.float32) for name in names},
            masks=repeat(pictures.masks),
            style_masks=None if style_masks is None else [*map(repeat, style_masks)],
            init=repeat(pictures.init),
            key=devices.random_keys([job.seed] * number),
            **options,
        )

    def _show_progress(self, cells: Sequence[Cell], begun: float) -> None:
        """Shows what is done; `begun` is the work done on each of the cells in work."""
        work = self._work_done + begun * len(cells)
        seconds = time.perf_counter() - self._begin
        left = time_left(seconds * (self._work - work) / work if work else math.inf)
        share = self._total * work / self._work - self._done if self._work else 0.0
        labels = ", ".join(cell.label for cell in cells)
        self._show(self._done, self._total, f"{left}, {labels}", max(share, 0.0))


class _Watch(Listener):
    """Keeps the picture of each cell after each step, and shows the part that is done."""

    def __init__(
        self,
        group: Group,
        cells: Sequence[Cell],
        compiled: Mapping[str, float],
        show: Callable[[Sequence[Cell], float], None],
    ) -> None:
        self._group, self._cells, self._compiled, self._show = group, cells, compiled, show
        self._begin = time.perf_counter()

    def see(self, step: Step) -> None:
        """Keeps and shows the step."""
        seconds = time.perf_counter() - self._begin - self._compiled["compile"]
        seconds /= len(self._cells)
        for lane, cell in enumerate(self._cells):
            result = jax.tree.map(lambda leaf, lane=lane: leaf[lane], step.result)
            _keep(cell, self._group, result, step, seconds)
        self._show(self._cells, self._group.work(step.number, step.total))


def _keep(cell: Cell, group: Group, result: StyleResult, step: Step, seconds: float) -> None:
    """Keeps the picture of a cell after a step, and what is known of it."""
    loaded, (height, width) = group.loaded, group.loaded.shape
    status = Status(int(result.status))
    finite = np.isfinite(result.loss) and np.isfinite(result.image).all()
    cell.problem = "" if finite and status != Status.NON_FINITE_START else NOT_FINITE
    if cell.problem:
        return
    cell.facts |= {
        "status": status.name.lower(),
        "steps": step.number,
        "total": step.total,
        "num_evaluations": int(result.num_evaluations),
        "seconds": round(seconds, 3),
        "loss": float(result.loss),
        "solver_loss": float(result.solver_loss),
    }
    image = np.asarray(result.image)[:height, :width]
    cell.image = image if loaded.alpha is None else on_white(image, loaded.alpha)
