"""The same sums over positions, in bounded memory: window by window, exactly.

A style is a sum over positions, so the sums over a large image are those over windows of it, if
each position is counted once and sees all that it sees in the whole image. Windows therefore
overlap by the network's reach, begin at multiples of its stride, and have a border of the image
only where the image has one, so that the padding is right. Under `jax.grad` each window is
computed once more, and nothing of a window is kept.
"""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.network.vgg import LAYERS, VGG19, number_of_poolings

Maps = Mapping[str, jax.Array]


class _Axis(NamedTuple):
    """How one axis is cut: all in pixels."""

    window: int
    starts: tuple[int, ...]
    owned: tuple[tuple[int, int], ...]  # from, to


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Windows over an image; static.

    Attributes:
        rows: cut of the height.
        columns: cut of the width.
        layers: what is read of the network.
    """

    rows: _Axis
    columns: _Axis
    layers: tuple[str, ...]

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of each window, in pixels."""
        return self.rows.window, self.columns.window

    @property
    def number(self) -> int:
        """Of windows."""
        return len(self.rows.starts) * len(self.columns.starts)


def receptive_radius(layer: str) -> int:
    """Returns how many pixels beyond its own block of pixels a position of `layer` sees."""
    radius, stride = 0, 1
    for name in LAYERS[: LAYERS.index(layer) + 1]:
        radius += stride * name.startswith("conv")
        stride *= 2 if name.startswith("pool") else 1
    return radius


def make_tiling(
    shape: Sequence[int], tile: int, layers: Sequence[str], reach: Mapping[str, int]
) -> Tiling:
    """Cuts an image into windows that own about `tile` x `tile` pixels each.

    Args:
        shape: `(H, W, ...)` of the image.
        tile: pixels; rounded up to 4 times the stride of the deepest layer. Windows are larger
            than that by what the network sees around it.
        layers: layers that are read.
        reach: layer -> how many of its positions around each are read, 0 if none but itself.

    Raises:
        ValueError: if `tile` is not positive.
    """
    if tile < 1:
        raise ValueError(f"tile must be positive, not {tile}")
    stride = max(2 ** number_of_poolings(layer) for layer in layers)
    radius = max(
        receptive_radius(layer) + reach.get(layer, 0) * 2 ** number_of_poolings(layer)
        for layer in layers
    )
    halo = -(-radius // stride) * stride
    rows, columns = (_cut(size, tile, halo, stride) for size in shape[:2])
    return Tiling(rows, columns, tuple(layers))


def _cut(size: int, tile: int, halo: int, stride: int) -> _Axis:
    # Winograd's algorithm makes 4 x 4 outputs together: where windows begin at multiples of that,
    # in the deepest layer too, they round as the whole image does.
    unit = 4 * stride
    tile = -(-tile // unit) * unit
    # A window that ends where the image does begins at a multiple of the unit.
    window = tile + 2 * halo + (size - tile - 2 * halo) % unit
    if window >= size:
        return _Axis(size, (0,), ((0, size),))
    starts = (*range(0, size - window, tile), size - window)
    # Each position is owned by the last window that sees all that it sees.
    edges = (0, *(start + halo for start in starts[1:]), size)
    return _Axis(window, starts, tuple(itertools.pairwise(edges)))


def sum_over_windows(
    tiling: Tiling,
    network: VGG19,
    params: Any,
    image: jax.Array,
    maps: Any,
    statistics: Callable[[Maps, Any, Maps], Any],
) -> Any:
    """Sums `statistics` over all windows of `image`.

    Args:
        tiling: how it is cut.
        network: the network.
        params: its variables.
        image: `(H, W, 3)`.
        maps: dicts layer -> `(h, w, ...)`, of what goes with the image's positions, in any pytree.
        statistics: takes the features of a window, its part of the maps, and layer -> `(h, w)`,
            1 for the positions that the window owns, and returns a pytree of sums.

    Returns:
        The sums, as `statistics` has them.
    """

    def of_window(window: jax.Array) -> Any:
        start, owned = window[:2], window[2:]
        features = _features(tiling, network, params, image, start)
        shapes = {layer: each.shape[:2] for layer, each in features.items()}
        masks = {layer: _owned(layer, shape, start, owned) for layer, shape in shapes.items()}
        here = jax.tree.map(
            lambda each: {
                layer: _slice(plane, layer, shapes[layer], start) for layer, plane in each.items()
            },
            maps,
            is_leaf=_is_maps,
        )
        return statistics(features, here, masks)

    def step(sums: Any, window: jax.Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, of_window(window)), None

    windows = _windows(tiling)
    zeros = jax.tree.map(
        lambda leaf: _zeros(leaf.shape, leaf.dtype, (image, params, maps)),
        jax.eval_shape(of_window, windows[0]),
    )
    # Nothing in a loop's body can be merged with what is outside, so nothing need prevent it.
    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), zeros, windows)[0]


def compute_features(
    tiling: Tiling, network: VGG19, params: Any, image: jax.Array
) -> dict[str, jax.Array]:
    """Computes layer -> `(h, w, c)` of the whole image, window by window."""

    def of_window(window: jax.Array) -> Any:
        features = _features(tiling, network, params, image, window[:2])
        return {layer: features[layer] for layer in tiling.layers}

    def step(maps: Any, window: jax.Array) -> tuple[Any, None]:
        start, owned = window[:2], window[2:]
        for layer, features in of_window(window).items():
            at = _corner(start // 2 ** number_of_poolings(layer), features.ndim)
            before = jax.lax.dynamic_slice(maps[layer], at, features.shape)
            mine = _owned(layer, features.shape[:2], start, owned)[..., None] > 0
            written = jnp.where(mine, features, before)
            maps = {**maps, layer: jax.lax.dynamic_update_slice(maps[layer], written, at)}
        return maps, None

    windows = _windows(tiling)
    height, width = image.shape[:2]
    empty = {
        layer: _zeros(
            (*(n >> number_of_poolings(layer) for n in (height, width)), leaf.shape[2]),
            leaf.dtype,
            (image, params),
        )
        for layer, leaf in jax.eval_shape(of_window, windows[0]).items()
    }
    return jax.lax.scan(step, empty, windows)[0]


def _features(
    tiling: Tiling, network: VGG19, params: Any, image: jax.Array, start: jax.Array
) -> Any:
    crop = jax.lax.dynamic_slice(image, _corner(start, 3), (*tiling.window, 3))
    return network.apply(params, crop, tiling.layers)


def _zeros(shape: Sequence[int], dtype: Any, tree: Any) -> jax.Array:
    """Zeros that are split over devices, and vary over them, as what is computed of `tree`.

    A loop's carry must not change in that. XLA computes nothing for it.
    """
    firsts = [leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(tree)]
    nothing = functools.reduce(operator.or_, [jnp.isnan(each) & False for each in firsts])
    return jnp.zeros(shape, dtype) + nothing.astype(dtype).reshape((1,) * len(shape))


def _windows(tiling: Tiling) -> jax.Array:
    """`(n, 6)`: start (row, column), owned rows (from, to), owned columns (from, to)."""
    return jnp.asarray(
        np.array(
            [
                (top, left, *rows, *columns)
                for top, rows in zip(tiling.rows.starts, tiling.rows.owned, strict=True)
                for left, columns in zip(tiling.columns.starts, tiling.columns.owned, strict=True)
            ],
            np.int32,
        )
    )


def _owned(layer: str, shape: tuple[int, int], start: jax.Array, owned: jax.Array) -> jax.Array:
    """`(h, w)`, 1 where the window's position is its own."""
    stride = 2 ** number_of_poolings(layer)

    def along(axis: int) -> jax.Array:
        position = start[axis] // stride + jnp.arange(shape[axis], dtype=start.dtype)
        first, last = owned[2 * axis], owned[2 * axis + 1]
        return (position >= first // stride) & (position * stride < last)

    return (along(0)[:, None] & along(1)[None]).astype(jnp.float32)


def _slice(plane: jax.Array, layer: str, shape: tuple[int, int], start: jax.Array) -> jax.Array:
    at = _corner(start // 2 ** number_of_poolings(layer), plane.ndim)
    return jax.lax.dynamic_slice(plane, at, (*shape, *plane.shape[2:]))


def _corner(start: jax.Array, ndim: int) -> tuple[jax.Array, ...]:
    """A row, a column, and zeros, of one dtype whatever that of JAX's integers is."""
    return (start[0], start[1], *[jnp.zeros((), start.dtype)] * (ndim - 2))


def _is_maps(node: Any) -> bool:
    return isinstance(node, dict) and all(name in LAYERS for name in node) and bool(node)
