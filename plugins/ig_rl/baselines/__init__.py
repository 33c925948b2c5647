"""Baselines of reinforcement learning: states that an agent visited, begins with, or wavers in.

An action that moves with the observation starts at the agent's own in the same state; at the mean
of its actions in visited states where the start is no state, and in the middle of the action
space where none are known. Of categories, a mean is a distribution over them: the path then moves
probability mass to the present one, and results say so.
"""

from ig_core import Baseline
from ig_rl.baselines.boundary import DecisionBoundary
from ig_rl.baselines.given import GivenState, NormalisedZero, ResetState
from ig_rl.baselines.visited import VisitedMean, VisitedMedian, VisitedStates

BASELINES: list[type[Baseline]] = [
    VisitedMean,
    VisitedMedian,
    VisitedStates,
    ResetState,
    NormalisedZero,
    GivenState,
    DecisionBoundary,
]

__all__ = [
    "BASELINES", "DecisionBoundary", "GivenState", "NormalisedZero", "ResetState", "VisitedMean",
    "VisitedMedian", "VisitedStates",
]  # fmt: skip
