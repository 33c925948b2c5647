"""Graphs: node features and messages of PyTorch Geometric models."""

from __future__ import annotations

from ig_core import BenchmarkCase, Domain, hookimpl
from ig_graphs.domain import GraphDomain

__all__ = ["GraphDomain"]


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [GraphDomain]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    from ig_graphs.cases import CASES

    return CASES
