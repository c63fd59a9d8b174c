"""Paints many pairs; the same as `jaxstyle batch`."""

import sys

from jaxstyle.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["batch", *sys.argv[1:]]))
