"""Files of a package index: found or fetched, known by their digest, read without unpacking."""

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ig_core import Archive, StorageError

WHEEL = "a-1-cp311-cp311-some_platform.other_platform.whl"
SDIST = "a-1.tar.gz"
FILES = [WHEEL, SDIST]


def written(folder: Path, file: str) -> Archive:
    """An archive that lies in the folder, of one member and a folder."""
    if file.endswith(".whl"):
        with zipfile.ZipFile(folder / file, "w") as opened:
            opened.writestr("a/data.txt", "seven")
    else:
        with tarfile.open(folder / file, "w:gz") as opened:
            member = tarfile.TarInfo("a/data.txt")
            member.size = 5
            opened.addfile(member, io.BytesIO(b"seven"))
            inner = tarfile.TarInfo("a/inner")
            inner.type = tarfile.DIRTYPE
            opened.addfile(inner)
    digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    return Archive(requirement="a==1", file=file, sha256=digest, content="numbers")


@pytest.mark.parametrize("file", FILES)
def test_an_archive_in_the_folder_is_read_and_left_there(tmp_path, monkeypatch, file):
    monkeypatch.setattr(subprocess, "run", None)
    known = written(tmp_path, file)
    assert known.members(["a/data.txt", "a/data.txt"], tmp_path) == [b"seven", b"seven"]
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("file", FILES)
def test_another_file_under_its_name_is_refused(tmp_path, file):
    known = written(tmp_path, file)
    (tmp_path / file).write_bytes(b"something else")
    with pytest.raises(StorageError, match=rf"is not the {file} .*other digest.*remove it"):
        known.members(["a/data.txt"], tmp_path)


@pytest.mark.parametrize(
    ("file", "name"), [(WHEEL, "a/none.txt"), (SDIST, "a/none.txt"), (SDIST, "a/inner")]
)
def test_a_member_that_is_not_there_is_named(tmp_path, file, name):
    with pytest.raises(StorageError, match=f"{file}: .*{name}"):
        written(tmp_path, file).members([name], tmp_path)


@pytest.mark.parametrize(
    ("file", "options"),
    [
        (WHEEL, {"--only-binary", "some_platform", "other_platform", "cp", "311", "cp311"}),
        (SDIST, {"--no-binary", "a"}),
    ],
)
def test_an_archive_is_fetched_by_its_digest_and_not_kept(tmp_path, monkeypatch, file, options):
    known = written(tmp_path, file)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).unlink()
    asked = {}

    def run(command, **told):
        asked["command"] = command
        asked["requirements"] = Path(command[command.index("--requirement") + 1]).read_text()
        (Path(command[command.index("--dest") + 1]) / file).write_bytes(content)

    monkeypatch.setattr(subprocess, "run", run)
    with known.at_hand(tmp_path) as found:
        assert found.read_bytes() == content
    assert not found.exists() and not list(tmp_path.iterdir())
    assert asked["requirements"] == f"a==1 --hash=sha256:{known.sha256}"
    assert {"--require-hashes", "--no-deps", *options} <= set(asked["command"])


def test_a_wheel_for_all_platforms_is_fetched_as_such(tmp_path, monkeypatch):
    known = written(tmp_path, "a-1-py3-none-any.whl")
    content = (tmp_path / known.file).read_bytes()
    (tmp_path / known.file).unlink()

    def run(command, **told):
        assert "--platform" not in command
        (Path(command[command.index("--dest") + 1]) / known.file).write_bytes(content)

    monkeypatch.setattr(subprocess, "run", run)
    assert known.members(["a/data.txt"], tmp_path) == [b"seven"]


@pytest.mark.parametrize(
    ("program", "seconds"),
    [("raise SystemExit('no index here')", 60), ("import time; time.sleep(60)", 1)],
)
def test_what_cannot_be_fetched_says_what_to_do(tmp_path, monkeypatch, program, seconds):
    """The first is pip without an index, the second pip before a connection that hangs."""
    run = subprocess.run
    command = [sys.executable, "-c", program]
    monkeypatch.setattr(subprocess, "run", lambda asked, **told: run(command, **told))
    known = Archive(requirement="a==1", file=SDIST, sha256="0", content="numbers", seconds=seconds)
    with pytest.raises(
        StorageError,
        match=r"the numbers could not be fetched with pip \((no index here|.*timed out.*)\); "
        rf"get {SDIST} .* put it into",
    ):
        known.members(["a/data.txt"], tmp_path)
    assert not list(tmp_path.iterdir())
