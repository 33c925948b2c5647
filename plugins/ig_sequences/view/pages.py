"""The templates of the sequence plugin, with autoescape on everywhere."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from ig_core import clean, signed, templates

if TYPE_CHECKING:
    from ig_sequences.decay import Decay


@cache
def _environment() -> Environment:
    return templates("ig_sequences", signed=signed, clean=clean)


def rendered(template: str, **values: Any) -> str:
    """A template, filled in; every value is escaped but what is HTML already."""
    return _environment().get_template(template).render(values)


FAR = 1000.0
"""A half-life of so many times the oldest lag is no number worth telling."""


def told(decay: Decay) -> str:
    """A half-life in words, with its interval."""
    told = interval(decay)
    known = f" (95 %: {told})" if told else ""
    if not math.isfinite(decay.half_life):
        return f"no half-life{known}"
    if beyond(decay, decay.half_life) == math.inf:
        return f"half-life far beyond the lags{known}"
    return f"half-life {decay.half_life:.3g} {decay.unit}{known}"


def interval(decay: Decay) -> str:
    """The interval of a half-life in words; empty where there is none."""
    low, high = (beyond(decay, end) for end in decay.interval)
    if math.isnan(low) or math.isnan(high):
        return ""
    if math.isinf(low):
        return "far beyond the lags"
    return f"{low:.3g} or more" if math.isinf(high) else f"{low:.3g} to {high:.3g}"


def beyond(decay: Decay, half_life: float) -> float:
    """The same, but infinite where it is far beyond all lags."""
    return math.inf if half_life > FAR * float(decay.lags.max()) else half_life
