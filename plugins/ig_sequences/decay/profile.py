"""Profiles: how much attribution every sequence holds at each lag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from ig_core import Attribution, InputError

Unit = Literal["steps", "time"]
Reduce = Literal["abs-sum", "abs-of-sum"]
Lags = Float[np.ndarray, " lags"]

LONGEST = 1e100
"""Lags are at most so long, and at least one part in it: beyond, their squares are no numbers."""

MOST_LAGS = 2**17
"""A common grid of lags has at most so many."""

SAME = 1e-9
"""Two lags are the same if they differ by less than this part of the longest."""

STEEPEST = 300.0
"""So far may ln a fall between neighbouring lags and still be followed."""


@dataclass(frozen=True, eq=False)
class Row:
    """One number for each step of one side of a sequence, in order of rising lag."""

    lags: Lags
    values: Lags


@dataclass(frozen=True, eq=False)
class Profiles:
    """One row per sequence on common lags; NaN where a sequence does not reach, or has no value."""

    lags: Lags
    values: Float[np.ndarray, "sequences lags"]

    @property
    def seen(self) -> Bool[np.ndarray, "sequences lags"]:
        """Where there is a value."""
        return ~np.isnan(self.values)

    @property
    def count(self) -> Int[np.ndarray, " lags"]:
        """How many sequences have a value at each lag."""
        return self.seen.sum(0)

    def means(
        self, weights: Float[np.ndarray, "draws sequences"]
    ) -> Float[np.ndarray, "draws ..."]:
        """Weighted mean by lag over the sequences that have a value; NaN where none has."""
        seen = self.seen
        with np.errstate(invalid="ignore"):
            found: Float[np.ndarray, "draws ..."] = (weights @ np.where(seen, self.values, 0.0)) / (
                weights @ seen
            )
        return found

    def mean(self) -> Lags:
        """Mean by lag over the sequences that have a value."""
        return self.means(np.ones((1, len(self.values))))[0]

    def geometric(self) -> Lags:
        """Geometric mean by lag; 0 where one sequence has exactly 0."""
        seen = self.seen
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.where(seen, np.log(np.where(seen, self.values, 1.0)), 0.0).sum(0)
            found: Lags = np.exp(total / self.count)
        return np.where(self.count > 0, found, np.nan)

    def quartiles(self) -> Float[np.ndarray, "2 lags"]:
        """First and third quartile by lag over the sequences that have a value."""
        found = np.full((2, len(self.lags)), np.nan)
        ordered, count = np.sort(self.values, axis=0), self.count  # NaN is sorted to the end
        column = np.flatnonzero(count)
        for line, share in zip(found, (0.25, 0.75), strict=True):
            place = share * (count[column] - 1)
            low = np.floor(place).astype(int)
            high = np.ceil(place).astype(int)
            left, right = ordered[low, column], ordered[high, column]
            line[column] = left + (place - low) * (right - left)
        return found


def step_of(attribution: Attribution) -> int:
    """The explained step: the last one, unless the result says another.

    Raises:
        InputError: that is no whole number.
    """
    found = attribution.display.get("step", len(attribution.tensors["x"]) - 1)
    if not isinstance(found, int):
        raise InputError(f"the explained step of a result is a whole number (got {found!r:.80})")
    return found


@dataclass(frozen=True, eq=False)
class Cut:
    """One side of a sequence: its steps in order of rising lag, steps of one moment as one."""

    lags: Lags
    steps: slice
    begins: Int[np.ndarray, " lags"]

    def of(self, values: Float[np.ndarray, " time"]) -> Lags:
        """Numbers of all steps, summed at every lag."""
        own = values[self.steps]
        return np.add.reduceat(own, self.begins) if len(own) > len(self.begins) else own


def cut(attribution: Attribution, *, burn_in: int, future: bool) -> Cut:
    """One side of a sequence.

    The past begins with the explained step itself, the future with the one after it; ``burn_in``
    steps at the far end are left out.

    Raises:
        InputError: the times go back, or are not one for each step.
    """
    length, step = len(attribution.tensors["x"]), step_of(attribution)
    if not 0 <= step < length:
        raise InputError(f"a sequence of {length} steps has no step {step} that was explained")
    times = np.arange(length, dtype=float)
    if (given := attribution.display.get("times")) is not None:
        numbers = isinstance(given, list) and all(isinstance(one, (int, float)) for one in given)
        times = np.asarray(given if numbers else [], dtype=float)
        sound = times.shape == (length,) and bool(np.isfinite(times).all())
        if not sound or not (np.diff(times) >= 0).all():
            raise InputError(
                f"times must be {length} finite numbers that never go back (got {given!s:.80})"
            )
    if future:
        steps = slice(step + 1, max(length - burn_in, step + 1))
    else:
        first = min(burn_in, step + 1)
        steps = slice(step, first - 1 if first else None, -1)
    lags = np.abs(times[steps] - times[step])
    begins = np.flatnonzero(np.diff(lags, prepend=-1.0))
    return Cut(lags[begins], steps, begins)


def attributed(attribution: Attribution, reduce: Reduce) -> Lags:
    """Attribution of every step: the sum over features of abs(IG), or abs of their sum."""
    values = attribution.tensors["x"].double()
    values = values.reshape(len(values), -1)
    found = values.abs().sum(1) if reduce == "abs-sum" else values.sum(1).abs()
    return found.numpy()


def moved(attribution: Attribution) -> Lags:
    """Sum over features of abs(x - x') of every step; NaN where that is not known.

    Raises:
        InputError: it is not a number for each step.
    """
    length, start = len(attribution.tensors["x"]), attribution.display.get("start")
    given = start.get("moved") if isinstance(start, dict) else None
    if given is None:
        return np.full(length, np.nan)
    numbers = isinstance(given, list) and all(isinstance(one, (int, float)) for one in given)
    if not numbers or len(given) != length:
        raise InputError(
            f"a result tells how far each of its {length} steps moved (got {given!r:.80})"
        )
    return np.asarray(given, float)


def per_moved(amounts: Lags, moved: Lags) -> Lags:
    """Attribution by how far the input moved; NaN where it did not."""
    return amounts / np.where(moved > 0, moved, np.nan)


def common_lags(rows: Sequence[Lags], unit: Unit) -> Lags:
    """The lags at which sequences are compared.

    Steps, or times if all sequences have the same up to their own length; otherwise a regular
    grid with the median interval.

    Raises:
        InputError: the grid would have too many lags, or too long or too short ones.
    """
    longest = max(rows, key=len, default=np.zeros(0))
    if unit == "steps" or not len(longest):
        return longest
    far = max(float(row[-1]) for row in rows if len(row))
    if far and not 1 / LONGEST < far < LONGEST:
        raise InputError(
            f"times span {far:g}, too much or too little for a slope; give them in another unit"
        )
    tolerance = SAME * max(float(row[-1]) for row in rows if len(row))
    if all(np.abs(row - longest[: len(row)]).max(initial=0.0) <= tolerance for row in rows):
        return longest
    intervals = np.concatenate([np.diff(row) for row in rows])
    interval = float(np.median(intervals)) if len(intervals) else float(longest[0]) or 1.0
    first = min(float(row[0]) for row in rows if len(row))
    last = max(float(row[-1]) for row in rows if len(row))
    if (last - first) / interval > MOST_LAGS:
        raise InputError(
            f"times span {last - first:g}, more than {MOST_LAGS} of their median interval "
            f"{interval:g}: leave out sequences with gaps so long, or cut them there"
        )
    return first + interval * np.arange(int((last - first) / interval * (1 + SAME)) + 1)


def gathered(rows: Iterable[Row], lags: Lags, unit: Unit) -> Profiles:
    """The rows on common lags."""
    listed = list(rows)
    exact = [unit == "steps" or np.array_equal(r.lags, lags[: len(r.lags)]) for r in listed]
    rate = 0.0 if all(exact) else common_rate(listed)
    values = np.full((len(listed), len(lags)), np.nan)
    for line, row, same in zip(values, listed, exact, strict=True):
        if same:
            line[: len(row.lags)] = row.values
        elif len(row.lags):
            line[:] = interpolated(row, lags, rate)
    return Profiles(lags, values)


def interpolated(row: Row, lags: Lags, rate: float) -> Lags:
    """A row at other lags, linear in what is left of it without a decay by ``rate``.

    Exact for exponentials of this rate, and right in the mean for noise around them; linear in
    ln a would be too low wherever two neighbours differ, hence everywhere but at lag 0. Never
    beyond both neighbours; NaN beyond the row's ends.
    """
    if len(row.lags) == 1:
        return np.where(
            np.abs(lags - row.lags[0]) <= SAME * (1 + row.lags[0]), row.values[0], np.nan
        )
    slack = SAME * float(row.lags[-1])
    inside = (lags >= row.lags[0] - slack) & (lags <= row.lags[-1] + slack)
    after = np.searchsorted(row.lags, lags).clip(1, len(row.lags) - 1)
    before = after - 1
    gap = row.lags[after] - row.lags[before]
    share = ((lags - row.lags[before]) / gap).clip(0.0, 1.0)
    left, right = row.values[before], row.values[after]
    fall = (rate * gap).clip(-STEEPEST, STEEPEST)
    faded, risen = left * np.exp(-fall * share), right * np.exp(fall * (1 - share))
    found = (1 - share) * faded + share * risen
    return np.where(inside, found.clip(np.minimum(left, right), np.maximum(left, right)), np.nan)


def common_rate(rows: Sequence[Row]) -> float:
    """Minus the slope of ln a over the lag by least squares, every row with a height of its own."""
    down = across = 0.0
    for row in rows:
        known = row.values > 0  # not NaN either
        lag, log = row.lags[known], np.log(row.values[known])
        if len(lag) > 1:
            lag = lag - lag.mean()
            down, across = down - float(lag @ log), across + float(lag @ lag)
    return down / across if across > 0 else 0.0


def intervals_of(lags: Lags) -> float:
    """The median distance of neighbouring lags; 1 where there is only one."""
    return float(np.median(np.diff(lags))) if len(lags) > 1 else 1.0


def units_of(attributions: Sequence[Attribution]) -> Unit:
    """Time where every result has times, steps where none has.

    Raises:
        InputError: only some have.
    """
    known = [a.display.get("times") is not None for a in attributions]
    if any(known) and not all(known):
        raise InputError(
            f"{sum(known)} of {len(known)} results have times: give times for all or for none"
        )
    return "time" if all(known) and known else "steps"
