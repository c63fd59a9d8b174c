"""The loss curve as a picture."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jaxstyle.io.files import write_atomically


def plot_losses(
    path: str | os.PathLike[str],
    trace: Sequence[Mapping[str, Any]],
    weights: Mapping[str, float],
    title: str,
) -> None:
    """Draws loss and weighted terms over evaluations, on a logarithmic scale.

    Args:
        path: a PNG file.
        trace: as in a result's JSON: `evaluations`, `loss` and `terms` of each entry.
        weights: term name -> factor.
        title: one line.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    evaluations = [entry["evaluations"] for entry in trace]
    axes.plot(evaluations, [entry["loss"] for entry in trace], color="black", label="loss")
    for name, weight in weights.items():
        values = [weight * entry["terms"][name] for entry in trace]
        if max(values) > 0:
            axes.plot(evaluations, values, linewidth=1, label=f"{weight:g} x {name}")
    if max(entry["loss"] for entry in trace) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("loss-and-gradient evaluations")
    axes.set_ylabel("loss")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())
