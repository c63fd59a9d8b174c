"""Plans a sheet: which settings it compares, which of them are painted together, and the cost."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxstyle.app import inputs
from jaxstyle.app.available_memory import available_memory
from jaxstyle.app.batch.plan import Machine, default_batch_size
from jaxstyle.app.console import print_json, print_message, sizes_of_steps, time_left
from jaxstyle.app.job import Job, find_recipe, is_file_name
from jaxstyle.app.loss_weights import parse_number
from jaxstyle.app.memory_estimate import estimate_memory, format_memory
from jaxstyle.io import InputError
from jaxstyle.io.errors import closest, count
from jaxstyle.io.files import PICTURE_SUFFIXES, show_path
from jaxstyle.recipes import RECIPES
from jaxstyle.solvers import ScipyLBFGSB

ALL = "recipes"
"""What `--sheet` is called with for all recipes that paint a photo."""
# Measured with VGG19 up to relu5_1: half a second at 256x192 px on two cores.
_CORE_SECONDS_PER_PIXEL = 2e-5
_LONG = 120.0  # seconds
_MOST_STEPS = 10**9  # more than a run has


@dataclasses.dataclass
class Cell:
    """A picture of a sheet: its settings, and what has become of it so far."""

    label: str
    job: Job | None
    """None if the settings are refused."""
    problem: str = ""
    """Why there is no picture."""
    image: np.ndarray | None = None
    """`(H, W, 3)` on white, the best so far."""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Steps, loss and the rest about `image`, for the JSON."""
    is_done: bool = False

    @property
    def accepted(self) -> Job:
        """The job of a cell whose settings are not refused."""
        assert self.job is not None  # noqa: S101
        return self.job

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture to show."""
        return self.image is not None and not self.problem

    @property
    def status(self) -> str:
        """How it has ended: as the status of a picture, or `failed`, `interrupted`, `missing`."""
        if self.problem:
            return "failed"
        if self.image is None:
            return "missing"
        return str(self.facts["status"]) if self.is_done else "interrupted"

    @property
    def note(self) -> str:
        """A few words about the picture, or what is wrong with it."""
        if self.image is None or self.problem:
            return self.problem or "not painted"
        steps, seconds = self.facts["steps"], self.facts["seconds"]
        if not self.is_done:
            return f"stopped after step {steps} of {self.facts['total']}"
        return f"{count(steps, 'step')}, {seconds:.0f} s"


class Group(NamedTuple):
    """Cells that differ in loss weights only, so that one compiled program paints them."""

    cells: list[Cell]
    loaded: inputs.Loaded
    """Their pictures; the network weights are left out."""
    lanes: int
    """Cells painted at a time."""
    tile: int | None

    @property
    def job(self) -> Job:
        """The settings of the first cell."""
        return self.cells[0].accepted

    def work(self, steps: int | None = None, total: int = _MOST_STEPS) -> float:
        """Returns pixels times evaluations of the loss of one cell, for `steps` of `total`."""
        solver = self.job.recipe.solver
        sizes = sizes_of_steps(self.job.recipe, total, self.loaded.pictures.content.shape)
        evaluations = solver.maxfun if isinstance(solver, ScipyLBFGSB) else 1
        return evaluations * float(sum(width * height for width, height in sizes[:steps]))

    @property
    def memory(self) -> float:
        """Bytes, about."""
        pictures = self.loaded.pictures
        return estimate_memory(
            self.job.recipe,
            *pictures.content.shape[:2],
            tile=self.tile,
            batch=self.lanes,
            style_shapes=[style.shape for style in pictures.styles],
        )


def make_cells(
    texts: Sequence[str], recipe: str, weights: Sequence[str], make: Callable[..., Job]
) -> list[Cell]:
    """Makes the cells of a sheet.

    Args:
        texts: `recipes`, names or files of recipes, or one `TERM=X,Y,Z`.
        recipe: name or file, for `TERM=X,Y,Z`.
        weights: the loss weights that are overridden in all cells.
        make: makes the job of a cell from its `label`, and `recipe` or `weights`.

    Raises:
        InputError: for an unknown recipe or term, a number that is none, or if all cells are
            refused.
    """
    found: dict[str, Mapping[str, Any]] = {}

    def add(label: str, longer: str, **changes: Any) -> None:
        found[longer if label in found else label] = changes

    if any("=" in text and not is_file_name(text) for text in texts):
        for term, number in _numbers(texts, find_recipe(recipe).weights):
            own = (*weights, f"{term}={number!r}")
            add(f"{term} {number:g}", f"{term} {number!r}", weights=own)
    else:
        for name in _recipes(texts):
            is_file = is_file_name(name)
            label = show_path(Path(name).stem) if is_file else name
            longer = show_path(name) if is_file else f"{name} (built in)"
            add(label, longer, recipe=name)
    cells = []
    for label, changes in found.items():
        try:
            cells.append(Cell(label, make(label=label, **changes)))
        except InputError as error:
            cells.append(Cell(label, None, str(error)))
    if all(cell.job is None for cell in cells):
        raise InputError(cells[0].problem)
    return cells


def _recipes(texts: Sequence[str]) -> list[str]:
    names: dict[str, None] = {}
    for text in texts:
        if text == ALL:
            photos = [
                name
                for name, recipe in RECIPES.items()
                if recipe.init in ("content", "detail")
                or any(term.target_image == "content" for term in recipe.terms)
            ]
            names |= dict.fromkeys(photos)
            continue
        if text.lower().endswith(PICTURE_SUFFIXES):
            raise InputError(
                f"--sheet {text}: give the pictures before it: jaxstyle stylize PHOTO PAINTING "
                f"--sheet {ALL}"
            )
        try:
            find_recipe(text)
        except InputError as error:
            raise InputError(
                f"--sheet: {error}; or write --sheet {ALL} for all, or TERM=X,Y,Z for several "
                "loss weights"
            ) from None
        names[text] = None
    return list(names)


def _numbers(texts: Sequence[str], terms: Mapping[str, float]) -> list[tuple[str, float]]:
    """Returns the term and each of its loss weights."""
    (text, *others) = texts
    term, _, values = text.partition("=")
    if others or not values:
        raise InputError(
            f"--sheet {' '.join(texts)}: write one term and its loss weights, such as "
            "style=0.3,1,3, or the names of recipes"
        )
    if term not in terms:
        raise InputError(
            f"--sheet {text}: the terms of the recipe are {', '.join(terms)}{closest(term, terms)}"
        )
    numbers = []
    for value in values.split(","):
        numbers.append(parse_number(value))
        if not 0 <= numbers[-1] < math.inf:
            raise InputError(f"--sheet {text}: {value!r} is no number of at least 0")
    return [(term, number) for number in dict.fromkeys(numbers)]


def make_groups(cells: Sequence[Cell]) -> list[Group]:
    """Groups cells that one compiled program paints; a cell that cannot be painted says why.

    Raises:
        InputError: if none can be painted.
    """
    found: dict[Any, list[Cell]] = {}
    for cell in cells:
        if cell.job is not None:
            recipe = cell.job.recipe
            common = dataclasses.replace(recipe, weights=dict.fromkeys(recipe.weights, 1.0))
            found.setdefault(common, []).append(cell)
    groups = []
    for members in found.values():
        try:
            groups.append(_load(members))
        except InputError as error:
            for cell in members:
                cell.problem = str(error)
    if not groups:
        raise InputError(next(cell.problem for cell in cells if cell.problem))
    for cell in filter(lambda cell: cell.problem, cells):
        tell(cell, groups[0].job.progress)
    return groups


def tell(cell: Cell, progress: str) -> None:
    """Says how a cell has ended: a problem to people, and in any case to programs."""
    if cell.problem:
        print_message(f"{cell.label}: not painted: {cell.problem}")
        facts = {"problem": cell.problem}
    else:
        facts = {key: cell.facts[key] for key in ("loss", "seconds")}
    print_json(progress, {"cell": cell.label, "status": cell.status, **facts})


def _load(cells: list[Cell]) -> Group:
    """Reads the pictures of cells, and chooses how many are painted at a time.

    Raises:
        InputError: see `inputs.load` and `inputs.fit_memory`.
    """
    job = cells[0].accepted
    loaded = inputs.load(job)._replace(params=None)
    tile = inputs.fit_memory(job, loaded.pictures.content, loaded.pictures.styles, None)
    memory = available_memory() if job.memory is None else job.memory
    machine = Machine(jax.default_backend(), 1, memory)
    height, width, _ = loaded.pictures.content.shape
    most = default_batch_size(job.recipe, height, width, machine)
    alone = tile is not None or job.recipe.solver.on_host
    parts = -(-len(cells) // (1 if alone else most))
    return Group(cells, loaded, -(-len(cells) // parts), tile)


def announce(groups: Sequence[Group]) -> None:
    """Says before a sheet is painted what it takes."""
    number = sum(len(group.cells) for group in groups)
    height, width = groups[0].loaded.shape
    memory = format_memory(max(group.memory for group in groups))
    text = f"{count(number, 'picture')} of {width}x{height} px, up to {memory} of memory"
    if jax.default_backend() == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        work = sum(group.work() * len(group.cells) for group in groups)
        seconds = _CORE_SECONDS_PER_PIXEL * work / (cores or 1)
        left = time_left(seconds).removesuffix(" left")
        text += (
            f", roughly {left} on {count(cores or 1, 'core')}, and half a minute to compile a "
            "recipe for the first time"
        )
        if seconds > _LONG:
            text += "; a smaller --size, or --steps 50, takes less"
    print_message(text)
