"""Accuracy of windows: the same objective, tiled and whole."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import Options, problem, report

import jaxstyle
from jaxstyle import recipes
from jaxstyle.app.vgg import vgg_of


def windows(
    options: Options,
    sizes: tuple[str, ...] = ("200x296", "512x512", "509x771"),
    tiles: tuple[int, ...] = (128, 160, 256),
    names: tuple[str, ...] = ("gatys", "johnson", "crowson-w2"),
    poolings: tuple[str, ...] = (),
    paddings: tuple[str, ...] = (),
) -> None:
    """Relative error of windows: value, gradient, and gradient at the windows' borders.

    With `poolings` and `paddings`, each recipe runs with each of them.
    """
    params = jaxstyle.io.load_params()
    rows: list[dict[str, Any]] = []
    for name in names:
        recipe = recipes.RECIPES[name]
        network = vgg_of(recipe)
        for pooling in poolings or (network.pooling,):
            for padding in paddings or (network.padding,):
                chosen = dataclasses.replace(
                    recipe, network=network.clone(pooling=pooling, padding=padding)
                )
                label = f"{name}, {pooling}, {padding}"
                for size in sizes:
                    for row in _compare_windows(chosen, params, load_exactly(options, size), tiles):
                        rows.append({"recipe": label, "size": size, **row})
                        print(*rows[-1].values(), file=sys.stderr, flush=True)
    report("windows", rows, options)


def load_exactly(options: Options, size: str) -> tuple[np.ndarray, np.ndarray]:
    """Content and style of exactly `HEIGHTxWIDTH`, padded by reflection."""
    height, width = map(int, size.split("x"))
    found = []
    for path in (options.content, options.style):
        image = jaxstyle.io.load_image(path, size=max(height, width))
        image = np.pad(
            image[:height, :width],
            ((0, max(height - image.shape[0], 0)), (0, max(width - image.shape[1], 0)), (0, 0)),
            "reflect",
        )
        found.append(image)
    return found[0], found[1]


def compile_problem(
    recipe: jaxstyle.Recipe, params: Any, pair: Sequence[Any], tile: int | None
) -> tuple[Any, Any]:
    """The compiled loss and gradient, and all its arguments."""
    content, style = (jnp.asarray(image) for image in pair)
    function, arguments = problem(recipe, content, style, params, tile)
    # Not the content itself, where the content loss is 0.
    arguments = (0.7 * content + 0.3 * content[::-1], *arguments)
    return function.lower(*arguments).compile(), arguments


def _compare_windows(
    recipe: jaxstyle.Recipe, params: Any, pair: Sequence[np.ndarray], tiles: Sequence[int]
) -> list[dict[str, Any]]:
    from jaxstyle.terms.protocol import layers_of
    from jaxstyle.tiling import make_tiling

    with jax.default_matmul_precision("highest"):
        function, arguments = compile_problem(recipe, params, pair, None)
        (value, _), expected = function(*arguments)
        rows: list[dict[str, Any]] = []
        same: dict[Any, dict[str, Any]] = {}  # two tile sizes may give the same windows
        for tile in tiles:
            tiling = make_tiling(recipe.network, pair[0].shape, tile, layers_of(recipe.terms), {})
            windows = (*tiling.rows.owned, *tiling.columns.owned)
            if windows in same:
                rows.append({**same[windows], "tile": tile})
                continue
            function, arguments = compile_problem(recipe, params, pair, tile)
            (found, _), gradient = function(*arguments)
            error = np.abs(np.asarray(gradient - expected)).max(-1)
            near = np.zeros(error.shape, bool)
            for start, _ in tiling.rows.owned[1:]:
                near[start - 8 : start + 8] = True
            for start, _ in tiling.columns.owned[1:]:
                near[:, start - 8 : start + 8] = True
            rows.append(
                {"tile": tile, "windows": tiling.number,
                 "value": float(abs(found / value - 1)),
                 "gradient": float(np.linalg.norm((gradient - expected).ravel())
                                   / np.linalg.norm(np.asarray(expected).ravel())),
                 "error at borders / elsewhere": float(error[near].mean() / error[~near].mean())
                 if near.any() and error[~near].mean() > 0 else "-"}
            )  # fmt: skip
            same[windows] = rows[-1]
    return rows
