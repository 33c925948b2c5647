"""An episode as a picture: what every feature did for one choice, step by step, above what came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from ig_core import Table, embedded_figure, figure_words, new_figure
from ig_rl.view.pages import rendered
from ig_rl.view.rows import FeatureRows, feature_rows
from ig_rl.view.screens import filmstrip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ig_rl.findings.timeline import Timeline

INK, BLUE, GREY = "#1b1f24", "#2b6ca3", "#8a929b"

MOST_LETTERS = 26
"""Of a feature's name beside the picture."""

LEAST_HEIGHT = 1.2
"""Inches of the features by steps, or the scale beside them could not be read."""

MOST_MARKS = 120
"""Steps up to which every action and reward has a mark of its own."""

LINES = "Lines are the features' own values, each on its own scale."

MOST_TOLD, MOST_COLUMNS = 200, 16
"""Rows of the table beneath the picture, and features in it."""


def timeline(found: Timeline) -> Figure:
    """Features by steps in the colours of their attribution, above choice, actions and rewards.

    Red speaks for the explained number and blue against it, on one scale that is symmetric about
    zero; a line in each row is the feature's own value, on its own scale.
    """
    rows = feature_rows(found.names, found.scores, found.values)
    high = max((0.34 if len(rows.names) > 8 else 0.5) * len(rows.names), LEAST_HEIGHT)
    figure = new_figure(9.0, 3.9 + high)
    heights = [high, 1.1, 0.7, 0.7]
    every = figure.subplots(4, 1, sharex=True, height_ratios=heights)
    _heat(figure, every[0], rows)
    _number(every[1], found)
    _actions(every[2], found)
    _rewards(every[3], found)
    every[0].set_title(
        f"{figure_words(found.quantity, 60)}, {len(found.rewards)} steps, return {found.total:.4g}",
        fontsize=10,
    )
    every[-1].set_xlabel("step")
    return figure


def timeline_html(found: Timeline) -> str:
    """An HTML fragment: the picture, what it was made with, and a table of the steps."""
    table = found.table(sorted(found.strongest(MOST_COLUMNS)))
    shown = Table(table.columns, table.rows[:MOST_TOLD])
    return rendered(
        "timeline.html",
        quantity=found.quantity,
        pair=[found.action_names[a] for a in found.pair],
        steps=len(found.rewards),
        total=found.total,
        facts=table.notes,
        doubtful=sum(status not in ("converged", "noise_floor") for status in found.statuses),
        plot=embedded_figure(filmstrip if found.image else timeline, found),
        alt="frames of the episode" if found.image else "features by steps",
        lines="" if found.image else LINES,
        stacked=found.image[0] if found.image else 1,
        table=Markup(shown.to_html()),
        more=max(len(found.rewards) - MOST_TOLD, 0),
        weaker=max(len(found.names) - MOST_COLUMNS, 0),
    )


def _heat(figure: Figure, axes: Axes, rows: FeatureRows) -> None:
    count = len(rows.names)
    drawn = axes.imshow(
        rows.scores,
        aspect="auto",
        cmap="RdBu_r",
        vmin=-rows.colours_end,
        vmax=rows.colours_end,
        interpolation="nearest",
        extent=(-0.5, rows.scores.shape[1] - 0.5, count - 0.5, -0.5),
    )
    axes.set_yticks(range(count), [figure_words(n, MOST_LETTERS) for n in rows.names], fontsize=8)
    for row in range(count):
        if row:
            axes.axhline(row - 0.5, color="white", linewidth=1.5)
        if (line := rows.line(row)) is not None:
            for colour, width in (("white", 2.2), (INK, 0.9)):  # readable on the darkest cell
                axes.plot(row + 0.4 - 0.8 * line, color=colour, linewidth=width)
    axes.set_xlim(-0.5, rows.scores.shape[1] - 0.5)
    beyond = "both" if rows.limit > rows.colours_end else "neither"
    figure.colorbar(drawn, ax=axes, pad=0.01, label="attribution", extend=beyond)


def _number(axes: Axes, found: Timeline) -> None:
    axes.plot(found.outputs, color=BLUE, linewidth=1.2)
    axes.plot(found.base, color=GREY, linewidth=1, linestyle="--")
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_ylabel("explained\nnumber", fontsize=8, rotation=0, ha="right", va="center")
    axes.annotate(
        "dashed: at the baseline", (1, 1), xycoords="axes fraction", ha="right", va="bottom",
        fontsize=7, color="#57606a",
    )  # fmt: skip
    axes.tick_params(labelsize=7)


def _actions(axes: Axes, found: Timeline) -> None:
    steps = np.arange(len(found.actions))
    if found.actions.ndim > 1:
        for column in found.actions.T:
            axes.plot(steps, column, linewidth=1)
        axes.tick_params(labelsize=7)
    else:
        taken = np.unique(found.actions)
        places = np.searchsorted(taken, found.actions)
        size = 14 if len(steps) <= MOST_MARKS else 4
        axes.scatter(steps, places, s=size, c=INK, marker="s", linewidths=0)
        names = [figure_words(found.action_names[int(a)], MOST_LETTERS) for a in taken]
        axes.set_yticks(range(len(taken)), names, fontsize=7)
        axes.set_ylim(-0.6, len(taken) - 0.4)
    axes.set_ylabel("action" if found.actions.ndim > 1 else "", fontsize=8)


def _rewards(axes: Axes, found: Timeline) -> None:
    axes.step(np.arange(len(found.rewards)), found.rewards, where="mid", color=BLUE, linewidth=1)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_ylabel("reward", fontsize=8, rotation=0, ha="right", va="center")
    axes.tick_params(labelsize=7)
