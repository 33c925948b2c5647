"""How often does the interval of a half-life hold the truth?

python tests/benchmarks/interval.py [REPEATS]

Draws profiles whose half-life is known, several kinds of them, and counts by how many sequences
the interval holds it; beside it the percentiles of the same number of draws.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np

import ig_core as ig
from ig_sequences.decay.interval import interval
from ig_sequences.decay.profile import Profiles
from ig_sequences.decay.slope import half_lives, rates

LAGS = np.arange(30.0)
KEEP = 0.8
SEQUENCES = (4, 8, 16, 32, 64)

Draw = Callable[[np.random.Generator, int], np.ndarray]


def noise(generator: np.random.Generator, count: int) -> np.ndarray:
    """A leak that reads two features of white noise."""
    return KEEP**LAGS * np.abs(generator.standard_normal((count, len(LAGS), 2))).sum(2)


def scales(generator: np.random.Generator, count: int) -> np.ndarray:
    """The same, of sequences whose sizes differ by factors of e."""
    return noise(generator, count) * np.exp(generator.standard_normal((count, 1)))


def rates_differ(generator: np.random.Generator, count: int) -> np.ndarray:
    """Every sequence with a leak of its own, from .7 to .9."""
    keep = generator.uniform(0.7, 0.9, (count, 1))
    return (keep / KEEP) ** LAGS * noise(generator, count)


def smooth(generator: np.random.Generator, count: int) -> np.ndarray:
    """Noise in ln a that neighbouring lags share (correlation .9)."""
    drawn = generator.standard_normal((count, len(LAGS)))
    for lag in range(1, len(LAGS)):
        drawn[:, lag] = 0.9 * drawn[:, lag - 1] + math.sqrt(1 - 0.9**2) * drawn[:, lag]
    return KEEP**LAGS * np.exp(drawn / 2)


def ragged(generator: np.random.Generator, count: int) -> np.ndarray:
    """Noise through a leak, of sequences from 8 to 30 steps; one has them all."""
    found = noise(generator, count)
    lengths = generator.integers(8, len(LAGS) + 1, count)
    lengths[generator.integers(count)] = len(LAGS)
    found[lengths[:, None] <= LAGS] = np.nan
    return found


def few_long(generator: np.random.Generator, count: int) -> np.ndarray:
    """Noise through a leak, of some 11 steps, so that one or two reach the oldest lags."""
    found = noise(generator, count)
    lengths = generator.gamma(11.0, 1.0, count).astype(int).clip(2, len(LAGS))
    found[lengths[:, None] <= LAGS] = np.nan
    return found


def ragged_scales(generator: np.random.Generator, count: int) -> np.ndarray:
    """The same, of sequences whose sizes differ by factors of sqrt(e)."""
    return ragged(generator, count) * np.exp(generator.standard_normal((count, 1)) / 2)


KINDS: dict[str, Draw] = {
    "noise": noise,
    "scales differ": scales,
    "rates differ": rates_differ,
    "smooth noise": smooth,
    "ragged": ragged,
    "ragged, scales differ": ragged_scales,
    "few are long": few_long,
}


def truth(kind: str) -> float:
    """The half-life of endlessly many sequences."""
    if kind != "rates differ":
        return math.log(0.5) / math.log(KEEP)
    keep = np.linspace(0.7, 0.9, 20_001)
    return float(half_lives(rates(LAGS, (keep[:, None] ** LAGS).mean(0)[None])[0])[0])


def percentiles(table: np.ndarray, draws: int, seed: int) -> tuple[float, float]:
    """The plain interval, for comparison."""
    count = len(table)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
    found = rates(LAGS, Profiles(LAGS, table).means(weights.astype(float)))[0]
    low, high = np.quantile(found[~np.isnan(found)], [0.975, 0.025])
    return math.log(2) / low, math.log(2) / high


def coverage(kind: str, count: int, repeats: int, seed: int = 0) -> tuple[float, float]:
    """The share of intervals that hold the truth: ours, and percentiles."""
    generator = np.random.default_rng([seed, count])
    right, held = truth(kind), np.zeros(2)
    for repeat in range(repeats):
        table = KINDS[kind](generator, count)
        both = (interval(Profiles(LAGS, table), 1000, repeat), percentiles(table, 1000, repeat))
        held += [low <= right <= high for low, high in both]
    ours, plain = (held / repeats).tolist()
    return ours, plain


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rows: list[list[str | float]] = []
    for kind in KINDS:
        found = [coverage(kind, count, repeats) for count in SEQUENCES]
        rows.append([kind, "bootstrap-t", *(ours for ours, _ in found)])
        rows.append([kind, "percentiles", *(plain for _, plain in found)])
    error = math.sqrt(0.95 * 0.05 / repeats)
    note = f"{repeats} repeats of 1000 draws; standard error {error:.3f} at .95"
    print(ig.Table(["profiles", "interval", *map(str, SEQUENCES)], rows, [note]).to_text())


if __name__ == "__main__":
    main()
