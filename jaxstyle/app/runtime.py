"""What the program asks of JAX and of the system, and the library leaves to its caller."""

import contextlib
import functools
import hashlib
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import platformdirs
from jax.sharding import Mesh

from jaxstyle import make_mesh
from jaxstyle.app.job import say
from jaxstyle.app.programs import KeptPrograms
from jaxstyle.compiled import call_jitted
from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error
from jaxstyle.io.network_weights.cache import cache_dir

_SECONDS_TO_MEET = 120  # for several processes to have started
_SECONDS_OF_SILENCE = 30  # after which one that is gone ends the others


def precision(name: str) -> AbstractContextManager[object]:
    """Sets how float32 products are computed: left alone, JAX takes TF32 on GPUs that have it."""
    if jax.default_backend() == "cpu":
        return contextlib.nullcontext()
    return jax.default_matmul_precision("tensorfloat32" if name == "tf32" else "highest")


def steps_at_once(pixels: int, *, cpu: int, other: int) -> int:
    """Returns how many steps to make between two looks at them.

    Each look costs a copy of the results, and of the kernels in the form that they are used in.

    Args:
        pixels: in all pictures of a step.
        cpu: pixels times steps on CPUs; a million take some seconds on two cores.
        other: steps elsewhere, and the most on CPUs.
    """
    return min(max(cpu // pixels, 1), other) if jax.default_backend() == "cpu" else other


class Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


def interrupt(number: int) -> None:
    """What `on_signal` calls to end on SIGTERM as on Ctrl-C."""
    raise Terminated(number)


@contextlib.contextmanager
def on_signal(call: Callable[[int], None], *numbers: int) -> Iterator[None]:
    """Calls `call` with the first signal that comes out of `numbers`; after it all is as before.

    Outside of the main thread, where Python has no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def handle(number: int, _: object) -> None:
        restore()
        call(number)

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def keep_compiled_programs() -> Callable[..., Any]:
    """Keeps compiled programs on disk, so that a second run at a size compiles nothing.

    Only in a folder that nobody else can write, since what lies there is run: `JAXSTYLE_CACHE`, or
    else the user's own cache. One for each kind of machine: a program for a CPU uses all that this
    CPU can do. Who has given JAX a folder (`JAX_COMPILATION_CACHE_DIR`), or has disabled its cache,
    has decided; on Windows nothing is kept.

    Returns:
        How to call the compiled parts of a run, see `stylize_steps`.
    """
    config: Any = jax.config
    chosen = not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir
    if chosen or not hasattr(os, "geteuid"):
        return call_jitted
    return _keep_in(cache_dir(), Path(platformdirs.user_cache_dir("jaxstyle")))


@functools.cache  # the programs of a process are loaded once, and a problem is told once
def _keep_in(*caches: Path) -> Callable[..., Any]:
    machine = [platform.machine(), jax.__version__, jax.lib.__version__]
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        machine.append(next(line for line in lines if line.startswith(("flags", "Features"))))
    name = hashlib.sha256("\n".join(machine).encode()).hexdigest()[:16]
    for cache in dict.fromkeys(caches):
        try:
            # Without a home folder it is called `~`.
            if cache.parts[:1] == ("~",):
                raise FileNotFoundError(f"there is no {cache.parts[0]}; set JAXSTYLE_CACHE")
            return KeptPrograms(cache / "compiled" / name / "programs")
        except OSError as error:
            where = error.filename or cache
            say(f"compiled programs are not kept in {cache}: {where}: {describe_error(error)}")
    return call_jitted


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Makes this process one of several that run the same command, before JAX is used.

    Args:
        coordinator: `HOST:PORT` of the first one; `auto` asks the cluster (SLURM, MPI, Kubernetes,
            cloud TPUs, as `jax.distributed.initialize` knows them).
        processes: their number; None asks the cluster.
        process: which of them this is, from 0; None asks the cluster.

    Raises:
        InputError: if they do not find each other.
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
        InputError: if there are not so many.
    """
    if number is not None and number > len(devices):
        raise InputError(f"--devices {number}: there are {len(devices)}, see jaxstyle info")
    return devices[:number]


def mesh_of(shard: str | None, number: int | None) -> Mesh | None:
    """Returns the mesh that `--shard rows` and `--devices` ask for, None for a single device.

    Raises:
        InputError: if there are not so many devices.
    """
    if shard is None and number is None:
        return None
    devices = take_devices(jax.devices(), number)
    return make_mesh(batch=1, rows=len(devices), devices=devices)
