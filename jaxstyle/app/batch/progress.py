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
        self._joined: dict[str, float] = {}  # name of a node -> when it was ready to paint
        self._begin = time.perf_counter()
        # Times, and pairs that were done then: the start, the first batch, and its first steps,
        # by which it is compiled. The pace counts from the last of these.
        self._marks = [(self._begin, 0.0)]

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begin

    def _pace(self, done: float) -> tuple[float, float]:
        """Returns a number of pairs and their seconds: the latest, without a compilation before."""
        then, before = next(each for each in reversed(self._marks) if each[1] < done)
        return done - before, max(time.perf_counter() - then, 1e-9)

    def join(self, node: str) -> None:
        """Begins to measure the pace of a node, which is now ready to paint."""
        self._joined.setdefault(node, time.perf_counter())

    def add(self, entry: Mapping[str, Any], node: str | None = None) -> None:
        """Counts and shows a pair that is now in the journal; `node` has painted it."""
        self.painted += "error" not in entry
        self.failed += "error" in entry
        self._show(0.0)
        known = {key: entry[key] for key in _REPORTED if key in entry}
        number, seconds = self.painted + self.failed, self.seconds
        recent, taken = self._pace(number)
        counts = {
            "painted": self.painted,
            "failed": self.failed,
            "total": self.total,
            "elapsed": round(seconds, 3),
            "pairs_per_second": round(recent / taken, 3),
            "seconds_left": round(taken / recent * max(self.total - number, 0), 1),
        }
        if node is not None:
            own = self.nodes.setdefault(node, {"painted": 0, "failed": 0})
            own["failed" if "error" in entry else "painted"] += 1
            taken = max(time.perf_counter() - self._joined.get(node, self._begin), 1e-9)
            pace = round(sum(own.values()) / taken, 3)
            known["node"] = {"name": node, **own, "pairs_per_second": pace}
        print_json(self._mode, {**known, **counts})

    def show_pairs(self, begun: float = 0.0) -> None:
        """Shows what is done; `begun` is the painted part of the pairs that are in work."""
        done = self.painted + self.failed + begun
        if len(self._marks) == 1 or (len(self._marks) == 2 and begun):
            self._marks.append((time.perf_counter(), done))
        self._show(begun)

    def _show(self, begun: float) -> None:
        number = self.painted + self.failed
        done = number + begun
        text = ""
        if done:
            recent, taken = self._pace(done)
            left = time_left(taken / recent * max(self.total - done, 0))
            text = f"{left}, {self.failed} failed, {speed(recent, taken, 'pair')}"
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
