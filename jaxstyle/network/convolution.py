"""3x3 convolution as VGG networks have it: stride 1 and a border one wide.

On CPUs it is Winograd's algorithm (see `winograd`). On other devices, for few channels, and under
`jax.default_matmul_precision("highest")`, it is XLA's own convolution (see `xla`, and `split` for a
picture that several devices share).

It is a JAX primitive. Only a primitive can have one program for each kind of device, a transpose
as fast as itself (which is what a gradient runs), and batching that makes its matrix products
larger.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxstyle.network import split, winograd, xla
from jaxstyle.network.padding import Padding, pad
from jaxstyle.sharding import devices_per_picture, vary_alike


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    padding: Padding = "zero",
    transformed: jax.Array | None = None,
) -> jax.Array:
    """Correlates, with stride 1 and a border one wide.

    Differentiable any number of times, in forward and reverse mode, in `x` and `kernel`.

    Args:
        x: `(n, h, w, c)`, floating point.
        kernel: `(3, 3, c, d)`, of the same dtype.
        padding: what the border holds: `zero`, or `replicate` or `reflect` of what is inside, or
            with `wrap` what is at the opposite edge.
        transformed: `winograd.transform(kernel)`, optional, to share it between several calls;
            never differentiated. An array without elements selects XLA's own convolution on
            every device.

    Returns:
        `(n, h, w, d)`, of the arguments' dtype.
    """
    # Read while tracing: another precision may be set when the program is compiled.
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    # A transformed kernel of another dtype would make the result less exact.
    given = transformed is not None and transformed.dtype == x.dtype
    operands = (x, kernel, transformed) if given else (x, kernel)
    return _convolution.bind(
        *vary_alike(*operands),
        padding=padding,
        transpose=False,
        precision=precision,
        whole=devices_per_picture() == 1,
    )


def _direct(
    x: jax.Array,
    kernel: jax.Array,
    *transformed: jax.Array,
    padding: Padding,
    transpose: bool,
    precision: Any,
    whole: bool,
) -> jax.Array:
    """XLA's convolution; with `transpose` its transpose, with a kernel `(3, 3, d, c)`."""
    del transformed
    return (xla if whole else split).convolve(x, kernel, padding, transpose, precision)


def _on_cpu(
    x: jax.Array,
    kernel: jax.Array,
    *transformed: jax.Array,
    padding: Padding,
    transpose: bool,
    precision: Any,
    whole: bool,
) -> jax.Array:
    """`_direct`, or the same by Winograd's algorithm."""
    if not whole:  # XLA's partitioner splits its own convolution, but no tiles
        return split.convolve(x, kernel, padding, transpose, precision)
    exact = precision in ("highest", "float32") or any(each.size == 0 for each in transformed)
    wide = x.dtype in (jnp.float32, jnp.float64)
    if wide and not exact and winograd.is_faster(x, kernel, padding, transpose):
        known = transformed[0] if transformed else None
        return winograd.convolve(x, kernel, known, padding, transpose)
    if padding == "zero" or transpose:
        return xla.convolve(x, kernel, padding, transpose, precision)
    # Without a border of its own XLA:CPU's convolution takes four times as long.
    padded = pad(x, 1, (1, 1), padding)
    return xla.convolve(padded, kernel, "zero", transpose, precision)[:, 1:-1, 1:-1]


def _shape(x: Any, kernel: Any, *transformed: Any, transpose: bool, **settings: Any) -> Any:
    del transformed, settings
    channels, features = kernel.shape[:1:-1] if transpose else kernel.shape[2:]
    if kernel.shape[:2] != (3, 3) or channels != x.shape[-1] or kernel.dtype != x.dtype:
        raise ValueError(f"a kernel {kernel.shape} {kernel.dtype} for {x.shape} {x.dtype}")
    return x.update(shape=(*x.shape[:-1], features), weak_type=False)


def _derivative(primals: Any, tangents: Any, **settings: Any) -> Any:
    x, kernel, *transformed = primals
    x_dot, kernel_dot, *_ = tangents
    y = _convolution.bind(x, kernel, *transformed, **settings)
    y_dot = jnp.zeros_like(y)
    if type(x_dot) is not ad.Zero:
        y_dot = _convolution.bind(x_dot, kernel, *transformed, **settings)
    if type(kernel_dot) is not ad.Zero:
        y_dot += _convolution.bind(x, kernel_dot, **settings)
    return y, y_dot


def _transpose(
    y: Any, x: Any, kernel: Any, *transformed: Any, transpose: bool, **settings: Any
) -> Any:
    """The cotangents of `x` or of `kernel`, whichever it is linear in."""
    nothing = (None,) * len(transformed)
    if type(y) is ad.Zero:
        return None, None, *nothing
    if ad.is_undefined_primal(x):
        x = _convolution.bind(y, kernel, *transformed, transpose=not transpose, **settings)
        return x, None, *nothing

    def of_kernel(kernel: jax.Array) -> jax.Array:
        return _direct(x, kernel, transpose=transpose, **settings)

    return None, *jax.linear_transpose(of_kernel, kernel.aval)(y), *nothing


def _batch(operands: Any, axes: Any, **settings: Any) -> tuple[jax.Array, int]:
    x, *kernels = operands
    if any(axis is not None for axis in axes[1:]):  # a kernel for each example
        kernel, axes = kernels[0], axes[:2]
        return jax.vmap(lambda x, kernel: _direct(x, kernel, **settings), axes)(x, kernel), 0
    x = jnp.moveaxis(x, axes[0], 0)
    y = _convolution.bind(x.reshape(-1, *x.shape[2:]), *kernels, **settings)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


_convolution = Primitive("convolution_3x3")

_convolution.def_abstract_eval(_shape)

_compiled = jax.jit(
    _convolution.bind, static_argnames=("padding", "transpose", "precision", "whole")
)


@_convolution.def_impl
def _run(*operands: Any, **settings: Any) -> jax.Array:
    # A primitive is one operation, so it is compiled even where `jax.disable_jit` is set.
    with jax.disable_jit(False):
        return _compiled(*operands, **settings)


ad.primitive_jvps[_convolution] = _derivative

ad.primitive_transposes[_convolution] = _transpose

batching.primitive_batchers[_convolution] = _batch

mlir.register_lowering(_convolution, mlir.lower_fun(_direct, multiple_results=False))

mlir.register_lowering(
    _convolution, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu"
)
