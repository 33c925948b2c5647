"""The grid that a heat map of a sequence shows: features by steps, binned where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ig_core import Attribution, InputError

MOST_COLUMNS = 160
"""Columns drawn at most; of more steps some in a row share one, and their scores are summed."""

MOST_ROWS = 16
"""Rows drawn at most; the features of smallest magnitude share the last one."""

HELD = 0.99
"""The part of all magnitude that the steps of a closer look hold."""

CLOSER = 0.25
"""A closer look shows at most this part of the sequence, or it would not be one."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Scores of features by steps, whose sum is that of the attribution.

    ``series`` is the input, averaged over the steps of a column, and None where the result does not
    have it; the row of several features together has NaN. ``explained`` is the column of the step
    whose output was explained, if that is not the last one.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    scores: Float[np.ndarray, "rows columns"]
    series: Float[np.ndarray, "rows columns"] | None
    per_column: int
    explained: int | None
    kind: str

    @property
    def steps(self) -> Float[np.ndarray, " columns"]:
        """The scores summed over features."""
        return self.scores.sum(0)

    @property
    def limit(self) -> float:
        """The end of the colour scale, whose centre is zero."""
        return _largest(self.scores)

    def line(self, row: int) -> Float[np.ndarray, " columns"] | None:
        """A row's series, from 0 where it is smallest to 1; None where it is not known."""
        if self.series is None or not np.isfinite(self.series[row]).all():
            return None
        series = self.series[row]
        low, high = series.min(), series.max()
        return np.full(series.shape, 0.5) if low == high else (series - low) / (high - low)

    @property
    def features(self) -> Float[np.ndarray, " rows"]:
        """The scores summed over steps."""
        return self.scores.sum(1)


def grid(attribution: Attribution, steps: slice = slice(None)) -> Grid:
    """The grid of one result, or of some of its steps.

    Raises:
        InputError: the result is not of a sequence.
    """
    if not isinstance(attribution, Attribution):
        one = ", one at a time" if isinstance(attribution, (list, tuple)) else ""
        raise InputError(
            f"this picture needs the result of a sequence{one} (got {type(attribution).__name__})"
        )
    values = attribution.tensors.get("x")
    if values is None or values.dim() != 2 or attribution.provenance.get("domain") != "sequences":
        told = attribution.provenance.get("domain", "unknown")
        raise InputError(f"this picture needs a result of the domain 'sequences' (got {told!r})")
    whole = np.nan_to_num(values.double().numpy())
    display = attribution.display
    names = feature_names(attribution)
    series = series_of(attribution)
    known = None if series is None else series[steps]
    scores = whole[steps]
    width = -(-len(scores) // MOST_COLUMNS)
    order = _rows(scores, bool(display.get("features")))
    first, last, _ = steps.indices(len(whole))
    step = display.get("step", len(whole) - 1)
    step = step if isinstance(step, int) else len(whole) - 1
    marked = step != len(whole) - 1 and first <= step < last
    return Grid(
        rows=[names[i] for i in order[0]] + _others(*map(len, order)),
        columns=_labels(step_labels(attribution)[steps], width),
        scores=_together(_binned(scores, width, np.add), order),
        series=None if known is None else _drawn(known, width, order),
        per_column=width,
        explained=(step - first) // width if marked else None,
        kind=attribution.units.kind,
    )


def feature_names(attribution: Attribution) -> Sequence[str]:
    """The features by the names that they were given, or by number."""
    count = attribution.tensors["x"].shape[1]
    given = attribution.display.get("features")
    if isinstance(given, list) and len(given) == count:  # a file may tell anything
        return [str(name) for name in given]
    return [f"feature {i}" for i in range(count)]


def series_of(attribution: Attribution) -> Float[np.ndarray, "time features"] | None:
    """The input as the result tells it; None where it does not, or a file tells no numbers."""
    try:
        found = np.asarray(attribution.display["series"], dtype=float)
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.shape == tuple(attribution.tensors["x"].shape) else None


def step_labels(attribution: Attribution) -> Sequence[str]:
    """The steps by their times where these are known, or else by the labels of the units."""
    times = times_of(attribution)
    labels = attribution.units.labels
    counted = all(label == f"t={t}" for t, label in enumerate(labels))
    return [f"{time:.6g}" for time in times] if times is not None and counted else labels


def times_of(attribution: Attribution) -> list[float] | None:
    """When each step was; None where it is not known, or a file tells no numbers."""
    try:
        found = np.asarray(attribution.display["times"], dtype=float)
    except (KeyError, TypeError, ValueError):
        return None
    return found.tolist() if found.shape == (len(attribution.units),) else None


def closer(attribution: Attribution) -> slice | None:
    """The fewest steps in a row that hold nearly everything, if they are few."""
    sizes = np.nan_to_num(attribution.tensors["x"].double().abs().sum(1).numpy())
    reach = np.concatenate([[0.0], sizes.cumsum()])
    if len(sizes) <= MOST_COLUMNS / 4 or not reach[-1] > 0:
        return None
    ends = np.searchsorted(reach, reach[:-1] + HELD * reach[-1] * (1 - 1e-12))
    widths = np.where(ends < len(reach), ends - np.arange(len(sizes)), len(sizes))
    first = int(widths.argmin())
    margin = max(2, int(widths[first]) // 8)
    start, stop = max(first - margin, 0), min(first + int(widths[first]) + margin, len(sizes))
    return slice(start, stop) if stop - start <= CLOSER * len(sizes) else None


def _rows(scores: Float[np.ndarray, "time features"], named: bool) -> tuple[list[int], list[int]]:
    """The features with rows of their own, in the model's order, and the others.

    Many features without names, such as those of an embedding, say nothing one by one.
    """
    count = scores.shape[1]
    if count <= MOST_ROWS:
        return list(range(count)), []
    if not named:
        return [], list(range(count))
    large = np.argsort(-np.abs(scores).sum(0), kind="stable")[: MOST_ROWS - 1]
    own = sorted(large.tolist())
    return own, sorted(set(range(count)) - set(own))


def _others(own: int, others: int) -> list[str]:
    return [f"{others} {'others' if own else 'features'}"] if others else []


def _labels(labels: Sequence[str], width: int) -> list[str]:
    firsts = range(0, len(labels), width)
    if width == 1:
        return list(labels)
    return [f"{labels[i]} to {labels[min(i + width, len(labels)) - 1]}" for i in firsts]


def _binned(
    values: Float[np.ndarray, "time features"], width: int, ufunc: np.ufunc
) -> Float[np.ndarray, "columns features"]:
    return ufunc.reduceat(values, np.arange(0, len(values), width), axis=0)


def _together(
    values: Float[np.ndarray, "columns features"], order: tuple[list[int], list[int]]
) -> Float[np.ndarray, "rows columns"]:
    own, others = order
    parts = [values[:, own]] + ([values[:, others].sum(1, keepdims=True)] if others else [])
    return np.concatenate(parts, axis=1).T


def _drawn(
    series: Float[np.ndarray, "time features"], width: int, order: tuple[list[int], list[int]]
) -> Float[np.ndarray, "rows columns"]:
    sums = _binned(series, width, np.add)
    sizes = _binned(np.ones((len(series), 1)), width, np.add)
    own, others = order
    means = (sums / sizes)[:, own].T
    unknown = np.full((1 if others else 0, means.shape[1]), np.nan)
    return np.concatenate([means, unknown])


def _largest(values: Float[np.ndarray, ...]) -> float:
    return float(np.abs(values).max(initial=0.0))
