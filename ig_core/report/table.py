"""A Table is how findings are read: named columns of words and numbers, and remarks beneath."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ig_core.report.html import environment
from ig_core.report.text import clean

Cell = str | int | float


@dataclass(frozen=True)
class Table:
    """Rows under named columns; a column of numbers is aligned to the right.

    >>> print(Table(["word", "mean"], [["dull", -0.25], ["film", 0.125]], ["2 texts"]).to_text())
    word   mean
    dull  -0.25
    film  0.125
    2 texts
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def to_text(self) -> str:
        """Plain text, safe for any terminal or log."""
        lines = [[clean(name) for name in self.columns], *self._told()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        sides = [">" if number else "<" for number in self._numbers()]
        told = [
            "  ".join(
                f"{cell:{side}{width}}"
                for cell, side, width in zip(line, sides, widths, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*told, *map(clean, self.notes)])

    def to_html(self) -> str:
        """An HTML fragment, escaped."""
        return (
            environment()
            .get_template("table.html")
            .render(
                columns=[clean(name) for name in self.columns],
                rows=self._told(),
                sides=["right" if number else "left" for number in self._numbers()],
                notes=[clean(note) for note in self.notes],
            )
        )

    def to_csv(self) -> str:
        """Comma-separated values, the numbers in full and a header first."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def _told(self) -> list[list[str]]:
        return [[_told(cell) for cell in row] for row in self.rows]

    def _numbers(self) -> list[bool]:
        """Which columns hold numbers only."""
        places = range(len(self.columns))
        return [
            bool(self.rows) and not any(isinstance(r[i], str) for r in self.rows) for i in places
        ]


def _told(cell: Cell) -> str:
    if isinstance(cell, str):
        return clean(cell)
    if isinstance(cell, int):
        return str(cell)
    return "n/a" if math.isnan(cell) else f"{cell:.3g}"
