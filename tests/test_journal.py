"""Journals: nothing of a foreign file is touched, and nothing damaged is believed."""

import os
import random
import types

import pytest

from jaxstyle.app.batch.recorder import Recorder
from jaxstyle.io import InputError
from jaxstyle.io.journal import Journal, journal_path, journals_in


def open_journal(folder, index=1, number=1):
    return Journal(journal_path(folder, index, number))


FOREIGN = [
    '{"my": "only copy of my notes"}',
    '{"diary": 1}\nsecond line without newline',
    '{"journal": 1, "version": "0.1"}\n{"output": "a.png"}\n',
    "plain text\nin two lines",
    "[" * 5000 + "\n",
    "\n",
    "x" * 10_000_000,
]


@pytest.mark.parametrize("text", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_file_is_refused_and_left_alone(text, tmp_path):
    path = journal_path(tmp_path)
    path.write_text(text)
    with pytest.raises(InputError, match=r"journal\.jsonl' is not a journal of jaxstyle"):
        open_journal(tmp_path)
    with pytest.raises(InputError, match="is not a journal"):  # as another slice reads it
        open_journal(tmp_path, 2, 2)
    assert path.read_text() == text
    assert os.listdir(tmp_path) == [path.name]


def test_what_is_not_a_file_is_refused(tmp_path):
    path = journal_path(tmp_path)
    (tmp_path / "notes").write_text('{"my": "notes"}\n')
    for make in (
        lambda: path.symlink_to("notes"),
        lambda: path.symlink_to("nowhere"),
        lambda: os.mkfifo(path),
    ):
        make()
        with pytest.raises(InputError, match="not a journal"):
            open_journal(tmp_path)
        path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="not a journal"):
        open_journal(tmp_path)
    assert (tmp_path / "notes").read_text() == '{"my": "notes"}\n'
    assert not (tmp_path / "nowhere").exists()


def test_other_names_are_other_peoples(tmp_path):
    for name in ("journal-notes.jsonl", "journal-1.jsonl", "journal.jsonl.bak"):
        (tmp_path / name).write_text('{"my": 1}')
    open_journal(tmp_path).add({"output": "a.png"})
    assert set(open_journal(tmp_path).entries) == {"a.png"}
    assert (tmp_path / "journal-1.jsonl").read_text() == '{"my": 1}'


def test_slices_keep_their_own_lines(tmp_path):
    open_journal(tmp_path, 1, 2).add({"output": "a.png"})
    other = open_journal(tmp_path, 2, 2)
    other.add({"output": "b.png"})
    path = journal_path(tmp_path, 2, 2)
    assert len(path.read_bytes().splitlines()) == 2
    path.unlink()
    other.add({"output": "c.png"})
    assert len(path.read_bytes().splitlines()) == 3
    assert set(open_journal(tmp_path).entries) == {"a.png", "b.png", "c.png"}


def test_an_empty_file_becomes_a_journal(tmp_path):
    journal_path(tmp_path).touch()
    open_journal(tmp_path).add({"output": "a.png"})
    assert set(open_journal(tmp_path).entries) == {"a.png"}


@pytest.mark.parametrize("empty", [False, True])
def test_removed_during_a_run(empty, tmp_path):
    journal = open_journal(tmp_path)
    path = journal_path(tmp_path)
    if not empty:
        journal.add({"output": "a.png", "loss": 1.5})
        path.unlink()
    assert not path.exists()
    journal.add({"output": "b.png"})
    journal.add({"output": "c.png"})
    again = open_journal(tmp_path)
    assert set(again.entries) == ({"b.png", "c.png"} if empty else {"a.png", "b.png", "c.png"})
    assert again.entries == journal.entries
    # Somebody has put another file there: it is not ours to write into.
    path.write_text("mine\n")
    with pytest.raises(InputError, match="another program has changed"):
        journal.add({"output": "d.png"})
    assert path.read_text() == "mine\n"


def test_a_file_that_comes_during_a_run_stays(tmp_path):
    journal = open_journal(tmp_path)
    journal_path(tmp_path).write_text("mine\n")
    with pytest.raises(InputError, match="another program has changed"):
        journal.add({"output": "a.png"})
    assert journal_path(tmp_path).read_text() == "mine\n"


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    journal = open_journal(tmp_path)
    for name in "abc":
        journal.add({"output": f"{name}.png"})
    path = journal_path(tmp_path)
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        other = open_journal(tmp_path, 1, 2)  # another slice does not touch it
        assert path.read_bytes() == whole[:end]
        assert set(other.entries) == {"a.png", "b.png"}
        assert not journal_path(tmp_path, 1, 2).exists()
        again = open_journal(tmp_path)
        assert path.read_bytes() == whole[:start]
        again.add({"output": "c.png"})
        assert set(open_journal(tmp_path).entries) == {"a.png", "b.png", "c.png"}


def test_the_latest_entry_counts_whatever_the_names(tmp_path):
    later = [open_journal(tmp_path), open_journal(tmp_path, 2, 2), open_journal(tmp_path, 1, 2)]
    for number, journal in enumerate(later):
        journal.add({"output": "a.png", "number": number, "time": "ignored"})
        assert open_journal(tmp_path).entries["a.png"]["number"] == number


def test_several_entries_are_added_at_once(tmp_path):
    journal = open_journal(tmp_path)
    journal.add({"output": "a.png", "number": 1}, {"output": "b.png"})
    journal.add({"output": "a.png", "number": 2}, {"output": "a.png", "number": 3})
    again = open_journal(tmp_path)
    assert again.entries == journal.entries
    assert [each["output"] for each in again.entries.values()] == ["a.png", "b.png"]
    assert again.entries["a.png"]["number"] == 3
    # Lines stay in the file; what replaces one is not taken for it.
    path = journal_path(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"b.png", b"c.png"))
    with pytest.raises(InputError, match="another program has changed the journal"):
        again.entries["b.png"]


def test_no_flip_of_bits_is_believed(tmp_path):
    journal = open_journal(tmp_path)
    for i in range(3):
        journal.add({"output": f"{i}.png", "loss": 10.0 ** (3 * i) / 3, "picture": {"bytes": i}})
    true = dict(journal.entries)
    path = journal_path(tmp_path)
    whole = path.read_bytes()
    rng = random.Random(0)
    messages = []
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            found = open_journal(tmp_path).entries
        except InputError as error:
            messages.append(str(error))
            assert path.read_bytes() == damaged  # whatever it is, it is left as it is
        else:
            # Only the end of the last line can pass for one that was cut off.
            assert found.items() <= true.items()
            assert len(found) >= 2
    assert len(messages) > 1900
    assert all("damaged; delete" in each or "not a journal" in each for each in messages)


def test_a_damaged_line_is_named(tmp_path):
    journal = open_journal(tmp_path)
    for i in range(3):
        journal.add({"output": f"{i}.png"})
    path = journal_path(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"1.png", b"7.png"), lines[3]]))
    with pytest.raises(InputError, match=r"^line 3 of '.*journal.jsonl' is damaged; delete that"):
        open_journal(tmp_path)
    path.write_bytes(b"".join([*lines[:2], lines[3]]))  # as advised
    assert set(open_journal(tmp_path).entries) == {"0.png", "2.png"}


def test_a_folder_that_cannot_be_read(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(InputError, match=r"^cannot read the journals in .* choose another"):
            journals_in(folder)


def test_an_error_of_a_cluster_names_its_node(tmp_path, capsys):
    job = types.SimpleNamespace(output_dir=tmp_path, slice=(1, 1))
    recorder = Recorder(job, lambda *_: None)
    recorder.missing = {"a.png": types.SimpleNamespace(row=types.SimpleNamespace(line=4))}
    recorder.add({"output": "a.png", "error": "it is gone"}, node="node2-09aa")
    assert capsys.readouterr().err == "line 4: a.png (on node2-09aa): it is gone\n"
    assert recorder.journal.entries["a.png"]["error"] == "it is gone"
