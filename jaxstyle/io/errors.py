"""The error that every reader and writer of this package raises on bad input."""


class InputError(ValueError):
    """A file, a folder or a value from outside that cannot be used.

    The message is one line: what is wrong, and what to do. The command line prints it after
    ``error:`` and exits with code 2.
    """
