"""Reinforcement learning: why an agent of Stable-Baselines3 prefers an action or values a state."""

from __future__ import annotations

from ig_core import Baseline, BenchmarkCase, Domain, hookimpl
from ig_rl.domain import AgentDomain

__all__ = ["AgentDomain"]


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [AgentDomain]


@hookimpl
def ig_baselines() -> list[type[Baseline]]:
    from ig_rl.baselines import VisitedMean

    return [VisitedMean]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    from ig_rl.cases import CASES

    return CASES
