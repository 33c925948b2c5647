"""What a domain shows: results that can be kept, read and put on a page."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ig_core.attribution import Attribution
from ig_core.testing.kit import Subject, expect
from ig_core.testing.probe import same

HOSTILE = '\'"><img src=x onerror="alert(1)">\x1b[31m'
"""A label that would run a script in a careless page and steer a careless terminal."""


def saved_results_load(subject: Subject) -> None:
    """A result that is saved and loaded has the same values, labels and facts."""
    for result in subject.attributed(subject.make(), subject.examples):
        with tempfile.TemporaryDirectory() as folder:
            again = Attribution.load(result.save(Path(folder) / "attribution.safetensors"))
        expect(bool(again.to_html()), "the loaded result has no page")
        for name, value in result.tensors.items():
            expect(same(value, again.tensors[name]), f"{name!r} differs")
        expect(
            json.dumps(result.to_dict(), sort_keys=True)
            == json.dumps(again.to_dict(), sort_keys=True),
            "to_dict() differs",
        )


def renders_text_and_html(subject: Subject) -> None:
    """Every example renders as text, and as HTML that needs no script and no network."""
    domain = subject.make()
    for result in subject.attributed(domain, subject.examples):
        for fmt in ("text", "html"):
            view: Any = domain.render(result, fmt)
            expect(isinstance(view, str) and bool(view.strip()), f"{fmt} is {view!r}")
        tags = _Tags(result.to_html())
        expect("script" not in tags.names, "the page holds a script")
        remote = [u for u in tags.links if re.match(r"(https?:)?//", u)]
        expect(not remote, f"the page loads {remote[:3]}")


def render_escapes_labels(subject: Subject) -> None:
    """A label or a display text with HTML or control characters in it is shown as text."""
    domain = subject.make()
    for result in subject.attributed(domain, subject.examples):
        labels = [HOSTILE] * len(result.units)
        hostile = replace(result, units=replace(result.units, labels=labels))
        views = [(domain.render(hostile, "text"), domain.render(hostile, "html"))]
        worse = replace(hostile, display=_poisoned(result.display))
        with suppress(Exception):  # A view may refuse such a display; it must only not leak it.
            views.append((domain.render(worse, "text"), domain.render(worse, "html")))
        for text, html in views:
            tags = _Tags(html)
            expect(
                "x" not in tags.links and not tags.handlers,
                "a label became a tag of the page; build HTML with templates that escape",
            )
            expect("\x1b" not in text, "a label's escape sequence reached the terminal")


def _poisoned(value: Any) -> Any:
    """JSON values with every text replaced."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, Mapping):
        return {key: _poisoned(part) for key, part in value.items()}
    return [_poisoned(part) for part in value] if isinstance(value, (list, tuple)) else value


class _Tags(HTMLParser):
    """The tags of a page, what it loads, and its event handlers."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "data") and tag != "a":
                self.links.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


PROMISES = (
    saved_results_load,
    renders_text_and_html,
    render_escapes_labels,
)
