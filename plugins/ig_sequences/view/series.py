"""What a sequence's attribution looks like: a heat map of features by steps under the series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ig_core import Attribution, Table, clean, shortened, signed
from ig_sequences.view.grid import (
    Grid,
    closer,
    feature_names,
    grid,
    series_of,
    step_labels,
    times_of,
)
from ig_sequences.view.pages import rendered

LEFT, RIGHT, ACROSS = 128.0, 64.0, 620.0
"""Room for names and for sums beside the grid, and the grid's own width."""

BARS, GAP, BELOW = 64.0, 8.0, 22.0
"""Heights: of the bars of the steps, between the rows, of the labels of the steps."""

FAINTEST = 0.01
"""A share of the scale below which a colour cannot be told from none."""

MOST_TOLD = 20
"""Cells in the table beneath the picture."""

LETTER = 7.0
"""Width of a letter in the picture."""


def drawing(attribution: Attribution) -> str:
    """An HTML fragment: the series on its heat map, the sums over features, and how far to trust.

    Red raises the explained number, blue lowers it; what lowers it is crossed by a stroke as well.
    """
    whole = _drawn(grid(attribution))
    near = closer(attribution)
    status = (attribution.card().facts or {})["status"]
    trusted = attribution.converged or attribution.status == "one_shot"
    return rendered(
        "series.html",
        explained=explained(attribution),
        warning="" if trusted else status,
        picture=whole if near is None else _drawn(grid(attribution, near)),
        whole=None if near is None else whole,
        kind=attribution.units.kind,
        timed=step_labels(attribution) is not attribution.units.labels,
        largest=table(attribution, MOST_TOLD),
        facts=attribution.card().facts or {},
    )


def explained(attribution: Attribution) -> str:
    """The explained number in words: the target, and where in time it is."""
    target = attribution.provenance.get("target")
    output = attribution.display.get("output")
    what = "the output" if target is None else target
    if not isinstance(what, str):
        what = f"output {', '.join(map(str, what)) if isinstance(what, list | tuple) else what}"
    return what if output in (None, "whole sequence") else f"{what}, {output}"


def _drawn(found: Grid) -> Mapping[str, Any]:
    """What the template draws of a grid."""
    heights = _heights(len(found.rows))
    bottom = BARS + GAP + sum(heights) + GAP * len(heights)
    return {
        "width": LEFT + ACROSS + RIGHT,
        "height": bottom + BELOW,
        "left": LEFT,
        "right": LEFT + ACROSS,
        "bottom": bottom,
        "bars": _bars(found),
        "bars_height": BARS,
        "bars_limit": float(np.abs(found.steps).max(initial=0.0)),
        "rows": _rows(found, heights),
        "ticks": _ticks(found.columns),
        "marked": None if found.explained is None else _centre(found, found.explained),
        "limit": found.limit,
        "per_column": found.per_column,
        "first": clean(found.columns[0]),
        "last": clean(found.columns[-1]),
    }


def table(attribution: Attribution, most: int | None = None) -> Table:
    """Every step and feature with its input and its attribution, which also writes itself as CSV.

    In order of time; with ``most`` the cells of largest magnitude only, the largest first. The
    input is NaN where it was too long to be kept with the result.

    >>> import torch
    >>> import ig_core as ig
    >>> from ig_sequences.cases.closed_forms import LeakyIntegrator
    >>> x = torch.ones(2, 1, dtype=torch.float64)
    >>> print(table(ig.attribute(LeakyIntegrator(0.5), x, domain="sequences")).to_csv(), end="")
    step,feature,input,attribution
    t=0,feature 0,1.0,0.5
    t=1,feature 0,1.0,1.0

    Raises:
        InputError: the result is not of a sequence.
    """
    grid(attribution)
    scores = attribution.tensors["x"].double().numpy()
    names = feature_names(attribution)
    series = series_of(attribution)
    inputs = np.full(scores.shape, np.nan) if series is None else series
    flat = np.nan_to_num(scores).reshape(-1)
    order = np.arange(flat.size)
    if most is not None:
        order = np.argsort(-np.abs(flat), kind="stable")[:most]
        order = order[flat[order] != 0]
    steps, columns = np.divmod(order, scores.shape[1])
    times = times_of(attribution)
    told: list[list[str | float]] = [[label] for label in attribution.units.labels]
    for step, time in enumerate(times or ()):
        told[step].append(time)
    rows = [
        [*told[t], names[f], float(inputs[t, f]), float(scores[t, f])]
        for t, f in zip(steps.tolist(), columns.tolist(), strict=True)
    ]
    first = [attribution.units.kind, *([] if times is None else ["time"])]
    return Table([*first, "feature", "input", "attribution"], rows)


def _heights(rows: int) -> list[float]:
    height = 96.0 if rows == 1 else 56.0 if rows <= 4 else 40.0 if rows <= 8 else 26.0
    return [height] * rows


def _bars(found: Grid) -> list[Mapping[str, Any]]:
    """The signed sum of every column as a bar up or down from the middle."""
    limit = float(np.abs(found.steps).max(initial=0.0)) or 1.0
    wide = ACROSS / len(found.columns)
    middle, reach = BARS / 2, BARS / 2 - 2
    return [
        {
            "x": _short(LEFT + i * wide),
            "width": _short(max(wide - (1 if wide > 3 else 0), 0.5)),
            "y": _short(middle - max(score, 0) / limit * reach),
            "height": _short(abs(score) / limit * reach),
            "sign": "up" if score > 0 else "down",
            "tip": f"{clean(label)}: {signed(score)}",
        }
        for i, (label, score) in enumerate(zip(found.columns, found.steps.tolist(), strict=True))
    ]


def _rows(found: Grid, heights: Sequence[float]) -> Sequence[Mapping[str, Any]]:
    rows, top = [], BARS + GAP
    for r, (name, height) in enumerate(zip(found.rows, heights, strict=True)):
        line = found.line(r)
        rows.append(
            {
                "name": shortened(clean(name), int(LEFT / LETTER) - 1),
                "full": clean(name),
                "top": top,
                "height": height,
                "sum": signed(float(found.features[r])),
                "cells": _cells(found, r, top, height),
                "line": "" if line is None else _line(line, top, height),
                "range": _range(found, r),
            }
        )
        top += height + GAP
    return rows


def _cells(found: Grid, row: int, top: float, height: float) -> Sequence[Mapping[str, Any]]:
    """The cells that can be told from the ground."""
    limit = found.limit or 1.0
    wide = ACROSS / len(found.columns)
    cells = []
    for i, score in enumerate(found.scores[row].tolist()):
        share = score / limit
        if abs(share) < FAINTEST:
            continue
        value = "" if found.series is None else f" (input {found.series[row, i]:.4g})"
        x = LEFT + i * wide
        cells.append(
            {
                "x": _short(x),
                "width": _short(wide),
                "opacity": _short(min(abs(share), 1.0), 3),
                "sign": "up" if score > 0 else "down",
                "stroke": ""
                if score > 0
                else f"M{_short(x)} {_short(top + height)}L{_short(x + wide)} {_short(top)}",
                "tip": f"{clean(found.rows[row])}, {clean(found.columns[i])}: {signed(score)}"
                f"{value}",
            }
        )
    return cells


def _line(line: Float[np.ndarray, " columns"], top: float, height: float) -> str:
    """A series from 0 to 1 as a path within its row."""
    wide = ACROSS / len(line)
    x = LEFT + (np.arange(len(line)) + 0.5) * wide
    y = top + height - 3 - line * (height - 6)
    points = [f"{_short(a)} {_short(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return "M" + "L".join(points) if len(points) > 1 else ""


def _range(found: Grid, row: int) -> str:
    """From where to where a row's series goes; nothing where it is not known."""
    if found.series is None or found.line(row) is None:
        return ""
    return f"input {found.series[row].min():.3g} to {found.series[row].max():.3g}"


def _ticks(labels: Sequence[str]) -> list[Mapping[str, Any]]:
    """As many labels of columns as there is room for, at equal distances."""
    first = [clean(label).split(" to ")[0] if " to " in label else clean(label) for label in labels]
    longest = min(max(map(len, first)), 14)
    every = max(1, -(-len(first) * int(LETTER * longest + 10) // int(ACROSS)))
    wide = ACROSS / len(first)
    return [
        {"x": _short(LEFT + (i + 0.5) * wide), "label": shortened(first[i], 14)}
        for i in range(0, len(first), every)
    ]


def _centre(found: Grid, column: int) -> float:
    return LEFT + (column + 0.5) * ACROSS / len(found.columns)


def _short(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") or "0"
