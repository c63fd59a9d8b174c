"""Measures speed: `python scripts/benchmark COMMAND`. Every figure in the guides comes from here.

Each command compares its alternatives in one run, in turns, and reports medians of ratios with
their quartiles. It prints a table, and writes OUT/COMMAND.json and, for some, OUT/COMMAND.png. The
peers, PyTorch and pastiche, come with `pip install '.[bench]'`. The bundled sample pair is the
default input.
"""

import tyro
from batch import batch
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

COMMANDS = (
    *(evaluation, iteration, batch, solver, pastiche, until, startup, precision, device),
    *(throughput, windows, large, one),
)

if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {command.__name__: command for command in COMMANDS},
        description=__doc__,
        config=(tyro.conf.OmitArgPrefixes,),
    )
