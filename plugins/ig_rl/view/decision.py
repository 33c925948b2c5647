"""What a picture of a decision says: the question, the bars, and a sentence for every feature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ig_core import Attribution, clean, embedded_figure
from ig_rl.view.pages import rendered
from ig_rl.view.screens import overlay

MOST_SENTENCES = 12

FIRST_BARS, FIRST_PIXELS, MOST_BARS = 12, 4, 40
"""Features and pixels that are seen at once, and those that are drawn at all."""

STARTS = {
    "decision-boundary": "where the choice tips, on the way to a visited state",
    "given-state": "the state that was given",
    "normalised-zero": "the running mean of the normalisation",
    "reset-state": "states in which episodes begin",
    "visited-mean": "the mean of visited states",
    "visited-median": "the median of visited states",
    "visited-states": "visited states, averaged",
    "zeros": "zero in every feature",
}
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


def sides(display: Any) -> list[str]:
    """What speaks against the explained number, or for the other action, and what for it."""
    actions = display["actions"]
    if len(actions) == 2:
        return [actions[1], actions[0]]
    return [f"lowers {display['quantity']}", f"raises {display['quantity']}"]


def moved(attribution: Attribution, feature: int) -> str:
    """Where a feature starts, in words; empty where that is not known, or zero for all."""
    starts = _start(attribution).get("values") or []
    if not any(starts) or starts[feature] is None:
        return ""
    return f"(from {starts[feature]:+.3g})"


def direction(attribution: Attribution, feature: int) -> str:
    """What a state feature does to the explained number, in words."""
    score = float(attribution.scores[feature])
    doubt = attribution.uncertainty
    if doubt is not None and 0 < abs(score) <= float(doubt[feature]):
        return "has no part that can be told from zero"
    if not abs(score) > 0:
        return "has no part in it"
    display = attribution.display
    actions = display["actions"]
    if len(actions) == 2:
        return f"pushes towards {actions[0] if score > 0 else actions[1]}"
    return f"{'raises' if score > 0 else 'lowers'} {display['quantity']}"


def strongest(attribution: Attribution, most: int) -> list[int]:
    """The features of largest magnitude, the largest first."""
    scores = attribution.scores.tolist()
    return sorted(range(len(scores)), key=lambda i: -abs(scores[i]))[:most]


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


def decision(bars: str, attribution: Attribution) -> str:
    """Plain text: the question above the bars, and a sentence for every feature beneath."""
    head = [question(attribution.display), summary(attribution)]
    head += [f"{told}." for told in (*warnings(attribution), *notes(attribution))]
    labels = attribution.units.labels
    told = [
        " ".join(filter(None, (labels[i], moved(attribution, i), direction(attribution, i))))
        for i in strongest(attribution, MOST_SENTENCES)
    ]
    return "\n".join([*map(clean, head), "", bars, "", *map(clean, told)])


def decision_html(attribution: Attribution) -> str:
    """An HTML fragment: the question, and every feature with its value and a bar to its side.

    An image is drawn under its colours instead, with the strongest pixels beneath.
    """
    display = attribution.display
    scores = attribution.scores.tolist()
    limit = max((abs(s) for s in scores if math.isfinite(s)), default=0.0) or 1.0
    order = [i for i in strongest(attribution, MOST_BARS) if scores[i]] or [0]
    image = isinstance(display.get("image"), dict)
    down, up = sides(display)
    return rendered(
        "decision.html",
        question=question(display),
        summary=summary(attribution),
        warnings=warnings(attribution),
        notes=notes(attribution),
        picture=embedded_figure(overlay, attribution) if image else "",
        image=image,
        up=up,
        down=down,
        rows=[
            {
                "label": attribution.units.labels[i],
                "score": scores[i],
                "from": moved(attribution, i),
                "does": direction(attribution, i),
                "width": f"{50 * min(abs(scores[i]) / limit, 1):.2f}",
                "side": "up" if scores[i] > 0 else "down",
            }
            for i in order
        ],
        first=FIRST_PIXELS if image else FIRST_BARS,
        more=len(scores) - len(order),
        limit=limit,
        facts=attribution.card().facts or {},
    )


def warnings(attribution: Attribution) -> list[str]:
    """What makes the answer doubtful: a sum that is off, ties, and what the agent does not see."""
    display = attribution.display
    trusted = attribution.converged or attribution.status == "one_shot"
    told = [] if trusted else [f"Careful: {(attribution.card().facts or {})['status']}"]
    told += [f"Tie: {tie}" for tie in display["ties"]]
    if clipped := _start(attribution).get("clipped"):
        told.append(f"Clipped by the normalisation: {', '.join(clipped)}")
    return told


def notes(attribution: Attribution) -> list[str]:
    """What a reader may want to know besides, such as which critic is the smaller."""
    display = attribution.display
    return [*filter(None, [display.get("critic")]), *_start(attribution).get("notes", [])]


def _start(attribution: Attribution) -> dict[str, Any]:
    """What a result tells about the start of its path."""
    told = attribution.display.get("start")
    return told if isinstance(told, dict) else {}
