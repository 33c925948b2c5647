"""A file is whole or not at all, a link is followed, and what is no file is left alone."""

import os
import stat

import pytest

import ig_core as ig
from ig_core.files import whole, write_text


def test_a_text_is_written_and_nothing_else_is_left(tmp_path):
    write_text(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "é\n"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_half_a_surrogate_pair_is_written_as_its_escape(tmp_path):
    write_text(tmp_path / "a", "x\ud800y")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "x\\ud800y"


def test_a_block_that_fails_changes_nothing(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "a") as partial:
        partial.write_text("half")
        1 / 0  # noqa: B018
    assert (tmp_path / "a").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    for present in (True, False):
        target, link = tmp_path / "far" / f"{present}", tmp_path / f"link-{present}"
        link.symlink_to(target)
        if present:
            target.write_text("old")
        write_text(link, "new")
        assert link.is_symlink() and target.read_text() == "new"


def test_a_file_that_is_replaced_hands_on_its_mode(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o640)
    write_text(tmp_path / "a", "new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_that_any_new_file_has(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_pipe_or_folder_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(ig.StorageError, match="is no file"):
            write_text(tmp_path / name, "new")
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "folder").is_dir()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("path", ["", "a\0b", "no/such/folder/a", "x" * 300, "a/"])
def test_what_is_no_path_is_a_named_error(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ig.StorageError, match="cannot write"):
        write_text(path, "new")


def test_links_in_a_circle_are_a_named_error(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ig.StorageError, match="cannot write"):
        write_text(tmp_path / "a", "new")
