"""The progress of a batch, on a terminal and for scripts."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxstyle.app.batch.plan import Pair
from jaxstyle.app.console import print_json, speed, time_left
from jaxstyle.io.files import show_path

_REPORTED = ("output", "status", "loss", "seconds", "error")  # of an entry, to a script
_NAMED = 10  # pairs that failed before


class Progress:
    """Counts the pairs that this run has painted, and shows them.

    Attributes:
        painted: number of pairs that were painted.
        failed: number of pairs that failed.
        total: number of pairs that this run has to paint.
        working: names of the pairs that are in work.
        nodes: name of a node of a cluster -> how many pairs it has painted, and how many failed.
        show: shows a state, see `show_progress`.
    """

    def __init__(self, mode: str) -> None:
        """Starts the clock; `mode` is `json` for scripts, see `print_json`."""
        self.painted = self.failed = self.total = 0
        self.working: list[str] = []
        self.nodes: dict[str, dict[str, int]] = {}
        self.show: Callable[..., None] = lambda *_: None
        self._mode = mode
        self._begin = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begin

    def add(self, entry: Mapping[str, Any], node: str | None = None) -> None:
        """Counts and shows a pair that is now in the journal; `node` has painted it."""
        self.painted += "error" not in entry
        self.failed += "error" in entry
        self.show_pairs()
        known = {key: entry[key] for key in _REPORTED if key in entry}
        number, seconds = self.painted + self.failed, self.seconds
        counts = {
            "painted": self.painted,
            "failed": self.failed,
            "total": self.total,
            "elapsed": round(seconds, 3),
            "pairs_per_second": round(number / seconds, 3),
            "seconds_left": round(seconds / number * max(self.total - number, 0), 1),
        }
        if node is not None:
            own = self.nodes.setdefault(node, {"painted": 0, "failed": 0})
            own["failed" if "error" in entry else "painted"] += 1
            pace = round(sum(own.values()) / seconds, 3)
            known["node"] = {"name": node, **own, "pairs_per_second": pace}
        print_json(self._mode, {**known, **counts})

    def show_pairs(self, begun: float = 0.0) -> None:
        """Shows what is done; `begun` is the painted part of the pairs that are in work."""
        number, seconds = self.painted + self.failed, self.seconds
        done = number + begun
        text = ""
        if done:
            left = time_left(seconds / done * max(self.total - done, 0))
            text = f"{left}, {self.failed} failed, {speed(done, seconds, 'pair')}"
        if self.working and number < self.total:
            others = f" and {len(self.working) - 1} more" if len(self.working) > 1 else ""
            text = f"{text}, {self.working[0]}{others}".removeprefix(", ")
        self.show(number, self.total, text, begun)

    def begin(self, pairs: Iterable[Pair]) -> None:
        """Shows the pairs that are now in work."""
        self.working = [show_path(pair.row.output) for pair in pairs]
        self.show_pairs()

    def summary(self, failed: Sequence[tuple[str, str, bool]]) -> Iterator[str]:
        """Yields lines about the whole run; `failed` is what `Recorder.failures` returns."""
        taken = self.seconds
        pace = f" ({speed(self.painted, taken, 'pair')})" if self.painted else ""
        yield (
            f"{self.painted} painted in {taken:.0f} s{pace}, "
            f"{len(failed)} failed{', see the journal' if failed else ''}"
        )
        before = [(output, error) for output, error, earlier in failed if earlier]
        if before:
            yield f"{len(before)} of them failed in an earlier run; --retry-failed tries again"
        for output, error in before[:_NAMED]:
            yield f"  {show_path(output)}: {error}"
        if len(before) > _NAMED:
            yield f"  and {len(before) - _NAMED} more"
