"""Losses of style transfer: pure functions from arrays to a scalar, and the sums behind them.

Features are `(h, w, c)` floating point of any scale, one image at a time; images are sRGB in
[0, 1]. Functions with the argument `weight`, a non-negative weight per position `(h, w)`, are
*sums* over positions: sums over the parts of an image add up to the sum over the whole. Rows,
`(N, c)`, are the features of N positions.

Half-precision arguments are converted to float32 before anything is subtracted, weighted or summed.
Results are float32 or better; a weight never changes their dtype. Matrix products use full
precision whatever `jax.default_matmul_precision` says. With operands rounded to bfloat16, a TPU's
default, square roots of covariances diverge, and close to the style the gradient of a Gram matrix
is off by 1 % and that of `covariance_distance` by 3 %.

F are the `(h * w, c)` features of the image, P those of the content, N = c and M = h * w. Equation
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
from jaxstyle.losses.local_affine import local_affine_sum
from jaxstyle.losses.moments import (
    covariance_distance,
    moment_loss,
    moment_sums,
    row_moments,
    square_root,
    trace_of_square_root,
)
from jaxstyle.losses.nearest import cosine_distances, nearest_loss, nearest_rows
from jaxstyle.losses.patch_search import nearest_patches, patches
from jaxstyle.losses.similarity import palette_emd, relaxed_emd, self_similarity_loss
from jaxstyle.losses.sliced import sliced_wasserstein
from jaxstyle.losses.variation import (
    nine_point_variation_sums,
    total_variation,
    total_variation_sum,
)

__all__ = [
    "absolute_error_sum",
    "content_loss",
    "cosine_distances",
    "covariance_distance",
    "gram_matrix",
    "gram_sum",
    "local_affine_sum",
    "moment_loss",
    "moment_sums",
    "nearest_loss",
    "nearest_patches",
    "nearest_rows",
    "nine_point_variation_sums",
    "normalize_gradient",
    "palette_emd",
    "patches",
    "relaxed_emd",
    "row_moments",
    "scaled_ratio",
    "scaled_squared_error",
    "self_similarity_loss",
    "sliced_wasserstein",
    "square_root",
    "squared_error_sum",
    "style_loss",
    "total_variation",
    "total_variation_sum",
    "trace_of_square_root",
]
