"""Graphs: node features and messages of PyTorch Geometric models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ig_core import Analysis, BenchmarkCase, Domain, Path, hookimpl
from ig_graphs.domain import GraphDomain
from ig_graphs.explain.explanation import explanation
from ig_graphs.findings.agreement import AgreementOfGames, GameAgreement, agreement
from ig_graphs.findings.fidelity import Fidelity, fidelity
from ig_graphs.findings.influences import Influences, influences
from ig_graphs.findings.subgraph import Subgraph, Undirected, subgraph, undirected
from ig_graphs.findings.truth import MotifAuroc, MotifAurocAnalysis, Planted, motif_auroc, planted
from ig_graphs.paths import EdgesThenFeatures, FeaturesThenEdges
from ig_graphs.scored import ScoredGraph, scored
from ig_graphs.view import picture, svg

if TYPE_CHECKING:
    from ig_graphs.explain.explainer import IGExplainer

__all__ = [
    "EdgesThenFeatures", "FeaturesThenEdges", "Fidelity", "GameAgreement", "GraphDomain",
    "IGExplainer", "Influences", "MotifAuroc", "Planted", "ScoredGraph", "Subgraph", "Undirected",
    "agreement", "explanation", "fidelity", "influences", "motif_auroc", "picture", "planted",
    "scored", "subgraph", "svg", "undirected",
]  # fmt: skip


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [GraphDomain]


@hookimpl
def ig_paths() -> list[type[Path]]:
    return [FeaturesThenEdges, EdgesThenFeatures]


@hookimpl
def ig_analyses() -> list[type[Analysis]]:
    return [AgreementOfGames, MotifAurocAnalysis]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    from ig_graphs.cases import CASES

    return CASES


def __getattr__(name: str) -> Any:
    if name == "IGExplainer":  # a class of PyG's, which is imported when it is asked for
        from ig_graphs.explain import explainer

        return explainer.IGExplainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
