"""What visitors may upload: few files at a time, and no more bytes than their share."""

import asyncio
import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from python_multipart.multipart import parse_options_header

from jaxstyle.app.web.server_folder import bytes_in, disk_bytes

_PARTS = 8  # files and fields of a form; the page sends one file at a time
_OF_A_VISITOR = 12  # files of the largest size; then the visitor's oldest is given up
_IN_ALL = 100
_SMALLEST = 1 / 16  # of the largest size: a file counts as no less, which limits their number
_SECONDS_BETWEEN_MEASURING = 10.0


class Uploads:
    """Who holds which uploaded file.

    Gradio names the folder of an upload by its content, so visitors with the same picture hold the
    same file. It is removed when nobody holds it any more.
    """

    def __init__(self, folder: Path, max_upload: int) -> None:
        """Starts without uploads.

        Args:
            folder: holds the files of all visitors.
            max_upload: maximum size of a file in bytes.
        """
        self.folder = folder
        self.max_upload = max_upload
        self._held: dict[tuple[str, Path], int] = {}  # bytes, the oldest first
        self._holders: Counter[Path] = Counter()
        self._used = 0
        self._measured = -math.inf

    async def used(self) -> int:
        """Returns the bytes on disk, measured a few seconds ago, plus what came since then."""
        if time.monotonic() - self._measured > _SECONDS_BETWEEN_MEASURING:
            self._measured = time.monotonic()
            # A walk through many folders would hold up all other requests.
            self._used = await asyncio.to_thread(bytes_in, self.folder)
        return self._used

    def add(self, answer: bytes, visitor: str, is_ours: Callable[[object], bool]) -> None:
        """Records the files of an upload; gives up the oldest ones if they are too many bytes.

        Args:
            answer: Gradio's, a list of paths in JSON.
            visitor: who sent them.
            is_ours: whether a path is in the folder.
        """
        try:
            paths = [Path(path) for path in json.loads(answer) if is_ours(path)]
        except (ValueError, TypeError):  # Gradio has refused it
            return
        for path in paths:
            with contextlib.suppress(OSError):
                size = disk_bytes(path.stat().st_size)
                self._holders[path] += (visitor, path) not in self._held
                self._held.pop((visitor, path), None)
                self._held[visitor, path] = size
                self._used += size
        for whose, files in ((visitor, _OF_A_VISITOR), (None, _IN_ALL)):
            mine = [key for key in self._held if whose in (key[0], None)]
            total = sum(self._counted(self._held[key]) for key in mine)
            for key in mine:
                if total <= files * self._counted(disk_bytes(self.max_upload)):
                    break
                total -= self._counted(self._held[key])
                self._give_up(key)

    def _counted(self, size: int) -> float:
        return max(size, self.max_upload * _SMALLEST)

    def _give_up(self, key: tuple[str, Path]) -> None:
        path, size = key[1], self._held.pop(key)
        self._holders[path] -= 1
        if self._holders[path]:
            return
        del self._holders[path]
        self._used -= size
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def remove_parts(self) -> None:
        """Removes files of forms that Gradio has read and not answered, while no upload comes."""
        for path in self.folder.glob("tmp*"):
            if path.is_file():
                path.unlink(missing_ok=True)


class Parts:
    """Counts the files and fields of a form while it comes."""

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Finds out what separates them from the headers of the request."""
        _, options = parse_options_header(dict(headers).get(b"content-type"))
        boundary = options.get(b"boundary", b"")
        self._separator = b"--" + boundary if boundary else b""  # without one, Gradio refuses it
        self._end = b""
        self._count = 0

    def too_many(self, data: bytes) -> bool:
        """Takes the next bytes; returns whether there are more parts than a page sends."""
        if self._separator:
            seen = self._end + data
            self._count += seen.count(self._separator)
            # What may be the begin of the next one, but none that is counted already.
            rest = seen.rpartition(self._separator)[2]
            self._end = rest[-(len(self._separator) - 1) :]
        return self._count > _PARTS + 1  # one more ends the form
