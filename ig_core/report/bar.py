"""A progress bar for long calls."""

from __future__ import annotations

from collections.abc import Callable
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


def teller(total: int) -> Callable[[Any], None]:
    """A progress function that draws a bar of finished examples."""
    shown = bar()
    shown.start()
    task = shown.add_task("explaining", total=total)

    def tell(progress: Any) -> None:
        shown.update(task, completed=progress.total - progress.open)
        if progress.open == 0:
            shown.stop()

    return tell
