"""The heat map of one attribution: the text as it was written, on coloured ground."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from ig_core import Attribution, clean, signed
from ig_text.view.marks import Numbers, Scale
from ig_text.view.pages import fragment
from ig_text.view.reading import Piece, Section, reading

MOST_STOPS = 300
"""Words that the tabulator key stops at, the strongest; every word tells its number on hover."""

MOST_PIECES = 10_000
"""Stretches of text that are drawn; the words behind them are counted and summed."""

MOST_ROWS = 200
"""Words in the table of all numbers, the strongest."""

NAMED = 5
"""Words of each sign that are named beneath the text."""

LONG = 400
"""Words from which on a text is set more tightly."""

WIDTH = 100


def heat_map(attribution: Attribution) -> str:
    """An HTML fragment: the text on coloured ground, a legend, and how far to trust it."""
    numbers = Numbers.of(attribution)
    scale = Scale.of(numbers.scores)
    sections = drawn(reading(attribution), numbers, scale, numbers.told)
    pairs = [
        (attribution.units.labels[unit], numbers.scores[unit], numbers.told([unit]))
        for unit in numbers.strongest(MOST_ROWS)
    ]
    return fragment(
        "heat.html",
        sections=sections,
        scale=scale,
        marked=any(piece["marked"] for section in sections for piece in section["pieces"]),
        long=len(numbers.scores) > LONG,
        raising=[pair for pair in pairs if pair[1] > 0][:NAMED],
        lowering=[pair for pair in pairs if pair[1] < 0][:NAMED],
        rows=pairs,
        kind=numbers.kind,
        count=len(numbers.scores),
        **trust(attribution),
    )


def drawn(
    sections: Sequence[Section],
    numbers: Numbers,
    scale: Scale,
    note: Callable[[Sequence[int]], str],
    flagged: Container[int] = (),
) -> Sequence[Mapping[str, Any]]:
    """The sections as a template needs them; ``note`` says what the units of a piece tell."""
    stops = set(numbers.strongest(MOST_STOPS))
    left = MOST_PIECES
    found = []
    for section in sections:
        shown, hidden = section.pieces[:left], section.pieces[left:]
        behind = {unit for piece in hidden for unit in piece.units}
        left -= len(shown)
        found.append(
            {
                "role": section.role,
                "sum": signed(numbers.sum(section.units), 4),
                "pieces": [_drawn(piece, numbers, scale, note, stops, flagged) for piece in shown],
                "more": len(behind),
                "rest": signed(numbers.sum(behind), 4),
            }
        )
    return found


def _drawn(
    piece: Piece,
    numbers: Numbers,
    scale: Scale,
    note: Callable[[Sequence[int]], str],
    stops: Container[int],
    flagged: Container[int],
) -> Mapping[str, Any]:
    sign, strength = scale.shade(numbers.sum(piece.units))
    return {
        "text": piece.text,
        "marked": piece.marked,
        "later": piece.later,
        "blank": not piece.text.strip(),
        "note": note(piece.units) if piece.units else "",
        "sign": sign,
        "strength": strength,
        "stop": any(unit in stops for unit in piece.units),
        "flagged": any(unit in flagged for unit in piece.units),
    }


def trust(attribution: Attribution) -> dict[str, Any]:
    """What was explained how well: ``explained``, ``warning`` and ``facts``."""
    facts = dict(attribution.card().facts or {})
    explained = facts.pop("explained", "the output")
    for name in ("baseline", "method"):
        value = attribution.provenance.get(name)
        if isinstance(value, str):
            facts = {name: value, **facts}
    warning = "" if attribution.converged or attribution.status == "one_shot" else facts["status"]
    return {"explained": explained, "warning": warning, "facts": facts}


def line(attribution: Attribution) -> str:
    """Plain text: the words in reading order, each with its score in brackets.

    Several texts stand beneath each other, each behind its role.
    """
    labels, scores = attribution.units.labels, attribution.scores.tolist()
    paragraphs = []
    for section in reading(attribution):
        words = " ".join(f"{clean(labels[u])}[{scores[u]:+.2g}]" for u in section.units)
        if words:
            paragraphs.append((section, words))
    return "\n".join(
        textwrap.fill(
            f"{section.role}: {words}" if len(paragraphs) > 1 else words,
            WIDTH,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for section, words in paragraphs
    )
