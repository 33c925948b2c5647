"""The templates of the text plugin, with autoescape on everywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ig_text.view.marks import signed
from ig_text.view.reading import legible


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("ig_text", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(signed=signed, legible=legible)
    return made


def fragment(template: str, **values: Any) -> str:
    """A template as an HTML fragment that holds its own style rules."""
    return _environment().get_template(template).render(values)
