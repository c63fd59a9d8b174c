"""The folder of the page's server: gone at its end, also at a violent one."""

import os
import subprocess
import sys
import tempfile
import time

import pytest

from jaxstyle.app.web.server_folder import bytes_in, remove, remove_old, server_folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_it_is_removed_without_following_links(temporary, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"photo")
    with server_folder() as folder:
        (folder / "visit" / "picture").mkdir(parents=True)
        (folder / "visit" / "picture" / "a.jpg").write_bytes(bytes(1000))
        (folder / "visit" / "folder").symlink_to(tmp_path / "mine")
        (folder / "visit" / "file").symlink_to(tmp_path / "mine" / "photo.jpg")
        (folder / "visit" / "nowhere").symlink_to("nothing")
        # Two folders and a link to one; the mark, a picture, two links: each has a block.
        assert bytes_in(folder) == 7 * 4096
    assert not list(temporary.iterdir())
    assert (tmp_path / "mine" / "photo.jpg").read_bytes() == b"photo"


def test_an_error_removes_it(temporary):
    def serve():
        with server_folder() as folder:
            (folder / "x").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve()
    assert not list(temporary.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="no locks")
def test_what_a_killed_server_has_left(temporary, tmp_path):
    run = (
        "import os, sys, time\n"
        "from jaxstyle.app.web.server_folder import server_folder\n"
        "with server_folder() as folder:\n"
        "    (folder / 'photo.jpg').write_bytes(b'1')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(100)\n"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [sys.executable, "-c", run], env=environment, stdout=subprocess.PIPE, text=True
    )
    left = process.stdout.readline().strip()
    # Nobody's: without a mark, a link to a marked one, a file.
    strange = temporary / "jaxstyle-page-strange"
    strange.mkdir(mode=0o700)
    (strange / "photo.jpg").write_bytes(b"1")
    (tmp_path / "marked").mkdir(mode=0o700)
    (tmp_path / "marked" / ".jaxstyle-page").touch()
    (temporary / "jaxstyle-page-link").symlink_to(tmp_path / "marked")
    (temporary / "jaxstyle-page-file").touch()
    with server_folder() as folder:
        assert {each.name for each in folder.iterdir()} == {".jaxstyle-page"}
        assert os.path.exists(f"{left}/photo.jpg")  # that server runs
    process.kill()
    process.communicate()
    assert os.path.exists(f"{left}/photo.jpg")
    with server_folder():
        assert not os.path.exists(left)
    assert (strange / "photo.jpg").exists()
    assert (tmp_path / "marked" / ".jaxstyle-page").exists()
    assert (temporary / "jaxstyle-page-file").exists()


def test_removing_what_is_gone(tmp_path):
    remove(tmp_path / "nowhere")
    assert bytes_in(tmp_path / "nowhere") == 0


def test_what_nobody_has_used_for_long_goes(temporary):
    """A page that runs for weeks: visits and uploads are removed by age."""
    hour = 3600
    with server_folder() as folder:
        ages = {
            "visit-old/a/shown": 30 * hour,
            "visit-new/a/shown": 20 * hour,
            "upload-old": 7 * hour,
            "upload-new": 5 * hour,
        }
        for name in ages:
            (folder / name).mkdir(parents=True)
            (folder / name / "picture.png").write_bytes(b"1")
        (folder / "visit-running" / "a" / "shown").mkdir(parents=True)
        (folder / "tmp-old").write_bytes(b"1")
        ages |= {"tmp-old": 7 * hour, "visit-running": 90 * hour, ".jaxstyle-page": 90 * hour}
        for name, age in ages.items():
            for path in [folder / name, *(folder / name).rglob("*"), *(folder / name).parents]:
                if folder in path.parents:
                    os.utime(path, (0, time.time() - age))
        os.utime(folder / "visit-running" / "a" / "shown")  # where a run saves its previews
        remove_old(folder)
        assert {each.name for each in folder.iterdir()} == {
            ".jaxstyle-page", "visit-new", "visit-running", "upload-new",
        }  # fmt: skip
