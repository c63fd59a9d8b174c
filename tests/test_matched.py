"""Matched hypercolumns, against plain NumPy, in windows and with masks."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_laplacian import interpolation, resize

import jaxstyle
from jaxstyle.matching import share_out
from jaxstyle.terms import MatchedStyle

LAYERS = ("relu1_1", "relu2_1", "relu3_1")
TERM = MatchedStyle(layers=LAYERS, grid="relu2_1")
NETWORK = jaxstyle.VGG19(pooling="average", padding="replicate")
apply = jax.jit(lambda params, image: NETWORK.apply(params, image, LAYERS))


def on_grid(maps, shape):
    """Means of blocks, or a bilinear interpolation of each axis whose last position repeats."""
    factor = maps.shape[0] // shape[0]
    if factor >= 1:
        cut = maps[: factor * shape[0], : factor * shape[1]]
        return cut.reshape(shape[0], factor, shape[1], factor, -1).mean((1, 3))
    for axis, length in enumerate(shape):
        old = maps.shape[axis]
        matrix = interpolation(old, 2 * old)
        matrix = np.concatenate([matrix, np.eye(old)[-1:]])[:length]
        maps = np.moveaxis(np.tensordot(matrix, maps, (1, axis)), 0, axis)
    return maps


def hypercolumns(params, image):
    found = apply(params, image)
    maps = [np.asarray(found[layer], float) for layer in LAYERS]
    return np.concatenate([on_grid(each, maps[1].shape[:2]) for each in maps], -1)


def scale_of(rows):
    """One over channels and mean of each layer of the style's rows, which have 64, 128 and 256."""
    return np.concatenate([
        np.full(stop - start, 1 / (stop - start) / rows[:, start:stop].mean())
        for start, stop in ((0, 64), (64, 192), (192, 448))
    ])  # fmt: skip


def cosines(x, s):
    return (x @ s.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(s, axis=1)[None]


def chosen_by_hand(params, mixture, rows):
    scale = scale_of(rows)
    maps = hypercolumns(params, mixture).reshape(-1, rows.shape[1]) * scale
    rows = rows * scale
    return cosines(maps - maps.mean(0), rows - rows.mean(0)).argmax(1)


def loss_by_hand(params, image, rows, chosen):
    scale = scale_of(rows)
    maps = hypercolumns(params, image).reshape(-1, rows.shape[1]) * scale
    rows = rows[chosen] * scale
    return np.mean([1 - cosines(a[None], b[None])[0, 0] for a, b in zip(maps, rows)])  # noqa: B905


def detail(content):
    return content - resize(resize(content, [n // 2 for n in content.shape[:2]]), content.shape)


@jax.jit
def painted(params, content, style, start, image):
    terms = (dataclasses.replace(TERM, rotations=start is not None),)
    targets = jaxstyle.prepare_targets(NETWORK, params, terms, content, style, start=start)
    value, _ = jaxstyle.evaluate(NETWORK, params, terms, targets, {"style": 1.0}, image)
    return value, targets["style"]


def test_positions_are_matched_once_and_compared_with_what_was_chosen(double):
    """Of odd sizes, whose layers have partial blocks; with rotations and a picture so far."""
    params, pictures = double
    content, start, image = (pictures(i, 23, 30) for i in range(3))
    style = pictures(3, 19, 17)
    turns = [hypercolumns(params, np.rot90(style, k)) for k in range(4)]
    turns = [each.reshape(-1, each.shape[-1]) for each in turns]
    mixed = 0.25 * (start + detail(content)) + 0.75 * content
    values = []
    for rows, begun, mixture in (
        (turns[0], None, content),
        (np.stack(turns, 1).reshape(-1, turns[0].shape[1]), start, mixed),
    ):
        value, target = painted(params, content, style, begun, image)
        np.testing.assert_allclose(target.rows, rows * scale_of(rows), atol=1e-10)
        chosen = chosen_by_hand(params, mixture, rows)
        np.testing.assert_array_equal(target.chosen["relu2_1"].ravel(), chosen)
        np.testing.assert_allclose(value, loss_by_hand(params, image, rows, chosen))
        values.append(value)
    single = jax.tree.map(np.float32, (params, content, style, None, image))
    value, _ = painted(*single)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, values[0], rtol=1e-4)
    pairs = (np.stack([each, each[::-1]]) for each in (content, style, start, image))
    batch, _ = jax.vmap(painted, (None, 0, 0, 0, 0))(params, *pairs)
    np.testing.assert_allclose(batch[0], values[1])


@pytest.mark.long
def test_windows_are_the_whole(double):
    """Targets, value and gradient; each style in its region, chosen where its own mask allows."""
    params, pictures = double
    content, start, image = (jnp.asarray(pictures(i, 50, 41)) for i in range(3))
    styles = jnp.asarray(pictures(3, 44, 32)), jnp.asarray(pictures(4, 24, 38) ** 2)
    term = MatchedStyle(layers=("relu1_1", "relu2_1"), grid="relu1_1", style_samples=90)
    masks = jnp.zeros((2, 50, 41)).at[0, :20].set(1.0).at[1, 20:, 5:].set(0.5)
    style_mask = jnp.zeros((44, 32)).at[:20].set(1.0)
    guides = {"masks": masks, "style_masks": (style_mask, None)}

    def value(x, tile):
        targets = jaxstyle.prepare_targets(
            NETWORK, params, (term,), content, styles, start=start, tile=tile, **guides
        )
        found = jaxstyle.evaluate(NETWORK, params, (term,), targets, {"style": 1.0}, x, tile=tile)
        return found[0], targets

    both = jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=1)
    (whole, targets), expected = both(image, None)
    (found, of_windows), grad = both(image, 16)
    close = functools.partial(np.testing.assert_allclose, atol=1e-12)
    jax.tree.map(close, targets, of_windows)
    np.testing.assert_allclose(found, whole, rtol=1e-10)
    np.testing.assert_allclose(grad, expected, atol=1e-10 * np.abs(expected).max())
    slope = np.vdot(expected, start)
    ahead, behind = (both(image + h * start, None)[0][0] for h in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-4)
    first = targets["style"].targets[0]  # of its style, only the upper rows may be chosen
    chosen = np.asarray(first.chosen["relu1_1"])
    assert len(first.rows) <= 90
    assert len(set(chosen.ravel())) > 5
    assert chosen.max() < len(first.rows) * 20 / 44 + 8


def shared_by_hand(found, shares, weight):
    """Of each style those positions where it is most ahead, until its share is full."""
    style, free, given = np.full(len(found), -1), list(range(len(found))), 0.0
    for i in range(len(shares)):
        later = [j for j in range(i + 1, len(shares)) if shares[j] > 0]
        ahead = [found[n, i] - max(found[n, later], default=-2) for n in free]
        for n in [free[k] for k in np.argsort(ahead)[::-1]]:
            if shares[i] == 0 or given + weight[n] / 2 >= sum(shares[: i + 1]) * weight.sum():
                break
            style[n] = i
            given += weight[n]
            free.remove(n)
    return style


@pytest.mark.parametrize(
    "shares", [(0.25, 0.75), (0.5, 0.375, 0.125), (0.5, 0, 0.5), (0.5, 0.5, 0)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_each_style_has_its_share_of_the_positions(shares, weighted):
    random = np.random.default_rng(0)
    number = 41
    found = random.uniform(-1, 1, (number, len(shares))).astype(np.float32)
    weight = random.integers(0, 5, number) / 4 if weighted else np.ones(number)
    style = np.asarray(jax.jit(share_out)(found, np.float32(shares), np.float32(weight)))
    counted = weight > 0  # for a position of no weight it does not matter
    expected = shared_by_hand(found[counted], shares, weight[counted])
    np.testing.assert_array_equal(style[counted], expected)
    assert (style >= 0).all()
    for i, share in enumerate(shares):
        found_share = weight[style == i].sum() / weight.sum()
        assert abs(found_share - share) <= weight.max() / weight.sum()


def test_of_two_styles_no_other_choice_of_as_many_positions_is_more_similar():
    found = np.random.default_rng(1).uniform(-1, 1, (8, 2)).astype(np.float32)
    style = np.asarray(share_out(found, jnp.array([0.375, 0.625]), jnp.ones(8)))
    sums = [
        found[list(chosen), 0].sum() + np.delete(found, chosen, 0)[:, 1].sum()
        for chosen in itertools.combinations(range(8), 3)
    ]
    assert np.take_along_axis(found, style[:, None], 1).sum() == pytest.approx(max(sums))


@pytest.mark.long
def test_styles_are_mixed_by_their_shares(double):
    """In a region, against NumPy; in windows. A share of 1 is the style alone."""
    params, pictures = double
    content, styles = pictures(0, 40, 32), (pictures(1, 19, 17), pictures(2, 24, 20) ** 2)
    mask = np.zeros((1, 40, 32))
    mask[:, 8:, 4:] = 1
    inside = mask[0, ::2, ::2].ravel() > 0
    each = [hypercolumns(params, style).reshape(-1, 448) for style in styles]
    first, rows = len(each[0]), np.concatenate(each)
    maps = hypercolumns(params, content).reshape(-1, 448)

    @functools.partial(jax.jit, static_argnums=1)
    def prepared(shares, tile):
        return jaxstyle.prepare_targets(
            NETWORK, params, (TERM,), content, styles, style_weights=shares, masks=mask, tile=tile
        )["style"].targets[0]

    for given in np.array([[0.0, 2.0], [3.0, 1.0]]):
        target, shares = prepared(given, None), given / given.sum()
        counted = np.concatenate([
            np.full(len(own), share / len(own)) for own, share in zip(each, shares, strict=True)
        ])  # fmt: skip
        means = np.average(rows, 0, counted)
        scale = np.concatenate([
            np.full(stop - start, 1 / (stop - start) / means[start:stop].mean())
            for start, stop in ((0, 64), (64, 192), (192, 448))
        ])  # fmt: skip
        np.testing.assert_allclose(target.rows, rows * scale, atol=1e-10)
        found = cosines((maps - maps.mean(0)) * scale, (rows - means) * scale)[inside]
        parts = found[:, :first], found[:, first:]
        best = np.stack([part.max(1) for part in parts], 1)
        style = shared_by_hand(best, shares, np.ones(len(best)))
        chosen = np.where(style == 0, parts[0].argmax(1), first + parts[1].argmax(1))
        index = np.asarray(target.chosen["relu2_1"]).ravel()[inside]
        np.testing.assert_array_equal(index, chosen)
        assert np.mean(index < first) == pytest.approx(shares[0], abs=1 / len(best))
    of_windows = prepared(given, 16)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), target, of_windows)


def test_a_picture_that_wraps_is_matched_and_compared_across_its_edges(double):
    """Moved by whole strides, it has the same loss; in windows too."""
    params, pictures = double
    network = jaxstyle.VGG19(pooling="average", padding="wrap")
    terms = (MatchedStyle(layers=("relu1_1", "relu2_1"), grid="relu1_1"),)
    content, start, image = (pictures(i, 32, 40) for i in range(3))
    style = pictures(3, 19, 17)

    @functools.partial(jax.jit, static_argnums=3)
    def loss(content, start, image, tile):
        targets = jaxstyle.prepare_targets(
            network, params, terms, content, style, start=start, tile=tile
        )
        arguments = network, params, terms, targets, {"style": 1.0}, image
        return jaxstyle.evaluate(*arguments, tile=tile)[0]

    expected = loss(content, start, image, None)
    moved = [np.roll(each, (6, 10), (0, 1)) for each in (content, start, image)]
    for tile in (None, 16):
        np.testing.assert_allclose(loss(*moved, tile), expected, rtol=1e-10)


def test_settings_are_checked(random_params, pictures):
    for settings, hint in (
        ({"layers": ()}, "names of layers"),
        ({"grid": "relu1_2", "layers": ("relu1_1",)}, "grid 'relu1_2' is none of the layers"),
        ({"style_samples": 0}, "style_samples must be positive"),
        ({"alpha": 1.5}, "alpha must be from 0 to 1"),
        ({"rotations": 1}, "rotations must be True or False"),
        ({"name": ""}, "name must be a text"),
    ):
        with pytest.raises(ValueError, match=hint):
            MatchedStyle(**settings)
    style = pictures(0)
    for content, start, padding, hint in (
        (None, None, "zero", "style needs a content image"),
        (pictures(1), style[1:], "zero", r"start must be \(32, 40, 3\)"),
    ):
        network = jaxstyle.VGG19(padding=padding)
        with pytest.raises(ValueError, match=hint):
            jaxstyle.prepare_targets(network, random_params, (TERM,), content, style, start=start)
    with pytest.raises(ValueError, match="give one share for each style"):
        jaxstyle.prepare_targets(
            jaxstyle.VGG19(), random_params, (TERM,), style, (style, style),
            style_weights={"relu2_1": (0, 1)},
        )  # fmt: skip
    with pytest.raises(ValueError, match="must be what prepare_targets returns"):
        jaxstyle.evaluate(
            jaxstyle.VGG19(), random_params, (TERM,), {"style": None}, {"style": 1.0}, style
        )
