"""Intervals of means by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ig_core import InputError, plain_number

RESAMPLES = 2000

ALONE = "there is no interval from a single episode or state"
"""What a verdict says where nothing can be told apart."""


@dataclass(frozen=True)
class Estimate:
    """A mean, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} ({self.low:.3g} to {self.high:.3g})"

    @property
    def known(self) -> bool:
        """Whether there is an interval, which a single case or group has not."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def to_dict(self) -> dict[str, float | None]:
        """As JSON values; NaN becomes None."""
        given = {"mean": self.mean, "low": self.low, "high": self.high}
        return {name: plain_number(value) for name, value in given.items()}


def estimate(
    values: Float[np.ndarray, " cases"],
    *,
    groups: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The mean of some cases and its percentile interval (Efron and Tibshirani 1993).

    A difference that is taken case by case has a paired interval. ``groups`` names what each case
    belongs to, such as its episode: whole groups are drawn then, since cases of one group are
    alike. NaN cases count for none; a single case, or a single group, has no interval.

    >>> str(estimate(np.array([1.0, 1.0, 1.0])))
    '1 (1 to 1)'
    """
    known = np.isfinite(values)
    values = values[known]
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    labels = np.arange(len(values)) if groups is None else np.asarray(groups)[known]
    _, place = np.unique(labels, return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place)
    mean = float(values.mean())
    if len(sums) < 2:
        return Estimate(mean, math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(mean, float(low), float(high))


def check_groups(groups: Any, count: int) -> None:
    """Refuse groups that are not one for each case."""
    if groups is not None and len(groups) != count:
        raise InputError(f"groups names the episode of every state: {count} (got {len(groups)})")
