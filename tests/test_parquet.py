"""Manifests in Parquet say the same as those in text, and hostile ones end in one line."""

import os
import sys

import pytest

from jaxstyle.io import InputError, manifest_parquet
from jaxstyle.io.manifest import read_manifest

TABLE = {
    "Content": ["a.jpg", "x, y.jpg", "b.jpg"],
    "style": [["b.jpg", "c.jpg"], ["b.jpg"], ["b.jpg"]],
    "output": ["one.png", "deep/two.png", "three.png"],
    "size": [64, None, 96],
    "weights": [["style=2"], None, None],
    "Style Scale": [0.5, float("nan"), None],
}


def read(path):
    return read_manifest(path, output_dir=path.parent / "out")


def values(rows):
    return [(row.content, row.styles, row.output, row.masks, dict(row.settings)) for row in rows]


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "m.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"m.parquet' needs pyarrow: install jaxstyle\[parquet\]"):
        read(path)


@pytest.fixture
def write(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(table, **options):
        path = tmp_path / "m.parquet"
        parquet.write_table(arrow.table(table), path, **options)
        return path

    return write


@pytest.mark.urls
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"row_group_size": 1}])
def test_it_says_the_same_as_text(write, tmp_path, caplog, options):
    text = tmp_path / "m.csv"
    text.write_text(
        "content,style,output,size,weights,style_scale\n"
        "a.jpg,b.jpg|c.jpg,one.png,64,style=2,0.5\n"
        '"x, y.jpg",b.jpg,deep/two.png,,,\nb.jpg,b.jpg,three.png,96,,\n'
    )
    index = {"__index_level_0__": [0, 1, 2], "note": ["x", "y", "z"], "color": ["", " ", None]}
    rows = read(write({**TABLE, **index}, **options))
    assert [row.line for row in rows] == [1, 2, 3]
    found, expected = values(rows), values(read(text))
    for row in found:  # numbers of a column with gaps are floats
        row[4].update({"size": row[4]["size"].removesuffix(".0")} if "size" in row[4] else {})
    assert found == expected
    assert [record.message for record in caplog.records] == [
        f"'{tmp_path / 'm.parquet'}': column 'note' is not used"
    ]


@pytest.mark.urls
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"style": None}, "no column style"),
        ({"output": ["a.png", "a.png", "b.png"]}, "'a.png' collides with that of row 1"),
        ({"output": ["a.png", "../a.png", "b.png"]}, "row 2: output '../a.png' leaves"),
        ({"content": ["a", "b", "c"]}, "has the column content twice"),
        ({"size": [[1], [2], [3]]}, "row 1: size must be a text or a number"),
        ({"seed": [True, None, None]}, "row 1: seed must be a text or a number"),
        ({"output": ["a.png", "b\0.png", "b.png"]}, "row 2: output has a NUL byte"),
        ({"style": ["x" * 10**6, "b", "b"]}, "a text of 1000000 bytes"),
        ({"style": [["x" * 10**6], ["b"], ["b"]]}, "a text of 1000000 bytes"),
        ({"output": [b"\xff", b"b", b"c"]}, "output must be a text"),
        ({f"c{i}": [1, 1, 1] for i in range(1000)}, "has 1006 columns; give at most 1000"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_row(write, changed, message):
    table = {name: column for name, column in {**TABLE, **changed}.items() if column is not None}
    with pytest.raises(InputError) as caught:
        read(write(table))
    assert message in str(caught.value)


@pytest.mark.urls
def test_damaged_files_end_in_one_line(write):
    path = write(TABLE)
    whole = path.read_bytes()
    bad = [b"PAR1", b"PAR1" * 9, whole[:-1], whole[4:], whole[: len(whole) // 2], b"a" * 99]
    for at in range(0, len(whole), len(whole) // 80):
        bad.append(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    refused = 0
    for data in bad:
        path.write_bytes(data)
        try:
            read(path)
        except InputError as error:
            refused += "bad row" in str(error) or "\n" not in str(error)
    assert refused > len(bad) / 4


@pytest.mark.urls
def test_a_dictionary_of_long_texts_is_refused(write):
    """A file of some kilobytes can hold a text of a megabyte in each of a million rows."""
    number = 20_000
    arrow = pytest.importorskip("pyarrow")
    zeros = arrow.array([0] * number, arrow.int32())
    path = write(
        {
            "content": arrow.DictionaryArray.from_arrays(zeros, ["x" * 10**6]),
            "style": ["s"] * number,
            "output": [f"{i}.png" for i in range(number)],
        }
    )
    assert path.stat().st_size < 10**6
    with pytest.raises(InputError, match="a text of 1000000 bytes"):
        read(path)


@pytest.mark.urls
def test_a_file_that_crashes_pyarrow_ends_in_one_line(write, monkeypatch):
    """Any crash of the other process is a message, however it ends."""
    monkeypatch.setattr(manifest_parquet, "parquet_process", os)  # which ends without a word
    with pytest.raises(InputError, match=r"damaged after row 0 \(pyarrow has crashed, exit code"):
        read(write(TABLE))
