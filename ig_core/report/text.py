"""Plain text pictures, safe for any terminal or log."""

from __future__ import annotations

import math
import unicodedata

from ig_core.report.card import Card

BAR = 20

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def table(card: Card, most: int = 30) -> str:
    """Units by magnitude with signed bars; facts beneath.

    >>> print(table(Card(["dull", "film"], [-2.0, 1.0], "token")))
    token  score
    dull      -2  --------------------
    film      +1  ++++++++++
    """
    shown = card.largest(most)
    labels = [clean(label) for label in shown.labels]
    numbers = [f"{score:+.4g}" for score in shown.scores]
    kind = clean(card.kind)
    wide = max([len(kind), *map(len, labels)])
    right = max([len("score"), *map(len, numbers)])
    lines = [f"{kind:<{wide}}  {'score':>{right}}"]
    for label, number, score in zip(labels, numbers, shown.scores, strict=True):
        bar = ("+" if score > 0 else "-") * round(abs(shown.share(score)) * BAR)
        lines.append(f"{label:<{wide}}  {number:>{right}}  {bar}".rstrip())
    if more := len(card.labels) - len(labels):
        zeros = f", {card.zeros} of them exactly 0" if card.zeros else ""
        lines.append(f"... and {more} more{zeros}")
    facts = card.facts or {}
    gap = max(map(len, facts), default=0)
    return "\n".join(lines + [f"{name:<{gap}}  {clean(value)}" for name, value in facts.items()])


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign.

    >>> signed(0.25), signed(-1e-9, 2), signed(0.0), signed(float("nan"))
    ('+0.25', '−1e-09', '0', 'not a number')
    """
    if math.isnan(value):
        return "not a number"
    sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""
    return f"{sign}{abs(value):.{digits}g}"


def clean(label: str) -> str:
    """The label without control characters, so that it cannot steer a terminal."""
    return "".join(
        c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in label
    )


def shortened(label: str, most: int) -> str:
    """A label of at most so many letters; the last one is an ellipsis where some are left out.

    >>> shortened("cepstrum", 4), shortened("rain", 4)
    ('cep…', 'rain')
    """
    return label if len(label) <= most else label[: most - 1] + ELLIPSIS
