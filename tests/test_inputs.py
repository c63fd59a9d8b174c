"""What `stylize` and its kin refuse, when, and where pictures go."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxstyle
from jaxstyle import Status, compiled, terms
from jaxstyle.pictures import as_picture, check_picture
from jaxstyle.problem import Problem
from jaxstyle.recipes import GATYS

RECIPE = dataclasses.replace(
    GATYS,
    terms=(
        terms.Content(layers=("relu1_2",), reduction="mean"),
        terms.GramStyle(layers=("relu1_1",), layer_weights=(1.0,)),
    ),
    solver=jaxstyle.LBFGS(num_steps=2, history_size=2),
)
SWAPPED = [
    (
        ("c", "p", "s"),
        r"^content must be .* 3\), not dict; it looks like network weights, the argument",
    ),
    (("c", "s", "p"), r"^style must be an array .*, not dict; .*: check the arguments' order"),
    (
        ("s", "c", "s"),
        r"^params must be .*; this is of type ndarray; jaxstyle.io.load_params",
    ),
]
NOTHING = {"params": {}}  # parameters that no check of pictures looks at
STEPS = (jaxstyle.stylize, jaxstyle.stylize_steps)


@pytest.fixture(scope="module")
def pair(pictures):
    return pictures(0, 32, 40), pictures(1, 24, 28)


@pytest.mark.parametrize(("order", "message"), SWAPPED)
def test_arguments_in_another_order(pair, order, message):
    given = {"c": pair[0], "s": pair[1], "p": NOTHING}
    for function in STEPS:
        with pytest.raises(ValueError, match=message):
            function(*(given[each] for each in order), recipe=RECIPE)


def image(**change):
    """A picture with values that are not those of a picture."""
    return np.random.default_rng(0).uniform(0.0, 1.0, (32, 40, 3)).astype(np.float32) * change.pop(
        "times", 1
    ) + change.pop("plus", 0)


WRONG_PICTURES = [
    (image(times=255), "divide by 255"),
    (image(times=65535), "divide by 65535"),
    (image(times=2, plus=-1), r"\(x \+ 1\) / 2"),
    (image(times=4, plus=-2), "standardised"),
    (np.where(image() > 0.5, np.nan, image()), "not finite"),
    (np.where(image() > 0.5, np.inf, image()), "not finite"),
    ((255 * image()).astype(np.uint8), "not uint8; divide by 255"),
    (image() > 0.5, "not bool"),
    (np.moveaxis(image(), -1, 0), "channels come last"),
    (np.concatenate([image(), image()[..., :1]], -1), "RGBA"),
    (image()[..., 0], "gray"),
    (image()[..., :1], "gray"),
    (image()[None], "stylize_batch"),
    (image().astype(jnp.bfloat16), "too coarse"),
    ("photo.jpg", r"\(H, W, 3\), not str; read a file"),
    ((65535 * image()).astype(np.uint16), "not uint16; divide by 65535"),
    ((255 * image()).astype(np.uint8)[None], r"image\[0\].*divide by 255"),
    (np.moveaxis(image(), -1, 0)[None], r"image\[0\].*channels come last"),
    (image()[None, ..., 0], "channels come last.*gray"),
    (image() * 1j, "real part"),
    (image(times=255, plus=-115), "mean color"),
]
HOST_ONLY = {
    "PIL": (
        Image.fromarray((255 * image()).astype(np.uint8)),
        r"convert\('RGB'\), np.float32\) / 255",
    ),
    "PIL, gray": (Image.new("L", (40, 32)), r"convert\('RGB'\), np.float32\) / 255"),
    "objects": (image().astype(object), "not object"),
    "ragged": ([image(), image()[:3]], "arrays of one shape"),
    "bytes": (b"\x89PNG", "read a file"),
}


@pytest.mark.parametrize(("picture", "hint"), WRONG_PICTURES)
@pytest.mark.parametrize("what", ["content", "style", "init"])
def test_pictures_that_are_none(picture, hint, what, pair):
    """At the call, before parameters are looked at, from the host and from a device."""
    if what == "init" and (isinstance(picture, str) or "/ 2" in hint or "standard" in hint):
        pytest.skip("a start may be as far from [0, 1] as pixels that are optimised without bounds")
    content, style = pair
    for array in (picture, picture if isinstance(picture, str) else jnp.asarray(picture)):
        arguments = {"content": content, "style": style} | {what: array}
        for run in STEPS:
            with pytest.raises(ValueError, match=hint):
                run(NOTHING, recipe=RECIPE, **arguments)


@pytest.mark.parametrize("kind", HOST_ONLY)
def test_objects_that_are_no_pictures(kind, pair):
    picture, hint = HOST_ONLY[kind]
    with pytest.raises(ValueError, match=hint):
        jaxstyle.stylize(NOTHING, picture, pair[1], recipe=RECIPE)
    with pytest.raises(ValueError, match=hint):
        check_picture(picture, "style")
    with pytest.raises(ValueError, match=hint):
        as_picture(picture, "image")


@pytest.mark.parametrize("problem", [RuntimeError("requires grad"), TypeError("cuda:0 device")])
def test_tensors_of_torch_that_numpy_cannot_read(problem):
    class Tensor:
        __module__ = "torch"

        def __array__(self, dtype=None, copy=None):
            raise problem

    with pytest.raises(ValueError, match=r"not Tensor: use tensor.detach\(\).cpu\(\).numpy\(\)"):
        check_picture(Tensor(), "content")


def test_any_layout_byte_order_and_width_is_read():
    picture = image()
    picture.setflags(write=False)
    for same in (
        picture,
        np.asfortranarray(picture),
        picture[::-1][::-1],
        picture.astype(">f4"),
        picture.astype(np.float64),
        picture.astype(np.longdouble),
        picture.tolist(),
        jnp.asarray(picture),
    ):
        np.testing.assert_array_equal(check_picture(same, "content"), picture)
        np.testing.assert_array_equal(as_picture(same, "content"), picture)
    with pytest.raises(ValueError, match="not finite"):
        check_picture(picture.astype(np.float64) * 1e300, "content")


def test_targets_of_wrong_pictures(random_params, pair):
    network, terms = RECIPE.network, RECIPE.terms
    for wrong in (255, np.nan):
        for content, style in ((wrong * pair[0], pair[1]), (pair[0], wrong * pair[1])):
            with pytest.raises(ValueError, match=r"divide by 255|not finite"):
                jaxstyle.prepare_targets(network, random_params, terms, content, style)


def test_masks_that_were_read_as_pictures(pair):
    content, style = pair
    with pytest.raises(ValueError, match="take one channel"):
        jaxstyle.stylize(NOTHING, *pair, recipe=RECIPE, masks=[content])
    with pytest.raises(ValueError, match="take one channel"):
        jaxstyle.stylize(NOTHING, *pair, recipe=RECIPE, style_masks=[style])


def test_honest_overshoot_and_traced_pictures_pass(random_params, pair):
    content, style = pair
    content = np.where(content > 0.9, 1.3, np.where(content < 0.1, -0.3, content))
    for init in (3 * content - 1, None):
        result = jaxstyle.stylize(random_params, content, style, recipe=RECIPE, init=init)
        assert np.isfinite(result.loss)
    run = jax.jit(lambda c: jaxstyle.stylize(random_params, c, style, recipe=RECIPE).loss)
    assert np.isfinite(run(255 * content))
    # What is known is refused under jit too.
    known = jnp.asarray(255 * style)
    with pytest.raises(ValueError, match="divide by 255"):
        jax.jit(lambda c: jaxstyle.stylize(random_params, c, known, recipe=RECIPE))(content)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (255.0, "divide by 255"),
        (-0.1, "from -0.1"),
        (np.nan, "not finite"),
        (1.1, "from 0 to 1.1"),
    ],
)
def test_masks_that_are_none(value, hint, pair):
    mask = np.zeros((32, 40))
    mask[3] = value
    with pytest.raises(ValueError, match=hint):
        jaxstyle.stylize(NOTHING, *pair, recipe=RECIPE, masks=[mask])
    with pytest.raises(ValueError, match=hint):
        jaxstyle.stylize(NOTHING, *pair, recipe=RECIPE, style_masks=[jnp.asarray(mask[:24, :28])])


def wrong(**change):
    return lambda: dataclasses.replace(RECIPE, **change)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (wrong(terms=list(RECIPE.terms)), "must be a tuple"),
        (wrong(terms=RECIPE.terms[0], weights={"content": 1.0}), "must be a tuple"),
        (wrong(terms=(), weights={}), "one or more terms"),
        (wrong(terms=("content",), weights={"content": 1.0}), "is not a term"),
        (wrong(terms=(terms.Content,), weights={"content": 1.0}), "is not a term"),
        (wrong(weights=3.0), "a dict"),
        (wrong(weights={"content": jnp.ones(2), "style": 1.0}), "hashable"),
        (wrong(solver="adam"), "LBFGS, Adam or ScipyLBFGSB"),
        (wrong(pyramid=128), "a Pyramid or None"),
        (wrong(size=0), "size must be"),
        (wrong(median_filter=1.5), "odd and positive"),
        (wrong(strength=-0.5), "strength must be from 0 to"),
        (wrong(strength=float("nan")), "strength must be from 0 to"),
    ],
)
def test_recipes_that_are_none(make, hint):
    with pytest.raises(ValueError, match=hint):
        make()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"init": "noise", "key": 0}, "jax.random.key"),
        ({"init": "noise", "key": np.float32(1)}, "jax.random.key"),
        ({"init": "mean", "key": jax.random.split(jax.random.key(0))}, "key has shape"),
        ({"init": "noise", "key": jax.random.split(jax.random.PRNGKey(0))}, "key has shape"),
        ({"recipe": "gatys"}, "must be a Recipe"),
        ({"solver": "adam"}, "LBFGS, Adam or ScipyLBFGSB"),
        ({"weights": 3.0}, "a dict"),
        ({"weights": {"style": "much"}}, "numbers"),
        ({"weights": {1: 2.0}}, "content, style"),
        ({"style_weights": (0,)}, "positive sum"),
        ({"style_weights": {"relu5_1": (1,)}}, "relu1_1"),
        ({"style_weights": {"relu1_1": (1,)}, "masks": np.ones((1, 32, 40))}, "keep apart"),
        ({"masks": np.ones((2, 32, 40))}, "masks of shape"),
        ({"style_masks": np.ones((24, 28))}, "a list of 1"),
        ({"tile": 0}, "tile must be"),
        ({"tile": 2.5}, "tile must be"),
    ],
)
def test_options_that_are_none(options, hint, pair):
    for run in STEPS:
        with pytest.raises(ValueError, match=hint):
            run(NOTHING, *pair, **({"recipe": RECIPE} | options))


def test_steps_are_refused_at_the_call(pair):
    content, style = pair
    batch = content[None], style[None]
    for every in (0, -1, 2.5):
        with pytest.raises(ValueError, match="at least 1 step"):
            jaxstyle.stylize_steps(NOTHING, *pair, recipe=RECIPE, every=every)
        with pytest.raises(ValueError, match="at least 1 step"):
            jaxstyle.stylize_batch_steps(NOTHING, *batch, recipe=RECIPE, every=every)
    with pytest.raises(ValueError, match="needs a style image"):
        jaxstyle.stylize_steps(NOTHING, content, None, recipe=RECIPE)
    deep = dataclasses.replace(RECIPE, terms=(terms.Content(layers=("relu4_1",)), RECIPE.terms[1]))
    with pytest.raises(ValueError, match="at least 8x8"):
        jaxstyle.stylize_steps(NOTHING, content[:7], style, recipe=deep)
    with pytest.raises(TypeError, match="unexpected keyword argument 'evry'"):
        jaxstyle.stylize_batch_steps(NOTHING, *batch, recipe=RECIPE, evry=3)


ALL = {
    jaxstyle.stylize: "",
    jaxstyle.stylize_steps: "every, checkpoint, keep, call",
    jaxstyle.stylize_batch: "",
    jaxstyle.stylize_batch_steps: "every, call",
}


@pytest.mark.parametrize("run", ALL, ids=lambda run: run.__name__)
@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"recipe": "gatys"}, "must be a Recipe"),
        ({"solver": "adam"}, "solver must be"),
        ({"weights": {"styles": 1.0}}, "content, style"),
        ({"style_weights": (1.0, 2.0)}, "style_weights of shape"),
        ({"masks": np.ones((2, 32, 40))}, "masks of shape"),
        ({"style_masks": (np.ones((2, 2)),)}, "a style mask of shape"),
        ({"init": "random"}, "noise, mean or an image"),
        ({"init": "noise"}, r"jax\.random\.key"),
        ({"tile": 0}, "tile must be"),
        ({"mesh": jax.make_mesh((1,), ("columns",))}, "batch and rows"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_function_validates_when_it_is_called(run, options, hint, pair):
    """Also those that return an iterator, before anybody asks it for anything."""
    images = [image[None] for image in pair] if "batch" in run.__name__ else pair
    with pytest.raises(ValueError, match=hint):
        run(NOTHING, *images, **({"recipe": RECIPE} | options))
    with pytest.raises(ValueError, match="divide by 255"):
        run(NOTHING, 255 * images[0], images[1], recipe=RECIPE)


@pytest.mark.parametrize("run", ALL, ids=lambda run: run.__name__)
def test_a_misspelt_argument_is_named_with_the_valid_ones(run, pair):
    valid = "recipe, weights, solver, style_weights, masks, style_masks, init, key, tile, mesh"
    with pytest.raises(TypeError) as caught:
        run(NOTHING, *pair, style_weight=(1.0,))
    message = str(caught.value)
    assert message.startswith(f"{run.__name__}() got an unexpected keyword argument 'style_weight'")
    assert "did you mean 'style_weights'?" in message
    assert message.endswith(", ".join(filter(None, (valid, ALL[run]))))
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        run(NOTHING, pair[0], recipe=RECIPE)


def test_parameters_that_are_none(pair):
    for params in ({}, None, {"conv1_1": {}}, [1, 2]):
        with pytest.raises(ValueError, match="load_params"):
            jaxstyle.stylize_steps(params, *pair, recipe=RECIPE)


def test_batches_of_different_lengths(pair):
    contents, styles = (np.stack([each] * 2) for each in pair)
    run = lambda *a, **k: jaxstyle.stylize_batch(NOTHING, *a, recipe=RECIPE, **k)  # noqa: E731
    with pytest.raises(ValueError, match=r"2 contents, but \[1\] styles"):
        run(contents, styles[:1])
    with pytest.raises(ValueError, match=r"2 contents, but \[2, 1\] styles"):
        run(contents, (styles, styles[:1]))
    with pytest.raises(ValueError, match="must be repeated for each"):
        run(contents, styles[0])
    with pytest.raises(ValueError, match="init has shape"):
        run(contents, styles, init=contents[:1])
    with pytest.raises(ValueError, match="masks of shape"):
        run(contents, styles, masks=np.ones((1, 1, 32, 40)))
    with pytest.raises(ValueError, match="a style mask of shape"):
        run(contents, styles, style_masks=[np.ones((1, 24, 28))])
    with pytest.raises(ValueError, match="the weight of style has shape"):
        run(contents, styles, weights={"style": np.ones(3)})
    with pytest.raises(ValueError, match="style_weights of shape"):
        run(contents, styles, style_weights=np.ones((1, 1)))
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(ValueError, match="key has shape"):
        run(contents, styles, init="noise", key=keys)


@dataclasses.dataclass(frozen=True)
class Cliff(terms.Term):
    """Towards white; at sizes below 40 px NaN, beyond a step or everywhere."""

    everywhere: bool
    name: str = "cliff"
    layers: tuple[str, ...] = ("image",)
    target_image: None = None

    def statistics(self, features, target, weight):
        x = features["image"]
        nan = self.everywhere | (jnp.mean(x) > 0.515)
        return jnp.where((x.shape[0] < 40) & nan, jnp.nan, jnp.mean((x - 1) ** 2))

    def loss(self, statistics, target):
        return statistics


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_status_tells_of_smaller_sizes(everywhere):
    recipe = dataclasses.replace(
        GATYS,
        terms=(Cliff(everywhere),),
        weights={"cliff": 1.0},
        solver=jaxstyle.LBFGS(num_steps=3),
        pyramid=jaxstyle.Pyramid(coarsest=32, steps=(6,)),
    )
    options = {"content": None, "style": None, "recipe": recipe}
    start = jnp.full((64, 64, 3), 0.5)
    kept = []
    *_, (_, result) = jaxstyle.stylize_steps(
        {"params": {}}, **options, init=start, every=2, keep=lambda found: kept.append(
            found._replace(state=jax.device_get(jax.tree.leaves(found.state)))
        ),
    )  # fmt: skip
    assert result.loss < 0.2
    assert Status(int(result.status)) == Status.RECOVERED
    # It outlives a checkpoint at the full size.
    assert kept[-1].stage == 1
    *_, (_, rest) = jaxstyle.stylize_steps(
        {"params": {}}, **options, init=start, checkpoint=kept[-1]
    )
    assert Status(int(rest.status)) == Status.RECOVERED
    alone = jaxstyle.stylize({"params": {}}, **options, init=start[:32, :32])
    expected = Status.NON_FINITE_START if everywhere else Status.RECOVERED
    assert Status(int(alone.status)) == expected


SMOOTH = dataclasses.replace(
    RECIPE, solver=jaxstyle.LBFGS(num_steps=2, history_size=2, smoothness=0.25)
)


def test_a_run_is_exported_for_other_platforms(random_params, pair):
    run = jax.jit(lambda *pair: jaxstyle.stylize(random_params, *pair, recipe=SMOOTH).image)
    exported = jax.export.export(run, platforms=["cpu", "cuda", "tpu"])(*pair)
    np.testing.assert_allclose(exported.call(*pair), run(*pair), atol=1e-5)


def test_a_run_has_derivatives_forwards(random_params, pair):
    def loss(weight):
        weights = {"style": weight}
        return jaxstyle.stylize(random_params, *pair, recipe=SMOOTH, weights=weights).loss

    found = jax.jacfwd(loss)(1.0)
    # With the other terms' losses much smaller, the loss is nearly proportional to the weight.
    assert 0.9 * loss(1.0) < found < 1.1 * loss(1.0)


@pytest.mark.parametrize(
    "flag",
    [
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.debug_nans(True),
        lambda: jax.debug_infs(True),
        lambda: jax.transfer_guard("disallow"),
    ],
    ids=["strict", "nans", "infs", "guard"],
)
def test_the_same_picture_under_jax_s_strict_flags(flag, random_params, pair):
    recipe = dataclasses.replace(SMOOTH, init="noise")
    options = {"recipe": recipe, "key": jax.random.key(0), "style_weights": (1.0,)}

    def run():
        *_, (_, result) = jaxstyle.stylize_steps(random_params, *pair, every=2, **options)
        return result.image

    expected = run()
    with flag():
        found = run()
    np.testing.assert_array_equal(found, expected)


STRICT = (
    lambda: jax.numpy_rank_promotion("raise"),
    lambda: jax.numpy_dtype_promotion("strict"),
    lambda: jax.debug_nans(True),
    lambda: jax.debug_infs(True),
    jax.checking_leaks,
    lambda: jax.transfer_guard("disallow"),
    # On a GPU, `debug_nans` itself reads the results.
    lambda: jax.transfer_guard_device_to_host("allow"),
)


@pytest.mark.parametrize("flags", [STRICT, (lambda: jax.enable_x64(True),)], ids=["strict", "x64"])
def test_every_function_gives_the_same_under_the_flags_of_jax(flags, random_params, pair):
    """Without `jit`, JAX's guard refuses the number in `2 * x` already."""
    content, style = jax.device_put(pair)

    @jax.jit
    def gradient(params, content, style):
        targets = jaxstyle.prepare_targets(RECIPE.network, params, RECIPE.terms, content, style)
        objective = jaxstyle.objective(RECIPE, params, targets)
        return jax.value_and_grad(objective, has_aux=True)(content)

    def run():
        options = {"recipe": SMOOTH, "weights": {"style": 2.0}}
        batch = jaxstyle.stylize_batch(random_params, *[x[None] for x in pair], **options)
        return batch.image, gradient(random_params, content, style)

    expected = run()
    with contextlib.ExitStack() as stack:
        for flag in flags:
            stack.enter_context(flag())
        found = run()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_batches_and_pyramids_make_no_hidden_transfers(random_params, pair):
    pairs = [np.stack([each] * 2) for each in pair]
    recipe = dataclasses.replace(SMOOTH, pyramid=jaxstyle.Pyramid(20, steps=(2,)))
    with jax.transfer_guard("disallow"):
        *_, (_, result) = jaxstyle.stylize_batch_steps(
            random_params, *pairs, recipe=recipe, masks=np.ones((1, 32, 40)), every=2
        )
    assert np.isfinite(result.image).all()


def test_another_number_of_steps_or_first_step_compiles_no_step(random_params, pair):
    compiled = []

    def listen(event, seconds, fun_name="", **_):
        if event.endswith("/backend_compile_duration"):
            compiled.append(fun_name)

    def run(**change):
        solver = dataclasses.replace(SMOOTH.solver, **change)
        return jaxstyle.stylize(random_params, *pair, recipe=SMOOTH, solver=solver)

    run()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        first = run(first_step=0.05)
        assert compiled == []
        longer = run(num_steps=9, tolerance=1e-9)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 1  # what is shown has the length of the trace
    assert first.trace.shape == (2,)
    assert longer.trace.shape == (9,)
    assert int(longer.num_evaluations) == 10


def test_targets_are_computed_at_the_caller_s_precision(random_params, pair):
    problem = Problem(RECIPE.network, RECIPE.terms)
    arguments = jnp.asarray(pair[0]), (jnp.asarray(pair[1]),), None, None, None
    for precision in (None, "highest"):
        with jax.default_matmul_precision(precision):
            lowered = compiled.compute_targets.lower(problem, False, random_params, *arguments)
        convolutions = [
            line for line in lowered.as_text().splitlines() if "stablehlo.convolution(" in line
        ]
        assert convolutions
        assert all(("HIGHEST" in line) == (precision == "highest") for line in convolutions)


PLACEMENT = """
import json
import dataclasses, jax, numpy as np, jaxstyle
from jaxstyle import inputs, recipes
from jaxstyle.options import resolve_options

put, whole = jax.device_put, []

def spy(x, device=None, **options):
    if device is None or len(getattr(device, "device_set", [0])) < 8:
        whole.extend(leaf.shape for leaf in jax.tree.leaves(x) if np.size(leaf) > 8 * 16)
    return put(x, device, **options)

jax.device_put = spy
rng = np.random.default_rng(0)
conv1_1 = {"kernel": np.zeros((3, 3, 3, 64), np.float32), "bias": np.zeros(64, np.float32)}
contents, styles = (rng.uniform(size=(14, 8, 8, 3)).astype(np.float32) for _ in range(2))
shapes = set()
for init in ("content", "noise", "mean", contents[::-1]):
    with jax.transfer_guard("disallow"):
        options = resolve_options(jaxstyle.stylize_batch, dict(
            recipe=SHALLOW, init=init, key=jax.device_put(jax.random.key_data(KEY)),
            masks=np.ones((14, 2, 8, 8)), style_masks=(None, np.ones((14, 8, 8))),
            mesh=jaxstyle.make_mesh(),
        ))
        pair = contents, (styles, styles)
        params = {"params": {"conv1_1": conv1_1}}
        found = inputs.prepare_inputs(
            params, *pair, options, batched=True, call=jaxstyle.compiled.call_jitted
        )
    for array in jax.tree.leaves(found[2:-1]):
        shapes.add((len(array.sharding.device_set), array.addressable_shards[0].data.shape[0]))
print(json.dumps([whole, sorted(shapes)]))
"""


def test_pictures_go_straight_to_their_devices():
    """Eight devices: nothing of the host's is put on one of them whole."""
    head = (
        "import dataclasses, jax; from jaxstyle import recipes, terms; KEY = jax.random.key(0)\n"
        "SHALLOW = dataclasses.replace(recipes.GATYS, terms=(terms.Content(layers=('relu1_1',)), "
        "terms.GramStyle(layers=('relu1_1',), layer_weights=(1.0,))))\n"
    )
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", head + PLACEMENT],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole, shapes = json.loads(done.stdout.splitlines()[-1])
    assert whole == []
    assert shapes == [[8, 2]]


@pytest.mark.parametrize(
    ("name", "advice"),
    [("steps", "solver=jaxstyle.LBFGS"), ("size", "load_image"), ("seed", "jax.random.key")],
)
def test_arguments_of_other_programs(pair, name, advice):
    with pytest.raises(TypeError, match=advice):
        jaxstyle.stylize(NOTHING, *pair, **{name: 2})


def test_one_color_picture_for_a_batch_is_not_gray(pair):
    content, style = pair
    with pytest.raises(ValueError, match="must be repeated for each") as refused:
        jaxstyle.stylize_batch(NOTHING, np.stack([content] * 2), style)
    assert "gray" not in str(refused.value)


def test_windows_of_a_picture_that_wraps_are_checked_at_every_size_before_the_start(
    pair, random_params
):
    recipe = dataclasses.replace(
        RECIPE,
        network=jaxstyle.VGG19(padding="wrap"),
        terms=(*RECIPE.terms, terms.GramStyle(("relu2_1",), (1.0,), name="coarse")),
        weights={**RECIPE.weights, "coarse": 1.0},
        pyramid=jaxstyle.Pyramid(coarsest=20),
    )
    with pytest.raises(ValueError, match="multiples of 2 px, not 21x16 px"):
        jaxstyle.stylize_steps(
            random_params, np.ones((32, 42, 3), np.float32), pair[1], recipe=recipe, tile=16
        )
