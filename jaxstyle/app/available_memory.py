"""The memory that a run may use: what is free, and what limits it."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import psutil


def available_memory() -> float:
    """Returns the bytes that a run may take: those of the accelerator, or what the system has."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    return min(float(psutil.virtual_memory().available), memory_limit())


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
