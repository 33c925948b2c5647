"""How memory responds to a parameter of the network, as a plot and a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from ig_core import embedded_figure, figure_words, new_figure
from ig_sequences.view.figures import BLUE, GREY
from ig_sequences.view.pages import rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ig_sequences.sweeps import Sweep

MARKS = {"exponential": "o", "censored": "^", "no_decay": "^"}
"""Marks of points by status; a cross where the half-life describes the profile badly."""


def sweep(found: Sweep) -> Figure:
    """The measure at every value with its interval, by status, and the theory as a line."""
    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot()
    values, measured = np.asarray(found.values, dtype=float), found.measured
    order, shown = np.argsort(values), np.isfinite(measured)
    if found.theory is not None:
        axes.plot(values[order], found.theory[order], color=GREY, label="theory", zorder=1)
    else:
        joined = order[shown[order]]
        axes.plot(values[joined], measured[joined], ":", color=BLUE, linewidth=1)
    statuses = [None if d is None else d.status for d in found.decays]
    for status in dict.fromkeys(s for s, own in zip(statuses, shown, strict=True) if s and own):
        own = np.array([s == status for s in statuses]) & shown
        axes.plot(
            values[own], measured[own], MARKS.get(status, "x"), color=BLUE, label=status, zorder=3
        )
    if found.measure == "half_life":
        _intervals(axes, found, values, measured)
    if shown.any() and measured[shown].max() > 20 * measured[shown].min() > 0:
        axes.set_yscale("log")
    for value, error in zip(found.values, found.errors, strict=True):
        if error:
            axes.axvline(value, color=GREY, linestyle="--", linewidth=0.8)
    axes.set_xlabel(figure_words(found.parameter))
    axes.set_ylabel(f"{found.measure.replace('_', ' ')} ({_unit(found)})")
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return figure


def sweep_html(found: Sweep) -> str:
    """An HTML fragment: the plot, and a table of all values."""
    return rendered(
        "sweep.html",
        parameter=found.parameter,
        measure=found.measure.replace("_", " "),
        plot=embedded_figure(sweep, found),
        table=Markup(found.table().to_html()),
        failed=sum(decay is None for decay in found.decays),
    )


def _intervals(axes: Axes, found: Sweep, values: np.ndarray, measured: np.ndarray) -> None:
    ends = np.array([(np.nan, np.nan) if d is None else d.interval for d in found.decays]).T
    known = np.isfinite(ends).all(0) & np.isfinite(measured)
    apart = np.abs(ends[:, known] - measured[known])
    axes.errorbar(values[known], measured[known], apart, fmt="none", color=BLUE, capsize=3)


def _unit(found: Sweep) -> str:
    return next((decay.unit for decay in found.decays if decay is not None), "steps")
