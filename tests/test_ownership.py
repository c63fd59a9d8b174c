"""Files that say that jaxstyle has written them, and those that do not."""

import json
import os
import random

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image, PngImagePlugin

from jaxstyle.app.pages import html
from jaxstyle.app.pages.loss_plot import plot_losses
from jaxstyle.io import InputError, save_image, write_json
from jaxstyle.io.json_file import read_json
from jaxstyle.io.ownership import GENERATOR, is_ours

FORMATS = ("png", "jpg", "jpeg", "webp", "tif", "tiff")
TRACE = [{"step": 0, "evaluations": 1, "seconds": 0.1, "loss": 2.0, "terms": {"content": 2.0}}]


@pytest.mark.parametrize("extension", FORMATS)
def test_pictures(tmp_path, pictures, extension):
    path = tmp_path / f"out.{extension}"
    save_image(path, pictures(0, 24, 20))
    assert is_ours(path)
    with Image.open(path) as file:
        software = file.info.get("Software") or file.getexif()[305]
    assert software == GENERATOR
    # The same picture, saved again by somebody else, or by a program that puts its own name there.
    with Image.open(path) as file:
        copy = Image.fromarray(np.asarray(file))
    copy.save(path)
    assert not is_ours(path)
    exif = Image.Exif()
    exif[305], exif[270] = "GIMP 3.0", GENERATOR  # its software, and its description
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Software", "GIMP 3.0")
    texts.add_text("Comment", f"from\0Software\0{GENERATOR}")
    copy.save(path, **({"pnginfo": texts} if extension == "png" else {"exif": exif}))
    assert not is_ours(path)


def test_other_kinds(tmp_path):
    write_json(tmp_path / "out.json", {"recipe": {}, "loss": 0.1})
    (tmp_path / "plot.png").write_bytes(plot_losses(TRACE, {"content": 1.0}))
    html.write_page(tmp_path / "page", html.render("page.html", title="<out>"))
    tensors = safetensors.numpy.save({"a": np.zeros(3)}, {"b": "c", "generator": GENERATOR})
    (tmp_path / "a.safetensors").write_bytes(tensors)
    for name in ("out.json", "plot.png", "page/index.html", "a.safetensors"):
        assert is_ours(tmp_path / name), name


def test_foreign_files(tmp_path):
    tensors = safetensors.numpy.save({"a": np.zeros(3)}, {"source": GENERATOR})
    hostile = {
        "text.txt": GENERATOR.encode(),
        "package.json": b'{"name": "mine", "generator": "jaxstyle 0.1.0"}',
        "list.json": b'["generator", "jaxstyle 0.1.0"]',
        "page.html": f"<!doctype html><p>{GENERATOR}".encode(),
        "a.safetensors": tensors,
        "deep.safetensors": (10**5).to_bytes(8, "little") + b"[" * 10**5,
        "long.safetensors": (2**63).to_bytes(8, "little") + b"{}",
        "empty": b"",
        "cut.png": b"\x89PNG\r\n\x1a\n\0\0",
        "endless.png": b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xfftEXt" * 9,
        "cut.jpg": b"\xff\xd8\xff\xe1\0\0Exif\0\0",
        "cut.tif": b"II*\0\xff\xff\xff\xff",
        "many.tif": b"II*\0\x08\0\0\0\xff\xff",
        "cut.webp": b"RIFF\0\0\0\0WEBPEXIF\xff\xff\xff\xff",
    }
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
        assert not is_ours(tmp_path / name), name
    os.mkfifo(tmp_path / "pipe")  # which would wait for ever
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none", "/dev/zero", "a\0b", b"\xff"):
        assert not is_ours(path)


def test_json_that_has_changed(tmp_path):
    path = tmp_path / "out.json"
    content = {"recipe": {"name": "x"}, "loss": 0.1, "trace": [1.5, None, "é"], "generator": "?"}
    write_json(path, content)
    written = read_json(path)
    assert written.pop("generator") == GENERATOR
    assert len(written.pop("checksum")) == 64
    assert written == {key: content[key] for key in ("recipe", "loss", "trace")}
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))  # laid out anew
    read_json(path)

    write_json(path, content)
    data = path.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        changed = bytearray(data)
        bit = rng.randrange(8 * len(data))
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = read_json(path)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:  # in the white space between fields
            assert found == json.loads(data)
    path.write_text('{"recipe": {"name": "mine"}}')  # of somebody else, without a checksum
    assert read_json(path) == {"recipe": {"name": "mine"}}


@pytest.mark.parametrize("depth", [900, 985, 100_000])
def test_json_that_is_nested_deeply(depth, tmp_path):
    path = tmp_path / "out.json"
    write_json(path, {"loss": 0.1})
    path.write_text(path.read_text().replace("0.1", depth * "[" + depth * "]"))
    # How deeply Python's reader goes near its limit of 1,000 depends on its version.
    messages = {900: "damaged or was edited", 985: "damaged or was edited|deeply"}
    with pytest.raises(InputError, match=messages.get(depth, "deeply")):
        read_json(path)
