"""The slope of ln a(k): the rate behind the headline half-life."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from ig_sequences.decay.profile import Lags

FLOOR = 1e-8
"""Lags below this part of the largest attribution are not fitted."""


def window(profile: Lags) -> tuple[int, int]:
    """First and last index of the contiguous lags around the peak that are above the floor."""
    below = np.flatnonzero(profile <= FLOOR * profile.max())
    peak = int(profile.argmax())
    before, after = below[below < peak], below[below > peak]
    return (
        int(before[-1]) + 1 if len(before) else 0,
        int(after[0]) - 1 if len(after) else len(profile) - 1,
    )


def rates(
    lags: Lags, profiles: Float[np.ndarray, "draws lags"]
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Minus the slope of ln a(k) by least squares, and its R2; lags without a value are skipped."""
    known = profiles > 0
    log = np.log(np.where(known, profiles, 1.0))
    count = known.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        lag = lags * known
        lag = (lag - lag.sum(1, keepdims=True) / count) * known
        log = (log - log.sum(1, keepdims=True) / count) * known
        slope = (lag * log).sum(1) / (lag**2).sum(1)
        left = ((log - slope[:, None] * lag) ** 2).sum(1)
        return -slope, 1 - left / (log**2).sum(1)


def half_lives(found: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
    """ln 2 / rate; infinite where nothing fades, NaN where there is no rate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        fading = np.where(found > 0, math.log(2) / found, np.inf)
    return np.where(np.isnan(found), np.nan, fading)


def half_life_of(lags: Lags, profile: Lags) -> float:
    """The half-life of one profile by its slope."""
    return float(half_lives(rates(lags, profile[None])[0])[0])
