"""A Plan says which cells, case by method, a benchmark run consists of."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import ig_core
from ig_core.case import BenchmarkCase
from ig_core.errors import UnknownNameError
from ig_core.manager import PluginManager, importable
from ig_core.methods import Method
from ig_core.metrics import Metric

Suite = Literal["smoke", "default", "full"]
SUITES: Mapping[Suite, tuple[str, ...]] = {
    "smoke": ("smoke",),
    "default": ("smoke", "default"),
    "full": (),
}
"""The tags of which a case needs one; the full suite takes every case."""

ALL = ("*",)


@dataclass(frozen=True)
class Selection:
    """Glob patterns of names, and the suite that a case must belong to."""

    cases: tuple[str, ...] = ALL
    methods: tuple[str, ...] = ALL
    metrics: tuple[str, ...] = ALL
    domains: tuple[str, ...] = ALL
    suite: Suite = "smoke"


@dataclass(frozen=True)
class Settings:
    """What changes the numbers: examples per case, seed, tolerance, budget, device."""

    limit: int | None = None
    seed: int = 0
    tol: float = 1e-2
    budget: int = 512
    device: str | None = None


@dataclass(frozen=True, eq=False)
class Cell:
    """One case under one method. ``key`` names everything that its numbers depend on."""

    key: str
    case: BenchmarkCase
    method: type[Method]
    metrics: tuple[type[Metric], ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """The cells of a run, grouped by case, and the patterns that matched nothing."""

    cells: Sequence[Cell]
    settings: Settings
    suite: Suite
    unmatched: Sequence[str]
    plugins: Mapping[str, str]

    @property
    def cases(self) -> Mapping[str, Sequence[Cell]]:
        """The cells of each case, by its name."""
        grouped: dict[str, list[Cell]] = {}
        for cell in self.cells:
            grouped.setdefault(cell.case.name, []).append(cell)
        return grouped

    @property
    def record(self) -> dict[str, Any]:
        """The plan as JSON values, for ``run.json``."""
        methods = {cell.method.name: cell.method for cell in self.cells}
        metrics = {metric.name: metric for cell in self.cells for metric in cell.metrics}
        keys = [cell.key for cell in self.cells]
        return {
            "digest": _digest(keys),
            "suite": self.suite,
            "settings": asdict(self.settings),
            "cases": [
                {
                    "name": case.name,
                    "domain": case.domain,
                    "plugin": self.plugins.get(f"case:{case.name}", ""),
                    "real": case.real,
                    "licence": case.licence,
                    "source": case.source,
                    "tags": list(case.tags),
                }
                for case in (cells[0].case for cells in self.cases.values())
            ],
            "methods": {name: _first_line(method) for name, method in methods.items()},
            "metrics": {
                name: {"about": _first_line(metric), "higher_is_better": metric.higher_is_better}
                for name, metric in metrics.items()
            },
            "cells": keys,
        }


def plan(manager: PluginManager, selection: Selection, settings: Settings) -> Plan:
    """The cells that a selection asks for, in order of registration."""
    tags = SUITES[selection.suite]
    cases: list[BenchmarkCase] = manager.all("case")
    unmatched = [
        *_unmatched("case", selection.cases, [case.name for case in cases]),
        *_unmatched("method", selection.methods, manager.names("method")),
        *_unmatched("metric", selection.metrics, manager.names("metric")),
        *_unmatched("domain", selection.domains, [case.domain for case in cases]),
    ]
    origin = {
        component: record.name for record in manager.records for component in record.components
    }
    cells = [
        Cell(_key(manager, case, method, metrics, settings), case, method, metrics)
        for case in cases
        if _matches(case.name, selection.cases) and _matches(case.domain, selection.domains)
        if not tags or set(tags) & set(case.tags)
        for metrics in [_chosen(manager, "metric", case.domain, selection.metrics)]
        for method in _chosen(manager, "method", case.domain, selection.methods)
        if not tags or set(tags) & set(method.tags) or selection.methods != ALL
    ]
    return Plan(cells, settings, selection.suite, unmatched, origin)


def missing(case: BenchmarkCase) -> list[str]:
    """The packages that a case requires and that cannot be imported."""
    return [package for package in case.requires if not importable(package)]


def environment(manager: PluginManager) -> dict[str, Any]:
    """What a run ran on, without names of hosts, users or folders."""
    on_gpu = torch.cuda.is_available()
    return {
        "ig_core": ig_core.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(0) if on_gpu else None,
        "plugins": [
            {"name": r.name, "distribution": r.distribution, "version": r.version,
             "status": r.status}
            for r in manager.records
        ],
    }  # fmt: skip


@cache
def _processor() -> str:
    """The model of the processor, as far as the system tells it."""
    with suppress(OSError):
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*:\s*(.+)$", told, re.MULTILINE):
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()


def _chosen(
    manager: PluginManager, kind: str, domain: str, patterns: Sequence[str]
) -> tuple[Any, ...]:
    return tuple(c for c in manager.all(kind, domain) if _matches(c.name, patterns))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _unmatched(kind: str, patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    known = set(names)
    return [
        str(UnknownNameError(kind, pattern, known))
        for pattern in patterns
        if pattern not in ALL and not any(fnmatchcase(name, pattern) for name in known)
    ]


def _key(
    manager: PluginManager,
    case: BenchmarkCase,
    method: type[Method],
    metrics: Sequence[type[Metric]],
    settings: Settings,
) -> str:
    """A digest of names, settings, versions and sources: a cell with the same key is the same."""
    domains = [d for d in manager.all("domain") if d.name == case.domain]
    load = getattr(case.load, "func", case.load)
    parts = (load, method, *metrics, *domains)
    packages = {"ig_core", *(part.__module__.partition(".")[0] for part in parts)}
    return _digest(
        {
            "case": case.name,
            "domain": case.domain,
            "method": method.name,
            "metrics": sorted(metric.name for metric in metrics),
            "settings": asdict(settings),
            "sources": {package: _source(package) for package in sorted(packages)},
            "versions": {p: _version(p) for p in sorted({"torch", "numpy", *case.requires})},
        }
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _source(package: str) -> str:
    """A digest of a package's code, so that a cell of yesterday's code is not taken for today's."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return ""
    path = Path(file)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    return _digest([hashlib.sha256(one.read_bytes()).hexdigest() for one in files])


@cache
def _version(package: str) -> str:
    try:
        return version(_distributions().get(package, [package])[0])
    except PackageNotFoundError:
        return ""


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _first_line(component: type) -> str:
    return (component.__doc__ or "").strip().partition("\n")[0]
