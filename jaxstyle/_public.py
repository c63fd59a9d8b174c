"""The public names of `jaxstyle`, which loads this module on the first use of one of them."""

from jaxstyle import color, losses, recipes, terms
from jaxstyle.checkpoint import Checkpoint
from jaxstyle.compiled import StyleResult
from jaxstyle.evaluation import evaluate
from jaxstyle.image import median_filter
from jaxstyle.losses import content_loss, gram_matrix, style_loss, total_variation
from jaxstyle.network.protocol import Network
from jaxstyle.network.vgg import LAYERS, VGG, VGG16, VGG19
from jaxstyle.options import StylizeOptions
from jaxstyle.problem import objective
from jaxstyle.pyramid import Pyramid
from jaxstyle.recipe import Recipe
from jaxstyle.sampling import redraw_targets
from jaxstyle.sharding import make_mesh
from jaxstyle.solvers import LBFGS, Adam, Optax, RMSprop, ScipyLBFGSB, Status, Trace, minimize
from jaxstyle.targets import prepare_targets
from jaxstyle.transfer import (
    stylize,
    stylize_batch,
    stylize_batch_steps,
    stylize_steps,
)

# Last: `jaxstyle.__getattr__` takes a module without `__all__` for one that is still being loaded.
__all__ = [
    "LAYERS",
    "LBFGS",
    "VGG",
    "VGG16",
    "VGG19",
    "Adam",
    "Checkpoint",
    "Network",
    "Optax",
    "Pyramid",
    "RMSprop",
    "Recipe",
    "ScipyLBFGSB",
    "Status",
    "StyleResult",
    "StylizeOptions",
    "Trace",
    "color",
    "content_loss",
    "evaluate",
    "gram_matrix",
    "losses",
    "make_mesh",
    "median_filter",
    "minimize",
    "objective",
    "prepare_targets",
    "recipes",
    "redraw_targets",
    "style_loss",
    "stylize",
    "stylize_batch",
    "stylize_batch_steps",
    "stylize_steps",
    "terms",
    "total_variation",
]
