"""How attribution fades with the lag, as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ig_core import new_figure

if TYPE_CHECKING:
    from ig_sequences.decay import Decay


def profile(decay: Decay) -> Any:
    """A matplotlib figure: a(k) on a logarithmic scale, and the line of its half-life."""
    figure = new_figure(7.0, 4.0)
    axes = figure.add_subplot()
    lags = np.arange(len(decay.profile))
    shown = decay.profile > 0
    axes.semilogy(lags[shown], decay.profile[shown], "o", color="#4393c3", markersize=4)
    first, last = decay.window
    if math.isfinite(decay.half_life) and last > first:
        fitted = lags[first : last + 1]
        log = np.log(decay.profile[fitted])
        slope = -math.log(2) / decay.half_life
        axes.semilogy(
            fitted,
            np.exp(log.mean() + slope * (fitted - fitted.mean())),
            color="#d6604d",
            label=f"half-life {decay.half_life:.3g} steps",
        )
        axes.legend()
    axes.set_xlabel("lag (steps before the end)")
    axes.set_ylabel("mean abs. attribution")
    axes.set_title(f"{decay.status}, {decay.sequences} sequences", fontsize=10)
    return figure
