"""Pictures of decays and sweeps: the numbers that they were given, and pages around them."""

import base64
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_sequences import Decay, Sweep, attribution_decay, sweep
from ig_sequences.cases.closed_forms import ImpulseResponse, LeakyIntegrator
from ig_sequences.view import pages

EVIL = "<script>alert(1)</script>\x1b[31m\u202e"
LAG = torch.arange(60.0, dtype=torch.float64)


def drawn(count: int = 8, time: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, time, 1, generator=generator, dtype=torch.float64)


def of(weight: Tensor, count: int = 8) -> Decay:
    return attribution_decay(ImpulseResponse(weight), drawn(count), baseline=0.0)


def named(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


# -- the decay ----------------------------------------------------------------------------------


def test_points_are_the_profile_and_the_line_has_the_slope_of_the_half_life() -> None:
    found = of(0.8**LAG)
    axes, counts = found.plot().axes
    lines = named(axes)
    assert lines["a(k)"].get_ydata() == pytest.approx(found.profile)
    assert lines["a(k)"].get_xdata().tolist() == found.lags.tolist()
    x, y = lines[f"half-life {found.half_life:.3g} steps"].get_data()
    slope = np.diff(np.log(y)) / np.diff(x)
    assert slope == pytest.approx(np.full(len(slope), -math.log(2) / found.half_life))
    assert axes.get_yscale() == "log"
    assert [bar.get_height() for bar in counts.patches] == found.count.tolist()


def test_the_half_life_is_marked_where_the_line_has_halved() -> None:
    found = of(0.8**LAG)
    axes = found.plot().axes[0]
    [dotted] = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    line = named(axes)[f"half-life {found.half_life:.3g} steps"]
    assert dotted.get_xdata()[1] == pytest.approx(found.half_life)
    assert dotted.get_ydata()[0] == pytest.approx(line.get_ydata()[0] / 2)


def test_a_half_life_beyond_the_lags_is_not_marked() -> None:
    axes = of(0.999**LAG).plot().axes[0]
    assert not [line for line in axes.get_lines() if line.get_linestyle() == ":"]


def test_the_interval_is_a_fan_between_its_two_slopes() -> None:
    found = of(0.8**LAG)
    fan = found.plot().axes[0].collections[-1]
    edge = fan.get_paths()[0].vertices
    low, high = np.sort(edge[edge[:, 0] == found.lags[-1], 1])[[0, -1]]
    first = np.sort(edge[edge[:, 0] == 0.0, 1])[[0, -1]]
    slopes = np.log([first[1] / low, first[0] / high]) / found.lags[-1]
    assert np.log(2) / slopes == pytest.approx(found.interval, rel=1e-6)


def test_lags_without_attribution_are_left_out_and_lags_above_are_shown() -> None:
    found = of((LAG < 12).double())
    points = named(found.plot().axes[0])["a(k)"]
    assert points.get_xdata().tolist() == list(range(12))


def test_a_better_fit_is_shown_with_its_r2() -> None:
    labels = named(of((LAG + 1) ** -1.2).plot().axes[0])
    assert any(label.startswith("power fit, R2 0.9") for label in labels)
    exact = attribution_decay(
        ImpulseResponse(0.8**LAG), torch.ones(3, 60, 1).double(), baseline=0.0
    )
    assert not any("fit" in label for label in named(exact.plot().axes[0]))


def test_the_jacobian_is_scaled_to_the_profile() -> None:
    found = of(0.8**LAG)
    assert found.jacobian is not None
    line = named(found.plot().axes[0])["Jacobian at x (scaled)"]
    assert max(line.get_ydata()) == pytest.approx(found.profile.max())
    ratio = line.get_ydata() / found.jacobian
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]))


def test_the_future_side_is_drawn_at_negative_lags() -> None:
    past = of(0.8**LAG)
    both = replace(past, future=of(0.5**LAG))
    upper, lower = both.plot().axes
    assert upper.get_xlim()[0] < -50 and upper.get_xlim()[1] > 50
    assert len(lower.patches) == 120
    html = both.to_html()
    assert "After the explained step: half-life" in html and html.count("60 lags") == 2


def test_the_page_tells_half_life_status_and_every_lag() -> None:
    found = of(0.8**LAG, 12)
    html = found.to_html()
    low, high = found.interval
    assert f"Half-life {found.half_life:.3g} steps (95 %: {low:.3g} to {high:.3g})" in html
    assert "<strong>exponential</strong>" in html and 'class="warn"' not in html
    for number in (found.crossing, found.half_mass, found.mean_lag):
        assert f">{number:.3g}<" in html
    assert "60 lags" in html and "one in" not in html
    [source] = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert b"<svg" in base64.b64decode(source)


def test_a_status_that_is_not_exponential_is_a_warning() -> None:
    assert 'class="warn"><strong>power_like' in of((LAG + 1) ** -1.2).to_html()


def test_a_page_of_many_lags_shows_some_of_them() -> None:
    x = torch.ones(2, 1000, 1, dtype=torch.float64)
    html = attribution_decay(LeakyIntegrator(0.99), x, baseline=0.0).to_html()
    assert "1000 lags, one in 5 is shown" in html and html.count("<tr>") < 250


def test_without_matplotlib_the_page_has_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*size: float) -> None:
        raise ig.MissingFrameworkError("plots need matplotlib")

    monkeypatch.setattr("ig_sequences.view.decay.new_figure", missing)
    html = of(0.8**LAG).to_html()
    assert "pip install &#39;ig-core[viz]&#39;" in html or "pip install 'ig-core[viz]'" in html
    assert "<img" not in html and "half-mass" in html


def test_notes_are_escaped() -> None:
    html = replace(of(0.8**LAG), notes=(EVIL,)).to_html()
    assert "<script" not in html and "\x1b" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("half_life", "interval", "words"),
    [
        (math.nan, (math.nan, math.nan), "no half-life"),
        (math.inf, (149.3, math.inf), "no half-life (95 %: 149 or more)"),
        (12.2, (4.557, math.inf), "half-life 12.2 steps (95 %: 4.56 or more)"),
        (2.0, (1.5, 3.0), "half-life 2 steps (95 %: 1.5 to 3)"),
        (2.0, (math.nan, math.nan), "half-life 2 steps"),
        (4.7e66, (149.3, math.inf), "half-life far beyond the lags (95 %: 149 or more)"),
        (math.inf, (math.inf, math.inf), "no half-life (95 %: far beyond the lags)"),
    ],
)
def test_a_half_life_is_told_in_words(
    half_life: float, interval: tuple[float, float], words: str
) -> None:
    shown = replace(of(0.8**LAG), half_life=half_life, interval=interval)
    assert pages.told(shown) == words
    shown.plot()


def test_the_summary_tells_intervals_in_words_and_its_window() -> None:
    found = of(0.8**LAG)
    life, window = found.summary().rows[:2]
    low, high = found.interval
    assert life[1:] == [found.half_life, f"95 %: {low:.3g} to {high:.3g}, exponential"]
    assert window == ["window", 59.0, "last fitted lag, from 0 on"]
    for interval, words in [
        ((math.nan, math.nan), "no interval, exponential"),
        ((math.inf, math.inf), "95 %: far beyond the lags, exponential"),
        ((2.0, math.inf), "95 %: 2 or more, exponential"),
    ]:
        assert replace(found, interval=interval).summary().rows[0][2] == words
    assert replace(found, half_life=4.7e66).summary().rows[0][1] == math.inf


def test_no_resamples_are_said_to_leave_no_interval() -> None:
    found = attribution_decay(ImpulseResponse(0.8**LAG), drawn(), baseline=0.0, bootstrap=0)
    assert "nan" not in found.to_text()
    assert "bootstrap=0: there is no interval, which takes 20 or more" in found.notes


# -- the sweep ----------------------------------------------------------------------------------


def leaks(values: list[float], **options: Any) -> Sweep:
    return sweep(
        LeakyIntegrator, values, drawn(), parameter=EVIL, baseline=0.0,
        theory=lambda leak: math.log(0.5) / math.log(leak), **options,
    )  # fmt: skip


def test_the_sweep_shows_theory_points_and_intervals() -> None:
    found = leaks([0.9, 0.5, 0.8])
    [axes] = found.plot().axes
    lines = named(axes)
    assert lines["theory"].get_xdata().tolist() == [0.5, 0.8, 0.9]
    assert found.theory is not None
    assert lines["theory"].get_ydata().tolist() == sorted(found.theory.tolist())
    assert lines["exponential"].get_ydata().tolist() == found.half_lives.tolist()
    assert "\x1b" not in axes.get_xlabel() and axes.get_ylabel() == "half life (steps)"


def test_a_value_that_failed_is_a_line_in_the_plot_and_a_row_in_the_table() -> None:
    def make(leak: float) -> LeakyIntegrator:
        if leak == 0.7:
            raise ValueError(EVIL)
        return LeakyIntegrator(leak)

    found = sweep(make, [0.5, 0.7, 0.8], drawn(), baseline=0.0)
    marks = [line for line in found.plot().axes[0].get_lines() if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in marks] == [0.7]
    html = found.to_html()
    assert "1 of the models could not be explained" in html
    assert "<script" not in html and "ValueError" in html


@pytest.fixture(scope="module")
def pages_in_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pages")
    of(0.8**LAG).to_html(folder / "decay.html")
    leaks([0.5, 0.8]).to_html(folder / "sweep.html")
    return [folder / "decay.html", folder / "sweep.html"]


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_pages_show_in_a_browser_without_scrolling_sideways(
    browser: Any, pages_in_files: list[Path], width: int, dark: bool
) -> None:
    for page in pages_in_files:
        tab = browser.open(page, width, 900, dark=dark)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("document.querySelector('img').naturalWidth") > 300
        assert tab.complaints == []
