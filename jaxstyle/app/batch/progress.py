"""The progress of a batch, on a terminal and for scripts."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from jaxstyle.app.console import print_json, time_left

_REPORTED = ("output", "status", "loss", "seconds", "error")  # of an entry, to a script


class Progress:
    """Counts the pairs that this process has painted, and shows them.

    Attributes:
        painted: number of pairs that were painted.
        failed: number of pairs that failed.
        total: number of pairs that this process has to paint.
        show: shows a state, see `show_progress`.
    """

    def __init__(self, mode: str) -> None:
        """Starts the clock; `mode` is `json` for scripts, see `print_json`."""
        self.painted = self.failed = self.total = 0
        self.show: Callable[..., None] = lambda *_: None
        self._mode = mode
        self._begin = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begin

    def add(self, entry: Mapping[str, Any]) -> None:
        """Counts and shows a pair that is now in the journal."""
        if "error" in entry:
            self.failed += 1
        else:
            self.painted += 1
        self.show_pairs()
        known = {key: entry[key] for key in _REPORTED if key in entry}
        counts = {"painted": self.painted, "failed": self.failed, "total": self.total}
        print_json(self._mode, {**known, **counts, "elapsed": round(self.seconds, 3)})

    def show_pairs(self, begun: float = 0.0) -> None:
        """Shows what is done; `begun` is the painted part of the pairs that are in work."""
        number, seconds = self.painted + self.failed, self.seconds
        done = number + begun
        text = ""
        if done:
            left = time_left(seconds / done * max(self.total - done, 0))
            text = f"{left}, {self.failed} failed, {done / seconds:.3g} pairs/s"
        self.show(number, self.total, text, begun)
