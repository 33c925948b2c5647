"""The Journal is a file of rows that only grows and survives a kill at any moment."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ig_core.errors import StorageError
from ig_core.files import sync_folder

SEAL = "sha256"
"""The field of a line that holds the checksum of its other fields."""


@dataclass(frozen=True)
class Journal:
    """JSON lines, each sealed with a checksum and on the disk before :meth:`append` returns.

    A kill can only leave a torn last line, which reading passes over and :meth:`mend` cuts off.
    """

    path: Path

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows, in the order in which they were written.

        Raises:
            StorageError: a line before the last is damaged, which no kill explains.
        """
        return self._read()[0]

    def mend(self) -> None:
        """Cut off what a kill left of the last line; only the holder of the folder's lock may."""
        sound = self._read()[1]
        try:
            if self.path.exists() and self.path.stat().st_size > sound:
                os.truncate(self.path, sound)
        except OSError as error:
            raise StorageError(f"cannot mend {str(self.path)!r}: {error.strerror}") from error

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row, whole and for good; half a surrogate pair in it becomes a ``?``.

        Raises:
            StorageError: the file cannot be written.
        """
        row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
        line = json.dumps({**row, SEAL: _checksum(row)}, allow_nan=False) + "\n"
        is_new = not self.path.exists()
        try:
            with self.path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise StorageError(f"cannot write {str(self.path)!r}: {error.strerror}") from error

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """The whole rows and the length of the file up to the end of the last one."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise StorageError(f"cannot read {str(self.path)!r}: {error.strerror}") from error
        lines = content.split(b"\n")[:-1]
        rows = []
        sound = 0
        for number, line in enumerate(lines, 1):
            row = _opened(line)
            if row is None and number == len(lines):
                break
            if row is None:
                raise StorageError(
                    f"line {number} of {str(self.path)!r} is damaged; --fresh starts anew, and "
                    "another --out leaves this folder as it is"
                )
            rows.append(row)
            sound += len(line) + 1
        return rows, sound


def _checksum(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]


def _opened(line: bytes) -> dict[str, Any] | None:
    """The row in a line; None where the line is not what was written."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    seal = row.pop(SEAL, None)
    return row if seal == _checksum(row) else None
