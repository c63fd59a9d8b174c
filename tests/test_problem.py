"""The objective of a recipe as a function of the image alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

import jaxstyle
from jaxstyle import terms
from jaxstyle.problem import Problem
from jaxstyle.terms.protocol import split_arrays

RECIPE = dataclasses.replace(
    jaxstyle.recipes.DEFAULT,
    terms=(
        terms.Content(layers=("relu1_2",), reduction="mean"),
        terms.GramStyle(layers=("relu1_1", "relu2_1"), layer_weights=(0.5, 0.5)),
        terms.TotalVariation(),
    ),
    weights={"content": 1.0, "style": 100.0, "total_variation": 1e-3},
    solver=jaxstyle.LBFGS(num_steps=3),
    pyramid=None,
)

STATIC = ("tile", "style_weights")


@pytest.fixture(scope="module")
def prepare(random_params, pictures):
    """Targets of the recipe; options are those of `prepare_targets`."""
    # One program, since each operation by itself would be a program of its own.
    return functools.partial(
        jax.jit(jaxstyle.prepare_targets, static_argnums=(0, 2), static_argnames=STATIC),
        RECIPE.network,
        random_params,
        RECIPE.terms,
        pictures(0, 32, 40),
        (pictures(1, 24, 28), pictures(2, 32, 32)),
    )


@pytest.fixture(scope="module")
def targets(prepare):
    return prepare()


@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"style_weights": (0.25, 0.75)},
        {"masks": np.stack([np.eye(32, 40), 1 - np.eye(32, 40)]).astype(np.float32)},
    ],
    ids=["plain", "shares", "masks"],
)
def test_it_is_what_evaluate_computes(prepare, random_params, pictures, options, tile):
    targets = prepare(**options, tile=tile)
    image = pictures(3, 32, 40)
    weights = {**RECIPE.weights, "style": 7.0}
    fun = jaxstyle.objective(RECIPE, random_params, targets, weights={"style": 7.0}, tile=tile)
    value, per_term = fun(image)
    expected = jaxstyle.evaluate(
        RECIPE.network, random_params, RECIPE.terms, targets, weights, image, tile=tile
    )
    np.testing.assert_array_equal(value, expected[0])
    assert per_term.keys() == expected[1].keys()
    for name, loss in per_term.items():
        np.testing.assert_array_equal(loss, expected[1][name])


def test_it_is_the_loss_that_stylize_reports(prepare, random_params, pictures, targets):
    result = jaxstyle.stylize(random_params, *prepare.args[3:], recipe=RECIPE)
    fun = jaxstyle.objective(RECIPE, random_params, targets)
    value, per_term = fun(result.image)  # not quite: the result is clipped
    start, _ = fun(pictures(0, 32, 40))
    assert value < 0.9 * start
    np.testing.assert_allclose(value, result.loss, rtol=0.05)
    assert per_term.keys() == result.term_losses.keys()


def test_jit_takes_it_as_an_argument_and_compiles_once(random_params, pictures, targets):
    traced = []

    @jax.jit
    def value(fun, image):
        traced.append(fun)
        return fun(image)[0]

    image = jnp.asarray(pictures(3, 32, 40))
    for weight in (1.0, 2.0):
        recipe = dataclasses.replace(RECIPE, weights={**RECIPE.weights, "style": weight})
        fun = jaxstyle.objective(recipe, random_params, targets)
        np.testing.assert_allclose(value(fun, image), fun(image)[0], rtol=1e-5)
        np.testing.assert_allclose(jax.jit(fun)(image)[0], fun(image)[0], rtol=1e-5)
    assert len(traced) == 1


def test_vmap_and_grad(random_params, pictures, targets):
    fun = jaxstyle.objective(RECIPE, random_params, targets)
    images = jnp.stack([pictures(i, 32, 40) for i in (3, 4)])
    values, per_term = jax.jit(jax.vmap(fun))(images)
    assert values.shape == per_term["style"].shape == (2,)
    np.testing.assert_allclose(values[1], fun(images[1])[0], rtol=1e-5)

    gradient, _ = jax.jit(jax.grad(fun, has_aux=True))(images[0])
    direction = jnp.asarray(np.random.default_rng(0).normal(size=gradient.shape), jnp.float32)
    slope_of = lambda *pair: jax.jvp(lambda image: fun(image)[0], *pair)[1]  # noqa: E731
    slope = jax.jit(slope_of)((images[0],), (direction,))
    np.testing.assert_allclose(jnp.vdot(gradient, direction), slope, rtol=1e-3)

    # Of weights, which are leaves of the function: the losses themselves.
    of_fun = jax.jit(jax.grad(lambda fun: fun(images[0])[0]))(fun)
    for name, loss in fun(images[0])[1].items():
        np.testing.assert_allclose(of_fun.keywords["weights"][name], loss, rtol=1e-5)


def test_minimize_and_optax_minimize_it(random_params, pictures, targets):
    fun = jaxstyle.objective(RECIPE, random_params, targets)
    start = jnp.asarray(pictures(0, 32, 40))
    image, trace = jaxstyle.minimize(fun, start, solver=RECIPE.solver, has_aux=True)
    assert trace.loss[-1] < 0.9 * fun(start)[0]
    np.testing.assert_allclose(fun(image)[0], trace.loss.min(), rtol=1e-5)

    optimizer = optax.adam(0.02)

    @jax.jit
    def step(fun, image, state):
        (value, _), gradient = jax.value_and_grad(fun, has_aux=True)(image)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(image, updates), state, value

    image, state, values = start, optimizer.init(start), []
    for _ in range(4):
        image, state, value = step(fun, image, state)
        values.append(float(value))
    assert values == sorted(values, reverse=True)


def test_minimize_compiles_once_and_takes_its_arrays_as_arguments(random_params, pictures, targets):
    compiled = []

    def listen(event, seconds, **_):
        if event.endswith("/backend_compile_duration"):
            compiled.append(event)

    def run(image, **weights):
        fun = jaxstyle.objective(RECIPE, random_params, targets, weights=weights)
        return jaxstyle.minimize(fun, image, solver=RECIPE.solver, has_aux=True)[1].loss

    start = jnp.asarray(pictures(0, 32, 40))
    first = run(start)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        second = run(start, style=0.0)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
    assert second[0] < first[0]
    np.testing.assert_allclose(jax.jit(run)(start), first, rtol=1e-4)


def test_mistakes_are_found_at_the_call(random_params, targets):
    with pytest.raises(ValueError, match="must be a Recipe"):
        jaxstyle.objective("gatys", random_params, targets)
    with pytest.raises(ValueError, match="content, style, total_variation"):
        jaxstyle.objective(RECIPE, random_params, {"content": targets["content"]})
    with pytest.raises(ValueError, match="content, style, total_variation"):
        jaxstyle.objective(RECIPE, random_params, targets, weights={"styles": 1.0})
    with pytest.raises(ValueError, match="the weight of style has shape"):
        jaxstyle.objective(RECIPE, random_params, targets, weights={"style": np.ones(2)})
    with pytest.raises(ValueError, match="tile must be"):
        jaxstyle.objective(RECIPE, random_params, targets, tile=0)


def test_a_term_with_the_factor_0_is_not_computed(targets, random_params, pictures):
    """Nor the layers that only it reads; its loss is 0."""
    split = split_arrays(RECIPE.terms)[0]
    arguments = random_params, targets, dict(RECIPE.weights)
    for factors in ({}, {"style": 0.0}):
        problem = Problem(RECIPE.network, split, factors=FrozenDict(factors))
        text = str(jax.make_jaxpr(problem)(pictures(0, 32, 40), *arguments))
        assert ("16,20,128]" in text) == (not factors)  # relu2_1
    _, losses = jax.jit(problem)(pictures(2, 32, 40), *arguments)
    assert losses["style"] == 0 < losses["content"]
