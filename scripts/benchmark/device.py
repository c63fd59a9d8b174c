"""Throughput of an accelerator."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import Options, alternate, load, plot, report

import jaxstyle
from jaxstyle import recipes, solvers
from jaxstyle.app import devices
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import InputError
from jaxstyle.network.vgg import CONV_SHAPES


def device(
    options: Options,
    size: int = 512,
    sizes: tuple[int, ...] = (1, 4, 16),
    steps: int = 300,
    peer: bool = True,
) -> None:
    """On an accelerator: TFLOP/s against a large matrix product, pairs per second, PyTorch."""
    if jax.default_backend() == "cpu":
        raise InputError("JAX finds no accelerator here; the command evaluation measures a CPU")
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    flops = _evaluation_flops(content.shape)
    matrix = jnp.ones((8192, 8192))
    rows: list[dict[str, Any]] = []
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for name in ("float32", "tf32", "bfloat16"):
        dtype = jnp.bfloat16 if name == "bfloat16" else None
        network = vgg_of(recipes.GATYS_NOTEBOOK).clone(dtype=dtype)
        recipe = dataclasses.replace(
            recipes.GATYS_NOTEBOOK, network=network, solver=solvers.LBFGS(num_steps=steps)
        )
        with devices.precision(name):
            a = matrix.astype(dtype or jnp.float32)
            product = jax.jit(lambda a: a @ a)
            times = alternate({"product": lambda: product(a)}, options)  # noqa: B023
            peak = 2 * len(a) ** 3 / float(np.median(times["product"]))
            for number in sizes:
                contents, styles = (jnp.stack([x] * number) for x in (content, style))
                run = functools.partial(
                    jaxstyle.stylize_batch, params, contents, styles, recipe=recipe
                )
                jax.block_until_ready(run())
                begin = time.perf_counter()
                jax.block_until_ready(run())
                seconds = (time.perf_counter() - begin) / number
                rate = flops * (steps + 1) / seconds
                rows.append(
                    {"network": name, "batch": number, "seconds per pair": seconds,
                     "TFLOP/s": rate / 1e12, "of a matrix product": rate / peak}
                )  # fmt: skip
                x, y = curves.setdefault(name, ([], []))
                x.append(number)
                y.append(1 / seconds)
    if peer:
        rows += _torch_rows(params, content, style, options, flops, steps)
    report("device", rows, options, size=content.shape[:2], steps=steps)
    plot("device", curves, ("pairs in a batch", "pairs per second"), options)


def _evaluation_flops(shape: Sequence[int]) -> float:
    """Floating-point operations of the convolutions up to conv5_1, forward and backward."""
    total = 0.0
    for name, (kernel, _) in CONV_SHAPES.items():
        if name <= "conv5_1":
            scale = 2 ** (int(name[4]) - 1)
            total += 2 * 2 * np.prod(kernel) * (shape[0] // scale) * (shape[1] // scale)
    return total


def _torch_rows(
    params: Any, content: Any, style: Any, options: Options, flops: float, steps: int
) -> list[dict[str, Any]]:
    """PyTorch's evaluations alone, without a solver."""
    import torch
    from peers import TorchObjective

    where = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for name, tf32, dtype, compiled in (
        ("torch eager float32", False, torch.float32, False),
        ("torch eager tf32, channels last", True, torch.float32, False),
        ("torch.compile bfloat16", True, torch.bfloat16, True),
    ):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        objective = TorchObjective(params, content, style, device=where, dtype=dtype)
        function, image = objective.evaluation(compiled=compiled), objective.image(content)
        times = alternate({name: functools.partial(function, image)}, options)
        seconds = float(np.median(times[name]))
        rows.append(
            {"network": name, "batch": 1, "seconds per pair": seconds * (steps + 1),
             "TFLOP/s": flops / seconds / 1e12, "of a matrix product": "-"}
        )  # fmt: skip
    return rows
