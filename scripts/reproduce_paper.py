"""Reproduces the figures of "Painting the Starry Night" (Gokalp & Kim) as one HTML page.

`python scripts/reproduce_paper.py` uses the bundled samples; for other pictures, add `--content
photo.jpg --styles a.jpg b.jpg --size 384`. The paper's own photos are lost, so the figures have its
settings, the recipe `gokalp-kim`, but not its photos. Sweeps run all their pictures in lockstep, so
they use `LBFGS` instead of SciPy's L-BFGS-B. The last figure is that of Gatys et al. 2016.
"""

import dataclasses
import html
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import tyro

import jaxstyle
from jaxstyle.app import compile_cache
from jaxstyle.app.console import print_message
from jaxstyle.app.outputs import check_replaceable
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import SAMPLES
from jaxstyle.io.ownership import GENERATOR
from jaxstyle.recipes import GOKALP_KIM
from jaxstyle.terms import STYLE_LAYERS, Content, GramStyle

mpl.use("Agg")
import matplotlib.pyplot as plt

Panel = tuple[str, Any]  # a title and a picture


@dataclasses.dataclass(frozen=True)
class Options:
    """Reproduces every figure of the paper."""

    content: Path = SAMPLES / "content.png"
    """The photo."""
    styles: tuple[Path, ...] = (SAMPLES / "style.png",)
    """Paintings; the first is used throughout, and all of them in the grid of results."""
    out: Path = Path("out/paper")
    """Folder for index.html and its pictures."""
    size: int = 128
    """Long edge in pixels."""
    iterations: int = 20
    """Outer iterations, as in the paper."""
    maxfun: int = 20
    """Evaluations per iteration, as in the paper."""
    steps: int = 100
    """Steps of the sweeps."""


class Page:
    """The page of figures; it is written again after each figure, so that nothing is lost."""

    def __init__(self, options: Options) -> None:
        self.options, self.body = options, ""
        self.begin = time.perf_counter()
        options.out.mkdir(parents=True, exist_ok=True)
        for path in (options.out / "index.html", *options.out.glob("*.png")):
            check_replaceable(path, "name another folder")

    def add(self, name: str, caption: str, figure: Any) -> None:
        """Saves a matplotlib figure and the page so far."""
        mark = {"Software": GENERATOR}
        figure.savefig(self.options.out / f"{name}.png", dpi=110, metadata=mark)
        plt.close(figure)
        caption = html.escape(caption)
        self.body += f'<figure><img src="{name}.png" alt="{caption}">'
        self.body += f"<figcaption>{caption}</figcaption></figure>\n"
        (self.options.out / "index.html").write_text(
            f'<!doctype html><meta name="generator" content="{GENERATOR}"><meta charset="utf-8">'
            "<title>Painting the Starry Night, reproduced</title>"
            "<style>body{font-family:sans-serif;max-width:70em;margin:2em auto}"
            "img{max-width:100%}figure{margin:2em 0}</style>"
            "<h1>Painting the Starry Night, reproduced</h1>\n" + self.body,
            encoding="utf-8",
        )
        print_message(f"{time.perf_counter() - self.begin:5.0f} s  {name}")

    def panels(
        self, name: str, caption: str, panels: Sequence[Panel], columns: int | None = None
    ) -> None:
        """Adds pictures side by side."""
        columns = columns or len(panels)
        rows = -(-len(panels) // columns)
        height, width, _ = panels[0][1].shape
        shape = (2.6 * columns, (2.6 * height / width + 0.3) * rows)
        figure, axes = plt.subplots(
            rows, columns, figsize=shape, squeeze=False, layout="constrained"
        )
        for axis in axes.flat:
            axis.axis("off")
        for axis, (title, image) in zip(axes.flat, panels, strict=False):
            axis.imshow(np.asarray(image))
            axis.set_title(title, fontsize=8)
        self.add(name, caption, figure)


def main(options: Options) -> None:
    call = compile_cache.keep_compiled_programs()
    page = Page(options)
    params = jaxstyle.io.load_params()
    content = jaxstyle.io.load_image(options.content, size=options.size)
    styles = [jaxstyle.io.load_image(path, size=options.size) for path in options.styles]
    solver = jaxstyle.ScipyLBFGSB(num_steps=options.iterations, maxfun=options.maxfun)
    # The paper applies the filter to the saved picture; without it here, both can be shown.
    recipe = dataclasses.replace(GOKALP_KIM, solver=solver, median_filter=1)

    def paint(recipe: jaxstyle.Recipe, style: Any, **more: Any) -> list[Any]:
        """Returns the result after each iteration."""
        steps = jaxstyle.stylize_steps(
            params,
            content,
            style,
            recipe=recipe,
            every=1,
            key=jax.random.key(0),
            call=call,
            **more,
        )
        return [result for _, result in steps]

    def filtered(result: Any) -> Any:
        return jaxstyle.median_filter(result.image, size=GOKALP_KIM.median_filter)

    def in_lockstep(recipe: jaxstyle.Recipe, factors: Sequence[float]) -> Any:
        """Returns one picture for each content weight, all with a style weight of 1."""
        number = len(factors)
        return jaxstyle.stylize_batch(
            params,
            jnp.stack([jnp.asarray(content)] * number),
            jnp.stack([jnp.asarray(styles[0])] * number),
            recipe=recipe,
            weights={"content": jnp.asarray(factors)},
            solver=jaxstyle.LBFGS(num_steps=options.steps),
        ).image

    feature_maps(page, params, content)
    runs = [paint(recipe, style) for style in styles]
    last = len(runs[0]) - 1
    page.panels(
        "figure-2",
        "Figure 2: before and after the 3x3 median filter on the saved picture.",
        [("before", runs[0][-1].image), ("after", filtered(runs[0][-1]))],
    )
    page.panels(
        "figure-9",
        f"Figure 9: during {last} outer iterations of {options.maxfun} evaluations each.",
        [
            (f"iteration {i}", filtered(runs[0][i]))
            for i in sorted({min(i, last) for i in (0, 10, 15, 20)})
        ],
    )

    def one_iteration(maxfun: int) -> Any:
        return paint(recipe, styles[0], solver=jaxstyle.ScipyLBFGSB(1, maxfun))[-1]

    page.panels(
        "figure-10",
        "Figure 10: the first iteration with 10 and with 50 evaluations.",
        [(f"maxfun = {n}", filtered(one_iteration(n))) for n in (10, 50)],
    )
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for path, run in zip(options.styles, runs, strict=True):
        axes.semilogy([result.loss for result in run], marker=".", label=path.stem)
    axes.set(xlabel="outer iteration", ylabel="loss")
    axes.legend()
    page.add("figure-12", "Figure 12: the loss against the iteration.", figure)
    page.panels(
        "figure-13",
        "Figure 13: style and result.",
        [
            panel
            for path, style, run in zip(options.styles, styles, runs, strict=True)
            for panel in ((path.stem, style), ("result", filtered(run[-1])))
        ],
        columns=2,
    )
    deeper = dataclasses.replace(recipe, terms=(Content(layers=("relu5_2",)), GramStyle()))
    page.panels(
        "content-layer",
        "Section 1.2: content features of layer 4 (conv4_2) and of layer 5 (conv5_2).",
        [("conv4_2", filtered(runs[0][-1])), ("conv5_2", filtered(paint(deeper, styles[0])[-1]))],
    )
    noise = paint(recipe, styles[0], init="noise")
    page.panels(
        "white-noise",
        "Section 1.2: starting from white noise.",
        [(f"iteration {i}", filtered(noise[i])) for i in sorted({0, last // 4, last})],
    )
    ratios = (2.5e-4, 2.5e-3, 2.5e-2, 2.5e-1, 2.5)
    page.panels(
        "weights",
        f"Section 4.2: alpha / beta; {options.steps} steps of LBFGS each.",
        list(zip(map("{:g}".format, ratios), in_lockstep(recipe, ratios), strict=True)),
    )
    trade_off(page, recipe, in_lockstep)
    print_message(f"{options.out / 'index.html'}")


def feature_maps(page: Page, params: Any, content: Any) -> None:
    layers = tuple(layer.replace("relu", "conv") for layer in STYLE_LAYERS)
    features: Any = GOKALP_KIM.network.apply(params, content, layers)
    page.panels(
        "figure-7",
        "Figure 7: 16 feature maps of the photo from each layer.",
        [
            (layer, jaxstyle.io.contact_sheet(np.asarray(features[layer])[:, :, :16], columns=4))
            for layer in layers
        ],
    )


def trade_off(
    page: Page,
    recipe: jaxstyle.Recipe,
    in_lockstep: Callable[[jaxstyle.Recipe, Sequence[float]], Any],
) -> None:
    """Adds style layers from row to row; the ratios are those of Gatys et al."""
    ratios = (1e-5, 1e-4, 1e-3, 1e-2)
    panels: list[Panel] = []
    for depth in range(1, 6):
        style = GramStyle(layers=STYLE_LAYERS[:depth], layer_weights=(1 / depth,) * depth)
        here = dataclasses.replace(
            recipe,
            network=vgg_of(recipe).clone(pooling="average"),
            terms=(Content(), style),
        )
        panels += [
            (f"up to {STYLE_LAYERS[depth - 1]}, {ratio:g}", image)
            for ratio, image in zip(ratios, in_lockstep(here, ratios), strict=True)
        ]
    page.panels(
        "trade-off",
        "Gatys et al., Texture Synthesis and the Creation of Images in the Style of Paintings: "
        "deeper style layers from row to row, larger alpha / beta to the right; average pooling.",
        panels,
        columns=len(ratios),
    )


if __name__ == "__main__":
    with jaxstyle.io.exit_on_input_error():
        main(tyro.cli(Options))
