"""What an output loses without the steps that each method ranks first, as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ig_core import embedded_figure, figure_words, new_figure
from ig_sequences.view.figures import GREY
from ig_sequences.view.pages import rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ig_sequences.faithfulness import Faithfulness

MARKS = "os^D*XP<>"
"""Marks that tell methods apart without their colours."""

CONTROLS = (("D", "--"), ("x", "-."), ("+", ":"), ("1", (0, (1, 3))))
"""Marks and lines of the controls, all of one grey."""


def faithfulness_html(found: Faithfulness) -> str:
    """An HTML fragment: the plot, and the table of all rankings."""
    return rendered(
        "faithfulness.html",
        explained=found.explained,
        plot=embedded_figure(lambda one: one.plot(), found),
        table=Markup(found.table().to_html()),
    )


def faithfulness(found: Faithfulness, controls: tuple[str, ...]) -> Figure:
    """Mean drops with their standard errors by the part that is removed, one panel a removal."""
    figure = new_figure(1.2 + 4.2 * len(found.removals), 3.8)
    panels = figure.subplots(1, len(found.removals), sharey=True, squeeze=False)[0]
    across = [100 * part for part in found.parts]
    for axes, removed in zip(panels, found.removals, strict=True):
        rows = [row for row in found.rows if row.removed == removed]
        for number, row in enumerate(rows):
            style: dict[str, Any] = {"marker": MARKS[number % len(MARKS)]}
            if row.ranking in controls:
                mark, line = CONTROLS[controls.index(row.ranking) % len(CONTROLS)]
                style = {"marker": mark, "linestyle": line, "color": GREY}
            axes.errorbar(
                across,
                row.drops,
                row.errors,
                markersize=6,
                linewidth=1.4,
                capsize=2,
                label=figure_words(row.ranking),
                **style,
            )
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_title(f"removed: {figure_words(removed)}", fontsize=9)
        axes.set_xlabel("% of the steps")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel(f"drop of {figure_words(found.explained)}")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
