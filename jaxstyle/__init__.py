"""Neural style transfer in JAX.

Everything in this package is pure: arrays in, arrays out. Images are `(H, W, 3)` sRGB in [0, 1],
one at a time; batch with `jax.vmap`. Files are the business of `jaxstyle.io`, which is loaded
when it is first touched.
"""

import importlib
from types import ModuleType

from jaxstyle import color, losses, recipes, terms
from jaxstyle.losses import content_loss, gram_matrix, style_loss, total_variation
from jaxstyle.objective import evaluate, prepare_targets
from jaxstyle.pyramid import Pyramid
from jaxstyle.recipes import Recipe
from jaxstyle.sharding import make_mesh
from jaxstyle.solvers import LBFGS, Adam, ScipyLBFGSB, Status, Trace, minimize
from jaxstyle.transfer import (
    Checkpoint,
    StyleResult,
    median_filter,
    stylize,
    stylize_batch,
    stylize_batch_steps,
    stylize_steps,
)
from jaxstyle.vgg import LAYERS, VGG19

__version__ = "0.1.0"

__all__ = [
    "LAYERS",
    "LBFGS",
    "VGG19",
    "Adam",
    "Checkpoint",
    "Pyramid",
    "Recipe",
    "ScipyLBFGSB",
    "Status",
    "StyleResult",
    "Trace",
    "color",
    "content_loss",
    "evaluate",
    "gram_matrix",
    "io",
    "losses",
    "make_mesh",
    "median_filter",
    "minimize",
    "prepare_targets",
    "recipes",
    "style_loss",
    "stylize",
    "stylize_batch",
    "stylize_batch_steps",
    "stylize_steps",
    "terms",
    "total_variation",
]


def __getattr__(name: str) -> ModuleType:
    """Loads `jaxstyle.io` on first use: it needs Pillow and more."""
    if name == "io":
        return importlib.import_module("jaxstyle.io")
    raise AttributeError(f"module 'jaxstyle' has no attribute {name!r}")
