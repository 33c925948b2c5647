"""Metrics of reinforcement learning."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from ig_core import Attribution, Game, Metric
from ig_rl.checks.flips import ordered
from ig_rl.checks.judged import greedy, replaced
from ig_rl.domain import AgentDomain


class Flip(Metric):
    """1 if the greedy action changes when the unit of highest score gets the baseline's values.

    NaN where actions are not single and discrete, where an episode is unrolled, where the
    attribution failed and where there is no unit; of several baselines the first one's values are
    taken. Ties are broken by a seeded shuffle.
    """

    name = "flip"
    higher_is_better = True
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def measure(self, attribution: Attribution, game: Game) -> float:
        domain, scores = game.task.domain, attribution.scores
        if not isinstance(domain, AgentDomain) or not domain.count or domain.unrolled:
            return math.nan
        if not len(scores) or not bool(torch.isfinite(scores).all()):
            return math.nan
        example, start = game.task.examples[game.position], game.task.starts[game.position][0]
        sets = torch.zeros(2, len(scores), dtype=torch.bool)
        sets[1, ordered(scores.numpy(), game.seed)[0]] = True
        with domain.prepared():
            before, after = greedy(domain, example, replaced(example, sets, [start]))
        return float(before != after)
