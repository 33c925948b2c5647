"""Graphs: node features and messages of PyTorch Geometric models."""

from __future__ import annotations

from ig_core import BenchmarkCase, Domain, Path, hookimpl
from ig_graphs.domain import GraphDomain
from ig_graphs.paths import EdgesThenFeatures, FeaturesThenEdges
from ig_graphs.scored import ScoredGraph, scored

__all__ = ["EdgesThenFeatures", "FeaturesThenEdges", "GraphDomain", "ScoredGraph", "scored"]


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [GraphDomain]


@hookimpl
def ig_paths() -> list[type[Path]]:
    return [FeaturesThenEdges, EdgesThenFeatures]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    from ig_graphs.cases import CASES

    return CASES
