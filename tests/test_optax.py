"""`Optax`: transformations of optax as solvers, against loops written by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import SHALLOW
from test_lbfgs import bowl, count_compilations

import jaxstyle
from jaxstyle import Adam, Optax, Status, minimize
from jaxstyle.solvers.optax import as_solver
from jaxstyle.solvers.protocol import split_settings, with_settings

# A warm-up, whose first update is zero, then a decay; the norm couples all pixels of a picture.
CHAIN = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.scale_by_adam(b2=0.99),
    optax.scale_by_schedule(optax.warmup_cosine_decay_schedule(0.0, -0.02, 3, 10)),
)
RECIPE = dataclasses.replace(SHALLOW, pyramid=None, grain=0.0)
INJECTED = optax.inject_hyperparams(optax.adam)(
    learning_rate=0.01, b1=optax.linear_schedule(0.5, 0.9, 5)
)


def by_hand(transformation, value_and_grad, x, number, **extra):
    """Losses and iterates of a loop as optax's documentation writes it."""
    state = transformation.init(x)
    update = optax.with_extra_args_support(transformation).update
    step = jax.jit(update)
    losses, iterates = [], [x]
    value, grad = value_and_grad(x)
    for _ in range(number):
        updates, state = step(grad, state, x, **extra)
        x = optax.apply_updates(x, updates)
        value, grad = value_and_grad(x)
        losses.append(float(value))
        iterates.append(x)
    return losses, iterates


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "transformation",
    [
        CHAIN,
        INJECTED,
        optax.sgd(1e-3, momentum=0.9, nesterov=True),
        optax.adamw(optax.cosine_decay_schedule(0.1, 12), weight_decay=0.1),
        optax.MultiSteps(optax.adam(0.05), 3).gradient_transformation(),
        optax.chain(optax.add_noise(0.1, 0.5, key=0), optax.sgd(1e-3)),
    ],
    ids=["chain", "injected", "sgd", "adamw", "multisteps", "noise"],
)
def test_minimize_is_a_loop_written_by_hand(transformation, dtype):
    with jax.enable_x64(dtype == "float64"):
        start = jnp.linspace(-1, 1, 6, dtype=dtype)
        solver = Optax(transformation, num_steps=15)
        found, trace = minimize(rosenbrock, start, solver=solver)
        value_and_grad = jax.jit(jax.value_and_grad(rosenbrock))
        losses, iterates = by_hand(transformation, value_and_grad, start, 15)
        assert found.dtype == dtype
        rtol = 1e-5 if dtype == "float32" else 1e-7  # optax computes schedules in float32
        np.testing.assert_allclose(trace.loss, losses, rtol=rtol)
        best = iterates[1 + int(np.argmin(losses))]
        np.testing.assert_allclose(found, best, rtol=rtol, atol=1e-6)
        assert int(trace.num_evaluations) == 16
        assert Status(int(trace.status)) == Status.STEP_LIMIT


@pytest.mark.long
def test_what_looks_at_the_loss_is_given_it():
    """A rule that needs the value, and one whose line search needs the function."""
    with jax.enable_x64(True):
        start = jnp.linspace(-1, 1, 6)
        for transformation in (optax.polyak_sgd(0.1), optax.lbfgs(memory_size=4)):
            found, trace = minimize(rosenbrock, start, solver=Optax(transformation, num_steps=30))
            x, state, values = start, transformation.init(start), []
            for _ in range(30):
                value, grad = jax.value_and_grad(rosenbrock)(x)
                updates, state = jax.jit(transformation.update, static_argnames="value_fn")(
                    grad, state, x, value=value, grad=grad, value_fn=rosenbrock
                )
                x = optax.apply_updates(x, updates)
                values.append(rosenbrock(x))
            # A line search makes rounding errors grow from step to step.
            np.testing.assert_allclose(trace.loss[:10], values[:10], rtol=1e-8)
            np.testing.assert_allclose(trace.loss, values, rtol=1e-6)
            assert float(rosenbrock(found)) < 0.2 * float(rosenbrock(start))


def test_adam_is_optax_of_adam():
    """`Adam` is made of the same parts; its numbers are traced and round differently."""
    start, target = jnp.zeros((3, 4, 1)), jnp.linspace(0, 1, 12).reshape(3, 4, 1)
    for settings in ({}, {"clip": True, "average": 0.9}, {"tolerance": 1e-3, "patience": 2}):
        same = Optax(optax.adam(0.02, b2=0.99), num_steps=30, **settings)
        expected = minimize(bowl, start, target, solver=Adam(30, **settings))
        found = minimize(bowl, start, target, solver=same)
        assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
        jax.tree.map(assert_close, found, expected)


def test_an_undone_step_does_not_restart_the_schedule():
    """A wall of NaN: state and iterate stay as they were, and updates are divided by ten."""
    rates = (0.0, 0.1, 0.5, 0.2, 0.1, 0.1)
    schedule = lambda count: -jnp.asarray(rates)[count]  # noqa: E731
    solver = Optax(optax.scale_by_schedule(schedule), num_steps=6)
    slope = lambda x: jnp.where(x < 0.55, jnp.nan, x)  # noqa: E731
    found, trace = minimize(slope, jnp.ones(()), solver=solver)
    # The third step is tried again a tenth as long.
    np.testing.assert_allclose(trace.loss, [1, 0.9, 0.9, 0.85, 0.83, 0.82], rtol=1e-5)
    np.testing.assert_allclose(found, 0.82, rtol=1e-5)
    assert Status(int(trace.status)) == Status.RECOVERED


def test_one_value_reuses_its_program():
    start, target = jnp.ones(4), jnp.zeros(4)
    solver = Optax(INJECTED, num_steps=5)
    minimize(bowl, start, target, solver=solver)
    others = [
        Optax(INJECTED, num_steps=5),
        dataclasses.replace(solver, hyperparams={"learning_rate": 0.5}, num_steps=5, tolerance=0.1),
        Optax(INJECTED, num_steps=5, hyperparams={"learning_rate": 0.3, "eps": 1e-3}),
    ]
    for other in others:  # each set of names is a program
        minimize(bowl, start, target, solver=other)
    again = dataclasses.replace(others[2], hyperparams={"learning_rate": 0.2, "eps": 0.1})
    for other in (*others, again):
        run = lambda other=other: minimize(bowl, start, target, solver=other)  # noqa: E731
        assert count_compilations(run) == 0
        rebuilt = with_settings(*split_settings(other, jnp.float32))
        assert rebuilt.hyperparams.keys() == other.hyperparams.keys()
    assert hash(solver) == hash(others[0])
    assert solver == others[0]
    assert Optax(optax.adam(1e-2)) != Optax(optax.adam(1e-2))
    # By itself it means the same.
    assert as_solver(INJECTED) == Optax(INJECTED)
    assert as_solver(solver) is solver


def test_a_sweep_over_injected_numbers_is_a_vmap():
    start, target = jnp.ones(4), jnp.linspace(0, 0.5, 4)
    rates = jnp.asarray([0.01, 0.1, 0.3])

    def run(rate, make):
        return minimize(bowl, start, target, solver=make(rate))[1].loss

    injected = jax.vmap(
        lambda rate: run(
            rate, lambda rate: Optax(INJECTED, num_steps=6, hyperparams={"learning_rate": rate})
        )
    )(rates)
    closed_over = lambda rate: Optax(  # noqa: E731
        optax.inject_hyperparams(optax.adam)(rate, b1=optax.linear_schedule(0.5, 0.9, 5)),
        num_steps=6,
    )
    for rate, trace in zip(rates, injected, strict=True):
        np.testing.assert_allclose(trace, run(rate, closed_over), rtol=1e-4, atol=1e-6)
    assert float(injected[0, 0]) > float(injected[1, 0]) > float(injected[2, 0])


def test_settings_are_checked():
    for make, hint in (
        (lambda: Optax("adam"), "must be from optax"),
        (lambda: Optax(CHAIN, num_steps=0), "num_steps of Optax must be .*positive"),
        (lambda: Optax(CHAIN, average=1.0), "average must be at least 0"),
        (lambda: Optax(CHAIN, tolerance=-1.0), "tolerance must not be negative"),
        (lambda: Optax(CHAIN, hyperparams=0.1), "dict of numbers"),
        (lambda: Optax(INJECTED, hyperparams={"eps": "small"}), "eps must be a number"),
        (lambda: Optax(INJECTED, hyperparams={"eps": jnp.ones(2)}), "eps must be a number"),
        (lambda: Optax(CHAIN, hyperparams={"eps": 1.0}), "none: use optax.inject_hyperparams"),
        # The schedule would put its own number there.
        (lambda: Optax(INJECTED, hyperparams={"b1": 0.1}), "are b2, eps, eps_root, learning_rate"),
    ):
        with pytest.raises(ValueError, match=hint):
            make()


@pytest.fixture
def pair(double):
    params, picture = double
    return params, picture(0, 32, 48), picture(1, 32, 40)


def painted_by_hand(params, content, style, number):
    targets = jaxstyle.prepare_targets(RECIPE.network, params, RECIPE.terms, content, style)

    def loss(x):
        network, terms = RECIPE.network, RECIPE.terms
        return jaxstyle.evaluate(network, params, terms, targets, RECIPE.weights, x)[0]

    return by_hand(CHAIN, jax.jit(jax.value_and_grad(loss)), jnp.asarray(content), number)


@pytest.mark.long
def test_pictures_are_painted_as_by_hand(pair):
    """A single picture, by windows, in a batch, and in float32."""
    params, content, style = pair
    losses, iterates = painted_by_hand(*pair, 8)
    solver = Optax(CHAIN, num_steps=8)
    options = {"recipe": RECIPE, "solver": solver}
    one = jaxstyle.stylize(*pair, **options)
    np.testing.assert_allclose(one.trace, losses, rtol=1e-9)
    best = iterates[1 + int(np.argmin(losses))]
    # Adam divides by the size of a gradient, which amplifies rounding where it nearly vanishes. A
    # step changes a pixel by up to 2e-2.
    np.testing.assert_allclose(one.image, np.clip(best, 0, 1), atol=1e-7)

    tiled = jaxstyle.stylize(*pair, tile=16, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7), tiled, one)

    contents, styles = np.stack([content, content[::-1]]), np.stack([style, style])
    batch = jaxstyle.stylize_batch(params, contents, styles, **options)
    first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], batch) for i in range(2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-7), first, one)
    assert float(second.loss) != float(one.loss)

    single = jax.tree.map(np.float32, (params, content, style))
    found = jaxstyle.stylize(*single, **options)
    assert found.image.dtype == jnp.float32
    np.testing.assert_allclose(found.trace, losses, rtol=1e-3)


@pytest.mark.long
def test_a_pyramid_starts_anew_and_goes_on_from_a_checkpoint(pair):
    """By a recipe that holds a transformation as it is."""
    pyramid = jaxstyle.Pyramid(coarsest=24, steps=(3,))
    recipe = dataclasses.replace(RECIPE, solver=Optax(CHAIN, num_steps=4), pyramid=pyramid)
    kept = {}

    def keep(found):
        leaves = jax.device_get(jax.tree.leaves(found.state))
        kept[4 * int(found.stage) + int(found.steps)] = found._replace(state=leaves)

    whole = dict(jaxstyle.stylize_steps(*pair, recipe=recipe, every=2, keep=keep))
    assert list(whole) == [0, 2, 3, 5, 7]
    # The first update of the warm-up is zero, at each size.
    trace = whole[7].trace
    assert trace[1] != trace[0]
    np.testing.assert_allclose(trace[3], jaxstyle.stylize(*pair, recipe=recipe).trace[3])
    for number, steps in ((2, (2, 3, 5, 7)), (6, (5, 7))):
        rest = dict(jaxstyle.stylize_steps(*pair, recipe=recipe, every=2, checkpoint=kept[number]))
        assert tuple(rest) == steps
        jax.tree.map(np.testing.assert_array_equal, rest[7], whole[7])


def test_a_transformation_by_itself_is_a_solver(pair):
    steps = jaxstyle.stylize_steps(*pair, recipe=RECIPE, solver=CHAIN, every=1)
    total = Optax(CHAIN).num_steps
    for made, result in steps:
        assert result.trace.shape == (total,)
        if made == 2:
            break
    losses, _ = painted_by_hand(*pair, 2)
    np.testing.assert_allclose(result.trace[:2], losses, rtol=1e-9)
    assert dataclasses.replace(RECIPE, solver=CHAIN).solver == Optax(CHAIN)
