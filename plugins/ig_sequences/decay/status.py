"""The status of a decay: which kind of memory the profile shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ig_sequences.decay.fits import Fit
from ig_sequences.decay.profile import Lags, Profiles
from ig_sequences.decay.slope import FLOOR

FEWEST_LAGS = 5
"""A slope over fewer lags is not taken for a half-life."""

FEW_SEQUENCES = 8
"""With so few sequences or fewer the bootstrap interval is known to be too narrow."""

STRAIGHT = 0.95
"""R2 of a line."""

HALF = 0.5
"""A line with less than this R2 leaves most of the shape to other things."""

NOISE = 1.5
"""A line is off by chance if it is by no more than this times the squared standard errors."""

AGREES = 2.0
"""A half-life and a crossing agree within this factor; where R2 is low by noise, so must the ends
of the interval, for noise that leaves more than that leaves no half-life."""

BENT = 0.5
"""A larger bow is no line."""

ABRUPT = 1e-3
"""A memory that ends above this part of its peak ends abruptly."""

LEAST_FALL = 0.05
"""Attribution that falls by less than this part does not fade."""

CLEARLY_BETTER = 10.0
"""So much smaller must AICc be before a power law is spoken of."""

STANDARD_ERRORS = 2.0
"""A peak away from lag 0, or a first lag off the line, must stand out by so many, or it may be
noise."""

DecayStatus = Literal[
    "exponential", "non_exponential", "power_like", "delayed_peak", "echo", "finite_window",
    "censored", "no_decay", "too_short", "not_converged",
]  # fmt: skip

MEANING: Mapping[DecayStatus, str] = {
    "exponential": "ln a(k) falls along a line from its start on, but for noise, or along one "
    "whose half-life is within a factor of 2 of the crossing",
    "non_exponential": "ln a(k) is no line from its start on, or too noisy to tell; see the plot",
    "power_like": "ln a(k) falls along a line over ln(1 + k), not over k: each doubling takes "
    "longer than the last, and the half-life depends on the lags that were seen",
    "delayed_peak": "old steps matter more than the newest; the slope mixes the rise and the fall",
    "echo": "one past moment, at peak_lag, holds most of it, or some comes back after a silence; "
    "a half-life does not describe that",
    "finite_window": "the memory ends abruptly, which the last lag of its window describes",
    "censored": "the half-life exceeds the lags that were seen: it is extrapolated",
    "no_decay": "nothing fades over these lags, or attribution even grows with them, and a note "
    "then says by how much; pass longer sequences",
    "too_short": f"fewer than {FEWEST_LAGS} lags can be used; pass longer sequences",
    "not_converged": "some attributions missed their tolerance or failed; raise budget or tol",
}
"""What each status means for the half-life, and what to do."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """What a status is judged by: one side of the profile, from the first lag that counts."""

    profiles: Profiles
    mean: Lags
    window: tuple[int, int]
    span: float
    half_life: float
    interval: tuple[float, float]
    crossing: float
    fits: Mapping[str, Fit]


def judged(seen: Evidence) -> DecayStatus:
    """The first status of those in :data:`MEANING` that holds, completeness aside."""
    first, last = seen.window
    top = float(seen.mean.max())
    if len(seen.mean) < FEWEST_LAGS:
        return "too_short"
    if grows(seen):
        return "no_decay"
    if comes_back(seen) > 0:
        return "echo"
    if _late(seen):
        return "echo" if _narrow(seen.mean) else "delayed_peak"
    if last + 1 < len(seen.mean) and seen.mean[last] > ABRUPT * top:
        return "finite_window"
    if last + 1 - first < FEWEST_LAGS:
        return "too_short"
    if _turns(seen):
        return "non_exponential"
    if seen.span * math.log(2) / seen.half_life < LEAST_FALL:
        return "no_decay"
    if seen.half_life > seen.span:
        return "censored"
    return _shape(seen)


def grows(seen: Evidence) -> bool:
    """Whether attribution clearly rises with the lag, up to about the oldest step."""
    first, last = seen.window
    line = seen.fits.get("exponential")
    if line is None or not math.isinf(seen.half_life):
        return False
    whole = last + 1 - first > len(seen.mean) / 2
    oldest = int(seen.mean.argmax()) >= 0.9 * (len(seen.mean) - 1)
    return whole and oldest and (math.isinf(seen.interval[0]) or line.r2 >= HALF)


def comes_back(seen: Evidence) -> float:
    """The share of attribution beyond a silence that follows the window; 0 if it is no more than
    a trace."""
    beyond, total = seen.mean[seen.window[1] + 1 :], float(seen.mean.sum())
    share = float(beyond.sum()) / total if total > 0 else 0.0
    return share if share > ABRUPT and bool((beyond <= FLOOR * seen.mean.max()).any()) else 0.0


def _turns(seen: Evidence) -> bool:
    """Whether ln a(k) falls and rises again, so that its line says little."""
    line = seen.fits.get("exponential")
    return line is not None and line.r2 < HALF and line.bow > BENT


def _late(seen: Evidence) -> bool:
    """Whether an older lag clearly holds more than twice the newest."""
    peak = int(seen.mean.argmax())
    if not peak or not seen.mean[0] < seen.mean[peak] / 2:
        return False
    excess = seen.profiles.values[:, peak] - 2 * seen.profiles.values[:, 0]
    excess = excess[~np.isnan(excess)]
    if len(excess) < 2:
        return len(seen.profiles.values) < 2
    error = float(excess.std(ddof=1)) / math.sqrt(len(excess))
    return float(excess.mean()) > STANDARD_ERRORS * error


def _narrow(mean: Lags) -> bool:
    """Whether one moment holds most: twice the width of the peak at half of its height."""
    peak = int(mean.argmax())
    low = np.flatnonzero(mean < mean[peak] / 2)
    begin = int(low[low < peak].max(initial=-1)) + 1
    end = int(low[low > peak].min(initial=len(mean))) - 1
    width = end + 1 - begin
    near = mean[max(peak - width, 0) : peak + width + 1].sum()
    return width <= max(3, peak / 2) and bool(near > mean.sum() / 2)


def _shape(seen: Evidence) -> DecayStatus:
    """Line over lags, line over ln(1 + k), or neither."""
    line, power = seen.fits.get("exponential"), seen.fits.get("power")
    # An interval without end says that noise could be all that fades.
    fades = not math.isinf(seen.interval[1])
    straight = line is not None and (_straight(line) or _straight_but_for_noise(line, seen))
    if line is not None and straight and (_agrees(seen) or _begins_on(line, seen)) and fades:
        return "exponential"
    if (
        line is not None
        and power is not None
        and fades
        and _straight(power)
        and line.bow > BENT
        and power.aicc < line.aicc - CLEARLY_BETTER
    ):
        return "power_like"
    return "non_exponential"


def details(seen: Evidence, status: DecayStatus) -> str:
    """What of the profile led to a status, where that may be one of several things."""
    if status == "finite_window":
        return f"its last lag is {seen.profiles.lags[seen.window[1]]:g}"
    line = seen.fits.get("exponential")
    if status != "non_exponential" or line is None:
        return ""
    low, high = seen.interval
    told = []
    if _turns(seen):
        told.append(f"it falls and rises again (bow {line.bow:+.2g}, R2 {line.r2:.2g})")
    elif abs(line.bow) > BENT:
        told.append(f"it bends (the ends of ln a(k) are off its line by {line.bow:+.2g})")
    elif not _straight(line) and not _straight_but_for_noise(line, seen):
        told.append(f"the lags scatter about the line (R2 {line.r2:.2g})")
    if math.isinf(high):
        told.append("the interval has no end: few sequences leave noise")
    elif high > AGREES * low:
        told.append(f"the interval is wide ({low:.3g} to {high:.3g}): few sequences leave noise")
    if not _agrees(seen) and not _begins_on(line, seen):
        told.append(
            f"its start stands out from the line: it is down to half at {seen.crossing:.3g}, "
            f"and the half-life is {seen.half_life:.3g}"
        )
    return "; ".join(told)


def _agrees(seen: Evidence) -> bool:
    """Whether the crossing is about the half-life."""
    return seen.half_life / AGREES <= seen.crossing <= seen.half_life * AGREES


def _begins_on(line: Fit, seen: Evidence) -> bool:
    """Whether the first lag is off the line by no more than the others are.

    The crossing hangs on that lag alone, and is off by as much as it is.
    """
    part = slice(seen.window[0], seen.window[1] + 1)
    off = np.log(seen.mean[part] / line.at(seen.profiles.lags[part]))
    return bool(off[0] ** 2 <= STANDARD_ERRORS**2 * (off[1:] ** 2).mean())


def _straight_but_for_noise(line: Fit, seen: Evidence) -> bool:
    """Whether the sequences differ so much that the mean may well be off its line by chance.

    Slow decays fall little over the lags, and R2 is low by noise alone. Noise so large that the
    half-life itself is not known would hide any shape.
    """
    first, last = seen.window
    part = slice(first, last + 1)
    values, mean = seen.profiles.values[:, part], seen.mean[part]
    count = (~np.isnan(values)).sum(0)
    judged_by = count > FEW_SEQUENCES
    if line.r2 < HALF or abs(line.bow) > BENT or judged_by.sum() < FEWEST_LAGS:
        return False
    if not seen.interval[1] <= AGREES * seen.interval[0]:  # NaN neither
        return False
    values, mean, count = values[:, judged_by], mean[judged_by], count[judged_by]
    error = np.nanstd(values, axis=0, ddof=1) / np.sqrt(count) / mean
    off = np.log(mean / line.at(seen.profiles.lags[part][judged_by]))
    return bool((off**2).mean() <= NOISE * (error**2).mean())


def _straight(fit: Fit) -> bool:
    return fit.r2 >= STRAIGHT and abs(fit.bow) <= BENT
