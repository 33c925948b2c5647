"""The folders that a benchmark works in: one of a run, and one in the cache for every case."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from ig_core.attribution import Attribution
from ig_core.bench.journal import Journal
from ig_core.errors import StorageError
from ig_core.files import write_text

FORMAT = "ig_core.run/1"

_FIELDS = {"written": str, "plan": dict, "environment": dict}
_PLAN = {"suite": str, "settings": dict, "cases": list, "methods": dict, "metrics": dict,
         "cells": list}  # fmt: skip
_WHOLE = ("run.json", "report.html")


@dataclass(frozen=True)
class RunFolder:
    """``run.json`` (what was planned, on what), ``cells.jsonl`` (the journal), ``attr/``, page."""

    path: Path

    @property
    def journal(self) -> Journal:
        """The finished cells."""
        return Journal(self.path / "cells.jsonl")

    @property
    def page(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder, made if need be, to ourselves.

        Raises:
            StorageError: it cannot be made or written, or another run works in it.
        """
        lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StorageError(
                f"another run works in {str(self.path)!r}; wait for it or choose another --out"
            ) from error
        except OSError as error:
            raise StorageError(
                f"cannot write into {str(self.path)!r}: {error.strerror}; choose another --out"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def clear(self) -> None:
        """Remove what earlier runs wrote, and nothing else."""
        own = [self.path / "run.json", self.journal.path, self.page]
        own += [
            file
            for ending in ("safetensors", "html", "partial")
            for file in (self.path / "attr").glob(f"*.{ending}")
        ]
        own += [file for name in _WHOLE for file in self.path.glob(f".{name}.*.partial")]
        for file in own:
            file.unlink(missing_ok=True)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write ``run.json``."""
        text = json.dumps({"format": FORMAT, **record}, indent=1, allow_nan=False)
        write_text(self.path / "run.json", text + "\n")

    def read(self) -> dict[str, Any]:
        """What :meth:`write` wrote.

        Raises:
            StorageError: there is no run in this folder, or not one of this format.
        """
        file = self.path / "run.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise StorageError(f"cannot read {str(file)!r}: {error.strerror}") from error
        except ValueError as error:
            raise StorageError(f"{str(file)!r} is damaged ({error}); --fresh starts anew") from None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise StorageError(f"{str(file)!r} is no run of format {FORMAT}; --fresh starts anew")
        lost = _lost(record, _FIELDS) or _lost(record["plan"], _PLAN)
        if lost:
            raise StorageError(
                f"{str(file)!r} is damaged (without a proper {lost!r}); --fresh starts anew"
            )
        return record

    def keep(self, key: str, number: int, attribution: Attribution, fragment: str) -> None:
        """Store one attribution of a cell, and how its domain draws it."""
        folder = self.path / "attr"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {str(folder)!r}: {error.strerror}") from error
        attribution.save(folder / f"{key}-{number}.safetensors")
        write_text(folder / f"{key}-{number}.html", fragment)

    def fragments(self, key: str) -> dict[int, str]:
        """The drawings that were kept of a cell, by number of the example."""
        files = (self.path / "attr").glob(f"{key}-*.html")
        numbered = {int(file.stem.rpartition("-")[2]): file for file in files}
        return {n: numbered[n].read_text(encoding="utf-8") for n in sorted(numbered)}


@contextmanager
def case_folder(name: str) -> Iterator[Path]:
    """The cache folder of a case, locked: it may train or convert into it.

    It lies below ``IG_CACHE_DIR``, or else in the user's cache folder.

    Raises:
        StorageError: it cannot be made.
    """
    folder = _cache(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise StorageError(
            f"cannot make the cache folder of case {name!r} ({error.strerror}); set IG_CACHE_DIR"
        ) from error
    try:
        yield folder
    finally:
        lock.release()


def cached(name: str) -> bool:
    """Whether a case has made something already, so that it loads fast."""
    folder = _cache(name)
    return folder.is_dir() and any(folder.iterdir())


def slug(name: str) -> str:
    """A file name for any text: it never leaves its folder, and two texts never share one.

    >>> slug("relu-mlp"), slug("../text/A b")
    ('relu-mlp', 'text-a-b-a4cb5dc1')
    """
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:60]
    if plain and plain == name:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{plain}-{digest}".lstrip("-")


def _lost(record: Mapping[str, Any], fields: Mapping[str, type]) -> str:
    """The first field that a record lacks or holds as another type; empty if none."""
    return next((n for n, kind in fields.items() if not isinstance(record.get(n), kind)), "")


def _cache(name: str) -> Path:
    root = Path(os.environ.get("IG_CACHE_DIR") or user_cache_dir("ig_core"))
    return root.absolute() / "cases" / slug(name)
