"""A BenchmarkCase is a model with examples and what is known about them, loaded when it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, eq=False)
class Loaded:
    """A case that is ready to run: what a user would pass to :func:`ig_core.attribute`.

    ``options`` are the domain's options, ``targets`` one per input or one for all, ``facts``
    what should be printed beside the results (accuracy of the model, say).
    """

    model: Any
    inputs: Sequence[Any]
    targets: Any = None
    baseline: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class BenchmarkCase:
    """A model with examples. ``load`` may train or convert, once, into the folder it is given.

    The runner locks that folder while ``load`` works in it.

    ``requires`` are the packages that must be importable, ``extra`` is what installs them, and
    ``real`` says whether the model or the data come from the world rather than from a formula.
    """

    name: str
    domain: str
    load: Callable[[Path], Loaded]
    requires: tuple[str, ...] = ()
    extra: str = "ig-core[bench]"
    tags: tuple[str, ...] = ("smoke",)
    licence: str = ""
    source: str = ""
    real: bool = False


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """The file at ``path``, made by ``make(partial)`` the first time and renamed when whole.

    A case trains or converts into it; after a kill nothing half-made is left under its name.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        make(partial)
        partial.replace(path)
    return path
