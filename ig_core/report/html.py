"""Self-contained HTML without scripts or network, escaped by the template engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from ig_core.files import write_text
from ig_core.report.card import FIRST_BARS, MOST_BARS, MOST_UNITS, Card
from ig_core.report.text import clean


def templates(package: str, **filters: Callable[..., Any]) -> Environment:
    """The templates in a package's folder ``templates``, with autoescape on everywhere.

    >>> made = templates("ig_core.report", doubled=lambda x: 2 * x)
    >>> made.from_string("{{ x|doubled }}").render(x="<b>")
    '&lt;b&gt;&lt;b&gt;'

    Args:
        package: the name of an importable package.
        filters: by the names that they have in the templates.
    """
    made = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters)
    return made


@cache
def environment() -> Environment:
    """The templates of the reports."""
    return templates("ig_core.report")


def bars(card: Card) -> str:
    """A fragment: units by magnitude as signed bars, facts beneath."""
    return _render("bars.html", card, card.largest(MOST_BARS))


def heat(card: Card) -> str:
    """A fragment: units in reading order on coloured ground, facts beneath."""
    first = Card(card.labels[:MOST_UNITS], card.scores[:MOST_UNITS], card.kind, card.facts)
    return _render("heat.html", card, first)


def page(title: str, body: str, style: str = "", *, path: str | Path | None = None) -> str:
    """A self-contained page around a fragment that is HTML already; also written to ``path``.

    ``style`` holds more rules. The page forbids itself scripts and the network.

    Raises:
        StorageError: the file cannot be written.
    """
    parts = {"title": clean(title), "body": Markup(body), "style": Markup(style)}
    whole = _template("page.html").render(parts)
    if path is not None:
        write_text(path, whole)
    return whole


def colour(share: float) -> str:
    """Ground of a unit: red for positive, blue for negative, clear at zero.

    The ends stay light enough for black text (contrast above 4.5 to 1).
    """
    red, green, blue = (214, 96, 77) if share > 0 else (67, 147, 195)
    return f"rgba({red}, {green}, {blue}, {min(abs(share), 1.0):.3f})"


def _render(template: str, card: Card, shown: Card) -> str:
    units = [
        {
            "label": clean(label),
            "score": score,
            "width": round(abs(card.share(score)) * 100, 1),
            "sign": "+" if score > 0 else "\N{MINUS SIGN}" if score < 0 else "",
            "colour": colour(card.share(score)),
            "solid": colour(math.copysign(1.0, score)),
        }
        for label, score in zip(shown.labels, shown.scores, strict=True)
    ]
    return _template(template).render(
        units=units,
        kind=clean(card.kind),
        limit=card.limit,
        more=len(card.labels) - len(units),
        zeros=card.zeros,
        facts={name: clean(fact) for name, fact in (card.facts or {}).items()},
        first=FIRST_BARS,
    )


def _template(name: str) -> Template:
    return environment().get_template(name)
