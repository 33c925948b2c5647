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


def numbers(values: Any) -> Any:
    """Nested lists of an array's numbers likewise; None where there is no array.

    >>> numbers([[1.0, math.inf], [2.0, 3.0]])
    [[1.0, None], [2.0, 3.0]]
    """
    if values is None:
        return None
    array = np.asarray(values)
    if array.dtype.kind in "biu" or bool(np.isfinite(array).all()):
        return array.tolist()
    return [numbers(one) if array.ndim > 1 else number(one) for one in array]
