"""The page about a single run: the picture, how it came about, and the settings behind it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxstyle.app.console import entries_of_last_stage
from jaxstyle.app.inputs import Pictures
from jaxstyle.app.job import Job
from jaxstyle.app.pages.html import THUMBNAIL, embed, flatten, render, split_settings
from jaxstyle.app.pages.loss_plot import plot_losses
from jaxstyle.io.locations import Location

_LARGE = 1600  # long edge in pixels of the content and the result
_SNAPSHOTS = 7  # pictures of iterations, besides that of the start
# Fields of the JSON that are no settings; the page shows them elsewhere.
_NO_SETTINGS = ("trace", "seconds", "versions", "status", "loss", "solver_loss", "num_evaluations")


def is_due(step: int, total: int, taken: Mapping[int, str]) -> bool:
    """Whether a run takes a snapshot of this step: at the start, then at growing intervals.

    Args:
        step: the last one made.
        total: steps of the run.
        taken: step -> picture, the snapshots so far.
    """
    last = max(taken, default=-1)
    # From 1 to `total` in a geometric sequence.
    wanted = [0, *(round(total ** (i / (_SNAPSHOTS - 1))) for i in range(_SNAPSHOTS))]
    return any(last < each <= step for each in wanted)


def describe_run(
    job: Job,
    metadata: Mapping[str, Any],
    image: np.ndarray,
    pictures: Pictures,
    snapshots: Mapping[int, str],
) -> str:
    """Returns the page about a single run.

    Args:
        job: the run.
        metadata: the content of the JSON next to the picture.
        image: the result, `(H, W, 3)` in [0, 1].
        pictures: its inputs.
        snapshots: step -> data URI, of iterations.
    """
    trace = metadata["trace"]
    here = entries_of_last_stage(trace)
    last = trace[-1]["step"]
    entries = {entry["step"]: entry for entry in trace}
    shown = {**snapshots, last: embed(image, THUMBNAIL)}
    overs: tuple[Literal["evaluations", "seconds"], ...] = ("evaluations", "seconds")
    curves = [plot_losses(trace, job.recipe.weights, over=over, kind="svg") for over in overs]
    settings = {key: value for key, value in metadata.items() if key not in _NO_SETTINGS}
    return render(
        "run.html",
        title=job.output.name,
        status=metadata["status"],
        steps=last,
        first_loss=here[0]["loss"],
        size=here[-1]["size"],
        loss=metadata["loss"],
        num_evaluations=metadata["num_evaluations"],
        seconds=metadata["seconds"],
        versions=metadata["versions"],
        content=None if job.content is None else embed(pictures.content, _LARGE),
        result=embed(image, _LARGE),
        shape=image.shape,
        inputs=list(_inputs(job, pictures)),
        iterations=[(picture, step, entries.get(step)) for step, picture in sorted(shown.items())],
        curves=[curve.decode() for curve in curves],
        command=job.command,
        working_folder=Path.cwd(),
        settings=split_settings(flatten(settings)),
    )


def _inputs(job: Job, pictures: Pictures) -> Iterator[tuple[str, str, Location]]:
    """Yields each input picture as a data URI, what it is, and its path."""

    def embedded(
        kind: str, paths: Sequence[Location], images: Any
    ) -> Iterator[tuple[str, str, Location]]:
        for path, image in zip(paths, () if images is None else images, strict=False):
            yield embed(image, THUMBNAIL), kind, path

    if job.content is not None:
        yield from embedded("content", (job.content,), (pictures.content,))
    yield from embedded("style", job.styles, pictures.styles)
    yield from embedded("mask", job.masks, pictures.masks)
    yield from embedded("style mask", job.style_masks, pictures.style_masks)
    if job.init_picture is not None:
        yield from embedded("initial image", (job.init_picture,), (pictures.init,))
