"""Caches of layers, which hold what was computed for the graph they saw first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def without_caches(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Layers compute anew what they cached for the graph they saw first; restored outside."""
    every = {m for root in modules for m in root.modules() if vars(m).get("cached") is True}
    kept = [
        (module, name, value)
        for module in every
        for name, value in vars(module).items()
        if name == "cached" or name.startswith("_cached_")
    ]
    try:
        for module, name, _ in kept:
            setattr(module, name, False if name == "cached" else None)
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
