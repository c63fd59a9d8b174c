"""The devices that a run computes on, and how it computes there."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import jax
import numpy as np
from jax.sharding import Mesh

from jaxstyle import make_mesh
from jaxstyle.app.backend_problems import way_out
from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error

_SECONDS_TO_MEET = 120  # for all processes to start
_SECONDS_OF_SILENCE = 30  # of one process, until the others end


def random_keys(seeds: int | Sequence[int]) -> jax.Array:
    """Returns the random key of each seed, of JAX's default generator whatever it is set to."""
    low = np.asarray(seeds, np.uint32)
    data = jax.device_put(np.stack([np.zeros_like(low), low], axis=-1))
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a run failed because the host or a device has no memory left."""
    text = str(error)
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "OUT_OF_MEMORY" in text


def advice_for(error: BaseException) -> str:
    """Returns what to add to the message of an error: how to need less memory, or nothing."""
    # The libraries of a card fail in their own words if another program has its memory.
    starved = any(word in str(error) for word in ("CUBLAS", "CUDNN", "DNN library"))
    less = "; use a smaller --size or --tile" if is_out_of_memory(error) else ""
    busy = (less or starved) and jax.default_backend() != "cpu"
    return less + (f"; {way_out(str(error))}" if busy else "")


def precision(name: str) -> AbstractContextManager[object]:
    """Sets how float32 products are computed. By default JAX uses TF32 on GPUs that have it."""
    if jax.default_backend() == "cpu":
        return contextlib.nullcontext()
    return jax.default_matmul_precision("tensorfloat32" if name == "tf32" else "highest")


def steps_at_once(pixels: int, *, cpu: int, other: int) -> int:
    """Returns how many steps to make between two results.

    Each result costs a copy of the pictures and a transform of the kernels.

    Args:
        pixels: of all pictures of a step.
        cpu: pixels times steps on CPUs; a million take some seconds on two cores.
        other: steps on other devices, and at most on CPUs.
    """
    return min(max(cpu // pixels, 1), other) if jax.default_backend() == "cpu" else other


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Makes this process one of several that run the same command, before JAX is used.

    Args:
        coordinator: `HOST:PORT` of the first process; `auto` asks the cluster (SLURM, MPI,
            Kubernetes or cloud TPUs, see `jax.distributed.initialize`).
        processes: number of processes; None asks the cluster.
        process: index of this process, from 0; None asks the cluster.

    Raises:
        InputError: if the processes do not find each other.
    """
    if coordinator is None:
        return
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator,
            processes,
            process,
            initialization_timeout=_SECONDS_TO_MEET,
            heartbeat_timeout_seconds=_SECONDS_OF_SILENCE,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"--coordinator {coordinator}: {describe_error(error)}; start all processes with the "
            "same --coordinator HOST:PORT and --processes N, and each with its --process"
        ) from None


def take_devices(devices: Sequence[jax.Device], number: int | None) -> Sequence[jax.Device]:
    """Returns the first `number` of `devices`, None for all.

    Raises:
        InputError: if there are fewer.
    """
    if number is not None and number > len(devices):
        raise InputError(f"--devices {number}: there are {len(devices)}, see jaxstyle info")
    return devices[:number]


def mesh_of(shard: str | None, number: int | None) -> Mesh | None:
    """Returns the mesh for `--shard rows` and `--devices`, None for a single device.

    Raises:
        InputError: if there are fewer devices.
    """
    if shard is None and number is None:
        return None
    devices = take_devices(jax.devices(), number)
    return make_mesh(batch=1, rows=len(devices), devices=devices)
