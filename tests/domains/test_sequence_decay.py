"""The half-life of a memory: closed forms, statuses, intervals."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_sequences import attribution_decay
from ig_sequences.analyses import AttributionDecay
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.decay import MEANING, find_decay

from_zero = partial(attribution_decay, baseline=0.0)


class Lags(nn.Module):
    """A linear filter: the sum over lags of weight(k) x(T - k)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight.double()

    def forward(self, x: Tensor) -> Tensor:
        return (x.sum(2).flip(1) * self.weight[: x.shape[1]]).sum(1)


def ones(sequences: int = 3, time: int = 100) -> Tensor:
    return torch.ones(sequences, time, 1, dtype=torch.float64)


def signs(sequences: int = 4, time: int = 60, features: int = 2) -> Tensor:
    """Inputs of magnitude .7: at every lag the path meets the same gradients up to the decay."""
    drawn = torch.rand(
        sequences, time, features, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    return 0.7 * (drawn - 0.5).sign()


@pytest.mark.parametrize("decay", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_a_leaky_integrator_forgets_half_in_its_half_life(decay: float) -> None:
    found = from_zero(LeakyIntegrator(decay), ones())
    expected = math.log(0.5) / math.log(decay)
    assert found.half_life == pytest.approx(expected, rel=1e-6)
    assert found.interval == pytest.approx((expected, expected), rel=1e-6)
    assert found.crossing == pytest.approx(expected, rel=1e-6)
    assert found.status == "exponential"
    assert found.peak_lag == 0 and found.r2 == pytest.approx(1.0)


@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_gate_without_recurrent_weights_forgets_like_its_sigmoid(kind: str, bias: float) -> None:
    """With zero recurrent weights, and inputs read by the candidate alone, the gates are constant:

    c_t = s c_{t-1} + (1 - s or i) g(x_t) with s = sigmoid(bias). For abs(x) the same at all steps,
    every gradient on the path is s^k times one that all lags share, so a(k) falls as s^k exactly.
    """
    torch.manual_seed(0)
    rnn = (nn.LSTM if kind == "lstm" else nn.GRU)(2, 4, batch_first=True).double()
    gate, candidate = slice(4, 8), slice(8, 12)  # torch orders i, f, g, o and r, z, n
    with torch.no_grad():
        read = rnn.weight_ih_l0[candidate].clone()
        for parameter in rnn.parameters():
            parameter.zero_()
        rnn.weight_ih_l0[candidate] = read
        rnn.bias_ih_l0[gate] = bias
    keep = 1 / (1 + math.exp(-bias))
    x = signs(features=2)
    x[..., 1] = x[..., 0]  # so that abs(w x) is the same at all steps too
    found = from_zero(rnn, x, target=0, output=0, step="last")
    assert found.half_life == pytest.approx(math.log(0.5) / math.log(keep), rel=1e-6)
    assert found.status == "exponential"


@pytest.mark.parametrize(("rho", "expected"), [(0.5, 1.00), (0.8, 3.11), (0.9, 6.58)])
def test_a_scaled_rotation_forgets_by_its_scale(rho: float, expected: float) -> None:
    torch.manual_seed(0)
    rnn = nn.RNN(4, 16, batch_first=True, bias=False).double()
    rotation = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0]
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(rho * rotation)
    readout = torch.randn(16, dtype=torch.float64)
    x = 0.1 * torch.randn(32, 100, 4, dtype=torch.float64)
    found = from_zero(rnn, x, target=lambda h: h @ readout, output=0, step="last")
    assert found.half_life == pytest.approx(expected, rel=0.05)
    assert found.status == "exponential"


LAG = torch.arange(100.0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("weight", "status", "peak", "window"),
    [
        (0.999**LAG, "censored", 0, (0, 99)),
        (torch.ones(100), "no_decay", 0, (0, 99)),
        (LAG == 10, "echo", 10, (10, 10)),
        (torch.exp(-0.5 * ((LAG - 30) / 4) ** 2), "echo", 30, (6, 54)),
        (LAG * torch.exp(-LAG / 5), "delayed_peak", 5, (1, 99)),
        (LAG < 12, "finite_window", 0, (0, 11)),
        (LAG < 1, "finite_window", 0, (0, 0)),
        (1 / (LAG + 1), "power_like", 0, (0, 99)),
        (0.5 * 0.5**LAG + 0.5 * 0.95**LAG, "non_exponential", 0, (0, 99)),
        (0.005**LAG, "too_short", 0, (0, 3)),
    ],
    ids=[
        "slow", "flat", "delay-line", "smeared-echo", "alpha-function", "moving-average",
        "memoryless", "power-law", "two-rates", "too-fast",
    ],
)  # fmt: skip
def test_a_memory_of_another_shape_has_its_own_status(
    weight: Tensor, status: str, peak: int, window: tuple[int, int]
) -> None:
    found = from_zero(Lags(weight), ones())
    assert (found.status, found.peak_lag, found.window) == (status, peak, window)
    assert found.reason.startswith(MEANING[found.status])


def test_a_censored_half_life_is_still_the_slope() -> None:
    found = from_zero(LeakyIntegrator(0.999), ones())
    assert found.status == "censored"
    assert found.half_life == pytest.approx(math.log(0.5) / math.log(0.999), rel=1e-6)
    assert found.crossing == math.inf


def test_a_half_life_is_not_defined_for_one_lag() -> None:
    found = from_zero(Lags(LAG == 10), ones())
    assert math.isnan(found.half_life)
    assert found.to_dict()["half_life"] is None


def test_a_short_sequence_is_told_and_a_length_one_sequence_works() -> None:
    assert from_zero(LeakyIntegrator(0.5), ones(2, 4)).status == "too_short"
    single = from_zero(LeakyIntegrator(0.5), ones(1, 1)[0])
    assert single.status == "too_short" and math.isnan(single.half_life)


def test_half_the_mass_lies_within_the_half_life_of_an_exponential() -> None:
    found = from_zero(LeakyIntegrator(0.8), ones())
    assert found.half_mass == pytest.approx(math.log(0.5) / math.log(0.8), rel=1e-6)
    assert from_zero(Lags(LAG < 12), ones()).half_mass == pytest.approx(6.0)


def test_the_crossing_is_that_of_the_pooled_profile() -> None:
    # Pooling 1 and 3 gives (4, 4, 2, 2, 1): at lag 2 the profile is down to half of 4.
    weight = torch.tensor([4.0, 4.0, 1.0, 3.0, 1.0])
    assert from_zero(Lags(weight), ones(2, 5)).crossing == pytest.approx(2.0)


def test_lags_are_counted_from_each_sequence_s_own_end() -> None:
    lengths = (30, 8, 21)
    listed = from_zero(LeakyIntegrator(0.8), [ones(1, n)[0] for n in lengths])
    assert listed.half_life == pytest.approx(math.log(0.5) / math.log(0.8), rel=1e-6)
    assert listed.count.tolist() == [3] * 8 + [2] * 13 + [1] * 9
    padded = from_zero(LeakyIntegrator(0.8), ones(3, 30), lengths=lengths)
    assert padded.profile == pytest.approx(listed.profile)


def test_burn_in_drops_the_oldest_steps() -> None:
    weight = 0.8 ** LAG.clone()
    weight[35:] = 1e-2  # what an initial state leaves on the oldest five steps
    spoilt = from_zero(Lags(weight), ones(time=40))
    found = from_zero(Lags(weight), ones(time=40), burn_in=5)
    expected = math.log(0.5) / math.log(0.8)
    assert abs(spoilt.half_life - expected) > 0.1
    assert found.half_life == pytest.approx(expected, rel=1e-6)
    assert len(found.profile) == 35


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    torch.manual_seed(0)
    x = torch.randn(60 * 32, 20, 1, dtype=torch.float64)
    results = ig.attribute(LeakyIntegrator(0.8), x, domain="sequences")
    truth = math.log(0.5) / math.log(0.8)
    found = [find_decay(results[i : i + 32], bootstrap=200) for i in range(0, len(x), 32)]
    held = sum(low < truth < high for low, high in (one.interval for one in found))
    assert 51 <= held < 60  # of 60; 57 would be 95 %


def test_one_sequence_has_no_interval_and_few_are_told() -> None:
    single = from_zero(LeakyIntegrator(0.5), ones(1))
    assert all(math.isnan(end) for end in single.interval)
    assert "too narrow" in from_zero(LeakyIntegrator(0.5), ones(8)).reason
    assert "too narrow" not in from_zero(LeakyIntegrator(0.5), ones(9)).reason


def test_draws_without_a_slope_leave_no_interval() -> None:
    x = [ones(1, 1)[0]] * 30 + [ones(1, 9)[0]]
    alone = from_zero(LeakyIntegrator(0.5), x, bootstrap=1, seed=1)
    assert alone.half_life == pytest.approx(1.0) and math.isnan(alone.interval[0])


def test_the_seed_decides_the_interval() -> None:
    x = torch.randn(12, 30, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, again, other = (
        from_zero(LeakyIntegrator(0.8), x, seed=seed).interval for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.filterwarnings("ignore::ig_core.NotConvergedWarning")
def test_a_missed_tolerance_is_the_status() -> None:
    found = from_zero(LeakyInSigmoid(), ones(2, 30), tol=1e-9, budget=11)
    assert found.status == "not_converged"


class LeakyInSigmoid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        weight = 0.8 ** torch.arange(x.shape[1] - 1, -1, -1)
        return torch.sigmoid(40 * (x[..., 0] * weight).sum(1))


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ig.InputError, match="no step has any attribution"):
        from_zero(LeakyIntegrator(0.5), ones(), baseline="time-mean")
    with pytest.raises(ig.InputError, match="after burn_in=100"):
        from_zero(LeakyIntegrator(0.5), ones(), burn_in=100)
    with pytest.raises(ig.InputError, match="no step is left of 0 sequences"):
        from_zero(LeakyIntegrator(0.5), [])
    with pytest.raises(ig.InputError, match="burn_in must be"):
        from_zero(LeakyIntegrator(0.5), ones(), burn_in=-1)
    with pytest.raises(ig.InputError, match="bootstrap must be"):
        from_zero(LeakyIntegrator(0.5), ones(), bootstrap=1.5)
    with pytest.raises(ig.InputError, match=r"bootstrap must be at most 100000 .*1000000000000"):
        from_zero(LeakyIntegrator(0.5), ones(), bootstrap=10**12)
    with pytest.raises(ig.InputError, match="leave out domain="):
        from_zero(LeakyIntegrator(0.5), ones(), domain="tensor")
    assert from_zero(LeakyIntegrator(0.5), ones(), domain="sequences").sequences == 3


def test_the_analysis_is_registered_and_finds_the_same() -> None:
    found = ig.plugins().find("analysis", "attribution-decay", "sequences")
    assert found is AttributionDecay
    results = ig.attribute(LeakyIntegrator(0.8), ones(), domain="sequences")
    direct = from_zero(LeakyIntegrator(0.8), ones())
    assert found().find(results, burn_in=0).half_life == direct.half_life
    assert "half_life=3.106" in repr(direct)
