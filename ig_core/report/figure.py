"""Matplotlib figures (extra ``viz``), without touching pyplot's global state."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ig_core.errors import InputError, MissingFrameworkError, StorageError
from ig_core.report.card import Card
from ig_core.report.text import clean, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RED, BLUE, SOFT = "#d6604d", "#4393c3", "#57606a"
LEFTWARDS, RIGHTWARDS = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"


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


def words(text: str, most: int | None = None) -> str:
    """Words of a user that matplotlib does not read as a formula, without control characters.

    >>> words("$x$")
    '\\\\$x\\\\$'
    """
    told = clean(text) if most is None else shortened(clean(text), most)
    return told.replace("$", r"\$")


def embedded(draw: Callable[..., Figure], *finding: Any) -> str:
    """The figure ``draw(*finding)`` as the source of an ``img``; empty without matplotlib."""
    try:
        drawn = draw(*finding)
    except MissingFrameworkError:
        return ""
    from matplotlib import rc_context

    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "ig_core"}):  # the same figure, the same page
        drawn.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def saved(figure: Figure, path: str | Path) -> Path:
    """A figure as a file: PNG, SVG or PDF by its ending.

    Raises:
        InputError: the ending is of another kind.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"a picture ends in .png, .svg or .pdf (got {path.name!r})")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error}") from error
    return path


def bars(card: Card, top: int = 20, display: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """Signed bars of the units of largest magnitude: red raises the output, blue lowers it.

    Of ``display``, ``"question"`` is the title and ``"sides"`` says what either sign speaks for.
    """
    shown = card.largest(top)
    drawn = new(height=1.2 + 0.25 * len(shown.labels))
    axes = drawn.add_subplot()
    places = range(len(shown.labels))
    colours = [RED if score > 0 else BLUE for score in shown.scores]
    axes.barh(places, shown.scores, color=colours)
    axes.set_yticks(places, [words(label) for label in shown.labels])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    facts = card.facts or {}
    about = f"difference {facts.get('difference', '?')}, residual {facts.get('residual', '?')}"
    sides = display.get("sides")
    if isinstance(sides, (list, tuple)) and len(sides) == 2:
        down, up = (words(str(side), 40) for side in sides)
        axes.set_xlabel(f"{LEFTWARDS} {down}      {up} {RIGHTWARDS}")
    else:
        axes.set_xlabel("attribution (same unit as the output)")
    axes.set_title(about, fontsize=7, loc="right", color=SOFT)
    if question := display.get("question"):
        drawn.suptitle(words(str(question), 80), fontsize=11)
    return drawn
