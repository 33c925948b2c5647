"""The half-life of a memory: closed forms, statuses, intervals."""

import itertools
import json
import math
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_sequences import ForwardFill, attribution_decay
from ig_sequences.analyses import AttributionDecay
from ig_sequences.cases.closed_forms import (
    AlibiHead,
    DelayLine,
    DiagonalSSM,
    ImpulseResponse,
    LeakyIntegrator,
    MovingAverage,
    PowerLaw,
    chrono_lstm,
    constant_gates,
    scaled_rotation,
)
from ig_sequences.decay import MEANING, find_decay

from_zero = partial(attribution_decay, baseline=0.0)


def ones(sequences: int = 3, time: int = 100) -> Tensor:
    return torch.ones(sequences, time, 1, dtype=torch.float64)


def signs(sequences: int = 4, time: int = 60, features: int = 2) -> Tensor:
    """Inputs of magnitude .7: at every lag the path meets the same gradients up to the decay."""
    drawn = torch.rand(
        sequences, time, features, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    return 0.7 * (drawn - 0.5).sign()


def small_noise(features: int) -> Tensor:
    """Inputs so small that tanh is linear."""
    generator = torch.Generator().manual_seed(0)
    return 0.01 * torch.randn(32, 100, features, generator=generator, dtype=torch.float64)


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
def test_a_gate_without_recurrent_weights_forgets_like_its_sigmoid(
    kind: Literal["lstm", "gru"], bias: float
) -> None:
    """c_t = s c_{t-1} + (1 - s or i) g(w x_t) with s = sigmoid(bias): for abs(x) the same at all
    steps, every gradient on the path is s^k times one that all lags share."""
    model = constant_gates(kind, bias)
    found = from_zero(model, signs(features=1), target=0, output=0, step="last")
    keep = 1 / (1 + math.exp(-bias))
    assert found.half_life == pytest.approx(math.log(0.5) / math.log(keep), rel=1e-6)
    assert found.status == "exponential"


@pytest.mark.parametrize(("rate", "delta"), [(-0.5, 1.0), (-1.0, 0.1), (-0.05, 2.0)])
def test_a_diagonal_state_space_model_forgets_by_its_rate(rate: float, delta: float) -> None:
    found = from_zero(DiagonalSSM(rate, delta), signs())
    assert found.half_life == pytest.approx(math.log(2) / (-rate * delta), rel=1e-6)
    assert found.status == "exponential"


@pytest.mark.parametrize("slope", [0.5, 0.25, 0.0625])
def test_a_head_with_alibi_alone_forgets_by_its_slope(slope: float) -> None:
    found = from_zero(AlibiHead(slope), signs())
    assert found.half_life == pytest.approx(math.log(2) / slope, rel=1e-6)
    assert found.status == "exponential"


@pytest.mark.parametrize("radius", [0.5, 0.8, 0.9, 0.95])
def test_a_scaled_rotation_forgets_by_its_scale(radius: float) -> None:
    x = small_noise(features=8)
    found = attribution_decay(scaled_rotation(radius), x, step="last")
    assert found.half_life == pytest.approx(math.log(0.5) / math.log(radius), rel=0.02)
    low, high = found.interval
    assert low < found.half_life < high
    assert found.status == "exponential"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_projection_that_spares_the_newest_step_leaves_a_rotation_exponential(seed: int) -> None:
    """One number of a rotating state goes up and down; lag 0 does, and the crossing with it."""
    model = scaled_rotation(0.8, seed=seed)
    found = attribution_decay(model, small_noise(features=8), step="last", jacobian=False)
    assert found.half_life == pytest.approx(3.106, rel=0.05)
    assert found.status == "exponential"


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_a_newest_step_far_above_the_line_is_not_called_exponential(noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = 0.9 ** torch.arange(60.0, dtype=torch.float64)
    weight[0] = 3.0
    factors = torch.randn(32, 60, generator=generator, dtype=torch.float64).mul(noise).exp()
    template = ig.attribute(LeakyIntegrator(0.5), ones(1, 60), domain="sequences")[0]
    given = [replace(template, tensors={"x": one.flip(0)[:, None]}) for one in weight * factors]
    found = find_decay(given, bootstrap=200)
    assert found.r2 > 0.95 and found.crossing < 1
    assert found.status == "non_exponential"


def test_an_lstm_remembers_the_longer_the_more_its_forget_gate_opens() -> None:
    x = small_noise(features=4)
    lives = [attribution_decay(chrono_lstm(b), x, step="last").half_life for b in range(5)]
    gates_alone = [math.log(0.5) / math.log(1 / (1 + math.exp(-b))) for b in range(5)]
    assert all(now > before for before, now in itertools.pairwise(lives))
    assert all(life > gates for life, gates in zip(lives, gates_alone, strict=True))


def test_an_lstm_whose_input_gate_stays_open_is_said_to_grow_with_the_lag() -> None:
    x = torch.randn(32, 100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = from_zero(chrono_lstm(4.0, input_bias=0.0), x, step="last")
    assert found.status == "no_decay" and found.half_life == math.inf
    assert any("grows with the lag" in note for note in found.notes)


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
        ((LAG + 1) ** -3, "power_like", 0, (0, 99)),
        (0.005**LAG, "too_short", 0, (0, 3)),
        (1.02**LAG, "no_decay", 99, (0, 99)),
        (torch.cosh((LAG - 52) / 15), "non_exponential", 0, (0, 99)),
        (((LAG == 0) | (LAG == 30)) * 1.0, "echo", 0, (0, 0)),
        (0.5**LAG + 0.1 * (LAG == 60), "echo", 0, (0, 26)),
    ],
    ids=[
        "slow", "flat", "delay-line", "smeared-echo", "alpha-function", "moving-average",
        "memoryless", "power-law", "two-rates", "steep-power-law", "too-fast", "growing",
        "there-and-back", "two-moments", "leak-and-echo",
    ],
)  # fmt: skip
def test_a_memory_of_another_shape_has_its_own_status(
    weight: Tensor, status: str, peak: int, window: tuple[int, int]
) -> None:
    found = from_zero(ImpulseResponse(weight), ones())
    assert (found.status, found.peak_lag, found.window) == (status, peak, window)
    assert found.reason.startswith(MEANING[found.status])


def test_a_censored_half_life_is_still_the_slope() -> None:
    found = from_zero(LeakyIntegrator(0.999), ones())
    assert found.status == "censored"
    assert found.half_life == pytest.approx(math.log(0.5) / math.log(0.999), rel=1e-6)
    assert found.crossing == math.inf


def test_a_half_life_is_not_defined_for_one_lag() -> None:
    found = from_zero(ImpulseResponse(LAG == 10), ones())
    assert math.isnan(found.half_life)
    assert found.to_dict()["half_life"] is None


def test_a_short_sequence_is_told_and_a_length_one_sequence_works() -> None:
    assert from_zero(LeakyIntegrator(0.5), ones(2, 4)).status == "too_short"
    single = from_zero(LeakyIntegrator(0.5), ones(1, 1)[0])
    assert single.status == "too_short" and math.isnan(single.half_life)


def test_half_the_mass_lies_within_the_half_life_of_an_exponential() -> None:
    found = from_zero(LeakyIntegrator(0.8), ones())
    assert found.half_mass == pytest.approx(math.log(0.5) / math.log(0.8), rel=1e-6)
    assert from_zero(ImpulseResponse(LAG < 12), ones()).half_mass == pytest.approx(6.0)


def test_the_crossing_is_that_of_the_pooled_profile() -> None:
    # Pooling 1 and 3 gives (4, 4, 2, 2, 1): at lag 2 the profile is down to half of 4.
    weight = torch.tensor([4.0, 4.0, 1.0, 3.0, 1.0])
    assert from_zero(ImpulseResponse(weight), ones(2, 5)).crossing == pytest.approx(2.0)


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
    spoilt = from_zero(ImpulseResponse(weight), ones(time=40))
    found = from_zero(ImpulseResponse(weight), ones(time=40), burn_in=5)
    expected = math.log(0.5) / math.log(0.8)
    assert abs(spoilt.half_life - expected) > 0.1
    assert found.half_life == pytest.approx(expected, rel=1e-6)
    assert len(found.profile) == 35


@pytest.mark.filterwarnings("ignore::ig_core.NotConvergedWarning")
def test_a_missed_tolerance_is_the_status() -> None:
    found = from_zero(LeakyInSigmoid(), ones(2, 30), tol=1e-9, budget=11)
    assert found.status == "not_converged"
    assert any("2 of 2 attributions missed their tolerance" in note for note in found.notes)
    assert any("largest residual" in note for note in found.notes)


@pytest.mark.filterwarnings("ignore::ig_core.NotConvergedWarning")
def test_attributions_that_miss_all_are_no_proof_of_no_memory() -> None:
    """Saturated at every node of a coarse rule: the values are 0, and the residual is all."""
    with pytest.raises(ig.InputError, match="or 2 missed their tolerance: raise budget or steps"):
        from_zero(LeakyInSigmoid(), ones(2, 30), rule="midpoint", steps=2)


def test_a_sequence_that_failed_is_left_out_and_told() -> None:
    given = ig.attribute(LeakyIntegrator(0.5), ones(), domain="sequences")
    broken = replace(given[0], status="failed", reason="it broke")
    found = find_decay([broken, *given[1:]])
    assert (found.status, found.left_out, found.sequences) == ("not_converged", 1, 2)
    assert found.half_life == pytest.approx(1.0)
    assert any("1 of 3 attributions failed" in n and "it broke" in n for n in found.notes)


def test_a_method_that_promises_no_sum_is_no_miss() -> None:
    found = from_zero(LeakyIntegrator(0.5), ones(), method="gradient-x-input")
    assert found.status == "exponential"
    assert any("promises no sum" in note for note in found.notes)


class LeakyInSigmoid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        weight = 0.8 ** torch.arange(x.shape[1] - 1, -1, -1)
        return torch.sigmoid(40 * (x[..., 0] * weight).sum(1))


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ig.InputError, match="no step has any attribution"):
        from_zero(LeakyIntegrator(0.5), ones(), baseline="time-mean")
    with pytest.raises(ig.InputError, match="after burn_in=100"):
        from_zero(LeakyIntegrator(0.5), ones(), burn_in=100)
    with pytest.raises(ig.InputError, match="needs at least one sequence"):
        from_zero(LeakyIntegrator(0.5), [])
    with pytest.raises(ig.InputError, match="burn_in must be"):
        from_zero(LeakyIntegrator(0.5), ones(), burn_in=-1)
    with pytest.raises(ig.InputError, match="bootstrap must be"):
        from_zero(LeakyIntegrator(0.5), ones(), bootstrap=1.5)
    with pytest.raises(ig.InputError, match=r"bootstrap must be at most 100000 .*1000000000000"):
        from_zero(LeakyIntegrator(0.5), ones(), bootstrap=10**12)
    with pytest.raises(ig.InputError, match="reduce must be 'abs-sum'"):
        from_zero(LeakyIntegrator(0.5), ones(), reduce="sum")
    with pytest.raises(ig.InputError, match="normalise must be 'input'"):
        from_zero(LeakyIntegrator(0.5), ones(), normalise=True)
    with pytest.raises(ig.InputError, match="give target=, and call once"):
        from_zero(LeakyIntegrator(0.5), ones(), targets=[0, 1])
    with pytest.raises(ig.InputError, match="has no step 5 that was explained"):
        [one] = ig.attribute(LeakyIntegrator(0.5), ones(1, 5), domain="sequences")
        find_decay([replace(one, display={"step": 5})])
    with pytest.raises(ig.InputError, match="leave out domain="):
        from_zero(LeakyIntegrator(0.5), ones(), domain="tensor")
    assert from_zero(LeakyIntegrator(0.5), ones(), domain="sequences").sequences == 3


def test_what_is_no_list_of_results_or_no_seed_is_refused() -> None:
    one = ig.attribute(LeakyIntegrator(0.5), ones(1, 30)[0], domain="sequences")
    assert find_decay(one).half_life == find_decay([one]).half_life == 1.0
    with pytest.raises(ig.InputError, match=r"a list of attributions \(got int\)"):
        find_decay([1])  # type: ignore[list-item]
    for seed in (-1, 0.5):
        with pytest.raises(ig.InputError, match=f"seed must be .* at least 0 .got {seed}"):
            find_decay([one], seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("display", "told"),
    [
        ({"step": "3"}, "explained step of a result is a whole number .got '3'"),
        ({"start": {"moved": [1.0]}}, "how far each of its 4 steps moved"),
        ({"start": {"moved": ["<b>"] * 4}}, "how far each of its 4 steps moved"),
        ({"times": "0123"}, "times must be 4 finite numbers"),
        ({"times": [[0.0], [1.0, 2.0], [], []]}, "times must be 4 finite numbers"),
    ],
    ids=["step", "few-moved", "text-moved", "text-times", "ragged-times"],
)
def test_results_that_a_file_has_told_wrongly_are_refused(
    display: dict[str, object], told: str
) -> None:
    [one] = ig.attribute(LeakyIntegrator(0.5), ones(1, 4), domain="sequences")
    with pytest.raises(ig.InputError, match=told):
        find_decay([replace(one, display=display)])


@pytest.mark.parametrize("begin", [1, 5, -12])
def test_where_no_input_moves_no_memory_ends(begin: int) -> None:
    """A forward fill leaves the oldest steps as they are: nothing is known of their lags."""
    x = torch.randn(32, 20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = attribution_decay(LeakyIntegrator(0.8), x, baseline=ForwardFill(begin))
    moved = begin % 20
    assert (
        found.status == "exponential" and found.count.tolist() == [32] * (20 - moved) + [0] * moved
    )


def test_times_of_which_there_is_no_slope_are_refused() -> None:
    for unit in (1e300, 1e-300):
        times = unit * torch.arange(20, dtype=torch.float64).expand(3, 20)
        with pytest.raises(ig.InputError, match="give them in another unit"):
            from_zero(LeakyIntegrator(0.5), ones(3, 20), times=times)


class Tagger(nn.Module):
    """A leak of .5 that answers at every step, or at all but the first ones."""

    def __init__(self, skipped: int = 0) -> None:
        super().__init__()
        self.skipped = skipped

    def forward(self, x: Tensor) -> Tensor:
        found = [x[:, 0]]
        for t in range(1, x.shape[1]):
            found.append(0.5 * found[-1] + x[:, t])
        return torch.stack(found[self.skipped :], 1)


@pytest.mark.parametrize("lengths", [(20, 20, 20), (20, 14, 17)])
def test_a_target_that_names_a_step_explains_that_step(lengths: tuple[int, ...]) -> None:
    x = [ones(1, n)[0] for n in lengths]
    by_target = attribution_decay(Tagger(), x, (12, 0), domain="sequences", baseline=0.0)
    by_step = attribution_decay(Tagger(), x, 0, step=12, domain="sequences", baseline=0.0)
    assert by_target.half_life == by_step.half_life == pytest.approx(1.0)
    assert (by_target.peak_lag, by_target.notes, by_step.notes) == (0, (), ())
    [told] = ig.attribute(Tagger(), ones(1, 20), target=(12, 0), domain="sequences")
    assert told.display["step"] == 12 and told.display["output"] == "step 12, by the target"


def test_each_sequence_has_the_step_of_its_own_target() -> None:
    found = ig.attribute(Tagger(), ones(2, 20), target=[(12, 0), (19, 0)], domain="sequences")
    assert [one.display.get("step") for one in found] == [12, None]


def test_a_target_that_may_name_a_step_is_told() -> None:
    found = from_zero(Tagger(skipped=4), ones(3, 20), (8, 0))
    assert found.peak_lag == 7
    assert any("lags still count from the sequence's end" in note for note in found.notes)


@pytest.mark.parametrize(("power", "change"), [(3.0, "grow"), (-1.0, "shrink")])
def test_inputs_that_change_along_time_are_told_from_the_memory(power: float, change: str) -> None:
    """Amplitudes that rise as exp(power t / T) shorten the half-life of a, and not of a / |x|."""
    x = torch.randn(32, 60, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = torch.exp(torch.linspace(-power, 0, 60, dtype=torch.float64))
    found = from_zero(LeakyIntegrator(0.95), x * sizes[:, None])
    rate = -math.log(0.95) + power / 59
    assert found.half_life == pytest.approx(math.log(2) / rate, rel=0.06)
    assert found.per_moved == pytest.approx(math.log(0.5) / math.log(0.95), rel=1e-6)
    [note] = [note for note in found.notes if "inputs themselves" in note]
    factor = float(note.split("factor of ")[1].split()[0])
    assert f"{change} along time" in note and "half-life of a / |x - x'| is 13.5" in note
    assert factor == pytest.approx(math.exp(abs(power)), rel=0.4)
    model = from_zero(LeakyIntegrator(0.95), x * sizes[:, None], normalise="input")
    assert model.half_life == pytest.approx(found.per_moved) and model.notes == ()
    usual = from_zero(LeakyIntegrator(0.95), x)
    assert not any("|x - x'|" in note for note in usual.notes)
    rows = {row[0]: row[1] for row in found.summary().rows}
    assert rows["per moved"] == found.to_dict()["per_moved"] == found.per_moved


def test_random_walks_are_told_from_the_memory() -> None:
    x = torch.randn(32, 60, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = attribution_decay(LeakyIntegrator(0.8), x.cumsum(1))
    assert found.interval[1] < found.per_moved == pytest.approx(3.1063, abs=1e-4)
    assert any("a / |x - x'| is 3.11" in note for note in found.notes)


def test_the_analysis_is_registered_and_finds_the_same() -> None:
    found = ig.plugins().find("analysis", "attribution-decay", "sequences")
    assert found is AttributionDecay
    results = ig.attribute(LeakyIntegrator(0.8), ones(), domain="sequences")
    direct = from_zero(LeakyIntegrator(0.8), ones())
    assert found().find(results, burn_in=0).half_life == direct.half_life
    assert "half_life=3.106" in repr(direct)


@pytest.mark.parametrize(
    ("model", "status", "peak"),
    [
        (DelayLine(25), "echo", 25),
        (MovingAverage(12), "finite_window", 0),
        (PowerLaw(1), "power_like", 0),
    ],
)
def test_memories_of_noise_are_told_apart(model: nn.Module, status: str, peak: int) -> None:
    x = torch.randn(32, 60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = attribution_decay(model, x)
    assert found.status == status
    if status == "echo":
        assert found.peak_lag == peak


@pytest.mark.parametrize("sequences", [4, 8, 32])
def test_noise_is_not_called_exponential(sequences: int) -> None:
    generator = torch.Generator().manual_seed(sequences)
    template = ig.attribute(LeakyIntegrator(0.5), ones(1, 60), domain="sequences")[0]
    for _ in range(20):
        noise = 0.3 * torch.randn(sequences, 60, generator=generator, dtype=torch.float64)
        for values in (noise.abs(), noise.cumsum(1).exp(), noise.mul(5).exp()):
            given = [replace(template, tensors={"x": one.flip(0)[:, None]}) for one in values]
            assert find_decay(given, bootstrap=200).status != "exponential"


def of_profiles(values: Tensor) -> list[ig.Attribution]:
    """Attributions with these numbers, one row a sequence, at rising lags."""
    template = ig.attribute(LeakyIntegrator(0.5), ones(1, 60), domain="sequences")[0]
    return [replace(template, tensors={"x": one.flip(0)[:, None]}, display={}) for one in values]


def test_scatter_that_leaves_a_wide_interval_is_not_called_exponential() -> None:
    """Few lags are off the line by more than chance, and no shape shows in so much noise."""
    generator = torch.Generator().manual_seed(0)
    wide = 0
    for _ in range(20):
        noise = torch.randn(12, 60, generator=generator, dtype=torch.float64)
        found = find_decay(of_profiles((1.2 * noise - 0.02 * torch.arange(60)).exp()))
        low, high = found.interval
        if found.r2 < 0.95 and high > 2 * low and math.isfinite(high):
            wide += 1
            assert found.status == "non_exponential"
            assert f"the interval is wide ({low:.3g} to {high:.3g})" in found.reason
    assert wide >= 5


def test_the_reason_says_what_is_not_exponential() -> None:
    bends = from_zero(ImpulseResponse(torch.exp(-((LAG / 30) ** 2))), ones())
    assert "it bends (the ends of ln a(k) are off its line by -" in bends.reason
    turns = from_zero(ImpulseResponse(torch.cosh((LAG - 52) / 15)), ones())
    assert "it falls and rises again" in turns.reason
    weight = 0.9**LAG
    weight[0] = 3.0
    start = from_zero(ImpulseResponse(weight), ones())
    assert "it bends" not in start.reason and "wide" not in start.reason
    told = f"down to half at {start.crossing:.3g}, and the half-life is {start.half_life:.3g}"
    assert told in start.reason


def test_the_reason_says_where_a_window_ends() -> None:
    assert "its last lag is 11" in from_zero(ImpulseResponse(LAG < 12), ones()).reason


def test_fewer_lags_than_a_slope_needs_are_too_short_for_an_echo() -> None:
    found = from_zero(ImpulseResponse(torch.tensor([0.1, 0.1, 5.0])), ones(4, 3))
    assert found.status == "too_short"


def test_a_slow_leak_that_reads_noise_is_exponential_all_the_same() -> None:
    x = torch.randn(32, 200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = attribution_decay(LeakyIntegrator(0.995), x, jacobian=False)
    low, high = found.interval
    assert found.r2 < 0.95 and low < math.log(0.5) / math.log(0.995) < high
    assert found.status == "exponential"


def test_a_larger_output_scales_the_profile_and_not_the_half_life() -> None:
    x = torch.randn(6, 40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = chrono_lstm(1.0, features=2)
    found = attribution_decay(model, x, target=lambda y: y, step="last", tol=1e-6)
    scaled = attribution_decay(model, x, target=lambda y: -1000 * y, step="last", tol=1e-6)
    assert scaled.profile == pytest.approx(1000 * found.profile, rel=1e-9)
    for name in ("half_life", "interval", "crossing", "half_mass", "mean_lag", "after_peak", "r2"):
        assert getattr(scaled, name) == pytest.approx(getattr(found, name), rel=1e-6)
    assert scaled.status == found.status


def test_the_order_of_the_sequences_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (30, 20, 25, 30)]
    found, turned = (
        attribution_decay(LeakyIntegrator(0.8), given, bootstrap=0) for given in (x, x[::-1])
    )
    assert turned.profile == pytest.approx(found.profile, rel=1e-12)
    assert turned.half_life == pytest.approx(found.half_life, rel=1e-12)


def test_a_feature_that_never_changes_changes_nothing() -> None:
    x = torch.randn(5, 30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    constant = torch.cat([x, torch.full((5, 30, 1), 7.0, dtype=torch.float64)], 2)
    found = attribution_decay(LeakyIntegrator(0.8), x)
    wider = attribution_decay(LeakyIntegrator(0.8), constant)
    assert wider.profile == pytest.approx(found.profile, rel=1e-12)
    assert wider.half_life == pytest.approx(found.half_life, rel=1e-12)


def test_a_decay_tells_itself_as_text_table_and_json() -> None:
    found = from_zero(LeakyIntegrator(0.5), ones(4, 30))
    text = found.to_text()
    assert "half-life" in text and found.reason in text and "bi-exponential" in text
    header, *rows = found.table().to_csv().splitlines()
    assert header.startswith("lag,n,mean,geometric mean") and "Jacobian" in header
    assert len(rows) == 30 and rows[1].startswith("1.0,4,0.5,")
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["half_life"] == 1.0 and told["fits"]["exponential"]["half_life"] == 1.0
    assert told["crossing"] == pytest.approx(1.0) and told["future"] is None
    assert np.array(told["profile"]) == pytest.approx(found.profile)
