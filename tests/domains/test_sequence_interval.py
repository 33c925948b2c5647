"""The interval of a half-life, by drawing the sequences again."""

import math
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_sequences import attribution_decay
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.decay import find_decay, interval
from ig_sequences.decay.profile import Profiles
from ig_sequences.decay.slope import rates

from_zero = partial(attribution_decay, baseline=0.0)


def ones(sequences: int, time: int = 100) -> Tensor:
    return torch.ones(sequences, time, 1, dtype=torch.float64)


@pytest.fixture(scope="module")
def coverage() -> Callable[..., tuple[float, float]]:
    """The share of intervals that hold the truth: ours, and percentiles."""
    path = Path(__file__).parents[1] / "benchmarks" / "interval.py"
    return runpy.run_path(str(path))["coverage"]


@pytest.mark.parametrize(
    "kind",
    [
        "noise", "scales differ", "rates differ", "smooth noise", "ragged",
        "ragged, scales differ", "few are long",
    ],
)  # fmt: skip
def test_of_32_sequences_it_holds_the_truth_as_often_as_it_says(
    coverage: Callable[..., tuple[float, float]], kind: str
) -> None:
    ours, plain = coverage(kind, 32, 200, seed=2)
    assert 0.93 <= ours <= 0.99
    assert ours >= plain


def test_of_few_sequences_percentiles_hold_it_far_less_often(
    coverage: Callable[..., tuple[float, float]],
) -> None:
    ours, plain = coverage("rates differ", 4, 200)
    assert plain < 0.7 < 0.9 < ours < 0.98


def test_it_holds_the_truth_of_attributions_too() -> None:
    x = torch.randn(60 * 32, 20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = ig.attribute(LeakyIntegrator(0.8), x, domain="sequences")
    truth = math.log(0.5) / math.log(0.8)
    found = [find_decay(results[i : i + 32], bootstrap=200) for i in range(0, len(x), 32)]
    held = sum(low < truth < high for low, high in (one.interval for one in found))
    assert 54 <= held < 60  # of 60; 57 would be 95 %


def test_the_standard_error_is_that_of_the_jackknife_for_many_sequences() -> None:
    rng = np.random.default_rng(0)
    count, lags = 400, np.arange(20.0)
    table = Profiles(lags, 0.8**lags * np.abs(rng.standard_normal((count, 20))))
    [_], [error] = interval._rates_and_errors(table, np.ones((1, count)))
    left_out = rates(lags, table.means(np.ones((count, count)) - np.eye(count)))[0]
    jackknife = math.sqrt((count - 1) * left_out.var())
    assert error == pytest.approx(jackknife, rel=0.02)


def test_what_drawing_cannot_show_is_added() -> None:
    """Of n values of variance s2 their mean varies by s2 / n, and drawn again by (n - 1) / n of it.

    A single sequence reaches the last of three lags, which weigh -1/2, 0 and 1/2 in the slope.
    """
    rng = np.random.default_rng(0)
    values = np.abs(rng.standard_normal((6, 3))) + 1
    values[1:, 2] = np.nan
    table, lag = Profiles(np.arange(3.0), values), np.array([-0.5, 0.0, 0.5])
    count = np.array([6, 6, 1])
    off = values / np.nanmean(values, axis=0) - 1
    variance = np.nansum(off**2) / 10  # two lags with 5 degrees of freedom
    expected = math.sqrt(variance * (lag**2 / count**2).sum())
    assert interval._unseen(table) == pytest.approx(expected, rel=1e-12)


def test_it_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lags = np.arange(20.0)
    table = Profiles(lags, 0.8**lags * np.abs(rng.standard_normal((9, 20))))
    whole = interval.interval(table, 500, 0)
    monkeypatch.setattr(interval, "BLOCK", 700)
    assert interval.interval(table, 500, 0) == pytest.approx(whole, rel=1e-12)


def test_one_sequence_has_none_and_few_are_told() -> None:
    single = from_zero(LeakyIntegrator(0.5), ones(1))
    assert all(math.isnan(end) for end in single.interval)
    assert "one sequence has no interval" in single.reason
    assert "too narrow" in from_zero(LeakyIntegrator(0.5), ones(8)).reason
    assert "too narrow" not in from_zero(LeakyIntegrator(0.5), ones(9)).reason


def test_two_sequences_have_none() -> None:
    """Every draw is both of them, or one of them twice: it would have no width at all."""
    x = torch.randn(2, 30, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = from_zero(LeakyIntegrator(0.8), x)
    assert all(math.isnan(end) for end in both.interval)
    assert "2 sequences have no interval" in both.reason


def test_a_handful_of_draws_has_no_quantile() -> None:
    x = torch.randn(9, 30, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    few, enough = (from_zero(LeakyIntegrator(0.8), x, bootstrap=n).interval for n in (19, 40))
    assert all(math.isnan(end) for end in few) and enough[0] < enough[1]


def test_lags_of_one_sequence_leave_none_and_are_told() -> None:
    x = [ones(1, 1)[0]] * 30 + [ones(1, 9)[0]]
    alone = from_zero(LeakyIntegrator(0.5), x)
    assert alone.half_life == pytest.approx(1.0) and math.isnan(alone.interval[0])
    assert any("8 of the fitted lags are reached by one sequence only" in n for n in alone.notes)


def test_noise_alone_has_an_interval_without_end() -> None:
    rng = np.random.default_rng(3)
    low, high = interval.interval(
        Profiles(np.arange(40.0), np.abs(rng.standard_normal((16, 40)))), 500, 0
    )
    assert low > 0 and high == math.inf


def test_the_seed_decides_it() -> None:
    x = torch.randn(12, 30, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, again, other = (
        from_zero(LeakyIntegrator(0.8), x, seed=seed).interval for seed in (0, 0, 1)
    )
    assert first == again != other
