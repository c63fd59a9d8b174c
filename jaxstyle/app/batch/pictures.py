"""The pictures of a batch, padded and cropped to its sizes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstyle.app.batch.plan import Batch, Pair
from jaxstyle.app.inputs import check_size, load_mask
from jaxstyle.app.job import Job
from jaxstyle.app.working_size import MULTIPLE, crop, cropped_shape, pad, padded_shape
from jaxstyle.io import InputError, load_image, read_shape
from jaxstyle.io.manifest_rows import ManifestErrors

_THREADS = 4  # to look at pictures


class Lane(NamedTuple):
    """The pictures of a pair at the sizes of its batch."""

    content: np.ndarray
    styles: tuple[np.ndarray, ...]
    masks: np.ndarray | None
    shape: tuple[int, int]  # of the result


def check_pictures(pairs: Sequence[Pair], errors: ManifestErrors) -> None:
    """Looks at the pictures of pairs that are not painted, before anything starts.

    Only their headers are read: damaged pixels are found while painting.

    Args:
        pairs: of a manifest.
        errors: collects the first picture of each row that is missing or no picture.
    """

    def problem_of(path: Path) -> str | None:
        try:
            read_shape(path)
        except InputError as error:
            return str(error)
        return None

    waiting = [pair for pair in pairs if not pair.job.output.is_file()]
    paths = list(dict.fromkeys(path for pair in waiting for path in pair.job.pictures))
    with ThreadPoolExecutor(_THREADS) as threads:
        problems = dict(zip(paths, threads.map(problem_of, paths), strict=True))
    for pair in waiting:
        found = [problem for path in pair.job.pictures if (problem := problems[path]) is not None]
        if found:
            errors.add(pair.row.line, found[0])


def pictures_of(pair: Pair) -> list[tuple[Path, int]]:
    """Returns the files of a pair, the content first, and the long edge that each is read with."""
    styles = ((path, pair.job.style_size) for path in pair.row.styles)
    return [(pair.row.content, pair.job.size), *styles]


def shape_of(path: Path, size: int) -> tuple[int, int]:
    """Returns the `(H, W)` that a picture has when it is read with a long edge of `size`."""
    return read_shape(path, size=size)


def load_lane(pair: Pair, batch: Batch) -> Lane:
    """Reads the pictures of a pair, and pads and crops them to the sizes of its batch.

    Raises:
        InputError: if a picture cannot be read, or is too small.
    """
    images = [load_image(path, size=size) for path, size in pictures_of(pair)]
    content, *styles = images
    expected = [batch.shape, *batch.style_shapes]
    found = [
        padded_shape(content.shape, MULTIPLE),
        *(cropped_shape(style.shape, MULTIPLE) for style in styles),
    ]
    if found != expected:
        raise InputError("the size of a picture differs from the size in its header; save it again")
    check_size(pair.job, "content", pair.row.content, content.shape)
    for path, shape in zip(pair.row.styles, batch.style_shapes, strict=True):
        check_size(pair.job, "style", path, shape)
    masks = None
    if pair.row.masks:
        masks = np.stack(
            [pad(load_mask("mask", path, content), batch.shape) for path in pair.row.masks]
        )
    return Lane(
        pad(content, batch.shape),
        tuple(crop(style, shape) for style, shape in zip(styles, batch.style_shapes, strict=True)),
        masks,
        (content.shape[0], content.shape[1]),
    )


def stack_shares(jobs: Sequence[Job]) -> Any:
    """Returns the style shares, a row for each pair; None if all are equal."""
    number = len(jobs[0].styles)
    if all(job.style_weights is None for job in jobs):
        return None
    return np.array([job.style_weights or (1.0,) * number for job in jobs], np.float32)
