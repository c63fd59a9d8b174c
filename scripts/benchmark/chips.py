"""Chips that a program is compiled for without one, and what their makers publish about them."""

import dataclasses
import importlib.util
import os
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from jaxstyle.io import InputError
from jaxstyle.io.files import describe_error
from jaxstyle.sharding import BATCH, ROWS

Target = Literal["tpu:v5e", "tpu:v6e", "cuda", "cpu"]

MOST_CHIPS = 8


@dataclasses.dataclass(frozen=True)
class Rates:
    """Of one chip."""

    flops: float
    """Per second, of matrix products in bfloat16."""
    slower: float
    """How many times longer exact products in float32 take."""
    tf32: float
    """How many times longer products in `tf32` take."""
    bytes: float
    """Per second, to and from its memory."""


# Google's pages of the two TPUs. A float32 product there is six in bfloat16, or three in middle
# precision. NVIDIA's data sheet of the H100 SXM, without sparsity; float32 without tensor cores.
RATES = {
    "tpu:v5e": Rates(197e12, 6, 3, 819e9),
    "tpu:v6e": Rates(918e12, 6, 3, 1640e9),
    "cuda": Rates(989e12, 989 / 67, 2, 3350e9),
}

_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000  l2_cache_size: 52428800  device_memory_size: 84929347584
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
runtime_version { major: 12  minor: 8 }
dnn_version_info { major: 9  minor: 7 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def mesh_of(target: Target, shape: tuple[int, int]) -> Mesh:
    """Returns a mesh of chips, `batch` x `rows`, that are not there.

    Raises:
        InputError: for a mesh that there is not, or if nothing here compiles for them.
    """
    number = shape[0] * shape[1]
    if min(shape) < 1 or number > MOST_CHIPS:
        raise InputError(
            f"--mesh {shape[0]} {shape[1]}: both numbers must be positive, and their product at "
            f"most {MOST_CHIPS}"
        )
    try:
        devices = _devices(target, number)
    except Exception as error:  # each library has its own
        extra = "gpu" if target == "cuda" else "tpu"
        advice = "" if target == "cpu" else f"; it needs `pip install '.[{extra}]'`"
        raise InputError(f"--target {target}: {describe_error(error)}{advice}") from None
    return Mesh(np.array(devices[:number]).reshape(shape), (BATCH, ROWS))


def _devices(target: Target, number: int) -> Sequence[Any]:
    # What is compiled for must not be started: it is not there.
    jax.config.update("jax_platforms", "cpu")
    if target == "cpu":
        jax.config.update("jax_num_cpu_devices", number)
        return jax.devices()
    if target == "cuda":
        return topologies.get_topology_desc(
            "h100", "cuda", target_config=_H100, topology=f"1x1x{number}"
        ).devices
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError("there is no libtpu")
    name, chips = target.removeprefix("tpu:"), 8 if number > 4 else 4
    kind = {"v5e": "v5litepod", "v6e": "v6e"}[name]
    os.environ |= {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": f"{kind}-{chips}",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    return topologies.get_topology_desc(f"{name}:2x{chips // 2}", "tpu").devices
