"""Compiled programs on disk, so that a second start neither traces nor lowers nor compiles.

JAX's own cache is asked with a program that is traced and lowered, which takes longer than to
load what it finds. Here a file's name tells what a program is made of: the source of this
package, versions and settings, and shapes. Loading a program runs what is in it, so that files
are authenticated first, see `private`.
"""

import contextlib
import hashlib
import os
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

import jaxstyle
from jaxstyle.app.private import PrivateFolder
from jaxstyle.compiled import call_jitted
from jaxstyle.io import describe_versions

LOADED = "/jaxstyle/program_load_duration"
"""The event, for `jax.monitoring`, of a program that was loaded."""

_BYTES = 2**29  # the files that were unused for longest go first


class KeptPrograms:
    """Calls the compiled parts of runs, see `stylize_steps`, out of a folder if they lie there.

    What is static must tell all that it is in its `repr`, as everything in this package does.
    """

    def __init__(self, folder: Path) -> None:
        """Takes a folder that only the user can write.

        Raises:
            OSError: if another user could, or it cannot be made.
        """
        self._folder = PrivateFolder(folder)
        self._origin = _describe_origin()
        self._programs: dict[str, Any] = {}

    def __call__(self, function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
        """Returns `function(*static, *arrays)`."""
        if jax.process_count() > 1:  # a program is no use without those of the other processes
            return call_jitted(function, static, *arrays)
        mesh = static[0].mesh
        devices = jax.devices()[:1] if mesh is None else list(mesh.devices.flat)
        name = self._name(function, static, arrays, devices)
        if name not in self._programs:
            loaded = self._load(name, devices)
            self._programs[name] = loaded or self._compile(name, function, static, arrays)
        return self._programs[name](*arrays)

    def _name(
        self,
        function: Any,
        static: tuple[Any, ...],
        arrays: tuple[Any, ...],
        devices: list[jax.Device],
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
        # Only what this user has written here gets past `read`.
        try:
            packed, in_tree, out_tree = pickle.loads(self._folder.read(name))  # noqa: S301
            devices = devices or jax.devices()[:1]
            program = deserialize_and_load(packed, in_tree, out_tree, execution_devices=devices)
        except Exception:  # there is none, or whatever is wrong with it: it is compiled again
            return None
        jax.monitoring.record_event_duration_secs(LOADED, time.perf_counter() - begin)
        return program

    def _compile(
        self, name: str, function: Any, static: tuple[Any, ...], arrays: tuple[Any, ...]
    ) -> Any:
        program = function.lower(*static, *arrays).compile()
        # Whatever hinders it, JAX's errors for what cannot be serialised among them, costs no run.
        with contextlib.suppress(Exception):
            self._folder.write(name, pickle.dumps(serialize(program)))
            self._folder.make_room(_BYTES)
        return program


def _describe_source() -> tuple[str, Mapping[str, str]]:
    source = hashlib.sha256()
    package = Path(jaxstyle.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in ("app", "io"):
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
