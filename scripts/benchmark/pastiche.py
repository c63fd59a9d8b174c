"""Time to the same loss, against pastiche's program."""

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import PROGRAM, Options, report
from PIL import Image

import jaxstyle
from jaxstyle import recipes, solvers
from jaxstyle.app.compile_ahead import compile_ahead
from jaxstyle.app.compile_cache import KeptPrograms

_SHORT = 20  # steps from which pastiche's time per step is known


def pastiche(
    options: Options,
    size: int = 512,
    steps: int = 500,
    target: float = 0.0,
    content_weight: float = 1.0,
) -> None:
    """Time until pastiche's loss is reached, against pastiche's own program.

    Both programs start cold and get the same pixels. With --target, that loss is taken as given:
    pastiche then makes 20 steps only, and its time is extrapolated to `steps`.

    Args:
        options: see the other commands.
        size: pixels of the long edge.
        steps: of pastiche.
        target: the loss to reach, if it is known for these pictures and weights.
        content_weight: weight of the content loss; pastiche's default is 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.png" for name in ("content", "style", "a", "b")}
        style_size = _resize(options, size, files["content"], files["style"])
        number = _SHORT if target else steps
        command = [
            "pastiche", "--size", str(size), "--style-size", str(style_size),
            "--num-steps", str(number), "--info-step", str(max(number // 10, 1)),
            "--content-weight", str(content_weight),
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
        their_memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        if target:
            per_step = (points[-1][1] - points[1][1]) / (points[-1][0] - points[1][0])
            theirs += (steps - number) * per_step
        loss = target or points[-1][2]
        begin = time.perf_counter()
        output = subprocess.run(  # noqa: S603
            [sys.executable, PROGRAM, "until", "--loss", str(loss), "--content-weight",
             str(content_weight), "--content", str(files["content"]), "--style",
             str(files["style"]), "--out", str(files["b"])],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        ours = time.perf_counter() - begin
        reached = json.loads(output.splitlines()[-1])
        ratio = ours / theirs if reached["loss"] <= loss else "not reached"
        rows = [
            {"program": "pastiche" + (" (extrapolated)" if target else ""), "seconds": theirs,
             "loss": loss, "steps": steps, "peak GB": their_memory, "ratio": 1.0},
            {"program": "jaxstyle", "seconds": ours, "loss": reached["loss"],
             "steps": reached["steps"], "peak GB": reached["peak"], "ratio": ratio},
        ]  # fmt: skip
        report(f"pastiche-{options.content.stem}", rows, options, pastiche=points, jaxstyle=reached)
        for name in ("a", "b"):
            # Saved as ours, so that the next run may replace it.
            copy = options.out / f"pastiche-{options.content.stem}-{name}.png"
            jaxstyle.io.save_image(copy, jaxstyle.io.load_image(files[name]))


def _resize(options: Options, size: int, content: Path, style: Path) -> int:
    """Saves both pictures at the size that pastiche gives them; returns the style's long edge."""
    with Image.open(options.content) as image:
        scale = size / max(image.size)
        shape = [round(x * scale) for x in image.size]
        image.convert("RGB").resize(shape, Image.Resampling.BILINEAR).save(content)
    with Image.open(options.style) as image:
        # pastiche gives the style as many pixels as the content has.
        width = round(np.sqrt(shape[0] * shape[1] * image.width / image.height))
        height = round(width * image.height / image.width)
        image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR).save(style)
    return max(width, height)


def until(options: Options, loss: float, content_weight: float = 1.0) -> None:
    """Runs pastiche's objective until its loss is at most `loss`; `pastiche` starts it.

    Our loss is that of the picture within [0, 1]. pastiche's is that of its picture before it is
    clipped, which is usually lower. The picture is written to `--out`, and the result is printed
    as JSON.

    Args:
        options: see the other commands.
        loss: the loss to reach.
        content_weight: weight of the content loss; pastiche's default is 1.
    """
    begin = time.perf_counter()
    params = jaxstyle.io.load_params()
    content, style = (
        np.asarray(Image.open(path), np.float32) / 255 for path in (options.content, options.style)
    )
    recipe = dataclasses.replace(
        recipes.PASTICHE,
        weights={
            **recipes.PASTICHE.weights,
            "content": content_weight * recipes.PASTICHE.weights["content"],
        },
        pyramid=jaxstyle.Pyramid(),
        solver=solvers.LBFGS(num_steps=1000, history_size=100, smoothness=0.25, bounds=(0.0, 1.0)),
    )
    scales = recipe.pyramid.scales(*content.shape[:2]) if recipe.pyramid else ()
    coarse = sum(steps for _, steps in scales)
    pair: dict[str, Any] = {"params": params, "content": content, "style": style}
    settings: dict[str, Any] = {"recipe": recipe, "mesh": None}
    points = []
    # The programs are compiled as those of `jaxstyle stylize` are, into an empty cache.
    with (
        tempfile.TemporaryDirectory() as cache,
        compile_ahead(
            KeptPrograms(Path(cache)), "float32", jaxstyle.stylize_steps, pair, settings
        ) as call,
    ):
        for step, result in jaxstyle.stylize_steps(**pair, **settings, every=10, call=call):
            points.append((step, time.perf_counter() - begin, float(result.loss)))
            print(*(f"{x:.6g}" for x in points[-1]), file=sys.stderr, flush=True)
            if step > coarse and points[-1][2] <= loss:
                break
    jaxstyle.io.save_image(options.out, np.asarray(result.image))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"loss": points[-1][2], "steps": step, "peak": peak, "points": points}))
