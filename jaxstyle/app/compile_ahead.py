"""Compiles the programs of a run while its first ones are compiled, or run.

XLA compiles a program on one core. Another thread traces the whole run, which tells all programs
before their arrays are there, and compiles the large ones in their order.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from jaxstyle import compiled
from jaxstyle.app import devices
from jaxstyle.app.compile_cache import AHEAD, KeptPrograms

_LARGE = (compiled.compute_targets, compiled.advance)


@contextlib.contextmanager
def compile_ahead(
    call: Callable[..., Any],
    precision: str,
    steps: Callable[..., Any],
    pair: Mapping[str, Any],
    options: Any,
) -> Iterator[Callable[..., Any]]:
    """Yields what calls the compiled parts of a run on one device, instead of `call`.

    As soon as one of them must be compiled, those that come later are compiled in a thread, until
    the block ends.

    Args:
        call: from `keep_compiled_programs`.
        precision: of float32 products, see `devices.precision`.
        steps: `stylize_steps`, or `stylize_batch_steps`.
        pair: its arguments that are network weights and pictures, by name.
        options: its other arguments, without those that say how to follow the run.
    """
    alone = options["mesh"] is None and jax.process_count() == 1
    if isinstance(call, KeptPrograms) and alone and not options["recipe"].solver.on_host:
        ahead = _CompilesAhead(call, precision, functools.partial(steps, **options), pair)
        try:
            yield ahead
        finally:
            ahead.is_over = True
    else:
        yield call


def is_compiling() -> bool:
    """Whether a thread still compiles; the process then ends later, or by `leave`."""
    return any(thread.name == AHEAD for thread in threading.enumerate())


class _CompilesAhead:
    """Calls the compiled parts of a run; for the arguments see `compile_ahead`."""

    def __init__(
        self, kept: KeptPrograms, precision: str, steps: Callable[..., Any], pair: Any
    ) -> None:
        self._kept, self._precision = kept, precision
        self._steps, self._pair = steps, pair
        self._thread: threading.Thread | None = None
        self.is_over = False

    def __call__(self, function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
        return self._kept.program(function, static, arrays, self._begin)(*arrays)

    def _begin(self) -> None:
        if self._thread is None:
            # No daemon, as the thread of a run is: Python waits for it, or XLA would crash.
            self._thread = threading.Thread(target=self._work, name=AHEAD, daemon=False)
            self._thread.start()

    def _work(self) -> None:
        def trace(pair: Any) -> Any:
            return [*self._steps(**pair, every=None, call=self._compile)][-1][1]

        # What goes wrong here goes wrong in the run itself too, and is reported there.
        with contextlib.suppress(Exception), devices.precision(self._precision):
            jax.eval_shape(trace, self._pair)

    def _compile(self, function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
        if self.is_over:
            raise InterruptedError
        if function in _LARGE:
            here = compiled.advance_in_place if function is compiled.advance else function
            self._kept.prepare(here, static, arrays)
        return function(*static, *arrays)
