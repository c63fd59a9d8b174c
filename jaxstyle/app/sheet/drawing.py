"""Draws a sheet: pictures of one size in rows, with labels below them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_RATIO = 1.6  # of the whole sheet, at most about
_GAP = 12  # pixels
_LEAST_WIDTH = 128  # of a cell, so that its label can be read
_INK, _SOFT, _BAD, _EMPTY = (28, 27, 25), (106, 103, 95), (163, 36, 28), (240, 238, 233)


class Panel(NamedTuple):
    """A picture with two lines of text, or a text in its place."""

    label: str
    note: str
    image: np.ndarray | None
    """`(h, w, 3)` in [0, 1]; None for an empty cell, which has the note inside."""


def draw_sheet(panels: Sequence[Panel], shape: Sequence[int]) -> np.ndarray:
    """Returns a sheet as an image, `(H, W, 3)` float32 in [0, 1].

    Args:
        panels: its cells, in rows. A picture is drawn pixel by pixel, unless it is larger.
        shape: `(h, w, ...)` of a cell.
    """
    height, width = shape[0], max(shape[1], _LEAST_WIDTH)
    size = min(max(width // 20, 11), 24)
    label, note = _font(size, bold=True), _font(max(round(0.8 * size), 10))
    text = round(2.9 * size)  # the height of both lines
    ratio = (height + text + _GAP) / (width + _GAP)
    columns = min(max(round(math.sqrt(len(panels) * _RATIO * ratio)), 1), len(panels))
    rows = -(-len(panels) // columns)
    whole = (columns * (width + _GAP) + _GAP, rows * (height + text + _GAP) + _GAP)
    sheet = Image.new("RGB", whole, "white")
    draw = ImageDraw.Draw(sheet)
    for index, panel in enumerate(panels):
        left = _GAP + index % columns * (width + _GAP)
        top = _GAP + index // columns * (height + text + _GAP)
        if panel.image is None:
            draw.rectangle((left, top, left + width - 1, top + height - 1), fill=_EMPTY)
            lines = _wrap(panel.note, note, width - _GAP, int((height - _GAP) / (1.3 * size)))
            inside = (left + _GAP // 2, top + _GAP // 2)
            draw.multiline_text(inside, "\n".join(lines), _BAD, note, spacing=0.3 * size)
        else:
            picture = _fitted(panel.image, height, width)
            sheet.paste(picture, (left, top + (height - picture.height) // 2))
            short = _wrap(panel.note, note, width, 1)
            draw.text((left, top + height + 1.6 * size), "".join(short), _SOFT, note)
        title = "".join(_wrap(panel.label, label, width, 1))
        draw.text((left, top + height + 0.2 * size), title, _INK, label)
    return np.asarray(sheet, np.float32) / 255


def _fitted(image: np.ndarray, height: int, width: int) -> Image.Image:
    """Returns a picture of at most that size."""
    pixels = np.rint(np.clip(np.asarray(image, np.float32), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture.thumbnail((width, height), Image.Resampling.LANCZOS)
    return picture


def _font(size: int, *, bold: bool = False) -> Any:
    """Returns Matplotlib's DejaVu Sans, which has the letters of most languages."""
    import matplotlib as mpl  # noqa: PLC0415  slow to import

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf"), size)


def _wrap(text: str, font: Any, width: int, number: int) -> list[str]:
    """Breaks a text into at most that many lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > number:
        lines = [*lines[: max(number - 1, 0)], " ".join(lines[max(number - 1, 0) :])]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: Any, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
