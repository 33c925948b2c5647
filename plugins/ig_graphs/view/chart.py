"""A chart of a few curves, drawn like the graphs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ig_graphs.view.canvas import Canvas, Point, Shape, Word, circle, line, polygon
from ig_graphs.view.marks import DASH, INK, RULE, SOFT

WIDTH, HEIGHT, LEFT, BELOW = 600.0, 300.0, 66.0, 44.0

DARK, LIGHT = "#1b4f8a", "#b8bec6"


@dataclass(frozen=True)
class Curve:
    """Named points; a ``dashed`` line, or the grey one of a ``control``."""

    name: str
    across: Sequence[float]
    up: Sequence[float]
    dashed: bool = False
    control: bool = False


def chart(title: str, curves: Sequence[Curve], across: str, up: str) -> str:
    """The curves on one pair of axes, the horizontal one from 0 to 1, as one SVG."""
    values = [v for curve in curves for v in curve.up if math.isfinite(v)]
    low, high = min([0.0, *values]), max([0.0, *values])
    if low == high:
        high = low + 1
    canvas = Canvas(title, WIDTH, HEIGHT + BELOW + 24.0 * len(curves) / 2 + 20)
    top, right = 30.0, WIDTH - 20

    def at(x: float, y: float) -> Point:
        return LEFT + x * (right - LEFT), top + (high - y) / (high - low) * (HEIGHT - top)

    for tick in _ticks(low, high):
        canvas.items.append(Shape(line(at(0, tick), at(1, tick)), "#e5e7ea"))
        canvas.items.append(Word(f"{tick:g}", (LEFT - 8, at(0, tick)[1]), 11, SOFT, "end"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        canvas.items.append(Word(f"{share:g}", (at(share, low)[0], HEIGHT + 14), 11, SOFT))
    canvas.items.append(Shape(line(at(0, 0), at(1, 0)), RULE, width=1.4))
    for curve in reversed(curves):
        tint = LIGHT if curve.control else DARK
        points = [at(x, y) for x, y in zip(curve.across, curve.up, strict=True) if math.isfinite(y)]
        width = 1.6 if curve.control else 2.4
        path = [("M", points[:1]), *(("L", [point]) for point in points[1:])]
        if points:
            canvas.items.append(
                Shape(path, tint, width=width, dash=DASH if curve.dashed else (), kind="curve")
            )
        if not curve.control:
            for (x, y), told in zip(points, curve.up, strict=False):
                dot = circle((x, y), 3.2)
                if curve.dashed:
                    dot = polygon([(x - 4, y), (x, y - 4), (x + 4, y), (x, y + 4)])
                canvas.items.append(Shape(dot, tint, tint, tip=f"{curve.name}: {told:.4g}"))
    canvas.items.append(Word(across, ((LEFT + right) / 2, HEIGHT + 32), 12, SOFT))
    canvas.items.append(Word(up, (4, 9), 11, SOFT, "start"))
    for number, curve in enumerate(curves):
        x, y = LEFT + 270.0 * (number % 2), HEIGHT + BELOW + 16 + 22 * (number // 2)
        tint = LIGHT if curve.control else DARK
        dash = DASH if curve.dashed else ()
        canvas.items.append(Shape(line((x, y), (x + 34, y)), tint, width=2.4, dash=dash))
        canvas.items.append(Word(curve.name, (x + 42, y), 12, INK, "start"))
    return canvas.svg()


def _ticks(low: float, high: float) -> Sequence[float]:
    """About five round numbers from the lowest to the highest."""
    raw = (high - low) / 5
    base = 10 ** math.floor(math.log10(raw))
    step = next(base * one for one in (1, 2, 5, 10) if base * one >= raw)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]
