"""Matplotlib figures (extra ``viz``), without touching pyplot's global state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ig_core.errors import MissingFrameworkError
from ig_core.report.card import Card
from ig_core.report.text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RED, BLUE = "#d6604d", "#4393c3"


def new(width: float = 7.0, height: float = 4.0) -> Figure:
    """An empty figure that belongs to nobody else.

    Raises:
        MissingFrameworkError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingFrameworkError("plots need matplotlib: pip install 'ig-core[viz]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def bars(card: Card, top: int = 20) -> Any:
    """Signed bars of the units of largest magnitude: red raises the output, blue lowers it."""
    shown = card.largest(top)
    drawn = new(height=1.2 + 0.25 * len(shown.labels))
    axes = drawn.add_subplot()
    places = range(len(shown.labels))
    colours = [RED if score > 0 else BLUE for score in shown.scores]
    axes.barh(places, shown.scores, color=colours)
    axes.set_yticks(places, [clean(label).replace("$", r"\$") for label in shown.labels])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("attribution (same unit as the output)")
    facts = card.facts or {}
    axes.set_title(
        f"difference {facts.get('difference', '?')}, residual {facts.get('residual', '?')}",
        fontsize=10,
    )
    return drawn
