"""How attribution fades with the lag: a plot on a logarithmic axis, and a page around it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from ig_core import Table, embedded_figure, new_figure
from ig_sequences.view.figures import BLUE, GREY, PURPLE, RED
from ig_sequences.view.pages import rendered, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ig_sequences.decay import Decay

MOST_LAGS = 200
"""Rows of the page's table of lags at most."""


def profile(decay: Decay) -> Figure:
    """a(k) with its quartiles, the line of the half-life and its interval; n of every lag beneath.

    The lags after an explained step are drawn as negative ones.
    """
    figure = new_figure(7.5, 4.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    _side(upper, decay, 1)
    lower.bar(decay.lags, decay.count, width=_width(decay), color=GREY)
    if decay.future is not None:
        _side(upper, decay.future, -1)
        lower.bar(-decay.future.lags, decay.future.count, width=_width(decay), color=GREY)
    upper.set_yscale("log")
    upper.set_ylabel("mean abs. attribution a(k)")
    upper.set_title(f"{decay.status}: {told(decay)}", fontsize=10)
    upper.legend(fontsize=8)
    upper.grid(axis="y", alpha=0.25)
    lower.set_ylabel("n", rotation=0, ha="right", va="center")
    lower.set_ylim(0, None)
    side = "before the end" if decay.future is None else "before the explained step (< 0: after)"
    lower.set_xlabel(f"lag k ({decay.unit} {side})")
    return figure


def decay_html(decay: Decay) -> str:
    """An HTML fragment: the half-life in words, the plot, the measures, the lags.

    Without matplotlib the plot is left out.
    """
    sides = [("past", decay)] + ([("future", decay.future)] if decay.future else [])
    return rendered(
        "decay.html",
        told=told(decay),
        status=decay.status,
        reason=decay.reason,
        sound=decay.status == "exponential",
        sequences=decay.sequences,
        left_out=decay.left_out,
        notes=decay.notes,
        plot=embedded_figure(profile, decay),
        future=None if decay.future is None else told(decay.future),
        sides=[_tables(name, side) for name, side in sides],
    )


def _tables(name: str, decay: Decay) -> Mapping[str, Any]:
    """The measures of a side, and as many of its lags as a page can show."""
    measures, lags = decay.summary(), decay.table()
    every = max(1, -(-len(lags.rows) // MOST_LAGS))
    return {
        "name": name,
        "measures": Markup(Table(measures.columns, measures.rows).to_html()),
        "lags": len(lags.rows),
        "every": every,
        "table": Markup(Table(lags.columns, lags.rows[::every]).to_html()),
    }


def _side(axes: Axes, decay: Decay, sign: int) -> None:
    """One side's profile; only the past side is named in the legend."""
    known = decay.profile > 0
    lags = sign * decay.lags[known]
    named = sign > 0
    low, high = (np.where(one > 0, one, np.nan)[known] for one in decay.quartiles)
    if decay.sequences > 1:
        axes.fill_between(
            lags, low, high, color=BLUE, alpha=0.15, linewidth=0, label="quartiles" * named or None
        )
    if decay.jacobian is not None and (decay.jacobian > 0).any():
        scale = np.nanmax(decay.profile) / np.nanmax(decay.jacobian)
        shown = decay.jacobian > 0
        axes.plot(
            sign * decay.lags[shown],
            scale * decay.jacobian[shown],
            color=GREY,
            linewidth=1,
            label="Jacobian at x (scaled)" * named or None,
        )
    axes.plot(lags, decay.profile[known], "o", color=BLUE, markersize=3.5, label="a(k)" * named)
    _line(axes, decay, sign)
    other = _best_other(decay)
    if named and other:
        fitted = _window(decay)
        axes.plot(
            sign * fitted,
            decay.fits[other].at(fitted),
            "--",
            color=PURPLE,
            linewidth=1.2,
            label=f"{other} fit, R2 {decay.fits[other].r2:.3f}",
        )


def _line(axes: Axes, decay: Decay, sign: int) -> None:
    """The line whose slope is the half-life, those of its interval, and the half-life itself."""
    fitted = _window(decay)
    if len(fitted) < 2 or math.isnan(decay.half_life):
        return
    first, last = decay.window
    level = np.log(decay.profile[first : last + 1])
    middle, height = fitted.mean(), level[np.isfinite(level)].mean()

    def line(half_life: float) -> np.ndarray:
        return np.exp(height - math.log(2) / half_life * (fitted - middle))

    fades = math.isfinite(decay.half_life)
    named = f"half-life {decay.half_life:.3g} {decay.unit}" if fades else "slope: nothing fades"
    label = named if sign > 0 else None
    axes.plot(sign * fitted, line(decay.half_life), color=RED, linewidth=1.8, label=label)
    if not any(map(math.isnan, decay.interval)):
        low, high = (line(end) for end in decay.interval)
        axes.fill_between(sign * fitted, low, high, color=RED, alpha=0.18, linewidth=0)
    reach = fitted[0] + decay.half_life
    if reach <= decay.lags.max():
        start = line(decay.half_life)[0]
        axes.plot(
            [sign * fitted[0], sign * reach, sign * reach],
            [start / 2, start / 2, np.nanmin(decay.profile[decay.profile > 0])],
            ":",
            color=RED,
            linewidth=1.2,
        )


def _window(decay: Decay) -> np.ndarray:
    first, last = decay.window
    return decay.lags[first : last + 1]


def _best_other(decay: Decay) -> str | None:
    """The fit of lowest AICc, if that is another than the exponential one."""
    known = {name: fit.aicc for name, fit in decay.fits.items() if math.isfinite(fit.aicc)}
    best = min(known, key=lambda name: known[name], default=None)
    return None if best == "exponential" else best


def _width(decay: Decay) -> float:
    gaps = np.diff(decay.lags)
    return 0.9 * float(gaps.min()) if len(gaps) else 0.9
