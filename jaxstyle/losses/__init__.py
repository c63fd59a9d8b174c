"""Losses of style transfer: pure functions from arrays to a scalar, and the sums behind them.

Features are `(h, w, c)` floating point of any scale, one image at a time; images are sRGB in
[0, 1]. `weight`, where a function takes one, is a non-negative weight per position, `(h, w)`; the
functions that take one are *sums* over positions, so that sums over parts of an image add up to
the sum over the whole.

Half-precision arguments become float32 before anything is subtracted, weighted or summed, and the
results are float32 or better; a weight never decides their dtype. Products of matrices take
float32 operands as they are, whatever `jax.default_matmul_precision` says: with operands rounded
to bfloat16, a TPU's default, square roots of covariances diverge, and close to the style the
gradient of a Gram matrix is off by 1 %, that of `covariance_distance` by 3 %.

With F the `(h * w, c)` features of the image, P of the content, N = c and M = h * w, equation
numbers are those of Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural
Networks", CVPR 2016.
"""

from jaxstyle.losses.content import (
    absolute_error_sum,
    content_loss,
    scaled_ratio,
    scaled_squared_error,
    squared_error_sum,
)
from jaxstyle.losses.gradients import normalize_gradient
from jaxstyle.losses.gram import gram_matrix, gram_sum, style_loss
from jaxstyle.losses.moments import (
    covariance_distance,
    moment_sums,
    square_root,
    trace_of_square_root,
)
from jaxstyle.losses.patch_search import nearest_patches, patches
from jaxstyle.losses.variation import (
    nine_point_variation_sums,
    total_variation,
    total_variation_sum,
)

__all__ = [
    "absolute_error_sum",
    "content_loss",
    "covariance_distance",
    "gram_matrix",
    "gram_sum",
    "moment_sums",
    "nearest_patches",
    "nine_point_variation_sums",
    "normalize_gradient",
    "patches",
    "scaled_ratio",
    "scaled_squared_error",
    "square_root",
    "squared_error_sum",
    "style_loss",
    "total_variation",
    "total_variation_sum",
    "trace_of_square_root",
]
