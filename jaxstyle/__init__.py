"""Neural style transfer in JAX.

Everything in this package is pure: arrays in, arrays out. Images are `(H, W, 3)` sRGB in [0, 1],
one at a time; batch with `jax.vmap`. Files are the business of `jaxstyle.io`.

What is named here is loaded when it is first used: the program decides what Ctrl-C does before JAX
is loaded, and `jaxstyle.io` needs Pillow and more.
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
