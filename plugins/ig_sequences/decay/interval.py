"""The interval of a half-life, by drawing the sequences again."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from ig_sequences.decay.profile import Profiles
from ig_sequences.decay.slope import half_lives

LEVEL = 0.95
"""The share of such intervals that should hold the half-life of endlessly many sequences."""

FEWEST_SEQUENCES, FEWEST_DRAWS = 3, 20
"""Of fewer there is no quantile of the draws."""

BLOCK = 2**19
"""So many numbers of draws are held at once."""

NORMAL = 1.959964
"""So many standard errors are 95 % to both sides."""

ROUNDING = 1e-12
"""A standard error below this part of the rate is rounding."""

Draws = Float[np.ndarray, " draws"]


def interval(profiles: Profiles, bootstrap: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of the half-life; NaN for one or two sequences, or without enough draws.

    The symmetric bootstrap-t interval of the rate (Hall 1988, J. R. Statist. Soc. B 50:35), whose
    ends are turned into half-lives: sequences are drawn with replacement, and the rate may be as
    far off as 95 % of the draws are from it, each in units of its own standard error. What drawing
    cannot show, most of all at lags that a single sequence reaches, is added. On profiles as ragged
    and as unlike each other as those of ``tests/benchmarks/interval.py`` it held the truth nearer
    to 95 % of the time than percentiles, BCa or Student's t did.

    NaN also where fewer than two lags are reached by more than one. Of two sequences every draw
    is both, which is off by nothing, or one of them twice, which has no standard error.
    """
    count = len(profiles.values)
    if count < FEWEST_SEQUENCES or not bootstrap or (profiles.count > 1).sum() < 2:
        return (math.nan, math.nan)
    [rate], [error] = _rates_and_errors(profiles, np.ones((1, count)))
    if not error > ROUNDING * abs(rate):
        reach = 0.0
    else:
        off = np.concatenate(list(_drawn(profiles, rate, bootstrap, seed)))
        if len(off) < FEWEST_DRAWS:
            return (math.nan, math.nan)
        reach = math.hypot(float(np.quantile(off, LEVEL)) * error, NORMAL * _unseen(profiles))
    low, high = half_lives(np.array([rate + reach, rate - reach])).tolist()
    return (low, high)


def _unseen(profiles: Profiles) -> float:
    """The part of the standard error of the rate that drawing n sequences of a lag does not show.

    It shows (n - 1) / n of the variance of a mean of n, hence nothing where a single sequence
    reaches. The rest is that of relative deviations pooled over the lags, taken to be independent.
    """
    known = profiles.mean() > 0
    values, count = profiles.values[:, known], profiles.count[known]
    lag = profiles.lags[known] - profiles.lags[known].mean()
    off = np.nan_to_num(values / profiles.mean()[known] - 1)
    variance = float((off**2).sum()) / float((count - 1).sum())
    return math.sqrt(variance * float((lag**2 / count**2).sum())) / float((lag**2).sum())


def _drawn(profiles: Profiles, rate: float, bootstrap: int, seed: int) -> Iterator[Draws]:
    """How far the rates of draws are from that of all, in their standard errors, in blocks.

    Draws without a slope or an error, such as of one sequence only, are left out.
    """
    count = len(profiles.values)
    generator = np.random.default_rng(seed)
    size = max(1, BLOCK // max(count, len(profiles.lags)))
    for begin in range(0, bootstrap, size):
        draws = min(size, bootstrap - begin)
        weights = generator.multinomial(count, np.full(count, 1 / count), draws).astype(float)
        found, errors = _rates_and_errors(profiles, weights)
        known: Bool[np.ndarray, " draws"] = errors > ROUNDING * np.abs(found)
        yield np.abs(found[known] - rate) / errors[known]


def _rates_and_errors(
    profiles: Profiles, weights: Float[np.ndarray, "draws sequences"]
) -> tuple[Draws, Draws]:
    """Minus the slope of ln a(k) in every draw, and its standard error.

    The error is that of the infinitesimal jackknife (Jaeckel 1972; Efron 1982): how much a bit
    more weight on one sequence moves the slope, in the mean square over the sequences drawn.
    """
    seen = profiles.seen
    values = np.where(seen, profiles.values, 0.0)
    reach = weights @ seen
    with np.errstate(invalid="ignore", divide="ignore"):
        means = weights @ values / reach
        known = means > 0
        lag = profiles.lags * known
        lag = (lag - lag.sum(1, keepdims=True) / known.sum(1, keepdims=True)) * known
        lag /= (lag**2).sum(1, keepdims=True)
        log = np.log(np.where(known, means, 1.0))
        share = np.where(known, lag / reach, 0.0)
        pull = np.where(known, share / means, 0.0) @ values.T - share @ seen.T
    count = weights.sum(1)
    return -(lag * log).sum(1), np.sqrt((weights * pull**2).sum(1) * count / (count - 1))
