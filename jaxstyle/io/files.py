"""Reads regular files only, writes files whole or not at all, and quotes paths in messages."""

import contextlib
import functools
import hashlib
import os
import re
import secrets
import stat
import unicodedata
from typing import BinaryIO, TypeAlias

from jaxstyle.io.errors import InputError
from jaxstyle.io.locations import URL

_TEMPORARY = re.compile(r"\.jaxstyle-[0-9a-f]{16}\.tmp")

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".avif", ".heic", ".heif"),
)
"""Extensions of the pictures that can be read, in lower case."""

PathType: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def describe_path(path: PathType) -> str:
    """Quotes a path for a message, as one printable line for any name.

    Raises:
        InputError: `path` is not a path. An integer would otherwise mean an open file.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise InputError(f"a path cannot be of type {type(path).__name__}; give a file name")
    return repr(os.fsdecode(path))


def show_path(path: PathType) -> str:
    """Returns a path as a text that can be printed, drawn and encoded as UTF-8, for any name."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def describe_error(error: BaseException) -> str:
    """Returns the reason of an exception without the path: a printable line, at most 120 long."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(text.split()) or type(error).__name__
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 120 else line[:117] + "..."


def why_missing(path: PathType, kind: str = "file") -> str:
    """Says of a path that does not exist what is wrong with it, as the rest of a sentence.

    Args:
        path: the path.
        kind: of file, for the message.
    """
    text = os.fsdecode(path)
    if "://" in text:
        return f"is an address; download the {kind}, and give the path of its file"
    if text.startswith("~"):
        return "does not exist: only the shell replaces ~, without quotes; write the whole path"
    for form in ("NFC", "NFD") if not text.isascii() else ():
        if os.path.lexists(unicodedata.normalize(form, text)):
            return (
                f"does not exist, but its name in another form of Unicode ({form}) does; use that"
            )
    folder = os.path.dirname(text)
    if folder and not os.path.isdir(folder):
        return f"does not exist: there is no folder {describe_path(folder)}; check the path"
    return "does not exist; check the path"


def check_source(path: PathType) -> None:
    """Checks that `path` is a regular file and not empty.

    Other files are never opened: a pipe would wait forever, and /dev/zero has no end.

    Raises:
        InputError: it is missing, not accessible, empty, a folder, a pipe or a device.
    """
    if isinstance(path, URL):
        path.check_source()
        return
    name = describe_path(path)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise InputError(f"{name} {why_missing(path)}") from error
    except PermissionError as error:
        raise InputError(f"{name} may not be read; change its permissions") from error
    except (OSError, ValueError) as error:  # such as a long name or one with a NUL byte
        raise InputError(
            f"{name} cannot be read ({describe_error(error)}); check the path"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name} is a folder; give the path of a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name} is not a regular file; give the path of one")
    if status.st_size == 0:
        raise InputError(f"{name} is empty; check the path")
    if not os.access(path, os.R_OK):
        raise InputError(f"{name} may not be read; change its permissions")


def open_source(path: PathType) -> BinaryIO:
    """Opens a file for reading after `check_source`, safely even if somebody replaces it meanwhile.

    Raises:
        InputError: as `check_source`.
    """
    if isinstance(path, URL):
        return path.open()
    check_source(path)
    # If a pipe has replaced the file, opening it must not wait for a writer.
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


def sha256_of(path: PathType) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: if it cannot be read.
    """
    name = describe_path(path)
    with open_source(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"cannot read {name} ({describe_error(error)})") from None


def check_target(path: PathType) -> None:
    """Checks that `write_atomically(path, ...)` can succeed, without writing anything.

    Args:
        path: the file.

    Raises:
        InputError: the folder is missing or not writable, or `path` is a folder, a device or a
            write-protected file.
    """
    if isinstance(path, URL):
        path.check_target()
    else:
        _resolve_target(path)


def write_atomically(path: PathType, data: bytes | bytearray | memoryview) -> None:
    """Writes a file, whole or not at all.

    The bytes go to a temporary file in the same folder, which then replaces `path`. On any
    failure or interrupt, the temporary file is removed and an existing `path` is unchanged. As
    with `open(path, "wb")`, links are followed, the umask sets the permissions of a new file, and
    an existing file keeps its permissions. Missing folders are not created: a mistyped path should
    not leave folders behind.

    An object store gets it by a single put.

    Args:
        path: The file to write.
        data: All of its content.

    Raises:
        InputError: `check_target(path)` raises it, or the write failed (a full disk).
    """
    if isinstance(path, URL):
        path.put(data)
        return
    target = _resolve_target(path)
    folder = os.path.dirname(target)
    _remove_leftovers_once(folder)
    temporary = ""
    try:
        file, temporary = _open_temporary(folder)
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(OSError):  # the file is new, or modes are not supported
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            if os.name == "nt":  # there an open file cannot be renamed
                file.close()
            os.replace(temporary, target)
        _sync_folder(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write {describe_path(path)} ({describe_error(error)}); "
                "free some space or choose another folder"
            ) from error
        raise


def _temporary_path(folder: str) -> str:
    return os.path.join(folder, f".jaxstyle-{secrets.token_hex(8)}.tmp")


def _open_temporary(folder: str) -> tuple[BinaryIO, str]:
    """Creates a temporary file; its lock keeps other processes from removing it."""
    while True:
        path = _temporary_path(folder)
        # Not by tempfile.mkstemp, which ignores the umask and sets 0600.
        file = open(path, "xb")  # noqa: SIM115
        _lock(file)
        # Before it was locked, another process may have removed it as a leftover.
        if os.path.exists(path):
            return file, path
        file.close()


def _lock(file: BinaryIO) -> bool:
    """Locks a file; returns False if another process has, or if locks are not supported."""
    try:
        import fcntl  # noqa: PLC0415  not on Windows

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def has_locks(folder: PathType) -> bool:
    """Whether files in a folder can be locked: some of Lustre, NFS and sshfs cannot.

    Raises:
        OSError: if no file can be written there.
    """
    if os.name == "nt":  # filelock locks in another way there
        return True
    path = _temporary_path(os.fsdecode(folder))
    with open(path, "xb") as file:
        os.unlink(path)
        return _lock(file)  # nobody else can hold it


def remove_leftovers(folder: PathType) -> None:
    """Removes temporary files of processes that were killed while they wrote to `folder`.

    Files of running processes are locked, and stay. Without support for locks all files stay.

    Args:
        folder: any folder; errors are ignored.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(os.fsdecode(folder)):
            if not _TEMPORARY.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
                    continue
                if _lock(file):
                    os.unlink(entry.path)


# Once: a folder of ten thousand pictures is not listed for each of them.
_remove_leftovers_once = functools.lru_cache(maxsize=4096)(remove_leftovers)


def _sync_folder(folder: str) -> None:
    """Waits until the names in a folder are on disk, if the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _resolve_target(path: PathType) -> str:
    """Follows links to the file that a write would replace, and checks it."""
    name = describe_path(path)
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise InputError(f"{name} is not a file name; give the path of a file")
    try:
        target = os.path.realpath(text)
    except OSError as error:  # a relative path whose current folder was removed
        raise InputError(
            f"{name} cannot be found ({describe_error(error)}); change to a folder that exists"
        ) from error
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
            # Root could replace /dev/null by a picture.
            raise InputError(f"{name} is not a regular file; choose another path")
        if not os.access(target, os.W_OK):
            # os.replace would succeed, against the wish of whoever made the file read-only.
            raise InputError(f"{name} is write-protected; choose another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"the folder of {name} is not writable; choose another folder")
    return target
