"""Converts a VGG19 file to safetensors; the same as `jaxstyle weights convert`."""

import sys

from jaxstyle.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["weights", "convert", *sys.argv[1:]]))
