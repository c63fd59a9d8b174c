"""Gets one file from a server that may answer badly: bounded in size and in time."""

import http.client
import queue
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error

_WAIT = 10  # seconds to connect, and between two pieces


def download(url: str, path: Path, *, limit: int, seconds: float, progress: bool) -> None:
    """Gets `url` into `path`.

    Args:
        url: an address of HTTP or HTTPS.
        path: the file to write.
        limit: the most bytes that are taken.
        seconds: how long it may take as a whole.
        progress: whether to show a bar on stderr.

    Raises:
        InputError: whatever the server or the network does wrong, as one line.
    """
    # A server can send a byte every few seconds, of its first line too, where no timeout of a
    # socket ends it. So a thread waits for it, which is left behind.
    stop = threading.Event()
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def get() -> None:
        try:
            with urllib.request.urlopen(url, timeout=_WAIT) as answer:  # noqa: S310  https
                _copy(answer, path, limit, progress, stop)
            done.put(None)
        except urllib.error.HTTPError as error:  # an answer too, which is closed
            error.close()
            done.put(error)
        except BaseException as error:
            done.put(error)

    threading.Thread(target=get, daemon=True).start()
    try:
        error = done.get(timeout=seconds)
    except queue.Empty:
        raise InputError(f"it took longer than {seconds:g} s") from None
    finally:
        stop.set()
    if isinstance(error, InputError):
        raise error
    if isinstance(error, OSError | ValueError | http.client.HTTPException):
        raise InputError(describe_error(error)) from error
    if error is not None:
        raise error


def _copy(answer: Any, path: Path, limit: int, progress: bool, stop: threading.Event) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    length = answer.headers.get("Content-Length") or ""
    total = int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else None
    if total is not None and total > limit:
        raise InputError(f"the server has {total} bytes instead of at most {limit}")
    received = 0
    console = Console(stderr=True)
    with Progress(console=console, disable=not progress) as bar, path.open("wb") as file:
        task = bar.add_task("VGG19", total=total)
        while not stop.is_set() and (piece := answer.read1(2**18)):
            received += len(piece)
            if received > limit:
                raise InputError(f"the server sent more than {limit} bytes")
            file.write(piece)
            bar.update(task, completed=received)
    if total is not None and received != total:
        raise InputError(f"it ended after {received} of {total} bytes")
