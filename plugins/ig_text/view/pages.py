"""The templates of the text plugin, with autoescape on everywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment

from ig_core import signed, templates
from ig_text.view.reading import legible


@cache
def _environment() -> Environment:
    return templates("ig_text", signed=signed, legible=legible)


def fragment(template: str, **values: Any) -> str:
    """A template as an HTML fragment that holds its own style rules."""
    return _environment().get_template(template).render(values)
