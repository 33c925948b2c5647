"""The templates of the rl plugin, with autoescape on everywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment

from ig_core import clean, signed, templates


@cache
def _environment() -> Environment:
    return templates("ig_rl", signed=signed, clean=clean)


def rendered(template: str, **values: Any) -> str:
    """A template, filled in; every value is escaped but what is HTML already."""
    return _environment().get_template(template).render(values)
