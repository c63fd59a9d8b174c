"""Paints a photo in the style of a painting; the same as `jaxstyle stylize`."""

import sys

from jaxstyle.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["stylize", *sys.argv[1:]]))
