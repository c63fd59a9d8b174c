"""Style transfer: `stylize` one pair, `stylize_batch` many, `stylize_steps` to look on.

The whole algorithm is here: compute the targets once, then let the solver move the pixels down
the objective. Compiled functions take networks, terms and solvers as static values and all
arrays as arguments, so pairs of one size share one compilation.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstyle.objective import Params, Style, Weights, evaluate, layers_of, prepare_targets
from jaxstyle.pyramid import resize, scaled_shape
from jaxstyle.recipes import DEFAULT, Recipe
from jaxstyle.solvers import Objective, ScipyLBFGSB, Solver, State, advance, is_active
from jaxstyle.terms import Term
from jaxstyle.vgg import VGG19


class StyleResult(NamedTuple):
    """What came out; a batch has a leading dimension on every field."""

    image: jax.Array
    """`(H, W, 3)` sRGB, clipped to [0, 1]; through the recipe's median filter, if it has one."""
    loss: jax.Array
    """`()` the lowest loss that was reached: that of the image before clipping and filtering."""
    term_losses: dict[str, jax.Array]
    """Term name -> `()` its loss, before its weight."""
    trace: jax.Array
    """`(num_steps,)` the loss after each step; the last one for steps that were not made. The
    steps at the smaller sizes of a pyramid come first, with the loss at their size."""
    num_evaluations: jax.Array
    """`()` loss-and-gradient evaluations."""
    status: jax.Array
    """`()` a `Status`."""


def stylize(
    params: Params,
    content: ArrayLike,
    style: Style,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | None = None,
    style_weights: ArrayLike | Sequence[float] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
) -> StyleResult:
    """Paints `content` in the style of `style`.

    Args:
        params: VGG19's variables, from `jaxstyle.io.load_params`.
        content: `(H, W, 3)` floating-point sRGB in [0, 1].
        style: `(h, w, 3)`, likewise, of any size; or a tuple of such.
        recipe: the setting, out of `jaxstyle.recipes` or your own.
        weights: term name -> factor, over the recipe's; names that are left out keep theirs.
        solver: over the recipe's.
        style_weights: `(S,)` the shares of several styles, by default equal.
        init: the image to start from: `content`, `noise` or `(H, W, 3)`; over the recipe's.
        key: a `jax.random.key`; needed for a start from noise, otherwise unused.

    Returns:
        A `StyleResult`. The loss is never above that of the start (with a pyramid: of the start
        at the full size, which comes from the smaller ones); numeric trouble is told by its
        status.

    Raises:
        ValueError: for wrong shapes, images too small for the network, unknown terms, or a start
            from noise without a key.
    """
    steps = stylize_steps(
        params,
        content,
        style,
        recipe=recipe,
        weights=weights,
        solver=solver,
        style_weights=style_weights,
        init=init,
        key=key,
        every=None,
    )
    return _last(steps)


def stylize_steps(
    params: Params,
    content: ArrayLike,
    style: Style,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | None = None,
    style_weights: ArrayLike | Sequence[float] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    every: int | None = 10,
) -> Iterator[tuple[int, StyleResult]]:
    """Like `stylize`, but stops every few steps to show what there is.

    Stop iterating to stop the run. Any `every` runs the same compiled program.

    Args:
        params: see `stylize`, as for all arguments that are not named here.
        content: see `stylize`.
        style: see `stylize`.
        recipe: see `stylize`.
        weights: see `stylize`.
        solver: see `stylize`.
        style_weights: see `stylize`.
        init: see `stylize`.
        key: see `stylize`.
        every: steps between two results; None for all at once.

    Yields:
        The number of steps made, first 0, and the best result so far.

    Raises:
        ValueError: see `stylize`.
    """
    yield from _run(
        params,
        content,
        style,
        recipe=recipe,
        weights=weights,
        solver=solver,
        style_weights=style_weights,
        init=init,
        key=key,
        every=every,
        batched=False,
    )


def stylize_batch(
    params: Params,
    contents: ArrayLike,
    styles: Style,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | None = None,
    style_weights: ArrayLike | Sequence[float] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
) -> StyleResult:
    """Paints B pairs in lockstep, each with its own solver state, guard and stop.

    Args:
        params: see `stylize`.
        contents: `(B, H, W, 3)`.
        styles: `(B, h, w, 3)`, or a tuple of such.
        recipe: see `stylize`.
        weights: term name -> factor, `()` for all pairs or `(B,)` for each; over the recipe's.
        solver: see `stylize`; `ScipyLBFGSB` takes the pairs one after the other.
        style_weights: `(S,)` for all pairs, or `(B, S)`.
        init: `content`, `noise` (another for each pair) or `(B, H, W, 3)`.
        key: one key for all pairs; pair `i` uses `jax.random.split(key, B)[i]`.

    Returns:
        A `StyleResult` with a leading B on every field.

    Raises:
        ValueError: see `stylize`.
    """
    steps = _run(
        params,
        contents,
        styles,
        recipe=recipe,
        weights=weights,
        solver=solver,
        style_weights=style_weights,
        init=init,
        key=key,
        every=None,
        batched=True,
    )
    return _last(steps)


def _last(steps: Iterator[tuple[int, StyleResult]]) -> StyleResult:
    *_, (_, result) = steps
    return result


def _run(
    params: Params,
    content: ArrayLike,
    style: Style,
    *,
    recipe: Recipe,
    weights: Weights | None,
    solver: Solver | None,
    style_weights: ArrayLike | Sequence[float] | None,
    init: ArrayLike | str | None,
    key: jax.Array | None,
    every: int | None,
    batched: bool,
) -> Iterator[tuple[int, StyleResult]]:
    content_image = _check_image(content, "content", batched)
    styles = tuple(
        _check_image(each, "style", batched)
        for each in (style if isinstance(style, tuple | list) else (style,))
    )
    solver = recipe.solver if solver is None else solver
    start = _initial_image(recipe.init if init is None else init, content_image, key, batched)
    factors = _merge_weights(recipe, weights, content_image, batched)
    shares = _check_style_weights(style_weights, styles, batched)
    if batched and isinstance(solver, ScipyLBFGSB):
        raise ValueError("ScipyLBFGSB runs on the host, one pair at a time: use `stylize`")

    stages = _stages(recipe, solver, content_image, styles)
    total = sum(stage_solver.num_steps for _, stage_solver in stages)
    made = 0
    traces: tuple[jax.Array, ...] = ()
    evaluations = jnp.zeros((), jnp.int32)
    painted: tuple[jax.Array, jax.Array] | None = None  # at the size before: result and start
    for scale, stage_solver in stages:
        here = functools.partial(_shrink, scale=scale)
        start_here = here(start)
        x = start_here if painted is None else _carry(*painted, start_here, recipe.carry)
        static = (recipe.network, recipe.terms)
        pictures = (here(content_image), tuple(map(here, styles)))
        targets = _targets(*static, params, *pictures, shares, batched=batched)
        problem = (params, targets, factors)
        for steps, state in _solve(*static, stage_solver, batched, every, x, problem):
            if steps == 0 and made > 0:
                continue
            yield (
                made + steps,
                _result(
                    state,
                    (traces, evaluations),
                    None if scale == 1 else (start_here, start),
                    rest=total - made - stage_solver.num_steps,
                    recipe=recipe,
                    batched=batched,
                ),
            )
        made += stage_solver.num_steps
        traces, evaluations = (*traces, state.trace), evaluations + state.num_evaluations
        painted = state.best_x, start_here


def _stages(
    recipe: Recipe, solver: Solver, content: jax.Array, styles: Sequence[jax.Array]
) -> list[tuple[float, Solver]]:
    """The sizes to run through, as scales, each with its solver; the last one is 1."""
    stages: list[tuple[float, Solver]] = []
    if recipe.pyramid is not None:
        layers = layers_of(recipe.terms)
        minimum = recipe.network.minimum_size(layers)
        for scale, steps in recipe.pyramid.scales(*content.shape[-3:-1]):
            shapes = [scaled_shape(image.shape, scale) for image in (content, *styles)]
            # A size at which some picture no longer passes the network is left out.
            if min(min(shape[-3:-1]) for shape in shapes) >= minimum:
                stages.append((scale, dataclasses.replace(solver, num_steps=steps)))
    return [*stages, (1.0, solver)]


def _solve(
    network: VGG19,
    terms: tuple[Term, ...],
    solver: Solver,
    batched: bool,
    every: int | None,
    x: jax.Array,
    arguments: tuple[Any, ...],
) -> Iterator[tuple[int, State]]:
    """Runs the solver at one size; yields the number of steps made, and the state."""
    if isinstance(solver, ScipyLBFGSB):
        objective = _objective(network, terms)
        state = solver.start(objective, x, *arguments)
        more = functools.partial(solver.advance, objective)
    else:
        static = (network, terms, solver, batched)
        state = _start(*static, x, *arguments)
        # The state is donated: the solver's history is the largest array there is. Not so inside
        # somebody's own jit or vmap, where it is no buffer yet.
        traced = isinstance(state.value, jax.core.Tracer)
        more = functools.partial(_advance if traced else _advance_in_place, *static)

    made, total = 0, solver.num_steps
    yield made, state
    while made < total:
        made = total if every is None else min(made + every, total)
        state = more(state, made, *arguments)
        yield made, state
        # With a single chunk there is nothing to decide, which keeps `stylize` traceable.
        if made < total and not jnp.any(is_active(state.status)):
            return


def _check_image(image: ArrayLike, what: str, batched: bool) -> jax.Array:
    array = jnp.asarray(image)
    shape = "(B, H, W, 3)" if batched else "(H, W, 3)"
    if array.ndim != 3 + batched or array.shape[-1] != 3:
        raise ValueError(f"{what} must be {shape}, not {array.shape}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{what} must be floating point in [0, 1], not {array.dtype}")
    return array


def _initial_image(
    init: ArrayLike | str, content: jax.Array, key: jax.Array | None, batched: bool
) -> jax.Array:
    if not isinstance(init, str):
        image = _check_image(init, "init", batched)
        if image.shape != content.shape:
            raise ValueError(f"init has shape {image.shape}, content {content.shape}")
        return image.astype(content.dtype)
    if init == "content":
        return content
    if init != "noise":
        raise ValueError(f"init {init!r} is not content, noise or an image")
    if key is None:
        raise ValueError("a start from noise needs key=jax.random.key(seed)")

    def noise(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, content.shape[-3:], content.dtype)

    return jax.vmap(noise)(jax.random.split(key, len(content))) if batched else noise(key)


def _merge_weights(
    recipe: Recipe, weights: Weights | None, content: jax.Array, batched: bool
) -> dict[str, jax.Array]:
    weights = {} if weights is None else weights
    if unknown := set(weights) - set(recipe.weights):
        raise ValueError(
            f"weights for {', '.join(sorted(unknown))}, but the terms of recipe {recipe.name} are "
            f"{', '.join(sorted(recipe.weights))}"
        )
    # All of them arrays, of the pixels' dtype, so that other numbers do not compile anew.
    factors = {
        name: jnp.asarray(weights.get(name, factor), content.dtype)
        for name, factor in recipe.weights.items()
    }
    if not batched:
        return factors
    return {name: jnp.broadcast_to(factor, len(content)) for name, factor in factors.items()}


def _check_style_weights(
    style_weights: ArrayLike | Sequence[float] | None,
    styles: Sequence[jax.Array],
    batched: bool,
) -> jax.Array | None:
    """The shares, `(S,)`, or `(B, S)` for a batch."""
    if style_weights is None:
        return None
    shares = jnp.asarray(style_weights, styles[0].dtype)
    if shares.shape[-1:] != (len(styles),) or shares.ndim > 1 + batched:
        raise ValueError(f"style_weights of shape {shares.shape} for {len(styles)} styles")
    return jnp.broadcast_to(shares, (len(styles[0]), len(styles))) if batched else shares


@functools.lru_cache(maxsize=64)
def _objective(network: VGG19, terms: tuple[Term, ...]) -> Objective:
    """The objective as a solver wants it; one function per setting, so that jit knows it again."""

    def objective(x: jax.Array, params: Params, targets: Any, weights: Weights) -> Any:
        return evaluate(network, params, terms, targets, weights, x)

    return objective


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="batched")
def _targets(
    network: VGG19,
    terms: tuple[Term, ...],
    params: Params,
    content: jax.Array,
    styles: tuple[jax.Array, ...],
    style_weights: jax.Array | None,
    *,
    batched: bool,
) -> Any:
    def single(
        content: jax.Array, styles: tuple[jax.Array, ...], style_weights: jax.Array | None
    ) -> Any:
        return prepare_targets(network, params, terms, content, styles, style_weights)

    return (jax.vmap(single) if batched else single)(content, styles, style_weights)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _start(
    network: VGG19,
    terms: tuple[Term, ...],
    solver: Any,
    batched: bool,
    x: jax.Array,
    params: Params,
    targets: Any,
    weights: Weights,
) -> State:
    start = functools.partial(solver.start, _objective(network, terms))
    if batched:
        start = jax.vmap(start, in_axes=(0, None, 0, 0))
    return start(x, params, targets, weights)


def _advance_by_steps(
    network: VGG19,
    terms: tuple[Term, ...],
    solver: Any,
    batched: bool,
    state: State,
    stop: jax.Array,
    params: Params,
    targets: Any,
    weights: Weights,
) -> State:
    params = network.prepare(params)
    step = functools.partial(solver.step, _objective(network, terms))
    if batched:
        step = jax.vmap(step, in_axes=(0, None, 0, 0))
    return advance(lambda state: step(state, params, targets, weights), state, stop)


_advance = jax.jit(_advance_by_steps, static_argnums=(0, 1, 2, 3))
_advance_in_place = jax.jit(_advance_by_steps, static_argnums=(0, 1, 2, 3), donate_argnums=4)


@functools.partial(jax.jit, static_argnames="scale")
def _shrink(image: jax.Array, scale: float) -> jax.Array:
    return resize(image, scaled_shape(image.shape, scale))


@functools.partial(jax.jit, static_argnums=3)
def _carry(painted: jax.Array, start: jax.Array, next_start: jax.Array, carry: str) -> jax.Array:
    """Takes what was painted over `start` to the size of `next_start`."""
    if carry == "image":
        return resize(painted, next_start.shape)
    return next_start + resize(painted - start, next_start.shape)


@functools.partial(jax.jit, static_argnames=("rest", "recipe", "batched"))
def _result(
    state: State,
    earlier: tuple[tuple[jax.Array, ...], jax.Array],
    starts: tuple[jax.Array, jax.Array] | None,
    *,
    rest: int,
    recipe: Recipe,
    batched: bool,
) -> StyleResult:
    """What a state shows.

    `earlier` are traces and the number of evaluations of the smaller sizes, `rest` the steps of
    the larger ones. `starts`, at a smaller size, are the images started from there and at full
    size.
    """
    image = state.best_x
    if starts is not None:
        image = _carry(image, *starts, recipe.carry)

    def finish(x: jax.Array) -> jax.Array:
        return median_filter(jnp.clip(x, 0, 1), recipe.median_filter)

    traces, evaluations = earlier
    last = jnp.repeat(state.trace[..., -1:], rest, axis=-1)
    return StyleResult(
        image=(jax.vmap(finish) if batched else finish)(image),
        loss=state.best_value,
        term_losses=state.best_aux,
        trace=jnp.concatenate([*traces, state.trace, last], axis=-1),
        num_evaluations=evaluations + state.num_evaluations,
        status=state.status,
    )


def median_filter(image: jax.Array, size: int = 3) -> jax.Array:
    """Replaces each pixel by the median of the `size` x `size` pixels around it, per channel.

    Args:
        image: `(H, W, c)`; its border is continued by its outermost pixels.
        size: odd; 1 returns the image.

    Returns:
        `(H, W, c)`.

    Raises:
        ValueError: if `size` is not odd and positive, or the image is not of rank 3.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"the size of a median filter must be odd and positive, not {size}")
    if image.ndim != 3:
        raise ValueError(f"image must be (H, W, c), not {image.shape}; batch with jax.vmap")
    if size == 1:
        return image
    height, width, _ = image.shape
    border = size // 2
    padded = jnp.pad(image, ((border, border), (border, border), (0, 0)), mode="edge")
    window = jnp.stack(
        [padded[i : i + height, j : j + width] for i in range(size) for j in range(size)]
    )
    return jnp.sort(window, axis=0)[size * size // 2]
