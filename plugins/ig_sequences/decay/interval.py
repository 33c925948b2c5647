"""The interval of a half-life, by drawing the sequences again."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from ig_sequences.decay.profile import Profiles
from ig_sequences.decay.slope import half_lives, rates

LEVEL = 0.95
"""The share of such intervals that should hold the half-life of endlessly many sequences."""

BLOCK = 2**20
"""So many numbers of draws are held at once."""


def interval(profiles: Profiles, bootstrap: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of the half-life by slope; NaN for a single sequence, or without draws."""
    count = len(profiles.values)
    if count < 2 or not bootstrap or len(profiles.lags) < 2:
        return (math.nan, math.nan)
    found = np.concatenate(list(_drawn(profiles, bootstrap, seed)))
    found = found[~np.isnan(found)]  # a draw of sequences of one step only has no slope
    if not len(found):
        return (math.nan, math.nan)
    tail = (1 - LEVEL) / 2
    # 'lower' and 'higher' keep infinite half-lives out of an interpolation with finite ones.
    low = np.quantile(found, tail, method="lower")
    high = np.quantile(found, 1 - tail, method="higher")
    return (float(low), float(high))


def _drawn(profiles: Profiles, bootstrap: int, seed: int) -> Iterator[Float[np.ndarray, " block"]]:
    """Half-lives of sequences drawn with replacement, in blocks."""
    count = len(profiles.values)
    generator = np.random.default_rng(seed)
    size = max(1, BLOCK // max(count, len(profiles.lags)))
    for begin in range(0, bootstrap, size):
        draws = min(size, bootstrap - begin)
        weights = generator.multinomial(count, np.full(count, 1 / count), draws).astype(float)
        yield half_lives(rates(profiles.lags, profiles.means(weights))[0])
