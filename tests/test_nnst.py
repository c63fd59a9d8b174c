"""The recipe `nnst` from end to end, against its formulas written a second time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_color import recolored_by_hand
from test_laplacian import interpolation
from test_matched import detail

import jaxstyle
from jaxstyle import sampling
from jaxstyle.recipes import NNST

LAYERS, STRIDES = ("relu1_1", "relu2_1"), (1, 2)
MATCH, SPLIT = NNST.terms
SMALL = dataclasses.replace(
    NNST,
    terms=(
        dataclasses.replace(MATCH, layers=LAYERS, grid="relu2_1"),
        dataclasses.replace(
            SPLIT, groups=tuple((each,) for each in LAYERS), group_weights=(1.0,) * 2,
            samples=50, style_samples=40,
        ),
    ),
    solver=dataclasses.replace(NNST.solver, num_steps=3),
    pyramid=dataclasses.replace(NNST.pyramid, coarsest=16, steps=(4,), finish=3),
)  # fmt: skip
KEY = jax.random.key(7)


def resized(image, shape):
    rows, columns = (interpolation(image.shape[i], shape[i]) for i in range(2))
    return jnp.einsum("ih,jw,hwc->ijc", rows, columns, image)


@jax.jit
def unfold(image):
    levels = []
    while max(image.shape[:2]) >= 4:
        smaller = resized(image, [n // 2 for n in image.shape[:2]])
        levels.append(image - resized(smaller, image.shape))
        image = smaller
    return [*levels, image]


@jax.jit
def fold(levels):
    *details, image = levels
    for each in reversed(details):
        image = each + resized(image, each.shape)
    return image


@jax.jit
def cosine(a, b):
    return jnp.sum(a * b, -1) / jnp.sqrt(jnp.sum(a * a, -1) * jnp.sum(b * b, -1))


@jax.jit
def features(params, image):
    return NNST.network.apply(params, image, LAYERS)


@jax.jit
def hypercolumns(params, image):
    """At the positions of relu2_1, with means over those of relu1_1."""
    found = features(params, image)
    fine, grid = (found[each] for each in LAYERS)
    height, width = grid.shape[:2]
    fine = fine[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1).mean((1, 3))
    columns = jnp.concatenate([fine, grid], -1)
    return columns.reshape(height * width, -1)


def descend(loss, start, number, *changing):
    """Adam on the levels; the pictures and the losses from the start on."""
    fun = jax.jit(jax.value_and_grad(lambda levels, *args: loss(fold(levels), *args)))
    levels = unfold(start)
    first, second = ([np.zeros(each.shape) for each in levels] for _ in range(2))
    pictures, values = [start], []
    for count in range(number + 1):
        # The gradient of a step is that of the evaluation before it.
        value, gradients = fun(levels, *(each(max(count - 1, 0)) for each in changing))
        values.append(float(value))
        if count == number:
            return pictures, values
        for i, g in enumerate(gradients):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            mean, square = (
                first[i] / (1 - 0.9 ** (count + 1)), second[i] / (1 - 0.999 ** (count + 1)),
            )  # fmt: skip
            levels[i] = levels[i] - 2e-3 * mean / (np.sqrt(square) + 1e-8)
        pictures.append(fold(levels))


def painted_by_hand(params, content, style):
    """Returns the picture before its colors, and the losses after each step."""
    losses, image = [], None
    for size, steps in ((0.5, 4), (1, 3)):
        shrink = lambda x, s=size: jax.image.resize(  # noqa: E731
            x, (round(x.shape[0] * s), round(x.shape[1] * s), 3), "cubic"
        )
        photo, painting = shrink(content), shrink(style)
        start = mixture = photo
        if image is not None:
            start = jax.image.resize(image, photo.shape, "cubic")
            mixture = 0.25 * (start + detail(np.asarray(photo))) + 0.75 * photo
        turns = [hypercolumns(params, jnp.rot90(painting, k)) for k in range(4)]
        rows = jnp.concatenate(turns)
        scale = jnp.concatenate(
            [
                jnp.full(64, 1 / 64 / rows[:, :64].mean()),
                jnp.full(128, 1 / 128 / rows[:, 64:].mean()),
            ]
        )
        rows = rows * scale
        own = hypercolumns(params, mixture) * scale
        pairs = cosine((own - own.mean(0))[:, None], (rows - rows.mean(0))[None])
        nearest = jnp.argmax(pairs, 1)
        match = lambda x, scale=scale, rows=rows[nearest]: jnp.mean(  # noqa: E731
            1 - cosine(hypercolumns(params, x) * scale, rows)
        )
        pictures, values = descend(match, start, steps)
        image = pictures[int(np.argmin(values))]
        losses += values[1:]

    # The last stage: each layer by itself, at drawn positions.
    key = sampling.fold_in(sampling.key_data(jax.random.fold_in(KEY, 1)), 2)
    key = sampling.key_data(key)
    of_style = sampling.style_key(key, 0)
    keys = [of_style, *(sampling.fold_in(of_style, k) for k in (1, 2, 3))]
    turns = [jnp.rot90(style, k) for k in range(4)]
    rows = [
        jnp.concatenate([
            read(features(params, turn)[layer], stride, positions_of(own, 40, turn))
            for turn, own in zip(turns, keys, strict=True)
        ])
        for layer, stride in zip(LAYERS, STRIDES, strict=True)
    ]  # fmt: skip

    def split(x, positions):
        maps, total = features(params, x), 0.0
        for layer, stride, style_rows in zip(LAYERS, STRIDES, rows, strict=True):
            own = read(maps[layer], stride, positions)
            own = own - own.mean(0)
            pairs = cosine(own[:, None], (style_rows - style_rows.mean(0))[None])
            total += jnp.mean(1 - jnp.max(pairs, 1))
        return total

    draws = lambda step: positions_of(sampling.fold_in(key, step), 50, image)  # noqa: E731
    pictures, values = descend(split, image, 3, draws)
    return pictures[-1], losses + values[1:]


def positions_of(key, number, image):
    return np.asarray(sampling.draw_positions(key, number, image.shape))


def read(maps, stride, positions):
    """Features at pixels, between four positions; neighbors are clipped to the map."""
    where = positions / stride
    first = jnp.floor(where).astype(int)
    found = 0.0
    for near in (first, first + jnp.array([0, 1]), first + jnp.array([1, 0]), first + 1):
        share = jnp.prod(1 - jnp.abs(where - near), axis=1)[:, None]
        row, column = (jnp.minimum(near[:, i], maps.shape[i] - 1) for i in (0, 1))
        found = found + share * maps[row, column]
    return found


@pytest.fixture
def pair(double):
    params, pictures = double
    return params, pictures(0, 32, 40), pictures(1, 40, 32)


@pytest.mark.long
def test_a_run_is_that_of_the_formulas(pair):
    found = jaxstyle.stylize(*pair, recipe=SMALL, key=KEY)
    expected, losses = painted_by_hand(*pair)
    np.testing.assert_allclose(found.trace, losses, rtol=1e-6)
    image = recolored_by_hand(np.asarray(expected), pair[1], pair[2])
    np.testing.assert_allclose(found.image, image, atol=1e-4)
    assert len(losses) == 10
    assert np.abs(image - pair[1]).mean() > 0.02


@pytest.mark.slow
def test_windows_batches_and_checkpoints(pair):
    options = {"recipe": SMALL, "key": KEY}
    kept = {}

    def keep(found):
        leaves = jax.device_get(jax.tree.leaves(found.state))
        kept[int(found.stage), int(found.steps)] = found._replace(state=leaves)

    whole = dict(jaxstyle.stylize_steps(*pair, **options, every=2, keep=keep))
    assert list(whole) == [0, 2, 4, 6, 7, 9, 10]
    for at in ((1, 2), (2, 2)):  # of which the first needs the picture that its size began with
        rest = dict(jaxstyle.stylize_steps(*pair, **options, every=2, checkpoint=kept[at]))
        jax.tree.map(np.testing.assert_array_equal, rest[10], whole[10])
    without = kept[1, 2]._replace(state=kept[1, 2].state[:-1])
    with pytest.raises(ValueError, match="has no picture to begin with"):
        dict(jaxstyle.stylize_steps(*pair, **options, checkpoint=without))
    params, *pictures = pair
    keys = jnp.stack([KEY, jax.random.key(8)])
    pairs = (np.stack([each, each]) for each in pictures)
    batch = jaxstyle.stylize_batch(params, *pairs, recipe=SMALL, key=keys, tile=16)
    np.testing.assert_allclose(batch.image[0], whole[10].image, atol=1e-5)
    np.testing.assert_allclose(batch.trace[0], whole[10].trace, rtol=1e-6)
    np.testing.assert_allclose(batch.trace[1, :7], batch.trace[0, :7], rtol=1e-6)
    assert np.abs(batch.trace[1, 7:] - batch.trace[0, 7:]).min() > 1e-4
