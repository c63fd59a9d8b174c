"""Signals that end a run: the first one after the current step, the second one at once.

Python handles signals in its main thread only, and not while that thread is inside XLA. Therefore
a run paints in another thread, and the main thread waits for it.
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

from jaxstyle.app.console import print_message

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP: a terminal was closed; not on Windows
_PATIENCE = 5.0  # seconds: after SIGTERM and SIGHUP, SIGKILL often follows
_POLL = 0.1  # seconds


class Interrupts:
    """Notes signals instead of being interrupted by them, so that every file is written whole.

    Outside of the main thread, which alone receives signals, it does nothing.

    Args:
        again: what a second Ctrl-C does, for the message after the first one.

    Attributes:
        first: the first signal that arrived, or None.
        count: number of signals that arrived.
        abandoned: whether `watch` returned while its work was still going on in its thread.
    """

    def __init__(self, again: str = "save the best picture so far and stop now") -> None:
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
                # Signals that are ignored, as under nohup, stay ignored.
                if number is not None and handler != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: a library set the handler, as JAX does for SIGTERM with several processes.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.first is not None

    @property
    def code(self) -> int:
        """The exit code: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP; 0 without any."""
        return 0 if self.first is None else 128 + self.first

    def watch(
        self, work: Callable[[], None], has_result: Callable[[], bool]
    ) -> BaseException | None:
        """Calls `work` in another thread, and waits for its end.

        It stops waiting at a second signal; at a signal before there is a result; and some seconds
        after SIGTERM or SIGHUP.

        Args:
            work: should look at `requested` from time to time.
            has_result: returns whether there is a result to save.

        Returns:
            The exception that `work` raised, or None.
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
            print_message(f"stopping after this step{again if number == signal.SIGINT else ''}")


class Terminated(KeyboardInterrupt):
    """A signal has arrived; its number is the argument."""


def interrupt(number: int) -> None:
    """Raises `Terminated`, for `on_signal`: the signal then ends the program as Ctrl-C does."""
    raise Terminated(number)


@contextlib.contextmanager
def on_signal(call: Callable[[int], None], *numbers: int) -> Iterator[None]:
    """Calls `call` with the first of the signals `numbers`, and restores the handlers before it.

    Outside of the main thread, which alone receives signals, it does nothing.
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
    """Ends the process while a thread is inside XLA; an ordinary exit would crash there."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream.isatty():
                stream.write("\x1b[?25h")  # show the cursor, which a progress bar hides
            stream.flush()
        except (OSError, ValueError, AttributeError):  # gone, closed, or None
            continue
    os._exit(code)
