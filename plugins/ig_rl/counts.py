"""Counts that a user gives: whole numbers of at least 1."""

from __future__ import annotations

from typing import Any

from ig_core import IGError, InputError


def counted(name: str, given: Any, *, error: type[IGError] = InputError) -> int:
    """A count, if it is one.

    >>> counted("seeds", 3)
    3

    Raises:
        IGError: it is none; an :class:`ig_core.InputError` if no other class is named.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise error(f"{name} must be a whole number of at least 1 (got {given!r})")
    return given
