"""Manifests: what is read, and that all that is wrong is told at once, by line."""

import csv
import io
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxstyle.io import InputError, save_image
from jaxstyle.io.files import check_source
from jaxstyle.io.manifest import read_manifest
from jaxstyle.io.manifest_patterns import cross_product
from jaxstyle.io.manifest_rows import COLUMNS


def write(folder, data, name="m.csv"):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def read(folder, data, name="m.csv", **more):
    return read_manifest(write(folder, data, name), output_dir=folder / "out", **more)


def test_csv_and_json_lines_say_the_same(tmp_path):
    table = (
        "\ufeffcontent,style,output,weights,size,mask\r\n"
        "a.jpg,b.jpg|c.jpg,one.png,style=2|content=1,64,m.png|n.png\r\n"
        "\r\n"
        '"x, y.jpg",b.jpg,deep/two.png,,,\r\n'
    )
    lines = [
        {"content": "a.jpg", "style": ["b.jpg", "c.jpg"], "output": "one.png", "size": 64,
         "weights": {"style": 2, "content": 1}, "mask": ["m.png", "n.png"]},
        {"content": "x, y.jpg", "style": "b.jpg", "output": "deep/two.png", "size": None},
    ]  # fmt: skip
    from_csv = read(tmp_path, table)
    from_json = read(tmp_path, "\n".join(map(json.dumps, lines)), "m.jsonl")
    for row, other in zip(from_csv, from_json, strict=True):
        assert (row.content, row.styles, row.output, row.masks, row.settings) == (
            other.content, other.styles, other.output, other.masks, other.settings,
        )  # fmt: skip
    assert [row.line for row in from_csv] == [2, 4]
    assert from_csv[0].content == tmp_path / "a.jpg"
    assert from_csv[0].styles == (tmp_path / "b.jpg", tmp_path / "c.jpg")
    assert from_csv[0].masks == (tmp_path / "m.png", tmp_path / "n.png")
    assert from_csv[0].settings == {"weights": ["style=2", "content=1"], "size": "64"}
    assert from_csv[1].settings == {}


def test_empty_values_of_json(tmp_path):
    path = tmp_path / "m.jsonl"
    row = {"content": "a.jpg", "style": "b.jpg", "output": "c.png", "seed": "", "color": None}
    path.write_text(json.dumps({**row, "weights": {"style": 2, "content": None}}))
    (found,) = read_manifest(path, output_dir=tmp_path)
    assert found.settings == {"weights": ["style=2"]}


HEADER = "content,style,output\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "is empty"),
        (HEADER, "no rows"),
        ("content,style\na,b\n", "no column output"),
        ("photo;painting;output\n", "no column content in its first line; it has 'photo', 'pai"),
        ("content,style,output,style\n", "column style twice"),
        (b"content,style,output\n\xff.png,b,c.png\n", "not UTF-8 in line 2"),
        ("content,style,output\na\0,b,c.png\n", "NUL byte in line 2"),
        (HEADER + '"a,b,c.png\n', "not CSV in line"),
        (HEADER + "a" * 200_000 + ",b,c.png\n", "200009 characters, number 2"),
        (HEADER + "a,b\n", "line 2: 2 values for 3 columns"),
        (HEADER + "a,,c.png\n", "line 2: style is missing"),
        (HEADER + "a,b,../c.png\n", "line 2: output '../c.png' leaves"),
        (HEADER + "a,b,/tmp/c.png\n", "leaves the output folder"),
        (HEADER + "a,b,sub/../../c.png\n", "leaves the output folder"),
        (
            HEADER + "a,b,c.png\na,b,C.png/d.png\n",
            "line 2: output 'c.png' is the folder of another",
        ),
        (HEADER + "a,b,c.png\na,b,C.png\n", "line 3: output 'C.png' collides with that of line 2"),
        (
            HEADER + "a,b,\u00e9.png\na,b,e\u0301.png\n",
            "collides with that of line 2 if the form of Unicode is ignored",
        ),
        (HEADER + "a,b,c.png\na,b,c.jpg\n", "line 3: output 'c.jpg' collides with that of line 2"),
        (HEADER + "a,b,c.png\na,b,d/../c.png\n", "line 3: output 'd/../c.png' collides"),
    ],
)
def test_what_is_wrong_is_told_by_line(data, message, tmp_path):
    with pytest.raises(InputError) as caught:
        read(tmp_path, data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 2: not an object"),
        ("{", "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ('{"content": "a", "style": {"b": 1}, "output": 3, "size": [1]}', "size must be a text"),
        ('{"content": "a", "style": "b", "output": "c.png", "seed": true}', "seed must be a text"),
        ('{"content": "a", "style": [], "output": "c.png"}', "style is missing"),
        ('{"content": "a\\u0000", "style": "b", "output": "c.png"}', "has a NUL byte"),
        (
            r'{"content": "a", "style": "b", "output": "\ud83d.png"}',
            "output '\\ud83d.png' has half",
        ),
        (
            r'{"content": "\ud83d", "style": "b", "output": "c.png"}',
            "line 2: content '\\ud83d' has",
        ),
        (r'{"content": "a", "style": ["b", "\udfff"], "output": "c.png"}', "style '\\udfff' has"),
        (r'{"content": "a", "style": "b", "output": "c", "recipe": "\ud800.json"}', "recipe"),
        (r'{"content": "a", "style": "b", "output": "c", "weights": {"\ud800": 1}}', "weights"),
        ('{"content": "a", "style": " ", "output": "c.png"}', "style is missing"),
        ('{"content": 0, "style": "b", "output": " "}', "output is missing"),
        ('{"content": "out/d.png", "style": "b", "output": "d.png"}', "would replace a file"),
        ('{"content": "a", "style": "out/d.json", "output": "d.png"}', "would replace a file"),
        ('{"content": "a", "content": "b"}', "line 2: not JSON: it has the key 'content' twice"),
        ('{"content": "a", "style": "b", "output": "c", "weights": {"x": 1, "x": 2}}', "'x' twice"),
        ('{"Content": "a", "content": "b"}', "line 2: has the column content twice"),
        ('{"Style Weights": [1], "style_weights": [2]}', "has the column style_weights twice"),
        ('{"a": ' + "[" * 100_000 + "}", "line 2: not JSON: it is nested too deeply"),
        (json.dumps({"content": "a", "style": "b", "output": "a/" * 2100 + "c.png"}), "too long"),
        (json.dumps({"content": "a", "style": "b", "output": "../" * 400 + "c.png"}), "too long"),
        (json.dumps({"content": "a/" * 30_000, "style": "b", "output": "c.png"}), "too long"),
        (json.dumps({"content": "a", "style": "é" * 128, "output": "c.png"}), "more than 255 b"),
        (json.dumps({"content": "a", "style": "b", "output": "c" * 252 + ".png"}), "than 255 b"),
        (json.dumps({"content": "a", "style": ["b"] * 1001, "output": "c.png"}), "1001 values"),
        (json.dumps(dict.fromkeys(map(str, range(1001)))), "has 1001 columns; give at most 1000"),
    ],
)
def test_json_lines_that_are_wrong(line, message, tmp_path):
    good = '{"content": "a", "style": "b", "output": "good.png"}'
    with pytest.raises(InputError) as caught:
        read(tmp_path, f"{good}\n{line}\n", "m.jsonl")
    assert message in str(caught.value)


SPREADSHEETS = {
    "pandas": "content,style,output,size,style_scale\na.jpg,b.jpg,c.png,96.0,0.5\na,b,d.png,,\n",
    "index": ",content,style,output,size,style_scale\n0,a.jpg,b.jpg,c.png,96.0,0.5\n"
    "1,a,b,d.png,,\n",
    "unnamed": "Unnamed: 0,content,style,output,size,style_scale\n0,a.jpg,b.jpg,c.png,96.0,0.5\n"
    "1,a,b,d.png,,\n",
    "Excel": "\ufeffContent; Style ;OUTPUT;Size;Style Scale;;\r\na.jpg;b.jpg;c.png;96,0;0,5;;\r\n"
    "a;b;d.png;;;;\r\n;;;;;;\r\n",
    "sep": "sep=;\n\ncontent;style;output;size;style-scale\na.jpg;b.jpg;c.png;96.0;0,5\n"
    "a;b;d.png;;\n",
    "tabs": "Content\tStyle\tOutput\tSize\tStyle_Scale\na.jpg\tb.jpg\tc.png\t96,0\t0.5\n"
    "a\tb\td.png\n",
    "quotes": '"content";"style";"output";"size";"style_scale"\n"a.jpg";"b.jpg";"c.png";"96.0";'
    '"0,5"\n'
    "a;b;d.png;;\n",
    "note": "content,style,output,size,style_scale,Note\na.jpg,b.jpg,c.png,96.0,0.5,nice\n"
    "a,b,d.png,,,\n",
}


@pytest.mark.parametrize("name", SPREADSHEETS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_spreadsheets_and_pandas_write(name, encoding, tmp_path, caplog):
    data = SPREADSHEETS[name].removeprefix("\ufeff" * (encoding == "utf-16"))
    if name == "tabs":
        data = data.replace("d.png\n", "d.png\t\t\n")
    first, second = read(tmp_path, data.encode(encoding), "m.txt" if name == "tabs" else "m.csv")
    assert (first.content, first.output) == (tmp_path / "a.jpg", "c.png")
    assert float(first.settings["size"]) == 96
    assert float(first.settings["style_scale"]) == 0.5
    assert second.settings == {}
    warned = {"index": "a column without a name", "unnamed": "without a name", "note": "'note'"}
    assert warned.get(name, "") in caplog.text
    assert len(caplog.records) == (name in warned)


def test_a_misspelt_column_is_named_with_the_nearest(tmp_path, caplog):
    (row,) = read(tmp_path, "content,style,output,siez,colour\na,b,c.png,3,style\n")
    assert row.settings == {}
    assert "column 'siez' is not used; did you mean size?" in caplog.text
    assert "column 'colour' is not used; did you mean color?" in caplog.text
    read(tmp_path, "content,style,output,loss_weights,grain\na,b,c.png,style=2,0.5\n")
    assert "column 'loss_weights' is not used; did you mean weights?" in caplog.text
    assert "a setting of the recipe: write grain=VALUE in the column set" in caplog.text
    line = '{"Content": "a", "style": "b", "output": "c.png", "x": 1, "size": NaN}'
    (row,) = read(tmp_path, line, "m.jsonl")
    assert row.settings == {}
    assert "column 'x' is not used" in caplog.text


def test_many_columns_are_named_in_part(tmp_path, caplog):
    unknown = "".join(f",x{i}" for i in range(50))
    (row,) = read(tmp_path, f"content,style,output{unknown}\na,b,c.png{',1' * 50}\n")
    assert row.settings == {}
    assert len(caplog.records) == 10
    assert "and 41 more columns are not used" in caplog.text
    with pytest.raises(InputError, match="has 1003 columns; give at most 1000"):
        read(tmp_path, "content,style,output" + unknown * 20 + "\n")


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize(
    ("column", "text", "found"),
    [
        ("weights", "style=10,000", None),
        ("style_scale", "1,500", None),
        ("size", "1,024", None),
        ("style_weights", "1|2,000", None),
        ("weights", "style=10,0", ["style=10.0"]),
        ("style_scale", "0,125", "0.125"),
        ("style_scale", "1234,567", "1234.567"),
        ("style_scale", "1,2500", "1.2500"),
        ("strength", "0,5", "0.5"),
        ("output", "a1,500", "a1,500"),
    ],
)
def test_commas_of_decimals_and_of_thousands(separator, column, text, found, tmp_path):
    cells = {"content": "a", "style": "b", "output": "c.png", column: text}
    table = separator.join(cells) + "\n" + separator.join(cells.values()) + "\n"
    if found is None:
        with pytest.raises(InputError, match=r"line 2: .* has two meanings: write .* or .*\."):
            read(tmp_path, table)
    else:
        (row,) = read(tmp_path, table)
        assert {**row.settings, "output": row.output}[column] == found


@pytest.mark.skipif(os.sep != "/", reason="there it separates folders anyway")
def test_backslashes_of_windows(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("in/a.jpg", "b.jpg", "odd\\name.jpg"):
        (tmp_path / name).touch()
    row, odd = read(
        tmp_path, f"{HEADER}.\\in\\a.jpg,in\\..\\b.jpg,x\\y.png\na,odd\\name.jpg,z.png\n"
    )
    assert (row.content, row.styles) == (tmp_path / "in/a.jpg", (tmp_path / "in/../b.jpg",))
    assert row.output == "x/y.png"
    assert odd.styles == (tmp_path / "odd\\name.jpg",)
    with pytest.raises(InputError, match="leaves the output folder"):
        read(tmp_path, HEADER + "a,b,..\\c.png\n")


def test_every_bad_row_is_listed_up_to_twenty(tmp_path):
    rows = "".join(f"a,,{i}.png\n" if i % 2 else f"a,b,{i}.png\n" for i in range(60))
    with pytest.raises(InputError) as caught:
        read(tmp_path, HEADER + rows)
    lines = str(caught.value).splitlines()
    assert "has 30 bad rows" in lines[0]
    assert lines[1].strip() == "line 3: style is missing"
    assert len(lines) == 22
    assert lines[-1].strip() == "and 10 more"


def test_links_do_not_lead_outside(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(outside)
    (tmp_path / "out" / "c.png").symlink_to(outside / "c.png")
    for output in ("link/c.png", "c.png"):
        with pytest.raises(InputError, match="leaves the output folder"):
            read(tmp_path, f"{HEADER}a,b,{output}\n")
    (tmp_path / "out" / "loop").symlink_to(tmp_path / "out" / "loop")
    (tmp_path / "out" / "there").symlink_to("back")
    (tmp_path / "out" / "back").symlink_to("there")
    (tmp_path / "out" / "round.png").symlink_to("round.png")
    loops = ("loop/../../c.png", "loop/../d.png", "loop/d.png", "there/d.png", "round.png")
    for output in loops:
        with pytest.raises(InputError, match="leaves the output folder"):
            read(tmp_path, f"{HEADER}a,b,{output}\n")
    (tmp_path / "photo.png").symlink_to(tmp_path / "out" / "d.png")
    (tmp_path / "out" / "e.png").symlink_to(tmp_path / "out" / "f.png")
    for row in ("photo.png,b,d.png", "a,out/f.png,e.png"):
        with pytest.raises(InputError, match="would replace a file"):
            read(tmp_path, f"{HEADER}{row}\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").symlink_to(outside / "a.png")
    row = f"{HEADER}in/a.png,in/b.png,d.png\n"
    assert len(read(tmp_path, row)) == 1
    with pytest.raises(InputError, match=r"a.png' is not below"):
        read(tmp_path, f"{HEADER}out/loop/a.png,in/b.png,d.png\n", root=str(tmp_path))
    with pytest.raises(InputError, match=r"a.png' is not below"):
        read(tmp_path, row, root=str(tmp_path / "in"))


def test_a_file_is_no_folder_of_outputs(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "keep.txt").write_text("mine")
    with pytest.raises(InputError, match=r"line 3: output 'keep.txt/e.png' is below a file"):
        read(tmp_path, f"{HEADER}a,b,d/e.png\na,b,keep.txt/e.png\n")
    assert len(read(tmp_path, f"{HEADER}a,b,d/e.png\na,b,d/f/g.png\n")) == 2


def test_the_json_does_not_lead_outside_either(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "secret.json").write_text("{}")
    for target in ("../secret.json", "../new.json", str(tmp_path), "loop.json", "a.json"):
        (tmp_path / "out" / "a.json").symlink_to(target)
        (tmp_path / "out" / "loop.json").symlink_to("a.json")
        with pytest.raises(InputError, match=r"output 'a.png' leaves the output folder"):
            read(tmp_path, f"{HEADER}a,b,a.png\n")
        (tmp_path / "out" / "a.json").unlink()
        (tmp_path / "out" / "loop.json").unlink()
    (tmp_path / "out" / "a.json").symlink_to("elsewhere.json")  # inside
    assert len(read(tmp_path, f"{HEADER}a,b,a.png\n")) == 1
    with pytest.raises(InputError, match=r"'elsewhere.png' collides with that of line 2$"):
        read(tmp_path, f"{HEADER}a,b,a.png\na,b,elsewhere.png\n")


def test_recipes_are_files_like_pictures(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    header = "content,style,output,recipe\n"
    rows = "a,b,1.png,mine.json\na,b,2.png, sub/Mine.TOML \na,b,3.png,gatys\na,b,4.png,\n"
    path = write(tmp_path / "in", header + rows)
    monkeypatch.chdir("/")
    found = read_manifest(path, output_dir=tmp_path / "out", root=str(tmp_path / "in"))
    recipes = [row.settings.get("recipe") for row in found]
    folder = tmp_path / "in"
    assert recipes == [str(folder / "mine.json"), str(folder / "sub/Mine.TOML"), "gatys", None]
    assert found[0].files == [folder / "a", folder / "b", folder / "mine.json"]
    assert found[2].files == [folder / "a", folder / "b"]
    (tmp_path / "in" / "link.json").symlink_to("../other.json")
    for recipe in ("../other.json", str(tmp_path / "other.json"), "link.json"):
        write(tmp_path / "in", f"{header}a,b,1.png,{recipe}\n")
        assert len(read_manifest(path, output_dir=tmp_path / "out")) == 1
        with pytest.raises(InputError, match=r"line 2: '.*\.json' is not below"):
            read_manifest(path, output_dir=tmp_path / "out", root=str(tmp_path / "in"))
    # Nor is a recipe replaced by the JSON next to a picture.
    with pytest.raises(InputError, match="would replace a file"):
        read(tmp_path, f"{header}a,b,1.png,out/1.json\n")


def test_names_that_differ_in_case_say_so(tmp_path):
    with pytest.raises(InputError, match=r"that of line 2 if case is ignored$"):
        read(tmp_path, HEADER + "a,b,c.png\na,b,C.png\n")
    with pytest.raises(InputError, match=r"that of line 2$"):
        read(tmp_path, HEADER + "a,b,c.png\na,b,c.jpg\n")


def test_ten_thousand_rows_take_no_time(tmp_path):
    rows = "".join(f"photos/{i}.jpg,b.jpg,{i % 100}/{i}.png\n" for i in range(10_000))
    begin = time.perf_counter()
    assert len(read(tmp_path, HEADER + rows)) == 10_000
    assert time.perf_counter() - begin < 10


def test_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p/1.jpg", "p/2.jpg", "s/a.png", "s/b.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    rows = cross_product("p/*.jpg", "s/*", output_dir="out")
    assert [row.output for row in rows] == ["1-a.png", "1-b.png", "2-a.png", "2-b.png"]
    with pytest.raises(InputError, match="no file matches 'q/"):
        cross_product("q/*", "s/*", output_dir="out")
    Path("s/a.jpg").touch()
    with pytest.raises(InputError, match=r"'1-a.png' collides"):
        cross_product("p/*.jpg", "s/*", output_dir="out")


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_links_in_circles_and_the_same_file_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch("p/z.png", "p/sub/y.png", "p/.hidden/x.png", "far/w.png", "s/a.png")
    for link, target in (("p/a", "."), ("p/b", ".."), ("p/sub/c", ".."), ("p/l.png", "z.png")):
        Path(link).symlink_to(target)
    for pattern in ("p/**/*.png", "p/**", "p/**/**/*.png", "./p/**/*.png"):
        rows = cross_product(pattern, "s/a.png", output_dir="out")
        names = sorted(row.content.name for row in rows)
        # Also by the link to the parent. A link with a name of its own is another picture.
        assert names == ["a.png", "l.png", "w.png", "y.png", "z.png"]
    assert [str(row.content) for row in cross_product("**/z.png", "s", output_dir="out")] == [
        "p/z.png"
    ]
    same = ["p/z.png", "./p/../p/z.png", str(tmp_path / "p/z.png")]
    (row,) = cross_product(same, ["s/a.png", "s"], output_dir="out")
    assert row.output == "z-a.png"


def test_folders_are_mirrored(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    touch("in/a.jpg", "in/x/a.JPG", "in/x/b.PNG", "in/.DS_Store", "in/x/Thumbs.db", "in/notes.txt",
          "in/.hidden/c.jpg", "s/m.jpg")  # fmt: skip
    rows = cross_product("in", "s", output_dir="out")
    assert [row.output for row in rows] == ["a-m.png", "x/a-m.png", "x/b-m.png"]
    assert caplog.messages == ["'in' has 1 file that cannot be a picture, such as 'notes.txt'"]
    # The same names in several folders, of photos and of paintings; a file is a file, and once.
    touch("s/t/m.jpg")
    rows = cross_product(["in/*.jpg", "in/a.jpg", "in/x/*.jpg"], ["s/**/*.jpg"], output_dir="out")
    outputs = ["a-m.png", "a-t-m.png", "x/a-m.png", "x/a-t-m.png"]
    assert [row.output for row in rows] == outputs
    assert [row.content for row in rows[:1]] == [Path("in/a.jpg")]


def test_suffixes_in_either_case_and_what_is_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    folder = "p [2024]/[ab]"
    touch(
        *(f"{folder}/{name}" for name in ("1.jpg", "2.JPG", "3.jpeg", "4.png", ".5.jpg")), "s.jpg"
    )
    rows = cross_product(f"{folder}/*.jpg", "s.jpg", output_dir="out")
    assert [row.content.name for row in rows] == ["1.jpg", "2.JPG"]
    assert "leaves out 2 files with other pictures there, such as '3.jpeg', '4.png'" in caplog.text
    rows = cross_product(f"{folder}/[13].*", "s.jpg", output_dir="out")  # and here it is a pattern
    assert [row.content.name for row in rows] == ["1.jpg", "3.jpeg"]
    assert [row.output for row in cross_product(folder, "s.jpg", output_dir="out")] == [
        "1-s.png", "2-s.png", "3-s.png", "4-s.png",
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    for text, message in (
        ("empty", "no picture in the folder 'empty'"),
        (f"{folder}/*.webp", r"but .* has 5 pictures, such as '1.jpg', '2.JPG', '3.jpeg'; give"),
        ("s.jpg,s.jpg", "separate several by spaces"),
        ("https://a.org/b.jpg", "is an address; download"),
    ):
        with pytest.raises(InputError, match=message.replace("5 pict", "4 pict")):
            cross_product(text, "s.jpg", output_dir="out")


def test_patterns_leave_out_what_is_painted(tmp_path, caplog):
    for name in ("a.png", "s.png", "out/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    painted = np.zeros((8, 8, 3), np.float32)
    for name in ("out/b-s.png", "out/sub/c.png", "painted-elsewhere.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_image(tmp_path / name, painted)
    out, style = tmp_path / "out", str(tmp_path / "s.png")
    rows = cross_product(str(tmp_path / "**" / "[a-c]*.png"), style, output_dir=out)
    assert [row.output for row in rows] == ["a-s.png", "b-s.png"]
    assert "matches 2 files that jaxstyle has written into" in caplog.text
    # Elsewhere a painted picture is a picture like others.
    (row,) = cross_product(str(tmp_path / "painted*.png"), style, output_dir=out)
    assert row.output == "painted-elsewhere-s.png"
    with pytest.raises(InputError, match="no file matches"):
        cross_product(str(out / "sub" / "*.png"), style, output_dir=out)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(str.encode), csv_file=st.booleans())
def test_any_bytes_end_in_rows_or_in_one_error(data, csv_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    for head in (b"", b"content,style,output,size\n"):
        try:
            rows = read(folder, head + data, "m.csv" if csv_file else "m.jsonl")
        except InputError:
            continue
        assert all(row.output for row in rows)


cell = st.text(st.characters(exclude_characters="\0|", exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None, max_examples=100)
@given(
    values=st.fixed_dictionaries(
        {"content": cell.filter(str.strip), "style": cell.filter(str.strip), "seed": cell}
    )
)
def test_what_is_written_is_read(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    text = io.StringIO()
    writer = csv.DictWriter(text, [*values, "output"])
    writer.writeheader()
    writer.writerow({**values, "output": "o.png"})
    (row,) = read(folder, text.getvalue())
    assert row.content == folder / values["content"].strip()
    assert row.settings == ({"seed": s} if (s := values["seed"].strip()) else {})
    assert set(row.settings) <= set(COLUMNS)
    assert os.fspath(row.output) == "o.png"


def test_ten_thousand_bad_rows_are_enough(tmp_path):
    with pytest.raises(InputError, match="has 10000 bad rows or more; nothing was started"):
        read(tmp_path, HEADER + ",b,c.png\n" * 10_001)


def test_a_photo_under_another_form_of_unicode_is_named(tmp_path):
    (tmp_path / "\u00e9.jpg").write_bytes(b"x")
    other = tmp_path / "e\u0301.jpg"
    if other.exists():
        pytest.skip("this file system ignores the form of Unicode")
    with pytest.raises(InputError, match=r"its name in another form of Unicode \(NFC\) does"):
        check_source(other)
