"""Calls every public function of the core and prints what else it touched; for test_api.py.

Under an audit hook, and with clocks that look who reads them.
"""

import dataclasses
import functools
import json
import os
import random
import signal
import sys
import time
import warnings

touched: list[str] = []
READERS = ("time", "monotonic", "perf_counter", "process_time", "sleep")


def watch_clock(name: str) -> None:
    read = getattr(time, name)

    @functools.wraps(read)
    def watched(*args):
        if (caller := str(sys._getframe(1).f_globals.get("__name__"))).startswith("jaxstyle"):
            touched.append(f"time.{name} in {caller}")
        return read(*args)

    setattr(time, name, watched)


for reader in READERS:
    watch_clock(reader)
    if hasattr(time, f"{reader}_ns"):
        watch_clock(f"{reader}_ns")

import flax.linen  # noqa: E402, F401  (what these libraries do is not ours)
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402


def world() -> dict:
    """All that is global and that the core must leave alone."""
    return {
        "jax.config": {name: repr(value) for name, value in jax.config.values.items()},
        "os.environ": dict(os.environ),
        "random": repr(random.getstate()),
        "np.random": repr(np.random.get_state()),
        "np.geterr": np.geterr(),
        "warnings": [repr(each) for each in warnings.filters],
        "print options": repr(np.get_printoptions()),
        "signals": [repr(signal.getsignal(number)) for number in signal.valid_signals()],
    }


before_import = world()

import jaxstyle  # noqa: E402
from jaxstyle import color, losses, terms  # noqa: E402
from jaxstyle.network.vgg import CONV_SHAPES  # noqa: E402

after_import = world()


def calls(size: int) -> dict:
    """Name of a public function -> a call of it."""
    rng = np.random.default_rng(0)
    params = {
        "params": {
            name: {
                "kernel": jnp.asarray(rng.normal(0, 0.05, kernel), jnp.float32),
                "bias": jnp.zeros(bias),
            }
            for name, (kernel, bias) in CONV_SHAPES.items()
        }
    }
    network = jaxstyle.VGG19(pooling="average")
    content, style = jnp.asarray(rng.uniform(size=(2, size, size, 3)), jnp.float32)
    both = jnp.stack([content, style])
    recipe = jaxstyle.Recipe(
        name="shallow",
        source="",
        description="",
        network=network,
        terms=(
            terms.Content(layers=("relu1_2",)),
            terms.GramStyle(layers=("relu1_1", "relu2_1"), layer_weights=(1.0, 1.0)),
            terms.TotalVariation(),
        ),
        weights={"content": 1.0, "style": 1.0, "total_variation": 1.0},
        solver=jaxstyle.LBFGS(num_steps=2, smoothness=0.25),
        pyramid=jaxstyle.Pyramid(coarsest=size // 2, steps=(2,)),
        median_filter=3,
        color="luminance",
        strength=0.5,
    )
    targets = jaxstyle.prepare_targets(network, params, recipe.terms, content, style)
    features, target = both
    weight = jnp.ones((size, size))
    root = jnp.eye(3)
    few = losses.patches(features).reshape(-1, 27)[:4]
    half = {"relu1_1": jnp.ones(1)}
    statistics = terms.GramStyle(layers=("relu1_1",), layer_weights=(1.0,)).statistics(
        {"relu1_1": features}, None, None
    )
    stylize = functools.partial(jaxstyle.stylize, params, content, style)
    small = dataclasses.replace(recipe, pyramid=None)

    def minimize() -> None:
        fun = lambda x, y: jnp.sum((x - y) ** 2)  # noqa: E731
        for solver in (
            jaxstyle.LBFGS(num_steps=3),
            jaxstyle.Adam(num_steps=3),
            jaxstyle.Optax(optax.adam(0.1), num_steps=3),
            jaxstyle.ScipyLBFGSB(num_steps=1, maxfun=3),
        ):
            jaxstyle.minimize(fun, content, style, solver=solver)

    return {
        "stylize": lambda: stylize(recipe=recipe, init="noise", key=jax.random.key(0)),
        "stylize_batch": lambda: jaxstyle.stylize_batch(params, both, both, recipe=small),
        "stylize_steps": lambda: list(
            jaxstyle.stylize_steps(params, content, style, recipe=small, every=1, keep=id)
        ),
        "stylize_batch_steps": lambda: list(
            jaxstyle.stylize_batch_steps(params, both, both, recipe=small, every=1)
        ),
        "evaluate": lambda: jaxstyle.evaluate(
            network, params, recipe.terms, targets, recipe.weights, content, tile=16
        ),
        "prepare_targets": lambda: jaxstyle.prepare_targets(
            network, params, recipe.terms, content, (style, content), masks=jnp.stack([weight] * 2)
        ),
        "redraw_targets": lambda: jaxstyle.redraw_targets(recipe.terms, targets, 1),
        "objective": lambda: jaxstyle.objective(recipe, params, targets)(content),
        "minimize": minimize,
        "make_mesh": jaxstyle.make_mesh,
        "median_filter": lambda: jaxstyle.median_filter(content),
        "VGG.__call__": lambda: network.apply(params, content, ("relu1_1",)),
        "VGG.apply": lambda: network.apply(params, content),
        "VGG.check_params": lambda: network.check_params(params, ("relu1_1",)),
        "VGG.mean_color": network.mean_color,
        "VGG.minimum_size": lambda: network.minimum_size(("relu1_1",)),
        "VGG.prepare": lambda: network.prepare(params),
        "VGG.reach": lambda: network.reach("relu1_1"),
        "VGG.stride": lambda: network.stride("relu1_1"),
        "VGG.without_wrapping": network.without_wrapping,
        "Pyramid.factors": lambda: jaxstyle.Pyramid(weight_factors={"style": (2, 1)}).factors(0, 2),
        "Pyramid.scales": lambda: jaxstyle.Pyramid().scales(size * 10, size),
        "color.luminance_only": lambda: color.luminance_only(content, style),
        "color.recolor": lambda: color.recolor(content, content, style),
        "color.match_color": lambda: color.match_color(style, content),
        "terms.mix": lambda: terms.mix([statistics], half),
        "losses.gram_sum": lambda: losses.gram_sum(features, weight=weight),
        "losses.gram_matrix": lambda: losses.gram_matrix(features),
        "losses.squared_error_sum": lambda: losses.squared_error_sum(features, target),
        "losses.absolute_error_sum": lambda: losses.absolute_error_sum(features, target),
        "losses.content_loss": lambda: losses.content_loss(features, target),
        "losses.style_loss": lambda: losses.style_loss(root, 2 * root),
        "losses.total_variation": lambda: losses.total_variation(content),
        "losses.total_variation_sum": lambda: losses.total_variation_sum(content, power=0.5),
        "losses.local_affine_sum": lambda: losses.local_affine_sum(content, content),
        "losses.nine_point_variation_sums": lambda: losses.nine_point_variation_sums(content),
        "losses.moment_sums": lambda: losses.moment_sums(features),
        "losses.square_root": lambda: losses.square_root(root),
        "losses.trace_of_square_root": lambda: losses.trace_of_square_root(root, 12),
        "losses.covariance_distance": lambda: losses.covariance_distance(root, root, root),
        "losses.scaled_squared_error": lambda: losses.scaled_squared_error(features, target),
        "losses.scaled_ratio": lambda: losses.scaled_ratio(root[0, 0], root[0, 0]),
        "losses.patches": lambda: losses.patches(features),
        "losses.nearest_patches": lambda: losses.nearest_patches(features, few, jnp.ones(4, bool)),
        "losses.nearest_rows": lambda: losses.nearest_rows(root, root),
        "losses.nearest_loss": lambda: losses.nearest_loss(root, root, center=True),
        "losses.cosine_distances": lambda: losses.cosine_distances(root, root),
        "losses.self_similarity_loss": lambda: losses.self_similarity_loss(few, few),
        "losses.relaxed_emd": lambda: losses.relaxed_emd(few, few),
        "losses.palette_emd": lambda: losses.palette_emd(root, root),
        "losses.row_moments": lambda: losses.row_moments(root),
        "losses.moment_loss": lambda: losses.moment_loss(root, root[0], root),
        "losses.sliced_wasserstein": lambda: losses.sliced_wasserstein(few, few, directions=few.T),
        "losses.normalize_gradient": lambda: losses.normalize_gradient(features, root[0, 0]),
    }


def main() -> None:
    todo, names, running = calls(32), [], ""
    todo["minimize"]()  # loads jaxopt and SciPy
    before = world()

    def hook(event: str, arguments: tuple) -> None:
        world_of = event.partition(".")[0]
        if running and (event == "open" or world_of in ("os", "socket", "subprocess", "shutil")):
            touched.append(f"{event} {arguments!r} in {running}")

    sys.addaudithook(hook)
    for name, call in todo.items():
        running = name
        call()
        running = ""
        names.append(name)
    after = world()
    changed = {
        "by import": [key for key in before_import if before_import[key] != after_import[key]],
        "by calls": [key for key in before if before[key] != after[key]],
    }
    print(json.dumps({"called": names, "touched": touched, "changed": changed}))


if __name__ == "__main__":
    main()
