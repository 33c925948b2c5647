"""The heat map of features by steps as a figure of matplotlib, for papers and files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ig_core import Attribution, figure_words, new_figure, saved_figure
from ig_sequences.view.figures import INK, PALE_BLUE, RED
from ig_sequences.view.grid import Grid, grid
from ig_sequences.view.series import explained

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MOST_TICK_LETTERS = 84
"""Letters of all labels of steps together, at most."""

MOST_LETTERS = 20
"""Of a label, or it would be drawn over half of the picture."""


def heat_map(attribution: Attribution, steps: slice = slice(None)) -> Figure:
    """Every feature's series on the colours of its attribution, and the sums over features.

    Red raises the explained number and blue lowers it; the scale is symmetric about 0. Of many
    steps some share a column, whose scores are summed; of many features the smallest share a row.

    >>> import torch
    >>> import ig_core as ig
    >>> from ig_sequences.cases.closed_forms import LeakyIntegrator
    >>> result = ig.attribute(LeakyIntegrator(0.8), torch.ones(9, 2).double(), domain="sequences")
    >>> len(heat_map(result).axes)  # the sums, two features, the scale
    4

    Args:
        attribution: a result of the domain ``"sequences"``.
        steps: the steps to show, such as ``slice(-40, None)`` for the newest forty.

    Raises:
        InputError: the result is not of a sequence, or no step is left.
        MissingFrameworkError: matplotlib is not installed.
    """
    found = grid(attribution, steps)
    count = len(found.rows)
    high = 1.1 if count == 1 else 0.6 if count <= 8 else 0.35
    figure = new_figure(8.0, 1.6 + high * count)
    every = figure.subplots(
        count + 1, 1, sharex=True, squeeze=False, height_ratios=[0.9, *[high] * count]
    )[:, 0]
    _sums(every[0], found)
    for row, axes in enumerate(every[1:]):
        drawn = _row(axes, found, row)
    figure.colorbar(drawn, ax=every[1:].tolist(), label="attribution", pad=0.01)
    every[0].set_title(
        f"What every {found.kind} did for {figure_words(explained(attribution), 60)}: "
        f"difference {attribution.delta:.4g}, residual {attribution.residual:.1e}, "
        f"{attribution.status}",
        fontsize=9,
    )
    firsts = [figure_words(column.split(" to ")[0], MOST_LETTERS) for column in found.columns]
    apart = -(-len(firsts) * (max(map(len, firsts)) + 2) // MOST_TICK_LETTERS)
    every[-1].set_xticks(range(0, len(firsts), apart), firsts[::apart])
    if found.per_column > 1:
        every[-1].set_xlabel(f"each column is {found.per_column} {found.kind}s", fontsize=8)
    return figure


def picture(attribution: Attribution, path: str | Path) -> Path:
    """The heat map of :func:`heat_map` as a file: PNG, SVG or PDF by its ending.

    >>> result = ig.attribute(leaky, torch.ones(9, 2).double(), domain="sequences")
    >>> picture(result, "steps.png").name
    'steps.png'

    Raises:
        InputError: the result is not of a sequence, or the ending is of another kind.
        MissingFrameworkError: matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    return saved_figure(heat_map(attribution), path)


def _sums(axes: Axes, found: Grid) -> None:
    scores = found.steps
    colours = [RED if score > 0 else PALE_BLUE for score in scores]
    axes.bar(range(len(scores)), scores, width=0.9, color=colours)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylabel("sum", fontsize=8, rotation=0, ha="right", va="center")
    limit = float(np.abs(scores).max(initial=0.0)) or 1.0
    axes.set_ylim(-1.08 * limit, 1.08 * limit)
    axes.tick_params(labelsize=7)


def _row(axes: Axes, found: Grid, row: int) -> AxesImage:
    limit = found.limit or 1.0
    drawn = axes.imshow(
        found.scores[row : row + 1],
        aspect="auto",
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        extent=(-0.5, len(found.columns) - 0.5, 0, 1),
    )
    if (line := found.line(row)) is not None:
        for colour, width in (("white", 2.8), (INK, 1.2)):  # readable on the darkest cell
            axes.plot(range(len(line)), 0.06 + 0.88 * line, color=colour, linewidth=width)
    if found.explained is not None:
        axes.axvline(found.explained, color=INK, linestyle="--", linewidth=1)
    axes.set_ylabel(
        figure_words(found.rows[row], MOST_LETTERS), fontsize=8, rotation=0, ha="right", va="center"
    )
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    return drawn
