"""Measures pictures by what no recipe optimizes: `python scripts/quality.py COMMAND`.

`spectrum` prints the spectra of pictures: the energy of fine detail over the painting's, and
hatching, the lines along the pixel grid. It needs nothing but NumPy.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from yardstick.spectrum import BANDS, HIGH, STRIDES, clipped, hatching, peak, ring_energy
from yardstick.spectrum import spectrum as spectrum_of
from yardstick.tables import print_table

from jaxstyle.io import exit_on_input_error, load_image

Pictures = Annotated[tuple[Path, ...], tyro.conf.Positional]


def spectrum(pictures: Pictures, *, painting: Path) -> None:
    """Prints the spectra of pictures next to that of their painting.

    `hatching`: mean energy within 0.012 cycles a pixel of the axes over that elsewhere in the
    ring. `energy over the painting's`: in the same rings. `high`: from 0.35 to 0.5 cycles a pixel.
    `1/2`, `1/4`, `1/8`: energy at the frequencies of the poolings over that around them.

    Args:
        pictures: results, each measured at its own size.
        painting: their style; it is read at the long edge of the first picture.
    """
    images = {path.name: load_image(path) for path in pictures}
    if not images:
        raise SystemExit("error: name at least one picture")
    size = max(next(iter(images.values())).shape[:2])
    style = load_image(painting, size=size)
    reference = spectrum_of(style)
    images = {"(the painting)": style, **images}
    found = {name: spectrum_of(image) for name, image in images.items()}
    names = [f"{low:.2f}-{high:.2f}" for low, high in BANDS]

    def show(title: str, columns: Sequence[str], figures: Callable[[str], Sequence[float]]) -> None:
        rows = [
            {"picture": name, **dict(zip(columns, figures(name), strict=True))} for name in images
        ]
        print_table(title, rows)

    show(
        "hatching, by frequency in cycles a pixel",
        names,
        lambda name: [hatching(found[name], ring) for ring in BANDS],
    )
    rings = (*BANDS, HIGH)
    show(
        "energy over the painting's",
        [*names, "high"],
        lambda name: [ring_energy(found[name], r) / ring_energy(reference, r) for r in rings],
    )
    show(
        "peaks, and clipped values",
        [*(f"1/{stride}" for stride in STRIDES), "clipped"],
        lambda name: [*(peak(found[name], s) for s in STRIDES), clipped(images[name])],
    )


if __name__ == "__main__":
    with exit_on_input_error():
        tyro.extras.subcommand_cli_from_dict(
            {"spectrum": spectrum}, description=__doc__, config=(tyro.conf.OmitArgPrefixes,)
        )
