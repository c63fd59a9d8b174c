"""Files that can be read, files written whole or not at all, and their names in messages."""

import contextlib
import os
import secrets
import stat
from typing import BinaryIO, TypeAlias

from jaxstyle.io.errors import InputError

PathType: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def describe_path(path: PathType) -> str:
    """Quotes a path for a message: one printable line, whatever the name holds.

    Raises:
        InputError: `path` is not a path. An integer would otherwise be an open file's number.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise InputError(f"a path cannot be of type {type(path).__name__}; give a file name")
    return repr(os.fsdecode(path))


def show_path(path: PathType) -> str:
    """Returns a path as text to print, draw or write as UTF-8, whatever bytes its name has."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def describe_error(error: BaseException) -> str:
    """The reason in an exception, without the path, as one printable line of 120 characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(text.split()) or type(error).__name__
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 120 else line[:117] + "..."


def check_source(path: PathType) -> None:
    """Checks that `path` is a regular file with something in it.

    Only such a file is opened: a pipe would wait for ever, /dev/zero would never end.

    Raises:
        InputError: it is missing, not reachable, empty, a folder, a pipe or a device.
    """
    name = describe_path(path)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist; check the path") from error
    except PermissionError as error:
        raise InputError(f"{name} may not be read; change its permissions") from error
    except (OSError, ValueError) as error:  # a name too long, a NUL byte in it
        raise InputError(
            f"{name} cannot be read ({describe_error(error)}); check the path"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name} is a folder; give the path of a file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name} is not a regular file; give the path of one")
    if status.st_size == 0:
        raise InputError(f"{name} is empty; check the path")
    if not os.access(path, os.R_OK):
        raise InputError(f"{name} may not be read; change its permissions")


def open_source(path: PathType) -> BinaryIO:
    """Opens a file for reading that `check_source` lets pass, even if it is exchanged meanwhile.

    Raises:
        InputError: as `check_source`.
    """
    check_source(path)
    # A pipe that has come into its place since would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        file = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        raise InputError(
            f"{describe_path(path)} cannot be read ({describe_error(error)}); check the path"
        ) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{describe_path(path)} is not a regular file; give the path of one")
    return file


def check_target(path: PathType) -> None:
    """Checks that `write_atomically(path, ...)` can succeed, without writing anything.

    Args:
        path: the file.

    Raises:
        InputError: the folder is missing or not writable, or `path` is a folder, a device or a
            file that may not be overwritten.
    """
    _resolve_target(path)


def write_atomically(path: PathType, data: bytes | bytearray | memoryview) -> None:
    """Writes a file as a whole or not at all.

    The bytes go to a temporary file in the same folder, which then takes the place of `path`.
    On any failure, an interrupt included, the temporary file is removed and what stood at
    `path` stays. As with an ordinary `open(path, "wb")`, a link is followed, a new file's
    permissions come from the umask and an existing file keeps its own. Missing folders are not
    created: a mistyped path should not leave a tree behind.

    Args:
        path: The file to write.
        data: All of its content.

    Raises:
        InputError: `check_target(path)` raises it, or the write failed (a full disk).
    """
    target = _resolve_target(path)
    temporary = os.path.join(os.path.dirname(target), f".jaxstyle-{secrets.token_hex(8)}.tmp")
    try:
        # "x" and not tempfile.mkstemp, which would ignore the umask and give 0600
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # no such file yet, or a file system without modes
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write {describe_path(path)} ({describe_error(error)}); "
                "free some space or choose another folder"
            ) from error
        raise


def _resolve_target(path: PathType) -> str:
    """Follows links to the file that a write would touch, and checks it."""
    name = describe_path(path)
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise InputError(f"{name} is not a file name; give the path of a file")
    target = os.path.realpath(text)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise InputError(f"the folder of {name} does not exist; create it or choose another path")
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(
            f"cannot write {name} ({describe_error(error)}); choose another path"
        ) from error
    else:
        if stat.S_ISDIR(mode):
            raise InputError(f"{name} is a folder; give the path of a file")
        if not stat.S_ISREG(mode):
            # replacing /dev/null by a picture is possible, for root
            raise InputError(f"{name} is not a regular file; choose another path")
        if not os.access(target, os.W_OK):
            # os.replace would not mind, but whoever made the file read-only would
            raise InputError(f"{name} is write-protected; choose another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"the folder of {name} is not writable; choose another folder")
    return target
