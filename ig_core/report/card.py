"""A Card is what every picture is drawn from: labels, signed scores, and facts beneath."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_UNITS = 512
"""Units drawn at most in reading order; the rest is counted."""

FIRST_BARS = 8
"""Bars that are seen at once; the smaller ones fold away."""

MOST_BARS = 40
"""Units drawn at most by magnitude; the rest is counted."""


@dataclass(frozen=True)
class Card:
    """Labels with signed scores, in reading order, and the facts shown beneath."""

    labels: Sequence[str]
    scores: Sequence[float]
    kind: str = "unit"
    facts: Mapping[str, str] | None = None

    @property
    def limit(self) -> float:
        """The largest magnitude: the end of the colour scale, whose centre is always zero."""
        return max((abs(s) for s in self.scores if math.isfinite(s)), default=0.0)

    def share(self, score: float) -> float:
        """A score on the scale from -1 to 1."""
        return score / self.limit if self.limit and math.isfinite(score) else 0.0

    @property
    def zeros(self) -> int:
        """How many units score exactly 0."""
        return sum(score == 0 for score in self.scores)

    def largest(self, count: int) -> Card:
        """The units of largest magnitude, in that order; none of exactly 0 if there are others."""
        others = len(self.scores) - self.zeros
        order = sorted(range(len(self.scores)), key=lambda i: -abs(self.scores[i]))
        order = order[: min(count, others or count)]
        return Card(
            [self.labels[i] for i in order], [self.scores[i] for i in order], self.kind, self.facts
        )
