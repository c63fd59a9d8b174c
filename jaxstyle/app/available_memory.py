"""The memory that a run can use: what is free, within the limits that are set."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import psutil


def available_memory() -> float:
    """Returns the bytes that a run can use: the accelerator's, or the free ones of the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    return min(float(psutil.virtual_memory().available), memory_limit())


def memory_limit(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> float:
    """Returns the smallest memory limit of this process in bytes; infinity without one.

    Limits are set by control groups (containers, systemd, SLURM, Kubernetes), by `ulimit`, and by
    variables of SLURM. psutil knows the memory of the host but none of these limits.

    Args:
        root: folder of `proc` and `sys`.
        environment: environment variables.
    """
    limits = [*_limits_of_groups(root), *_limits_of_process()]
    megabytes = 2**20
    with contextlib.suppress(KeyError, ValueError):
        limits.append(megabytes * float(environment["SLURM_MEM_PER_NODE"]))
    with contextlib.suppress(KeyError, ValueError):
        processors = float(environment["SLURM_CPUS_ON_NODE"])
        limits.append(megabytes * float(environment["SLURM_MEM_PER_CPU"]) * processors)
    # For SLURM, 0 means all memory of the node.
    return min((limit for limit in limits if limit > 0), default=math.inf)


def _limits_of_groups(root: Path) -> Iterator[float]:
    """Yields the limits of this process's control groups, versions 1 and 2, and their parents."""
    top = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    # The root too: there a container sees its own group, whatever the path says.
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
                with contextlib.suppress(OSError, ValueError):  # "max": no limit
                    yield float((mount.joinpath(*parts[:depth]) / name).read_text())


def _limits_of_process() -> Iterator[float]:
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415  not on Windows

        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            limit, _ = resource.getrlimit(kind)
            if limit != resource.RLIM_INFINITY:
                yield float(limit)
