"""A Matrix: what each word of a prompt and of the text so far did for each generated token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from rich.cells import cell_len, set_cell_size
from torch import Tensor

from ig_core import Attribution, InputError, clean, new_figure, page, signed
from ig_text.view.marks import Scale
from ig_text.view.pages import fragment
from ig_text.view.reading import (
    Generation,
    alike,
    generation,
    legible,
    places,
    reading,
    told_units,
)

MOST_ROWS = 150
"""Words drawn, those of the largest sum of magnitudes; the others share one row of each block."""

MOST_STOPS = 400
"""Cells that the tabulator key stops at, the strongest; every cell tells its number on hover."""

MOST_MISSED = 8
"""Tokens that are named of those that did not converge; the others are counted."""

WIDE = 16
"""Columns from which on cells are coloured only, and tell their number on hover and focus."""

WIDTH, LABEL, CELL = 100, 24, 10


@dataclass(frozen=True)
class Row:
    """One row of a matrix as it is drawn; ``empty`` marks words that the token cannot depend on."""

    label: str
    values: Sequence[float]
    empty: Sequence[bool]


@dataclass(frozen=True, eq=False)
class Matrix:
    """Attributions of a generated text: a row for every unit, a column for every token.

    ``values`` are in the unit of the explained number, log-probabilities as a rule; a column sums
    to what its target has above the baseline, up to the residual. ``later`` marks units that stand
    at or behind the token of the column. ``blocks`` holds the units of each text, by its role.
    """

    values: Float[Tensor, "units tokens"]
    later: Bool[Tensor, "units tokens"]
    units: Sequence[str]
    tokens: Sequence[str]
    blocks: Mapping[str, Sequence[int]]
    results: Sequence[Attribution]

    @property
    def deltas(self) -> Float[Tensor, " tokens"]:
        """F(x) - F(x') of each token: what its column sums to, up to :attr:`residuals`."""
        return torch.tensor([result.delta for result in self.results], dtype=torch.float64)

    @property
    def residuals(self) -> Float[Tensor, " tokens"]:
        """What the columns' sums miss, as each attribution reports it."""
        return torch.tensor([result.residual for result in self.results], dtype=torch.float64)

    def to_html(self, path: str | Path | None = None) -> str:
        """A self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        return page(f"Attribution of {len(self.tokens)} tokens", self._repr_html_(), path=path)

    def to_text(self) -> str:
        """Plain text: words by tokens, as many columns beside each other as fit 100 characters."""
        return "\n".join(self._lines())

    def plot(self) -> Any:
        """A matplotlib heat map, a panel for each block, on one scale (extra ``viz``).

        Raises:
            MissingFrameworkError: matplotlib is not installed.
        """
        rows = {role: self.rows(role) for role in self.blocks}
        height = sum(len(block) for block in rows.values())
        figure = new_figure(2.5 + 0.4 * len(self.tokens), 1.8 + 0.24 * height)
        panels = figure.subplots(
            len(rows), 1, squeeze=False, sharex=True, height_ratios=[len(r) for r in rows.values()]
        )[:, 0]
        limit = self._scale.limit or 1.0
        for axes, (role, block) in zip(panels, rows.items(), strict=True):
            drawn = [
                [math.nan if empty else v for v, empty in zip(r.values, r.empty, strict=True)]
                for r in block
            ]
            image = axes.imshow(drawn, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
            axes.set_facecolor("#eeeeee")
            axes.set_yticks(range(len(block)), [_plain(row.label) for row in block])
            axes.set_ylabel(_plain(role))
        panels[-1].set_xticks(range(len(self.tokens)), map(_plain, self._headings), rotation=90)
        figure.colorbar(image, ax=list(panels), label="attribution (same unit as the output)")
        return figure

    def rows(self, role: str) -> Sequence[Row]:
        """The rows of one block as they are drawn; the weakest of very many share the last."""
        units = self.blocks[role]
        size = self.values.abs().sum(1)
        kept = sorted(sorted(units, key=lambda unit: -float(size[unit]))[:MOST_ROWS])
        rows = [
            Row(
                self.units[unit],
                self.values[unit].tolist(),
                (self.later[unit] & (self.values[unit] == 0)).tolist(),
            )
            for unit in kept
        ]
        if rest := [unit for unit in units if unit not in set(kept)]:
            sums = self.values[rest].sum(0).tolist()
            rows.append(Row(f"({len(rest)} others)", sums, [False] * len(sums)))
        return rows

    def _repr_html_(self) -> str:
        scale = self._scale
        flat = sorted(self.values.abs().flatten().tolist(), reverse=True)
        weakest = flat[min(len(flat), MOST_STOPS) - 1]
        first = self.results[0]
        missed = [
            repr(heading)
            for heading, result in zip(self._headings, self.results, strict=True)
            if not result.converged and result.status != "one_shot"
        ]
        return fragment(
            "matrix.html",
            scale=scale,
            headings=self._headings,
            explained=[str(r.display.get("explained", "the output")) for r in self.results],
            blocks=[
                {
                    "role": role,
                    "rows": [
                        {"label": row.label, "cells": [*self._cells(row, scale, weakest)]}
                        for row in self.rows(role)
                    ],
                    "sums": [signed(v, 3) for v in self.values[list(units)].sum(0).tolist()],
                }
                for role, units in self.blocks.items()
            ],
            sums=[signed(v, 4) for v in self.values.sum(0).tolist()],
            deltas=[signed(v, 4) for v in self.deltas.tolist()],
            residuals=[signed(v, 2) for v in self.residuals.tolist()],
            kind=first.units.kind,
            wide=len(self.tokens) >= WIDE,
            missed=missed[:MOST_MISSED],
            missed_count=len(missed),
            hatched=bool(self.later.any()),
            facts={
                **{
                    name: value
                    for name in ("method", "baseline")
                    if isinstance(value := first.provenance.get(name), str)
                },
                "evaluations": str(sum(result.evaluations for result in self.results)),
            },
        )

    def _cells(self, row: Row, scale: Scale, weakest: float) -> Iterator[Mapping[str, Any] | None]:
        for heading, value, empty in zip(self._headings, row.values, row.empty, strict=True):
            if empty:
                yield None
                continue
            sign, strength = scale.shade(value)
            yield {
                "text": _short(value, scale).replace("-", "\N{MINUS SIGN}"),
                "note": f"{legible(row.label)} \N{RIGHTWARDS ARROW} {heading}: {signed(value, 4)}",
                "sign": sign,
                "strength": strength,
                "stop": abs(value) >= weakest and value != 0,
            }

    def _lines(self) -> Iterator[str]:
        rows = {role: self.rows(role) for role in self.blocks}
        labels = [clean(row.label) for block in rows.values() for row in block]
        side = min(LABEL, max(map(cell_len, [*labels, "difference"])))
        fits = max(1, (WIDTH - side) // CELL)
        scale = self._scale
        for begin in range(0, len(self.tokens), fits):
            part = slice(begin, begin + fits)
            if begin:
                yield ""
            yield " " * side + "".join(_right(clean(h)) for h in self._headings[part])
            for role, block in rows.items():
                yield f"{clean(role)}:"
                for row in block:
                    cells = zip(row.values[part], row.empty[part], strict=True)
                    yield set_cell_size(clean(row.label), side) + "".join(
                        _right("" if empty else _short(value, scale)) for value, empty in cells
                    )
            for name, numbers in (("sum", self.values.sum(0)), ("difference", self.deltas)):
                shown = "".join(_right(f"{v:+.3g}") for v in numbers[part].tolist())
                yield f"{name:<{side}}{shown}"
            shown = "".join(_right(f"{v:.0e}") for v in self.residuals[part].tolist())
            yield f"{'residual':<{side}}{shown}"

    @property
    def _scale(self) -> Scale:
        return Scale.of(self.values.flatten().tolist())

    @property
    def _headings(self) -> Sequence[str]:
        """The tokens without the white space around them, or the white space made visible.

        A token that spells nothing is a further part of the character before it.
        """
        arrow = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
        return [
            legible(token).strip()
            or token.replace("\n", arrow).replace(" ", "\N{OPEN BOX}")
            or "\N{HORIZONTAL ELLIPSIS}"
            for token in self.tokens
        ]

    def __repr__(self) -> str:
        return f"Matrix({len(self.units)} {self.results[0].units.kind}s, {len(self.tokens)} tokens)"


def matrix(results: Sequence[Attribution]) -> Matrix:
    """The attributions of the tokens of one generated text, side by side.

    They are what ``ig.attribute(model, prompt, generated=..., targets="each", tokenizer=...)``
    gives, in any order.

    >>> options = {"generated": " film who", "targets": "each", "tokenizer": tokenizer}
    >>> found = matrix(ig.attribute(lm, "a dull", **options))
    >>> [token.strip() for token in found.tokens]
    ['film', 'who']
    >>> [found.units[unit] for unit in found.blocks["prompt"]]
    ['a', 'dull']

    Raises:
        InputError: there are none, one is not of a generated token, two are of the same, or they
            are over different units or of different texts.
    """
    if isinstance(results, Attribution):
        raise InputError("matrix() needs a list of attributions, one of every generated token")
    told = sorted(((_told(result), result) for result in results), key=lambda pair: pair[0].begin)
    if not told:
        raise InputError("matrix() needs the attributions of generated tokens (got none)")
    chosen, first = told[0]
    for one, other in told[1:]:
        if not alike(first, other) or one.tokens != chosen.tokens:
            raise InputError(
                "the attributions of a matrix must be over the same units of the same text "
                f"(got {told_units(first, other)}, of {_texts(first)} and {_texts(other)})"
            )
    for (one, _), (other, _) in pairwise(told):
        if other.begin < one.end:
            raise InputError(
                f"two attributions explain the same token, number {other.begin} "
                f"{one.tokens[other.begin]!r:.80}; a matrix has one column for each"
            )
    where = places(first)
    later = torch.zeros(len(first.units), len(told), dtype=torch.bool)
    for column, (one, _) in enumerate(told):
        place = one.ranges[one.begin]
        for unit, (text, start) in where.items():
            later[unit, column] = place is not None and text == one.number and start >= place[0]
    return Matrix(
        values=torch.stack([result.scores for _, result in told], 1),
        later=later,
        units=list(first.units.labels),
        tokens=[one.explained for one, _ in told],
        blocks={s.role or "input": s.units for s in reading(first) if s.units},
        results=[result for _, result in told],
    )


def _told(result: Attribution) -> Generation:
    """What a result explains of a generated text."""
    told = generation(result.display)
    if told is None:
        explained = result.display.get("explained", "no generated token")
        raise InputError(
            "a matrix needs attributions of generated tokens, as targets='each' gives them "
            f"(got one of {explained!r:.80})"
        )
    return told


def _texts(result: Attribution) -> str:
    return f"{' / '.join(result.display.get('texts') or ['?'])!r:.60}"


def _short(value: float, scale: Scale) -> str:
    """A number to three digits of the largest one, without its sign where nothing is left."""
    digits = max(0, 2 - math.floor(math.log10(scale.limit))) if scale.limit else 0
    if not math.isfinite(value) or digits > 5 or scale.limit >= 1e6:
        return f"{value:+.2g}"
    text = f"{value:+.{digits}f}"
    return text if text.strip("+-0.") else "0"


def _right(text: str) -> str:
    """A cell of plain text, set to the right."""
    room = CELL - 1
    shown = text if cell_len(text) <= room else set_cell_size(text, room)
    return " " * (CELL - cell_len(shown)) + shown


def _plain(label: str) -> str:
    """A label for matplotlib, which reads formulas between dollars."""
    return clean(label).replace("$", r"\$")
