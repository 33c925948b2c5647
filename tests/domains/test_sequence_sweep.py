"""Sweeps: a measure of memory against a parameter of the network."""

import json
import math

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_sequences import Sweep, sweep
from ig_sequences.cases.closed_forms import DelayLine, LeakyIntegrator, MovingAverage


def noise() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 100, 1, generator=generator, dtype=torch.float64)


def half_life(keep: float) -> float:
    return math.log(0.5) / math.log(keep)


def leaks(**options: object) -> Sweep:
    x = torch.ones(2, 100, 1, dtype=torch.float64)
    return sweep(LeakyIntegrator, [0.5, 0.8, 0.95], x, baseline=0.0, **options)


def test_half_lives_of_leaks_are_those_of_theory() -> None:
    found = leaks(parameter="leak", theory=half_life)
    assert found.half_lives == pytest.approx(found.theory, rel=1e-6)
    assert found.values == (0.5, 0.8, 0.95) and found.errors == ("", "", "")
    assert [decay.status for decay in found.decays if decay] == ["exponential"] * 3


def test_half_of_the_attribution_of_a_mean_lies_in_half_of_its_window() -> None:
    x = torch.ones(2, 100, 1, dtype=torch.float64)
    found = sweep(
        MovingAverage, [4, 10, 25], x, baseline=0.0, measure="half_mass",
        theory=lambda window: window / 2,
    )  # fmt: skip
    assert found.measured == pytest.approx(found.theory)


def test_the_peak_of_a_delay_line_is_its_delay() -> None:
    found = sweep(lambda delay: DelayLine(int(delay)), [3, 30], noise(), measure="peak_lag")
    assert found.measured.tolist() == [3.0, 30.0]


def test_a_value_that_fails_is_a_point_with_its_error() -> None:
    class Refuses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("too deep")

    def make(value: float) -> nn.Module:
        if value == 1:
            raise KeyError("no such width")
        return Refuses() if value == 2 else LeakyIntegrator(value)

    found = sweep(make, [0.5, 1, 2, 0.9], noise(), theory=lambda value: value)
    assert [decay is None for decay in found.decays] == [False, True, True, False]
    assert found.errors[1] == "no model: KeyError: 'no such width'"
    assert "too deep" in found.errors[2]
    assert math.isnan(found.half_lives[1]) and math.isfinite(found.half_lives[3])
    assert "too deep" in found.to_text()


def test_nothing_to_sweep_is_refused() -> None:
    with pytest.raises(ig.InputError, match="at least one value"):
        sweep(LeakyIntegrator, [], noise())
    with pytest.raises(ig.InputError, match=r"finite numbers \(got nan\)"):
        sweep(LeakyIntegrator, [0.5, math.nan], noise())
    with pytest.raises(ig.InputError, match=r"finite numbers \(got 'wide'\)"):
        sweep(LeakyIntegrator, ["wide"], noise())
    with pytest.raises(ig.InputError, match="measure must be one of half_life"):
        sweep(LeakyIntegrator, [0.5], noise(), measure="profile")
    with pytest.raises(ig.InputError, match="make_model must be a function"):
        sweep(LeakyIntegrator(0.5), [0.5], noise())  # type: ignore[arg-type]
    with pytest.raises(ig.InputError, match="no value of leak could be measured; the first: Input"):
        sweep(LeakyIntegrator, [0.5, 0.6], noise(), parameter="leak", burn_in=100)


def test_values_and_theory_that_are_none_are_refused() -> None:
    for values in ("55", 0.5):
        with pytest.raises(ig.InputError, match="a list of numbers"):
            sweep(LeakyIntegrator, values, noise())  # type: ignore[arg-type]
    with pytest.raises(ig.InputError, match=r"finite numbers \(got 1000"):
        sweep(LeakyIntegrator, [10**400], noise())
    for theory in (3.0, lambda value: None):
        with pytest.raises(ig.InputError, match=r"a function that gives a number \(TypeE"):
            sweep(LeakyIntegrator, [0.5], noise(), theory=theory)  # type: ignore[arg-type]


def test_theory_is_not_known_where_it_divides_by_zero() -> None:
    found = sweep(LeakyIntegrator, [0.5, 1], noise(), theory=half_life)
    assert found.theory is not None
    assert found.theory[0] == 1.0 and math.isnan(found.theory[1])


def test_a_sweep_tells_itself_as_table_text_and_json() -> None:
    found = leaks(parameter="leak", theory=half_life)
    header, first, *_ = found.table().to_csv().splitlines()
    assert header == "leak,half_life (steps),95 % low,95 % high,theory,status"
    assert first.startswith("0.5,1.0") and first.endswith("exponential")
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["measured"] == pytest.approx(told["theory"])
    assert [one["status"] for one in told["decays"]] == ["exponential"] * 3
    assert "0.8: 3.106" in repr(found)


def test_progress_is_told_of_values_or_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    leaks(progress=True, parameter="leak")
    assert "leak" in capsys.readouterr().out
    told = []
    leaks(progress=told.append)
    assert len(told) >= 3
