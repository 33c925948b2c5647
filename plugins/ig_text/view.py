"""The view of a text: its words in reading order on coloured ground."""

from __future__ import annotations

from dataclasses import replace

from ig_core import Attribution, heat


def heat_map(attribution: Attribution) -> str:
    """An HTML fragment: the words in reading order, and beneath what was explained how well."""
    card = attribution.card()
    facts = {"explained": str(attribution.display.get("explained", "")), **(card.facts or {})}
    return heat(replace(card, facts=facts))
