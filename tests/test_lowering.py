"""Every public function is lowered for TPUs and GPUs, which takes none, and nothing is compiled."""

import dataclasses
import functools
import inspect
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHALLOW

import jaxstyle
from jaxstyle import color, losses, terms

LAYERS = ("relu1_1", "relu1_2")
TWO = {"layers": LAYERS, "layer_weights": (0.5, 0.5)}
DRAWN = {"samples": 16, "style_samples": 16}
TERMS = (
    terms.Content(layers=LAYERS[:1], normalize_gradients=True),
    terms.GramStyle(**TWO),
    terms.MomentStyle(**TWO, name="moments"),
    terms.Wasserstein2Style(**TWO, name="wasserstein"),
    terms.MRFStyle(**TWO, name="mrf"),
    terms.LocalAffine(),
    terms.TotalVariation(power=1.25),
    terms.NinePointVariation(name="nine_point"),
    terms.SelfSimilarity(LAYERS, samples=16, name="similarity"),
    terms.RelaxedEMD(LAYERS, **DRAWN, name="emd"),
    terms.SampleMoments(LAYERS, **DRAWN, name="sample_moments"),
    terms.Palette(**DRAWN),
    terms.SlicedStyle(**TWO, **DRAWN, name="sliced"),
    terms.NearestStyle((LAYERS,), **DRAWN, name="nearest"),
    terms.MatchedStyle(LAYERS, grid="relu1_1", style_samples=16, name="matched"),
)
IN_WINDOWS = (terms.Content(LAYERS[:1]), *TERMS[1:2], *TERMS[-2:])
VGG = jaxstyle.VGG19()
KEY = functools.partial(jax.random.key, 0)
SHAPES = (16, 12, 4), (20, 4), (4, 4), (), (40, 48, 3)
MAPS, ROWS, SQUARE, ONE, IMAGE = (np.ones(shape, np.float32) for shape in SHAPES)
OBJECTIVE = dataclasses.replace(SHALLOW, pyramid=None)

# What JAX and XLA bring for the devices themselves: random numbers and small matrices, on GPUs
# (`cu...`) and on TPUs.
ON_DEVICES = {
    *("Sharding", "cu_threefry2x32_ffi", "cusolver_getrf_ffi", "cu_lu_pivots_to_permutation"),
    *("cusolver_syevd_ffi", "LuDecomposition", "Eigh"),
}


def targets_of(params, image, own=TERMS):
    return jaxstyle.prepare_targets(VGG, params, own, image, image, key=KEY(), start=image)


def evaluate(params, image, own=TERMS, tile=None):
    targets = jaxstyle.redraw_targets(own, targets_of(params, image, own), 1)
    weights = {term.name: 1.0 for term in own}
    return jax.value_and_grad(
        lambda image: jaxstyle.evaluate(VGG, params, own, targets, weights, image, tile=tile)[0]
    )(image)


def minimize(params, image):
    targets = jaxstyle.prepare_targets(VGG, params, OBJECTIVE.terms, image, image)
    fun = jaxstyle.objective(OBJECTIVE, params, targets)
    return jaxstyle.minimize(fun, image, has_aux=True)


def stylize(**changes):
    recipe = dataclasses.replace(SHALLOW, **changes)
    return lambda params, image: jaxstyle.stylize(params, image, image, recipe=recipe, key=KEY())


WITH_NETWORK = {
    "evaluate": evaluate,
    "evaluate in windows": lambda params, image: evaluate(params, image, IN_WINDOWS, tile=16),
    "network": lambda params, image: VGG.apply(params, image, ("relu5_1",)),
    "minimize": minimize,
    "stylize": stylize(),
    "stylize, finished": stylize(strength=0.5, median_filter=3, color="recolor"),
    "stylize, matched": stylize(color="match", init="noise"),
    "stylize, luminance": stylize(color="luminance", solver=jaxstyle.RMSprop()),
    "stylize, Adam": stylize(init="detail", solver=jaxstyle.Adam(average=0.9, clip=True)),
    "stylize_batch": lambda params, image: jaxstyle.stylize_batch(
        params, jnp.stack([image] * 2), jnp.stack([image] * 2), recipe=SHALLOW
    ),
}
PLAIN = {
    jaxstyle.median_filter: (IMAGE,),
    color.luminance_only: (IMAGE, IMAGE),
    color.match_color: (IMAGE, IMAGE),
    color.recolor: (IMAGE, IMAGE, IMAGE),
    losses.absolute_error_sum: (MAPS, MAPS),
    losses.content_loss: (MAPS, MAPS),
    losses.cosine_distances: (ROWS, ROWS),
    losses.covariance_distance: (SQUARE, SQUARE, SQUARE),
    losses.gram_matrix: (MAPS,),
    losses.gram_sum: (MAPS,),
    losses.local_affine_sum: (IMAGE, IMAGE),
    losses.moment_loss: (ROWS, ROWS[0], SQUARE),
    losses.moment_sums: (MAPS,),
    losses.nearest_loss: (ROWS, ROWS),
    losses.nearest_patches: (MAPS, np.ones((20, 36), np.float32), ROWS[:, 0] > 0),
    losses.nearest_rows: (ROWS, ROWS),
    losses.nine_point_variation_sums: (IMAGE,),
    losses.normalize_gradient: (MAPS, ONE),
    losses.palette_emd: (ROWS[:, :3], ROWS[:, :3]),
    losses.patches: (MAPS,),
    losses.relaxed_emd: (ROWS, ROWS),
    losses.row_moments: (ROWS,),
    losses.scaled_ratio: (ONE, ONE),
    losses.scaled_squared_error: (MAPS, MAPS),
    losses.self_similarity_loss: (ROWS, ROWS),
    losses.sliced_wasserstein: (ROWS, ROWS),
    losses.square_root: (SQUARE,),
    losses.squared_error_sum: (MAPS, MAPS),
    losses.style_loss: (SQUARE, SQUARE),
    losses.total_variation: (IMAGE,),
    losses.total_variation_sum: (IMAGE,),
}


def assert_runs_without_a_host(function, *arguments):
    """Lowers `function` for TPUs and GPUs, and looks for what only a CPU or a host has."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    exported = jax.export.export(jax.jit(function), platforms=("tpu", "cuda"))(*shapes)
    module = exported.mlir_module()
    assert set(re.findall(r"custom_call @([\w.]+)", module)) <= ON_DEVICES
    assert not re.search(r"stablehlo\.(send|recv|infeed|outfeed)|device_placement", module)
    assert "f64" not in module, "TPUs emulate it"


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_what_computes_features_is_lowered(random_params, name):
    assert_runs_without_a_host(WITH_NETWORK[name], random_params, IMAGE)


def test_losses_and_colors_are_lowered():
    def all_of_them(arguments):
        return [function(*own) for function, own in zip(PLAIN, arguments, strict=True)]

    assert_runs_without_a_host(all_of_them, list(PLAIN.values()))


def test_every_public_function_and_term_is_lowered():
    # `stylize_steps` and its batch run on the host, what is compiled is `stylize`.
    covered = {*WITH_NETWORK, *(function.__name__ for function in PLAIN)}
    covered |= {"objective", "prepare_targets", "redraw_targets", "make_mesh"}
    covered |= {"stylize_steps", "stylize_batch_steps", "trace_of_square_root"}
    public = {name: getattr(jaxstyle, name) for name in jaxstyle.__all__}
    public |= {name: getattr(losses, name) for name in losses.__all__}
    public |= {
        name: each
        for name, each in vars(color).items()
        if name[0] != "_" and getattr(each, "__module__", "") == color.__name__
    }
    functions = {n for n, each in public.items() if callable(each) and not inspect.isclass(each)}
    assert functions <= covered, functions - covered
    classes = [each for each in vars(terms).values() if inspect.isclass(each)]
    kinds = {each for each in classes if issubclass(each, terms.Term)}
    kinds -= {terms.Term, terms.SampledTerm}
    assert kinds <= {type(term) for term in TERMS}


def call_back(x):
    return jax.pure_callback(lambda x: x, x, x)


@pytest.mark.parametrize("function", [call_back, jnp.linalg.eigvals])
def test_what_only_a_host_has_is_found(function):
    with pytest.raises((AssertionError, NotImplementedError)) as found:
        assert_runs_without_a_host(function, SQUARE)
    print(found.value)
