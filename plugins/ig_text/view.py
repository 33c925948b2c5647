"""The views of a text: its words in reading order, signed or on coloured ground."""

from __future__ import annotations

import textwrap

from ig_core import Attribution, clean, heat

WIDTH = 100


def heat_map(attribution: Attribution) -> str:
    """An HTML fragment: the words in reading order, and beneath what was explained how well."""
    return heat(attribution.card())


def line(attribution: Attribution) -> str:
    """Plain text: the words in reading order, each with its score in brackets."""
    pairs = zip(attribution.units.labels, attribution.scores.tolist(), strict=True)
    words = " ".join(f"{clean(label)}[{score:+.2g}]" for label, score in pairs)
    return textwrap.fill(words, WIDTH, break_long_words=False, break_on_hyphens=False)
