"""Adds the pairs of a batch to its journal."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxstyle.app.batch.plan import BatchJob, Pair
from jaxstyle.app.console import print_message
from jaxstyle.io import InputError
from jaxstyle.io.remote_journal import open_journal


class Recorder:
    """Adds painted and failed pairs to the journal.

    Threads may call its methods at the same time.

    Attributes:
        journal: the journal of this run.
        missing: output -> pair that is to be painted.
        trouble: what ends the whole batch, such as a full disk, or None.
    """

    def __init__(self, job: BatchJob, advance: Callable[..., None]) -> None:
        """Opens the journal of `job`; `advance` is called with each new entry."""
        self.journal = open_journal(job.output_dir, job.slice)
        self.missing: dict[str, Pair] = {}
        self.trouble: str | None = None
        self._advance = advance
        self._writing = threading.Lock()
        self._waiting: deque[tuple[Mapping[str, Any], str | None]] = deque()

    def entry(self, pair: Pair) -> Mapping[str, Any]:
        """Returns the entry of a pair in the journal, empty if it has none."""
        return self.journal.entries.get(pair.row.output, {})

    def is_missing(self, pair: Pair) -> bool:
        """Whether a pair is to be painted."""
        return pair.row.output in self.missing

    def failures(self, pairs: Sequence[Pair]) -> list[tuple[str, str, bool]]:
        """Returns outputs and errors of pairs that failed, and whether in an earlier run."""
        return [
            (pair.row.output, str(entry["error"]), not self.is_missing(pair))
            for pair in pairs
            if "error" in (entry := self.entry(pair))
        ]

    def add(self, *entries: Mapping[str, Any], node: str | None = None) -> None:
        """Adds entries of pairs that were to be painted; `node` has painted them.

        They are on disk when it returns, unless there is `trouble`.
        """
        for entry in entries:
            if "error" in entry:
                line = self.missing[entry["output"]].row.line
                place = f" (on {node})" if node else ""
                print_message(f"line {line}: {entry['output']}{place}: {entry['error']}")
            self._waiting.append((entry, node))
        try:
            with self._writing:
                # What came while another thread was writing is written at once.
                added = [self._waiting.popleft() for _ in range(len(self._waiting))]
                if added:
                    self.journal.add(*(entry for entry, _ in added))
                for each in added:
                    self._advance(*each)
        except InputError as trouble:
            self.trouble = str(trouble)
