"""Signals that end a run: it stops after its step, and at once if told again.

Only the main thread of Python hears signals, and not while it is inside XLA. So a run paints in
another thread, and the main thread waits for it.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, Self

from jaxstyle.app.console import say

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one when a terminal closes; not on Windows
_PATIENCE = 5.0  # seconds: after SIGTERM and SIGHUP, SIGKILL often follows
_POLL = 0.1  # seconds


class Interrupts:
    """Notes signals instead of being interrupted by them, so that nothing is left half done.

    Outside of the main thread, which hears no signals, it does nothing.

    Args:
        again: what a second Ctrl-C does, for the answer to the first one.

    Attributes:
        first: the first signal that has come.
        count: signals that have come.
        abandoned: whether `watch` has left its work behind, which goes on in its thread.
    """

    def __init__(self, again: str = "save what there is and stop now") -> None:
        self.again = again
        self.first: int | None = None
        self.abandoned = False
        self.count = 0
        self._since = 0.0
        self._can_wait: Callable[[], bool] = lambda: False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                number = getattr(signal, name, None)
                handler = None if number is None else signal.getsignal(number)
                # Under nohup, and for a shell's background jobs, some are ignored: so they stay.
                if number is not None and handler != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: set by a library, as JAX does for SIGTERM where several processes run.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def requested(self) -> bool:
        """Whether a signal has asked the run to end."""
        return self.first is not None

    @property
    def code(self) -> int:
        """The exit code: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP; 0 without any."""
        return 0 if self.first is None else 128 + self.first

    def watch(
        self, work: Callable[[], None], has_result: Callable[[], bool]
    ) -> BaseException | None:
        """Calls `work` in another thread and waits for its end, or for a reason not to.

        Reasons are a second signal; one before there is a result, since there is nothing to wait
        for; and SIGTERM or SIGHUP after some seconds.

        Args:
            work: looks at `requested` from time to time.
            has_result: whether there is something to be saved.

        Returns:
            What `work` has raised.
        """
        problems: list[BaseException] = []

        def call() -> None:
            try:
                work()
            except BaseException as error:
                problems.append(error)

        if threading.current_thread() is not threading.main_thread():
            call()
        else:
            thread = threading.Thread(target=call, name="painting", daemon=True)
            thread.start()
            self._can_wait = has_result
            while thread.is_alive() and not self._must_leave(has_result()):
                thread.join(_POLL)
            self._can_wait = lambda: False
            self.abandoned = thread.is_alive()
        return problems[0] if problems else None

    def _must_leave(self, has_result: bool) -> bool:
        if self.count == 0:
            return False
        waited = time.monotonic() - self._since
        patient = self.first == signal.SIGINT or waited < _PATIENCE
        return self.count > 1 or not has_result or not patient

    def _note(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        if self.first is not None:
            return
        self.first, self._since = number, time.monotonic()
        if self._can_wait():
            again = f"; press Ctrl-C again to {self.again}"
            say(f"stopping after this step{again if number == signal.SIGINT else ''}")


class Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


def interrupt(number: int) -> None:
    """What `on_signal` calls to end on SIGTERM as on Ctrl-C."""
    raise Terminated(number)


@contextlib.contextmanager
def on_signal(call: Callable[[int], None], *numbers: int) -> Iterator[None]:
    """Calls `call` with the first signal that comes out of `numbers`; after it all is as before.

    Outside of the main thread, where Python has no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def handle(number: int, _: object) -> None:
        restore()
        call(number)

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def leave(code: int) -> NoReturn:
    """Ends the process while a thread is inside XLA, which would crash at an ordinary exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream.isatty():
                stream.write("\x1b[?25h")  # a progress bar has hidden the cursor
            stream.flush()
        except (OSError, ValueError, AttributeError):  # gone, closed, or None
            continue
    os._exit(code)
