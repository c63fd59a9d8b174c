"""Estimates the memory of a run before it starts, and finds the tile that fits.

The constants are fitted to the figures of XLA's compiler: per pixel that the network sees at a
time, per pixel of the picture, and for each array of the solver. Those of the program itself are
fitted to the peaks of whole runs on CPUs. Tests compare with both. Accelerators need some tens of
percent less or, rarely, more.
"""

import math
import re
from collections.abc import Sequence

import jax.numpy as jnp

from jaxstyle.app.vgg import vgg_of
from jaxstyle.io.errors import InputError
from jaxstyle.network.vgg import CONV_SHAPES, LAYERS
from jaxstyle.recipe import Recipe
from jaxstyle.solvers import LBFGS, ScipyLBFGSB
from jaxstyle.terms.matched import MatchedStyle
from jaxstyle.terms.protocol import Term, layers_of
from jaxstyle.terms.sampled import SampledTerm
from jaxstyle.tiling import make_tiling

_PROGRAM = 450e6  # Python, JAX, and its compiler
# Of a larger program that is compiled while a smaller size is painted.
_AHEAD_OF_WINDOWS = 500e6
_AHEAD_OF_POSITIONS = 580e6  # with terms that read features at some positions
_WEIGHTS = 80e6
_KERNELS = 180e6  # transformed kernels
_BYTES_PER_SEEN_PIXEL = 2700  # activations and their gradients
_BYTES_PER_PIXEL = 110  # copies of pictures
_COPIES_OF_ROWS = 1.7  # of the features at drawn positions, and of the distances of all pairs
_VECTORS = 4  # pictures in the state of a solver, besides its history
_SMALLEST_TILE = 128
_TILE_STEP = 128

_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_memory(text: str) -> float:
    """Returns the bytes of a text such as `4GB`, `500MB` or `16GiB`.

    Raises:
        InputError: for anything else, such as a number without a unit.
    """
    match = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kmgt]i?)?b?", text.strip().lower())
    number = float(match[1]) if match else 0.0
    if match is None or not 0 < number < math.inf:
        raise InputError(f"--memory {text}: write a number with MB or GB, such as 4GB")
    if match[2] is None:
        raise InputError(f"--memory {text}: add a unit, such as {number:g}GB or {number:g}MB")
    return number * _UNITS[match[2]]


def estimate_memory(
    recipe: Recipe,
    height: int,
    width: int,
    *,
    tile: int | None = None,
    batch: int = 1,
    style_shapes: Sequence[Sequence[int]] = (),
) -> float:
    """Returns the approximate peak memory of a run in bytes.

    Args:
        recipe: of the run.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        tile: as in `stylize`.
        batch: pairs at a time.
        style_shapes: `(h, w, ...)` of the styles; by default one style of the picture's size.
    """
    pixels = batch * height * width
    item = 8 if vgg_of(recipe).dtype == jnp.float64 else 4
    seen = batch * _seen_pixels(recipe, (height, width), tile)
    in_windows = tile is not None and tile < max(height, width)
    cut = seen < pixels  # a window may also be the whole picture
    content = sum(
        _channels(layer) / recipe.network.stride(layer) ** 2
        for term in recipe.terms
        # In windows a term that reads few positions keeps none of the features.
        if term.target_image == "content" and not (in_windows and isinstance(term, SampledTerm))
        for layer in term.layers
    )
    shapes = [shape[:2] for shape in style_shapes] or [(height, width)]
    candidates = batch * item * sum(_candidates(recipe, shape) for shape in shapes)
    state = pixels * (3 * (item * _VECTORS + _bytes_of_history(recipe, item)) + item * content)
    scale = 0.5 if vgg_of(recipe).dtype == jnp.bfloat16 else item / 4
    step = seen * _BYTES_PER_SEEN_PIXEL * scale + pixels * _BYTES_PER_PIXEL
    styles = batch * max(_seen_pixels(recipe, shape, tile) for shape in shapes)
    # The features of content and style, without gradients.
    targets = (seen + styles) * _BYTES_PER_SEEN_PIXEL * scale / 2
    rows = _COPIES_OF_ROWS * batch * item * sum(map(_drawn, recipe.terms))
    # Matching needs the candidates as they are and scaled; a step only scaled.
    arrays = max(state + step + candidates + rows, targets + 2 * candidates)
    return _program(recipe, height, width, cut=cut) + _WEIGHTS + _KERNELS + arrays


def _program(recipe: Recipe, height: int, width: int, *, cut: bool) -> float:
    """Returns the bytes of the process that are not arrays."""
    ahead = recipe.pyramid is not None and recipe.pyramid.scales(height, width)
    if not ahead or recipe.solver.on_host:
        return _PROGRAM
    positions = any(isinstance(term, SampledTerm | MatchedStyle) for term in recipe.terms)
    return _PROGRAM + _AHEAD_OF_WINDOWS * cut + _AHEAD_OF_POSITIONS * positions


def _candidates(recipe: Recipe, shape: Sequence[int]) -> int:
    """Returns the number of values in the hypercolumns of a style that `MatchedStyle` keeps."""
    total = 0
    for term in recipe.terms:
        if isinstance(term, MatchedStyle):
            positions = math.prod(shape) // recipe.network.stride(term.grid) ** 2
            rows = min(positions, term.style_samples) * (4 if term.rotations else 1)
            total += rows * sum(map(_channels, term.layers))
    return total


def _drawn(term: Term) -> int:
    """Returns the number of values that a term reads at drawn positions, and of pairs of them."""
    if not isinstance(term, SampledTerm):
        return 0
    others = term.style_samples or term.samples
    return (term.samples + others) * sum(map(_channels, term.layers)) + term.samples * others


def _seen_pixels(recipe: Recipe, shape: Sequence[int], tile: int | None) -> int:
    if tile is None or tile >= max(shape):
        return shape[0] * shape[1]
    network = recipe.network.without_wrapping()  # has windows of all shapes, and hardly others
    return math.prod(make_tiling(network, shape, tile, layers_of(recipe.terms), {}).window)


def _channels(layer: str) -> int:
    convolutions = [name for name in LAYERS[: LAYERS.index(layer) + 1] if name in CONV_SHAPES]
    return CONV_SHAPES[convolutions[-1]][1][0] if convolutions else 3


def _bytes_of_history(recipe: Recipe, item: int) -> float:
    """Returns the bytes of the solver's arrays for each element of a picture."""
    solver = recipe.solver
    if isinstance(solver, LBFGS):
        dtype = solver.history_dtype
        return 2 * solver.history_size * (item if dtype is None else jnp.dtype(dtype).itemsize)
    if isinstance(solver, ScipyLBFGSB):
        return 2 * solver.history_size * 8  # SciPy computes in float64
    return 3 * item  # Adam's gradient and moments


def can_be_tiled(recipe: Recipe) -> bool:
    """Whether all terms of `recipe` are sums over positions."""
    return all(term.additive_target and not term.normalized_gradients() for term in recipe.terms)


def choose_tile(
    recipe: Recipe,
    height: int,
    width: int,
    budget: float,
    *,
    style_shapes: Sequence[Sequence[int]] = (),
) -> int | None:
    """Returns the largest `tile` that fits into `budget` bytes, None for the whole picture.

    Raises:
        InputError: if none fits; the message names the size that would.
    """
    longest = max(height, width, *(edge for shape in style_shapes for edge in shape[:2]))
    windows = range(_SMALLEST_TILE, longest, _TILE_STEP) if can_be_tiled(recipe) else ()
    for tile in (None, *reversed(windows)):
        if estimate_memory(recipe, height, width, tile=tile, style_shapes=style_shapes) <= budget:
            return tile
    raise _too_large(recipe, height, width, budget, (None, *windows[:1]), style_shapes)


def check_memory(
    recipe: Recipe,
    height: int,
    width: int,
    budget: float,
    *,
    tile: int | None = None,
    style_shapes: Sequence[Sequence[int]] = (),
) -> None:
    """Refuses a run that does not fit into `budget` bytes.

    Raises:
        InputError: naming the size that would fit.
    """
    if estimate_memory(recipe, height, width, tile=tile, style_shapes=style_shapes) > budget:
        raise _too_large(recipe, height, width, budget, (tile,), style_shapes)


def _too_large(
    recipe: Recipe,
    height: int,
    width: int,
    budget: float,
    tiles: Sequence[int | None],
    style_shapes: Sequence[Sequence[int]],
) -> InputError:
    """Returns an error that names a size which fits with one of `tiles`."""

    def least(size: int) -> tuple[float, int | None]:
        def scaled(shape: Sequence[int]) -> list[int]:
            return [max(round(size * edge / longer), 1) for edge in shape[:2]]

        styles, own = [scaled(shape) for shape in style_shapes], scaled((height, width))
        needed = [estimate_memory(recipe, *own, tile=tile, style_shapes=styles) for tile in tiles]
        return min(needed), tiles[needed.index(min(needed))]

    longer = max(height, width)
    needed, tile = least(longer)
    sizes = [size for size in range(64, longer, 64) if least(size)[0] <= budget]
    advice = f"try --size {sizes[-1]}" if sizes else "no size fits with this recipe"
    history = isinstance(recipe.solver, LBFGS) and recipe.solver.history_size > 5
    return InputError(
        f"{width}x{height} px need about {format_memory(needed)}"
        f"{'' if tile is None else f' in windows of {tile} px'}, but only "
        f"{format_memory(budget)} are available: {advice}"
        f"{', or --set solver.history_size=5' if history else ''}, or raise --memory"
    )


def format_memory(number: float) -> str:
    """Formats bytes, such as `850 MB` or `12.3 GB`."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
