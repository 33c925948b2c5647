"""What a sequence's attribution looks like."""

from __future__ import annotations

from ig_core import Attribution, Card, heat


def strip(attribution: Attribution) -> str:
    """An HTML fragment: the steps in reading order, and the named features in sum over time."""
    steps = heat(attribution.card())
    names = attribution.display.get("features")
    if not names:
        return steps
    sums = attribution.tensors["x"].double().sum(0).tolist()
    return f"{steps}\n<p>Features, summed over time:</p>\n{heat(Card(names, sums, 'feature'))}"
