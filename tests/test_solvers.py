"""Solvers on problems with a known answer, on hostile ones, and in lockstep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.optimize

from jaxstyle import LBFGS, Adam, RMSprop, ScipyLBFGSB, Status, minimize
from jaxstyle.solvers.frequencies import scale_frequencies
from jaxstyle.solvers.jaxopt import load_jaxopt

SOLVERS = [
    LBFGS(num_steps=60),
    Adam(num_steps=60),
    RMSprop(num_steps=60, learning_rate=0.02),
    ScipyLBFGSB(num_steps=4),
]
LOCKSTEP = SOLVERS[:2]


def ids(solver):
    return type(solver).__name__


def rosenbrock(x, scale=1.0):
    return scale * jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def quadratic(x, diagonal, target):
    return 0.5 * jnp.sum(diagonal * (x - target) ** 2)


@pytest.mark.parametrize("history_dtype", [None, "bfloat16"])
def test_lbfgs_is_textbook_lbfgs(history_dtype):
    """Against algorithm 7.4 of Nocedal & Wright in float64 NumPy, unit steps, no guard needed."""
    if history_dtype and jax.default_backend() != "cpu":
        pytest.skip("in the step that makes a pair, XLA uses it before it is rounded")
    dtype = jnp.dtype(history_dtype or float)
    rounded = lambda x: x.astype(dtype).astype(float)  # noqa: E731
    rng = np.random.default_rng(0)
    diagonal, target = rng.uniform(1, 5, 12), rng.normal(size=12)
    start, first_step, history = np.zeros(12), 1e-3, 4

    gradient = lambda x: diagonal * (x - target)  # noqa: E731
    x, pairs, values = start, [], []
    scale = 1 / np.max(np.abs(gradient(x)))
    for _ in range(15):
        g = scale * gradient(x)
        q, alphas = -g, []
        for s, y in reversed(pairs):
            alphas.append(s @ q / (s @ y))
            q = q - alphas[-1] * y
        if pairs:
            s, y = pairs[-1]
            q = q * (s @ y) / (y @ y)
        else:
            q = q * first_step / np.mean(np.abs(q))
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q = q + (alpha - y @ q / (s @ y)) * s
        new = x + q
        pairs = [*pairs, (rounded(new - x), rounded(scale * gradient(new) - g))][-history:]
        x = new
        values.append(0.5 * np.sum(diagonal * (x - target) ** 2))

    with jax.enable_x64(True):
        solver = LBFGS(15, history, first_step, history_dtype=history_dtype)
        found, trace = minimize(
            quadratic, jnp.asarray(start), jnp.asarray(diagonal), jnp.asarray(target), solver=solver
        )
        np.testing.assert_allclose(trace.loss, values, rtol=1e-6)
        np.testing.assert_allclose(found, x, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lbfgs_reaches_what_scipy_reaches(dtype):
    with jax.enable_x64(dtype == "float64"):
        start = jnp.full((30,), -1.2, dtype)
        found, trace = minimize(rosenbrock, start, solver=LBFGS(num_steps=400))
        assert found.dtype == dtype
        value = jax.jit(jax.value_and_grad(rosenbrock))
        reference = scipy.optimize.minimize(
            lambda x: tuple(np.asarray(v, np.float64) for v in value(jnp.asarray(x, dtype))),
            np.full(30, -1.2),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": 400, "maxiter": 400},
        )
        assert float(rosenbrock(found)) <= max(1.02 * reference.fun, 1e-6)
        assert int(trace.num_evaluations) <= 401


@pytest.mark.parametrize("solver", SOLVERS, ids=ids)
def test_a_quadratic_is_solved(solver):
    diagonal, target = jnp.linspace(1, 3, 20), jnp.linspace(-0.5, 0.5, 20)
    start = jnp.zeros(20)
    found, trace = minimize(quadratic, start, diagonal, target, solver=solver)
    first, last = (float(quadratic(x, diagonal, target)) for x in (start, found))
    assert last < 1e-2 * first
    assert trace.loss.shape == (solver.num_steps,)
    np.testing.assert_allclose(jnp.min(trace.loss), last, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("solver", LOCKSTEP, ids=ids)
def test_one_evaluation_a_step(solver):
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return rosenbrock(x)

    _, trace = jax.jit(lambda x: minimize(counted, x, solver=solver))(jnp.zeros(4))
    jax.effects_barrier()
    assert len(calls) == int(trace.num_evaluations) == solver.num_steps + 1


@pytest.mark.parametrize("solver", LOCKSTEP, ids=ids)
def test_lanes_of_a_batch_are_independent(solver):
    """A lane that is done at once, one that meets NaN, and two ordinary ones."""

    def fun(x, kind):
        hole = jnp.where(jnp.any(x > 0.5), jnp.nan, jnp.sum((x - 0.8) ** 2))
        easy = jnp.sum(jnp.arange(1, 7) * jnp.log(jnp.cosh(x - 1)))
        return jnp.where(kind == 0, 0.0, jnp.where(kind == 1, hole, easy))

    with jax.enable_x64(True):  # so that 60 steps do not make rounding large
        starts = jnp.stack([jnp.linspace(-1, 0.3, 6) * k for k in (1.0, 0.5, 1.0, -1.0)])
        kinds = jnp.arange(4)
        run = jax.jit(lambda x, kind: minimize(fun, x, kind, solver=solver))
        together, trace = jax.jit(jax.vmap(run))(starts, kinds)
        for i in range(4):
            alone, trace_alone = run(starts[i], kinds[i])
            np.testing.assert_allclose(together[i], alone, rtol=1e-6)
            assert int(trace.status[i]) == int(trace_alone.status)
    assert Status(int(trace.status[0])) == Status.CONVERGED
    assert int(trace.num_evaluations[0]) == 1
    assert int(trace.num_evaluations[2]) > 1
    assert np.isfinite(together).all()
    assert np.isfinite(trace.loss).all()


@pytest.mark.parametrize("solver", SOLVERS, ids=ids)
def test_a_start_that_is_not_finite_comes_back(solver):
    start = jnp.linspace(0, 1, 5)
    found, trace = minimize(lambda x: jnp.sum(x) * jnp.nan, start, solver=solver)
    np.testing.assert_array_equal(found, start)
    assert Status(int(trace.status)) == Status.NON_FINITE_START
    assert not np.isnan(trace.loss).any()


@pytest.mark.parametrize("solver", LOCKSTEP, ids=ids)
def test_a_wall_of_nan_is_survived_and_told(solver):
    fun = lambda x: jnp.sum(-jnp.log(x) + 3 * x)  # noqa: E731
    start = jnp.full((4,), 3e-3)
    found, trace = minimize(fun, start, solver=solver)
    assert float(fun(found)) < float(fun(start))
    assert np.isfinite(found).all()

    cliff = lambda x: jnp.sum(jnp.sqrt(1 - 2e3 * x))  # noqa: E731  NaN right behind the start
    found, trace = minimize(cliff, jnp.full((4,), 4.9e-4), solver=solver)
    assert np.isfinite(found).all()
    assert Status(int(trace.status)) in (Status.RECOVERED, Status.STALLED)


@pytest.mark.parametrize("solver", LOCKSTEP, ids=ids)
def test_tolerance_stops_when_x_no_longer_changes(solver):
    fun = lambda x: jnp.sum(jnp.logspace(0, 4, 50) * (x - 1) ** 2)  # noqa: E731
    with jax.enable_x64(True):
        start, tolerance = jnp.zeros(50), 1e-3
        tolerant = type(solver)(num_steps=400, tolerance=tolerance, patience=10)
        found, trace = minimize(fun, start, solver=tolerant)
        assert Status(int(trace.status)) == Status.CONVERGED
        assert (int(trace.num_evaluations) - 1) % 10 == 0
        shorter = type(solver)(num_steps=int(trace.num_evaluations) - 11)
        before, _ = minimize(fun, start, solver=shorter)
        assert float(jnp.mean(jnp.abs(found - before))) < tolerance
    assert int(trace.num_evaluations) < 401


def test_an_undone_step_is_no_sign_of_convergence():
    wall = lambda x: jnp.sum(jnp.where(x < 0.95, jnp.inf, x**2))  # noqa: E731
    solver = LBFGS(num_steps=20, first_step=0.1, tolerance=1e-9, patience=1)
    found, trace = minimize(wall, jnp.ones(3), solver=solver)
    assert trace.loss[0] == 3  # the first step led through the wall
    assert float(found.max()) < 0.995
    assert Status(int(trace.status)) != Status.CONVERGED


def test_scipy_compiles_a_function_once():
    traced = []

    def fun(x, scale):
        traced.append(x)
        return jnp.sum(scale * (x - 1) ** 2)

    solver = ScipyLBFGSB(num_steps=2, maxfun=5)
    for scale in (1.0, 2.0, 3.0):
        found, _ = minimize(fun, jnp.zeros(4), jnp.asarray(scale), solver=solver)
        np.testing.assert_allclose(found, 1, atol=1e-5)
        if scale == 1:
            once = len(traced)
    # The start's shapes are asked for without compiling, each time.
    assert len(traced) <= once + 2


def wild(x, matrix, shift, scale, kind):
    """A smooth or not so smooth function, one out of nine, and the sum of its terms' sizes."""
    y = matrix @ (x - shift)
    kinds = [
        lambda: [y**2],
        lambda: [y**4],
        lambda: [jnp.log1p(y**2)],
        lambda: [jnp.exp(x)],
        lambda: [jnp.abs(y) ** 1.5, jnp.sin(7 * x)],
        lambda: [jnp.sqrt(x + 1), -x],  # NaN where x < -1
        lambda: [-x],  # unbounded
        lambda: [0 * x],  # flat
        lambda: [x**3],  # unbounded
    ]
    terms = jnp.stack(kinds[kind]())
    return scale * jnp.sum(terms), scale * jnp.sum(jnp.abs(terms))


@pytest.mark.parametrize("solver", [LBFGS(num_steps=40), Adam(num_steps=40)], ids=ids)
def test_random_problems_of_absurd_scales(solver):
    """207 problems. No NaN leaves the solver, the loss never ends above its start, and the status
    says what happened."""
    seen, n, number = set(), 12, 23
    for kind in range(9):
        rng = np.random.default_rng(kind)
        start = rng.normal(size=(number, n)) * 10.0 ** rng.integers(-3, 3, size=(number, 1))
        matrix = rng.normal(size=(number, n, n)) * 10.0 ** rng.uniform(-3, 3, (number, 1, n))
        shift = rng.normal(size=(number, n))
        scale = 10.0 ** rng.integers(-12, 13, size=number)
        start, matrix, shift, scale = (
            jnp.asarray(a, jnp.float32) for a in (start, matrix, shift, scale)
        )
        fun = functools.partial(wild, kind=kind)
        run = lambda x, *args, fun=fun: minimize(  # noqa: E731
            lambda *args: fun(*args)[0], x, *args, solver=solver
        )
        found, trace = jax.jit(jax.vmap(run))(start, matrix, shift, scale)
        (first, size), (last, _) = (jax.vmap(fun)(x, matrix, shift, scale) for x in (start, found))
        assert np.isfinite(found).all()
        assert not np.isnan(trace.loss).any()
        for i, code in enumerate(np.asarray(trace.status)):
            status = Status(int(code))
            seen.add(status)
            if status == Status.NON_FINITE_START:
                np.testing.assert_array_equal(found[i], start[i])
            else:
                # The solver's program may round each of the terms otherwise.
                assert float(last[i]) <= float(first[i]) + 1e-5 * float(size[i])
    assert {Status.STEP_LIMIT, Status.CONVERGED, Status.NON_FINITE_START} <= seen
    assert isinstance(solver, Adam) or Status.RECOVERED in seen


@pytest.mark.parametrize(
    "shape",
    [
        *[pytest.param(shape, marks=pytest.mark.long) for shape in ((8, 12, 3), (7, 9, 1))],
        *[(5, 4, 2), (1, 4, 3), (4, 1, 1)],
    ],
)
@pytest.mark.parametrize("exponent", [-0.5, 0.0, 1.0])
def test_frequencies_are_scaled(shape, exponent):
    """Against SciPy's cosine transform; and the map is symmetric, as the solver needs."""
    rng = np.random.default_rng(0)
    image, other = rng.normal(size=(2, *shape))
    height, width, _ = shape
    y, x = np.arange(height)[:, None] / (2 * height), np.arange(width)[None] / (2 * width)
    frequency = np.maximum(np.hypot(y, x), 0.5 / max(height, width))
    spectrum = scipy.fft.dctn(image, axes=(0, 1), norm="ortho")
    spectrum = spectrum * ((2 * frequency) ** exponent)[..., None]
    expected = scipy.fft.idctn(spectrum, axes=(0, 1), norm="ortho")
    with jax.enable_x64(True):
        found = scale_frequencies(jnp.asarray(image), exponent)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        swapped = jnp.vdot(image, scale_frequencies(jnp.asarray(other), exponent))
        np.testing.assert_allclose(jnp.vdot(found, other), swapped, rtol=1e-10)
    assert scale_frequencies(jnp.asarray(image, jnp.float32), exponent).dtype == jnp.float32


def test_smooth_lbfgs_is_lbfgs_in_other_coordinates():
    """x = A z, with A written out as a matrix, and plain LBFGS on z."""
    shape = (6, 7, 1)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        start = jnp.asarray(rng.normal(size=shape))
        curvature = jnp.asarray(rng.uniform(1, 5, shape))

        def fun(x):
            return 0.5 * jnp.sum(curvature * x**2) + jnp.sum(jnp.cos(x))

        basis = jnp.eye(start.size).reshape(-1, *shape)
        to_x = jax.vmap(lambda e: scale_frequencies(e, -0.5).ravel())(basis).T
        solver = LBFGS(num_steps=12, history_size=4, first_step=1e-3)
        smooth = LBFGS(num_steps=12, history_size=4, first_step=1e-3, smoothness=0.5)
        found, trace = minimize(fun, start, solver=smooth)

        def fun_of_z(z):
            return fun((to_x @ z).reshape(shape))

        # The first steps differ in what `first_step` is the size of; mend that.
        z = jnp.linalg.solve(to_x, start.ravel())
        gradient = jax.grad(fun_of_z)(z)
        in_x = jnp.mean(jnp.abs(to_x @ gradient))
        same = jnp.mean(jnp.abs(gradient)) / in_x
        solver = LBFGS(num_steps=12, history_size=4, first_step=float(1e-3 * same))
        expected, expected_trace = minimize(fun_of_z, z, solver=solver)
        np.testing.assert_allclose(trace.loss, expected_trace.loss, rtol=1e-6)
        np.testing.assert_allclose(found.ravel(), to_x @ expected, atol=1e-6)


def test_scipy_runs_restart_and_count():
    solver = ScipyLBFGSB(num_steps=3, maxfun=5)
    x, expected = np.full(10, -1.2), []
    with jax.enable_x64(True):
        found, trace = minimize(rosenbrock, jnp.asarray(x), solver=solver)
        value = jax.jit(jax.value_and_grad(rosenbrock))
        for _ in range(3):
            x = scipy.optimize.minimize(
                lambda x: tuple(map(np.asarray, value(x))),
                x,
                jac=True,
                method="L-BFGS-B",
                options={"maxfun": 5, "maxcor": 10},
            ).x
            expected.append(float(value(x)[0]))
    np.testing.assert_allclose(trace.loss, expected, rtol=1e-6)
    np.testing.assert_allclose(found, x, atol=1e-6)
    assert 3 * 5 <= int(trace.num_evaluations) <= 1 + 3 * (5 + 20 + 1)


def test_rmsprop_is_that_of_pytorch():
    """Its documentation's formula, in NumPy: eps outside of the root, no correction of the mean."""
    start, target = np.linspace(0, 1, 12).reshape(3, 4), np.linspace(1, -1, 12).reshape(3, 4) ** 2
    x, mean, losses = start, np.zeros((3, 4)), []
    for _ in range(20):
        grad = 2 * (x - target)
        mean = 0.9 * mean + 0.1 * grad**2
        x = x - 0.05 * grad / (np.sqrt(mean) + 0.1)
        losses.append(np.sum((x - target) ** 2))
    solver = RMSprop(20, learning_rate=0.05, decay=0.9, eps=0.1, coarse_factor=3.0)
    with jax.enable_x64(True):
        square = lambda x: jnp.sum((x - target) ** 2)  # noqa: E731
        found, trace = minimize(square, jnp.asarray(start), solver=solver)
    np.testing.assert_allclose(trace.loss, losses, rtol=1e-9)
    np.testing.assert_allclose(found, x, rtol=1e-9)
    coarse = solver.at_smaller_size(7)
    assert (coarse.num_steps, coarse.learning_rate) == (7, 0.05 * 3.0)


def test_settings_are_checked():
    for make in (
        lambda: LBFGS(num_steps=0),
        lambda: LBFGS(history_size=0),
        lambda: LBFGS(first_step=-1.0),
        lambda: Adam(learning_rate=0.0),
        lambda: ScipyLBFGSB(maxfun=-5),
        lambda: Adam(eps=0.0),
        lambda: RMSprop(coarse_factor=0.0),
    ):
        with pytest.raises(ValueError, match="must be positive"):
            make()
    for make, hint in (
        (lambda: Adam(b1=1.0), "b1 must be at least 0 and below 1"),
        (lambda: Adam(b2=-0.1), "b2 must be at least 0 and below 1"),
        (lambda: Adam(average=1.0), "average must be"),
        (lambda: RMSprop(decay=1.0), "decay must be at least 0 and below 1"),
        (lambda: LBFGS(tolerance=-1.0), "tolerance must not be negative"),
        (lambda: LBFGS(history_dtype="int8"), "bfloat16, float16 or float32"),
    ):
        with pytest.raises(ValueError, match=hint):
            make()


def test_what_is_used_of_jaxopt():
    """jaxopt is in maintenance: this is the function that `LBFGS` calls.

    Against the textbook's formula for the inverse Hessian, written with matrices, from `gamma` that
    is a matrix too: what multiplies may be anything that multiplies.
    """
    rng = np.random.default_rng(0)
    gradient, first, *pairs = rng.normal(size=(6, 5))
    metric = np.diag(rng.uniform(1, 2, 5))
    s, y = pairs[:2], [p + 0.1 * first for p in pairs[:2]]
    inverse = metric
    for s_i, y_i in zip(s, y, strict=True):
        rho = 1 / (s_i @ y_i)
        left = np.eye(5) - rho * np.outer(s_i, y_i)
        inverse = left @ inverse @ left.T + rho * np.outer(s_i, s_i)

    class Times:
        def __mul__(self, x):
            return jnp.asarray(metric) @ x

    with jax.enable_x64(True):
        # The last slot is empty, and the oldest pair is in slot 1.
        history = [jnp.asarray([each[1], np.zeros(5), each[0]]) for each in (s, y)]
        rho = jnp.asarray([1 / (s[1] @ y[1]), 0, 1 / (s[0] @ y[0])])
        product = load_jaxopt()._src.lbfgs.inv_hessian_product
        found = product(jnp.asarray(gradient), *history, rho, gamma=Times(), start=1)
        np.testing.assert_allclose(found, inverse @ gradient, rtol=1e-10)


def bowl(x, target):
    return jnp.sum((x - target) ** 2)


def bounded_lbfgs(gradient, scale_frequencies, start, bounds, *, steps, history, first_step):
    """Algorithm 7.4 of Nocedal & Wright in NumPy, within bounds, with unit steps."""
    x, pairs, path = np.clip(start, *bounds), [], []
    scale = 1 / np.max(np.abs(gradient(x)))
    for _ in range(steps):
        g = scale * gradient(x)
        free = ~(((x <= bounds[0]) & (g > 0)) | ((x >= bounds[1]) & (g < 0)))
        q, alphas = -g * free, []
        for s, y in reversed(pairs):
            alphas.append(s @ q / (s @ y))
            q = q - alphas[-1] * y
        gamma = 1.0
        if pairs:
            s, y = pairs[-1]
            gamma = (s @ y) / (y @ scale_frequencies(y))
        q = gamma * scale_frequencies(q)
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q = q + (alpha - y @ q / (s @ y)) * s
        q = q * free
        if not pairs:
            q = q * first_step / np.mean(np.abs(q))
        new = np.clip(x + q, *bounds)
        s, y = new - x, (scale * gradient(new) - g) * free
        assert s @ y > 0
        pairs = [*pairs, (s, y)][-history:]
        x = new
        path.append(x)
    return path


@pytest.mark.parametrize("smoothness", [0.0, 0.5])
def test_steps_within_bounds_are_those_of_the_formula(smoothness):
    """In float64; about half of the target lies outside of the bounds."""
    shape, bounds = (6, 7, 2), (0.0, 1.0)
    rng = np.random.default_rng(0)
    diagonal, target = rng.uniform(1, 5, 84), rng.normal(0.5, 0.7, 84)
    start = rng.uniform(-0.2, 1.2, 84)
    with jax.enable_x64(True):
        basis = jnp.eye(84).reshape(-1, *shape)
        to_x = jax.vmap(lambda e: scale_frequencies(e, -2 * smoothness).ravel())(basis)
        matrix = np.asarray(to_x)
        path = bounded_lbfgs(
            lambda x: diagonal * (x - target),
            lambda x: matrix @ x,
            start,
            bounds,
            steps=14,
            history=4,
            first_step=1e-2,
        )
        solver = LBFGS(
            num_steps=14, history_size=4, first_step=1e-2, smoothness=smoothness, bounds=bounds
        )
        arguments = [jnp.asarray(each.reshape(shape)) for each in (start, diagonal, target)]
        found, trace = minimize(quadratic, *arguments, solver=solver)
    values = [0.5 * np.sum(diagonal * (x - target) ** 2) for x in path]
    np.testing.assert_allclose(trace.loss, values, rtol=1e-9)
    np.testing.assert_allclose(found.ravel(), path[np.argmin(values)], atol=1e-9)
    held = (np.asarray(found) == 0) | (np.asarray(found) == 1)
    assert 20 < held.sum() < 64


def test_bounds_reach_what_scipy_reaches_in_them():
    """A convex function whose variables depend on each other, in float64."""
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(40, 40))
    matrix, target = factor @ factor.T / 40 + 0.2 * np.eye(40), rng.normal(0.5, 1, 40)

    def value(x, target):
        return 0.5 * (x - target) @ jnp.asarray(matrix) @ (x - target)

    reference = scipy.optimize.minimize(
        lambda x: (0.5 * (x - target) @ matrix @ (x - target), matrix @ (x - target)),
        np.full(40, 0.5),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, 1)] * 40,
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    with jax.enable_x64(True):
        solver = LBFGS(num_steps=150, bounds=(0.0, 1.0))
        found, trace = minimize(value, jnp.full(40, 0.5), jnp.asarray(target), solver=solver)
        together = jax.vmap(lambda t: minimize(value, jnp.full(40, 0.5), t, solver=solver)[0])(
            jnp.asarray([target, 2 * target])
        )
    found = np.asarray(found)
    assert found.min() == 0
    assert found.max() == 1
    np.testing.assert_allclose(np.asarray(trace.loss)[-1], reference.fun, rtol=1e-6)
    np.testing.assert_allclose(found, reference.x, atol=1e-3)
    np.testing.assert_allclose(np.asarray(together)[0], found, atol=1e-9)


def test_bounds_hold_where_the_step_is_undone_and_end_where_no_element_is_free():
    solver = LBFGS(num_steps=20, bounds=(0.0, 1.0))
    # All elements belong at a bound: an optimum, though the gradient is not zero.
    found, trace = minimize(bowl, jnp.ones(4), jnp.arange(-4.0, 0.0), solver=solver)
    np.testing.assert_array_equal(found, np.zeros(4))
    assert int(trace.status) == Status.CONVERGED
    assert int(trace.num_evaluations) < 20
    # A hole at the lower bound.
    hole = lambda x: jnp.where(jnp.any(x <= 0), jnp.nan, bowl(x, -1.0))  # noqa: E731
    found, trace = minimize(hole, jnp.full(4, 0.8), solver=solver)
    assert int(trace.status) == Status.RECOVERED
    assert 0 < float(found.max()) < 0.8
    # A start outside is clipped.
    found, _ = minimize(bowl, jnp.full(4, -5.0), 3.0, solver=solver)
    np.testing.assert_array_equal(found, np.ones(4))
