"""A row is in the journal whole or not at all, wherever a kill cuts the file."""

import json

import pytest

from ig_core.bench.journal import Journal
from ig_core.errors import StorageError

ROWS = [{"key": "a", "value": 0.1}, {"key": "b", "value": None}, {"key": "c", "name": "é\n"}]


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "cells.jsonl")
    for row in ROWS:
        made.append(row)
    return made


def test_what_was_appended_is_read(journal):
    assert journal.rows() == ROWS


def test_every_line_is_json(journal):
    assert [json.loads(line)["key"] for line in journal.path.read_text().splitlines()] == [*"abc"]


def test_no_file_is_no_rows(tmp_path):
    assert Journal(tmp_path / "none").rows() == []


def test_a_cut_at_any_byte_loses_only_the_line_that_it_cuts(journal):
    whole = journal.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        journal.path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        assert journal.rows() == ROWS[:kept]
        journal.mend()
        journal.append({"key": "after"})
        assert journal.rows() == [*ROWS[:kept], {"key": "after"}]


def test_a_damaged_last_line_is_cut_off(journal):
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-4] + b"000\n")
    journal.mend()
    assert journal.rows() == ROWS[:2]


@pytest.mark.parametrize(
    "wrong", [b"nonsense\n", b"[1]\n", b'{"key": "z"}\n', b'{"key": "z", "sha256": "00"}\n']
)
def test_a_damaged_line_before_the_last_is_an_error_that_names_it(journal, wrong):
    first, *rest = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(first + wrong + b"".join(rest[1:]))
    with pytest.raises(StorageError, match=r"line 2 of .* is damaged; --fresh"):
        journal.rows()


def test_a_number_that_is_changed_by_hand_is_damage(journal):
    text = journal.path.read_text()
    journal.path.write_text(text.replace("0.1", "0.2"))
    with pytest.raises(StorageError, match="line 1"):
        journal.rows()


def test_a_journal_that_cannot_be_written_is_a_named_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        Journal(tmp_path / "absent" / "cells.jsonl").append({})
    with pytest.raises(StorageError, match="cannot read"):
        Journal(tmp_path).rows()
