"""Neural style transfer in JAX.

All functions are pure: arrays in, arrays out. Images are `(H, W, 3)` sRGB in [0, 1], one at a
time; batch with `jax.vmap`. `jaxstyle.io` reads and writes files.

Public names are loaded on first use. So the command line can handle Ctrl-C before JAX is loaded,
and only programs that use `jaxstyle.io` load Pillow and other libraries for files.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxstyle._public import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads a public name on its first use."""
    # A module is loaded without the public names, which may need the module being imported now.
    if importlib.util.find_spec(f"jaxstyle.{name}"):
        return importlib.import_module(f"jaxstyle.{name}")
    public = importlib.import_module("jaxstyle._public")
    names = getattr(public, "__all__", [])
    if name == "__all__":
        return [*names, "io"]
    if name not in names:
        raise AttributeError(f"module 'jaxstyle' has no attribute {name!r}")
    globals()[name] = getattr(public, name)  # next time without this function
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
