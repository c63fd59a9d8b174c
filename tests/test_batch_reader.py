"""Pictures of a batch: each is read once, as long as its file is the same."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxstyle.app.batch import pictures
from jaxstyle.io import InputError
from jaxstyle.io.images import Picture


@pytest.fixture
def reads(monkeypatch):
    """What was read, by a reader of files that are all white, but for `none.png`."""
    found = []

    def read(path, *, size):
        found.append((path, size))
        if path == "none.png":
            raise InputError("it is damaged")
        return Picture(np.ones((size, size, 3), np.float32), None, None)

    monkeypatch.setattr(pictures, "read_picture", read)
    return found


def test_a_picture_is_read_once_until_its_file_changes(reads):
    reader = pictures.Reader()
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda _: reader.read({"sha256": "a"}, "a.png", size=9), range(40))]
    assert all(each is found[0] for each in found)
    assert found[0].image.shape == (9, 9, 3)
    reader.read({"sha256": "a"}, "a.png", size=8)
    reader.read({"sha256": "b"}, "a.png", size=8)
    assert reads == [("a.png", 9), ("a.png", 8), ("a.png", 8)]


def test_what_fails_is_read_again(reads):
    reader = pictures.Reader()
    for _ in range(2):
        with pytest.raises(InputError, match="damaged"):
            reader.read(None, "none.png", size=9)
    assert len(reads) == 2


def test_only_the_latest_pictures_are_kept(reads, monkeypatch):
    monkeypatch.setattr(pictures, "_KEPT", 2 * 3 * 4 * 81)  # two pictures
    reader = pictures.Reader()
    for path in ("a.png", "b.png", "a.png", "c.png", "a.png", "b.png"):
        reader.read(None, path, size=9)
    assert [path for path, _ in reads] == ["a.png", "b.png", "c.png", "b.png"]
