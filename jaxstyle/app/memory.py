"""How much memory a run needs, before it starts, and what to do if it is more than there is.

The numbers are fits to what XLA's compiler says of the programs that run (a test compares them):
per pixel that the network sees at a time, per pixel of the picture, and for each array of the
solver. Accelerators differ by some tens of percent, mostly downwards.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxstyle.app.vgg import vgg_of
from jaxstyle.io.errors import InputError
from jaxstyle.network.vgg import CONV_SHAPES, LAYERS
from jaxstyle.recipes import Recipe
from jaxstyle.solvers import LBFGS, ScipyLBFGSB
from jaxstyle.terms.protocol import layers_of
from jaxstyle.tiling import make_tiling

_PROGRAM = 450e6  # Python, JAX, and its compiler
_WEIGHTS = 80e6
_KERNELS = 180e6  # transformed ones
_BYTES_PER_SEEN_PIXEL = 2700  # activations, and what is computed from them
_BYTES_PER_PIXEL = 110  # copies of pictures on the way
_VECTORS = 4  # pictures of a solver's state, besides its history
_SMALLEST_TILE = 128
_TILE_STEP = 128

_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_memory(text: str) -> float:
    """Returns the bytes of a text such as `4GB`, `500MB` or `16GiB`.

    Raises:
        InputError: for anything else; for a number without a unit, which may mean anything.
    """
    match = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kmgt]i?)?b?", text.strip().lower())
    number = float(match[1]) if match else 0.0
    if match is None or not 0 < number < math.inf:
        raise InputError(f"--memory {text}: write a number with MB or GB, such as 4GB")
    if match[2] is None:
        raise InputError(f"--memory {text}: add a unit, such as {number:g}GB or {number:g}MB")
    return number * _UNITS[match[2]]


def available_memory() -> float:
    """Returns the bytes that a run may take: those of the accelerator, or what the system has."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    free = math.inf
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, StopIteration, ValueError):
        # As the kernel has it, without swapping.
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024.0 * int(
            next(line for line in lines if line.startswith("MemAvailable")).split()[1]
        )
    return min(free, memory_limit())


def memory_limit(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> float:
    """Returns the smallest limit that is set for this process, in bytes; infinity without one.

    Limits of control groups (containers, systemd, SLURM, Kubernetes), of the process (`ulimit`),
    and what SLURM says that a job may take.

    Args:
        root: where `proc` and `sys` are.
        environment: variables.
    """
    limits = [*_limits_of_groups(root), *_limits_of_process()]
    megabytes = 2**20
    with contextlib.suppress(KeyError, ValueError):
        limits.append(megabytes * float(environment["SLURM_MEM_PER_NODE"]))
    with contextlib.suppress(KeyError, ValueError):
        processors = float(environment["SLURM_CPUS_ON_NODE"])
        limits.append(megabytes * float(environment["SLURM_MEM_PER_CPU"]) * processors)
    # SLURM means all of the node by 0.
    return min((limit for limit in limits if limit > 0), default=math.inf)


def _limits_of_groups(root: Path) -> Iterator[float]:
    """Yields the limits of this process's control groups, versions 1 and 2, and of those above."""
    top = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    # Those of the root, too: a container sees its own group there, whatever its path is called.
    groups: list[tuple[Path, str, tuple[str, ...]]] = [(top, "/", ("memory.max", "memory.high"))]
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for mount in (top, top / "unified"):
                groups.append((mount, path, ("memory.max", "memory.high")))
        elif "memory" in controllers.split(","):
            groups.append((top / "memory", path, ("memory.limit_in_bytes",)))
    for mount, path, names in groups:
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for depth in range(len(parts) + 1):
            for name in names:
                with contextlib.suppress(OSError, ValueError):  # "max" is none
                    yield float((mount.joinpath(*parts[:depth]) / name).read_text())


def _limits_of_process() -> Iterator[float]:
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415  not on Windows

        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            limit, _ = resource.getrlimit(kind)
            if limit != resource.RLIM_INFINITY:
                yield float(limit)


def estimate_memory(
    recipe: Recipe,
    height: int,
    width: int,
    *,
    tile: int | None = None,
    batch: int = 1,
    style_shapes: Sequence[Sequence[int]] = (),
) -> float:
    """Returns about how many bytes a run takes at its fullest.

    Args:
        recipe: its recipe.
        height: of the picture, in pixels.
        width: likewise.
        tile: as `stylize` has it.
        batch: pairs at a time.
        style_shapes: `(h, w, ...)` of the styles, by default one of the picture's size.
    """
    pixels = batch * height * width
    item = 8 if vgg_of(recipe).dtype == jnp.float64 else 4
    seen = batch * _seen_pixels(recipe, (height, width), tile)
    content = sum(
        _channels(layer) / recipe.network.stride(layer) ** 2
        for term in recipe.terms
        if term.target_image == "content"
        for layer in term.layers
    )
    state = pixels * (3 * (item * _VECTORS + _bytes_of_history(recipe, item)) + item * content)
    scale = 0.5 if vgg_of(recipe).dtype == jnp.bfloat16 else item / 4
    step = seen * _BYTES_PER_SEEN_PIXEL * scale + pixels * _BYTES_PER_PIXEL
    shapes = [shape[:2] for shape in style_shapes] or [(height, width)]
    styles = batch * max(_seen_pixels(recipe, shape, tile) for shape in shapes)
    # All features of content and style, but no gradient.
    targets = (seen + styles) * _BYTES_PER_SEEN_PIXEL * scale / 2
    return _PROGRAM + _WEIGHTS + _KERNELS + max(state + step, targets)


def _seen_pixels(recipe: Recipe, shape: Sequence[int], tile: int | None) -> int:
    if tile is None or tile >= max(shape):
        return shape[0] * shape[1]
    return math.prod(make_tiling(recipe.network, shape, tile, layers_of(recipe.terms), {}).window)


def _channels(layer: str) -> int:
    convolutions = [name for name in LAYERS[: LAYERS.index(layer) + 1] if name in CONV_SHAPES]
    return CONV_SHAPES[convolutions[-1]][1][0] if convolutions else 3


def _bytes_of_history(recipe: Recipe, item: int) -> float:
    """Of the solver's arrays, for each element of a picture."""
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
        InputError: if none fits, with the size that would.
    """
    if estimate_memory(recipe, height, width, style_shapes=style_shapes) <= budget:
        return None
    longest = max(height, width, *(edge for shape in style_shapes for edge in shape[:2]))
    tiles = range(_SMALLEST_TILE, longest, _TILE_STEP) if can_be_tiled(recipe) else ()
    for tile in reversed(tiles):
        if estimate_memory(recipe, height, width, tile=tile, style_shapes=style_shapes) <= budget:
            return tile
    least = _SMALLEST_TILE if tiles else None
    check_memory(recipe, height, width, budget, tile=least, style_shapes=style_shapes)
    return least


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
        InputError: with the size that would.
    """
    needed = estimate_memory(recipe, height, width, tile=tile, style_shapes=style_shapes)
    if needed <= budget:
        return
    longer = max(height, width)

    def fits(size: int) -> bool:
        def scaled(shape: Sequence[int]) -> list[int]:
            return [max(round(size * edge / longer), 1) for edge in shape[:2]]

        styles = [scaled(shape) for shape in style_shapes]
        own = scaled((height, width))
        return estimate_memory(recipe, *own, tile=tile, style_shapes=styles) <= budget

    sizes = [size for size in range(64, longer, 64) if fits(size)]
    advice = f"--size {sizes[-1]} would" if sizes else "no size does with this recipe"
    history = isinstance(recipe.solver, LBFGS) and recipe.solver.history_size > 5
    raise InputError(
        f"{width}x{height} px need about {format_memory(needed)}"
        f"{'' if tile is None else f' in windows of {tile} px'}, and there are "
        f"{format_memory(budget)}: {advice}"
        f"{', --set solver.history_size=5 keeps less' if history else ''}; or, if you know better, "
        "say --memory"
    )


def format_memory(number: float) -> str:
    """Writes bytes as `850 MB` or `12.3 GB`."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
