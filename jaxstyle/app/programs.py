"""Compiled programs on disk, so that a second start neither traces nor lowers nor compiles.

JAX's own cache is asked with a program that is traced and lowered, which takes longer than to
load what it finds. Here a file's name tells what a program is made of: the source of this
package, versions and settings, and shapes. JAX's cache keeps the many small ones.
"""

import contextlib
import hashlib
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.experimental.serialize_executable import deserialize_and_load, serialize

import jaxstyle
from jaxstyle.io import describe_versions
from jaxstyle.io.files import write_atomically
from jaxstyle.transfer import call_jitted

LOADED = "/jaxstyle/program_load_duration"
"""The event, for `jax.monitoring`, of a program that was loaded."""

_BYTES = 2**29  # the files that were unused for longest go first


class KeptPrograms:
    """Calls the compiled parts of runs, see `stylize_steps`, out of a folder if they lie there.

    What is static must tell all that it is in its `repr`, as everything in this package does.
    """

    def __init__(self, folder: Path) -> None:
        """Takes a folder that only the user can write, since what lies there is run."""
        self._folder = folder
        self._origin = _describe_origin()
        self._programs: dict[str, Any] = {}

    def __call__(self, function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
        """Returns `function(*static, *arrays)`."""
        problem, *_ = static
        if problem.mesh is not None or jax.process_count() > 1:
            return call_jitted(function, static, *arrays)
        name = self._name(function, static, arrays)
        if name not in self._programs:
            self._programs[name] = self._load(name) or self._compile(name, function, static, arrays)
        return self._programs[name](*arrays)

    def _name(self, function: Any, static: tuple[Any, ...], arrays: tuple[Any, ...]) -> str:
        leaves, tree = jax.tree.flatten(arrays)
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        kinds = [jax.typeof(leaf).str_short() + str(jax.typeof(leaf).weak_type) for leaf in leaves]
        content = (self._origin, function.__name__, static, precision, str(tree), kinds)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def _load(self, name: str) -> Any:
        path, begin = self._folder / name, time.perf_counter()
        try:
            packed, in_tree, out_tree = pickle.loads(path.read_bytes())  # noqa: S301  see __init__
            devices = jax.devices()[:1]
            program = deserialize_and_load(packed, in_tree, out_tree, execution_devices=devices)
            os.utime(path)  # it was used
        except Exception:  # there is none, or whatever is wrong with it: it is made again
            return None
        jax.monitoring.record_event_duration_secs(LOADED, time.perf_counter() - begin)
        return program

    def _compile(
        self, name: str, function: Any, static: tuple[Any, ...], arrays: tuple[Any, ...]
    ) -> Any:
        lowered = function.lower(*static, *arrays)
        # What comes out of JAX's cache cannot be written to another.
        with _without_cache:
            program = lowered.compile()
        # Whatever hinders it, JAX's errors for what cannot be serialised among them, costs no run.
        with contextlib.suppress(Exception):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_atomically(self._folder / name, pickle.dumps(serialize(program)))
            self._make_room()
        return program

    def _make_room(self) -> None:
        files = [(path.stat(), path) for path in self._folder.iterdir()]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda each: each[0].st_mtime):
            if total <= _BYTES:
                break
            path.unlink(missing_ok=True)
            total -= stat.st_size


class _WithoutCache:
    """JAX's cache is not asked, while any thread is in here, in no thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        self._count(1)

    def __exit__(self, *_: object) -> None:
        self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._inside += change
            jax.config.update("jax_enable_compilation_cache", self._inside == 0)
            compilation_cache.reset_cache()  # it looks at the setting once


_without_cache = _WithoutCache()


def _describe_source() -> tuple[str, Mapping[str, str]]:
    source = hashlib.sha256()
    for path in sorted(Path(jaxstyle.__file__).parent.glob("*.py")):
        source.update(path.read_bytes())
    return source.hexdigest(), describe_versions()


# When it is imported: by the time that a server compiles, there may be a newer one on disk.
_SOURCE = _describe_source()


def _describe_origin() -> str:
    """Tells what all programs depend on, besides what is in their own names."""
    device = jax.devices()[0]
    origin = (
        *_SOURCE,
        [os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
        sorted((name, str(value)) for name, value in jax.config.values.items()),
        (device.platform, device.device_kind, device.client.platform_version, len(jax.devices())),
    )
    return hashlib.sha256(repr(origin).encode()).hexdigest()
