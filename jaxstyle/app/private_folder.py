"""A folder that only the user and root can change, for files whose content is run.

Each part of a path is opened relative to its parent and checked once it is open, so that nobody can
replace it in between. Each file begins with a keyed hash, so that damage is detected too.
"""

import contextlib
import errno
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

_KEY = ".key"
_KEY_BYTES = 32
_HASH_BYTES = 32
_MOST_LINKS = 40  # as many as Linux follows
_TEMPORARY = ".tmp-"
_OURS = re.compile(rf"[0-9a-f]{{64}}|{re.escape(_TEMPORARY)}[0-9a-f]{{16}}")


class PrivateFolder:
    """Files of bytes, authenticated by a key that is stored in the same folder.

    Their names are hashes, 64 hexadecimal digits.
    """

    def __init__(self, path: Path) -> None:
        """Opens `path`; missing folders are made, for the user alone.

        Raises:
            OSError: if another user owns or could change a part of the path.
        """
        self._folder = _open_folder(path)
        try:
            self._key = self._find_key()
        except OSError:
            os.close(self._folder)
            raise

    def read(self, name: str) -> bytes:
        """Returns the content of a file, and marks it as used.

        Raises:
            OSError: if it does not exist, or another user could have written it.
            ValueError: if it is damaged.
        """
        content = self._verify(name, self._read(name, 0o022))
        os.utime(name, dir_fd=self._folder, follow_symlinks=False)
        return content

    def write(self, name: str, content: bytes) -> None:
        """Writes or replaces a file atomically."""
        self._write(name, self._hash(name, content) + content)

    def make_room(self, most: int) -> None:
        """Removes the least recently used of its files, down to `most` bytes in all."""
        with os.scandir(self._folder) as entries:
            files = [
                (entry.stat(follow_symlinks=False), entry.name)
                for entry in entries
                if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]
        total = sum(status.st_size for status, _ in files)
        for status, name in sorted(files, key=lambda each: each[0].st_mtime):
            if total <= most:
                break
            os.unlink(name, dir_fd=self._folder)
            total -= status.st_size

    def _hash(self, name: str, content: bytes) -> bytes:
        return hmac.digest(self._key, name.encode() + b"\0" + content, "sha256")

    def _verify(self, name: str, data: bytes) -> bytes:
        content = data[_HASH_BYTES:]
        if not hmac.compare_digest(data[:_HASH_BYTES], self._hash(name, content)):
            raise ValueError(f"{name} is damaged")
        return content

    def _find_key(self) -> bytes:
        for _ in range(2):
            try:
                key = self._read(_KEY, 0o077)
            except OSError:
                key = b""
            if len(key) == _KEY_BYTES:
                return key
            self._write(_KEY, secrets.token_bytes(_KEY_BYTES))
        raise PermissionError(errno.EACCES, "its key cannot be read")

    def _read(self, name: str, foreign: int) -> bytes:
        """Reads a file that the user owns and whose mode has no bit of `foreign`."""
        # O_NONBLOCK: do not wait if the file is a pipe.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=self._folder), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise PermissionError(errno.EACCES, "it is not a file of yours", name)
            if status.st_mode & foreign:
                raise PermissionError(errno.EACCES, "it is open to other users", name)
            return file.read()

    def _write(self, name: str, data: bytes) -> None:
        temporary = _TEMPORARY + secrets.token_hex(8)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600, dir_fd=self._folder), "wb") as file:
                file.write(data)
            os.replace(temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._folder)
            raise


def _open_folder(path: Path) -> int:
    """Opens `path` from the root down and makes missing folders; returns a descriptor."""
    to_open = list(reversed((Path.cwd() / path).parts))
    opened, so_far, links = -1, Path("/"), 0
    # O_PATH needs no permission to list the folder.
    flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    below: dict[str, int] = {}  # nothing before the root
    try:
        while to_open:
            part = to_open.pop()
            try:
                folder = _open_or_make(part, flags, below)
            except OSError as error:
                # For a link, Linux gives ENOTDIR, other systems ELOOP.
                if error.errno not in (errno.ENOTDIR, errno.ELOOP) or links == _MOST_LINKS:
                    error.filename = str(so_far / part)  # it has the last part only
                    raise
                links += 1
                to_open += reversed(_read_link(part, below, so_far / part))
                continue
            if opened >= 0:
                os.close(opened)
            opened, so_far = folder, so_far / part
            below = {"dir_fd": opened}
            _check(os.fstat(opened), so_far, last=not to_open)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, **below)
    finally:
        if opened >= 0:
            os.close(opened)


def _open_or_make(part: str, flags: int, below: dict[str, int]) -> int:
    try:
        return os.open(part, flags, **below)
    except FileNotFoundError:
        # Another process may have just made it, or it is a broken link.
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o700, **below)
        return os.open(part, flags, **below)


def _read_link(part: str, below: dict[str, int], path: Path) -> tuple[str, ...]:
    """Returns the parts of a link's target; the link must belong to the user or root."""
    status = os.stat(part, follow_symlinks=False, **below)
    if not stat.S_ISLNK(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder", str(path))
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EACCES, "it is a link of another user", str(path))
    return Path(os.readlink(part, **below)).parts


def _check(status: os.stat_result, path: Path, *, last: bool) -> None:
    if status.st_uid not in ((os.geteuid(),) if last else (0, os.geteuid())):
        raise PermissionError(errno.EACCES, "it belongs to another user", str(path))
    if not status.st_mode & 0o022:
        return
    # Sticky, as /tmp: nobody can replace a folder of another user there.
    if last or not (status.st_mode & stat.S_ISVTX and status.st_uid == 0):
        advice = f"other users may write to it: chmod go-w {path}"
        raise PermissionError(errno.EACCES, advice, str(path))
