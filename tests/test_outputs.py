"""Nothing of the user's is replaced: outputs against inputs, each other, and others' files."""

import dataclasses
import errno
import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

from jaxstyle.app import outputs, same_file
from jaxstyle.app.cli.main import main
from jaxstyle.app.job import Job, make_job
from jaxstyle.app.outputs import check_job, check_outputs
from jaxstyle.app.saving import make_folder
from jaxstyle.io import (
    InputError,
    describe_recipe,
    files,
    save_image,
    write_atomically,
    write_json,
)
from jaxstyle.io.files import remove_leftovers


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


def test_the_folder_of_an_output_is_made_once_the_run_has_begun(here):
    def job(output):
        return make_job(content="c.png", style=["s.png"], output=output, recipe="default", size=64)

    check_job(dataclasses.replace(job("new/x.png"), preview_every=1, plot=True))
    assert not Path("new").exists()
    make_folder(Path("new/x.png"))
    make_folder(Path("new/x.png"))
    assert Path("new").is_dir()
    with pytest.raises(InputError, match="the folder of 'no/where' does not exist; create it"):
        check_job(job("no/where/x.png"))
    Path("link").symlink_to("nowhere/at/all")
    with pytest.raises(InputError, match="does not exist; create it"):
        check_job(job("link/x.png"))
    with pytest.raises(
        InputError, match=r"cannot make the folder of 'link/x.png' .*; name another"
    ):
        make_folder(Path("link/x.png"))
    assert not Path("no").exists()


def test_outputs_are_different_files(here):
    Path("a").mkdir()
    Path("b").symlink_to("a")
    with pytest.raises(InputError, match=r"'a/x.json' and 'b/x.json' would be the same file"):
        check_outputs([Path("a/x.json"), Path("b/x.json")], [], overwrite=True)
    check_outputs([Path("a/x.json"), Path("x.json")], [])


def test_file_systems_without_case(here, monkeypatch):
    check_outputs([Path("x.png"), Path("X.png")], [])
    monkeypatch.setattr(same_file, "folds_case", lambda folder: True)
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
    with pytest.raises(InputError, match=r"'package.json' exists, .* use --overwrite"):
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


def test_an_edited_json_is_its_editors(here, pictures):
    """What parses but does not fit its checksum was edited; what does not parse is damaged."""
    path = Path("a.json")
    save_image("a.png", pictures(0))
    write_json(path, {"output": "a.png", "loss": 1.0})
    written = path.read_text()
    for edited in (
        written.replace('"loss"', '"my_notes": "keep", "loss"'),
        written.replace("1.0", "2.0"),
        json.dumps({key: value for key, value in json.loads(written).items() if key != "checksum"}),
        *(written.replace("1.0", depth * "[" + depth * "]") for depth in (985, 100_000)),
    ):
        path.write_text(edited)
        with pytest.raises(InputError, match=r"'a.json' was edited .* use --overwrite"):
            check_outputs([path], [], described={path: Path("a.png")})
        check_outputs([path], [], overwrite=True)
    for allowed in (written, json.dumps(json.loads(written)), written[:-30], "",
                    written.replace('"loss"', "loss")):  # fmt: skip
        path.write_text(allowed)
        check_outputs([path], [], described={path: Path("a.png")})


def job(output: str, **options) -> Job:
    options = {"steps": 4, "size": 64, "coarsest": 0, **options}
    return make_job(content="c.png", style=["s.png"], output=output, recipe="default", **options)


def test_previews_in_two_spellings(here, pictures):
    for name in ("a-0003.png", "A-0003.png"):
        save_image(name, pictures(0))
    for output in ("a.png", "A.png"):
        outputs.check_job(job(output, preview_every=1))


@pytest.mark.parametrize(
    ("name", "options"), [("f-0002.png", {"preview_every": 2}), ("f-loss.png", {"plot": True})]
)
def test_finished_pictures_are_no_previews(here, pictures, name, options):
    save_image(name, pictures(0))
    outputs.check_job(job("f.png", **options))  # an earlier preview or curve
    path = Path(name).with_suffix(".json")
    write_json(path, {"output": name})
    with pytest.raises(InputError, match=rf"'{name}' is a finished picture .* --overwrite"):
        outputs.check_job(job("f.png", **options))
    outputs.check_job(job("f.png", **options, overwrite=True))
    outputs.check_job(job(name))  # the same run again
    # Edited, it describes it all the same; that of another picture does not.
    path.write_text(path.read_text().replace("{", '{"notes": 1,', 1))
    with pytest.raises(InputError, match="finished picture"):
        outputs.check_job(job("f.png", **options))
    write_json(path, {"output": Path(name).with_suffix(".jpg").name})
    outputs.check_job(job("f.png", **options))


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("q.png", {}),
        ("q.json", {}),
        ("q-loss.png", {"plot": True}),
        ("q-0002.png", {"preview_every": 2}),
    ],
)
@pytest.mark.parametrize("option", ["report", "checkpoint"])
def test_no_folder_is_a_file_too(here, option, folder, options):
    with pytest.raises(InputError, match=f"'{folder}' would be both a file and a folder"):
        outputs.check_job(job("q.png", **options, **{option: Path(folder)}, overwrite=True))
    outputs.check_job(job("q.png", **options, **{option: Path("other")}))
    assert not list(here.iterdir())


def test_no_page_of_a_batch_is_in_a_picture(here):
    def check(page: str) -> None:
        jobs = [job("out/a.png"), job("out/b.png")]
        outputs.check_batch(jobs, [], manifest=None, page=Path(page), overwrite=True)

    check("out/index.html")
    for name in ("out/b.png", "out/a.json"):
        with pytest.raises(InputError, match=f"'{name}' would be both a file and a folder"):
            check(f"{name}/index.html")


def test_what_killed_processes_leave(here):
    names = [f".jaxstyle-{digit * 16}.tmp" for digit in "0123"]
    for name in (*names, ".jaxstyle-notes.tmp", "0.jaxstyle-0000000000000000.tmp"):
        Path(name).write_bytes(b"half a picture")
    Path(names[1]).unlink()
    Path(names[1]).symlink_to(names[0])  # not ours: leads elsewhere
    Path(names[2]).unlink()
    Path(names[2]).mkdir()
    with Path(names[3]).open("rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)  # a process that is alive
        write_atomically("a.txt", b"a")
        left = {path.name for path in here.iterdir()}
        assert left == {"a.txt", *names[1:], ".jaxstyle-notes.tmp",
                        "0.jaxstyle-0000000000000000.tmp"}  # fmt: skip
    remove_leftovers(here)
    assert not Path(names[3]).exists()
    remove_leftovers(here / "nowhere")


def test_file_systems_without_locks(here, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    left = here / ".jaxstyle-0000000000000000.tmp"
    left.touch()
    write_atomically("a.txt", b"a")
    assert Path("a.txt").read_bytes() == b"a"
    assert left.exists()  # perhaps somebody is writing it


def test_a_temporary_file_taken_for_left_over_is_made_again(here, monkeypatch):
    lock, made = files._lock, []

    def remove_first(file):
        made.append(file.name)
        if len(made) == 1:
            os.unlink(file.name)  # by another process, just before
        return lock(file)

    monkeypatch.setattr(files, "_lock", remove_first)
    write_atomically("a.txt", b"a")
    assert Path("a.txt").read_bytes() == b"a"
    assert len(made) == 2
    assert [path.name for path in here.iterdir()] == ["a.txt"]


def test_the_folder_is_on_disk_before_it_is_said(here, monkeypatch):
    """The new name, too, is safe when `write_atomically` returns."""
    synced = []
    sync = os.fsync

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_atomically("a.txt", b"a")
    assert synced[-1] == str(here)
    assert len(synced) == 2


CASES = {
    "preview over init": (["--init", "out-0002.png", "--preview-every", "2"], "out-0002.png"),
    "preview of others": (["--preview-every", "2"], "out-000"),
    "recipe": (["--recipe", "mine.json", "--output", "mine.png"], "mine.json"),
    "JSON of others": (["--output", "package.png"], "package.json"),
    "report": (["--report", "site"], "site/index.html"),
    "loss curve": (["--plot"], "out-loss.png"),
    "picture": (["--output", "photo.png"], "photo.png"),
    "finished picture": (["--output", "f.png", "--preview-every", "2"], "f-0002.png"),
    "edited JSON": (["--output", "g.jpg"], "g.json"),
    "report over picture": (["--output", "q.png", "--report", "q.png"], "q.png"),
    "weights": (["--params", "link.png", "--output", "link.png"], "link.png"),
}


@pytest.mark.parametrize(("options", "kept"), CASES.values(), ids=CASES.keys())
def test_a_run_replaces_nothing(here, capsys, options, kept):
    Path("site").mkdir()
    picture = Image.new("RGB", (64, 48), "red")
    for name in ("c.png", "s.png", "out-0002.png", "out-0003.png", "out-9999.png", "photo.png",
                 "out-loss.png", "weights.npz.png"):  # fmt: skip
        picture.save(name)
    Path("link.png").symlink_to("weights.npz.png")
    Path("package.json").write_text('{"name": "my-app"}')
    Path("site/index.html").write_text("<h1>my site</h1>")
    for name in ("f-0002", "g"):
        save_image(f"{name}.png", np.full((48, 64, 3), 0.5))
        write_json(f"{name}.json", {"output": f"{name}.png"})
    Path("g.json").write_text(Path("g.json").read_text().replace("\n}", ',\n"notes": 1}'))
    Path("mine.json").write_text(json.dumps(describe_recipe(SHALLOW)))
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    command = ["stylize", "--content", "c.png", "--style", "s.png", "--size", "64", "--steps", "4",
               "--coarsest", "0", *options]  # fmt: skip
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert kept in line
    if "is read" in line:
        assert main([*command, "--overwrite"]) == 2
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
