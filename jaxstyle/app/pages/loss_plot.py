"""Draws the loss curve."""

import io
import itertools
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxstyle.io.ownership import GENERATOR

# A placeholder in SVGs, replaced by the text color of the page around it.
_TEXT_COLOR = "#010203"
_LEAST_PART = 1e-2  # of the loss; smaller terms do not widen the axis


def _limits(
    trace: Sequence[Mapping[str, Any]], weights: Mapping[str, float]
) -> tuple[float, float] | None:
    """Returns the range of the vertical axis: all losses, and all terms that matter.

    When a run starts from the content, the content loss is a rounding error, many decades below.
    """
    shown = [entry["loss"] for entry in trace]
    for entry in trace:
        parts = [weight * entry["terms"][name] for name, weight in weights.items()]
        shown += [part for part in parts if part >= _LEAST_PART * entry["loss"]]
    shown = [value for value in shown if 0 < value < math.inf]
    if not shown:
        return None
    low, high = min(shown), max(shown)
    margin = max((high / low) ** 0.05, 1.05)
    return low / margin, high * margin


def plot_losses(
    trace: Sequence[Mapping[str, Any]],
    weights: Mapping[str, float],
    title: str = "",
    *,
    over: Literal["evaluations", "seconds"] = "evaluations",
    kind: Literal["png", "svg"] = "png",
) -> bytes:
    """Draws the loss and its weighted terms on a logarithmic scale.

    Args:
        trace: as in a result's JSON: `evaluations`, `seconds`, `loss` and `terms` of each entry;
            where its `size` changes, a line says so.
        weights: term name -> factor.
        title: one line.
        over: the horizontal axis.
        kind: of picture. An SVG is an element for an HTML page: transparent, with the page's font
            and text color.

    Returns:
        The bytes of a PNG file or of the SVG element.
    """
    import matplotlib  # noqa: PLC0415  slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    color = "black" if kind == "png" else _TEXT_COLOR
    settings: Any = {
        "svg.fonttype": "none",
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), color),
        **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), color),
    }
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # for names in other scripts
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        x = [entry[over] for entry in trace]
        marker = "o" if len(trace) == 1 else ""
        losses = [entry["loss"] for entry in trace]
        axes.plot(x, losses, color=color, marker=marker, label="loss")
        for name, weight in weights.items():
            values = [weight * entry["terms"][name] for entry in trace]
            if max(values) > 0:
                axes.plot(x, values, linewidth=1, marker=marker, label=f"{weight:g} x {name}")
        for before, entry in itertools.pairwise(trace):
            if entry["stage"] != before["stage"]:
                axes.axvline(before[over], color=color, linewidth=0.8, linestyle=":")
                label = f" {entry['size'][0]}x{entry['size'][1]} px"
                axes.text(
                    before[over], 0.02, label, fontsize=8, transform=axes.get_xaxis_transform()
                )
        if max(losses) > 0:
            axes.set_yscale("log")
            axes.set_ylim(_limits(trace, weights))
        axes.set_xlabel("seconds" if over == "seconds" else "loss-and-gradient evaluations")
        axes.set_ylabel("loss")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        legend = axes.legend(frameon=False)
        for text in (axes.title, *legend.get_texts()):
            text.set_parse_math(False)  # names may contain dollar signs
        if kind == "png":
            figure.savefig(buffer, format="png", dpi=120, metadata={"Software": GENERATOR})
            return buffer.getvalue()
        none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=none)
    element = buffer.getvalue().decode().replace(_TEXT_COLOR, "currentColor")
    # Two SVGs in one page must not share ids.
    element = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{over}-", element)
    return element[element.index("<svg") :].encode()
