"""Folders are locked, names stay inside them, and only what a run wrote is removed."""

import pytest

from ig_core.bench.folder import RunFolder, case_folder, slug
from ig_core.errors import StorageError


@pytest.mark.parametrize("name", ["../../etc/passwd", "/", "..", "a/b", "A", "", "x" * 300, "\0"])
def test_a_slug_is_one_short_name(tmp_path, name):
    made = slug(name)
    assert made and len(made) < 80
    assert (tmp_path / made).resolve().parent == tmp_path.resolve()


def test_names_that_look_alike_do_not_share_a_folder():
    assert len({slug(name) for name in ["a/b", "a-b", "A/B", "a b", "a//b"]}) == 5


def test_a_case_gets_its_folder_below_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IG_CACHE_DIR", str(tmp_path))
    with case_folder("../x") as folder:
        assert folder.is_dir() and folder.parent == tmp_path / "cases"


def test_a_cache_that_cannot_be_made_is_a_named_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IG_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="IG_CACHE_DIR"), case_folder("x"):
        pass


def test_two_runs_do_not_share_a_folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with (
        folder.locked(),
        pytest.raises(StorageError, match="another run works in"),
        RunFolder(tmp_path / "run").locked(),
    ):
        pass
    with folder.locked():
        pass


def test_clearing_leaves_what_is_not_ours(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "notes.html").write_text("mine")
    folder.write({})
    folder.journal.append({})
    folder.clear()
    assert [file.name for file in tmp_path.iterdir()] == ["notes.html"]


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other"}'])
def test_a_damaged_run_is_a_named_error(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StorageError, match="--fresh"):
        RunFolder(tmp_path).read()
