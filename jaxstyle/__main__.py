"""The program: `python -m jaxstyle`, and the command `jaxstyle`."""

import signal
import sys
from collections.abc import Sequence

# Until a run answers Ctrl-C itself, Ctrl-C ends the program at once: as an exception it would come
# out of whatever JAX is doing, or be swallowed there. Where it is ignored, it stays so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from jaxstyle.app.backend_problems import report_in_one_line
from jaxstyle.app.cli.main import main as run
from jaxstyle.app.xla_flags import set_flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, see `jaxstyle.app.cli.main`; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    report_in_one_line()
    set_flags()
    # The other commands clean up after a KeyboardInterrupt.
    runs = [*arguments[:1]] in (["stylize"], ["repeat"], ["batch"])
    if not runs and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
