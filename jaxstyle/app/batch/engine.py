"""What paints the batches that `runner` has planned."""

from collections.abc import Callable, Sequence
from typing import Protocol

from jaxstyle.app.batch.plan import Batch, Machine
from jaxstyle.app.batch.progress import Progress
from jaxstyle.app.batch.recorder import Recorder


class Engine(Protocol):
    """Paints planned batches."""

    place: str
    """Where it paints, for a message."""

    def machine(self) -> Machine:
        """Returns what the sizes of batches depend on."""
        ...

    def paint(
        self,
        batches: Sequence[Batch],
        recorder: Recorder,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        """Paints batches until it is stopped, and records their pairs."""
        ...

    def is_busy(self) -> bool:
        """Whether a painted picture is not on disk yet."""
        ...
