"""Many devices: a batch of pairs, one large picture, or both, over a `jax.sharding.Mesh`.

The axis `batch` of a mesh splits the pairs, the axis `rows` splits each picture along its longer
edge. This module only says where pictures are split. XLA's partitioner adds the communication: the
borders that convolutions read from their neighbors, and the sums of the statistics.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH = "batch"
ROWS = "rows"

# How many devices share a picture, while `run_on_mesh` traces a function. It is not read from the
# ambient mesh, which may be the user's, with other meanings of its axes.
_sharing: ContextVar[int] = ContextVar("devices_per_picture", default=1)


def make_mesh(
    *, batch: int | None = None, rows: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Arranges devices for `stylize(mesh=)` and `stylize_batch(mesh=)`.

    Args:
        batch: number of groups of devices that share the pairs; by default as many as possible.
        rows: number of devices that share each picture.
        devices: by default all devices, including those of other processes.

    Returns:
        A mesh with the axes `batch` and `rows`.

    Raises:
        ValueError: if there are too few devices.
    """
    devices = jax.devices() if devices is None else devices
    batch = len(devices) // max(rows, 1) if batch is None else batch
    if batch < 1 or rows < 1 or batch * rows > len(devices):
        raise ValueError(f"a mesh of {batch} x {rows} devices, but there are only {len(devices)}")
    return Mesh(np.array(devices[: batch * rows]).reshape(batch, rows), (BATCH, ROWS))


def check_mesh(mesh: Mesh, batched: bool) -> Mesh:
    """Returns `mesh` with Auto axes.

    Raises:
        ValueError: for axes other than `batch` and `rows`, or a batch axis for a single pair.
    """
    if unknown := set(mesh.axis_names) - {BATCH, ROWS}:
        raise ValueError(
            f"a mesh with axes {', '.join(map(str, unknown))}: choose from {BATCH} and {ROWS}"
        )
    if mesh.shape.get(BATCH, 1) > 1 and not batched:
        raise ValueError(f"{mesh.shape[BATCH]} devices along {BATCH} for a single pair")
    return Mesh(mesh.devices, mesh.axis_names)


def put_on_mesh(tree: Any, mesh: Mesh | None, batched: bool) -> Any:
    """Puts arrays on the devices of `mesh`: split by pairs if `batched`, otherwise replicated."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, _pairs(mesh) if batched else PartitionSpec())

    def put(leaf: jax.Array) -> jax.Array:
        if not mesh.is_multi_process or isinstance(leaf, jax.core.Tracer):
            return jax.device_put(leaf, sharding)
        # Every process has the whole array, and gives its devices their part.
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


def with_auto_axes(array: jax.Array) -> jax.Array:
    """Returns an array on an Explicit mesh with the same layout on the same mesh with Auto axes.

    A run combines it with arrays that are split in other ways. With Auto axes, XLA resolves that.
    """
    sharding = None if isinstance(array, jax.core.Tracer) else array.sharding
    if not isinstance(sharding, NamedSharding) or not sharding.mesh.explicit_axes:
        return array
    mesh = Mesh(sharding.mesh.devices, sharding.mesh.axis_names)
    return jax.device_put(array, NamedSharding(mesh, sharding.spec))


def _pairs(mesh: Mesh) -> PartitionSpec:
    return PartitionSpec(BATCH if BATCH in mesh.axis_names else None)


def run_on_mesh(
    mesh: Mesh | None, function: Callable[..., Any], batched: Sequence[bool]
) -> Callable[..., Any]:
    """Makes `function` run on all devices of `mesh` when it is traced.

    Args:
        mesh: None leaves the function as it is.
        function: a function of arrays.
        batched: for each argument, whether its leading axis is the pairs'. If any is, the results
            also have this axis, and each group of devices runs a program for its own pairs without
            waiting for others.
    """

    def traced(*arguments: Any) -> Any:
        token = _sharing.set(int(mesh.shape.get(ROWS, 1)) if mesh else 1)
        try:
            return function(*arguments)
        finally:
            _sharing.reset(token)

    def run(*arguments: Any) -> Any:
        if mesh is None:
            return traced(*arguments)
        called = traced
        if any(batched) and BATCH in mesh.axis_names:
            called = jax.shard_map(
                traced,
                mesh=mesh,
                in_specs=tuple(_pairs(mesh) if each else PartitionSpec() for each in batched),
                out_specs=_pairs(mesh),
                axis_names={BATCH},
                check_vma=False,
            )
        # Replaces a mesh that the caller may have set.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return called(*arguments)

    return run


def devices_per_picture() -> int:
    """Returns how many devices share a picture in what `run_on_mesh` traces; otherwise 1."""
    return _sharing.get()


def vary_alike(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Makes arrays vary over the same axes of a `jax.shard_map`, as JAX's own operations do.

    Then the derivative in a replicated array is summed over the devices.
    """
    varying = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    together = frozenset().union(*varying)
    return tuple(
        jax.lax.pcast(array, tuple(together - own), to="varying") if together - own else array
        for array, own in zip(arrays, varying, strict=True)
    )


def in_auto_mode(function: Callable[..., jax.Array], x: jax.Array, *others: Any) -> jax.Array:
    """Calls `function` with Auto axes if an argument is on an Explicit mesh.

    The result `(..., h, w, d)` is split like `x`, `(..., h, w, c)`, along each axis where that is
    possible, but not along its channels.
    """
    leaves = [leaf for leaf in (x, *others) if leaf is not None]
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in leaves]
    mesh = next((mesh for mesh in meshes if mesh.explicit_axes), None)
    if mesh is None:
        return function(x, *others)
    spec = tuple(jax.typeof(x).sharding.spec)

    def parts(axes: Any) -> int:
        names = axes if isinstance(axes, tuple) else (axes,)
        return int(np.prod([mesh.shape[name] for name in names if name is not None], dtype=int))

    with jax.sharding.use_abstract_mesh(mesh):
        shape = jax.eval_shape(
            function,
            *(None if a is None else jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (x, *others)),
        ).shape
        kept = [
            axes if length % parts(axes) == 0 else None
            for axes, length in zip(spec[:-1], shape[:-1], strict=True)
        ]
        run = jax.sharding.auto_axes(
            function, axes=mesh.explicit_axes, out_sharding=PartitionSpec(*kept)
        )
        return run(x, *others)


def _split_axis(shape: Sequence[int], stride: int, number: int) -> int | None:
    """Returns the axis of `(..., H, W, 3)` that divides into `number` parts, multiples of `stride`.

    It is the longer one if possible, and None if neither divides.
    """
    rows, columns = len(shape) - 3, len(shape) - 2
    longer_first = (rows, columns) if shape[rows] >= shape[columns] else (columns, rows)
    fitting = [axis for axis in longer_first if shape[axis] % (number * stride) == 0]
    return fitting[0] if fitting else None


def _spec(shape: Sequence[int], stride: int) -> PartitionSpec:
    axes: list[Any] = [PartitionSpec.UNCONSTRAINED] * len(shape)
    if (axis := _split_axis(shape, stride, devices_per_picture())) is not None:
        axes[axis] = ROWS
    return PartitionSpec(*axes)


def split(image: Any, stride: int) -> Any:
    """Splits `(H, W, 3)` along its longer edge, or else along its shorter one.

    If no edge is a multiple of `stride` times the number of devices, the image is replicated.
    """
    if devices_per_picture() == 1 or jnp.ndim(image) != 3:
        return image  # also an image of another rank, which the network refuses
    return jax.lax.with_sharding_constraint(image, _spec(image.shape, stride))


def split_axis_first(maps: jax.Array) -> jax.Array:
    """Swaps the first two axes of `(h, w, c)` if it is split along its columns.

    So a reshape that merges both axes keeps the array split; only a leading axis stays split.
    """
    axis = _split_axis(maps.shape, 1, devices_per_picture())
    return maps.swapaxes(0, 1) if devices_per_picture() > 1 and axis == 1 else maps


def split_state(tree: Any, image: jax.Array, stride: int) -> Any:
    """Splits the pictures of a solver's state as `split` does an image.

    They are `(..., H, W, 3)`, or `(..., 3 H, W)` in the history of `LBFGS`. Another array of such a
    shape is split too, which changes none of its values.
    """
    if devices_per_picture() == 1:
        return tree
    height, width, channels = image.shape
    rows, columns, _ = _spec(image.shape, stride)

    def constrain(leaf: jax.Array) -> jax.Array:
        if leaf.shape[-3:] == image.shape:
            spec = _spec(leaf.shape, stride)
        elif leaf.shape[-2:] == (channels * height, width):
            spec = PartitionSpec(*[PartitionSpec.UNCONSTRAINED] * (leaf.ndim - 2), rows, columns)
        else:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, spec)

    return jax.tree.map(constrain, tree)


def splits_columns(shape: Sequence[int], mesh: Mesh, stride: int) -> bool:
    """Returns whether an image `(..., H, W, 3)` is split along its columns over `mesh`.

    Raises:
        ValueError: if it cannot be split; the message names a size that can.
    """
    number = int(mesh.shape.get(ROWS, 1))
    axis = _split_axis(shape, stride, number)
    if axis is not None or number == 1:
        return number > 1 and axis == len(shape) - 2
    step, longer = number * stride, max(shape[-3:-1])
    raise ValueError(
        f"a picture of {shape[-2]}x{shape[-3]} px cannot be split over {number} devices: one edge "
        f"must be a multiple of {step} px, such as {max(longer // step, 1) * step}"
    )


def _constrain_layout(x: jax.Array) -> jax.Array:
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _lower_row_major(context: Any, x: Any) -> Any:
    axes = context.module_context.axis_context
    devices = axes.mesh.size if hasattr(axes, "mesh") else getattr(axes, "num_devices", 1)
    if devices == 1:  # `jax.export` does not support layouts
        return [x]
    return mlir.lower_fun(_constrain_layout, multiple_results=False)(context, x)


# A primitive, because only its lowering knows how many devices a program is for.
_row_major = Primitive("row_major")
_row_major.def_impl(lambda x: x)
_row_major.def_abstract_eval(lambda x: x)
ad.deflinear(_row_major, lambda cotangent: [_row_major.bind(cotangent)])
batching.defvectorized(_row_major)
mlir.register_lowering(_row_major, lambda _, x: [x])
mlir.register_lowering(_row_major, _lower_row_major, platform="cpu")


def row_major(x: jax.Array) -> jax.Array:
    """Returns `x` in row-major layout where a program for several devices runs on CPUs.

    XLA:CPU's Fourier transform needs this layout, and XLA's partitioner does not keep it.
    """
    return _row_major.bind(x)
