"""Measures speed: `python scripts/benchmark COMMAND`. Most figures of the guide Speed are its.

Each command compares its alternatives in one run, in turns, and reports medians of ratios with
their quartiles. It prints a table, and writes OUT/COMMAND.json and, for some, OUT/COMMAND.png. The
peers, PyTorch and pastiche, come with `pip install '.[bench]'`. The bundled sample pair is the
default input.
"""

import functools
from collections.abc import Callable
from typing import Any

import tyro
from batch import batch
from common import Options, check_outputs
from compiling import compile  # noqa: A004
from device import device
from evaluation import evaluation
from iteration import iteration
from large import large, one
from pastiche import pastiche, until
from precision import precision
from solver import solver
from startup import startup
from throughput import throughput
from windows import windows

from jaxstyle.io import exit_on_input_error

COMMANDS = (
    *(evaluation, iteration, batch, solver, pastiche, until, startup, precision, device, compile),
    *(throughput, windows, large, one),
)


def checked(command: Callable[..., None]) -> Callable[..., None]:
    """Returns a command that begins with `check_outputs`."""

    @functools.wraps(command)
    def run(options: Options, **others: Any) -> None:
        check_outputs(command.__name__, options)
        command(options, **others)

    return run


if __name__ == "__main__":
    with exit_on_input_error():
        tyro.extras.subcommand_cli_from_dict(
            {command.__name__: checked(command) for command in COMMANDS},
            description=__doc__,
            config=(tyro.conf.OmitArgPrefixes,),
        )
