"""The page about a sheet: each picture next to the photo, and the command that paints it alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstyle.app.inputs import Pictures
from jaxstyle.app.job import Job
from jaxstyle.app.pages.html import THUMBNAIL, embed, flatten, render, split_settings
from jaxstyle.app.sheet.plan import Cell

_LARGE = 768  # long edge in pixels of a picture


def describe_sheet(
    job: Job, cells: Sequence[Cell], pictures: Pictures, metadata: Mapping[str, Any]
) -> str:
    """Returns the page about a sheet.

    Args:
        job: the outputs, and what all cells have in common.
        cells: its pictures.
        pictures: the inputs.
        metadata: the content of the JSON next to the sheet.
    """
    content = None if job.content is None else embed(pictures.content, _LARGE)
    styles = zip(job.styles, pictures.styles, strict=True)
    shown = [
        {
            "label": cell.label,
            "note": cell.note,
            "picture": None if cell.problem or cell.image is None else embed(cell.image, _LARGE),
            "loss": cell.facts.get("loss"),
            "command": "" if cell.job is None else cell.job.command,
        }
        for cell in cells
    ]
    settings = [{} if cell.job is None else dict(flatten({**cell.job.settings})) for cell in cells]
    common = [
        (key, text)
        for key, text in next(filter(None, settings)).items()
        if all(each.get(key) == text for each in settings if each)
    ]
    return render(
        "sheet.html",
        title=job.output.name,
        painted=sum(each["picture"] is not None for each in shown),
        content=content,
        shape=pictures.content.shape,
        inputs=[
            *([(content, "photo", job.content)] if content else []),
            *((embed(style, THUMBNAIL), "painting", path) for path, style in styles),
        ],
        cells=shown,
        command=job.command,
        working_folder=Path.cwd(),
        settings=split_settings(common),
        seconds=metadata["seconds"],
        versions={"device": metadata["device"], **metadata["versions"]},
    )
