"""Pages about runs, parsed as a browser would, and what the program tells while it works."""

import base64
import dataclasses
import html.parser
import io
import json
import math
import re
import shlex
import signal
import sys
import urllib.parse
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import jaxstyle
from jaxstyle import recipes, terms
from jaxstyle.app import checkpoint, console, listeners
from jaxstyle.app.batch import progress, runner
from jaxstyle.app.cli.main import main
from jaxstyle.app.pages import batch_page, run_page
from jaxstyle.app.pages.loss_plot import plot_losses
from jaxstyle.compiled import changes_after
from jaxstyle.io import describe_recipe, load_image

SMALL = dataclasses.replace(
    recipes.DEFAULT,
    name="small",
    terms=(
        terms.Content(layers=("relu1_1",)),
        terms.GramStyle(layers=("relu1_1",), layer_weights=(1.0,)),
    ),
    weights={"content": 2.0, "style": 1e7},
    solver=jaxstyle.LBFGS(num_steps=12, history_size=5),
    pyramid=None,
)
HOSTILE = "<img src=x onerror=alert(1)>.png"
WORSE = "\"><script>alert('2')<&amp;.png"
VOID = {"meta", "link", "img", "input", "hr", "br"}


class Page(html.parser.HTMLParser):
    """Elements as (tag, attributes, text in it); every tag must be closed in turn."""

    def __init__(self, path):
        super().__init__()
        self.open = []
        self.elements = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, "tags are not closed"

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        assert len(dict(attrs)) == len(attrs), "an attribute twice"
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def all(self, tag, **attributes):
        return [
            (found, "".join(text))
            for name, found, text in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    def text(self, tag, **attributes):
        return [text for _, text in self.all(tag, **attributes)]


def read(folder):
    """The page in a folder, safe and complete in itself."""
    page = Page(folder / "index.html")
    style, (script,) = page.text("style")[0], page.text("script")
    assert not re.search(r"url\(|@import", style)
    assert "http" not in script
    names = [found["id"] for _, found, _ in page.elements if "id" in found]
    assert len(set(names)) == len(names)
    for tag, attributes, _ in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name) or ""
            assert not re.match(r"\s*(https?:|//|javascript:)", address, re.IGNORECASE)
            if tag == "img":
                assert name != "src" or re.match(r"data:image/jpeg;base64,|$", address)
    return page


def decode(address):
    data = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"), validate=True)
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), np.float32) / 255


def assert_alike(address, image):
    """An embedded picture is `image`, reduced to its size, but for JPEG."""
    found = decode(address)
    height, width = found.shape[:2]
    pixels = Image.fromarray((255 * np.asarray(image)).round().astype(np.uint8))
    expected = np.asarray(pixels.resize((width, height), Image.Resampling.LANCZOS)) / 255
    assert np.abs(found - expected).mean() < 8 / 255
    assert np.abs(found - 0.5).std() > 0.02  # it is a picture


@pytest.fixture
def folder(tmp_path, pictures, monkeypatch):
    """Pictures of hostile names, and a recipe that compiles fast; the working folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate((HOSTILE, WORSE, "c.png", "s.png")):
        image = (255 * pictures(number, 48, 64)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "small.json").write_text(json.dumps(describe_recipe(SMALL)))
    return tmp_path


def arguments(params_file, *options, content="c.png", style="s.png"):
    return [
        "stylize", "--content", content, "--style", style, "--recipe", "small.json",
        "--params", params_file, "--size", "64", *options,
    ]  # fmt: skip


def steps_of(page):
    """Step -> picture, of the iterations."""
    (section,) = [text for text in page.text("section") if text.startswith("Iterations")]
    steps = [int(step) for step in re.findall(r"step (\d+)", section)]
    pictures = [found["src"] for found, _ in page.all("img") if "step" in found["alt"]]
    return dict(zip(steps, pictures, strict=True))


def check_facts(page, metadata):
    facts = dict(zip(page.text("th"), page.text("td"), strict=True))
    assert facts["solver.num_steps"] == "12"
    assert facts["terms.style.layers"] == '["relu1_1"]'
    assert facts["weights.style"] == "9000000.0"
    assert facts["style_scale"] == "0.75"
    assert facts["weights.sha256"] == metadata["weights"]["sha256"]
    assert json.loads(facts["styles"]) == [WORSE]
    for name, version in metadata["versions"].items():
        assert facts[name] == version
    for name, taken in metadata["seconds"].items():
        assert facts[name] == str(taken)


def test_a_page_about_a_run(folder, params_file, capsys):
    output = "$x_{1$ <b>.png"
    options = ("--output", output, "--report", "page & more", "--plot", "--weights", "style=9e6",
               "--style-scale", "0.75", "--init", "s.png")  # fmt: skip
    assert main(arguments(params_file, *options, content=HOSTILE, style=WORSE)) == 0
    capsys.readouterr()
    assert [path.name for path in (folder / "page & more").iterdir()] == ["index.html"]
    page = read(folder / "page & more")
    metadata = json.loads((folder / "$x_{1$ <b>.json").read_text())
    picture = (folder / output).read_bytes()

    assert page.text("title") == [output] == page.text("h1")
    content, result, style = (load_image(each, size=64) for each in (HOSTILE, output, WORSE))
    large = {found["alt"]: found["src"] for found, _ in page.all("img")}
    assert_alike(large["result"], result)
    assert_alike(large["style"], style)
    before, after = (found["src"] for found, _ in page.all("img")[:2])
    assert_alike(before, content)
    assert_alike(after, result)
    assert np.abs(decode(before) - decode(after)).mean() > 12 / 255
    ((slider, _),) = page.all("input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "100")
    assert slider["aria-label"]
    captions = page.text("figcaption")
    assert f"content{HOSTILE}" in captions
    assert f"style{WORSE}" in captions

    shown = steps_of(page)
    assert list(shown) == [0, 1, 2, 3, 5, 8, 12]
    assert_alike(shown[0], load_image("s.png", size=64))
    assert_alike(shown[12], result)
    for step in shown:
        entry = metadata["trace"][step]
        assert f"step {step}loss {entry['loss']:.4g} at 64x48 px" in captions

    over_evaluations, over_seconds = page.text("svg")
    assert "loss-and-gradient evaluations" in over_evaluations
    assert "seconds" in over_seconds
    for curves in (over_evaluations, over_seconds):
        assert "2 x content" in curves
        assert "9e+06 x style" in curves

    check_facts(page, metadata)
    (summary,) = [text for text in page.text("p") if "evaluations" in text]
    assert summary.startswith("done after 12 steps: loss ")
    assert f"{metadata['loss']:.4g}" in summary

    # The command, typed again, makes the same picture, and the same page but for times.
    (command,) = page.text("pre")
    (folder / output).unlink()
    program, *words = shlex.split(command)
    assert program == "jaxstyle"
    assert main(words) == 0
    assert (folder / output).read_bytes() == picture
    assert read(folder / "page & more").text("pre") == [command]
    assert steps_of(read(folder / "page & more")) == shown


def test_curves_have_the_numbers_and_hostile_names():
    name = "</text></svg><script>alert('$x_{')</script>"
    trace = [
        {"evaluations": 1 + step, "seconds": 2.0 * step, "loss": 10.0 ** (3 - step), "stage": 0,
         "terms": {name: 10.0 ** (2 - step)}}
        for step in range(4)
    ]  # fmt: skip
    for over in ("evaluations", "seconds"):
        root = ElementTree.fromstring(plot_losses(trace, {name: 10.0}, over=over, kind="svg"))
        svg = "{http://www.w3.org/2000/svg}"
        texts = ["".join(text.itertext()) for text in root.iter(f"{svg}text")]
        assert f"10 x {name}" in texts
        assert {each.tag for each in root.iter()} <= {
            svg + tag for tag in ("svg", "defs", "style", "g", "path", "use", "text", "tspan",
                                  "clipPath", "rect")
        }  # fmt: skip
        # The loss falls by the same factor for each evaluation: a straight line of four points,
        # and ten times the term, the same again.
        lines = [
            np.array(
                [point.split() for point in re.findall(r"[ML] ([\d. -]+)", path.get("d"))], float
            )
            for path in root.iter(f"{svg}path")
            if path.get("clip-path")
        ]
        lines = [line for line in lines if len(line) > 1 and (np.diff(line, axis=0) > 0).all()]
        assert len(lines) == 2
        np.testing.assert_allclose(lines[0][0], lines[1][0])
        np.testing.assert_allclose(lines[0][-1], lines[1][-1])
    for entry, stage in zip(trace, (0, 0, 1, 2), strict=True):
        entry.update({"stage": stage, "size": [64, 49] if stage else [32, 24]})
    svg = plot_losses(trace, {name: 10.0}, kind="svg").decode()
    assert (svg.count("64x49 px"), svg.count("32x24 px")) == (2, 0)  # where the next stage begins
    png = plot_losses(trace, {name: 10.0}, "a $title_{")
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (840, 504)


def test_a_texture_and_masks(folder, params_file):
    options = ("--weights", "content=0", "--init", "noise", "--steps", "1", "--quiet")
    texture = ["stylize", "--style", "s.png", "--recipe", "small.json", "--params", params_file,
               "--size", "64", "--output", "t.png", "--report", "page", *options]  # fmt: skip
    assert main(texture) == 0
    page = read(folder / "page")
    assert not page.all("input")
    assert_alike(page.all("img")[0][0]["src"], load_image("t.png"))
    assert "1e+07 x style" in page.text("svg")[0]
    assert "content" not in page.text("svg")[0]
    (command,) = page.text("pre")
    assert shlex.split(command)[1:] == [
        "stylize", "--style", "s.png", "--output", "t.png", "--init", "noise", "--recipe",
        "small.json", "--weights", "content=0", "--size", "64", "--steps", "1", "--params",
        params_file, "--report", "page", "--quiet",
    ]  # fmt: skip

    masked = arguments(params_file, "--mask", "c.png", "--init", "s.png", "--steps", "1", "--quiet",
                       "--output", "m.png", "--report", "page")  # fmt: skip
    assert main(masked) == 0
    named = {found["alt"]: found["src"] for found, _ in read(folder / "page").all("img")}
    mask = load_image("c.png").mean(-1, keepdims=True).repeat(3, -1)
    assert_alike(named["mask"], mask)
    assert_alike(named["initial image"], load_image("s.png"))


def interrupt_at(step, monkeypatch):
    """A run ends with Ctrl-C when it looks at this step."""

    def is_due(now, *others, is_due=run_page.is_due):
        if now == step:
            raise KeyboardInterrupt
        return is_due(now, *others)

    monkeypatch.setattr(run_page, "is_due", is_due)


def test_interrupted_and_gone_on_with(folder, params_file, capsys, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    call = arguments(params_file, "--init", "s.png", "--output", "out.png", "--report", "page",
                     "--checkpoint", "kept")  # fmt: skip
    assert main(call) == 0
    undisturbed = steps_of(read(folder / "page"))
    with monkeypatch.context() as patch:
        interrupt_at(6, patch)
        assert main([*call, "--progress", "json"]) == 130
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["status"] == "interrupted"
    page = read(folder / "page")
    assert any(text.startswith("interrupted after 6 steps") for text in page.text("p"))
    metadata = json.loads((folder / "out.json").read_text())
    assert metadata["trace"][-1]["step"] == 6
    found = steps_of(page)
    assert list(found) == [0, 1, 2, 3, 5, 6]
    assert_alike(found[6], load_image("out.png"))

    # What was seen before is in the page of the run that goes on.
    assert main(call) == 0
    assert "resuming from about step" in capsys.readouterr().err
    assert steps_of(read(folder / "page")) == undisturbed


@pytest.mark.parametrize("command", ["stylize", "batch"])
def test_folders_that_cannot_be_used(command, folder, params_file, capsys):
    (folder / "full" / "index.html").mkdir(parents=True)
    (folder / "m.csv").write_text("content,style,output\nc.png,s.png,1.png\n")
    call = arguments(params_file, "--output", "out.png")
    if command == "batch":
        call = ["batch", "m.csv", "--output-dir", "out", "--params", params_file]
    for name, message in (("no/where", "does not exist"), ("c.png", "file"), ("full", "folder")):
        assert main([*call, "--report", name]) == 2
        said = capsys.readouterr()
        assert said.err.startswith("error: --report: ")
        assert message in said.err
        assert len(said.err.splitlines()) == 1
    assert not (folder / "out.png").exists()
    assert not list(folder.glob("out/*.jsonl"))


def write_manifest(folder, rows):
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def batch(params_file, *options):
    return [
        "batch", "m.jsonl", "--output-dir", "out", "--size", "64", "--recipe", "small.json",
        "--params", params_file, "--batch-size", "2", *options,
    ]  # fmt: skip


def test_a_gallery(folder, params_file, capsys, monkeypatch):
    (folder / "text.png").write_text("no picture")
    contents, styles = ("c.png", HOSTILE, WORSE), ("s.png", "text.png", WORSE)
    rows = [
        {"content": content, "style": style, "output": f"{i}/{j} <b>#%.png",
         "weights": f"style={i + j + 1}e6"}
        for i, content in enumerate(contents) for j, style in enumerate(styles)
    ]  # fmt: skip
    write_manifest(folder, rows)

    # Stopped after the first batch: the rest is not painted yet.
    is_stopped = runner._Runner._is_stopped
    with monkeypatch.context() as patch:

        def stop(self):
            if self.progress.painted:
                self.interrupts.first = signal.SIGINT
            return is_stopped(self)

        patch.setattr(runner._Runner, "_is_stopped", stop)
        assert main(batch(params_file, "--report", "page", "--keep-going")) == 130
    painted = sum("error" not in entry for entry in entries_of(folder).values())
    assert 0 < painted < 6
    page = read(folder / "page")
    assert len(page.text("div", **{"class": "waiting soft"})) == 6 - painted
    assert f"interrupted: {painted} of 9 pairs painted, 3 failed" in page.text("p")[0]

    # Gone on with, into the output folder itself.
    capsys.readouterr()
    assert main(batch(params_file, "--report", "out/page", "--keep-going")) == 1
    page = read(folder / "out" / "page")
    entries = entries_of(folder)
    assert page.text("h1") == ["out"]
    assert page.text("p")[0] == "done: 6 of 9 pairs painted, 3 failed"
    assert page.text("th", scope="col") == list(styles)
    assert page.text("th", scope="row")[:3] == list(contents)
    for i, row in enumerate(page.text("tr")[1:4]):
        for j in (0, 2):
            assert f"weights.style {1e6 * (1 + i + j)}" in row
    failed = page.text("div", **{"class": "failed"})
    assert failed == [f"failed {entries[row['output']]['error']}" for row in rows[1::3]]
    table = dict(zip(page.text("th", scope="row")[3:], page.text("td")[9:], strict=True))
    assert list(table.values())[:3] == [f"failed: {entries[row['output']]['error']}"
                                        for row in rows[1::3]]  # fmt: skip
    assert table["weights.content"] == "2.0"
    assert "weights.style" not in table
    assert table["versions.jax"] == jaxstyle.io.describe_versions()["jax"]
    metadata = [json.loads(path.read_text()) for path in (folder / "out").glob("*/*.json")]
    total = sum(each["seconds"]["optimize"] for each in metadata)
    assert float(table["optimize"]) == pytest.approx(total, abs=0.01)

    cells = page.all("a", **{"class": "cell"})
    good = [row["output"] for i, row in enumerate(rows) if i % 3 != 1]
    for (attributes, _), output in zip(cells, good, strict=True):
        path = folder / "out" / "page" / urllib.parse.unquote(attributes["href"])
        assert path.resolve() == folder / "out" / output
        assert output in attributes["data-text"]
        assert f"loss {entries[output]['loss']:.4g}" in attributes["data-text"]
        assert ", weights.style " in attributes["data-text"]
        ((thumbnail, _),) = page.all("img", alt=output)
        assert_alike(thumbnail["src"], load_image(path))
        ((content, _),) = page.all("img", id=attributes["data-content"])
        row = next(row for row in rows if row["output"] == output)
        assert_alike(content["src"], load_image(row["content"]))

    # The command goes on with it: nothing is left to be done.
    assert main(shlex.split(page.text("pre")[0])[1:]) == 1
    assert "0 painted" in capsys.readouterr().err


def entries_of(folder):
    lines = (folder / "out" / "journal.jsonl").read_text().splitlines()[1:]
    return {entry["output"]: entry for entry in map(json.loads, lines)}


def test_a_gallery_of_pairs_that_make_no_table(folder, params_file, pictures, monkeypatch):
    names = [f"{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        image = (255 * pictures(20 + i, 48, 64)).astype(np.uint8)
        Image.fromarray(image).save(folder / name)
    rows = [{"content": names[i], "style": names[5 - i], "output": f"p{i}.png"} for i in range(6)]
    write_manifest(folder, rows)
    describe = batch_page.describe_batch

    def describe_damaged(page, output_dir, pairs, entries, **more):
        (folder / "out" / "p3.png").write_bytes(b"damaged")
        (folder / "out" / "p4.json").unlink()
        # Somebody's own: nothing in them stops the page.
        (folder / "out" / "p3.json").write_text('{"seconds": [1], "versions": 2}')
        (folder / "out" / "p2.json").write_text('{"seconds": {"load": "x"}, "device": null}')
        entries = {output: dict(entry) for output, entry in entries.items()}
        del entries["p0.png"]["loss"], entries["p0.png"]["seconds"]
        entries["p1.png"] |= {"loss": "1", "status": None, "seconds": []}
        entries["p2.png"] |= {"loss": float("nan"), "status": "converged", "time": "now"}
        entries["other.png"] = {}
        return describe(page, output_dir, pairs, entries, **more)

    monkeypatch.setattr(batch_page, "describe_batch", describe_damaged)
    assert main(batch(params_file, "--report", "page", "--steps", "1", "--quiet")) == 0
    page = read(folder / "page")
    groups = page.text("div", **{"class": "row one"})
    assert len(groups) == 6
    for row, group in zip(rows, groups, strict=True):
        assert group.startswith(row["content"])
        assert group.endswith(row["style"])
    assert "lost" in groups[3]
    cells = page.all("a", **{"class": "cell"})
    assert [attributes["data-text"] for attributes, _ in cells][:2] == ["p0.png", "p1.png, None"]
    assert len(cells) == 5


def test_a_gallery_of_many_pairs_is_bounded(folder, monkeypatch):
    from jaxstyle.app.batch.plan import plan_pairs
    from jaxstyle.app.job import make_job
    from jaxstyle.io.manifest_patterns import cross_product
    from jaxstyle.io.manifest_rows import ManifestErrors

    monkeypatch.setattr(batch_page, "_GALLERY_PIXELS", batch_page._GALLERY_PIXELS / 4)
    for kind in "ab":
        for i in range(10):
            (folder / f"{kind}{i}.png").symlink_to("c.png")
    rows = cross_product("a*.png", "b*.png", output_dir=folder / "out")
    assert len(rows) == 100
    (folder / "out").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    Image.fromarray(noise).save(folder / "out" / "noise.png")  # what takes most room
    for row in rows:
        (folder / "out" / row.output).symlink_to("noise.png")
    pairs = plan_pairs(
        rows, ManifestErrors("m"), folder / "out", lambda **row: make_job(recipe="gatys", **row)
    )
    entry = {"status": "step_limit", "loss": 1.0, "seconds": 1.0}
    entries = {pair.row.output: {**entry, "digest": pair.digest} for pair in pairs}
    entries["a0-b0.png"]["digest"] = "of other settings"
    body = batch_page.describe_batch(
        folder, folder / "out", pairs, entries, status="done", command=""
    )
    assert len(re.findall('<a class="cell"', body)) == 99
    assert body.count("not painted yet") == 2
    assert len(body) < 10e6
    shapes = [decode(each).shape for each in re.findall(r'src="(data:image[^"]+)', body)[::20]]
    assert {max(shape[:2]) for shape in shapes} == {64, int((6e6 / 120) ** 0.5)}


STEP = {"step", "size", "stage", "total", "evaluations", "seconds", "loss", "terms"}


def test_json_for_programs(folder, params_file, capsys):
    call = arguments(params_file, "--output", "out.png", "--progress", "json", "--quiet")
    assert main(call) == 0
    said = capsys.readouterr()
    assert said.err == ""
    *steps, last = map(json.loads, said.out.splitlines())
    metadata = json.loads((folder / "out.json").read_text())
    assert all(set(entry) == STEP for entry in steps)
    assert {entry.pop("total") for entry in steps} == {12}
    assert steps == metadata["trace"]
    assert [entry["step"] for entry in steps] == list(range(13))
    assert last == {
        "output": "out.png",
        "report": None,
        **{key: metadata[key] for key in ("status", "num_evaluations", "seconds", "loss")},
    }
    # A run that fails ends with an object, too, and without NaN.
    assert main([*call, "--weights", "content=3e38", "--init", "noise"]) == 1
    said = capsys.readouterr()
    assert "not finite" in said.err
    *steps, last = (json.loads(line, parse_constant=pytest.fail) for line in said.out.splitlines())
    assert steps[0]["loss"] is None
    assert last == {"output": None, "status": "non_finite_start"}


def test_json_of_a_batch(folder, params_file, capsys):
    rows = [
        {"content": name, "style": "s.png", "output": f"{i}.png"}
        for i, name in enumerate(("c.png", "nowhere.png", WORSE, HOSTILE))
    ]
    write_manifest(folder, rows)
    assert main(batch(params_file, "--progress", "json", "--keep-going")) == 1
    said = capsys.readouterr()
    *pairs, last = map(json.loads, said.out.splitlines())
    entries = entries_of(folder)
    assert {pair["output"] for pair in pairs} == set(entries)
    for i, pair in enumerate(pairs, 1):
        assert pair["painted"] + pair["failed"] == i
        assert pair["total"] == 4
        entry = dict(entries[pair["output"]])
        for key in ("digest", "weights", "sources", "picture", "json", "time", "checksum"):
            entry.pop(key, None)
        assert entry.items() <= pair.items()
    assert "error" in pairs[0]
    assert last.items() >= {"status": "done", "painted": 3, "failed": 1, "total": 4}.items()
    assert " left, " not in said.err


def test_lines_of_a_batch(folder, params_file, capsys):
    rows = [{"content": "c.png", "style": style, "output": f"{style[:1]}.png"}
            for style in ("s.png", HOSTILE)]  # fmt: skip
    write_manifest(folder, rows)
    assert main(batch(params_file, "--steps", "100")) == 0
    said = capsys.readouterr().err.splitlines()
    assert "0/2 pairs  s.png and 1 more" in said
    lines = [line for line in said if " pairs  " in line and " left, " in line]
    speed = r"(?:\S+ pairs a second|\S+ s a pair)"
    pattern = rf"(\d)/2 pairs  (\d+) s left, 0 failed, {speed}(, s.png and 1 more)?"
    told = [re.fullmatch(pattern, line) for line in lines]
    assert [line[3] is None for line in told] == [False, False, False, False, True]
    # Long before the first one is done there is something to be seen.
    assert [int(line[1]) for line in told] == [0, 0, 0, 0, 2]
    assert told[-1][2] == "0"


def test_lines_where_there_is_no_terminal(folder, params_file, capsys):
    # Where every step is looked at, every one has its line.
    assert main(arguments(params_file, "--output", "out.png", "--preview-every", "1")) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    trace = json.loads((folder / "out.json").read_text())["trace"]
    pattern = re.compile(
        r"(\d+)/12 steps  64x48 px, \d+ s left, loss (\S+), (\S+)%/step, "
        r"(\S+) (s a step|steps a second)"
    )
    found = [pattern.fullmatch(line) for line in said.err.splitlines() if "%/step" in line]
    assert [int(line[1]) for line in found] == list(range(1, 13))
    for line in found:
        now = trace[int(line[1])]
        assert float(line[2]) == pytest.approx(now["loss"], rel=1e-3)
        then = trace[max(now["step"] - 10, 0)]
        steps = now["step"] - then["step"]
        change = 100 * (np.exp(np.log(now["loss"] / then["loss"]) / steps) - 1)
        assert float(line[3]) == pytest.approx(change, abs=0.006)
        speed = steps / (now["seconds"] - then["seconds"])
        told = float(line[4]) if line[5] == "steps a second" else 1 / float(line[4])
        assert told == pytest.approx(speed, rel=0.01)
        assert now["size"] == [64, 48]


def test_time_left_knows_that_small_pictures_take_less():
    recipe = dataclasses.replace(
        SMALL,
        solver=jaxstyle.LBFGS(num_steps=10),
        pyramid=jaxstyle.Pyramid(coarsest=100, steps=(20, 40)),
    )
    trace = [
        {"step": step, "seconds": 3.0 * step, "loss": 2.0, "stage": 0, "size": [100, 75]}
        for step in range(13)
    ]
    # Sizes 100, 200 and 400 px: a step takes 3, 12 and 48 s.
    left = 8 * 3 + 40 * 12 + 10 * 48
    text = console.describe_step(trace, 70, recipe, (300, 400, 3))
    assert text == f"100x75 px, {round(left / 60)} min left, loss 2, +0.00%/step, 3 s a step"
    assert console.seconds_left(trace, 70, recipe, (300, 400, 3)) == pytest.approx(left)
    # The smallest has been left out.
    left = 28 * 3 + 10 * 12
    text = console.describe_step(trace, 50, recipe, (300, 400, 3))
    assert f", {round(left / 60)} min left, " in text
    assert console.seconds_left(trace, 50, recipe, (300, 400, 3)) == pytest.approx(left)
    assert console.describe_step(trace[:1], 70, recipe, (300, 400, 3)) == "100x75 px, loss 2"


def test_losses_of_two_stages_are_not_compared():
    recipe = dataclasses.replace(
        SMALL,
        solver=jaxstyle.LBFGS(num_steps=3),
        pyramid=jaxstyle.Pyramid(coarsest=30, steps=(2,)),
    )
    assert console.sizes_of_steps(recipe, 5, (49, 64, 3)) == [(32, 24)] * 2 + [(64, 49)] * 3
    assert console.sizes_of_steps(recipe, 3, (49, 64, 3)) == [(64, 49)] * 3
    finished = dataclasses.replace(recipe, pyramid=jaxstyle.Pyramid(coarsest=30, finish=4))
    sizes = console.sizes_of_steps(finished, 107, (49, 64, 3))
    assert sizes == [(32, 24)] * 100 + [(64, 49)] * 7
    stages = [{"stage": 0, "size": [32, 24]}, *[{"stage": i, "size": [64, 49]} for i in (1, 2)]]
    described = console.describe_stages(finished, 107, (49, 64, 3))
    assert described == [stages[0]] * 100 + [stages[1]] * 3 + [stages[2]] * 4
    left_out = console.describe_stages(finished, 7, (49, 64, 3))  # the small size
    assert [each["stage"] for each in left_out] == [0] * 3 + [1] * 4
    trace = [
        {"step": step, "seconds": float(step), "loss": loss, "stage": stage, "size": size}
        for step, loss, stage, size in (
            (0, 8.0, 0, [32, 24]), (1, 4.0, 0, [32, 24]), (2, 2.0, 0, [32, 24]),
            (3, 90.0, 1, [64, 49]), (4, 45.0, 1, [64, 49]),
        )
    ]  # fmt: skip
    texts = [console.describe_step(trace[:n], 5, recipe, (49, 64, 3)) for n in (3, 4, 5)]
    assert ["%/step" in text for text in texts] == [True, False, True]
    assert [text.partition(",")[0] for text in texts] == ["32x24 px", "64x49 px", "64x49 px"]
    assert "loss 45, -50.00%/step" in texts[-1]
    # What follows at the full size has another objective.
    last = {"step": 5, "seconds": 5.0, "loss": 900.0, "stage": 2, "size": [64, 49]}
    assert "%/step" not in console.describe_step([*trace, last], 6, recipe, (49, 64, 3))
    metadata = {"trace": trace, "loss": 45.0, "solver_loss": 45.0, "status": "stalled",
                "size": [64, 49], "seconds": {"optimize": 4.0, "compile": 1.0}}  # fmt: skip
    assert listeners.summary(metadata) == (
        "loss 90 -> 45 at 64x49 px, 4 steps in 4.0 s (+ 1.0 s compilation); it ended early, since "
        "no step lowered the loss further"
    )
    interrupted = metadata | {"trace": trace[:3], "loss": 2.0, "status": "interrupted"}
    assert listeners.summary(interrupted).startswith(
        "loss 8 -> 2 at 32x24 px, enlarged to 64x49 px, 2 steps"
    )
    for recipe, changes in (
        (jaxstyle.recipes.GATYS, "clipping"),
        (jaxstyle.recipes.GOKALP_KIM, "clipping, the median filter"),
        (jaxstyle.recipes.CROWSON_W2, "averaging"),
        (
            dataclasses.replace(jaxstyle.recipes.DEFAULT, color="luminance", strength=0.5),
            "color luminance, strength 0.5",
        ),
    ):
        changed = changes_after(recipe, recipe.solver)
        clipped = listeners.summary(metadata | {"solver_loss": 5.0}, changed)
        assert clipped.startswith(f"loss 90 -> 45 (5 before {changes}) at 64x49 px")
    assert not changes_after(jaxstyle.recipes.DEFAULT, jaxstyle.recipes.DEFAULT.solver)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s left"), (119, "119 s left"), (130, "2 min left"), (7300, "2.0 h left"),
     (math.inf, "unknown time left")],
)  # fmt: skip
def test_time_left_has_a_unit(seconds, text):
    assert console.time_left(seconds) == text


def test_speeds():
    assert console.speed(5, 2, "pair") == "2.5 pairs a second"
    assert console.speed(1, 12.04, "step") == "12 s a step"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("colors", [True, False])
def test_a_bar_on_a_terminal(columns, colors, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colors:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", Terminal())
    text = "128x96 px, 12.5 h left, loss 1.234e+05, -0.12%/step, 1.23 s a step"
    with console.show_progress("auto", False, "steps") as show:
        show(250, 1000, "starting")
        show(500, 1000, text)
    said = sys.stderr.getvalue()
    assert bool(re.search(r"\x1b\[38;5", said)) == (colors and columns == 80)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    last = [line for line in re.split(r"[\r\n]+", plain) if line.strip()][-1]
    assert len(last) <= columns
    assert re.match(r"500/1000 .*128x96 px, 12.5 h left, loss 1.234e\+05, -0.12%", last)
    assert ("━" in last) == (columns == 80)


def test_what_is_told_where(monkeypatch, capsys):
    for mode, quiet, expected in (
        ("plain", False, ["0/40 steps  a", "2/40 steps  a", "40/40 steps  a"]),
        ("plain", True, []),
        ("json", False, []),
    ):
        with console.show_progress(mode, quiet, "steps") as show:
            for done in (0, 1, 2, 3, 40):
                show(done, 40, "a")
        assert capsys.readouterr().err.splitlines() == expected
    # A terminal that cannot move its cursor.
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with console.show_progress("auto", False, "pairs") as show:
        show(1, 1, "b")
    assert sys.stderr.getvalue().strip() == "1/1 pairs  b"


def test_the_template_is_part_of_the_package():
    assert (Path(jaxstyle.__file__).parent / "app" / "pages" / "templates" / "page.html").is_file()


def test_the_pace_of_a_batch_leaves_out_what_comes_before_the_first_steps(monkeypatch, capsys):
    """Reading takes 100 s, compiling 50 s, and a pair 1 s."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    shown = []
    counts = progress.Progress("json")
    counts.total, counts.show = 14, lambda *state: shown.append(state[2])
    for number in range(2):  # photos that cannot be read
        counts.add({"output": f"{number}.png", "error": "missing"})
    for time, begun in ((100, 0), (150, 2), (152, 4)):
        now[0] = time
        counts.show_pairs(begun)
    assert shown[-1].startswith("8 s left, 2 failed, 1 pairs a second")
    now[0] = 160
    for number in range(2, 10):
        counts.add({"output": f"{number}.png"})
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["elapsed"], last["pairs_per_second"], last["seconds_left"]) == (160, 0.6, 6.7)
    for now[0] in (160, 170):
        counts.join("node2-09aa")
    counts.add({"output": "10.png"}, "node2-09aa")
    node = json.loads(capsys.readouterr().out.splitlines()[-1])["node"]
    assert node == {"name": "node2-09aa", "painted": 1, "failed": 0, "pairs_per_second": 0.1}
