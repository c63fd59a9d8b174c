"""Compiled programs on disk, so that a second start neither traces nor lowers nor compiles.

JAX's own cache needs a program that is traced and lowered, which takes longer than to load the
compiled one. Here the name of a file is a hash of all that a program depends on: the source of
this package, versions, settings and shapes. Loading a program runs its content, so files are
authenticated first, see `private_folder`.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import pickle
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

import jaxstyle
from jaxstyle.app.console import print_message
from jaxstyle.app.private_folder import PrivateFolder
from jaxstyle.compiled import advance_in_place, call_jitted
from jaxstyle.io import InputError, describe_versions
from jaxstyle.io.files import describe_error
from jaxstyle.io.network_weights.cache import cache_dir, users_cache

LOADED = "/jaxstyle/program_load_duration"
"""The event of `jax.monitoring` for a program that was loaded."""
AHEAD = "compiling ahead"
"""The name of the thread in which `compile_ahead` compiles."""
WAITED = "/jaxstyle/program_wait_duration"
"""The event for the time that a run has waited for a program that another thread compiles."""

_BYTES = 2**29  # beyond, the least recently used files are removed
_PROGRAMS = 48  # in memory, of a dozen sizes; beyond, the least recently used are dropped
# With these options XLA compiles in half the time, and steps take 5 % longer.
_QUICK: dict[str, Any] = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
_SMALL = 2**15  # pixels: steps of a smaller picture take less time than XLA saves


class KeptPrograms:
    """Calls the compiled parts of runs, see `stylize_steps`, and caches them in a folder.

    The `repr` of a static argument must be complete, as all of this package are.
    """

    def __init__(self, folder: Path) -> None:
        """Takes a folder that only the user can write.

        Raises:
            OSError: if another user could write it, or it cannot be made.
        """
        self._folder, self._path, self._is_told = PrivateFolder(folder), folder, False
        self._origin = _describe_origin()
        self._programs: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.announces = False
        """Whether to say that a program is compiled, at the next one."""

    def __call__(self, function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
        """Returns `function(*static, *arrays)`."""
        if jax.process_count() > 1:  # programs of several processes cannot be loaded one by one
            return call_jitted(function, static, *arrays)
        return self.program(function, static, arrays)(*arrays)

    def program(
        self,
        function: Callable[..., Any],
        static: tuple[Any, ...],
        arrays: tuple[Any, ...],
        announce: Callable[[], None] = lambda: None,
    ) -> Any:
        """Returns the program that computes `function(*static, *arrays)`.

        `announce` is called before it is compiled.
        """
        mesh = static[0].mesh
        devices = jax.devices()[:1] if mesh is None else list(mesh.devices.flat)
        name = self._name(function, static, arrays, devices)
        begin = time.perf_counter()
        with self._locks[name]:  # another thread may compile it now
            jax.monitoring.record_event_duration_secs(WAITED, time.perf_counter() - begin)
            program = self._programs.pop(name, None) or self._load(name, devices)
            if program is None:
                announce()
                program = self._compile(name, function, static, arrays)
            self._programs[name] = program  # the last one is the one that was used last
        for unused in [*self._programs][:-_PROGRAMS]:
            self._programs.pop(unused, None)
            self._locks.pop(unused, None)
        return program

    def prepare(
        self, function: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]
    ) -> None:
        """Compiles a program for a single device, unless it is there or is compiled just now.

        `arrays` may be tracers.
        """
        name = self._name(function, static, arrays, jax.devices()[:1])
        if name not in self._programs and not self._locks[name].locked():
            self.program(function, static, arrays)

    def _name(
        self,
        function: Any,
        static: tuple[Any, ...],
        arrays: tuple[Any, ...],
        devices: list[Any],
    ) -> str:
        leaves, tree = jax.tree.flatten(arrays)
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        kinds = [jax.typeof(leaf).str_short() + str(jax.typeof(leaf).weak_type) for leaf in leaves]
        if len(devices) > 1:
            kinds += [str(getattr(leaf, "sharding", None)) for leaf in leaves]
        place = [device.id for device in devices]
        content = (self._origin, function.__name__, static, precision, str(tree), kinds, place)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def _load(self, name: str, devices: list[jax.Device] | None = None) -> Any:
        begin = time.perf_counter()
        # Whatever is wrong with the file, the program is compiled again. `read` accepts only files
        # that this user wrote here.
        try:
            packed, in_tree, out_tree = pickle.loads(self._folder.read(name))  # noqa: S301
        except Exception:
            return None
        prepare_to_load()
        devices = devices or jax.devices()[:1]
        try:
            program = deserialize_and_load(packed, in_tree, out_tree, execution_devices=devices)
        except Exception:
            return None
        return_freed_memory()
        jax.monitoring.record_event_duration_secs(LOADED, time.perf_counter() - begin)
        return program

    def _compile(
        self, name: str, function: Any, static: tuple[Any, ...], arrays: tuple[Any, ...]
    ) -> Any:
        if self.announces:
            self.announces = False
            print_message("compiling for this recipe and size; later runs load the programs")
        lowered = function.lower(*static, *jax.tree.map(_shape_of, arrays))
        program = lowered.compile(_quick() if _is_quick(function, static, arrays) else None)
        try:
            self._folder.write(name, pickle.dumps(serialize(program)))
            self._folder.make_room(_BYTES)
        except Exception as error:  # compiled again next time
            if not self._is_told:
                self._is_told = True
                print_message(
                    f"compiled programs are not kept in {self._path}: {describe_error(error)}"
                )
        return_freed_memory()
        return program


@functools.cache  # once a process
def prepare_to_load() -> None:
    """Makes jaxlib look up LAPACK's functions on a CPU, before a program that calls them is loaded.

    jaxlib does so when it lowers such a program. One that is only loaded would call address 0, and
    the process would die.
    """
    if jax.default_backend() == "cpu":
        jax.jit(jax.lax.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), "float32"))


def return_freed_memory() -> None:
    """Gives memory that the process has freed back to the system.

    glibc keeps what XLA frees after a compilation, 0.7 GB after those of a run at 512 px, and the
    arrays of the run come on top. Other C libraries have no such function.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _shape_of(leaf: Any) -> Any:
    """Returns what a program must know of an array, which may be traced."""
    kind = jax.typeof(leaf)
    if not isinstance(leaf, jax.core.Tracer):
        return leaf
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type)


@functools.cache
def _quick() -> dict[str, Any]:
    """Returns those of the options that this version of XLA has."""
    nothing, known = jax.jit(lambda: 0).lower(), {}
    for name, value in _QUICK.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            nothing.compile({name: value})
            known[name] = value
    return known


def _is_quick(function: Any, static: tuple[Any, ...], arrays: tuple[Any, ...]) -> bool:
    """Whether to compile a program in less time: it runs once, or its picture is small.

    Programs of batches, and those that look at many windows, run for longer.
    """
    batched = any(each is True for each in static)
    if jax.default_backend() != "cpu" or batched or static[0].tile is not None:
        return False
    return function is not advance_in_place or arrays[0].best_x.size // 3 <= _SMALL


def _describe_source() -> tuple[str, Mapping[str, str]]:
    source = hashlib.sha256()
    package = Path(jaxstyle.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in ("io", "app"):  # of no effect on a program
            source.update(path.read_bytes())
    return source.hexdigest(), describe_versions()


# At import: by the time that a server compiles, a newer version may be on disk.
_SOURCE = _describe_source()


def _describe_origin() -> str:
    """Returns a hash of what all programs depend on."""
    device = jax.devices()[0]
    origin = (
        *_SOURCE,
        [os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
        sorted((name, str(value)) for name, value in jax.config.values.items()),
        (device.platform, device.device_kind, device.client.platform_version, len(jax.devices())),
    )
    return hashlib.sha256(repr(origin).encode()).hexdigest()


def keep_compiled_programs() -> Callable[..., Any]:
    """Caches compiled programs on disk, so that a second run at a size compiles nothing.

    Their folder must be writable by this user alone, since its content is run: `JAXSTYLE_CACHE`,
    or else the user's cache folder. Each kind of machine has its own, since a program for a CPU
    uses all its instructions. Nothing is cached on Windows, nor if the user has set JAX's own
    cache (`JAX_COMPILATION_CACHE_DIR`) or disabled it.

    Returns:
        A function that calls the compiled parts of a run, see `stylize_steps`.
    """
    config: Any = jax.config
    chosen = not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir
    if chosen or not hasattr(os, "geteuid"):
        return call_jitted
    caches, problems = [], []
    for find in (cache_dir, users_cache):
        try:
            caches.append(find().absolute())
        except InputError as error:
            problems.append(describe_error(error))
    if not caches:
        print_message(f"compiled programs are not kept: {problems[0]}")
    return _keep_in(*caches)


def announce_compilation(call: Callable[..., Any]) -> None:
    """Says so when the next program is compiled; `call` is from `keep_compiled_programs`."""
    if isinstance(call, KeptPrograms):
        call.announces = True


@functools.cache  # programs are loaded, and problems reported, once a process
def _keep_in(*caches: Path) -> Callable[..., Any]:
    machine = [platform.machine(), jax.__version__, jax.lib.__version__]
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        machine.append(next(line for line in lines if line.startswith(("flags", "Features"))))
    name = hashlib.sha256("\n".join(machine).encode()).hexdigest()[:16]
    problems = []
    for cache in dict.fromkeys(caches):
        folder = cache / "compiled" / name / "programs"
        try:
            if not cache.is_absolute():  # such as `~` without a home
                raise FileNotFoundError("it is no absolute path")
            kept = KeptPrograms(folder)
        except OSError as error:
            inside = error.filename not in (None, str(cache))
            where = f"{error.filename}: " if inside else ""
            problems.append(
                f"compiled programs are not kept in {cache}: {where}{describe_error(error)}"
            )
            continue
        if problems:
            print_message("; ".join([*problems, f"they are kept in {folder}"]))
        return kept
    if problems:
        advice = "set JAXSTYLE_CACHE to a folder that only you can write to"
        print_message("; ".join([*problems, advice]))
    return call_jitted
