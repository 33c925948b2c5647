"""A progress bar for long calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def bar(**options: Any) -> Progress:
    """The bar that every command shows; nothing but plain lines where there is no terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        **options,
    )


@contextmanager
def teller(total: int) -> Iterator[Callable[[Any], None]]:
    """A progress function that draws a bar of finished examples, which leaves with the block."""
    with bar() as shown:
        task = shown.add_task("explaining", total=total)
        yield lambda progress: shown.update(task, completed=progress.total - progress.open)
