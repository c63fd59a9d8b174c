"""Nothing of the user's is replaced: outputs against inputs, each other, and others' files."""

import os
from pathlib import Path

import pytest

from jaxstyle.app import outputs
from jaxstyle.app.outputs import check_outputs
from jaxstyle.io import InputError, save_image, write_json


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_read_is_not_written(here, pictures):
    save_image("photo.png", pictures(0))
    Path("folder").mkdir()
    Path("link.png").symlink_to("photo.png")
    Path("other").symlink_to("folder")
    os.link("photo.png", "folder/hard.png")
    for name in ("photo.png", here / "photo.png", "folder/../photo.png", "link.png",
                 "other/hard.png"):  # fmt: skip
        for overwrite in (False, True):
            with pytest.raises(InputError, match="is read and would be replaced"):
                check_outputs([Path(name)], [Path("photo.png")], overwrite=overwrite)
    with pytest.raises(InputError, match="is read"):  # of files that come to be in the meantime
        check_outputs([Path("folder/new.png")], [Path("other/new.png")])
    check_outputs([Path("new.png"), Path("folder/new.png")], [Path("photo.png")])


def test_outputs_are_different_files(here):
    Path("a").mkdir()
    Path("b").symlink_to("a")
    with pytest.raises(InputError, match=r"'a/x.json' and 'b/x.json' would be the same file"):
        check_outputs([Path("a/x.json"), Path("b/x.json")], [], overwrite=True)
    check_outputs([Path("a/x.json"), Path("x.json")], [])


def test_file_systems_without_case(here, monkeypatch):
    check_outputs([Path("x.png"), Path("X.png")], [])
    monkeypatch.setattr(outputs, "_folds_case", lambda folder: True)
    with pytest.raises(InputError, match="the same file"):
        check_outputs([Path("x.png"), Path("X.png")], [])
    with pytest.raises(InputError, match="is read"):
        check_outputs([Path("e\u0301.png")], [Path("\u00c9.png")])


def test_files_of_others(here, pictures):
    Path("package.json").write_text('{"name": "my-app"}')
    Path("empty.png").touch()  # as mktemp makes it
    Path("nowhere.png").symlink_to("absent.png")
    save_image("ours.png", pictures(0))
    check_outputs([Path("empty.png"), Path("nowhere.png"), Path("ours.png"), Path("new.png")], [])
    with pytest.raises(InputError, match=r"'package.json' exists, .* say --overwrite"):
        check_outputs([Path("package.json")], [])
    check_outputs([Path("package.json")], [], overwrite=True)
    assert Path("package.json").read_text() == '{"name": "my-app"}'


def test_json_of_another_picture(here, pictures):
    save_image("a.png", pictures(0))
    write_json("a.json", {"output": "a.png"})
    json, photo = Path("a.json"), Path("a.jpg")
    check_outputs([json], [], described={json: Path("a.png")})
    with pytest.raises(InputError, match=r"'a.json' describes 'a.png', which exists"):
        check_outputs([json, photo], [], described={json: photo})
    check_outputs([json, photo], [], described={json: photo}, overwrite=True)
    Path("a.png").unlink()
    check_outputs([json, photo], [], described={json: photo})
