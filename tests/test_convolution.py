"""The convolution and its derivatives, against XLA's on an array that is padded beforehand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.network import winograd
from jaxstyle.network.convolution import convolution

MODES = {"zero": "constant", "replicate": "edge", "reflect": "reflect"}
WRAP = {"wrap": "wrap"}  # is the same code, with other lines
# Few and many channels (XLA's convolution and Winograd's), sides that are no multiples of 4, and
# so small that both borders copy the same line.
SHAPES = [(26, 30, 64, 128), (25, 26, 128, 96), (4, 5, 3, 4), (2, 3, 4, 4), (3, 3, 128, 64)]
TOLERANCE = {"float32": 5e-6, "float64": 1e-14}


def expected(x, kernel, padding):
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=(MODES | WRAP)[padding])
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def example(shape, dtype, number=1):
    rng = np.random.default_rng(0)
    height, width, channels, features = shape
    x = rng.standard_normal((number, height, width, channels))
    kernel = rng.standard_normal((3, 3, channels, features)) / np.sqrt(9 * channels)
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def difference(found, wanted):
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def value_and_cotangents(function, padding):
    """One program, since each operation by itself would be a program of its own."""

    def run(x, kernel, cotangent):
        y, pull = jax.vjp(lambda *args: function(*args, padding), x, kernel)
        return y, *pull(cotangent)

    return jax.jit(run)


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_value_and_both_cotangents(padding, shape, dtype):
    with jax.enable_x64(dtype == "float64"):
        x, kernel = example(shape, dtype)
        size = (1, *shape[:2], shape[3])
        cotangent = np.cos(np.arange(np.prod(size))).reshape(size).astype(dtype)
        found, wanted = (
            value_and_cotangents(function, padding)(x, kernel, cotangent)
            for function in (convolution, expected)
        )
        for one, other in zip(found, wanted, strict=True):
            assert difference(one, other) < TOLERANCE[dtype]


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[3]], ids=str)
def test_opposite_edges(shape):
    test_value_and_both_cotangents("wrap", shape, "float64")


@pytest.mark.parametrize("padding", MODES)
def test_strips_are_the_whole(padding, monkeypatch):
    """Both pictures at once by strips, and each of them whole: of other shapes, so not cached."""
    x, kernel = example((37, 21, 128, 64), jnp.float32, number=2)

    def run(x, cotangent):
        y, pull = jax.vjp(lambda x: convolution(x, kernel, padding), x)
        return y, pull(cotangent)[0]

    cotangent = jnp.sin(jnp.arange(2 * 37 * 21 * 64.0)).reshape(2, 37, 21, 64)
    with monkeypatch.context() as patch:
        patch.setattr(winograd, "_BLOCK", 2**18)
        found = run(x, cotangent)
    each = [run(x[i : i + 1], cotangent[i : i + 1]) for i in range(2)]
    for strips, whole in zip(found, zip(*each, strict=True), strict=True):
        assert difference(strips, jnp.concatenate(whole)) < TOLERANCE["float32"]


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("channels", [4, pytest.param(128, marks=pytest.mark.long)])
def test_derivatives_of_all_kinds(padding, channels):
    """Both modes, second order, under vmap of either argument or both, in a loop."""
    x, kernel = example((21, 18, channels, 64), jnp.float32, number=2)
    kernels = jnp.stack([kernel, 2 * kernel])

    def derivatives(function, x, kernel, kernels):
        f = lambda *args: jnp.sum(jnp.sin(function(*args, padding)))  # noqa: E731
        return [
            jax.grad(f, (0, 1))(x, kernel),
            jax.jvp(f, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))[1],
            jax.jvp(jax.grad(f), (x, kernel), (jnp.cos(x), jnp.sin(kernel)))[1],
            jax.vmap(jax.grad(f), (0, None))(x[:, None], kernel),
            jax.vmap(jax.grad(f), (1, None))(x[:, None], kernel),
            jax.vmap(jax.grad(f), (None, 0))(x, kernels),
            jax.vmap(jax.grad(f))(x[:, None], kernels),
            jax.lax.fori_loop(0, 2, lambda _, x: x - jax.grad(f)(x, kernel), x),
        ]

    found, wanted = (
        jax.jit(derivatives, static_argnums=0)(function, x, kernel, kernels)
        for function in (convolution, expected)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 5e-4), found, wanted)


def test_the_highest_precision_and_other_devices_have_the_plain_convolution():
    x, kernel = example((24, 28, 128, 64), jnp.float32)
    plain = expected(x, kernel, "zero")
    with jax.default_matmul_precision("highest"):
        program = jax.jit(convolution).lower(x, kernel)
        assert "stablehlo.convolution" in program.as_text()
        assert difference(program.compile()(x, kernel), plain) < TOLERANCE["float32"]
    exported = {
        platform: jax.export.export(jax.jit(convolution), platforms=[platform])(x, kernel)
        for platform in ("cpu", "cuda", "tpu")
    }
    for platform, program in exported.items():
        assert ("stablehlo.convolution" in program.mlir_module()) == (platform != "cpu")


def test_wrong_shapes_are_refused():
    x, kernel = example((6, 9, 4, 8), jnp.float32)
    for wrong in (kernel[:2], kernel[:, :, :3], kernel.astype(jnp.bfloat16)):
        with pytest.raises(ValueError, match="a kernel"):
            convolution(x, wrong)
