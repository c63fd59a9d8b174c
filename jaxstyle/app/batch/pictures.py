"""The pictures of a batch, padded and cropped to its sizes."""

import functools
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from jaxstyle.app.batch.plan import Batch, Pair
from jaxstyle.app.inputs import check_size, crop_masks, load_masks, read_source
from jaxstyle.app.job import Job
from jaxstyle.app.saving import announce_transparency
from jaxstyle.app.working_size import MULTIPLE, crop, cropped_shape, pad, padded_shape
from jaxstyle.io import InputError, read_shape
from jaxstyle.io.images import Picture, read_picture
from jaxstyle.io.locations import URL, Location
from jaxstyle.io.manifest_rows import ManifestErrors

_THREADS = 4  # to look at pictures
_THREADS_FAR = 32  # that wait for servers
_KEPT = 2**27  # bytes of pictures that were read


class Lane(NamedTuple):
    """The pictures of a pair at the sizes of its batch."""

    content: np.ndarray
    styles: tuple[np.ndarray, ...]
    masks: np.ndarray | None  # one for each style, or one for all
    style_masks: Sequence[np.ndarray | None] | None
    shape: tuple[int, int]  # of the result
    alpha: np.ndarray | None  # its opacity, `shape`
    dpi: tuple[float, float] | None


def check_pictures(pairs: Sequence[Pair], errors: ManifestErrors) -> None:
    """Looks at the pictures of pairs that are not painted, before anything starts.

    Only their headers are read: damaged pixels are found while painting.

    Args:
        pairs: of a manifest.
        errors: collects the first picture of each row that is missing or no picture.
    """

    def problem_of(path: Location) -> str | None:
        try:
            read_shape(path)
        except InputError as error:
            return str(error)
        return None

    if pairs and isinstance(pairs[0].folder, URL):
        pairs[0].folder.list()  # rather than to ask for each picture
    waiting = [pair for pair in pairs if not pair.output.is_file()]
    paths = list(dict.fromkeys(path for pair in waiting for path in pair.pictures))
    far = any(isinstance(path, URL) for path in paths)
    with ThreadPoolExecutor(_THREADS_FAR if far else _THREADS) as threads:
        problems = dict(zip(paths, threads.map(problem_of, paths), strict=True))
    for pair in waiting:
        found = [problem for path in pair.pictures if (problem := problems[path]) is not None]
        if found:
            errors.add(pair.row.line, found[0])


def pictures_of(pair: Pair) -> list[tuple[Location, int]]:
    """Returns the files of a pair, the content first, and the long edge that each is read with."""
    styles = ((path, pair.settings.style_size) for path in pair.row.styles)
    return [(pair.row.content, pair.settings.size), *styles]


def shape_of(path: Location, size: int) -> tuple[int, int]:
    """Returns the `(H, W)` that a picture has when it is read with a long edge of `size`."""
    return read_shape(path, size=size)


class Reader:
    """Reads pictures, each once for all pairs that are painted after each other.

    Threads may call it at the same time.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, Future[Picture]] = {}  # the latest is the last one
        self._changing = threading.Lock()

    def read(self, found: Any, path: Location, *, size: int) -> Picture:
        """Returns what `read_picture` does; `found` is the fingerprint of the file."""
        key = path, size, str(found)
        with self._changing:
            future = self._kept.pop(key, None)
            is_new = future is None
            self._kept[key] = future = future or Future()
        if is_new:
            try:
                future.set_result(read_picture(path, size=size))
            except BaseException as error:
                future.set_exception(error)
            self._forget()
        return future.result()

    def _forget(self) -> None:
        """Forgets errors, and the pictures that have not been read for the longest time."""
        with self._changing:
            total = 0
            for key, future in reversed([*self._kept.items()]):
                if future.done():
                    failed = future.exception() is not None
                    total += 0 if failed else future.result().image.nbytes
                    if failed or total > _KEPT:
                        del self._kept[key]


def load_lane(pair: Pair, batch: Batch, reader: Reader, sources: Sequence[Any]) -> Lane:
    """Reads the pictures of a pair, and pads and crops them to the sizes of its batch.

    Args:
        pair: one of `batch`.
        batch: has the sizes.
        reader: of the run.
        sources: fingerprints of the pair's pictures.

    Raises:
        InputError: if a picture cannot be read, or is too small.
    """
    job = pair.job

    def read(path: Location, source: str, size: int, found: Any) -> Picture:
        return read_source(job, path, source, size, functools.partial(reader.read, found))

    content = read(pair.row.content, "content", job.size, sources[0])
    styles = [
        read(path, "style", job.style_size, found)
        for path, found in zip(pair.row.styles, sources[1:], strict=False)  # masks come last
    ]
    expected = [batch.shape, *batch.style_shapes]
    found = [
        padded_shape(content.image.shape, MULTIPLE),
        *(cropped_shape(style.image.shape, MULTIPLE) for style in styles),
    ]
    if found != expected:
        raise InputError("the size of a picture differs from the size in its header; save it again")
    for path, shape in zip(pair.row.styles, batch.style_shapes, strict=True):
        check_size(job, "style", path, shape)
    masks, style_masks = load_masks(job, content, styles)
    announce_transparency(job.output, content.alpha)
    return Lane(
        pad(content.image, batch.shape),
        tuple(
            crop(style.image, shape)
            for style, shape in zip(styles, batch.style_shapes, strict=True)
        ),
        None if masks is None else np.stack([pad(mask, batch.shape) for mask in masks]),
        crop_masks(style_masks, batch.style_shapes),
        (content.image.shape[0], content.image.shape[1]),
        content.alpha,
        content.dpi,
    )


def stack_masks(lanes: Sequence[Lane]) -> np.ndarray | None:
    """Stacks the masks of lanes, `(B, S, H, W)`; None if no lane has any.

    A lane without masks, next to one with a transparent photo, applies its styles everywhere.
    """
    whole = np.ones((1, *lanes[0].content.shape[:2]), np.float32)
    if all(lane.masks is None for lane in lanes):
        return None
    return np.stack([whole if lane.masks is None else lane.masks for lane in lanes])


def stack_style_masks(lanes: Sequence[Lane]) -> list[np.ndarray | None] | None:
    """Stacks the masks of each style, `(B, h, w)`; None for one that has none in any lane."""
    if all(lane.style_masks is None for lane in lanes):
        return None
    found: list[np.ndarray | None] = []
    for index, style in enumerate(lanes[0].styles):
        own = [None if lane.style_masks is None else lane.style_masks[index] for lane in lanes]
        whole = np.ones(style.shape[:2], np.float32)
        each = [whole if mask is None else mask for mask in own]
        found.append(None if all(mask is None for mask in own) else np.stack(each))
    return found


def stack_shares(jobs: Sequence[Job]) -> Any:
    """Returns the style shares, a row for each pair; None if all are equal."""
    number = len(jobs[0].styles)
    if all(job.style_weights is None for job in jobs):
        return None
    return np.array([job.style_weights or (1.0,) * number for job in jobs], np.float32)
