"""A program for several devices, or processes; tests/test_sharding.py runs it and reads its JSON.

The number of a CPU's devices is fixed when JAX starts, so this cannot be in the tests' process.

    python many_devices.py small quick|others|network quick|recipe NAME|process I N PORT
"""

import contextlib
import dataclasses
import json
import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from networks import make_encoder, make_recipe

import jaxstyle
from jaxstyle import compiled, terms
from jaxstyle.network.vgg import CONV_SHAPES

# Shallow, since what takes time is compilation; all that a large recipe has is there.
SMALL = jaxstyle.Recipe(
    "small",
    "",
    "",
    terms=(
        terms.Content(("relu1_2",), reduction="mean"),
        terms.GramStyle(("relu1_1", "pool1"), (0.5, 0.5)),
        terms.TotalVariation(),
    ),
    weights={"content": 1.0, "style": 5.0, "total_variation": 0.1},
    network=jaxstyle.VGG19(pooling="average", padding="replicate"),
    # Some pixels are held at a bound.
    solver=jaxstyle.LBFGS(num_steps=3, history_size=2, smoothness=0.25, bounds=(0.4, 0.6)),
    pyramid=jaxstyle.Pyramid(coarsest=16, steps=(2,)),
)
PLAIN = dataclasses.replace(
    SMALL, pyramid=None, solver=dataclasses.replace(SMALL.solver, smoothness=0.0)
)
# The norm is of all pixels, and the schedule's count belongs to no pixel.
CHAIN = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.scale_by_adam(),
    optax.scale_by_schedule(optax.linear_schedule(-0.03, 0.0, 4)),
)


def random_params(dtype, shapes=CONV_SHAPES):
    rng = np.random.default_rng(0)
    params = {}
    for name, (kernel_shape, bias_shape) in shapes.items():
        scale = np.sqrt(2 / np.prod(kernel_shape[:3])) * (1 / 60 if name == "conv1_1" else 1)
        kernel = scale * rng.standard_normal(kernel_shape, np.float32)
        params[name] = {"kernel": jnp.asarray(kernel, dtype), "bias": jnp.zeros(bias_shape, dtype)}
    return {"params": params}


def picture(seed, height, width):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(2 * np.pi * (rng.uniform(1, 4) * y / height + rng.uniform(1, 4) * x / width))
        for _ in range(3)
    ]
    return np.clip(0.5 + 0.3 * np.stack(waves, -1) + rng.normal(0, 0.03, (height, width, 3)), 0, 1)


def pictures(seeds, height, width):
    return np.stack([picture(seed, height, width) for seed in seeds])


def difference(found, expected):
    """The largest one of all fields, relative to the largest number in each."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())
        if np.abs(np.asarray(b)).max() > 0
        else float(np.abs(np.asarray(a)).max())
        for a, b in pairs
    )


def step_program(recipe, params, content, style, mesh):
    """The text of what a device runs in a step, and the state that the step takes."""
    found = []
    original = compiled.advance_in_place

    def look(*arguments):
        text, state = original.lower(*arguments).compile().as_text(), arguments[3]
        found.append((text, jax.tree.map(lambda leaf: (leaf.shape, leaf.sharding), state)))
        return original(*arguments)

    compiled.advance_in_place = look
    try:
        jaxstyle.stylize(params, content, style, recipe=recipe, mesh=mesh)
    finally:
        compiled.advance_in_place = original
    return found[-1]


def largest_array(recipe, text):
    """Elements of the largest array of a step.

    Kernels, and parts of them, are whole on each; its part of the solver's history is left out.
    """
    shapes = {
        tuple(map(int, shape.split(","))) for shape in re.findall(r"[fc]\d+\[([\d,]+)\]", text)
    }
    channels = {frozenset(kernel[2:]) for kernel, _ in CONV_SHAPES.values()}
    history = recipe.solver.history_size if isinstance(recipe.solver, jaxstyle.LBFGS) else 0

    def is_kernel(shape):
        return len(shape) == 4 and max(shape[:2]) <= 3 and frozenset(shape[2:]) in channels

    return max(
        int(np.prod(shape)) for shape in shapes if not is_kernel(shape) and shape[0] != history
    )


def small(which):
    params = random_params(float)
    contents, styles = pictures(range(6), 8, 32), pictures(range(10, 16), 8, 32)
    expected = jaxstyle.stylize_batch(params, contents, styles, recipe=SMALL)
    found = {}
    meshes = {"both": jaxstyle.make_mesh(batch=4, rows=2)}  # two of four get one pair more
    if which != "quick":
        meshes["batch"] = jaxstyle.make_mesh()
    for name, mesh in meshes.items():
        result = jaxstyle.stylize_batch(params, contents, styles, recipe=SMALL, mesh=mesh)
        found[name] = difference(result, expected)
    image = np.asarray(expected.image)
    found["held"] = float(np.mean((image <= 0.4) | (image >= 0.6)))
    mesh = jaxstyle.make_mesh(rows=8)
    first = jax.tree.map(lambda leaf: leaf[0], expected)
    result = jaxstyle.stylize(params, contents[0], styles[0], recipe=SMALL, mesh=mesh)
    found["columns"] = difference(result, first)
    # A portrait, which is split along its rows, with another solver; the style cannot be split.
    solver = jaxstyle.Adam(num_steps=3, keep_moments=True, average=0.9, coordinates="laplacian")
    adam = dataclasses.replace(SMALL, solver=solver)
    pair = contents[0].swapaxes(0, 1), styles[0][:7, :27]
    expected = jaxstyle.stylize(params, *pair, recipe=adam)
    found["rows"] = difference(jaxstyle.stylize(params, *pair, recipe=adam, mesh=mesh), expected)
    if which != "quick":
        network = jaxstyle.VGG19(pooling="average", padding="wrap")
        wrapped = dataclasses.replace(SMALL, network=network)
        pair = contents[0], styles[0]
        expected = jaxstyle.stylize(params, *pair, recipe=wrapped)
        result = jaxstyle.stylize(params, *pair, recipe=wrapped, mesh=mesh)
        found["opposite edges"] = difference(result, expected)
    found |= with_optax(which, params, contents, styles)
    text, state = step_program(PLAIN, params, *pictures((0, 10), 16, 64), mesh)
    shape, sharding = state.inner.s_history
    found["part of the history"] = np.prod(sharding.shard_shape(shape)) / np.prod(shape)
    found["largest"] = largest_array(PLAIN, text)
    found["gathers"] = len(re.findall(r" all-gather(-start)?\(", text))
    found["activation"] = 16 * 64 * 64
    return found


def with_optax(which, params, contents, styles):
    """A transformation, the state of which is split like the picture."""
    recipe = dataclasses.replace(PLAIN, solver=jaxstyle.Optax(CHAIN, num_steps=3))
    pair, parts = (contents[0], styles[0]), []

    def keep(checkpoint):
        adam = checkpoint.state.inner.transformation[1]
        parts.extend(each.sharding.shard_shape(each.shape) for each in (adam.mu, adam.nu))

    options = {"recipe": recipe, "mesh": jaxstyle.make_mesh(rows=8), "every": None, "keep": keep}
    *_, (_, result) = jaxstyle.stylize_steps(params, *pair, **options)
    expected = jaxstyle.stylize(params, *pair, recipe=recipe)
    found = {
        "optax, rows": difference(result, expected),
        "part of a moment": max(map(np.prod, parts)) / contents[0].size,
    }
    if which != "quick":
        mesh = jaxstyle.make_mesh(batch=2, rows=4)
        batch = jaxstyle.stylize_batch(params, contents, styles, recipe=recipe, mesh=mesh)
        expected = jaxstyle.stylize_batch(params, contents, styles, recipe=recipe)
        found["optax, both"] = difference(batch, expected)
    return found


def others():
    """Networks that are not VGG19, with a term that has a weight map."""
    found = {}
    vgg16 = random_params(float, jaxstyle.VGG16.conv_shapes)
    for name, network, params, layers in (
        ("VGG16", jaxstyle.VGG16(), vgg16, ("relu1_1", "pool1")),
        ("encoder", *make_encoder(), ("stem", "sixth")),
    ):
        contents, styles = pictures(range(2), 48, 12), pictures(range(10, 12), 48, 12)
        mask = jnp.linspace(0, 2, 48 * 12).reshape(48, 12)
        recipe = make_recipe(network, layers, mask)
        expected = jaxstyle.stylize_batch(params, contents, styles, recipe=recipe)
        mesh = jaxstyle.make_mesh(batch=2, rows=4)
        both = jaxstyle.stylize_batch(params, contents, styles, recipe=recipe, mesh=mesh)
        found[f"{name}, both"] = difference(both, expected)
        mesh, pair = jaxstyle.make_mesh(rows=8), (contents[0], styles[0])
        rows = jaxstyle.stylize(params, *pair, recipe=recipe, mesh=mesh)
        found[f"{name}, rows"] = difference(rows, jax.tree.map(lambda leaf: leaf[0], expected))
    return found


def recipe(name):
    chosen = jaxstyle.recipes.RECIPES[name]
    chosen = dataclasses.replace(
        chosen, pyramid=None, solver=dataclasses.replace(chosen.solver, num_steps=2)
    )
    params = random_params(float)
    contents, styles = (pictures(seeds, 128, 256) for seeds in ((0, 1), (2, 3)))
    expected = jaxstyle.stylize_batch(params, contents, styles, recipe=chosen)
    batch = jaxstyle.stylize_batch(
        params, contents, styles, recipe=chosen, mesh=jaxstyle.make_mesh(batch=2)
    )
    mesh = jaxstyle.make_mesh(rows=8)
    pair = contents[0], styles[0]
    rows = jaxstyle.stylize(params, *pair, recipe=chosen, mesh=mesh)
    first = jax.tree.map(lambda leaf: leaf[0], expected)
    return {
        "batch": difference(batch, expected),
        "columns": difference(rows, first),
        "largest": largest_array(chosen, step_program(chosen, params, *pair, mesh)[0]),
        "activation": 128 * 256 * 64,
    }


def process(index, number, port):
    jax.distributed.initialize(
        f"127.0.0.1:{port}", int(number), int(index), heartbeat_timeout_seconds=10
    )
    params = random_params(float)
    contents, styles = pictures(range(2), 8, 32), pictures(range(10, 12), 8, 32)
    expected = jaxstyle.stylize_batch(params, contents, styles, recipe=PLAIN)
    print("ready", flush=True)
    found = {}
    for name, mesh in (("batch", jaxstyle.make_mesh()), ("rows", jaxstyle.make_mesh(rows=2))):
        result = jaxstyle.stylize_batch(params, contents, styles, recipe=PLAIN, mesh=mesh)
        found[name] = difference(result, expected)
    return found


LAYERS = ("relu1_2", "relu2_1")
CAFFE_MEAN = (123.68, 116.779, 103.939)


def plain_network(params, image, padding):
    """The layers above, with XLA's convolution and pooling and nothing of jaxstyle's."""
    x = (255 * image - jnp.asarray(CAFFE_MEAN, image.dtype).reshape(1, 1, 3))[..., ::-1]
    found = []
    for name in ("conv1_1", "conv1_2", "pool", "conv2_1"):
        if name == "pool":
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (2, 2, 1), (2, 2, 1), "VALID") / 4
            continue
        layer, mode = params["params"][name], {"zero": "constant", "replicate": "edge"}[padding]
        x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode=mode)
        x = jax.lax.conv_general_dilated(
            x[None], layer["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]
        x = jnp.maximum(x + layer["bias"].reshape(1, 1, -1), 0)
        found.append(x)
    return found[1:]


def first_params():
    every = random_params(float)["params"]
    return {"params": {name: every[name] for name in ("conv1_1", "conv1_2", "conv2_1")}}


def mean_loss(features):
    return sum(jnp.mean(x * x) + jnp.mean(jnp.sin(x)) for x in features)


def on(mesh, spec, tree):
    return jax.device_put(tree, NamedSharding(mesh, spec))


def mesh_of(name, kind):
    return jax.make_mesh((8,), (name,), axis_types=(kind,))


# What of the cases below is quick enough for each run of the tests; padding with zeros is simpler.
QUICK = {
    "replicate": (
        "jit", "Auto mesh rows, set", "Explicit mesh rows, set", "Explicit mesh data, split rows",
        "shard_map", "scan of checkpoint", "export", "disable_jit", "all strict flags",
    ),
    "zero": ("Explicit mesh data",),
}  # fmt: skip


def network(which):
    """Case -> largest difference of value and gradients from the plain network on one device."""
    found = {}
    for padding, quick in QUICK.items():
        cases, expected = network_cases(padding)
        for name in quick if which == "quick" else cases:
            found[f"{name}, {padding}"] = difference(cases[name](), expected)
    return found | objective_cases()


def network_cases(padding):
    params = first_params()
    images = jnp.asarray(pictures(range(8), 16, 18))
    net = jaxstyle.VGG19(pooling="average", padding=padding)

    def loss_of(params, image):
        return mean_loss(net.apply(params, image, LAYERS)[layer] for layer in LAYERS)

    def mean(of_picture):
        return lambda params, images: jnp.mean(jax.vmap(of_picture, (None, 0))(params, images))

    plain = mean(lambda params, image: mean_loss(plain_network(params, image, padding)))
    loss = mean(loss_of)
    both = lambda function: jax.value_and_grad(function, (0, 1))  # noqa: E731

    def shared(params, images):
        return both(lambda *args: jax.lax.pmean(loss(*args), "rows"))(params, images)

    def scanned(of_picture):
        def run(params, images):
            step = lambda total, image: (total + of_picture(params, image), None)  # noqa: E731
            return jax.lax.scan(step, jnp.zeros((), images.dtype), images)[0] / len(images)

        return run

    def exported():
        compiled = jax.jit(both(loss))
        program = jax.export.export(compiled, platforms=("cpu", "cuda", "tpu"))(params, images)
        return jax.jit(program.call)(params, images)

    specs = {"in_specs": (P(), P("rows")), "out_specs": (P(), (P(), P("rows")))}
    on_rows = jax.shard_map(shared, mesh=mesh_of("rows", AxisType.Auto), **specs)
    cases = {
        "jit": lambda: jax.jit(both(loss))(params, images),
        "eager": lambda: both(loss)(params, images),
        "shard_map": lambda: jax.jit(on_rows)(params, images),
        "eager shard_map": lambda: on_rows(params, images),
        "scan": lambda: jax.jit(both(scanned(loss_of)))(params, images),
        "checkpoint": lambda: jax.jit(both(jax.checkpoint(loss)))(params, images),
        "scan of checkpoint": lambda: jax.jit(both(scanned(jax.checkpoint(loss_of))))(
            params, images
        ),
        "export": exported,
    }
    for kind in (AxisType.Auto, AxisType.Explicit):
        for axis in ("data", "rows"):
            for how, spec in (("", P(axis)), (", set", P(axis)), (", split rows", P(None, axis))):
                cases[f"{kind.name} mesh {axis}{how}"] = partial(
                    on_mesh, both(loss), params, images, mesh_of(axis, kind), spec, how != ""
                )
    flags = strict_flags()
    for name in flags:
        cases[name] = partial(under, [name], both(loss), params, images)
    together = [name for name in flags if name not in ("disable_jit", "leaks")]
    cases["all strict flags"] = partial(under, together, both(loss), params, images)
    return cases, jax.jit(both(plain))(params, images)


def on_mesh(function, params, images, mesh, spec, is_set):
    arguments = on(mesh, P(), params), on(mesh, spec, images)
    with jax.set_mesh(mesh) if is_set else contextlib.nullcontext():
        return jax.jit(function)(*arguments)


def strict_flags():
    return {
        "disable_jit": jax.disable_jit(),
        "strict dtypes": jax.numpy_dtype_promotion("strict"),
        "rank promotion": jax.numpy_rank_promotion("raise"),
        "transfer guard": jax.transfer_guard("disallow"),
        "debug_nans": jax.debug_nans(True),
        "debug_infs": jax.debug_infs(True),
        "checks": jax.enable_checks(True),
        "leaks": jax.checking_leaks(),
    }


def under(names, function, params, images):
    with contextlib.ExitStack() as stack:
        flags = strict_flags()
        for name in names:
            stack.enter_context(flags[name])
        return (function if "disable_jit" in names else jax.jit(function))(params, images)


def objective_cases():
    """`prepare_targets` and `evaluate` of pictures on an Explicit mesh."""
    params, recipe = first_params(), PLAIN
    contents, styles = pictures(range(8), 16, 16), pictures(range(10, 18), 16, 16)
    found = {}

    def loss(params, contents, styles, tile):
        def one(content, style):
            targets = jaxstyle.prepare_targets(
                recipe.network, params, recipe.terms, content, style, tile=tile
            )
            value = jaxstyle.evaluate(
                recipe.network, params, recipe.terms, targets, recipe.weights, style, tile=tile
            )
            return value[0]

        return jnp.mean(jax.vmap(one)(contents, styles))

    expected = jax.jit(jax.value_and_grad(lambda *args: loss(*args, None), (0, 1, 2)))(
        params, contents, styles
    )
    mesh = mesh_of("data", AxisType.Explicit)
    split = on(mesh, P("data"), (contents, styles))
    for tile in (None, 8):
        run = jax.jit(jax.value_and_grad(lambda *args, tile=tile: loss(*args, tile), (0, 1, 2)))
        found[f"evaluate by {tile}"] = difference(run(on(mesh, P(), params), *split), expected)

    # With scaled frequencies, whose Fourier transform XLA's partitioner does not know on CPUs.
    shallow = dataclasses.replace(
        PLAIN,
        terms=(terms.GramStyle(("relu1_1",), (1.0,)),),
        weights={"style": 1.0},
        solver=dataclasses.replace(SMALL.solver, num_steps=2),
    )
    paint = partial(jaxstyle.stylize, params, recipe=shallow)
    expected = jax.jit(jax.vmap(paint))(contents, styles)
    batch = jaxstyle.stylize_batch(params, *split, recipe=shallow)
    found["stylize_batch"] = difference(batch.image, expected.image)
    auto = mesh_of("data", AxisType.Auto)
    run = jax.shard_map(jax.vmap(paint), mesh=auto, in_specs=P("data"), out_specs=P("data"))
    found["shard_map of stylize"] = difference(jax.jit(run)(contents, styles), expected)
    return found


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    programs = {
        "small": small,
        "others": others,
        "network": network,
        "recipe": recipe,
        "process": process,
    }
    print(json.dumps(programs[what](*arguments)))
