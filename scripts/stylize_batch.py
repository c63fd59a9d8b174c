"""Stylises many pairs. The same as `jaxstyle batch`."""

import sys

from jaxstyle.app.cli import main

if __name__ == "__main__":
    sys.exit(main(["batch", *sys.argv[1:]]))
