"""Terms that read features at drawn positions: the draws, the rows, and whole runs."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxstyle
from jaxstyle import sampling, solvers
from jaxstyle.terms.sampled import check_sampling

LAYERS = ("image", "relu1_1", "relu2_1", "relu3_1")


@dataclasses.dataclass(frozen=True)
class Squares(jaxstyle.terms.SampledTerm):
    """Squared differences of the rows of picture and content."""

    samples: int = 40
    redraw: int = 0
    layers: tuple[str, ...] = LAYERS
    name: str = "squares"
    target_image: ClassVar = "content"

    def __post_init__(self):
        check_sampling(self)

    def loss(self, statistics, target):
        return sum(jnp.sum(jnp.square(statistics[i] - target[i])) for i in self.layers)


@dataclasses.dataclass(frozen=True)
class Nearest(Squares):
    """Mean distance from each row of the picture to the nearest of the style."""

    style_samples: int = 30
    name: str = "nearest"
    target_image: ClassVar = "style"

    def loss(self, statistics, target):
        square = lambda i: jnp.square(statistics[i][:, None] - target[i][None]).mean(-1)  # noqa: E731
        return sum(square(i).min(1).mean() for i in self.layers)


RECIPE = dataclasses.replace(
    jaxstyle.recipes.DEFAULT,
    name="drawn",
    terms=(
        Squares(layers=("image", "relu1_1"), redraw=2),
        Nearest(layers=("image", "relu1_1"), redraw=1),
    ),
    weights={"squares": 1e-3, "nearest": 1.0},
    solver=solvers.Adam(num_steps=5, clip=True),
    pyramid=jaxstyle.Pyramid(coarsest=16, steps=(4,)),
    grain=0.0,
)


def key(seed=0):
    return sampling.key_data(jax.random.key(seed))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_draws_follow_the_weights(dtype):
    with jax.enable_x64(dtype == "float64"):
        weight = np.zeros((50, 40))
        weight[10:20, 5:35] = 1
        weight[15, 6:20] = 3
        drawn = sampling.draw_positions(key(), 20_000, weight.shape, jnp.asarray(weight, dtype))
        assert drawn.shape == (20_000, 2)
        alike = sampling.draw_positions(key(), 50, (50, 40))
        found = np.zeros(weight.shape)
        np.add.at(found, tuple(np.asarray(drawn).T), 1)
    assert found[weight == 0].sum() == 0
    expected = 20_000 * weight / weight.sum()
    where = weight > 0
    # Chi-square of 300 pixels: mean 299, standard deviation sqrt(598) = 24.5; six of these.
    chi_square = ((found - expected)[where] ** 2 / expected[where]).sum()
    assert chi_square < 299 + 6 * 24.5
    assert alike.dtype == drawn.dtype == jnp.int32
    np.testing.assert_array_equal(alike, sampling.draw_positions(key(), 50, (50, 40)))
    narrow = sampling.draw_positions(key(), 20_000, weight.shape, jnp.asarray(weight, jnp.float32))
    np.testing.assert_array_equal(drawn, narrow)


def test_draws_without_weights_are_uniform_and_belong_to_the_key():
    draw = lambda data: sampling.draw_positions(data, 5000, (7, 5))  # noqa: E731
    drawn = np.asarray(draw(key()))
    counts = np.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=35)
    assert ((counts - 5000 / 35) ** 2 / (5000 / 35)).sum() < 34 + 6 * 68**0.5
    keys = jnp.stack([key(0), key(1)])
    np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(keys)[0], drawn)
    assert (jax.vmap(draw)(keys)[1] != drawn).any()
    nothing = sampling.draw_positions(key(), 3, (7, 5), jnp.zeros((7, 5)))
    assert nothing.max() < 7  # positions of the image, whatever they are


def read_plainly(features, stride, positions):
    """One position and one of its four neighbors at a time."""
    height, width = features.shape[:2]
    rows = []
    for position in np.asarray(positions):
        y, x = position / stride
        top, left = int(y), int(x)
        row = 0
        for i, down in ((top, 1 - (y - top)), (top + 1, y - top)):
            for j, right in ((left, 1 - (x - left)), (left + 1, x - left)):
                row = row + down * right * features[min(i, height - 1), min(j, width - 1)]
        rows.append(row)
    return np.stack(rows)


def test_rows_are_read_between_positions():
    rng = np.random.default_rng(0)
    features = {"image": rng.normal(size=(19, 21, 3)), "deep": rng.normal(size=(4, 5, 7))}
    positions = sampling.draw_positions(key(), 60, (19, 21))
    with jax.enable_x64(True):
        rows = sampling.rows_at(
            jax.tree.map(jnp.asarray, features), {"image": 1, "deep": 4}, positions
        )
    for layer, stride in (("image", 1), ("deep", 4)):
        expected = read_plainly(features[layer], stride, positions)
        np.testing.assert_allclose(rows[layer], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("padding", "masked"),
    [("wrap", False), pytest.param("replicate", True, marks=pytest.mark.long)],
)
def test_windows_read_what_the_whole_reads(padding, masked, random_params, pictures):
    network = jaxstyle.VGG19(pooling="average", padding=padding)
    layers = ("image", "relu2_1")
    term_list = (Squares(layers=layers), Nearest(layers=layers))
    weights = {"squares": 1.0, "nearest": 2.0}
    with jax.enable_x64(True):
        double = lambda leaf: jnp.asarray(leaf, jnp.float64)  # noqa: E731
        content, style, image = (double(pictures(i, 48, 40)) for i in range(3))
        params = jax.tree.map(double, random_params)
        masks = jnp.zeros((2, 48, 40)).at[0, :20].set(1.0).at[1, 20:, 5:].set(0.5)

        def value(x, tile):
            targets = jaxstyle.prepare_targets(
                network, params, term_list, content, (style, style[::-1] ** 2),
                masks=masks if masked else None, key=jax.random.key(3), tile=tile,
            )  # fmt: skip
            return jaxstyle.evaluate(network, params, term_list, targets, weights, x, tile=tile)[0]

        both = jax.jit(jax.value_and_grad(value), static_argnums=1)
        whole, expected = both(image, None)
        found, grad = both(image, 16)
    np.testing.assert_allclose(found, whole, rtol=1e-10)
    largest = np.abs(expected).max()
    assert largest > 0
    np.testing.assert_allclose(grad, expected, atol=1e-10 * largest)


def test_the_value_is_that_of_the_drawn_rows(random_params, pictures):
    """Against the whole feature maps, read one position at a time."""
    content, style, image = (jnp.asarray(pictures(i, 33, 30)) for i in range(3))
    network, term_list = jaxstyle.VGG19(), (Squares(), Nearest())
    drawn = jaxstyle.prepare_targets(
        network, random_params, term_list, content, style, key=jax.random.key(5)
    )
    weights = dict.fromkeys(drawn, 1.0)
    _, losses = jaxstyle.evaluate(network, random_params, term_list, drawn, weights, image)
    own = drawn["squares"].key
    np.testing.assert_array_equal(own, sampling.key_data(jax.random.key(5)))
    positions = sampling.draw_positions(own, 40, (33, 30))
    of_style = sampling.draw_positions(sampling.style_key(own, 0), 30, (33, 30))
    squares = nearest = 0.0
    for layer in LAYERS:
        maps = [
            np.asarray(network.apply(random_params, x, LAYERS)[layer], np.float64)
            for x in (image, content, style)
        ]
        a, b, c = (
            read_plainly(each, network.stride(layer), where)
            for each, where in zip(maps, (positions, positions, of_style), strict=True)
        )
        squares += ((a - b) ** 2).sum()
        nearest += ((a[:, None] - c[None]) ** 2).mean(-1).min(1).mean()
    np.testing.assert_allclose(losses["squares"], squares, rtol=1e-4)
    np.testing.assert_allclose(losses["nearest"], nearest, rtol=1e-4)


def test_a_mixture_has_as_many_rows_of_each_style_as_its_share(random_params, pictures):
    styles = tuple(jnp.full((20, 20, 3), value) for value in (0.25, 0.75))
    term = Nearest(layers=("image",), style_samples=20)
    targets = jaxstyle.prepare_targets(
        jaxstyle.VGG19(), random_params, (term,), None, styles,
        style_weights=jnp.array([1.0, 3.0]), key=jax.random.key(0),
    )  # fmt: skip
    np.testing.assert_array_equal(
        targets["nearest"].target["image"][:, 0], [0.25] * 5 + [0.75] * 15
    )


def test_redrawn_targets_draw_others(random_params, pictures):
    content, style = (jnp.asarray(pictures(i, 20, 20)) for i in range(2))
    term_list = (Squares(redraw=3), Nearest(redraw=0))
    targets = jaxstyle.prepare_targets(
        jaxstyle.VGG19(), random_params, term_list, content, style, key=jax.random.key(0)
    )
    at = [jaxstyle.redraw_targets(term_list, targets, step) for step in range(4)]
    same = lambda i, j, name: bool((at[i][name].key == at[j][name].key).all())  # noqa: E731
    assert same(0, 2, "squares")
    assert not same(2, 3, "squares")
    assert same(0, 3, "nearest")


def test_a_batch_is_its_single_runs(random_params, pictures):
    contents, styles = (jnp.stack([pictures(i + n, 32, 24) for i in range(2)]) for n in (0, 2))
    batch = jaxstyle.stylize_batch(
        random_params, contents, styles, recipe=RECIPE, key=jax.random.key(7)
    )
    for i, own in enumerate(jax.random.split(jax.random.key(7), 2)):
        alone = jaxstyle.stylize(random_params, contents[i], styles[i], recipe=RECIPE, key=own)
        np.testing.assert_allclose(batch.image[i], alone.image, atol=2e-3)
        np.testing.assert_allclose(batch.trace[i][:3], alone.trace[:3], rtol=1e-4)
    again = jaxstyle.stylize(random_params, contents[0], styles[0], recipe=RECIPE, key=own)
    assert float(jnp.abs(again.image - batch.image[0]).max()) > 1e-3  # another key


def test_a_run_ends_with_its_last_picture_and_resumes(random_params, pictures):
    content, style = (jnp.asarray(pictures(i, 32, 24)) for i in range(2))
    run = lambda **options: list(  # noqa: E731
        jaxstyle.stylize_steps(
            random_params, content, style, recipe=RECIPE, key=jax.random.key(1), every=2, **options
        )
    )
    kept = []
    whole = run(keep=lambda checkpoint: kept.append(jax.tree.map(np.asarray, checkpoint)))
    assert whole[-1][1].loss == whole[-1][1].trace[-1]
    assert np.abs(whole[-1][1].image - content).max() > 0.01
    for checkpoint in (kept[0], kept[-2]):
        resumed = run(checkpoint=checkpoint)
        np.testing.assert_array_equal(resumed[-1][1].image, whole[-1][1].image)


def test_a_pair_that_stops_and_a_step_that_is_undone_keep_their_loss(random_params):
    """The second picture has the colors of its style from the start, so its gradient is zero."""
    styles = jnp.stack([jnp.full((16, 16, 3), 0.25), jnp.full((16, 16, 3), 0.75)])
    recipe = dataclasses.replace(
        RECIPE, terms=(Nearest(layers=("image",)),), weights={"nearest": 1.0}, pyramid=None
    )
    result = jaxstyle.stylize_batch(
        random_params, jnp.full((2, 16, 16, 3), 0.75), styles, recipe=recipe, key=jax.random.key(0)
    )
    np.testing.assert_array_equal(result.status, [0, int(jaxstyle.Status.CONVERGED)])
    np.testing.assert_array_equal(result.solver_loss, result.trace[:, -1])
    huge = dataclasses.replace(recipe, weights={"nearest": 1e38}, solver=jaxstyle.Optax(
        optax.sgd(-1e-30), num_steps=3, clip=False
    ))  # fmt: skip
    undone = jaxstyle.stylize(
        random_params, jnp.full((16, 16, 3), 0.75), styles[0], recipe=huge, key=jax.random.key(0)
    )
    assert int(undone.status) == int(jaxstyle.Status.RECOVERED)
    assert float(undone.solver_loss) == float(undone.trace[-1]) < 3e38


def test_without_a_key_the_draws_are_those_of_seed_0(random_params, pictures):
    """The grain of the start too, and in a batch those of each pair."""
    content, style = (jnp.asarray(pictures(i, 32, 24)) for i in range(2))
    recipe = dataclasses.replace(RECIPE, grain=1.0)
    alone, seed_0, seed_1 = (
        jaxstyle.stylize(random_params, content, style, recipe=recipe, key=each).image
        for each in (None, jax.random.key(0), jax.random.key(1))
    )
    np.testing.assert_array_equal(alone, seed_0)
    twice = (jnp.stack([each, each]) for each in (content, style))
    for image in jaxstyle.stylize_batch(random_params, *twice, recipe=recipe).image:
        np.testing.assert_allclose(image, alone, atol=2e-3)
    assert np.abs(seed_1 - alone).max() > 0.01

    arguments = jaxstyle.VGG19(), random_params, RECIPE.terms, content, style
    targets = jaxstyle.prepare_targets(*arguments)
    others = jaxstyle.prepare_targets(*arguments, key=jax.random.key(0))
    for target, other in zip(*map(jax.tree.leaves, (targets, others)), strict=True):
        np.testing.assert_array_equal(target, other)


def test_what_a_draw_needs(random_params, pictures):
    content, style = (jnp.asarray(pictures(i, 32, 24)) for i in range(2))
    stylize = lambda **options: jaxstyle.stylize(  # noqa: E731
        random_params, content, style, **{"recipe": RECIPE, "key": jax.random.key(0), **options}
    )
    with pytest.raises(ValueError, match=r"LBFGS needs the same ones in each step: use Adam"):
        stylize(solver=solvers.LBFGS(num_steps=2))
    for wrong in ({"samples": 0}, {"redraw": -1}, {"samples": 1.5}, {"style_samples": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number"):
            Nearest(**wrong)
    fixed = dataclasses.replace(
        RECIPE, terms=tuple(dataclasses.replace(term, redraw=0) for term in RECIPE.terms)
    )
    result = stylize(recipe=fixed, solver=solvers.LBFGS(num_steps=4))
    assert result.solver_loss == result.trace.min()
