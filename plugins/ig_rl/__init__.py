"""Reinforcement learning: why an agent of Stable-Baselines3 prefers an action or values a state."""

from __future__ import annotations

from ig_core import Analysis, Baseline, BenchmarkCase, Domain, Metric, hookimpl
from ig_rl.agents import Functions
from ig_rl.baselines import (
    BASELINES,
    DecisionBoundary,
    GivenState,
    NormalisedZero,
    ResetState,
    VisitedMean,
    VisitedMedian,
    VisitedStates,
)
from ig_rl.checks import (
    Faithfulness,
    deletion,
    faithfulness,
    flips,
    frozen,
    planted,
    randomised,
)
from ig_rl.domain import AgentDomain
from ig_rl.findings.agreement import StateAgreement
from ig_rl.findings.importance import Importance
from ig_rl.findings.timeline import Timeline
from ig_rl.observations.normalisation import Normalisation
from ig_rl.weights import load
from ig_rl.wrapped import Wrapped, wrap

__all__ = [
    "AgentDomain", "DecisionBoundary", "Faithfulness", "Functions", "GivenState", "Importance",
    "Normalisation", "NormalisedZero", "ResetState", "StateAgreement", "Timeline", "VisitedMean",
    "VisitedMedian", "VisitedStates", "Wrapped", "deletion", "faithfulness", "flips", "frozen",
    "load", "planted", "randomised", "wrap",
]  # fmt: skip


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [AgentDomain]


@hookimpl
def ig_baselines() -> list[type[Baseline]]:
    return BASELINES


@hookimpl
def ig_metrics() -> list[type[Metric]]:
    from ig_rl.metrics import Flip

    return [Flip]


@hookimpl
def ig_analyses() -> list[type[Analysis]]:
    from ig_rl.analyses import EpisodeTimeline, FeatureImportance

    return [FeatureImportance, EpisodeTimeline]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    from ig_rl.cases import CASES

    return CASES
