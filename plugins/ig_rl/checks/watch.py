"""A Watch tells how far long checks are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Watch:
    """Nobody who is told anything, unless there is a ``bar`` of rich."""

    def __init__(self, bar: Any = None) -> None:
        self.bar = bar

    def each(self, steps: Sequence[T], told: str) -> Iterable[T]:
        """The steps one by one, under this heading."""
        if self.bar is None:
            return steps
        found: Iterable[T] = self.bar.track(steps, description=told)
        return found

    def telling(self, told: str) -> Callable[[Any], None] | None:
        """What :func:`ig_core.attribute` takes as ``progress``, under this heading."""
        if self.bar is None:
            return None
        bar, task = self.bar, self.bar.add_task(told, total=None)
        return lambda now: bar.update(task, total=now.total, completed=now.total - now.open)


QUIET = Watch()


@contextmanager
def watching(progress: bool | None) -> Iterator[Watch]:
    """A bar if it is asked for; by default (None) where there is a terminal to draw it on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not (console.is_terminal if progress is None else progress):
        yield Watch()
        return
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=console.is_terminal) as bar:
        yield Watch(bar)
