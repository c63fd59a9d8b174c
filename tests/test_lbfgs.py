"""The step of `LBFGS`, its derivatives, and settings that are arguments of a compiled program."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import LBFGS, Adam, ScipyLBFGSB, Status, minimize
from jaxstyle.solvers.frequencies import energy, scale_frequencies
from jaxstyle.solvers.protocol import split_settings, with_settings

SHAPE = (6, 7, 2)


def test_smooth_steps_are_those_in_scaled_frequencies():
    """x = x0 + S z: algorithm 7.4 of Nocedal & Wright for z, in NumPy, S written as a matrix."""
    rng = np.random.default_rng(0)
    start, curvature = rng.normal(size=84), rng.uniform(1, 5, 84)
    with jax.enable_x64(True):
        basis = jnp.eye(84).reshape(-1, *SHAPE)
        to_x = np.asarray(jax.vmap(lambda e: scale_frequencies(e, -0.5).ravel())(basis)).T

    def value(x):
        return 0.5 * np.sum(curvature * x**2) + np.sum(np.cos(x))

    def gradient(z):
        x = start + to_x @ z
        return to_x.T @ (curvature * x - np.sin(x))

    z, pairs, values = np.zeros(84), [], []
    for _ in range(12):
        g = gradient(z)
        q, alphas = -g, []
        for s, y in reversed(pairs):
            alphas.append(s @ q / (s @ y))
            q = q - alphas[-1] * y
        if pairs:
            s, y = pairs[-1]
            q = q * (s @ y) / (y @ y)
        else:
            q = q * 1e-3 / np.mean(np.abs(to_x @ q))
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q = q + (alpha - y @ q / (s @ y)) * s
        pairs = [*pairs, (q, gradient(z + q) - g)][-4:]
        z = z + q
        values.append(value(start + to_x @ z))

    with jax.enable_x64(True):
        weight = jnp.asarray(curvature.reshape(SHAPE))
        found, trace = minimize(
            lambda x: 0.5 * jnp.sum(weight * x**2) + jnp.sum(jnp.cos(x)),
            jnp.asarray(start.reshape(SHAPE)),
            solver=LBFGS(num_steps=12, history_size=4, first_step=1e-3, smoothness=0.5),
        )
    assert values[-1] < values[0] - 1
    np.testing.assert_allclose(trace.loss, values, rtol=1e-10)
    np.testing.assert_allclose(found.ravel(), start + to_x @ z, atol=1e-9)


def test_a_history_of_pictures_has_matrices():
    """A row of a matrix is a row of one channel."""

    def loss(x):
        return jnp.sum(jnp.cosh(x)), {}

    solver, start = LBFGS(num_steps=2, history_size=3), jnp.linspace(-1, 1, 84).reshape(SHAPE)
    first = solver.step(loss, solver.start(loss, start))
    second = solver.step(loss, first)
    height, width, channels = SHAPE
    for history, new, old in (
        (second.inner.s_history, second.x, first.x),
        (second.inner.y_history, second.inner.grad, first.inner.grad),
    ):
        rows = [(new - old)[h, :, c] for h in range(height) for c in range(channels)]
        assert history.shape == (3, height * channels, width)
        np.testing.assert_array_equal(history[0], rows)
        assert np.any(history[0])
        assert not np.any(history[1:])


@pytest.mark.parametrize("shape", [(6, 7, 2), (5, 8, 1), (1, 4, 3), (4, 1, 1)])
def test_the_energy_is_a_product_with_what_is_scaled(shape):
    with jax.enable_x64(True):
        image = jnp.asarray(np.random.default_rng(0).normal(size=shape))
        expected = jnp.vdot(image, scale_frequencies(image, -0.5))
        np.testing.assert_allclose(energy(image, -0.5), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "solver",
    [
        LBFGS(num_steps=4, history_size=3),
        LBFGS(num_steps=4, history_size=2, smoothness=0.25, bounds=(0.15, 2.0)),
        Adam(num_steps=4, average=0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("undone", [False, True])
def test_steps_have_derivatives_in_both_modes(solver, undone):
    """Also where a step is undone, and at a start that is an optimum; against differences."""
    shape = (2, 2, 1)
    weights = jnp.arange(1.0, 5.0).reshape(shape)

    def fun(x, target):
        value = jnp.sum(weights * (x - target) ** 2)
        return jnp.where(undone & (x[0, 0, 0] < 0.995), jnp.inf, value), ()

    def run(target):
        state = solver.start(fun, jnp.ones(shape, target.dtype), target)
        step = lambda state, _: (solver.step(fun, state, target), None)  # noqa: E731
        return jnp.sum(jax.lax.scan(step, state, length=4)[0].best_x ** 2)

    with jax.enable_x64(True):
        target = jnp.asarray([0.1, 0.2, 0.3, 0.4]).reshape(shape)
        gradient = jax.jit(jax.grad(run))
        backward = gradient(target)
        np.testing.assert_allclose(backward, jax.jit(jax.jacfwd(run))(target), rtol=1e-8)
        value, step = jax.jit(run), 1e-6
        for i in range(4):
            move = step * np.eye(4)[i].reshape(shape)
            difference = (value(target + move) - value(target - move)) / (2 * step)
            np.testing.assert_allclose(backward.ravel()[i], difference, rtol=1e-5, atol=1e-8)
        # Adam's, optax's, has none where the root of its second moment is zero.
        if isinstance(solver, LBFGS):
            assert np.isfinite(gradient(jnp.ones(shape))).all()


def count_compilations(run):
    compiled = []

    def listen(event, seconds, **_):
        if event.endswith("/backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(compiled)


def bowl(x, target):
    return jnp.sum((x - target) ** 2)


@pytest.mark.parametrize(
    ("first", "others"),
    [
        (
            LBFGS(num_steps=5),
            [
                LBFGS(num_steps=9),
                LBFGS(num_steps=5, first_step=0.5),
                LBFGS(num_steps=6, tolerance=1e-3),
            ],
        ),
        (
            Adam(num_steps=5),
            [
                Adam(num_steps=8, learning_rate=0.5, b1=0.5),
                Adam(num_steps=5, b2=0.9, eps=1e-3, tolerance=0.1),
            ],
        ),
    ],
    ids=["lbfgs", "adam"],
)
def test_minimize_compiles_once_for_all_numbers(first, others):
    start, target = jnp.ones(4), jnp.zeros(4)
    minimize(bowl, start, target, solver=first)
    traces = {}

    def run():
        minimize(bowl, 2 * start, target + 1, solver=first)
        for solver in others:
            traces[solver] = np.asarray(minimize(bowl, start, target, solver=solver)[1].loss)

    jax.block_until_ready((2 * start, target + 1))
    # Traces are cut to another length, which is a small program of its own.
    assert count_compilations(run) <= len(others)
    assert count_compilations(run) == 0
    for solver, trace in traces.items():
        assert trace.shape == (solver.num_steps,)
        # What is split is put together again, and does what it does inside of a program.
        _, inside = jax.jit(lambda solver=solver: minimize(bowl, start, target, solver=solver))()
        np.testing.assert_allclose(trace, inside.loss, rtol=1e-5)
        static, settings = split_settings(solver, jnp.float32)
        again = dataclasses.replace(with_settings(static, settings), num_steps=solver.num_steps)
        for name, value in dataclasses.asdict(solver).items():
            expected = jnp.float32(value) if name in settings else value
            assert getattr(again, name) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda number: LBFGS(num_steps=6, first_step=number),
        lambda number: Adam(num_steps=6, learning_rate=number),
    ],
    ids=["lbfgs", "adam"],
)
def test_a_sweep_over_a_setting_is_a_vmap(make):
    start, target = jnp.ones(4), jnp.linspace(0, 0.5, 4)
    numbers = [0.01, 0.1, 0.3]

    def run(number):
        return minimize(bowl, start, target, solver=make(number))[1].loss

    together = jax.vmap(run)(jnp.asarray(numbers))
    for number, trace in zip(numbers, together, strict=True):
        np.testing.assert_allclose(trace, run(number), rtol=1e-4, atol=1e-6)
    assert float(together[0, 0]) > float(together[1, 0]) > float(together[2, 0])


def test_a_function_that_cannot_be_hashed_is_minimised():
    @dataclasses.dataclass
    class Fun:
        target: float

        def __call__(self, x):
            return jnp.sum((x - self.target) ** 2)

    fun = Fun(1.0)
    for target in (1.0, 2.0):
        fun.target = target
        found, _ = minimize(fun, jnp.zeros(3), solver=LBFGS(num_steps=10))
        np.testing.assert_allclose(found, target, atol=1e-4)


def test_functions_that_hold_tracers_leak_none():
    solver = Adam(num_steps=2)

    def run(target):
        closure = minimize(lambda x: bowl(x, target), jnp.ones(3), solver=solver)[0]
        partial = functools.partial(bowl, target=target)
        return closure, minimize(partial, jnp.ones(3), solver=solver)[0]

    with jax.checking_leaks():
        found = jax.jit(run)(0.5), jax.vmap(run)(jnp.full(1, 0.5))
    expected, _ = minimize(bowl, jnp.ones(3), 0.5, solver=solver)
    for each in jax.tree.leaves(found):
        np.testing.assert_allclose(each.reshape(3), expected, rtol=1e-6)


@pytest.mark.parametrize("solver", [LBFGS(num_steps=2), Adam(num_steps=2), ScipyLBFGSB(1)], ids=str)
def test_what_minimize_cannot_do(solver):
    def run(init, fun=lambda x: jnp.sum(x**2), **options):
        return minimize(fun, init, solver=solver, **options)

    for init, hint in (
        (jnp.ones(3, int), "floating point, not int32"),
        (np.ones(3, bool), "floating point, not bool"),
        (jnp.ones(3, jnp.complex64), "floating point, not complex64"),
        ({"a": jnp.ones(3)}, "ravel_pytree"),
        ([jnp.ones(3), jnp.ones(2)], "ravel_pytree"),
        (None, "ravel_pytree"),
        ("zeros", "one array"),
        (jnp.zeros((0, 3)), "no elements"),
    ):
        with pytest.raises(ValueError, match=hint):
            run(init)
    for fun, hint in (
        (lambda x: x, "scalar"),
        (lambda x: jnp.sum(x) > 0, "scalar"),
        (lambda x: (jnp.sum(x), x), "scalar"),
        (lambda x: None, "scalar"),
    ):
        with pytest.raises(ValueError, match=hint):
            run(jnp.ones(3), fun)
    with pytest.raises(ValueError, match="a pair"):
        run(jnp.ones(3), has_aux=True)
    with pytest.raises(ValueError, match="LBFGS, Adam or ScipyLBFGSB"):
        minimize(bowl, jnp.ones(3), jnp.ones(3), solver="adam")
    found, _ = run(2.0)
    assert found.shape == ()


def test_scipy_says_that_it_runs_on_the_host():
    solver = ScipyLBFGSB(num_steps=1)

    def run(x, target):
        return minimize(bowl, x, target, solver=solver)[0]

    ones = jnp.ones((2, 3))
    for transformed in (jax.jit(run), jax.vmap(run), jax.jacfwd(run)):
        with pytest.raises(ValueError, match="runs on the host"):
            transformed(ones, ones)


def test_settings_of_a_wrong_kind():
    for make, hint in (
        (lambda: LBFGS(num_steps=2.5), "num_steps of LBFGS must be a whole number"),
        (lambda: LBFGS(history_size="10"), "history_size of LBFGS must be a whole number"),
        (lambda: LBFGS(first_step=math.nan), "must be positive"),
        (lambda: LBFGS(first_step=math.inf), "must be positive"),
        (lambda: LBFGS(first_step=jnp.ones(2)), "jax.vmap"),
        (lambda: LBFGS(smoothness=math.nan), "smoothness must be a number"),
        (lambda: LBFGS(bounds=(1.0, 0.0)), "bounds must be None or a tuple"),
        (lambda: LBFGS(bounds=(0.0, math.inf)), "bounds must be None or a tuple"),
        (lambda: LBFGS(bounds=(0.0, math.nan)), "bounds must be None or a tuple"),
        (lambda: LBFGS(bounds=(0.0,)), "bounds must be None or a tuple"),
        (lambda: LBFGS(bounds=[0.0, 1.0]), "bounds must be None or a tuple"),
        (lambda: Adam(learning_rate="0.1"), "learning_rate of Adam must be a number"),
        (lambda: Adam(b1=math.nan), "b1 must be at least 0"),
        (lambda: Adam(tolerance=math.nan), "tolerance must not be negative"),
        (lambda: ScipyLBFGSB(maxfun=1.0), "maxfun of ScipyLBFGSB must be a whole number"),
    ):
        with pytest.raises(ValueError, match=hint):
            make()


@pytest.mark.parametrize(
    "flag",
    [
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.numpy_rank_promotion("raise"),
        lambda: jax.debug_nans(True),
        lambda: jax.debug_infs(True),
        lambda: jax.transfer_guard("disallow"),
        lambda: jax.enable_checks(True),
    ],
    ids=["strict", "rank", "nans", "infs", "guard", "checks"],
)
def test_the_same_under_jax_s_strict_flags(flag):
    solvers = (
        LBFGS(3, history_size=2, smoothness=0.25, history_dtype="bfloat16", tolerance=1e-6),
        Adam(num_steps=3, average=0.9, clip=True),
        ScipyLBFGSB(num_steps=1, maxfun=3),
    )  # fmt: skip
    start, target = np.full((3, 4, 1), 0.5, np.float32), jnp.linspace(0, 1, 12).reshape(3, 4, 1)
    for solver in solvers:
        expected, _ = minimize(bowl, start, target, solver=solver)
        with flag():
            found, trace = minimize(bowl, start, target, solver=solver)
        np.testing.assert_array_equal(found, expected)
        assert int(trace.status) in (Status.STEP_LIMIT, Status.CONVERGED, Status.STALLED)
