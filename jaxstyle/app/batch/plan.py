"""Plans a batch: makes a job of each row of the manifest, and groups the pairs.

Pairs of one recipe and one working size share a compiled program.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import jaxstyle
from jaxstyle.app.job import Job
from jaxstyle.app.memory_estimate import estimate_memory
from jaxstyle.app.working_size import MULTIPLE, cropped_shape, padded_shape
from jaxstyle.io import InputError, check_extension
from jaxstyle.io.locations import Location
from jaxstyle.io.manifest_rows import ManifestErrors, Row
from jaxstyle.recipe import Color
from jaxstyle.terms.sampled import names_of_drawing

# Pixels of a batch at most. Larger batches are not faster per pair.
_CPU_PIXELS = 8 * 128 * 128
_ACCELERATOR_PIXELS = 16 * 512 * 512


@dataclasses.dataclass(frozen=True)
class BatchJob:
    """The settings of a batch that do not belong to single pairs."""

    output_dir: Location
    manifest: Location | None = None
    batch_size: int | None = None
    engine: str = "local"  # ray
    address: str | None = None  # of a Ray cluster
    gpus_per_worker: int | None = None
    cpus_per_worker: int | None = None
    devices: int | None = None
    memory: float | None = None
    slice: tuple[int, int] = (1, 1)  # its index, from 1, and the number of slices
    force: bool = False
    retry_failed: bool = False
    overwrite: bool = False  # files that jaxstyle did not write
    report: Location | None = None  # a folder
    command: str = ""  # resumes it
    progress: str = "auto"  # plain, json
    quiet: bool = False

    @property
    def name(self) -> str:
        """The name of the manifest, for messages."""
        return str(self.manifest or self.output_dir)


class Pair(NamedTuple):
    """A row of a manifest and all its settings.

    There may be a million pairs, so those with equal settings share them.
    """

    row: Row
    settings: Job  # its pictures and its output are those of another row
    folder: Location  # of the outputs
    digest: str  # of the settings

    @property
    def job(self) -> Job:
        """The job that paints the pair; it is made anew each time."""
        row = self.row
        return dataclasses.replace(
            self.settings,
            content=row.content,
            styles=row.styles,
            masks=row.masks,
            output=self.output,
        )

    @property
    def pictures(self) -> list[Location]:
        """All pictures that are read, as `Job` has them."""
        return [self.row.content, *self.row.styles, *self.row.masks]

    @property
    def sources(self) -> list[Location]:
        """All files that are read, as `Job` has them."""
        files = (self.settings.params, self.settings.recipe_file)
        return [*self.pictures, *(path for path in files if path is not None)]

    @property
    def output(self) -> Location:
        """The picture."""
        return self.folder / self.row.output

    @property
    def metadata_path(self) -> Location:
        """The JSON next to the output."""
        return self.output.with_suffix(".json")


class Machine(NamedTuple):
    """What the sizes of batches depend on."""

    backend: str  # of JAX
    devices: int  # that share a batch
    memory: float  # bytes


@dataclasses.dataclass(frozen=True)
class Batch:
    """Pairs that are painted together, and what they have in common.

    A lane does not affect the others. So a run that resumes, or tries again, paints the same batch
    for those of its pairs that are wanted, and gets the same pictures.
    """

    pairs: tuple[Pair, ...]
    wanted: tuple[int, ...]  # indices of the pairs to paint
    size: int  # lanes of the compiled program
    shape: tuple[int, int]
    style_shapes: tuple[tuple[int, int], ...]


def plan_pairs(
    rows: Sequence[Row],
    errors: ManifestErrors,
    output_dir: Location,
    make: Callable[..., Job],
    size: int | str | None = None,
) -> list[Pair]:
    """Finds the settings of each row.

    Args:
        rows: of a manifest.
        errors: collects what is wrong with the settings of a row.
        output_dir: where outputs go.
        make: makes a job from `content`, `style`, `output` and the row's own settings.
        size: of the rows that have none of their own, as `make` knows it.

    Returns:
        The pairs of the rows without errors.
    """
    pairs = []
    made: dict[Any, tuple[Job, str]] = {}
    for row in rows:
        # What the settings of a row depend on, besides the size of a picture.
        suffix = os.path.splitext(row.output)[1]
        key = str(row.settings), len(row.styles), len(row.masks), suffix
        own_size = str(row.settings.get("size", size)).strip().lower() == "original"
        found = None if own_size else made.get(key)
        if found is None:
            try:
                job = _make(row, output_dir, make)
            except InputError as error:
                errors.add(row.line, error)
                continue
            found = made.setdefault((*key, job.size) if own_size else key, (job, _digest(job)))
        pairs.append(Pair(row, found[0], output_dir, found[1]))
    return pairs


def _make(row: Row, output_dir: Location, make: Callable[..., Job]) -> Job:
    """Makes the job of a row.

    Raises:
        InputError: if a setting is wrong, or not for a batch.
    """
    job = make(
        content=row.content,
        style=row.styles,
        output=output_dir / row.output,
        mask=row.masks,
        **_settings(row.settings),
    )
    if job.recipe.solver.on_host:
        raise InputError(
            f"recipe {job.recipe.name} runs on the host, one pair at a time: use stylize"
        )
    if job.recipe.network.wraps:
        raise InputError(
            f"recipe {job.recipe.name} makes edges that fit, which a batch, where pictures "
            "are padded, cannot: use stylize"
        )
    if job.init_picture is not None:
        raise InputError(f"init {job.init}: choose from content, noise, mean and detail")
    check_extension(job.output, size=job.size, bits=job.bits)
    return dataclasses.replace(job, multiple_of=MULTIPLE)


def _settings(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the row's own settings as arguments of `make_job`."""

    def number(kind: type, column: str, text: str) -> Any:
        try:
            # A spreadsheet or pandas writes 512 as 512.0.
            whole = kind is float or re.fullmatch(r"\s*[+-]?\d+\s*", text) or float(text) % 1
            return kind(text if whole else float(text))
        except (ValueError, OverflowError):
            what = "number" if kind is float else "whole number"
            raise InputError(f"{column} {text!r:.60} is not a {what}") from None

    found: dict[str, Any] = {}
    for column, text in texts.items():
        if column == "size" and text.strip().lower() == "original":
            found[column] = "original"
        elif column in ("size", "steps", "coarsest", "seed"):
            found[column] = number(int, column, text)
        elif column in ("style_scale", "strength"):
            found[column] = number(float, column, text)
        elif column == "style_weights":
            found[column] = tuple(number(float, column, each) for each in text)
        elif column == "set":
            found["settings"] = tuple(text)
        elif column == "color" and text not in get_args(Color):
            raise InputError(f"color {text!r:.60}: choose from {', '.join(get_args(Color))}")
        else:
            found[column] = tuple(text) if isinstance(text, list) else text
    return found


def _digest(job: Job) -> str:
    """Returns a digest of the settings. The pictures themselves are compared elsewhere."""
    settings, recipe = job.identity, job.recipe
    if job.init == "content" and recipe.grain == 0 and not names_of_drawing(recipe.terms):
        del settings["seed"]  # has no effect
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def default_batch_size(recipe: jaxstyle.Recipe, height: int, width: int, machine: Machine) -> int:
    """Returns how many pairs of one size a machine paints at once."""
    pixels, budget = _ACCELERATOR_PIXELS, 0.8 * machine.memory
    if machine.backend == "cpu":
        pixels = _CPU_PIXELS
    number = max(min(pixels // (height * width), 64), 1)
    while number > 1 and estimate_memory(recipe, height, width, batch=number) > budget:
        number //= 2
    return number * machine.devices


def make_batches(
    pairs: Iterable[tuple[Pair, Sequence[tuple[int, int]]]],
    batch_size: Callable[[Pair, tuple[int, int]], int],
) -> list[Batch]:
    """Groups pairs of one recipe and one working size, in the order of their first pair.

    Args:
        pairs: each with the sizes of its pictures, in the order of `pictures_of`.
        batch_size: returns the largest batch for the first pair of a group and its working size
            `(H, W)`.
    """
    groups: dict[Any, list[Pair]] = {}
    # A recipe is slow to hash and to compare, so each is once.
    numbers: dict[Any, int] = {}
    common: dict[int, int] = {}
    for pair, (content, *styles) in pairs:
        if id(pair.settings) not in common:
            found = numbers.setdefault(_common(pair.settings), len(numbers))
            common[id(pair.settings)] = found
        key = (
            padded_shape(content, MULTIPLE),
            tuple(cropped_shape(style, MULTIPLE) for style in styles),
            common[id(pair.settings)],
            bool(pair.row.masks),
        )
        groups.setdefault(key, []).append(pair)
    batches = []
    for (shape, style_shapes, *_), members in groups.items():
        size = _even_size(len(members), batch_size(members[0], shape))
        for start in range(0, len(members), size):
            part = tuple(members[start : start + size])
            batches.append(Batch(part, tuple(range(len(part))), size, shape, style_shapes))
    return batches


def missing_parts(batches: Iterable[Batch], is_missing: Callable[[Pair], bool]) -> list[Batch]:
    """Returns the batches that have a missing pair; only such pairs are wanted of them."""
    parts = []
    for batch in batches:
        if wanted := tuple(n for n, pair in enumerate(batch.pairs) if is_missing(pair)):
            parts.append(dataclasses.replace(batch, wanted=wanted))
    return parts


def _even_size(number: int, most: int) -> int:
    """Returns the size of equal batches of `number` pairs, which leaves few lanes unused.

    A batch costs as much as its lanes and one more, so that few large batches are preferred. In
    manifests of 2,000 pairs with 20 sizes and 5 recipes, less than 5 % of the lanes are unused.
    """
    sizes = range(min(number, most), 0, -1)
    return min(sizes, key=lambda size: -(-number // size) * (size + 1))


def _common(job: Job) -> Any:
    """Returns what a batch has in common: the recipe without its weights, which each lane has."""
    recipe = dataclasses.replace(
        job.recipe, weights=dict.fromkeys(job.recipe.weights, 1.0), name="", description=""
    )
    return recipe, job.init, job.precision, len(job.styles)
