"""Neural style transfer in JAX.

All functions are pure: arrays in, arrays out. Images are `(H, W, 3)` sRGB in [0, 1], one at a
time; batch with `jax.vmap`. `jaxstyle.io` reads and writes files.

Public names are loaded on first use. So the command line can handle Ctrl-C before JAX is loaded,
and only programs that use `jaxstyle.io` load Pillow and other libraries for files.
"""

from typing import TYPE_CHECKING, Any

from jaxstyle._lazy import load

if TYPE_CHECKING:
    from jaxstyle._public import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads a public name on its first use."""
    found = load("jaxstyle", name)
    return [*found, "io"] if name == "__all__" else found


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
