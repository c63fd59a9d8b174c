"""The versions that a result depends on."""

import functools
import importlib.metadata
import platform

from jaxstyle import __version__


def describe_versions() -> dict[str, str]:
    """Returns the versions that a result depends on, by package."""
    return {**_versions()}


@functools.cache  # once: a batch of ten thousand pictures needs them for each
def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "pillow")
    versions = {name: importlib.metadata.version(name) for name in packages}
    # Its own also where it is not installed, but runs from its source.
    return {"python": platform.python_version(), "jaxstyle": __version__, **versions}
