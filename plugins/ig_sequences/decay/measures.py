"""Measures of a profile beside its slope: crossing, half-mass, mean lag, peak."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int

from ig_sequences.decay.profile import Lags, intervals_of
from ig_sequences.decay.slope import half_life_of
from ig_sequences.needed import scipy


def crossing(lags: Lags, profile: Lags, count: Int[np.ndarray, " lags"]) -> float:
    """Distance from the first lag to where the falling profile is down to half of its start.

    It is made to fall by isotonic regression (Barlow, Bartholomew, Bremner and Brunk 1972), where
    a lag weighs as many sequences as reach it, and is taken to be exponential between two lags.
    Infinite if it never is down to half.
    """
    isotonic_regression = scipy("optimize").isotonic_regression

    falling = isotonic_regression(profile, weights=count.astype(float), increasing=False).x
    low = np.flatnonzero(falling <= falling[0] / 2)
    if not len(low) or not falling[0] > 0:
        return math.inf
    at = int(low[0])
    left, right = float(falling[at - 1]), float(falling[at])
    part = 1.0 if right == 0 else math.log(2 * left / falling[0]) / math.log(left / right)
    return float(lags[at - 1] - lags[0] + part * (lags[at] - lags[at - 1]))


def half_mass(lags: Lags, profile: Lags) -> float:
    """The width of the nearest steps that hold half of the sum, in the unit of the lags.

    Inside the last of them the attribution falls geometrically, so that an exponential that is
    seen to its end gives its half-life.
    """
    total = profile.cumsum()
    if not total[-1] > 0:
        return math.nan
    step = int(np.searchsorted(total, total[-1] / 2))
    part = (total[-1] / 2 - (total[step] - profile[step])) / profile[step]
    ratio = profile[step + 1] / profile[step] if step + 1 < len(profile) else 1.0
    if 0 < ratio < 1:
        part = math.log1p(-part * (1 - ratio)) / math.log(ratio)
    ends = np.append(lags, lags[-1] + intervals_of(lags)) - lags[0]
    return float(ends[step] + part * (ends[step + 1] - ends[step]))


def mean_lag(lags: Lags, profile: Lags) -> float:
    """The lag in the mean over all attribution."""
    total = float(profile.sum())
    return float((lags * profile).sum()) / total if total > 0 else math.nan


def after_peak(lags: Lags, profile: Lags, window: tuple[int, int], fewest: int) -> float:
    """The half-life by the slope from the peak to the window's end; NaN over too few lags."""
    first, last = window
    peak = first + int(np.argmax(profile[first : last + 1]))
    if last + 1 - peak < fewest:
        return math.nan
    return half_life_of(lags[peak : last + 1], profile[peak : last + 1])
