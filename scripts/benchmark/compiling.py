"""What the programs of a run are compiled to, for chips that need not be there."""

import collections
import dataclasses
import functools
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from chips import RATES, Target, mesh_of
from common import Options, load, report
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from traffic import main_memory_bytes
from yardstick.tables import print_table

from jaxstyle import compiled
from jaxstyle.app.vgg import vgg_of
from jaxstyle.io import InputError
from jaxstyle.problem import Problem
from jaxstyle.recipe import Recipe
from jaxstyle.recipes import RECIPES
from jaxstyle.sharding import BATCH, run_on_mesh, splits_columns
from jaxstyle.solvers.protocol import split_settings
from jaxstyle.terms.protocol import split_arrays

Program = Literal["targets", "start", "evaluation", "step"]

_COLLECTIVES = "(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(-start)?"
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?)\)?([a-z][\w-]*)\(", re.MULTILINE)
_FREE = {"parameter", "tuple", "get-tuple-element", "while", "conditional", "bitcast", "constant"}
_ARRAY = re.compile(r"\b(pred|[subf]+\d+)\[([\d,]+)\]")


def compile(  # noqa: A001
    options: Options,
    target: Target = "tpu:v5e",
    recipe: str = "gatys-notebook",
    size: int = 512,
    batch: int = 1,
    precision: Literal["float32", "tf32", "bfloat16"] = "bfloat16",
    tile: int | None = None,
    mesh: tuple[int, int] = (1, 1),
    programs: tuple[Program, ...] = ("targets", "start", "evaluation", "step"),
) -> None:
    """What each program of a run costs on a chip, compiled without one.

    Operations and bytes are XLA's count, of one round of each loop; for GPUs XLA has none. With
    --mesh they are those of one chip, and with --batch those of all its pairs. Of the bytes
    accessed, most may stay in a TPU's vector memory. Those of its main memory are counted by this
    script, but not for a step, whose loops read parts of arrays. The milliseconds are lower bounds
    for operations and main memory, from the rates that the chip's maker publishes.

    Args:
        options: see the other commands. Of the pictures only the sizes are read.
        target: the chip. `tpu` needs `pip install '.[tpu]'`, `cuda` `pip install '.[gpu]'`.
        recipe: its name.
        size: pixels of the long edge.
        batch: pairs in lockstep.
        precision: of the network, see `jaxstyle stylize --help`.
        tile: pixels of a window; by default none.
        mesh: chips that share the pairs, and chips that share each picture; up to 8 in all.
        programs: those to report.
    """
    if recipe not in RECIPES:
        raise InputError(f"--recipe {recipe}: choose from {', '.join(RECIPES)}")
    if not programs:
        raise InputError("--programs: name one at least")
    if batch < 1:
        raise InputError(f"--batch {batch}: it must be positive")
    dtype = jnp.bfloat16 if precision == "bfloat16" else None
    changed = dataclasses.replace(
        RECIPES[recipe], network=vgg_of(RECIPES[recipe]).clone(dtype=dtype)
    )
    chips = mesh_of(target, mesh)
    if batch % mesh[0]:
        raise InputError(f"--batch {batch}: {mesh[0]} chips share a multiple of {mesh[0]} pairs")
    shapes = [image.shape for image in load(options, size)]
    try:
        with jax.default_matmul_precision("tensorfloat32" if precision == "tf32" else "highest"):
            found = _programs(changed, shapes, batch, tile, chips, programs)
    except ValueError as error:  # jaxstyle's, for settings that do not fit each other
        raise InputError(str(error)) from None
    rows, largest, collectives = [], [], []
    for name, (program, seconds) in found.items():
        text = program.as_text()
        rows.append({"program": name, **_costs(name, program, text, target, precision), **seconds})
        largest += [{"program": name, **row} for row in _largest_arrays(text)]
        collectives += [{"program": name, **row} for row in _collectives(text)]
    height, width, _ = shapes[0]
    title = f"{recipe} at {width}x{height} px in {precision}, compiled for {target}"
    title += "".join(
        f", {what}"
        for what, given in (
            (f"{batch} pairs", batch > 1),
            (f"in windows of {tile} px", tile),
            (f"one of {mesh[0]} x {mesh[1]} chips", chips.size > 1),
        )
        if given
    )
    print_table("largest arrays", largest)
    if collectives:
        print_table("messages between chips", collectives)
    settings = {"target": target, "recipe": recipe, "size": [width, height], "batch": batch,
                "precision": precision, "tile": tile, "mesh": mesh}  # fmt: skip
    lists = {"largest": largest, "collectives": collectives}
    report("compile", rows, options, title=title, settings=settings, **lists)


def _programs(
    recipe: Recipe,
    shapes: Sequence[Sequence[int]],
    batch: int,
    tile: int | None,
    mesh: Mesh,
    wanted: Sequence[str],
) -> dict[str, tuple[Any, dict[str, float]]]:
    """Compiles one program after the other, as a run does; returns name -> program, seconds."""
    terms, arrays = split_arrays(recipe.terms)
    batched, dtype = batch > 1, jnp.float32
    content, style = ((batch, *shape) if batched else tuple(shape) for shape in shapes)
    problem = Problem(recipe.network, terms, tile)
    if mesh.size > 1:
        turned = splits_columns(content, mesh, problem.stride)
        problem = dataclasses.replace(problem, mesh=mesh, turned=turned)
    whole = NamedSharding(mesh, PartitionSpec())
    pairs = NamedSharding(mesh, PartitionSpec(BATCH)) if batched else whole

    def shaped(shape: Sequence[int], sharding: Any = whole) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=sharding)

    params = {
        "params": {
            name: {"kernel": shaped(kernel), "bias": shaped(bias)}
            for name, (kernel, bias) in vgg_of(recipe).conv_shapes.items()
        }
    }
    arrays = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=whole) for a in arrays]
    image, styles = shaped(content, pairs), (shaped(style, pairs),)
    weights = {name: shaped(content[:-3], pairs) for name in recipe.weights}
    stage = jax.ShapeDtypeStruct((), np.int32, sharding=whole)
    fixed, settings = split_settings(recipe.solver, dtype)
    settings = jax.tree.map(lambda leaf: shaped(leaf.shape), settings)
    found = {}

    def build(name: str, function: Any, static: tuple[Any, ...], *arrays: Any) -> Any:
        """Returns what the next programs take; only the compiler knows how a mesh splits it."""
        if name not in wanted and (mesh.size == 1 or name in ("evaluation", "step")):
            shapes = jax.eval_shape(functools.partial(function, *static), *arrays)
            return jax.tree.map(lambda leaf: leaf.update(sharding=whole), shapes)
        program, seconds, results = _compile(function, static, arrays)
        if name in wanted:
            found[name] = program, seconds
        return results

    static = problem, batched
    pictures = image, styles, None, None, None, None, None, stage, arrays
    targets = build("targets", compiled.compute_targets, static, params, *pictures)
    arguments = params, targets, weights, arrays
    build("evaluation", _evaluation, static, image, *arguments)
    own = problem, fixed, batched
    state = build("start", compiled.first_state, own, image, None, *arguments, settings)
    build("step", compiled.advance_in_place, own, state, stage, *arguments, settings)
    return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluation(problem: Problem, batched: bool, image: Any, *arguments: Any) -> Any:
    """Loss and gradient."""

    def evaluate(image: Any, *arguments: Any) -> Any:
        return jax.value_and_grad(problem, has_aux=True)(problem.turn(image), *arguments)

    if batched:
        evaluate = jax.vmap(evaluate, (0, None, 0, 0, None))
    split = (batched, False, batched, batched, False)
    return run_on_mesh(problem.mesh, evaluate, split)(image, *arguments)


def _compile(
    function: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]
) -> tuple[Any, dict[str, float], Any]:
    """Returns the program, what it took, and what it returns, as shapes on devices."""
    begin = time.perf_counter()
    lowered = function.lower(*static, *arrays)  # type: ignore[attr-defined]
    middle = time.perf_counter()
    program = lowered.compile()
    end = time.perf_counter()
    results = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        lowered.out_info,
        program.output_shardings,
    )
    return program, {"s, tracing": middle - begin, "s, compiling": end - middle}, results


def _costs(name: str, program: Any, text: str, target: Target, precision: str) -> dict[str, Any]:
    costs, memory = program.cost_analysis() or {}, program.memory_analysis()
    flops, accessed = (costs.get(name, math.nan) for name in ("flops", "bytes accessed"))
    row = {
        "Gflop": flops / 1e9,
        "GB accessed": accessed / 1e9,
        "GB temporary": memory.temp_size_in_bytes / 1e9,
        "instructions": len(_INSTRUCTION.findall(text)),
    }
    if target in RATES:
        rates = RATES[target]
        slower = {"float32": rates.slower, "tf32": rates.tf32}.get(precision, 1)
        # Only TPUs have two memories that the compiler knows of.
        in_main = target.startswith("tpu") and name != "step"
        main = main_memory_bytes(text) if in_main else math.nan
        row["GB of main memory"] = main / 1e9
        row["ms, arithmetic"] = flops * slower / rates.flops * 1e3
        row["ms, main memory"] = main / rates.bytes * 1e3
    return row


def _collectives(text: str) -> list[dict[str, Any]]:
    """Returns the messages between chips that a program has, by kind."""
    kinds = [match[2] for match in _INSTRUCTION.finditer(text)]
    found = collections.Counter(
        kind.removesuffix("-start") for kind in kinds if re.fullmatch(_COLLECTIVES, kind)
    )
    return [{"kind": kind, "number": number} for kind, number in sorted(found.items())]


def _largest_arrays(text: str, number: int = 5) -> list[dict[str, Any]]:
    """Returns the largest kinds of results that instructions outside of fusions write."""
    entry = re.sub(r"(?ms)^%?fused_computation.*?^}", "", text)
    kinds: collections.Counter[tuple[str, str]] = collections.Counter()
    for match in _INSTRUCTION.finditer(entry):
        if match[2] in _FREE:
            continue
        for array in _ARRAY.finditer(match[1]):
            kinds[array[0], match[2]] += 1
    kinds_by_size = sorted(kinds.items(), key=lambda kind: -_size(kind[0][0]))
    return [
        {"array": array, "GB": _size(array) / 1e9, "made by": name, "arrays": times}
        for (array, name), times in kinds_by_size[:number]
    ]


def _size(array: str) -> float:
    kind, shape = _ARRAY.match(array).groups()  # type: ignore[union-attr]
    bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
    return bits / 8 * float(np.prod([int(length) for length in shape.split(",")]))
