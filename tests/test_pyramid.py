"""Coarse-to-fine schedules, alone and inside a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_transfer import RECIPE

import jaxstyle
from jaxstyle import Pyramid
from jaxstyle.app.job import with_settings
from jaxstyle.image import resize, scaled_shape

COARSE = dataclasses.replace(RECIPE, pyramid=Pyramid(coarsest=10, steps=(4, 3)))


def test_schedules_of_known_systems():
    """Sizes and steps as RECIPES of jcjohnson's, crowsonkb's and the notebook's programs say."""

    def sizes(pyramid, long_edge):
        scales = pyramid.scales(long_edge, long_edge // 2)
        return [(round(scale * long_edge), steps) for scale, steps in scales]

    johnson = Pyramid(coarsest=256, steps=(1000, 500, 200))
    assert sizes(johnson, 2048) == [(256, 1000), (512, 500), (1024, 200)]
    crowson = Pyramid(coarsest=128, factor=2**0.5, steps=(1000, 500))
    assert sizes(crowson, 512) == [(128, 1000), (181, 500), (256, 500), (362, 500)]
    notebook = Pyramid(coarsest=512, factor=800 / 512, steps=(500,))
    assert sizes(notebook, 800) == [(512, 500)]
    assert sizes(Pyramid(), 512) == [(128, 100), (256, 100)]
    assert sizes(Pyramid(), 100) == []
    assert scaled_shape((7, 509, 771, 3), 0.25) == (7, 127, 193, 3)
    assert scaled_shape((3, 5, 3), 0.01) == (1, 1, 3)


@pytest.mark.parametrize(
    "settings",
    [{"coarsest": 0}, {"factor": 1.0}, {"factor": float("nan")}, {"steps": ()}, {"steps": (3, 0)},
     {"carry": "all"}, {"carry": None}, {"last_carry": "all"}, {"weight_factors": (1.0,)},
     {"factors_from": "last"}, {"finish": -1},
     {"weight_factors": {"style": ()}}, {"weight_factors": {"style": ("2",)}},
     {"weight_factors": {"style": (float("nan"),)}}],
)  # fmt: skip
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=r"coarsest|steps|carry|factors|finish"):
        Pyramid(**settings)


def test_weight_factors_are_counted_from_the_full_or_from_the_smallest_size():
    pyramid = Pyramid(weight_factors={"content": (8, 4, 2), "style": (0, 1)})

    def factors(pyramid, name, number):
        return [pyramid.factors(index, number)[name] for index in range(number)]

    assert factors(pyramid, "content", 5) == [8, 8, 8, 4, 2]
    assert factors(pyramid, "content", 2) == [4, 2]
    assert factors(pyramid, "style", 3) == [0, 0, 1]
    pyramid = dataclasses.replace(pyramid, factors_from="smallest")
    assert factors(pyramid, "content", 5) == [8, 4, 2, 2, 2]
    assert factors(pyramid, "content", 2) == [8, 4]
    assert factors(pyramid, "style", 3) == [0, 1, 1]
    for factors in ({"stile": (1.0,)}, {"content": (1.0, 0.0, 1.0), "style": (0.0, 1.0)}):
        with pytest.raises(ValueError, match=r"weight_factors of (stile|one size)"):
            dataclasses.replace(RECIPE, pyramid=Pyramid(weight_factors=factors))


FACTORS = {"style": (0.5, 2.0), "content": (0.0, 1.0, 3.0)}


@pytest.mark.parametrize(
    ("carry", "last", "factors"),
    [
        ("change", None, {}),
        pytest.param("image", None, {}, marks=pytest.mark.long),
        pytest.param("change", "image", FACTORS, marks=pytest.mark.long),
    ],
    ids=["change", "image", "all"],
)
def test_a_run_is_its_stages_one_after_the_other(double, carry, last, factors):
    """Against a loop written out here, from plain `stylize` at each size."""
    params, pictures = double
    pyramid = dataclasses.replace(
        COARSE.pyramid, carry=carry, last_carry=last, weight_factors=factors
    )
    recipe = dataclasses.replace(COARSE, pyramid=pyramid)
    content, style = jnp.asarray(pictures(0)), jnp.asarray(pictures(1, 24, 28))
    result = jaxstyle.stylize(params, content, style, recipe=recipe)
    assert result.image.shape == content.shape
    assert result.trace.shape == (4 + 3 + 8,)
    assert int(result.num_evaluations) == 5 + 4 + 9

    def objective(x, params, targets, weights):
        network, terms = RECIPE.network, RECIPE.terms
        return jaxstyle.evaluate(network, params, terms, targets, weights, x)[0]

    run = jax.jit(jaxstyle.minimize, static_argnums=0, static_argnames="solver")
    prepare = jax.jit(jaxstyle.prepare_targets, static_argnums=(0, 2))
    traces, painted, before = [], None, None
    for i, (shape, style_shape, steps) in enumerate(
        [
            ((8, 10, 3), (6, 7, 3), 4),
            ((16, 20, 3), (12, 14, 3), 3),
            ((32, 40, 3), (24, 28, 3), 8),
        ]
    ):
        here = jax.image.resize(content, shape, "cubic") if shape != content.shape else content
        there = jax.image.resize(style, style_shape, "cubic") if steps != 8 else style
        init = here
        if painted is not None and (last if last and steps == 8 else carry) == "image":
            init = jax.image.resize(painted, shape, "cubic")
        elif painted is not None:
            init = here + jax.image.resize(painted - before, shape, "cubic")
        solver = jaxstyle.LBFGS(num_steps=steps, history_size=5)
        targets = prepare(RECIPE.network, params, RECIPE.terms, here, there)
        weights = dict(RECIPE.weights)
        if factors:
            weights["style"] *= (0.5, 0.5, 2.0)[i]
            weights["content"] *= (0.0, 1.0, 3.0)[i]
        painted, trace = run(objective, init, params, targets, weights, solver=solver)
        before = here
        traces.append(trace.loss)
    np.testing.assert_allclose(result.trace, jnp.concatenate(traces), rtol=1e-6)
    np.testing.assert_allclose(result.image, jnp.clip(painted, 0, 1), atol=1e-6)
    if factors:
        np.testing.assert_array_equal(result.term_traces["content"][:4], 0)
        assert result.term_traces["content"][4:].min() > 0
        targets = prepare(RECIPE.network, params, RECIPE.terms, content, style)
        value, _ = jax.jit(jaxstyle.objective(recipe, params, targets))(result.image)
        np.testing.assert_allclose(value, result.loss, rtol=1e-6)


def test_steps_show_every_size_at_full_size(random_params, pictures):
    content, style = pictures(0), pictures(1)
    seen = list(jaxstyle.stylize_steps(random_params, content, style, recipe=COARSE, every=3))
    assert [step for step, _ in seen] == [0, 3, 4, 7, 10, 13, 15]
    for step, result in seen:
        assert result.image.shape == content.shape
        assert result.trace.shape == (15,)
        assert int(result.num_evaluations) >= step + 1
    # Shown at full size, the start is the photo itself, with all its detail.
    np.testing.assert_allclose(seen[0][1].image, content, atol=1e-6)
    whole = jaxstyle.stylize(random_params, content, style, recipe=COARSE)
    np.testing.assert_array_equal(seen[-1][1].image, whole.image)
    np.testing.assert_array_equal(seen[-1][1].trace, whole.trace)
    # Of every step is told what it was made of, at its own size.
    weighted = sum(COARSE.weights[name] * trace for name, trace in whole.term_traces.items())
    np.testing.assert_allclose(weighted, whole.trace, rtol=1e-5)
    style_trace = np.asarray(whole.term_traces["style"])
    assert style_trace[-1] < 0.9 * style_trace[7]  # over the steps at full size
    one_by_one = jaxstyle.stylize_steps(random_params, content, style, recipe=COARSE, every=1)
    for step, result in one_by_one:
        for name, trace in result.term_traces.items():
            assert trace.shape == (15,)
            np.testing.assert_array_equal(
                trace[:step], whole.term_traces[name][:step], err_msg=f"{name} {step}"
            )


@pytest.mark.long
def test_batches_and_callers_jit(double):
    params, pictures = double
    contents = jnp.stack([pictures(i) for i in range(2)])
    styles = jnp.stack([pictures(5 + i) for i in range(2)])
    run = lambda params, c, s: jaxstyle.stylize(params, c, s, recipe=COARSE)  # noqa: E731
    pair = params, contents[1], styles[1]
    alone = run(*pair)
    batch = jaxstyle.stylize_batch(params, contents, styles, recipe=COARSE)
    for other in (jax.tree.map(lambda a: a[1], batch), jax.jit(run)(*pair)):
        np.testing.assert_allclose(other.trace, alone.trace, rtol=1e-6)
        assert int(other.num_evaluations) == int(alone.num_evaluations)
    noise = jaxstyle.stylize_batch(
        params, contents, styles, recipe=COARSE, init="noise", key=jax.random.key(1)
    )
    assert np.isfinite(noise.image).all()


def test_sizes_that_do_not_pass_the_network_are_left_out(random_params, pictures):
    """relu2_1 needs 2 px; a style 4 px high has 1 at a quarter."""
    content, style = pictures(0), pictures(1, 4, 40)
    result = jaxstyle.stylize(random_params, content, style, recipe=COARSE)
    assert result.trace.shape == (3 + 8,)


def test_the_first_size_converging_does_not_end_the_run(random_params, pictures):
    """Without a style loss the content is the optimum at every size."""
    steps = jaxstyle.stylize_steps(
        random_params, pictures(0), pictures(1), recipe=COARSE, weights={"style": 0.0}, every=1
    )
    assert [step for step, _ in steps][-1] == 4 + 3


def test_resizing_keeps_constants_and_what_has_the_size():
    image = jnp.full((9, 12, 3), 0.3)
    np.testing.assert_allclose(resize(image, (4, 6, 3)), 0.3, rtol=1e-5)
    assert resize(image, image.shape) is image


@pytest.mark.parametrize("factor", [0.25, 0.5, 2])
def test_resizing_a_picture_that_wraps_moves_with_it(factor):
    """Each pixel is resized as in the middle of many copies side by side."""
    image = np.random.default_rng(0).uniform(size=(2, 16, 24, 3)).astype("float32")
    shape = scaled_shape(image.shape, factor)
    found = resize(jnp.asarray(image), shape, True)
    tiles = resize(jnp.asarray(np.tile(image, (1, 3, 3, 1))), (2, 3 * shape[1], 3 * shape[2], 3))
    middle = tiles[:, shape[1] : 2 * shape[1], shape[2] : 2 * shape[2]]
    # Sums of products of numbers below 1, with weights whose absolute values sum to less than 2.
    np.testing.assert_allclose(found, middle, atol=64 * 2.0**-23)


def test_a_last_stage_at_the_full_size_is_as_many_steps_more(double):
    """With its own factors; against two runs, the second of which begins where the first ended."""
    params, pictures = double
    pair = pictures(0, 32, 40), pictures(1, 24, 28)
    factors = {"style": (2.0, 0.5), "content": (0.0, 3.0)}
    pyramid = Pyramid(coarsest=64, carry="image", finish=4, weight_factors=factors)
    recipe = dataclasses.replace(COARSE, pyramid=pyramid)
    found = jaxstyle.stylize(params, *pair, recipe=recipe)
    weights = [
        {name: recipe.weights[name] * factors[name][i] for name in recipe.weights} for i in (0, 1)
    ]
    single = dataclasses.replace(recipe, pyramid=None)
    first = jaxstyle.stylize(params, *pair, recipe=single, weights=weights[0])
    steps = len(first.trace)
    assert len(found.trace) == steps + 4
    np.testing.assert_allclose(found.trace[:steps], first.trace, rtol=1e-8)
    shown = dict(jaxstyle.stylize_steps(params, *pair, recipe=recipe, every=steps))
    assert list(shown) == [0, steps, steps + 4]
    np.testing.assert_allclose(shown[steps].image, first.image, atol=1e-8)
    assert float(found.term_traces["content"][0]) == 0
    assert float(found.term_traces["content"][-1]) > 0


def test_fewer_steps_and_no_smaller_sizes_keep_the_last_stage():
    pyramid = Pyramid(steps=(50, 10), finish=30, weight_factors={"style": (1.0, 2.0)})
    recipe = dataclasses.replace(COARSE, pyramid=pyramid)
    changed = with_settings(recipe, 20, 0, "float32").pyramid
    assert changed == dataclasses.replace(pyramid, steps=(20, 10), finish=20, coarsest=2**31 - 1)
    assert changed.scales(4096, 4096) == ()
    assert with_settings(COARSE, 20, 0, "float32").pyramid is None
