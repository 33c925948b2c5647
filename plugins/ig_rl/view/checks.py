"""What the checks of an agent's attributions look like: a panel each, and a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from ig_core import InputError, embedded_figure, figure_words, new_figure
from ig_rl.checks.freezing import STILL
from ig_rl.view.pages import rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ig_rl.checks import Deletion, Faithfulness, Flips, Freezing, Randomised

COLOURS = ("#2b6ca3", "#d6604d", "#8a929b", "#7b5ea7", "#4f8a5b", "#b07d2b")
"""Of the rankings in their order: the gap's, the single score's, the others'."""

CHANCE = "#1b1f24"
MOST = 30
"""Letters of a name on an axis."""


def faithfulness_html(found: Faithfulness) -> str:
    """An HTML fragment: the plot, the headlines, and the table of every check."""
    from ig_rl.checks.faithfulness import TITLES

    return rendered(
        "checks.html",
        agent=found.agent,
        states=found.states,
        plot=embedded_figure(faithfulness, found) if _panels(found) else "",
        drawn=bool(_panels(found)),
        verdicts=list(found.verdicts.values()),
        notes=found.notes,
        headline=Markup(found.table().to_html()),
        sections=[
            (TITLES[name], Markup(one.table().to_html())) for name, one in found.sections.items()
        ],
    )


def faithfulness(found: Faithfulness) -> Figure:
    """One panel for every check that can be drawn.

    Raises:
        InputError: there is none.
    """
    panels = _panels(found)
    if not panels:
        raise InputError("none of these checks can be drawn; see table()")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(1.0 + 5.2 * columns, 0.4 + 3.6 * rows)
    for place, (draw, one) in enumerate(panels, 1):
        draw(figure.add_subplot(rows, columns, place), one)
    return figure


def _panels(found: Faithfulness) -> list[tuple[Callable[[Axes, Any], None], Any]]:
    made: list[tuple[Callable[[Axes, Any], None], Any]] = [
        (_flips, found.flips),
        (_deletion, found.deletion),
        (_frozen, found.frozen),
        (_randomised, found.randomised),
    ]
    return [(draw, one) for draw, one in made if one is not None]


def _flips(axes: Axes, found: Flips) -> None:
    """Rates of the top of every ranking with their intervals, a mark for each way of removing."""
    places = np.arange(len(found.rankings))
    for number, way in enumerate(found.ways):
        rates = [found.rate(name, "top", way) for name in found.rankings]
        means = np.array([rate.mean for rate in rates])
        reach = np.array([[r.mean - r.low, r.high - r.mean] for r in rates]).T
        axes.errorbar(
            means,
            places + 0.16 * (2 * number - 1),
            xerr=np.nan_to_num(reach).clip(min=0),
            fmt="os"[number % 2],
            color=COLOURS[number],
            capsize=2,
            markersize=5,
            label=figure_words(way),
        )
    axes.set_yticks(places, [figure_words(name, MOST) for name in found.rankings])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    top = "the top feature gets" if found.k == 1 else f"the top {found.k} features get"
    axes.set_title(f"Greedy action changes when {top} the values of ...", fontsize=9)
    axes.set_xlabel("share of states (95 % intervals)")
    axes.grid(axis="x", alpha=0.25)
    _legend(axes)


def _deletion(axes: Axes, found: Deletion) -> None:
    """Mean curves of the gap, each divided by its value at the state's range."""
    every = np.concatenate([found.curves, found.random[None]])
    low, high = (end[:, None] for end in (every.min((0, 2)), every.max((0, 2))))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (every - low) / (high - low)
    known = np.isfinite(shares).all((0, 2))
    across = 100 * found.parts
    if known.any():
        for number, name in enumerate(found.rankings):
            dashed = name.startswith("|")
            axes.plot(
                across,
                shares[number, known].mean(0),
                "--" if dashed else "-",
                color=COLOURS[number % (len(found.rankings) // 2)],
                marker="o" if not dashed else None,
                markersize=3.5,
                label=figure_words(name),
            )
        axes.plot(across, shares[-1, known].mean(0), ":", color=CHANCE, label="random")
    axes.set_title("Gap while features are removed, first ones first", fontsize=9)
    axes.set_xlabel("% of the features")
    axes.set_ylabel("gap, as part of its range")
    axes.grid(alpha=0.25)
    _legend(axes)


def _frozen(axes: Axes, found: Freezing) -> None:
    """What freezing a feature changes the return by; marks say how each attribution ranks it."""
    places = np.arange(len(found.names))
    changes = [found.change(j) for j in range(len(found.names))]
    means = np.array([one.mean for one in changes])
    reach = np.array([[c.mean - c.low, c.high - c.mean] for c in changes]).T
    axes.barh(places, np.nan_to_num(means), color="#c8d0d8", height=0.6)
    axes.errorbar(
        means, places, xerr=np.nan_to_num(reach).clip(min=0), fmt="none", color=CHANCE, capsize=2
    )
    labels = [
        figure_words(name, MOST) + (f"\n({STILL})" if found.still(j) else "")
        for j, name in enumerate(found.names)
    ]
    for what in found.importance:
        labels[found.first(what)] += f"\n(first of {figure_words(what)})"
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.axvline(0, color=CHANCE, linewidth=0.8)
    axes.set_title("Return when the agent sees a feature frozen at its mean", fontsize=9)
    axes.set_xlabel("change of the return (95 % intervals)")
    axes.grid(axis="x", alpha=0.25)


def _randomised(axes: Axes, found: Randomised) -> None:
    """Rank correlations with copies that lost more and more of their weights."""
    places = np.arange(len(found.layers) + 1)
    for number, (magnitude, label) in enumerate(((False, "score"), (True, "|score|"))):
        rho = [found.correlation(j, magnitude=magnitude) for j in range(len(found.layers))]
        means = np.array([1.0, *(one.mean for one in rho)])
        reach = np.array([[0.0, 0.0], *([r.mean - r.low, r.high - r.mean] for r in rho)]).T
        axes.errorbar(
            places,
            means,
            yerr=np.nan_to_num(reach).clip(min=0),
            marker="os"[number],
            color=COLOURS[number],
            capsize=2,
            label=label,
        )
    axes.axhline(0, color=CHANCE, linewidth=0.8)
    names = ["none", *(figure_words(name, MOST) for name in found.layers)]
    axes.set_xticks(places, names, rotation=20, ha="right", fontsize=8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_title("Rank correlation once weights are lost, from the output down", fontsize=9)
    axes.set_ylabel("Spearman's rho")
    axes.grid(alpha=0.25)
    _legend(axes, below=0.34)


def _legend(axes: Axes, *, below: float = 0.17) -> None:
    """Below the panel, where it covers nothing."""
    handles, _ = axes.get_legend_handles_labels()
    columns = 2 if len(handles) > 3 else max(len(handles), 1)
    axes.legend(
        fontsize=8, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -below), frameon=False
    )
