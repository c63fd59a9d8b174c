"""How long the program takes to start."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Options, report

import jaxstyle


def startup(options: Options, size: int = 256) -> None:
    """The command's first, second and third start at a size: compilation, time to first loss."""
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
