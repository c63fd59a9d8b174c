"""stylize, stylize_batch and stylize_steps, on random parameters and few layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHALLOW

import jaxstyle
from jaxstyle import compiled, terms
from jaxstyle.problem import Problem

RECIPE = jaxstyle.Recipe(
    name="test",
    source="test",
    description="test",
    terms=(
        terms.Content(layers=("relu2_1",), reduction="mean"),
        terms.GramStyle(layers=("relu1_1", "relu2_1"), layer_weights=(0.5, 0.5)),
    ),
    weights={"content": 1.0, "style": 100.0},
    solver=jaxstyle.LBFGS(num_steps=8, history_size=5),
)
SCIPY = dataclasses.replace(RECIPE, solver=jaxstyle.ScipyLBFGSB(num_steps=3, maxfun=4))


def test_the_result_is_what_evaluate_says(random_params, pictures):
    content, style = pictures(0), pictures(1, 24, 28)
    result = jaxstyle.stylize(random_params, content, style, recipe=RECIPE)
    assert result.image.shape == content.shape
    assert result.image.dtype == jnp.float32
    assert result.image.min() >= 0
    assert result.image.max() <= 1
    assert result.trace.shape == (8,)
    assert int(result.num_evaluations) == 9
    assert jaxstyle.Status(int(result.status)) == jaxstyle.Status.STEP_LIMIT
    assert result.solver_loss == result.trace.min()
    weighted = sum(RECIPE.weights[name] * loss for name, loss in result.term_losses.items())
    np.testing.assert_allclose(result.loss, weighted, rtol=1e-5)

    targets = jaxstyle.prepare_targets(RECIPE.network, random_params, RECIPE.terms, content, style)
    start, _ = jaxstyle.evaluate(
        RECIPE.network, random_params, RECIPE.terms, targets, RECIPE.weights, content
    )
    assert float(result.loss) < 0.7 * float(start)
    # The solver is not bounded: the picture is clipped, and has a loss of its own.
    of_image, _ = jaxstyle.evaluate(
        RECIPE.network, random_params, RECIPE.terms, targets, RECIPE.weights, result.image
    )
    np.testing.assert_allclose(result.loss, of_image, rtol=1e-5)
    bounded = dataclasses.replace(RECIPE.solver, bounds=(0.0, 1.0))
    result = jaxstyle.stylize(random_params, content, style, recipe=RECIPE, solver=bounded)
    assert result.loss == result.solver_loss == result.trace.min()
    of_image, _ = jaxstyle.evaluate(
        RECIPE.network, random_params, RECIPE.terms, targets, RECIPE.weights, result.image
    )
    np.testing.assert_allclose(result.loss, of_image, rtol=1e-5)


def test_the_inputs_survive(random_params, pictures):
    """The solver's state is donated; the caller's arrays must not be part of it."""
    content, style = jnp.asarray(pictures(0)), jnp.asarray(pictures(1))
    before = np.array(content)
    result = jaxstyle.stylize(random_params, content, style, recipe=RECIPE, init=content)
    np.testing.assert_array_equal(content, before)
    assert np.abs(result.image - before).max() > 0.01


def test_a_batch_is_a_loop(double):
    params, pictures = double
    contents = jnp.stack([pictures(i) for i in range(3)])
    styles = jnp.stack([pictures(10 + i, 24, 28) for i in range(3)])
    content_weight = RECIPE.weights["content"]
    weights = {
        "style": jnp.asarray([100.0, 1e3, 0.0]),
        "content": jnp.asarray([content_weight, content_weight, 0.0]),
    }
    batch = jaxstyle.stylize_batch(params, contents, styles, recipe=RECIPE, weights=weights)
    assert batch.trace.shape == (3, 8)
    for i in range(3):
        alone = jaxstyle.stylize(
            params,
            contents[i],
            styles[i],
            recipe=RECIPE,
            weights={name: float(each[i]) for name, each in weights.items()},
        )
        np.testing.assert_allclose(batch.trace[i], alone.trace, rtol=1e-6)
        np.testing.assert_allclose(batch.image[i], alone.image, atol=1e-6)
        assert int(batch.status[i]) == int(alone.status)
    # Without any loss all is an optimum: that lane is done before its first step.
    assert jaxstyle.Status(int(batch.status[2])) == jaxstyle.Status.CONVERGED
    assert int(batch.num_evaluations[2]) == 1


def test_within_bounds_a_batch_in_windows_is_each_pair_as_a_whole(double):
    """A lane has its own held pixels. In float64, since rounding grows from step to step."""
    params, pictures = double
    contents, styles = (
        jnp.stack([pictures(i), pictures(i + 1) ** 0.1, pictures(i + 2) ** 4]) for i in (0, 10)
    )
    solver = jaxstyle.LBFGS(num_steps=6, smoothness=0.25, bounds=(0.25, 0.75))
    options = {"recipe": dataclasses.replace(SHALLOW, pyramid=None), "solver": solver}
    batch = jaxstyle.stylize_batch(params, contents, styles, tile=16, **options)
    for i in range(3):
        alone = jaxstyle.stylize(params, contents[i], styles[i], **options)
        np.testing.assert_allclose(batch.image[i], alone.image, atol=1e-9)
        np.testing.assert_allclose(batch.trace[i], alone.trace, rtol=1e-9)
        assert alone.loss == alone.solver_loss
    held = np.mean((batch.image <= 0.25) | (batch.image >= 0.75), (1, 2, 3))
    assert (held > 0.05).all()
    assert (held < 1).all()


def test_under_jit_and_vmap_of_the_caller(double):
    params, pictures = double
    contents = jnp.stack([pictures(i) for i in range(2)])
    style = pictures(7)
    run = lambda params, c: jaxstyle.stylize(params, c, style, recipe=RECIPE)  # noqa: E731
    expected = run(params, contents[0]).trace
    np.testing.assert_allclose(jax.jit(run)(params, contents[0]).trace, expected, rtol=1e-6)
    found = jax.vmap(run, (None, 0))(params, contents)
    np.testing.assert_allclose(found.trace[0], expected, rtol=1e-6)
    mixed = lambda params, content: jaxstyle.stylize(  # noqa: E731
        params, content, (style, style), recipe=RECIPE, style_weights=jnp.array([0.3, 0.7])
    )
    np.testing.assert_allclose(jax.jit(mixed)(params, contents[0]).trace, expected, rtol=1e-6)


@pytest.mark.parametrize("recipe", [RECIPE, SCIPY], ids=["lbfgs", "scipy"])
def test_steps_end_where_stylize_ends(random_params, pictures, recipe):
    content, style = pictures(0), pictures(1)
    total = recipe.solver.num_steps
    seen = list(jaxstyle.stylize_steps(random_params, content, style, recipe=recipe, every=3))
    assert [step for step, _ in seen] == [0, *range(3, total, 3), total]
    losses = [float(result.loss) for _, result in seen]
    assert losses == sorted(losses, reverse=True)
    np.testing.assert_allclose(seen[0][1].image, content, atol=1e-6)
    whole = jaxstyle.stylize(random_params, content, style, recipe=recipe)
    np.testing.assert_array_equal(seen[-1][1].image, whole.image)
    # Results stay valid although the state went on.
    assert all(np.isfinite(result.trace).all() for _, result in seen)


def test_pairs_of_one_size_compile_once(random_params, pictures):
    """Whatever their weights, given or in the recipe, and however often one looks."""
    compiled = []

    def listen(event, seconds, **_):
        if event.endswith("/backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for seed in range(3):
            for every in (1, 2, None):
                weights = {**RECIPE.weights, "style": 100.0 * (1 + seed)}
                settings = {"weights": weights} if every == 2 else {}
                steps = jaxstyle.stylize_steps(
                    random_params,
                    pictures(seed),
                    pictures(seed + 5),
                    recipe=dataclasses.replace(RECIPE, weights=weights),
                    solver=jaxstyle.LBFGS(num_steps=5, history_size=5),
                    every=every,
                    **settings,
                )
                list(steps)
                if (seed, every) == (0, 1):
                    assert compiled
                    compiled.clear()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled


def test_iteration_stops_when_nothing_is_active(random_params, pictures):
    content = pictures(0)
    weights = {"style": 0.0}
    steps = jaxstyle.stylize_steps(
        random_params, content, pictures(1), recipe=RECIPE, weights=weights, every=1
    )
    assert [step for step, _ in steps] == [0]


def test_starts(random_params, pictures):
    content, style, other = pictures(0), pictures(1), pictures(2)

    def first(**options):
        return next(
            jaxstyle.stylize_steps(random_params, content, style, recipe=RECIPE, **options)
        )[1]

    np.testing.assert_allclose(first(init="content").image, content, atol=1e-6)
    np.testing.assert_allclose(first(init=other).image, other, atol=1e-6)
    noise = [first(init="noise", key=jax.random.key(seed)).image for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noise[0], noise[1])
    assert np.abs(noise[0] - noise[2]).mean() > 0.2
    assert abs(float(noise[0].mean()) - 0.5) < 0.02

    def both(key):
        pairs = jnp.stack([content, content]), jnp.stack([style, style])
        return jaxstyle.stylize_batch(random_params, *pairs, recipe=RECIPE, init="noise", key=key)

    batch = both(jax.random.key(0))
    np.testing.assert_array_equal(batch.image, both(jax.random.PRNGKey(0)).image)
    assert np.abs(batch.image[0] - batch.image[1]).mean() > 0.05


@pytest.mark.parametrize("padding", ["zero", "wrap"])
def test_what_is_returned_passes_the_median_filter_but_the_iteration_does_not(
    padding, random_params, pictures
):
    content, style = pictures(0), pictures(1)
    network = dataclasses.replace(SCIPY.network, padding=padding)
    unfiltered = dataclasses.replace(SCIPY, network=network)
    filtered = dataclasses.replace(unfiltered, median_filter=3)
    plain = list(jaxstyle.stylize_steps(random_params, content, style, recipe=unfiltered, every=1))
    with_filter = list(
        jaxstyle.stylize_steps(random_params, content, style, recipe=filtered, every=1)
    )
    for (_, a), (_, b) in zip(plain, with_filter, strict=True):
        np.testing.assert_array_equal(a.trace, b.trace)
        assert float(a.solver_loss) == float(b.solver_loss)
        # The middle of three copies beside and above each other, if the picture wraps.
        copies = 3 if padding == "wrap" else 1
        tiled = jaxstyle.median_filter(jnp.tile(a.image, (copies, copies, 1)), size=3)
        height, width = (copies // 2 * edge for edge in a.image.shape[:2])
        expected = tiled[height:, width:][: a.image.shape[0], : a.image.shape[1]]
        np.testing.assert_array_equal(expected, b.image)
    assert np.abs(plain[-1][1].image - with_filter[-1][1].image).max() > 0.01
    targets = jaxstyle.prepare_targets(network, random_params, SCIPY.terms, content, style)
    for _, result in (plain[-1], with_filter[-1]):
        of_image, _ = jaxstyle.evaluate(
            network, random_params, SCIPY.terms, targets, SCIPY.weights, result.image
        )
        np.testing.assert_allclose(result.loss, of_image, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e6, 1e12, 1e30])
def test_absurd_weights(random_params, pictures, factor):
    """20 pairs: absurd weights on either term, constant images and noise."""
    rng = np.random.default_rng(0)
    contents = jnp.stack([pictures(0), np.full((32, 40, 3), 0.5), rng.uniform(size=(32, 40, 3)),
                          np.zeros((32, 40, 3))])  # fmt: skip
    styles = jnp.stack([pictures(1), pictures(2), np.ones((32, 40, 3)), np.zeros((32, 40, 3))])
    for weights in ({"content": factor}, {"style": factor}):
        first = jaxstyle.stylize_batch(
            random_params,
            contents,
            styles,
            recipe=RECIPE,
            weights=weights,
            solver=jaxstyle.LBFGS(num_steps=6, history_size=5),
            init="noise",
            key=jax.random.key(0),
        )
        assert np.isfinite(first.image).all()
        assert not np.isnan(first.trace).any()
        assert (np.asarray(first.loss) <= np.asarray(first.trace[:, 0]) * (1 + 1e-6)).all()
        for code in np.asarray(first.status):
            jaxstyle.Status(int(code))


def test_float64(random_params, pictures):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), random_params)
        content, style = (np.asarray(pictures(i), np.float64) for i in (0, 1))
        result = jaxstyle.stylize(params, content, style, recipe=RECIPE)
        assert result.image.dtype == result.loss.dtype == jnp.float64
    single = jaxstyle.stylize(random_params, pictures(0), pictures(1), recipe=RECIPE)
    # One step: what follows, float32's rounding leads elsewhere. The losses are sums of squared
    # differences, here about a tenth of what they are differences of.
    np.testing.assert_allclose(single.trace[0], result.trace[0], rtol=1e-4)
    assert single.loss < 0.7 * single.trace[0]


def test_mistakes(random_params, pictures):
    content, style = pictures(0), pictures(1)
    run = lambda *a, **k: jaxstyle.stylize(random_params, *a, recipe=RECIPE, **k)  # noqa: E731
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        run(content[None], style)
    with pytest.raises(ValueError, match="floating point"):
        run((255 * content).astype(np.uint8), style)
    with pytest.raises(ValueError, match="content, style"):
        run(content, style, weights={"contents": 1.0})
    with pytest.raises(ValueError, match=r"jax\.random\.key"):
        run(content, style, init="noise")
    with pytest.raises(ValueError, match="noise, mean or an image"):
        run(content, style, init="random")
    with pytest.raises(ValueError, match="init has shape"):
        run(content, style, init=content[1:])
    with pytest.raises(ValueError, match="2 styles"):
        run(content, (style, style), style_weights=[1.0])
    with pytest.raises(ValueError, match="at least 2x2"):
        run(content[:1], style)
    with pytest.raises(ValueError, match=r"\(B, H, W, 3\)"):
        jaxstyle.stylize_batch(random_params, content, style, recipe=RECIPE)
    with pytest.raises(ValueError, match="one pair at a time"):
        jaxstyle.stylize_batch(random_params, content[None], style[None], recipe=SCIPY)
    with pytest.raises(ValueError, match=r"VGG19\(dtype=jnp.bfloat16\)"):
        run(content.astype(jnp.bfloat16), style)
    with pytest.raises(ValueError, match="positive sum"):
        run(content, (style, style), style_weights=[0.0, 0.0])
    with pytest.raises(ValueError, match="the weight of style has shape"):
        run(content, style, weights={"style": np.ones(2)})
    with pytest.raises(ValueError, match="x 0 devices"):
        jaxstyle.make_mesh(rows=0)
    with pytest.raises(ValueError, match="two terms have the same name"):
        dataclasses.replace(RECIPE, terms=RECIPE.terms[:1] * 2, weights={RECIPE.terms[0].name: 1})
    with pytest.raises(ValueError, match="at least 1 step"):
        next(jaxstyle.stylize_steps(random_params, content, style, recipe=RECIPE, every=0))


def test_recipes_are_values():
    for name, recipe in jaxstyle.recipes.RECIPES.items():
        assert recipe.name == name
        assert hash(recipe) == hash(dataclasses.replace(recipe))
        assert set(recipe.weights) == {term.name for term in recipe.terms}
    with pytest.raises(ValueError, match="weights"):
        dataclasses.replace(RECIPE, weights={"content": 1.0})
    with pytest.raises(ValueError, match="odd"):
        dataclasses.replace(RECIPE, median_filter=2)
    with pytest.raises(ValueError, match="content, noise, mean"):
        dataclasses.replace(RECIPE, init="nothing")


def test_a_start_from_the_mean_colour(random_params, pictures):
    content, style = pictures(0), pictures(1)
    _, first = next(
        jaxstyle.stylize_steps(
            random_params, content, style, recipe=RECIPE, init="mean", key=jax.random.key(0)
        )
    )
    mean = np.array([123.68, 116.779, 103.939]) / 255
    np.testing.assert_allclose(first.image, np.broadcast_to(mean, content.shape), atol=1e-4)
    assert len(np.unique(first.image)) > 3


def test_luminance_only_keeps_the_chroma_of_the_content(random_params, pictures):
    """YIQ, to 1/255 where nothing is clipped; what goes on is the picture itself."""
    content, style = 0.3 + 0.4 * pictures(0), pictures(1)
    recipe = dataclasses.replace(RECIPE, color="luminance")
    kept = jaxstyle.stylize(random_params, content, style, recipe=recipe)
    plain = jaxstyle.stylize(random_params, content, style, recipe=RECIPE)
    np.testing.assert_array_equal(kept.trace, plain.trace)
    chroma = np.array([[0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    inside = np.all((np.asarray(kept.image) > 0) & (np.asarray(kept.image) < 1), axis=-1)
    assert inside.mean() > 0.5
    difference = (np.asarray(kept.image) - content) @ chroma.T
    assert np.abs(difference[inside]).max() < 1 / 255
    assert np.abs(np.asarray(plain.image - content) @ chroma.T).max() > 5 / 255


def test_strength_mixes_the_result_with_the_content(random_params, pictures):
    """At all steps and sizes, after the other changes; the solver does not see it."""
    content, style = pictures(0), pictures(1)
    others = dataclasses.replace(
        SHALLOW,
        color="luminance",
        median_filter=3,
        pyramid=jaxstyle.Pyramid(16, steps=(2,)),
        solver=jaxstyle.LBFGS(num_steps=4, history_size=2),
    )

    def paint(recipe):
        steps = jaxstyle.stylize_steps(random_params, content, style, recipe=recipe, every=2)
        return [result for _, result in steps]

    plain = paint(others)
    for strength in (0.0, 1.5):
        mixed = paint(dataclasses.replace(others, strength=strength))
        for one, other in zip(plain, mixed, strict=True):
            expected = np.clip(content + strength * (np.asarray(one.image) - content), 0, 1)
            np.testing.assert_allclose(other.image, expected, atol=1e-6)
            np.testing.assert_array_equal(one.trace, other.trace)
            assert one.solver_loss == other.solver_loss
        assert strength or (np.asarray(mixed[-1].image) == content).all()
    assert len(plain) == 4
    given = others.network, random_params, others.terms
    targets = jaxstyle.prepare_targets(*given, content, style)
    of_image, _ = jaxstyle.evaluate(*given, targets, others.weights, mixed[-1].image)
    np.testing.assert_allclose(mixed[-1].loss, of_image, rtol=1e-5)


def test_matched_colours_are_those_of_a_style_matched_before(double):
    params, pictures = double
    content, style = pictures(0), pictures(1, 24, 28) ** 2
    recipe = dataclasses.replace(RECIPE, color="match")
    found = jaxstyle.stylize(params, content, style, recipe=recipe)
    before = jaxstyle.color.match_color(jnp.asarray(style), jnp.asarray(content))
    expected = jaxstyle.stylize(params, content, before, recipe=RECIPE)
    np.testing.assert_allclose(found.trace, expected.trace, rtol=1e-6)


def test_masks_and_mixtures_in_a_batch_are_a_loop(double):
    params, pictures = double
    contents = jnp.stack([pictures(i) for i in range(2)])
    styles = tuple(jnp.stack([pictures(10 + 2 * s + i, 24, 28) for i in range(2)]) for s in (0, 1))
    left = np.zeros(contents.shape[1:3], np.float32)
    left[:, :20] = 1
    masks = np.stack([[left, 1 - left], [1 - left, left]])
    style_masks = (None, np.broadcast_to(np.eye(24, 28, dtype=np.float32), (2, 24, 28)))
    pyramid = dataclasses.replace(RECIPE, pyramid=jaxstyle.Pyramid(coarsest=20, steps=(3,)))
    shares = {"relu1_1": jnp.asarray([1.0, 0.0]), "relu2_1": jnp.asarray([[0.5, 0.5], [0.0, 1.0]])}
    masked = {"masks": masks, "style_masks": style_masks}
    for recipe, options in ((pyramid, masked), (RECIPE, {"style_weights": shares})):
        batch = jaxstyle.stylize_batch(params, contents, styles, recipe=recipe, **options)
        for i in range(2):
            if "masks" in options:
                own = {"masks": masks[i], "style_masks": (None, style_masks[1][i])}
            else:
                own = {"style_weights": {**shares, "relu2_1": shares["relu2_1"][i]}}
            styles_here = tuple(style[i] for style in styles)
            one = jaxstyle.stylize(params, contents[i], styles_here, recipe=recipe, **own)
            np.testing.assert_allclose(batch.trace[i], one.trace, rtol=1e-6)


def test_textures_and_reconstructions(random_params, pictures):
    content, style = pictures(0), pictures(1, 24, 28)
    texture = dataclasses.replace(RECIPE, terms=RECIPE.terms[1:], weights={"style": 1.0})
    result = jaxstyle.stylize(random_params, None, style, recipe=texture, init=pictures(3))
    assert result.image.shape == content.shape
    assert float(result.trace[-1]) < 0.7 * float(result.trace[0])
    reconstruction = dataclasses.replace(RECIPE, terms=RECIPE.terms[:1], weights={"content": 1.0})
    result = jaxstyle.stylize(
        random_params, content, None, recipe=reconstruction, init="noise", key=jax.random.key(0)
    )
    assert float(result.trace[-1]) < 0.7 * float(result.trace[0])
    with pytest.raises(ValueError, match="needs a content image"):
        jaxstyle.stylize(random_params, None, style, recipe=RECIPE, init=content)
    with pytest.raises(ValueError, match="init must be an image"):
        jaxstyle.stylize(random_params, None, style, recipe=texture, init="noise")
    with pytest.raises(ValueError, match="needs a style image"):
        jaxstyle.stylize(random_params, content, None, recipe=RECIPE)
    with pytest.raises(ValueError, match="masks of shape"):
        jaxstyle.stylize(random_params, content, style, recipe=RECIPE, masks=np.ones((2, 32, 40)))
    with pytest.raises(ValueError, match="style mask of shape"):
        jaxstyle.stylize(
            random_params, content, style, recipe=RECIPE, style_masks=[np.ones((2, 2))]
        )


def test_adam_goes_on_from_size_to_size(double):
    """Against the steps written out: moments resized, iterates averaged, clipped to [0, 1]."""
    params, pictures = double
    content, style = pictures(0), pictures(1)
    solver = jaxstyle.Adam(num_steps=3, clip=True, average=0.9, keep_moments=True)
    pyramid = jaxstyle.Pyramid(coarsest=20, steps=(4,), carry="image")
    recipe = dataclasses.replace(RECIPE, solver=solver, pyramid=pyramid)
    found = jaxstyle.stylize(params, content, style, recipe=recipe)

    shrink = lambda x: jax.image.resize(x, (16, 20, 3), "cubic")  # noqa: E731
    x, first, second, count = shrink(content), jnp.zeros((16, 20, 3)), jnp.zeros((16, 20, 3)), 0
    for small, steps in ((True, 4), (False, 3)):
        pictures_here = [shrink(p) if small else jnp.asarray(p) for p in (content, style)]
        targets = jaxstyle.prepare_targets(recipe.network, params, recipe.terms, *pictures_here)
        objective = Problem(recipe.network, recipe.terms)
        value = jax.jit(jax.grad(objective, has_aux=True))
        shape = pictures_here[0].shape
        x = jnp.clip(jax.image.resize(x, shape, "cubic"), 0, 1)
        first = jax.image.resize(first, shape, "cubic")
        second = jnp.maximum(jax.image.resize(second, shape, "linear"), 0)
        samples = [x]
        for _ in range(steps):
            grad, _ = value(x, params, targets, dict(recipe.weights))
            count += 1
            first, second = 0.9 * first + 0.1 * grad, 0.99 * second + 0.01 * grad**2
            step = first / (1 - 0.9**count) / (jnp.sqrt(second / (1 - 0.99**count)) + 1e-8)
            x = jnp.clip(x - 0.02 * step, 0, 1)
            samples.append(x)
        weights = 0.9 ** np.arange(len(samples))[::-1]
        x = sum(w * s for w, s in zip(weights / weights.sum(), samples, strict=True))
    np.testing.assert_allclose(found.image, jnp.clip(x, 0, 1), atol=1e-6)
    assert np.abs(found.image - content).mean() > 0.02


def test_targets_are_by_convolutions_that_compile_fast(random_params, pictures):
    """What is evaluated once has no use for Winograd's, which take longer to compile."""
    if jax.default_backend() != "cpu":
        pytest.skip("accelerators always have XLA's convolutions")

    def convolutions(tile):
        problem = Problem(RECIPE.network, RECIPE.terms, tile)
        images = jnp.asarray(pictures(0, 64, 64)), (jnp.asarray(pictures(1, 64, 64)),)
        lowered = compiled.compute_targets.lower(
            problem, False, random_params, *images, None, None, None
        )
        return lowered.as_text().count("stablehlo.convolution(")

    assert convolutions(None) > convolutions(64)
