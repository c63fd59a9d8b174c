"""Saves the picture of a run, in another folder if its own fails: it is never lost."""

import contextlib
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.app.console import print_message
from jaxstyle.app.outputs import check_replaceable
from jaxstyle.io import InputError, save_image
from jaxstyle.io.files import describe_error, describe_path
from jaxstyle.io.locations import URL, Location


def save_picture(
    path: Location, image: np.ndarray, *, overwrite: bool = False, **options: Any
) -> Location | None:
    """Saves a picture; if that fails, saves it under a new name in another folder.

    Args:
        path: the wanted path; `-` is stdout.
        image: `(H, W, 3)` in [0, 1].
        overwrite: as in `check_outputs`. A new file may have appeared since then.
        **options: alpha, dpi and bits, see `save_image`.

    Returns:
        The path of the picture; None if it could not be saved anywhere.
    """
    while True:
        try:
            if str(path) == "-":
                save_image(sys.stdout.buffer, image, format="PNG", **options)
                sys.stdout.flush()
                return path
            if not overwrite:
                check_replaceable(path)
            save_image(path, image, **options)
            return path
        except (InputError, OSError, MemoryError) as error:
            problem = str(error) or describe_error(error)
        name = f"{path.stem.strip('-') or 'out'}-{secrets.token_hex(4)}.png"
        near: list[Location] = [] if isinstance(path, URL) else [path.parent]
        for folder in (*near, *_other_folders()):
            try:
                save_image(folder / name, image, **options)
            except (InputError, OSError, MemoryError):
                continue
            print_message(f"error: {problem}. The picture is in {describe_path(folder / name)}")
            return folder / name
        print_message(f"error: {problem}; nor could it be saved in another folder")
        if not _wait_for_user():
            return None


def make_folder(path: Location) -> None:
    """Makes the folder of a picture, unless it is there.

    Raises:
        InputError: if it cannot be made.
    """
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder of {describe_path(path)} ({describe_error(error)}); name "
            "another output"
        ) from None


def announce_transparency(path: Location, alpha: np.ndarray | None) -> None:
    """Says before a run if its picture will be transparent in a format that cannot be.

    Args:
        path: of the picture.
        alpha: its opacity, None if it is 1 everywhere.
    """
    if alpha is not None and path.suffix.lower() in (".jpg", ".jpeg"):
        print_message(
            f"{describe_path(path)}: JPEG has no transparency, so the photo's transparent parts "
            "become white; name a .png to keep them"
        )


def _other_folders() -> Iterator[Location]:
    for find in (Path.cwd, lambda: Path(tempfile.gettempdir()), Path.home):
        with contextlib.suppress(OSError, RuntimeError):
            yield find()


def _wait_for_user() -> bool:
    """Asks the user at the terminal to free some space; returns whether to try again."""
    if threading.current_thread() is not threading.main_thread():
        return False  # such as a thread of the server
    try:
        if sys.stdin is None or not sys.stdin.isatty():
            return False
        print_message("Free some space and press Enter to try again, or Ctrl-D to give up.")
        return bool(sys.stdin.readline())
    except (OSError, ValueError):
        return False
