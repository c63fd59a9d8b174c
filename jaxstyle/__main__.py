"""The program: `python -m jaxstyle`, and the command `jaxstyle`."""

import signal
import sys

# Until a run answers Ctrl-C itself, Ctrl-C ends the program at once: as an exception it would come
# out of whatever JAX is doing, or be swallowed there. Where it is ignored, it stays so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from jaxstyle.app.cli import main as run


def main() -> int:
    """Runs the command line; returns the exit code."""
    # The other commands clean up after a KeyboardInterrupt.
    runs = sys.argv[1:2] and sys.argv[1] in ("stylize", "repeat", "batch")
    if not runs and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
