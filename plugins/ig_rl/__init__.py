"""Reinforcement learning: why an agent of Stable-Baselines3 prefers an action or values a state.

>>> import gymnasium
>>> import ig_rl
>>> from stable_baselines3 import DQN
>>> env = gymnasium.make("CartPole-v1")
>>> model = DQN("MlpPolicy", env, buffer_size=1, seed=0, device="cpu")
>>> agent = ig_rl.wrap(model, env)
>>> observation, _ = env.reset(seed=0)
>>> agent.explain(observation, action="left", versus="right").display["quantity"]
'Q(left) - Q(right)'

The usual calls::

    agent.explain(observation)          # why this action rather than the next best
    agent.explain_episode(seed=0)       # every feature at every step of one episode
    agent.importance()                  # which features count, and for which action
    agent.baseline_agreement()          # how far that depends on where paths start
    agent.faithfulness()                # whether the agent behaves as the scores say
    agent.visited.states                # where the agent has been
"""

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
