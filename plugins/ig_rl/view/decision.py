"""What a picture of a decision says: the question, the bars, and a sentence for every feature."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ig_core import Attribution, clean

MOST_SENTENCES = 12

STARTS = {"zeros": "zero in every feature", "visited-mean": "the mean of visited states"}
"""What a baseline means to an agent, by its name."""


def quantity(symbol: str, actions: Sequence[str]) -> str:
    """How the explained number is written.

    >>> quantity("Q", ["right", "left"]), quantity("logit", ["right"]), quantity("Q", [])
    ('Q(right) - Q(left)', 'logit(right)', 'V(s)')
    """
    return " - ".join(f"{symbol}({action})" for action in actions) or "V(s)"


def question(display: Any) -> str:
    """What the attribution answers."""
    actions = display["actions"]
    if len(actions) == 2:
        return f"Why {actions[0]} rather than {actions[1]}?"
    return f"Why this {display['quantity']}?"


def sentences(attribution: Attribution) -> list[str]:
    """One sentence per state feature, the strongest first."""
    display = attribution.display
    actions = display["actions"]
    if len(actions) == 2:
        up, down = f"pushes towards {actions[0]}", f"pushes towards {actions[1]}"
    else:
        up, down = f"raises {display['quantity']}", f"lowers {display['quantity']}"
    scores = attribution.scores.tolist()
    strongest = sorted(range(len(scores)), key=lambda i: -abs(scores[i]))[:MOST_SENTENCES]
    doubt = attribution.uncertainty
    told = []
    for i in strongest:
        if doubt is not None and 0 < abs(scores[i]) <= float(doubt[i]):
            says = "has no part that can be told from zero"
        else:
            says = up if scores[i] > 0 else down if scores[i] < 0 else "has no part in it"
        told.append(f"{attribution.units.labels[i]} {says}")
    return told


def summary(attribution: Attribution) -> str:
    """The explained number at both ends, and where the path starts."""
    display = attribution.display
    given = str(attribution.provenance.get("baseline"))
    start = STARTS.get(given, given)
    if given == "zeros" and not display["visited"]:
        start += ", as no visited states were given with states="
    return (
        f"{display['quantity']} of this {display['agent']} is {attribution.at_input:.4g} at the "
        f"state and {attribution.at_baseline:.4g} at the baseline ({start})."
    )


def around(bars: str, attribution: Attribution, fmt: str) -> str:
    """The bars with the question above and the sentences beneath, as text or as HTML."""
    display = attribution.display
    head = [question(display), summary(attribution), *(f"Tie: {t}." for t in display["ties"])]
    told = sentences(attribution)
    if fmt != "html":
        return "\n".join([*map(clean, head), "", bars, "", *map(clean, told)])
    first, *rest = (escape(line) for line in head)
    paragraphs = "".join(f"<p>{line}</p>" for line in rest)
    items = "".join(f"<li>{escape(line)}</li>" for line in told)
    return f"<h3>{first}</h3>\n{paragraphs}\n{bars}\n<ul>{items}</ul>\n"
