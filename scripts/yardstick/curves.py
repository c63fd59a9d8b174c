"""Paints pairs under recipes at several style weights, and writes what the yardstick says of them.

One number per recipe would say nothing: more style costs content. So recipes are compared by their
curves, style against content, at equal content.
"""

import dataclasses
import io
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

import jaxstyle
from jaxstyle.app import compile_cache
from jaxstyle.app.console import print_message
from jaxstyle.app.outputs import check_replaceable
from jaxstyle.app.pages.html import THUMBNAIL, embed
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io.files import write_atomically
from jaxstyle.io.ownership import GENERATOR
from jaxstyle.recipes import Recipe

from .columns import KINDS, Yardstick
from .tables import print_table

Array = NDArray[np.floating]

_TEXT_COLOR = "#010203"  # a placeholder, replaced by the text color of the page


@dataclasses.dataclass(frozen=True)
class Entry:
    """A picture, and what was measured of it."""

    content: str
    painting: str
    recipe: str
    factor: float
    picture: str
    """Its file, in the folder of the page."""
    seconds: float
    """With the compilation, for the first of a recipe and size."""
    figures: dict[str, float]

    @property
    def text(self) -> str:
        """The figures in one line."""
        return ", ".join(f"{name} {value:.3g}" for name, value in self.figures.items())


def paint(
    recipe: Recipe, params: Any, content: Array, painting: Array, factors: Sequence[float]
) -> Iterator[Array]:
    """Yields a picture for each factor of the style's weight: the content's weight over it."""
    call = compile_cache.keep_compiled_programs()
    for factor in factors:
        steps = jaxstyle.stylize_steps(
            params,
            content,
            painting,
            recipe=recipe,
            weights={"content": recipe.weights["content"] / factor},
            key=jax.random.key(0),
            every=None,
            call=call,
        )
        *_, (_, result) = steps
        yield np.asarray(result.image)


def measure_pair(
    pair: tuple[Path, Path],
    recipes: Sequence[Recipe],
    factors: Sequence[float],
    size: int,
    out: Path,
) -> Iterator[Entry]:
    """Paints a pair under all recipes, saves the pictures, and yields what is measured of each."""
    content, painting = (jaxstyle.io.load_image(path, size=size) for path in pair)
    yardstick = Yardstick(content, painting)
    names = pair[0].stem, pair[1].stem
    files = {
        (recipe.name, factor): out / ("-".join((*names, recipe.name, f"{factor:g}")) + ".png")
        for recipe in recipes
        for factor in factors
    }
    for path in files.values():
        check_replaceable(path, "name another folder")
    for recipe in recipes:
        params = jaxstyle.io.load_params(preprocessing=vgg_of(recipe).preprocessing)
        begin = time.perf_counter()
        pictures = paint(recipe, params, content, painting, factors)
        for factor, picture in zip(factors, pictures, strict=True):
            seconds = time.perf_counter() - begin
            path = files[recipe.name, factor]
            jaxstyle.io.save_image(path, picture)
            # Measured as saved, in 8 bits.
            figures = yardstick.measure(jaxstyle.io.load_image(path))
            print_message(f"{path.name}: {seconds:.0f} s")
            yield Entry(*names, recipe.name, factor, path.name, seconds, figures)
            begin = time.perf_counter()


def report(entries: Sequence[Entry], out: Path, pictures: Sequence[tuple[str, Path]]) -> None:
    """Prints the means over the pairs, and writes the page and the figures as JSON.

    Args:
        entries: all pictures so far.
        out: the folder.
        pictures: photos and paintings, each with its role.
    """
    means = mean_rows(entries)
    print_table("means over the pairs", means)
    figures = {"pictures": [dataclasses.asdict(each) for each in entries]}
    jaxstyle.io.write_json(out / "figures.json", figures)
    page = (
        _environment()
        .get_template("curves.html")
        .render(
            generator=GENERATOR,
            title="Style against content",
            plot=plot_curves(means),
            means=means,
            inputs=[
                (embed(jaxstyle.io.load_image(path, size=THUMBNAIL), THUMBNAIL), role, path.name)
                for role, path in pictures
            ],
            pairs=_by_pair(entries, out),
        )
    )
    write_atomically(out / "index.html", page.encode())


def mean_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Returns a row for each recipe and factor: the means of the columns over the pairs."""
    groups: dict[tuple[str, float], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.recipe, entry.factor), []).append(entry)
    return [
        {
            "picture": recipe,
            "style x": factor,
            **{
                column: statistics.fmean(each.figures[column] for each in group)
                for column in group[0].figures
            },
            "seconds": statistics.fmean(each.seconds for each in group),
        }
        for (recipe, factor), group in groups.items()
    ]


def plot_curves(means: Sequence[dict[str, Any]]) -> str:
    """Returns an SVG element: a plot for each content column and style column."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    kinds = {
        kind: [name for name in KINDS if KINDS[name] == kind and name in means[0]]
        for kind in ("content", "style")
    }
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: Any = {"svg.fonttype": "none", **dict.fromkeys(names, _TEXT_COLOR)}
    rows, columns = len(kinds["content"]), len(kinds["style"])
    with mpl.rc_context(settings):
        figure = Figure(figsize=(3.2 * columns, 2.8 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes_row, content in zip(grid, kinds["content"], strict=True):
            for axes, style in zip(axes_row, kinds["style"], strict=True):
                for recipe in dict.fromkeys(row["picture"] for row in means):
                    own = [row for row in means if row["picture"] == recipe]
                    x, y = ([row[column] for row in own] for column in (content, style))
                    axes.plot(x, y, marker=".", label=recipe)
                axes.set(xlabel=content, ylabel=style)
                axes.grid(alpha=0.3)
        grid[0, 0].legend(frameon=False, fontsize=8)
        buffer = io.BytesIO()
        none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=none)
    element = buffer.getvalue().decode().replace(_TEXT_COLOR, "currentColor")
    return element[element.index("<svg") :]


def _by_pair(entries: Sequence[Entry], out: Path) -> list[tuple[str, list[tuple[str, list[Any]]]]]:
    """Returns for each pair its recipes, and for each of these its pictures and entries."""
    pairs: dict[str, dict[str, list[Any]]] = {}
    for entry in entries:
        embedded = embed(jaxstyle.io.load_image(out / entry.picture), THUMBNAIL)
        pair = pairs.setdefault(f"{entry.content}, {entry.painting}", {})
        pair.setdefault(entry.recipe, []).append((embedded, entry))
    return [(name, list(recipes.items())) for name, recipes in pairs.items()]


def _environment() -> Any:
    import jinja2

    folders = [Path(__file__).parent, Path(compile_cache.__file__).parent / "pages" / "templates"]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
