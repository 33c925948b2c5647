"""A file is written whole or not at all, and only where a file may be."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ig_core.errors import StorageError


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A file to fill, which takes the place of ``path`` when the block ends well.

    A link is followed, and a file that is replaced hands on its mode.

    Raises:
        StorageError: it cannot be written, or a folder, device or pipe lies there.
    """
    partial = None
    try:
        target, mode = _target(path)
        partial = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.partial")
        with partial.open("xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode) if mode is None else mode
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.chmod(mode)
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        if partial is not None:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all; half a surrogate pair is written as its escape.

    Raises:
        StorageError: it cannot be written.
    """
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def sync_folder(folder: Path) -> None:
    """Make the names of new files in a folder survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _target(path: str | Path) -> tuple[Path, int | None]:
    """Where the links of a path lead, and the mode of the file that lies there."""
    try:
        target = Path(path).resolve()
        found = target.stat() if target.exists() else None
    except (ValueError, RuntimeError) as error:  # A null byte; links in a circle.
        raise StorageError(f"cannot write {str(path)!r}: {error}") from error
    if found is None:
        return target, None
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"cannot write {str(path)!r}: what lies there is no file")
    return target, stat.S_IMODE(found.st_mode)
