"""What an output loses without the steps that each method ranks first, as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ig_core import new_figure
from ig_sequences.view.figures import GREY, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ig_sequences.faithfulness import Faithfulness

MARKS = "osD^vP*X"
"""Marks that tell rankings apart without their colours."""


def faithfulness(found: Faithfulness, controls: tuple[str, ...]) -> Figure:
    """Mean drops with their standard errors by the part that is removed, one panel a removal."""
    figure = new_figure(4.2 * len(found.removals), 3.8)
    panels = figure.subplots(1, len(found.removals), sharey=True, squeeze=False)[0]
    across = [100 * part for part in found.parts]
    for axes, removed in zip(panels, found.removals, strict=True):
        rows = [row for row in found.rows if row.removed == removed]
        for number, row in enumerate(rows):
            control = {"color": GREY, "linestyle": "--"} if row.ranking in controls else {}
            axes.errorbar(
                across,
                row.drops,
                row.errors,
                marker=MARKS[number % len(MARKS)],
                markersize=5,
                linewidth=1.4,
                capsize=2,
                label=label(row.ranking),
                **control,
            )
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_title(f"removed: {label(removed)}", fontsize=9)
        axes.set_xlabel("% of the steps")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel(f"drop of {label(found.explained)}")
    panels[-1].legend(fontsize=8)
    return figure
