"""Importance as a picture: how strong every feature is, which way, and for which action."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from ig_core import Table, embedded_figure, figure_words, new_figure
from ig_rl.observations.features import past
from ig_rl.view.pages import rendered
from ig_rl.view.screens import coloured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ig_rl.findings.importance import Importance

GREY, INK = "#8a929b", "#1b1f24"

MOST_ROWS = 16
"""Features drawn at most, the strongest; the tables hold all of them."""

MOST_TOLD = 100
"""Rows of a table beneath the picture."""

MOST_POINTS = 1000
"""States drawn at most; of more, some at equal distances."""

MOST_LETTERS = 28

MOST_FRAMES = 4
"""Frames of a stack that are drawn, the newest."""


def importance(found: Importance) -> Figure:
    """Mean magnitudes with their intervals, every state's score, and the mean for each action.

    A point is one state, coloured by the value that the feature has there. Of images there is a map
    of the mean magnitudes and one of the mean scores, for every frame.
    """
    if found.pixels:
        return maps(found)
    order = found.strongest(MOST_ROWS)
    actions = bool(found.per_action)
    figure = new_figure(9.6 if actions else 7.4, 1.5 + 0.36 * len(order))
    widths = [1.0, 1.7, 0.32 * len(found.per_action)] if actions else [1.0, 1.7]
    every = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    _magnitudes(every[0], found, order)
    _states(figure, every[1], found, order)
    if actions:
        _actions(figure, every[2], found, order)
    figure.suptitle(
        f"{figure_words(found.quantity, 60)}, {found.overall.count} states", fontsize=10
    )
    return figure


def maps(found: Importance) -> Figure:
    """How strong every pixel is, and below which way it speaks, the newest frame at the right.

    The latter lies over a pale copy of the mean of what was seen.
    """
    sizes, means = (found.maps(measure)[-MOST_FRAMES:] for measure in ("magnitude", "mean"))
    seen = found.values.mean(0).reshape(found.image)[-MOST_FRAMES:]
    frames, rows, columns = sizes.shape
    wide = 2.6 * min(max(columns / rows, 0.5), 2)
    figure = new_figure(1.4 + max(wide * frames, 3.6), 6.2)
    every = figure.subplots(2, frames, squeeze=False)
    largest, limit = (float(np.nan_to_num(np.abs(m)).max()) or 1.0 for m in (sizes, means))
    for f in range(frames):
        strong = every[0, f].imshow(
            sizes[f], cmap="Purples", vmin=0, vmax=largest, interpolation="nearest"
        )
        every[0, f].set(xticks=[], yticks=[])
        every[0, f].set_title(past(frames - 1 - f), fontsize=9)
        signed = coloured(every[1, f], means[f], seen[f], limit)
    for row, drawn, label in zip(
        every, (strong, signed), ("mean |attribution|", "mean attribution"), strict=True
    ):
        figure.colorbar(drawn, ax=row.tolist(), pad=0.02, shrink=0.9, label=label)
    older = found.image[0] - frames
    figure.suptitle(
        f"{figure_words(found.quantity, 60)}, {found.overall.count} states"
        + (f"; the newest {frames} of {found.image[0]} frames" if older else ""),
        fontsize=10,
    )
    return figure


def importance_html(found: Importance) -> str:
    """An HTML fragment: the picture and both tables."""
    tables = [found.table()] + ([found.actions()] if found.per_action else [])
    return rendered(
        "importance.html",
        quantity=found.quantity,
        states=found.overall.count,
        pixels=found.pixels,
        plot=embedded_figure(importance, found),
        tables=[Markup(_first(table).to_html()) for table in tables],
    )


def _first(table: Table) -> Table:
    """The strongest rows of a table, and how many others there are."""
    more = len(table.rows) - MOST_TOLD
    told = [*table.notes, *([f"{more} weaker ones are left out"] if more > 0 else [])]
    return Table(table.columns, table.rows[:MOST_TOLD], told)


def _magnitudes(axes: Axes, found: Importance, order: list[int]) -> None:
    places, sizes = np.arange(len(order)), found.overall.magnitude[order]
    ends = found.overall.intervals["magnitude"][:, order]
    apart = np.nan_to_num(np.abs(ends - sizes))
    axes.barh(places, sizes, xerr=apart, color=GREY, ecolor=INK, capsize=2)
    names = [figure_words(found.names[i], MOST_LETTERS) for i in order]
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("mean |attribution|", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)


def _states(figure: Figure, axes: Axes, found: Importance, order: list[int]) -> None:
    """Every state as a point, moved up and down so that many can be seen."""
    states = np.unique(
        np.linspace(0, len(found.scores) - 1, min(len(found.scores), MOST_POINTS)).astype(int)
    )
    drawn = None
    for place, feature in enumerate(order):
        scores, values = found.scores[states, feature], found.values[states, feature]
        moved = (np.arange(len(states)) * 0.6180339887 % 1 - 0.5) * 0.6
        drawn = axes.scatter(
            scores, place + moved, c=_ranks(values), cmap="viridis", vmin=0, vmax=1, s=7,
            linewidths=0, alpha=0.8,
        )  # fmt: skip
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlabel("attribution in each state", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=axes, pad=0.02, ticks=[0, 1])
        bar.ax.set_yticklabels(["lowest", "highest"], fontsize=7)
        bar.set_label("the feature's value", fontsize=7, labelpad=-16)


def _actions(figure: Figure, axes: Axes, found: Importance, order: list[int]) -> None:
    means = np.stack([part.mean[order] for part in found.per_action.values()], 1)
    limit = float(np.abs(np.nan_to_num(means)).max(initial=0.0)) or 1.0
    axes.imshow(means, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), mean in np.ndenumerate(means):
        light = abs(mean) > 0.6 * limit
        axes.text(
            column, row, f"{mean:+.2g}", ha="center", va="center", fontsize=6.5,
            color="white" if light else INK,
        )  # fmt: skip
    names = [figure_words(name, 14) for name in found.per_action]
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=35, ha="right")
    axes.set_yticks([])
    axes.set_title("mean where chosen", fontsize=8)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Values as their place among all of the feature, from 0 to 1; alike ones alike."""
    found, place = np.unique(values, return_inverse=True)
    return place / max(len(found) - 1, 1)
