"""The hooks: each takes nothing, returns an iterable of components, and is called once.

A plugin is a module (or object) with marked functions of these names, found through the entry
point group ``ig_core.plugins``::

    from ig_core import hookimpl

    @hookimpl
    def ig_domains():
        from my_package.domain import MyDomain

        return [MyDomain]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import pluggy

from ig_core.analyses import Analysis
from ig_core.baselines import Baseline
from ig_core.case import BenchmarkCase
from ig_core.domain import Domain
from ig_core.methods import Method
from ig_core.metrics import Metric
from ig_core.paths import Path

MARKER = "ig_core"
GROUP = "ig_core.plugins"

_Hook = TypeVar("_Hook", bound=Callable[..., Any])
hookimpl = cast(Callable[[_Hook], _Hook], pluggy.HookimplMarker(MARKER))
"""Marks a function of a plugin as the implementation of the hook of that name."""
_hookspec = cast(Callable[[_Hook], _Hook], pluggy.HookspecMarker(MARKER))


@_hookspec
def ig_domains() -> Iterable[type[Domain]]:
    """Kinds of model; the only hook that most plugins need."""
    raise NotImplementedError


@_hookspec
def ig_paths() -> Iterable[type[Path]]:
    """Curves from the baseline to the input."""
    raise NotImplementedError


@_hookspec
def ig_baselines() -> Iterable[type[Baseline]]:
    """Where a path starts."""
    raise NotImplementedError


@_hookspec
def ig_methods() -> Iterable[type[Method]]:
    """Attribution methods, ours and others', for use and for the benchmark."""
    raise NotImplementedError


@_hookspec
def ig_metrics() -> Iterable[type[Metric]]:
    """Measures of an attribution, on units."""
    raise NotImplementedError


@_hookspec
def ig_analyses() -> Iterable[type[Analysis]]:
    """Findings from many attributions."""
    raise NotImplementedError


@_hookspec
def ig_benchmark_cases() -> Iterable[BenchmarkCase]:
    """Models with examples, loaded only when they run."""
    raise NotImplementedError


KINDS: dict[str, tuple[str, type]] = {
    "ig_domains": ("domain", Domain),
    "ig_paths": ("path", Path),
    "ig_baselines": ("baseline", Baseline),
    "ig_methods": ("method", Method),
    "ig_metrics": ("metric", Metric),
    "ig_analyses": ("analysis", Analysis),
    "ig_benchmark_cases": ("case", BenchmarkCase),
}
"""What each hook registers, and the type that its components have or derive from."""
