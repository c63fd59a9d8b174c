"""Style transfer: `stylize` one pair, `stylize_batch` many, `stylize_steps` to look on.

The whole algorithm is here: compute the targets once, then let the solver move the pixels down
the objective. Compiled functions take networks, terms and solvers as static values and all
arrays as arguments, so pairs of one size share one compilation.
"""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxstyle.color import luminance_only, match_color
from jaxstyle.objective import (
    Params,
    Style,
    StyleWeights,
    Weights,
    evaluate,
    layers_of,
    prepare_targets,
)
from jaxstyle.pyramid import resize, scaled_shape
from jaxstyle.recipes import DEFAULT, Recipe
from jaxstyle.sharding import check_mesh, over, place, split_state, splits_columns
from jaxstyle.solvers import Adam, Objective, ScipyLBFGSB, Solver, State, advance, is_active
from jaxstyle.terms import Term
from jaxstyle.vgg import VGG19, number_of_poolings


class StyleResult(NamedTuple):
    """What came out; a batch has a leading dimension on every field."""

    image: jax.Array
    """`(H, W, 3)` sRGB, clipped to [0, 1]; through the recipe's median filter, if it has one."""
    loss: jax.Array
    """`()` the lowest loss that was reached, that of the image before clipping and filtering; of a
    mean of iterates, `Adam(average=...)`, the last iterate's."""
    term_losses: dict[str, jax.Array]
    """Term name -> `()` its loss, before its weight."""
    trace: jax.Array
    """`(num_steps,)` the loss after each step; the last one for steps that were not made. The
    steps at the smaller sizes of a pyramid come first, with the loss at their size."""
    num_evaluations: jax.Array
    """`()` loss-and-gradient evaluations."""
    status: jax.Array
    """`()` a `Status`."""
    term_traces: dict[str, jax.Array]
    """Term name -> `(num_steps,)` its part in `trace`, before its weight."""


class Checkpoint(NamedTuple):
    """What `stylize_steps` goes on from; a pytree of arrays."""

    stage: int | jax.Array
    """Which size of the pyramid it is at, from 0; 0 without a pyramid."""
    steps: int | jax.Array
    """Steps made at that size."""
    state: Any
    """The solver's; its leaves in their order do, whatever holds them."""
    traces: tuple[Any, ...]
    """For each smaller size, loss and losses of the terms, `(num_steps,)` each; as `state`."""
    num_evaluations: jax.Array
    """`()` those at the smaller sizes."""


def call_jitted(function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
    """Calls a compiled part of a run: a jitted function whose first arguments are static."""
    return function(*static, *arrays)


class Problem(NamedTuple):
    """What is static about an objective."""

    network: VGG19
    terms: tuple[Term, ...]
    tile: int | None = None
    mesh: Mesh | None = None
    turned: bool = False
    """Whether the solver has its arrays as `(W, H, 3)`: those split along their columns."""

    @property
    def stride(self) -> int:
        """Pixels that come together in a position of the deepest layer."""
        return max(2 ** number_of_poolings(layer) for layer in layers_of(self.terms))

    def turn(self, x: jax.Array) -> jax.Array:
        """From pictures `(..., H, W, 3)` to what the solver has, or back."""
        return x.swapaxes(-3, -2) if self.turned else x


def stylize(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> StyleResult:
    """Paints `content` in the style of `style`.

    Args:
        params: VGG19's variables, from `jaxstyle.io.load_params`.
        content: `(H, W, 3)` floating-point sRGB in [0, 1]; None, with an `init` that is an
            image, if no term of the recipe needs it (texture synthesis).
        style: `(h, w, 3)` floating-point sRGB in [0, 1], of any size; or a tuple of such; None if
            no term needs it (reconstruction).
        recipe: the setting, out of `jaxstyle.recipes` or your own.
        weights: term name -> factor, over the recipe's; names that are left out keep theirs.
        solver: over the recipe's.
        style_weights: `(S,)` the shares of several styles, by default equal; or a mapping of
            layers to such, see `prepare_targets`.
        masks: `(S, H, W)` in [0, 1], the region of the picture that each style is for.
        style_masks: for each style None or `(h, w)` in [0, 1], the region of it that counts.
        init: the image to start from: `content`, `noise`, `mean` or `(H, W, 3)`; over the
            recipe's, see `Recipe`.
        key: a `jax.random.key`; needed for a start from noise or mean, otherwise unused.
        tile: compute in windows of about this many pixels each way, in the memory for one of
            them; the same picture. None takes it whole.
        mesh: from `jaxstyle.make_mesh`: its axis `rows` splits the picture, along the edge that
            is a multiple of 16 times the devices (for a recipe that reads `relu5_1`). Smaller
            sizes of a pyramid of which none is, and such styles, are on all devices alike. None
            takes the arrays where they are.

    Returns:
        A `StyleResult`. The loss is never above that of the start (with a pyramid, of the start
        at the full size, which comes from the smaller ones), unless the solver averages its
        iterates; numeric trouble is told by its status.

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
        masks=masks,
        style_masks=style_masks,
        init=init,
        key=key,
        tile=tile,
        mesh=mesh,
        every=None,
    )
    return _last(steps)


def stylize_steps(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
    every: int | None = 10,
    checkpoint: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    call: Callable[..., Any] = call_jitted,
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
        masks: see `stylize`.
        style_masks: see `stylize`.
        init: see `stylize`.
        key: see `stylize`.
        tile: see `stylize`.
        mesh: see `stylize`.
        every: steps between two results; None for all at once.
        checkpoint: goes on from there: what is yielded first is what was yielded last. All other
            arguments must be what they were.
        keep: called with a checkpoint before each result after the first step; it must read the
            arrays before it returns, since the next step takes their place.
        call: how the large compiled parts of the run are called, `call(function, static, *arrays)`
            for `function(*static, *arrays)`, of a jitted function whose first arguments are
            static; for those who keep compiled programs, as the command line does.

    Yields:
        The number of steps made, first 0, and the best result so far.

    Raises:
        ValueError: see `stylize`; for `every` below 1; or for a checkpoint of another run, or with
            `ScipyLBFGSB`.
    """
    yield from _run(
        params,
        content,
        style,
        recipe=recipe,
        weights=weights,
        solver=solver,
        style_weights=style_weights,
        masks=masks,
        style_masks=style_masks,
        init=init,
        key=key,
        tile=tile,
        mesh=mesh,
        every=every,
        batched=False,
        checkpoint=checkpoint,
        keep=keep,
        call=call,
    )


def stylize_batch(
    params: Params,
    contents: ArrayLike | None,
    styles: Style | None,
    *,
    recipe: Recipe = DEFAULT,
    weights: Weights | None = None,
    solver: Solver | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> StyleResult:
    """Paints B pairs in lockstep, each with its own solver state, guard and stop.

    Args:
        params: see `stylize`.
        contents: `(B, H, W, 3)`.
        styles: `(B, h, w, 3)`, or a tuple of such.
        recipe: see `stylize`.
        weights: term name -> factor, `()` for all pairs or `(B,)` for each; over the recipe's.
        solver: see `stylize`; not `ScipyLBFGSB`, which takes single pairs.
        style_weights: `(S,)` for all pairs, or `(B, S)`; or a mapping of layers to such.
        masks: `(S, H, W)` for all pairs, or `(B, S, H, W)`.
        style_masks: for each style None or `(B, h, w)`.
        init: `content`, `noise` or `mean` (another noise for each pair), or `(B, H, W, 3)`.
        key: one key for all pairs, of which pair `i` uses `jax.random.split(key, B)[i]`; or
            `(B,)`, a key for each.
        tile: see `stylize`.
        mesh: from `jaxstyle.make_mesh`: its axis `batch` splits the pairs, evenly if B is a
            multiple of its size, `rows` each picture, see `stylize`.

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
        masks=masks,
        style_masks=style_masks,
        init=init,
        key=key,
        tile=tile,
        mesh=mesh,
        every=None,
        batched=True,
    )
    return _last(steps)


def stylize_batch_steps(
    params: Params,
    contents: ArrayLike | None,
    styles: Style | None,
    *,
    every: int | None = 10,
    call: Callable[..., Any] = call_jitted,
    **settings: Any,
) -> Iterator[tuple[int, StyleResult]]:
    """Like `stylize_batch`, but stops every few steps, as `stylize_steps` does.

    Args:
        params: see `stylize`.
        contents: see `stylize_batch`.
        styles: see `stylize_batch`.
        every: steps between two results; None for all at once.
        call: see `stylize_steps`.
        **settings: all that `stylize_batch` takes.

    Yields:
        The number of steps made, first 0, and the best results so far.

    Raises:
        ValueError: see `stylize`.
    """
    yield from _run(params, contents, styles, every=every, batched=True, call=call, **settings)


def _last(steps: Iterator[tuple[int, StyleResult]]) -> StyleResult:
    ((_, result),) = collections.deque(steps, maxlen=1)
    return result


class _Inputs(NamedTuple):
    """What a run works on, checked; a batch has a leading dimension on all but `params`."""

    problem: Problem
    params: Params
    content: jax.Array
    styles: tuple[jax.Array, ...]
    start: jax.Array
    factors: dict[str, jax.Array]
    shares: Any
    guides: tuple[jax.Array | None, tuple[jax.Array | None, ...] | None]
    number: int  # of pairs, without those that fill up the devices


def _prepare(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    recipe: Recipe,
    solver: Solver,
    batched: bool,
    weights: Weights | None = None,
    style_weights: StyleWeights | None = None,
    masks: ArrayLike | None = None,
    style_masks: Sequence[ArrayLike | None] | None = None,
    init: ArrayLike | str | None = None,
    key: jax.Array | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> _Inputs:
    styles = tuple(
        _check_image(each, "style", batched)
        for each in (style if isinstance(style, tuple | list) else (style,))
        if each is not None
    )
    init = recipe.init if init is None else init
    if content is None:
        _check_without_content(recipe, init)
    # Without a content, nothing but its size is read of what stands for it.
    stand_in: Any = init if content is None else content
    content_image = _check_image(stand_in, "content", batched)
    start = _initial_image(init, content_image, key, recipe.network, batched)
    factors = _merge_weights(recipe, weights, content_image, batched)
    shares = _check_style_weights(style_weights, styles, batched)
    guides = _check_masks(masks, style_masks, content_image, styles, batched)
    number = len(content_image)
    problem = Problem(recipe.network, recipe.terms, tile)
    if mesh is not None:
        problem = _split(problem, mesh, solver, content_image, batched)
        pairs = content_image, start, factors, shares, guides, styles
        if batched:
            pairs = _fill(pairs, -number % mesh.shape.get("batch", 1))
        content_image, start, factors, shares, guides, styles = place(pairs, problem.mesh, batched)
        params = place(params, problem.mesh, batched=False)
    if recipe.color == "match":
        styles = tuple(_match_color(each, content_image, batched=batched) for each in styles)
    return _Inputs(problem, params, content_image, styles, start, factors, shares, guides, number)


def _run(
    params: Params,
    content: ArrayLike | None,
    style: Style | None,
    *,
    every: int | None,
    batched: bool,
    recipe: Recipe = DEFAULT,
    solver: Solver | None = None,
    checkpoint: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    call: Callable[..., Any] = call_jitted,
    **settings: Any,
) -> Iterator[tuple[int, StyleResult]]:
    """All that `stylize` and its kin do; `settings` are those of `_prepare`."""
    solver = recipe.solver if solver is None else solver
    if every is not None and every < 1:
        raise ValueError(f"every must be at least 1 step, not {every}")
    if isinstance(solver, ScipyLBFGSB):
        _check_scipy(batched, checkpoint is not None or keep is not None)
    problem, params, content_image, styles, start, factors, shares, guides, number = _prepare(
        params, content, style, recipe=recipe, solver=solver, batched=batched, **settings
    )
    # With the luminance only, what is shown has the content's chroma.
    shown = content_image if recipe.color == "luminance" else None

    stages = _stages(recipe, solver, content_image, styles)
    total = sum(stage_solver.num_steps for _, stage_solver in stages)
    made = 0
    traces: tuple[Any, ...] = ()
    evaluations = jnp.zeros((), jnp.int32)
    painted: tuple[jax.Array, jax.Array] | None = None  # at the size before: result and start
    earlier: Any = None  # the solver's own state there
    if checkpoint is not None:
        traces, evaluations = _restore_smaller(checkpoint, factors, len(stages))
    for stage, (scale, stage_solver) in enumerate(stages):
        resume = None
        if checkpoint is not None and stage <= checkpoint.stage:
            if stage < checkpoint.stage:
                made += stage_solver.num_steps
                continue
            resume = int(checkpoint.steps), checkpoint.state
        here = functools.partial(_shrink, scale=scale)
        start_here = here(start)
        x = start_here if painted is None else _carry(*painted, start_here, recipe.carry)
        pictures = (here(content_image), tuple(map(here, styles)))
        guides_here = jax.tree.map(functools.partial(_shrink_mask, scale=scale), guides)
        targets = call(_targets, (problem, batched), params, *pictures, shares, *guides_here)
        arguments = (params, targets, factors)
        for steps, state in _solve(
            problem, stage_solver, batched, every, x, earlier, arguments, resume, call
        ):
            if steps == 0 and made > 0 and _is_any_active(state.status):
                continue  # the start at the next size
            if keep is not None and steps > 0:
                keep(Checkpoint(stage, steps, state, traces, evaluations))
            if every is None and scale != 1:
                continue  # nobody looks before the end
            rest = total - made - stage_solver.num_steps
            static = (problem, batched, rest, recipe.carry, recipe.median_filter)
            starts = None if scale == 1 else (start_here, start)
            result = call(_result, static, state, (traces, evaluations), starts, shown)
            if batched and len(content_image) > number:
                result = jax.tree.map(lambda leaf: leaf[:number], result)
            yield made + steps, result
        if scale == 1:
            return
        made += stage_solver.num_steps
        traces, evaluations = (*traces, state.trace), evaluations + state.num_evaluations
        painted = problem.turn(state.best_x), start_here
        earlier = state.inner if isinstance(stage_solver, Adam) else None
        del state  # and its history, the largest array there is


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
    problem: Problem,
    solver: Solver,
    batched: bool,
    every: int | None,
    x: jax.Array,
    earlier: Any,
    arguments: tuple[Any, ...],
    resume: tuple[int, Any] | None,
    call: Callable[..., Any],
) -> Iterator[tuple[int, State]]:
    """Runs the solver at one size; yields the number of steps made, and the state.

    `earlier` is the solver's own state at the end of the size before. `resume` are the steps that
    were made, and the state after them, to go on from.
    """
    made, total = 0, solver.num_steps
    if isinstance(solver, ScipyLBFGSB):
        objective = _objective(problem)
        state = solver.start(objective, x, *arguments)
        more = functools.partial(solver.advance, objective)
    else:
        static = (problem, solver, batched)
        go_on = isinstance(solver, Adam) and solver.keep_moments
        state = call(_start, static, x, earlier if go_on else None, *arguments)
        if resume is not None:
            made, state = resume[0], _restore(resume[1], state)
        # The state is donated: the solver's history is the largest array there is. Not so inside
        # somebody's own jit or vmap, where it is no buffer yet.
        leaves = jax.tree.leaves((state, arguments))
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        more = functools.partial(call, _advance if traced else _advance_in_place, static)

    if every is None:  # nothing is decided on the way, which keeps `stylize` traceable
        yield total, more(state, total, *arguments)
        return
    while True:
        state = more(state, made, *arguments)
        stopped = not _is_any_active(state.status)
        made = int(jnp.max(state.step)) if stopped else made
        yield made, state
        if stopped or made == total:
            return
        made = min(made + every, total)


def _check_scipy(batched: bool, checkpoints: bool) -> None:
    if batched:
        raise ValueError("ScipyLBFGSB runs on the host, one pair at a time: use `stylize`")
    if checkpoints:
        raise ValueError("SciPy keeps the state of ScipyLBFGSB to itself: no checkpoints")


def _restore_smaller(
    checkpoint: Checkpoint, factors: dict[str, jax.Array], number: int
) -> tuple[tuple[Any, ...], jax.Array]:
    """Traces and evaluations of the sizes before that of a checkpoint, which is one of `number`."""
    if checkpoint.stage >= number:
        raise ValueError(
            f"the checkpoint is of another run: of size {int(checkpoint.stage) + 1} of a pyramid, "
            f"but here are {number}"
        )
    like = jax.tree.structure(((0, factors),) * int(checkpoint.stage))
    traces = jax.tree.unflatten(like, jax.tree.leaves(checkpoint.traces))
    return traces, jnp.asarray(checkpoint.num_evaluations)


def _restore(saved: Any, state: State) -> State:
    """Puts the leaves of a saved state where those of a new one are."""
    old, new = jax.tree.leaves(saved), jax.tree.leaves(state)
    if [(jnp.shape(leaf), leaf.dtype) for leaf in old] != [
        (leaf.shape, leaf.dtype) for leaf in new
    ]:
        raise ValueError("the checkpoint is of another run: its state has other arrays")
    placed = [
        # A copy, since it is donated to the next step.
        jax.device_put(leaf, like.sharding, may_alias=False)
        for leaf, like in zip(old, new, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(state), placed)


def _check_image(image: ArrayLike, what: str, batched: bool) -> jax.Array:
    array = jnp.asarray(image)
    shape = "(B, H, W, 3)" if batched else "(H, W, 3)"
    if array.ndim != 3 + batched or array.shape[-1] != 3:
        raise ValueError(f"{what} must be {shape}, not {array.shape}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{what} must be floating point in [0, 1], not {array.dtype}")
    if jnp.finfo(array.dtype).bits < 32:
        raise ValueError(
            f"{what} is {array.dtype}, too coarse for pixels that are optimised: use float32, and "
            f"VGG19(dtype=jnp.{array.dtype}) for the network"
        )
    return array


def _split(
    problem: Problem, mesh: Mesh, solver: Solver, content: jax.Array, batched: bool
) -> Problem:
    mesh = check_mesh(mesh, batched)
    if isinstance(solver, ScipyLBFGSB):
        raise ValueError("ScipyLBFGSB runs on the host: leave mesh out")
    if problem.tile is not None and mesh.shape.get("rows", 1) > 1:
        raise ValueError(
            "windows of a picture cannot be split over devices: leave out tile or mesh"
        )
    turned = splits_columns(content.shape, mesh, problem.stride)
    return problem._replace(mesh=mesh, turned=turned)


def _fill(pairs: Any, missing: int) -> Any:
    """Repeats the last pair of a batch."""
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf, *[leaf[-1:]] * missing]), pairs)


def _check_without_content(recipe: Recipe, init: Any) -> None:
    if needing := [term.name for term in recipe.terms if term.target_image == "content"]:
        raise ValueError(f"{needing[0]} needs a content image, but there is none")
    if isinstance(init, str) or recipe.color != "style":
        raise ValueError(
            "without a content image, init must be an image, and the recipe's color `style`"
        )


def _initial_image(
    init: ArrayLike | str,
    content: jax.Array,
    key: jax.Array | None,
    network: VGG19,
    batched: bool,
) -> jax.Array:
    if not isinstance(init, str):
        image = _check_image(init, "init", batched)
        if image.shape != content.shape:
            raise ValueError(f"init has shape {image.shape}, content {content.shape}")
        return image.astype(content.dtype)
    if init == "content":
        return content
    if init not in ("noise", "mean"):
        raise ValueError(f"init {init!r} is not content, noise, mean or an image")
    if key is None:
        raise ValueError(f"a start from {init} needs key=jax.random.key(seed)")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):  # a jax.random.PRNGKey
        key = jax.random.wrap_key_data(key)

    def noise(key: jax.Array) -> jax.Array:
        if init == "noise":
            return jax.random.uniform(key, content.shape[-3:], content.dtype)
        return network.mean_color(dtype=content.dtype) + 0.001 / network.white * jax.random.normal(
            key, content.shape[-3:], content.dtype
        )

    if not batched:
        return noise(key)
    return jax.vmap(noise)(key if key.ndim else jax.random.split(key, len(content)))


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
    shapes = [(), content.shape[:1]] if batched else [()]
    for name, factor in factors.items():
        if factor.shape not in shapes:
            raise ValueError(
                f"the weight of {name} has shape {factor.shape} instead of "
                f"{' or '.join(map(str, shapes))}"
            )
    if not batched:
        return factors
    return {name: jnp.broadcast_to(factor, len(content)) for name, factor in factors.items()}


def _check_style_weights(
    style_weights: StyleWeights | None, styles: Sequence[jax.Array], batched: bool
) -> Any:
    """The shares, `(S,)`, or `(B, S)` for a batch; or a dict of such."""
    if style_weights is None:
        return None
    if isinstance(style_weights, Mapping):
        return {
            layer: _check_style_weights(shares, styles, batched)
            for layer, shares in style_weights.items()
        }
    if not styles:
        raise ValueError("style_weights, but there is no style")
    shares = jnp.asarray(style_weights, styles[0].dtype)
    if shares.shape[-1:] != (len(styles),) or not 1 <= shares.ndim <= 1 + batched:
        raise ValueError(f"style_weights of shape {shares.shape} for {len(styles)} styles")
    # In NumPy, which says it under somebody's jit too.
    if not isinstance(shares, jax.core.Tracer) and not np.all(np.sum(np.asarray(shares), -1) > 0):
        raise ValueError("style_weights must have a positive sum")
    return jnp.broadcast_to(shares, (len(styles[0]), len(styles))) if batched else shares


def _check_masks(
    masks: ArrayLike | None,
    style_masks: Sequence[ArrayLike | None] | None,
    content: jax.Array,
    styles: Sequence[jax.Array],
    batched: bool,
) -> tuple[jax.Array | None, tuple[jax.Array | None, ...] | None]:
    """The masks, `([B,] S, H, W)`, and those of the styles, `([B,] h, w)`."""
    found = None
    if masks is not None:
        found = jnp.asarray(masks, content.dtype)
        shape = (len(styles), *content.shape[-3:-1])
        if found.shape[-3:] != shape or not 3 <= found.ndim <= 3 + batched:
            raise ValueError(f"masks of shape {found.shape} instead of (S, H, W) = {shape}")
        found = jnp.broadcast_to(found, (len(content), *shape)) if batched else found
    if style_masks is None:
        return found, None
    if len(style_masks) != len(styles):
        raise ValueError(f"{len(style_masks)} style_masks for {len(styles)} styles")
    of_styles = tuple(
        None if mask is None else jnp.asarray(mask, content.dtype) for mask in style_masks
    )
    for mask, image in zip(of_styles, styles, strict=True):
        if mask is not None and mask.shape != image.shape[:-1]:
            raise ValueError(f"a style mask of shape {mask.shape} for a style of {image.shape}")
    return found, of_styles


@functools.lru_cache(maxsize=64)
def _objective(problem: Problem) -> Objective:
    """The objective as a solver wants it; one function per setting, so that jit knows it again."""

    def objective(x: jax.Array, params: Params, targets: Any, weights: Weights) -> Any:
        image = problem.turn(x)
        return evaluate(
            problem.network, params, problem.terms, targets, weights, image, tile=problem.tile
        )

    return objective


@functools.partial(jax.jit, static_argnums=(0, 1))
def _targets(
    problem: Problem,
    batched: bool,
    params: Params,
    content: jax.Array,
    styles: tuple[jax.Array, ...],
    style_weights: Any,
    masks: jax.Array | None,
    style_masks: tuple[jax.Array | None, ...] | None,
) -> Any:
    def prepare(params: Any, content: Any, styles: Any, shares: Any, *guides: Any) -> Any:
        masks, style_masks = guides
        return prepare_targets(
            problem.network,
            params,
            problem.terms,
            content,
            styles,
            style_weights=shares,
            masks=masks,
            style_masks=style_masks,
            tile=problem.tile,
        )

    if batched:
        prepare = jax.vmap(prepare, (None, 0, 0, 0, 0, 0))
    arguments = params, content, styles, style_weights, masks, style_masks
    # XLA's own convolutions: for what is computed once, others take longer to compile than they
    # gain. In windows the same few kernels go over all of a large picture.
    whole = problem.tile is None
    with jax.default_matmul_precision("highest") if whole else contextlib.nullcontext():
        return over(problem.mesh, prepare, (False, *[batched] * 5))(*arguments)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _start(
    problem: Problem,
    solver: Any,
    batched: bool,
    x: jax.Array,
    earlier: Any,
    params: Params,
    targets: Any,
    weights: Weights,
) -> State:
    def start(x: jax.Array, earlier: Any, *arguments: Any) -> State:
        x = problem.turn(x)
        state = solver.start(_objective(problem), x, *arguments)
        state = state if earlier is None else solver.go_on(state, earlier)
        return split_state(state, x, problem.stride)

    if batched:
        start = jax.vmap(start, (0, 0, None, 0, 0))
    start = over(problem.mesh, start, (batched, batched, False, batched, batched))
    return start(x, earlier, params, targets, weights)


def _advance_by_steps(
    problem: Problem,
    solver: Any,
    batched: bool,
    state: State,
    stop: jax.Array,
    params: Params,
    targets: Any,
    weights: Weights,
) -> State:
    def run(state: State, stop: jax.Array, params: Any, targets: Any, weights: Any) -> State:
        params = problem.network.prepare(params)
        step = functools.partial(solver.step, _objective(problem))
        if batched:
            step = jax.vmap(step, (0, None, 0, 0))
        return advance(lambda state: step(state, params, targets, weights), state, stop)

    run = over(problem.mesh, run, (batched, False, False, batched, batched))
    return run(state, stop, params, targets, weights)


_advance = jax.jit(_advance_by_steps, static_argnums=(0, 1, 2))
_advance_in_place = jax.jit(_advance_by_steps, static_argnums=(0, 1, 2), donate_argnums=3)


@jax.jit
def _is_any_active(status: jax.Array) -> jax.Array:
    return jnp.any(is_active(status))


def _shrink(image: jax.Array, scale: float) -> jax.Array:
    return image if scale == 1 else _resize(image, scaled_shape(image.shape, scale))


_resize = jax.jit(resize, static_argnums=1)


@functools.partial(jax.jit, static_argnames="batched")
def _match_color(style: jax.Array, content: jax.Array, *, batched: bool) -> jax.Array:
    return (jax.vmap(match_color) if batched else match_color)(style, content)


def _shrink_mask(mask: jax.Array, scale: float) -> jax.Array:
    return mask if scale == 1 else _resize_mask(mask, scale)


@functools.partial(jax.jit, static_argnums=1)
def _resize_mask(mask: jax.Array, scale: float) -> jax.Array:
    *_, height, width, _ = scaled_shape((*mask.shape, 1), scale)
    # Linear: a mask stays in [0, 1], and is zero where all that goes into a pixel is.
    return jax.image.resize(mask, (*mask.shape[:-2], height, width), "linear")


@functools.partial(jax.jit, static_argnums=3)
def _carry(painted: jax.Array, start: jax.Array, next_start: jax.Array, carry: str) -> jax.Array:
    """Takes what was painted over `start` to the size of `next_start`."""
    if carry == "image":
        return resize(painted, next_start.shape)
    return next_start + resize(painted - start, next_start.shape)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _result(
    problem: Problem,
    batched: bool,
    rest: int,
    carry: str,
    filter_size: int,
    state: State,
    earlier: tuple[tuple[Any, ...], jax.Array],
    starts: tuple[jax.Array, jax.Array] | None,
    chroma: jax.Array | None,
) -> StyleResult:
    """What a state shows.

    `earlier` are traces and the number of evaluations of the smaller sizes, `rest` the steps of
    the larger ones. `starts`, at a smaller size, are the images started from there and at full
    size. `chroma` is the content, where its chroma is to be kept.
    """
    image = problem.turn(state.best_x)
    if starts is not None:
        image = _carry(image, *starts, carry)
    if chroma is not None:
        image = (jax.vmap(luminance_only) if batched else luminance_only)(image, chroma)

    def finish(x: jax.Array) -> jax.Array:
        return median_filter(jnp.clip(x, 0, 1), size=filter_size)

    traces, evaluations = earlier
    last = jax.tree.map(lambda leaf: jnp.repeat(leaf[..., -1:], rest, axis=-1), state.trace)
    trace, term_traces = jax.tree.map(
        lambda *leaves: jnp.concatenate(leaves, axis=-1), *traces, state.trace, last
    )
    result = StyleResult(
        image=(jax.vmap(finish) if batched else finish)(image),
        loss=state.best_value,
        term_losses=state.best_aux,
        trace=trace,
        num_evaluations=evaluations + state.num_evaluations,
        status=state.status,
        term_traces=term_traces,
    )
    if problem.mesh is None or not problem.mesh.is_multi_process:
        return result
    # Each process can then read all of it.
    return jax.lax.with_sharding_constraint(result, NamedSharding(problem.mesh, PartitionSpec()))


def median_filter(image: jax.Array, *, size: int = 3) -> jax.Array:
    """Replaces each pixel by the median of the `size` x `size` pixels around it, per channel.

    Args:
        image: `(H, W, c)` of any scale; its border is continued by its outermost pixels.
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
