"""The templates of the sequence plugin, with autoescape on everywhere."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ig_core import clean


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign.

    >>> signed(0.25), signed(-1e-9, 2), signed(0.0), signed(float("nan"))
    ('+0.25', '−1e-09', '0', 'not a number')
    """
    if math.isnan(value):
        return "not a number"
    sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""
    return f"{sign}{abs(value):.{digits}g}"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("ig_sequences", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(signed=signed, clean=clean)
    return made


def rendered(template: str, **values: Any) -> str:
    """A template, filled in; every value is escaped but what is HTML already."""
    return _environment().get_template(template).render(values)
