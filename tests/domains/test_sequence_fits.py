"""Curves through a profile: each is found again where it is the truth."""

import math
import sys

import numpy as np
import pytest
import torch

import ig_core as ig
from ig_sequences import attribution_decay
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.decay import Fit
from ig_sequences.decay.fits import fitted

LAGS = np.arange(80.0)
TRUTH = {
    "exponential": ({"amplitude": 3.0, "rate": 0.2}, math.log(2) / 0.2),
    "power": ({"amplitude": 3.0, "exponent": 1.5, "scale": 1.0}, 2 ** (1 / 1.5) - 1),
    "stretched": (
        {"amplitude": 3.0, "exponent": 0.6, "time": 5.0}, 5.0 * math.log(2) ** (1 / 0.6),
    ),
    "bi-exponential": (
        {"fast_amplitude": 2.0, "fast_rate": 0.5, "slow_amplitude": 1.0, "slow_rate": 0.05}, None,
    ),
}  # fmt: skip


def curve(name: str) -> Fit:
    parameters, _ = TRUTH[name]
    return Fit(name=name, parameters=parameters, half_life=0, aicc=0, r2=1, bow=0)


@pytest.mark.parametrize("name", TRUTH)
def test_a_curve_is_found_again(name: str) -> None:
    profile = curve(name).at(LAGS)
    found = fitted(LAGS, profile)[name]
    assert found.parameters == pytest.approx(TRUTH[name][0], rel=1e-4)
    assert found.at(LAGS) == pytest.approx(profile, rel=1e-4)
    assert found.r2 == pytest.approx(1.0) and found.bow == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("name", TRUTH)
def test_its_half_life_is_where_it_is_down_to_half(name: str) -> None:
    found = fitted(LAGS, curve(name).at(LAGS))[name]
    start, half = found.at(np.array([0.0, found.half_life]))
    assert half == pytest.approx(start / 2, rel=1e-9)
    if (expected := TRUTH[name][1]) is not None:
        assert found.half_life == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", TRUTH)
def test_aicc_prefers_the_truth_under_noise(name: str) -> None:
    noise = 0.03 * np.random.default_rng(0).standard_normal(len(LAGS))
    found = fitted(LAGS, curve(name).at(LAGS) * np.exp(noise))
    best = min(found.values(), key=lambda fit: fit.aicc)
    # A curve that contains the truth may come near, by up to the price of its parameters.
    assert found[name].aicc <= best.aicc + 2
    assert found[name].r2 > 0.98


def test_aicc_is_that_of_hurvich_and_tsai() -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(len(LAGS))
    found = fitted(LAGS, np.exp(-0.1 * LAGS + noise))["exponential"]
    slope, height = np.polyfit(LAGS, -0.1 * LAGS + noise, 1)
    error = ((-0.1 * LAGS + noise - height - slope * LAGS) ** 2).mean()
    free, count = 3, len(LAGS)  # height, slope and the size of the errors
    expected = count * math.log(error) + 2 * free + 2 * free * (free + 1) / (count - free - 1)
    assert found.aicc == pytest.approx(expected, rel=1e-9)
    assert found.parameters["rate"] == pytest.approx(-slope, rel=1e-9)


def test_the_bow_is_how_far_the_ends_lie_above_the_line() -> None:
    place = np.linspace(-1, 1, 41)
    found = fitted(np.arange(41.0), np.exp(-3 * place + 0.7 * place**2))
    assert found["exponential"].bow == pytest.approx(0.7, rel=1e-9)
    assert fitted(LAGS, curve("power").at(LAGS))["exponential"].bow > 0.5


def test_the_unit_of_the_lags_scales_the_half_lives() -> None:
    noise = 0.05 * np.random.default_rng(2).standard_normal(len(LAGS))
    profile = curve("stretched").at(LAGS) * np.exp(noise)
    steps, seconds = fitted(LAGS, profile), fitted(0.02 * LAGS, profile)
    for name in TRUTH:
        expected = 0.02 * steps[name].half_life
        assert seconds[name].half_life == pytest.approx(expected, rel=1e-3)
        assert seconds[name].aicc == pytest.approx(steps[name].aicc, abs=1e-2)


def test_what_grows_has_no_curve_that_fades() -> None:
    found = fitted(LAGS, np.exp(0.1 * LAGS))
    assert found.keys() == {"exponential", "power"}
    assert found["exponential"].half_life == found["power"].half_life == math.inf


def test_a_curve_needs_more_lags_than_parameters() -> None:
    short = np.arange(5.0)
    assert fitted(short, np.exp(-short)).keys() == {"exponential", "power"}
    assert fitted(np.arange(2.0), np.ones(2)) == {}


def test_without_scipy_a_decay_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    x = torch.ones(2, 20, 1, dtype=torch.float64)
    with pytest.raises(ig.MissingFrameworkError, match=r"pip install 'ig-core\[sequences\]'"):
        attribution_decay(LeakyIntegrator(0.8), x, baseline=0.0)
