"""Charts of a run as inline SVG: one dot a case, one bar for the median of a method in a domain."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ig_core.report.html import environment

WIDTH, LEFT, RIGHT, LINE = 460, 128, 28, 19

Values = Mapping[str, Mapping[str, Sequence[float]]]
"""Numbers by domain and method, one for each case."""


@dataclass(frozen=True)
class Axis:
    """A scale from numbers to shares of the width, with its ticks."""

    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    @classmethod
    def over(cls, values: Sequence[float]) -> Axis:
        """Decades where positive numbers span several; else a range around zero."""
        positive = [v for v in values if v > 0]
        if positive and min(values) >= 0 and max(positive) > 100 * min(positive):
            first = max(math.floor(math.log10(min(positive))), -12)
            last = math.ceil(math.log10(max(positive)))
            step = math.ceil((last - first) / 5)
            return cls(first, last, [10.0**i for i in range(first, last + 1, step)], True)
        reach = max((abs(v) for v in values), default=0.0) or 1.0
        size = 10.0 ** math.floor(math.log10(reach))
        end = next(size * m for m in (1, 2, 5, 10) if size * m >= reach * 0.999)
        low = -end if min(values, default=0.0) < 0 else 0.0
        parts = 4
        return cls(low, end, [low + (end - low) * i / parts for i in range(parts + 1)])

    def place(self, value: float) -> float:
        """Where a number lies, in user units of the drawing; what is too small lies at the end."""
        if self.logarithmic:
            value = math.log10(value) if value > 0 else self.low
        share = (value - self.low) / (self.high - self.low)
        return round(LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT), 1)

    def label(self, tick: float, least: float) -> str:
        """A tick's label; the first one says so where smaller numbers lie there too."""
        clipped = self.logarithmic and tick == self.ticks[0] and least < tick
        return f"{'≤ ' if clipped else ''}{tick:g}"


def chart(title: str, values: Values) -> str:
    """An SVG element with a title and a description that holds its numbers."""
    numbers = [v for methods in values.values() for cases in methods.values() for v in cases]
    axis = Axis.over(numbers)
    lines: list[dict[str, object]] = []
    y = 2
    for domain, methods in values.items():
        lines.append({"y": y + 14, "domain": domain})
        y += LINE + 2
        for method, cases in methods.items():
            median = statistics.median(cases)
            lines.append(
                {
                    "y": y + 13,
                    "domain": "",
                    "method": method,
                    "dots": [axis.place(v) for v in cases],
                    "median": axis.place(median),
                    "number": f"{median:.2g}",
                    "count": len(cases),
                }
            )
            y += LINE
        y += 6
    zero = axis.place(axis.low if axis.logarithmic else 0.0)
    return (
        environment()
        .get_template("chart.svg")
        .render(
            title=title,
            lines=lines,
            ticks=[{"x": axis.place(t), "label": axis.label(t, min(numbers))} for t in axis.ticks],
            zero=zero,
            width=WIDTH,
            left=LEFT,
            bottom=y,
            height=y + 24,
            logarithmic=axis.logarithmic,
        )
    )
