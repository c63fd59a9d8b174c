"""Pictures from bytes and open files, and into them: a web service has no paths."""

import contextlib
import io
import os
import socket
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxstyle.io import InputError, load_image, read_shape, save_image

IMAGE = np.linspace(0, 1, 4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)


def encoded(kind: str = "png", image: Any = IMAGE) -> bytes:
    file = io.BytesIO()
    save_image(file, image, format=kind)
    return file.getvalue()


def said(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("kind", ["png", ".PNG", "jpg", "JPEG", "tif", "TIFF", "webp"])
def test_an_open_file_gets_and_gives_the_same_picture_as_a_path(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.removeprefix('.')}"
    save_image(path, IMAGE)
    assert encoded(kind) == path.read_bytes()
    for source in (path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        np.testing.assert_array_equal(load_image(source, size=3), load_image(path, size=3))
        assert read_shape(source, size=3) == read_shape(path, size=3)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_image(file), load_image(path))
        assert read_shape(file) == (4, 6), "it is read from its start, and stays open"


def test_what_was_just_written_is_read() -> None:
    file = io.BytesIO()
    save_image(file, IMAGE, format="png")
    assert load_image(file).shape == (4, 6, 3)
    file = io.BytesIO(b"head")
    file.seek(4)
    save_image(file, IMAGE, format="png")
    assert file.getvalue() == b"head" + encoded(), "written where it stands"


def test_the_name_of_an_open_file_is_its_format(tmp_path: Path) -> None:
    with (tmp_path / "a.webp").open("wb") as file:
        save_image(file, IMAGE)
    assert (tmp_path / "a.webp").read_bytes()[8:12] == b"WEBP"
    with (tmp_path / "a.webp").open("wb") as file:
        save_image(file, IMAGE, format="png")
    assert (tmp_path / "a.webp").read_bytes() == encoded("png")
    save_image(tmp_path / "b.part", IMAGE, format="png")
    assert (tmp_path / "b.part").read_bytes() == encoded("png")


@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_pipes_and_sockets(kind: str, buffering: int) -> None:
    """They cannot seek, and without a buffer they take and give less than is asked for."""
    image = np.random.default_rng(0).random((200, 200, 3)).astype(np.float32)
    if kind == "pipe":
        read, write = os.pipe()
        reader = os.fdopen(read, "rb", buffering)
        writer = os.fdopen(write, "wb", buffering)
    else:
        with contextlib.ExitStack() as stack:
            here, there = map(stack.enter_context, socket.socketpair())
            reader, writer = here.makefile("rb", buffering), there.makefile("wb", buffering)

    def send() -> None:
        with writer:
            save_image(writer, image, format="png")

    thread = threading.Thread(target=send)
    thread.start()
    with reader:
        received = load_image(reader)
    thread.join()
    np.testing.assert_array_equal(received, load_image(encoded("png", image)))


def test_a_member_of_an_archive() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", encoded())
        with archive.open("b.png", "w") as member:
            save_image(member, IMAGE, format="png")
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                assert load_image(member).shape == (4, 6, 3)


class Upload:
    """An upload of an asynchronous server."""

    name = "photo.jpg"

    async def read(self, size: int = -1) -> bytes:
        raise AssertionError(size)


def test_what_is_wrong_with_an_object_is_said(tmp_path: Path) -> None:
    assert "BytesIO object is empty" in said(load_image, io.BytesIO())
    assert "is empty" in said(load_image, b"")
    assert "web page" in said(load_image, b"<!doctype html><title>404</title>")
    assert "Git LFS" in said(load_image, io.BytesIO(b"version https://git-lfs.github.com/spec/v1"))
    assert "is not a PNG" in said(load_image, b"\0" * 99)
    assert "b.png' does not exist" in said(load_image, bytes(tmp_path / "b.png"))
    assert "mode 'rb'" in said(load_image, io.StringIO("x"))
    assert "without await" in said(load_image, Upload())
    assert "raw file" in said(load_image, io.BytesIO(b"FUJIFILMCCD-RAW" + bytes(99)))
    assert "mode 'wb'" in said(save_image, io.StringIO(), IMAGE, format="png")
    assert "format=" in said(save_image, io.BytesIO(), IMAGE)
    assert "'gif' is unknown" in said(save_image, io.BytesIO(), IMAGE, format="gif")
    assert "type list" in said(save_image, [], IMAGE, format="png")
    file = io.BytesIO()
    assert "NaN" in said(save_image, file, IMAGE * np.nan, format="png")
    assert file.getvalue() == b"", "nothing half-written"


def test_errors_of_an_object_are_its_own() -> None:
    file = io.BytesIO()
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        load_image(file)
    with pytest.raises(ValueError, match="closed file"):
        save_image(file, IMAGE, format="png")


def test_an_endless_object_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxstyle.io.sources._MOST_BYTES", 2**21)
    with open("/dev/zero", "rb") as file:
        assert "more than" in said(load_image, file)
