"""The memory that a run can use: what is free, within the limits that are set."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import psutil

# Files of a control group with a limit: of version 2, and of version 1 (with swap, too).
_LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
# Where control groups are, if the kernel does not say: version, its root, and the folder.
_MOUNTS = (
    (2, "/", "sys/fs/cgroup"),
    (2, "/", "sys/fs/cgroup/unified"),
    (1, "/", "sys/fs/cgroup/memory"),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def available_memory() -> float:
    """Returns the bytes that a run can use: the accelerator's, or the free ones of the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    return min(float(psutil.virtual_memory().available), memory_limit())


def memory_limit(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> float:
    """Returns the smallest memory limit of this process in bytes; infinity without one.

    Limits are set by control groups (containers, systemd, SLURM, Kubernetes), by `ulimit`, and by
    variables of SLURM. psutil knows the memory of the host but none of these limits. Where the
    kernel says what other processes of a group use, that is subtracted.

    Args:
        root: folder of `proc` and `sys`.
        environment: environment variables.
    """
    limits = [*_limits_of_groups(root), *_limits_of_process(), *_limits_of_slurm(environment)]
    return min(limits, default=math.inf)


def _limits_of_groups(root: Path) -> Iterator[float]:
    """Yields what the limits of this process's control groups and their parents leave to it."""
    own = psutil.Process().memory_info().rss
    for folder in _groups(root):
        lines = _read(folder / "memory.stat").splitlines()
        stat = {name: value for name, _, value in (line.partition(" ") for line in lines)}
        # Pages of programs, without cached files; the version 1 has another name.
        used = _number(stat.get("anon") or stat.get("total_rss", "0"))
        texts = [_read(folder / name) for name in _LIMITS]
        # In version 1, also the limits of parents that a container does not see.
        for text in (*texts, stat.get("hierarchical_memory_limit", "")):
            limit = _number(text)  # "max": no limit
            if limit > 0:
                yield max(limit - max(used - own, 0.0), 0.0)


def _groups(root: Path) -> Iterator[Path]:
    """Yields the folders of this process's control groups and their parents, as far as visible."""
    paths = {1: "/", 2: "/"}
    for line in _read(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers or "memory" in controllers.split(","):
            paths[1 if controllers else 2] = path
    for version, top, folder in tuple(_mounts(root)) or _MOUNTS:
        # A mount may begin inside of the tree; then its first folder is the group `top`. In a
        # container that first folder is its own group, whatever the path says.
        path, inside = paths[version], top.rstrip("/") + "/"
        rest = path.removeprefix(inside) if path.startswith(inside) else ""
        parts = [part for part in rest.split("/") if part not in ("", ".", "..")]
        for depth in range(len(parts) + 1):
            yield root.joinpath(folder, *parts[:depth])


def _mounts(root: Path) -> Iterator[tuple[int, str, str]]:
    """Yields the mounts of control groups that limit memory: version, root, and folder."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        places, kinds = fields.split(" ")[3:5], rest.split(" ")
        if len(places) < 2 or kinds[0] not in ("cgroup", "cgroup2"):
            continue
        if kinds[0] == "cgroup2" or "memory" in kinds[-1].split(","):
            yield 2 if kinds[0] == "cgroup2" else 1, places[0], places[1].lstrip("/")


def _limits_of_slurm(environment: Mapping[str, str]) -> Iterator[float]:
    for memory, number in (
        ("SLURM_MEM_PER_NODE", ""),
        ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
        ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
    ):
        text = environment.get(memory, "").strip().upper()
        unit = _UNITS.get(text[-1:], _UNITS["M"])
        parts = _number(environment.get(number, "")) if number else 1.0
        if limit := unit * parts * _number(text.rstrip("KMGT")):  # 0: all memory of the node
            yield limit


def _limits_of_process() -> Iterator[float]:
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415  not on Windows

        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            limit, _ = resource.getrlimit(kind)
            if limit != resource.RLIM_INFINITY:
                yield float(limit)


def _number(text: str) -> float:
    """Returns a whole number, and 0 for any other text."""
    return float(text) if text.strip().isdecimal() else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
