"""Plain numbers: those of JSON, which knows neither NaN nor infinity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def number(value: float) -> float | None:
    """A number, or None in place of NaN and infinity.

    >>> number(0.5), number(float("nan"))
    (0.5, None)
    """
    return float(value) if math.isfinite(value) else None


def numbers(values: Any) -> list[float | None]:
    """Each of some numbers likewise."""
    return [number(value) for value in np.asarray(values, dtype=float).tolist()]
