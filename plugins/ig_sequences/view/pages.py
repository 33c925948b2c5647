"""The templates of the sequence plugin, with autoescape on everywhere, and figures inside pages."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ig_core import MissingFrameworkError, clean

if TYPE_CHECKING:
    from ig_sequences.decay import Decay


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


def image(figure: Callable[[Any], Any], finding: Any) -> str:
    """The figure of a finding as the source of an ``img``; empty where matplotlib is missing."""
    try:
        drawn = figure(finding)
    except MissingFrameworkError:
        return ""
    file = io.BytesIO()
    drawn.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def told(decay: Decay) -> str:
    """A half-life in words, with its interval."""
    low, high = decay.interval
    known = ""
    if not math.isnan(low):
        known = f" (95 %: {low:.3g} " + ("or more)" if math.isinf(high) else f"to {high:.3g})")
    if not math.isfinite(decay.half_life):
        return f"no half-life{known}"
    return f"half-life {decay.half_life:.3g} {decay.unit}{known}"
