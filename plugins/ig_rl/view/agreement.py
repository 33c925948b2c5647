"""The agreement of baselines as a picture: how far scores, and their strength, depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from ig_core import embedded_figure, figure_words, new_figure
from ig_rl.view.pages import rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ig_rl.findings.agreement import StateAgreement

INK = "#1b1f24"

MOST_ROWS = 16
"""Features drawn at most, the strongest under any baseline; JSON holds all of them."""

MOST_LETTERS = 28


def agreement(found: StateAgreement) -> Figure:
    """Spearman's rho of every two baselines, and mean magnitudes of features under each."""
    sizes = found.magnitudes
    order = np.argsort(-sizes.max(0), kind="stable")[:MOST_ROWS]
    figure = new_figure(9.2, 1.9 + 0.34 * max(len(order), len(found.names)))
    first, second = figure.subplots(1, 2, width_ratios=[1, 1.2])
    names = [figure_words(name, MOST_LETTERS) for name in found.names]
    rho = found.rank_correlation
    _cells(first, rho, np.abs(rho) > 0.6, cmap="RdBu_r", vmin=-1, vmax=1)
    first.set_yticks(range(len(names)), names, fontsize=8)
    first.set_title("Spearman's rho, mean over states", fontsize=8)
    end = float(np.nan_to_num(sizes).max(initial=0.0)) or 1.0
    shown = sizes[:, order].T
    _cells(second, shown, shown > 0.6 * end, cmap="Blues", vmin=0, vmax=end)
    features = [figure_words(found.features[i], MOST_LETTERS) for i in order]
    second.set_yticks(range(len(order)), features, fontsize=8)
    second.set_title("mean |attribution|", fontsize=8)
    for axes in (first, second):
        axes.set_xticks(range(len(names)), names, fontsize=7, rotation=30, ha="right")
    figure.suptitle(f"{figure_words(found.quantity, 60)}, {len(found.each)} states", fontsize=10)
    return figure


def agreement_html(found: StateAgreement) -> str:
    """An HTML fragment: the picture and the table."""
    return rendered(
        "agreement.html",
        quantity=found.quantity,
        states=len(found.each),
        plot=embedded_figure(agreement, found),
        table=Markup(found.table().to_html()),
    )


def _cells(axes: Axes, numbers: np.ndarray, dark: np.ndarray, **colours: float | str) -> None:
    axes.imshow(numbers, aspect="auto", **colours)  # type: ignore[arg-type]
    for (row, column), number in np.ndenumerate(numbers):
        colour = "white" if dark[row, column] else INK
        axes.text(column, row, f"{number:.2g}", ha="center", va="center", fontsize=7, color=colour)
