"""What a batch of pairs is made of: rows of a manifest, their settings, their pictures.

Pairs of one recipe and one working size share a compiled program.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxstyle
from jaxstyle.app.inputs import load_mask
from jaxstyle.app.job import Job
from jaxstyle.app.memory import estimate_memory
from jaxstyle.app.working_size import MULTIPLE, crop, cropped, extend, extended
from jaxstyle.io import InputError, check_extension, load_image, read_shape
from jaxstyle.io.manifest_rows import ManifestErrors, Row
from jaxstyle.solvers import ScipyLBFGSB
from jaxstyle.terms.protocol import layers_of

# Pixels that a batch has at most, beyond which there is nothing to be gained.
_CPU_PIXELS = 8 * 128 * 128
_ACCELERATOR_PIXELS = 16 * 512 * 512


class Pair(NamedTuple):
    """A row of a manifest and all its settings."""

    row: Row
    job: Job
    digest: str  # of the settings


class Lane(NamedTuple):
    """A pair as it goes into a batch."""

    content: np.ndarray
    styles: tuple[np.ndarray, ...]
    masks: np.ndarray | None
    shape: tuple[int, int]  # of the result


@dataclasses.dataclass(frozen=True)
class Batch:
    """Pairs that are painted together, and what they have in common."""

    pairs: tuple[Pair, ...]
    size: int  # lanes of the compiled program
    shape: tuple[int, int]
    style_shapes: tuple[tuple[int, int], ...]


def plan_pairs(
    rows: Sequence[Row], name: str, output_dir: Path, make: Callable[..., Job]
) -> list[Pair]:
    """Makes the job of each row.

    Args:
        rows: of a manifest.
        name: of the manifest, for messages.
        output_dir: where outputs go.
        make: makes a job of `content`, `style`, `output` and the row's own settings.

    Raises:
        InputError: with every row that has wrong settings.
    """
    errors = ManifestErrors(name)
    pairs = []
    for row in rows:
        try:
            job = make(
                content=str(row.content),
                style=tuple(map(str, row.styles)),
                output=str(output_dir / row.output),
                mask=tuple(map(str, row.masks)),
                **_settings(row.settings),
            )
            if isinstance(job.recipe.solver, ScipyLBFGSB):
                raise InputError(
                    f"recipe {job.recipe.name} runs on the host, one pair at a time: use stylize"
                )
            if job.init not in ("content", "noise", "mean"):
                raise InputError(f"init {job.init}: choose from content, noise and mean")
            check_extension(job.output, size=job.size)
        except InputError as error:
            errors.add(row.line, error)
            continue
        job = dataclasses.replace(job, multiple_of=MULTIPLE)
        pairs.append(Pair(row, job, _digest(job)))
    errors.check()
    return pairs


def _settings(texts: Mapping[str, Any]) -> dict[str, Any]:
    """The row's own settings as `make_job` takes them."""

    def number(kind: Callable[[str], Any], column: str, text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise InputError(f"{column} {text!r:.60} is no number") from None

    found: dict[str, Any] = {}
    for column, text in texts.items():
        if column in ("size", "steps", "coarsest", "seed"):
            found[column] = number(int, column, text)
        elif column == "style_scale":
            found[column] = number(float, column, text)
        elif column == "style_weights":
            found[column] = tuple(number(float, column, each) for each in text)
        elif column == "set":
            found["settings"] = tuple(text)
        elif column == "color" and text not in ("style", "luminance", "match"):
            raise InputError(f"color {text!r:.60}: choose from style, luminance and match")
        else:
            found[column] = tuple(text) if isinstance(text, list) else text
    return found


def _digest(job: Job) -> str:
    """Tells settings apart; the content of pictures is compared elsewhere."""
    settings = job.identity
    if job.init == "content":
        del settings["seed"]  # of no effect
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def default_batch_size(recipe: jaxstyle.Recipe, height: int, width: int, budget: float) -> int:
    """Returns how many pairs of a size one device paints at once, within `budget` bytes."""
    pixels = _CPU_PIXELS if jax.default_backend() == "cpu" else _ACCELERATOR_PIXELS
    number = max(min(pixels // (height * width), 64), 1)
    while number > 1 and estimate_memory(recipe, height, width, batch=number) > 0.8 * budget:
        number //= 2
    return number


def make_batches(
    pairs: Sequence[tuple[Pair, Sequence[tuple[int, int]]]],
    batch_size: Callable[[Pair, tuple[int, int]], int],
) -> list[Batch]:
    """Groups pairs of one recipe and one working size, in the order of their first pair.

    Args:
        pairs: each with the sizes of its pictures, as `pictures_of` has them.
        batch_size: the most pairs at once, from a group's first pair and the working size `(H, W)`.
    """
    groups: dict[Any, list[Pair]] = {}
    for pair, (content, *styles) in pairs:
        key = (
            extended(content, MULTIPLE),
            tuple(cropped(style, MULTIPLE) for style in styles),
            _common(pair.job),
            bool(pair.row.masks),
        )
        groups.setdefault(key, []).append(pair)
    batches = []
    for (shape, style_shapes, *_), members in groups.items():
        # As few batches as may be, of one size, so that the last one has hardly a lane left over.
        number = -(-len(members) // batch_size(members[0], shape))
        size = -(-len(members) // number)
        for start in range(0, len(members), size):
            batches.append(Batch(tuple(members[start : start + size]), size, shape, style_shapes))
    return batches


def pictures_of(pair: Pair) -> list[tuple[Path, int]]:
    """The files of a pair and the long edge that each is read with; the content first."""
    style_size = max(round(pair.job.size * pair.job.style_scale), 1)
    return [(pair.row.content, pair.job.size), *((path, style_size) for path in pair.row.styles)]


def shape_of(path: Path, size: int) -> tuple[int, int]:
    """Returns `(H, W)` of a picture that is read with a long edge of `size`."""
    return read_shape(path, size=size)


def _common(job: Job) -> Any:
    """What a batch has in common: all of the recipe but its weights, which each lane has."""
    recipe = dataclasses.replace(
        job.recipe, weights=dict.fromkeys(job.recipe.weights, 1.0), name="", description=""
    )
    return recipe, job.init, job.precision, len(job.styles)


def load_lane(pair: Pair, batch: Batch) -> Lane:
    """Reads a pair's pictures and brings them to the sizes of its batch.

    Raises:
        InputError: if one cannot be read, or is too small.
    """
    network = pair.job.recipe.network
    images = [load_image(path, size=size) for path, size in pictures_of(pair)]
    content, *styles = images
    minimum = network.minimum_size(layers_of(pair.job.recipe.terms))
    expected = [batch.shape, *batch.style_shapes]
    found = [
        extended(content.shape, MULTIPLE),
        *(cropped(style.shape, MULTIPLE) for style in styles),
    ]
    if found != expected:
        raise InputError("a picture's size is another one than its header says; save it again")
    for shape in ((*content.shape[:2],), *batch.style_shapes):
        if min(shape) < minimum:
            raise InputError(
                f"a picture is {shape[1]}x{shape[0]} px at size {pair.job.size}; recipe "
                f"{pair.job.recipe.name} needs at least {minimum} px on the short edge"
            )
    masks = None
    if pair.row.masks:
        masks = np.stack(
            [extend(load_mask("mask", path, content), batch.shape) for path in pair.row.masks]
        )
    return Lane(
        extend(content, batch.shape),
        tuple(crop(style, shape) for style, shape in zip(styles, batch.style_shapes, strict=True)),
        masks,
        (content.shape[0], content.shape[1]),
    )


def stack_shares(jobs: Sequence[Job]) -> Any:
    """The shares of the styles, a row for each pair."""
    number = len(jobs[0].styles)
    if all(job.style_weights is None for job in jobs):
        return None
    return np.array([job.style_weights or (1.0,) * number for job in jobs], np.float32)
