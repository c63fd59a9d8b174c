"""Sums over positions in bounded memory: window by window, exactly.

The sums over a large image are the sums over windows of it, if each position is counted once and
sees in its window all that it sees in the whole image. So windows overlap by the network's reach
and begin at multiples of its stride. A window has a border of the image only where the image has
one, so the padding is right. An image that wraps has no border: what is at its opposite edges is
put around it before windows are cut. Under `jax.grad` each window is computed a second time, and
nothing of a window is kept.
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

from jaxstyle.checks import as_integer
from jaxstyle.network.protocol import Network, common_stride
from jaxstyle.sharding import in_auto_mode, split
from jaxstyle.terms.protocol import Term, layers_of

Planes = Mapping[str, jax.Array]
"""Layer -> `(h, w, ...)`."""


class _Axis(NamedTuple):
    """The windows along one axis, in pixels."""

    window: int
    starts: tuple[int, ...]
    owned: tuple[tuple[int, int], ...]  # (first, end) of each window


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Windows over an image; static.

    Attributes:
        rows: the windows along the height.
        columns: the windows along the width.
        layers: the layers that are read.
        border: pixels of the opposite edges to put around an image that wraps; windows and what
            they own are counted from there.
    """

    rows: _Axis
    columns: _Axis
    layers: tuple[str, ...]
    border: int = 0

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of each window, in pixels."""
        return self.rows.window, self.columns.window

    @property
    def number(self) -> int:
        """The number of windows."""
        return len(self.rows.starts) * len(self.columns.starts)


def make_tiling(
    network: Network,
    shape: Sequence[int],
    tile: int,
    layers: Sequence[str],
    reach: Mapping[str, int],
) -> Tiling:
    """Divides an image into windows that own about `tile` x `tile` pixels each.

    Args:
        network: the network.
        shape: `(H, W, ...)` of the image.
        tile: pixels; rounded up to a multiple of 4 times the stride of the deepest layer. Windows
            are larger by what the network sees around it.
        layers: layers that are read.
        reach: layer -> how many positions around each one are read, by default 0.

    Raises:
        ValueError: if `tile` is not positive, or for an image that wraps whose edges are not
            multiples of the stride.
    """
    if tile < 1:
        raise ValueError(f"tile must be positive, not {tile}")
    stride = common_stride(network, layers)
    radius = max(
        network.reach(layer) + reach.get(layer, 0) * network.stride(layer) for layer in layers
    )
    halo = -(-radius // stride) * stride
    border = halo if network.wraps else 0
    if border and (shape[0] % stride or shape[1] % stride):
        raise ValueError(
            f"windows of a picture that wraps need edges that are multiples of {stride} px, not "
            f"{shape[1]}x{shape[0]} px: use another size, or leave out tile"
        )
    rows, columns = (_cut(size, tile, halo, stride, border) for size in shape[:2])
    return Tiling(rows, columns, tuple(layers), border)


def tiling_of(network: Network, image: jax.Array, tile: int, terms: Sequence[Term]) -> Tiling:
    """Divides an image into windows for `terms`."""
    reach: dict[str, int] = {}
    for term in terms:
        for layer in term.layers:
            reach[layer] = max(reach.get(layer, 0), term.reach)
    return make_tiling(network, image.shape, tile, layers_of(terms), reach)


def _cut(size: int, tile: int, halo: int, stride: int, border: int) -> _Axis:
    # Winograd's algorithm makes 4 x 4 outputs together. Windows that begin at multiples of 4
    # positions, in the deepest layer too, round as the whole image does.
    unit = 4 * stride
    tile, length = -(-tile // unit) * unit, size + 2 * border
    # A window that ends where the image does begins at a multiple of the unit.
    window = tile + 2 * halo + (length - tile - 2 * halo) % unit
    if window >= length:
        return _Axis(length, (0,), ((border, border + size),))
    starts = (*range(0, length - window, tile), length - window)
    # The last window that has all that a position sees owns the position.
    edges = (border, *(start + halo for start in starts[1:]), border + size)
    return _Axis(window, starts, tuple(itertools.pairwise(edges)))


def surround(plane: jax.Array, border: int) -> jax.Array:
    """Puts `border` positions of the opposite edges around `(h, w, ...)`."""
    widths = [(border, border)] * 2 + [(0, 0)] * (plane.ndim - 2)
    return jnp.pad(plane, widths, mode="wrap") if border else plane


def whole_features(
    network: Network, params: Any, image: jax.Array, layers: Sequence[str]
) -> dict[str, jax.Array]:
    """Computes layer -> `(h, w, c)` of the whole image at once."""
    return network.apply(params, split(image, common_stride(network, layers)), layers)


def smaller_tile(tile: int | None, image: jax.Array) -> int | None:
    """Returns `tile`, or None if the image is not larger.

    Raises:
        ValueError: if `tile` is not a positive whole number.
    """
    if tile is not None and as_integer(tile, "tile") < 1:
        raise ValueError(f"tile must be positive, not {tile}")
    return None if tile is None or tile >= max(image.shape[:2], default=0) else tile


def sum_over_windows(
    tiling: Tiling,
    network: Network,
    params: Any,
    image: jax.Array,
    maps: Mapping[Any, Planes],
    statistics: Callable[[Planes, Mapping[Any, Planes], Planes, jax.Array], Any],
) -> Any:
    """Sums `statistics` over all windows of `image`.

    Args:
        tiling: the windows.
        network: the network.
        params: its parameters.
        image: `(H, W, 3)`.
        maps: layer -> `(h, w, ...)` under any keys: arrays that belong to the image's positions.
        statistics: takes the features of a window, its part of the maps, and layer -> `(h, w)`,
            1 for the positions that the window owns, and `(2,)` the pixel of the image at which
            the window begins, and returns a pytree of sums.

    Returns:
        The sums, of the form that `statistics` returns.
    """
    image = surround(image, tiling.border)
    maps = {
        key: {
            layer: surround(plane, tiling.border // network.stride(layer))
            for layer, plane in planes.items()
        }
        for key, planes in maps.items()
    }

    def of_window(window: jax.Array) -> Any:
        start, owned = window[:2], window[2:]
        features = _features(tiling, network, params, image, start)
        shapes = {layer: each.shape[:2] for layer, each in features.items()}
        strides = {layer: network.stride(layer) for layer in features}
        masks = {layer: _owned(shapes[layer], strides[layer], start, owned) for layer in features}
        here = {
            key: {
                layer: _slice(plane, shapes[layer], strides[layer], start)
                for layer, plane in planes.items()
            }
            for key, planes in maps.items()
        }
        return statistics(features, here, masks, start - tiling.border)

    def step(sums: Any, window: jax.Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, of_window(window)), None

    windows = _windows(tiling)
    zeros = jax.tree.map(
        lambda leaf: _zeros(leaf.shape, leaf.dtype, (image, params, maps)),
        jax.eval_shape(of_window, windows[0]),
    )
    # `prevent_cse` guards against merging with code outside, which a loop's body excludes anyway.
    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), zeros, windows)[0]


def compute_features(
    tiling: Tiling,
    network: Network,
    params: Any,
    image: jax.Array,
    function: Callable[[Planes], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Computes layer -> `(h, w, c)` of the whole image, window by window.

    They are the features, or what `function` makes of those of a window, for any of the layers: an
    array, or a pytree of them.
    """
    strides = {layer: network.stride(layer) for layer in tiling.layers}
    image = surround(image, tiling.border)

    def of_window(window: jax.Array) -> Any:
        features = _features(tiling, network, params, image, window[:2])
        return function({layer: features[layer] for layer in tiling.layers})

    def step(maps: Any, window: jax.Array) -> tuple[Any, None]:
        start, owned = window[:2], window[2:]

        def write(stride: int, plane: jax.Array, features: jax.Array) -> jax.Array:
            at = _corner(start // stride, features.ndim)
            before = _read(plane, at, features.shape)
            mine = _owned(features.shape[:2], stride, start, owned)[..., None] > 0
            return jax.lax.dynamic_update_slice(plane, jnp.where(mine, features, before), at)

        for layer, features in of_window(window).items():
            of_layer = functools.partial(write, strides[layer])
            maps = {**maps, layer: jax.tree.map(of_layer, maps[layer], features)}
        return maps, None

    windows = _windows(tiling)
    last = tiling.rows.starts[-1], tiling.columns.starts[-1]  # which ends where the image ends

    def empty(stride: int, leaf: Any) -> jax.Array:
        shape = [start // stride + n for start, n in zip(last, leaf.shape[:2], strict=True)]
        return _zeros((*shape, leaf.shape[2]), leaf.dtype, (image, params))

    def inside(stride: int, plane: jax.Array) -> jax.Array:
        n = tiling.border // stride
        return plane[n : plane.shape[0] - n, n : plane.shape[1] - n]

    def each(function: Callable[[int, Any], jax.Array], maps: Mapping[str, Any]) -> dict[str, Any]:
        return {
            layer: jax.tree.map(functools.partial(function, strides[layer]), tree)
            for layer, tree in maps.items()
        }

    maps = each(empty, jax.eval_shape(of_window, windows[0]))
    return each(inside, jax.lax.scan(step, maps, windows)[0])


def _features(
    tiling: Tiling, network: Network, params: Any, image: jax.Array, start: jax.Array
) -> dict[str, jax.Array]:
    crop = _read(image, _corner(start, 3), (*tiling.window, 3))
    return network.apply(params, crop, tiling.layers)


def _zeros(shape: Sequence[int], dtype: Any, tree: Any) -> jax.Array:
    """Zeros that are sharded like anything computed from `tree`, as a loop's carry must be.

    XLA computes nothing for it.
    """
    firsts = [leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(tree)]
    nothing = functools.reduce(operator.or_, [jnp.isnan(each) & False for each in firsts])
    return jnp.zeros(shape, dtype) + nothing.astype(dtype).reshape((1,) * len(shape))


def _windows(tiling: Tiling) -> jax.Array:
    """`(n, 6)`: start (row, column), owned rows (first, end), owned columns (first, end)."""
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


def _owned(shape: Sequence[int], stride: int, start: jax.Array, owned: jax.Array) -> jax.Array:
    """`(h, w)`, 1 where the window owns the position."""

    def along(axis: int) -> jax.Array:
        position = start[axis] // stride + jnp.arange(shape[axis], dtype=start.dtype)
        first, end = owned[2 * axis], owned[2 * axis + 1]
        return (position >= first // stride) & (position * stride < end)

    return (along(0)[:, None] & along(1)[None]).astype(jnp.float32)


def _slice(plane: jax.Array, shape: Sequence[int], stride: int, start: jax.Array) -> jax.Array:
    at = _corner(start // stride, plane.ndim)
    return _read(plane, at, (*shape, *plane.shape[2:]))


def _read(plane: jax.Array, at: Sequence[jax.Array], shape: Sequence[int]) -> jax.Array:
    """Returns the part of `plane` that begins at `at`.

    JAX 0.12 has no derivative of it in a batch that is split over Explicit axes.
    """

    def read(plane: jax.Array, *at: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(plane, at, shape)

    return in_auto_mode(read, plane, *at)


def _corner(start: jax.Array, ndim: int) -> tuple[jax.Array, ...]:
    """The indices of a window's first position: row, column and zeros, all of one dtype."""
    return (start[0], start[1], *[jnp.zeros((), start.dtype)] * (ndim - 2))
