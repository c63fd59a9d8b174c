"""Folders whose files are run: nobody else's is read, nothing damaged, nothing is chmod-ed."""

import os
import pickle
import stat

import numpy as np
import pytest

from jaxstyle.app.compile_cache import KeptPrograms
from jaxstyle.app.private_folder import PrivateFolder

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="nothing is kept on Windows")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes files of others"
)
OTHER = 2222


def modes(folder):
    return {path: stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}


def refused(path, *, match):
    """Asserts that a folder is refused, and nothing there is changed."""
    before = modes(path.parent)
    with pytest.raises(OSError, match=match):
        PrivateFolder(path)
    assert modes(path.parent) == before


def test_what_is_written_is_read(tmp_path):
    folder = PrivateFolder(tmp_path / "a" / "b")
    folder.write("one", b"1")
    folder.write("one", b"11")
    folder.write("empty", b"")
    again = PrivateFolder(tmp_path / "a" / ".." / "a" / "b")
    assert (again.read("one"), again.read("empty")) == (b"11", b"")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"one", "empty", ".key"}
    for path, mode in modes(tmp_path / "a").items():
        assert mode == (0o700 if path.is_dir() else 0o600)
    with pytest.raises(FileNotFoundError):
        again.read("two")


def test_every_damage_is_found(tmp_path):
    folder, rng = PrivateFolder(tmp_path), np.random.default_rng(0)
    folder.write("x", rng.bytes(500))
    whole = (tmp_path / "x").read_bytes()
    accepted = 0
    for _ in range(5000):
        data = np.frombuffer(whole, np.uint8).copy()
        places = rng.choice(len(data), rng.integers(1, 5), replace=False)
        data[places] ^= np.uint8(1) << rng.integers(0, 8, len(places), np.uint8)
        try:
            folder._verify("x", data.tobytes())  # as `read` does, without the disk
        except ValueError:
            continue
        accepted += 1
    assert accepted == 0
    for data in (b"", whole[:31], whole[:32], whole[:-1], whole + b"\0", whole[32:]):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(ValueError, match="damaged"):
            folder.read("x")
    # Nor does a file pass under another's name, or with another key.
    (tmp_path / "y").write_bytes(whole)
    with pytest.raises(ValueError, match="damaged"):
        folder.read("y")
    (tmp_path / "x").write_bytes(whole)
    folder.read("x")
    (tmp_path / ".key").write_bytes(bytes(31))
    with pytest.raises(ValueError, match="damaged"):
        PrivateFolder(tmp_path).read("x")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_planted_pickle_is_not_run(tmp_path):
    kept = KeptPrograms(tmp_path / "programs")
    planted = pickle.dumps(Evil(tmp_path / "ran"))
    for data in (planted, bytes(32) + planted):
        (tmp_path / "programs" / "any").write_bytes(data)
        assert kept._load("any") is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o722])
@pytest.mark.parametrize("part", ["", "a", "a/b"])
def test_every_part_of_the_path_counts(mode, part, tmp_path):
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / part).chmod(mode)
    for below in ("a/b", "a/b/new/newer"):
        with pytest.raises(PermissionError, match="chmod go-w"):
            PrivateFolder(top / below)
    assert stat.S_IMODE((top / part).stat().st_mode) == mode
    assert not list((top / "a" / "b").iterdir())


def test_links_of_ones_own_are_followed(tmp_path):
    (tmp_path / "scratch").mkdir(mode=0o700)
    (tmp_path / "absolute").symlink_to(tmp_path / "scratch")
    (tmp_path / "relative").symlink_to("../" + tmp_path.name + "/absolute")
    PrivateFolder(tmp_path / "relative" / "programs").write("x", b"1")
    assert PrivateFolder(tmp_path / "scratch" / "programs").read("x") == b"1"
    # Where they lead to counts as well.
    (tmp_path / "scratch").chmod(0o777)
    refused(tmp_path / "relative" / "programs", match="chmod go-w")
    refused(tmp_path / "absolute", match="chmod go-w")
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop", match="Not a directory|symbolic links")
    (tmp_path / "nowhere").symlink_to("nothing")
    PrivateFolder(tmp_path / "nowhere")  # is made
    (tmp_path / "file").touch()
    refused(tmp_path / "file", match="not a folder")


def test_files_are_the_users_alone(tmp_path):
    folder = PrivateFolder(tmp_path / "kept")
    folder.write("x", b"1")
    path = tmp_path / "kept" / "x"
    path.chmod(0o620)
    with pytest.raises(PermissionError, match="open to other users"):
        folder.read("x")
    path.chmod(0o600)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match="symbolic links"):
        folder.read("x")
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(PermissionError, match="not a file"):
        folder.read("x")
    # A key that others can read is another's as well: a new one is made.
    (tmp_path / "moved").rename(tmp_path / "kept" / "y")
    key = tmp_path / "kept" / ".key"
    before = key.read_bytes()
    key.chmod(0o644)
    PrivateFolder(tmp_path / "kept")
    assert key.read_bytes() != before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_nothing_of_another_user(tmp_path, monkeypatch):
    folder = PrivateFolder(tmp_path / "kept")
    folder.write("x", b"1")
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    with pytest.raises(PermissionError, match="belongs to another user"):
        PrivateFolder(tmp_path / "kept")
    with pytest.raises(PermissionError, match="not a file of yours"):
        folder.read("x")


@as_root
def test_links_and_folders_of_others_are_refused(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.lchown(tmp_path / "link", OTHER, OTHER)
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", OTHER, OTHER)
    for below in ("", "below"):
        refused(tmp_path / "link" / below, match="link of another user")
        refused(tmp_path / "theirs" / below, match="belongs to another user")
    # A folder as /tmp is: a parent, but no folder for programs.
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    refused(tmp_path / "sticky", match="chmod go-w")
    PrivateFolder(tmp_path / "sticky" / "kept").write("x", b"1")
