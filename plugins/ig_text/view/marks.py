"""How one number is written and how strongly it is coloured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ig_core import Attribution, signed

FAINTEST = 0.01
"""A share of the scale below which a colour cannot be told from none."""


@dataclass(frozen=True)
class Scale:
    """A scale of signed numbers whose centre is zero and whose end is ``limit``."""

    limit: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Scale:
        """The scale that ends at the largest magnitude."""
        return cls(max((abs(v) for v in values if math.isfinite(v)), default=0.0))

    def share(self, value: float) -> float:
        """The place of a number on the scale, from -1 to 1; 0 if it is not finite."""
        known = self.limit > 0 and math.isfinite(value)
        return max(-1.0, min(1.0, value / self.limit)) if known else 0.0

    def shade(self, value: float) -> tuple[str, str]:
        """The sign, ``p``, ``n`` or nothing, and the strength of a colour from 0 to 1."""
        share = self.share(value)
        sign = "" if abs(share) < FAINTEST else "p" if share > 0 else "n"
        return sign, f"{abs(share):.3f}".rstrip("0").rstrip(".") if sign else ""


@dataclass(frozen=True)
class Numbers:
    """The scores of the units and what is known of their errors, in Python's numbers."""

    scores: Sequence[float]
    uncertainty: Sequence[float]
    spread: Sequence[float]
    kind: str

    @classmethod
    def of(cls, attribution: Attribution) -> Numbers:
        unknown = [math.nan] * len(attribution.units)
        doubt, spread = attribution.uncertainty, attribution.spread
        return cls(
            attribution.scores.tolist(),
            unknown if doubt is None else doubt.tolist(),
            unknown if spread is None else spread.tolist(),
            attribution.units.kind,
        )

    def sum(self, units: Iterable[int]) -> float:
        """The sum of the scores of some units."""
        return math.fsum(self.scores[unit] for unit in units)

    def told(self, units: Sequence[int]) -> str:
        """The number of a unit with its error; of several units their sum, and each."""
        if len(units) > 1:
            parts = ", ".join(signed(self.scores[unit], 3) for unit in units)
            return f"{signed(self.sum(units), 4)} ({len(units)} {self.kind}s: {parts})"
        [unit] = units
        text = signed(self.scores[unit], 4)
        for sign, known in (("±", self.uncertainty), ("spread", self.spread)):
            if math.isfinite(known[unit]):
                text += f" {sign} {known[unit]:.2g}"
        return text

    def strongest(self, count: int) -> list[int]:
        """The units of largest magnitude, the largest first; what is no number comes last."""
        size = [-1.0 if math.isnan(score) else abs(score) for score in self.scores]
        return sorted(range(len(size)), key=lambda unit: -size[unit])[:count]
