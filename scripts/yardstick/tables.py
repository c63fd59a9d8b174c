"""Tables of figures on the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows of the same keys, numbers with three digits, NaN as `-`."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for name, value in rows[0].items():
        if isinstance(value, str):
            table.add_column(name, overflow="fold")  # numbers must stay whole
        else:
            table.add_column(name, justify="right", no_wrap=True)

    def text(value: Any) -> str:
        if isinstance(value, float):
            return "-" if math.isnan(value) else f"{value:.3g}"
        return str(value)

    for row in rows:
        table.add_row(*map(text, row.values()))
    Console(width=max(150, Console().width)).print(table)
