"""Profiles by lag: means, quartiles, sides, times, what moved, the Jacobian."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_core import Attribution
from ig_sequences import Decay, attribution_decay
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.decay import find_decay


def results(values: Sequence[Tensor], **display: Sequence[object]) -> list[Attribution]:
    """Attributions (time, features) as they come from a model, one more of each in ``display``."""
    shaped = ig.attribute(
        lambda x: x.sum((1, 2)), [torch.ones(len(v), v.shape[1]) for v in values],
        domain="sequences",
    )  # fmt: skip
    own = [{name: each[i] for name, each in display.items()} for i in range(len(values))]
    return [
        replace(one, tensors={"x": value}, display={**one.display, **more})
        for one, value, more in zip(shaped, values, own, strict=True)
    ]


def columns(*values: Sequence[float]) -> list[Tensor]:
    """Sequences of one feature whose attribution at lags 0, 1, ... is given."""
    return [torch.tensor(v, dtype=torch.float64).flip(0)[:, None] for v in values]


def found(attributions: Sequence[Attribution], **options: object) -> Decay:
    return find_decay(attributions, bootstrap=0, **options)


def test_every_lag_has_mean_geometric_mean_quartiles_and_number() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(1, 2, (7, 12))
    decay = found(results(columns(*[row[: 12 - i] for i, row in enumerate(table)])))
    assert decay.lags.tolist() == list(range(12))
    assert decay.count.tolist() == [7] * 6 + [6, 5, 4, 3, 2, 1]
    for lag in range(12):
        own = table[: decay.count[lag], lag]
        assert decay.profile[lag] == pytest.approx(own.mean())
        assert decay.geometric[lag] == pytest.approx(np.exp(np.log(own).mean()))
        assert decay.quartiles[:, lag] == pytest.approx(np.quantile(own, [0.25, 0.75]))


def test_features_add_up_by_their_size_or_cancel() -> None:
    values = torch.tensor([[1.0, -1.0], [3.0, -1.0], [2.0, 2.0]], dtype=torch.float64)
    assert found(results([values])).profile.tolist() == [4.0, 4.0, 2.0]
    assert found(results([values]), reduce="abs-of-sum").profile.tolist() == [4.0, 2.0, 0.0]


def test_what_moved_is_divided_out_and_what_did_not_is_left_out() -> None:
    given = results(
        columns([8.0, 6.0, 0.0], [4.0, 1.0, 3.0]),
        start=[{"moved": [0, 3, 4]}, {"moved": [2, 1, 1]}],
    )
    decay = found(given)
    assert decay.sensitivity.tolist() == [3.0, 1.5, 1.5]
    per_input = found(given, normalise="input")
    assert per_input.profile.tolist() == [3.0, 1.5, 1.5]
    assert per_input.count.tolist() == [2, 2, 1]


def test_normalised_by_the_input_noise_leaves_the_half_life_of_a_leak_exact() -> None:
    x = torch.randn(5, 60, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = ig.attribute(LeakyIntegrator(0.9), x, domain="sequences")
    known = [
        replace(a, display={**a.display, "start": {"moved": own.abs().sum(1).tolist()}})
        for a, own in zip(given, x, strict=True)
    ]
    expected = math.log(0.5) / math.log(0.9)
    assert found(known, normalise="input").half_life == pytest.approx(expected, rel=1e-9)
    assert abs(found(known).half_life - expected) > 1e-3


def test_without_what_moved_it_cannot_be_divided_out() -> None:
    given = [replace(a, display={}) for a in results(columns([2.0, 1.0]))]
    assert np.isnan(found(given).sensitivity).all()
    with pytest.raises(ig.InputError, match="how far every step moved"):
        found(given, normalise="input")


def test_lags_at_which_nothing_moved_are_left_out_of_every_measure() -> None:
    values = 0.8 ** np.arange(40)
    moved = np.ones(40)
    moved[[-1, -2, -8]] = 0  # the newest two steps, and one more
    decay = found(results(columns(values), start=[{"moved": moved.tolist()}]), normalise="input")
    assert np.isnan(decay.profile[[0, 1, 7]]).all() and decay.count[7] == 0
    assert decay.half_life == pytest.approx(math.log(0.5) / math.log(0.8), rel=1e-9)
    assert decay.crossing == pytest.approx(math.log(0.5) / math.log(0.8), rel=1e-9)
    assert decay.window == (2, 39) and decay.peak_lag == 2


def test_normalised_by_the_sequence_all_sequences_count_alike() -> None:
    decay = found(results(columns([3.0, 1.0], [100.0, 300.0], [0.0, 0.0])), normalise="sequence")
    assert decay.profile == pytest.approx([0.5, 0.5])
    assert decay.count.tolist() == [2, 2]


def test_irregular_times_give_the_rate_of_a_leak_in_continuous_time() -> None:
    generator = torch.Generator().manual_seed(1)
    times = [torch.rand(n, generator=generator).double().cumsum(0) for n in (40, 25, 60)]
    rate = 0.35
    values = [torch.exp(-rate * (t[-1] - t))[:, None] for t in times]
    decay = found(results(values, times=[t.tolist() for t in times]))
    assert decay.unit == "time"
    assert decay.half_life == pytest.approx(math.log(2) / rate, rel=1e-6)
    assert decay.crossing == pytest.approx(math.log(2) / rate, rel=1e-6)
    assert np.diff(decay.lags) == pytest.approx(np.diff(decay.lags)[0])
    assert decay.count[0] == 3 and decay.count[-1] == 1


def test_noise_at_unlike_times_has_the_same_mean_at_every_lag() -> None:
    rng = np.random.default_rng(0)
    rate, count = 0.3, 4000
    times = np.cumsum(rng.uniform(0.5, 1.5, (count, 12)), axis=1)
    lags = times[:, -1:] - times
    values = np.abs(rng.standard_normal((count, 12))) * np.exp(-rate * lags)
    rows = [torch.tensor(one)[:, None] for one in values]
    decay = find_decay(results(rows, times=times.tolist()), bootstrap=0)
    many = decay.count > count / 2
    # The mean of abs(x) is the square root of 2 / pi; its geometric mean would be 0.53.
    still = decay.profile[many] * np.exp(rate * decay.lags[many])
    assert many.sum() == 11
    assert still == pytest.approx(np.full(11, math.sqrt(2 / math.pi)), rel=0.03)


def test_gaps_between_times_are_bridged_by_no_more_than_their_ends() -> None:
    low = math.exp(-10)
    values = columns([1.0, low, low], [1.0, low, low], [1.0, low])
    decay = found(results(values, times=[[0.0, 5.0, 6.0], [0.0, 2.0, 3.0], [0.0, 1.0]]))
    assert decay.lags.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert decay.profile[1:] == pytest.approx(np.full(6, low), rel=1e-12)


def test_times_that_all_share_are_used_as_they_are() -> None:
    times = torch.tensor([0.0, 1.0, 1.5, 4.0, 4.5, 6.0, 7.0], dtype=torch.float64)
    values = torch.exp(-0.5 * (7 - times))[:, None]
    late = times[3:] + 10  # a shorter sequence, seen at another moment
    decay = found(results([values, values[3:]], times=[times.tolist(), late.tolist()]))
    assert decay.lags.tolist() == [0.0, 1.0, 2.5, 3.0, 5.5, 6.0, 7.0]
    assert decay.count.tolist() == [2, 2, 2, 2, 1, 1, 1]
    assert decay.half_life == pytest.approx(2 * math.log(2), rel=1e-9)


def test_regular_times_are_steps_in_another_unit() -> None:
    values = columns(0.8 ** np.arange(30))
    steps = found(results(values))
    seconds = found(results(values, times=[(0.25 * torch.arange(30)).tolist()]))
    for name in ("half_life", "crossing", "half_mass", "mean_lag", "peak_lag", "after_peak"):
        assert getattr(seconds, name) == pytest.approx(getattr(steps, name) / 4, rel=1e-9)
    assert seconds.status == steps.status == "exponential"


def test_zeros_between_times_are_bridged_by_a_line() -> None:
    values = columns([4.0, 0.0, 2.0, 1.0], [1.0, 1.0, 1.0])
    decay = found(results(values, times=[[0.0, 2.0, 4.0, 6.0], [0.0, 1.0, 2.0]]))
    # The median interval is 2; of the second sequence the lags 0 and 2 are known.
    assert decay.lags.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert decay.profile.tolist() == [2.5, 0.5, 2.0, 1.0]


def test_steps_of_one_moment_count_as_one() -> None:
    times, moved = [[0.0, 1.0, 1.0, 3.0, 3.0]], [[1.0, 0.0, 2.0, 1.0, 1.0]]
    decay = found(results(columns([1.0, 2.0, 4.0, 8.0, 5.0]), times=times, moved=moved))
    assert decay.lags.tolist() == [0.0, 2.0, 3.0]
    assert decay.profile.tolist() == [3.0, 12.0, 5.0]
    assert decay.sensitivity.tolist() == [1.5, 6.0, 5.0]


def test_times_that_go_back_or_are_only_known_of_some_are_refused() -> None:
    values = columns([2.0, 1.0], [2.0, 1.0])
    with pytest.raises(ig.InputError, match="2 finite numbers that never go back"):
        found(results(values, times=[[0.0, 1.0], [1.0, 0.5]]))
    with pytest.raises(ig.InputError, match="2 finite numbers that never go back"):
        found(results(values, times=[[0.0, 1.0], [1.0]]))
    with pytest.raises(ig.InputError, match="for all or for none"):
        found(results(values, times=[[0.0, 1.0], None]))
    long = columns([1.0] * 4, [1.0] * 3)
    with pytest.raises(ig.InputError, match="leave out sequences with gaps so long"):
        found(results(long, times=[[0.0, 1.0, 2.0, 1e9], [0.0, 1.0, 3.0]]))


def test_a_middle_step_has_a_past_and_a_future_of_their_own() -> None:
    lag = np.abs(np.arange(61) - 30)
    values = np.where(np.arange(61) <= 30, 0.8**lag, 0.6**lag)
    values[30] = 5.0  # read by both sides, hence part of neither slope
    decay = found(results([torch.tensor(values)[:, None]] * 2, step=[30, 30]))
    assert decay.half_life == pytest.approx(math.log(0.5) / math.log(0.8), rel=1e-9)
    assert decay.crossing == pytest.approx(math.log(0.5) / math.log(0.8), rel=1e-9)
    assert decay.profile[0] == 5.0 and decay.window == (1, 30)
    assert decay.future is not None and decay.future.future is None
    assert decay.future.half_life == pytest.approx(math.log(0.5) / math.log(0.6), rel=1e-9)
    assert decay.future.lags.tolist() == list(range(1, 31))
    assert decay.status == decay.future.status == "exponential"
    assert any("both sides" in note for note in decay.notes)


def test_a_middle_step_of_a_model_that_reads_forwards_has_no_future() -> None:
    values = torch.zeros(20, 1, dtype=torch.float64)
    values[:11, 0] = 0.5 ** torch.arange(10, -1, -1)
    decay = found(results([values], step=[10]))
    assert decay.future is None and decay.window == (0, 10)
    assert decay.half_life == pytest.approx(1.0)


def test_burn_in_leaves_out_the_far_end_of_both_sides() -> None:
    values = torch.ones(20, 1, dtype=torch.float64)
    decay = found(results([values], step=[10]), burn_in=4)
    assert decay.lags.tolist() == list(range(7))
    assert decay.future is not None and decay.future.lags.tolist() == list(range(1, 6))


def test_a_model_that_reads_backwards_has_a_future_alone() -> None:
    values = torch.zeros(20, 1, dtype=torch.float64)
    values[11:, 0] = 0.5 ** torch.arange(1, 10)
    decay = found(results([values], step=[10]))
    assert decay.status == "too_short" and math.isnan(decay.half_life)
    assert decay.future is not None and decay.future.half_life == pytest.approx(1.0)
    assert math.isnan(decay.half_mass) and math.isnan(decay.mean_lag)


def test_attributions_of_anything_else_are_refused() -> None:
    [one] = ig.attribute(lambda x: x.sum(1), torch.ones(1, 3), domain="tensor")
    with pytest.raises(ig.InputError, match="of no sequence"):
        found([one])


def test_a_lag_of_a_pooled_or_two_way_model_is_explained() -> None:
    one = columns(0.5 ** np.arange(9))
    assert any(
        "mean over steps" in n for n in found(results(one, output=["mean over steps"])).notes
    )
    both = found(results(one, bidirectional=[True]))
    assert any("step='middle'" in note for note in both.notes)
    middle = found(results(one, bidirectional=[True], step=[8]))
    assert not any("step='middle'" in note for note in middle.notes)


def test_the_jacobian_is_that_at_the_input() -> None:
    x = torch.randn(3, 12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        return (0.7 ** torch.arange(11.0, -1, -1).double() * (x**3).sum(2)).sum(1)

    decay = attribution_decay(model, x, baseline=0.0, tol=1e-6)
    slopes = 3 * 0.7 ** np.arange(12) * (x**2).sum(2).mean(0).flip(0).numpy()
    assert decay.jacobian == pytest.approx(slopes, rel=1e-9)
    assert decay.status != "not_converged"
    assert attribution_decay(model, x, baseline=0.0, jacobian=False).jacobian is None


def test_ten_thousand_lags_are_soon_done() -> None:
    keep = 0.999
    values = [
        torch.tensor(keep ** np.arange(n)).flip(0)[:, None] for n in (10_000, 9_000, 8_000, 4_000)
    ]
    decay = find_decay(results(values))
    assert decay.half_life == pytest.approx(math.log(0.5) / math.log(keep), rel=1e-6)
    assert decay.status == "exponential"
