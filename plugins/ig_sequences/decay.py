"""Attribution decay: how fast a model's attributions fade with the age of a step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

import ig_core as ig
from ig_core import Attribution, InputError
from ig_sequences import view

FLOOR = 1e-8
"""Lags below this part of the largest attribution are not fitted."""

FEWEST_LAGS = 5
"""A slope over fewer lags is not taken for a half-life."""

FEW_SEQUENCES = 8
"""With so few sequences or fewer the bootstrap interval is known to be too narrow."""

MOST_DRAWS = 100_000
"""Resamples are held in memory together, and an interval needs no more."""

DecayStatus = Literal[
    "exponential", "non_exponential", "delayed_peak", "echo", "finite_window", "censored",
    "no_decay", "too_short", "not_converged",
]  # fmt: skip

MEANING: Mapping[DecayStatus, str] = {
    "exponential": "ln a(k) falls along a line, and the half-life agrees with the first crossing",
    "non_exponential": "ln a(k) is no line: it bends, or few sequences leave noise; see the plot",
    "delayed_peak": "old steps matter more than the newest; the slope mixes the rise and the fall",
    "echo": "one past moment, at peak_lag, holds most of it; a half-life does not describe that",
    "finite_window": "the memory ends abruptly; its last lag, in window, describes it",
    "censored": "the half-life exceeds the lags that were seen: it is extrapolated",
    "no_decay": "nothing fades over these lags; pass longer sequences",
    "too_short": f"fewer than {FEWEST_LAGS} lags can be used; pass longer sequences",
    "not_converged": "some attributions missed their tolerance; raise budget or tol",
}
"""What each status means for the half-life, and what to do."""

Profile = Float[np.ndarray, " lags"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Decay:
    """How attribution fades with the lag, counted from each sequence's own end.

    ``profile[k]`` is a(k), the mean over sequences of the sum over features of abs(IG) at lag k,
    and ``count[k]`` the number of sequences that reach that lag. The half-life is in steps::

        half_life = ln 2 / -(slope of ln a(k) over the lags window[0] to window[1])

    It always means that; where it describes the profile badly, ``status`` says so. ``interval``
    holds 95 % of the half-lives of sequences drawn again with replacement, NaN for a single
    sequence; for eight or fewer it is too narrow.

    ``crossing`` is the first lag where a(k), made to fall by isotonic regression, is down to half
    (infinite if none), ``half_mass`` the number of most recent steps that hold half of the
    attribution, ``r2`` that of the line.
    """

    half_life: float
    interval: tuple[float, float]
    status: DecayStatus
    profile: Profile
    count: Int[np.ndarray, " lags"]
    window: tuple[int, int]
    r2: float
    crossing: float
    half_mass: float
    peak_lag: int
    sequences: int

    @property
    def reason(self) -> str:
        """What the status means for the half-life."""
        few = f"; {self.sequences} sequences make the interval too narrow"
        return MEANING[self.status] + (few if 1 < self.sequences <= FEW_SEQUENCES else "")

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; NaN and infinity become None."""
        numbers = ("half_life", "crossing", "half_mass", "r2")
        return {
            **{name: _plain(getattr(self, name)) for name in numbers},
            "interval": [_plain(end) for end in self.interval],
            "status": self.status,
            "reason": self.reason,
            "peak_lag": self.peak_lag,
            "window": list(self.window),
            "profile": self.profile.tolist(),
            "count": self.count.tolist(),
            "sequences": self.sequences,
        }

    def plot(self) -> Any:
        """A matplotlib figure: the profile on a logarithmic scale, its line and its half-life.

        Raises:
            MissingFrameworkError: matplotlib is not installed.
        """
        return view.profile(self)

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"Decay(half_life={self.half_life:.4g}, interval=({low:.4g}, {high:.4g}), "
            f"{self.status}: {self.reason})"
        )


def attribution_decay(
    model: Any,
    x: Any,
    target: Any = None,
    *,
    burn_in: int = 0,
    bootstrap: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Decay:
    """The half-life of a model's memory, from its attributions on some sequences.

    >>> import torch
    >>> from ig_sequences.cases.closed_forms import LeakyIntegrator
    >>> found = attribution_decay(LeakyIntegrator(0.5), torch.ones(4, 20, 1).double())
    >>> round(found.half_life, 6), found.status
    (1.0, 'exponential')

    Args:
        x: a tensor ``(batch, time, features)``, one of its rows, or a list of sequences.
        burn_in: oldest steps of every sequence to leave out, where the initial state still shows.
        bootstrap: resamples of the sequences behind ``interval``.
        **options: of :func:`ig_core.attribute` and of the domain, such as ``baseline``, ``tol``,
            ``lengths`` or ``step``.

    Raises:
        InputError: as :func:`ig_core.attribute`; or nothing is left to measure.
    """
    if options.pop("domain", "sequences") != "sequences":
        raise InputError(
            "attribution_decay explains with the domain 'sequences': leave out domain="
        )
    found = ig.attribute(model, x, domain="sequences", target=target, seed=seed, **options)
    results = found if isinstance(found, list) else [found]
    return find_decay(results, burn_in=burn_in, bootstrap=bootstrap, seed=seed)


def find_decay(
    attributions: Sequence[Attribution], *, burn_in: int = 0, bootstrap: int = 1000, seed: int = 0
) -> Decay:
    """The decay in attributions of sequences; failed ones are left out.

    Raises:
        InputError: no step is left, or no step has any attribution.
    """
    for name, given in (("burn_in", burn_in), ("bootstrap", bootstrap)):
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise InputError(f"{name} must be a whole number of at least 0 (got {given!r})")
    if bootstrap > MOST_DRAWS:
        raise InputError(f"bootstrap must be at most {MOST_DRAWS} resamples (got {bootstrap})")
    table = _table(attributions, burn_in)
    seen = ~np.isnan(table)
    profile = _means(table, np.ones((1, len(table))))[0]
    if not profile.max() > 0:
        raise InputError(
            "no step has any attribution: the output does not depend on these sequences, or they "
            "equal the baseline"
        )
    first, last = window = _window(profile)
    usable = slice(first, last + 1)
    rates, r2 = _slopes(profile[None, usable])
    half_life = float(_half_lives(rates)[0])
    crossing = _crossing(profile)
    status = _status(profile, window, half_life, crossing, float(r2[0]))
    converged = all(a.converged for a in attributions)
    return Decay(
        half_life=half_life,
        interval=_interval(table[:, usable], bootstrap, seed),
        status=status if converged else "not_converged",
        profile=profile,
        count=seen.sum(0),
        window=window,
        r2=float(r2[0]),
        crossing=crossing,
        half_mass=_half_mass(profile),
        peak_lag=int(profile.argmax()),
        sequences=len(table),
    )


def _table(
    attributions: Sequence[Attribution], burn_in: int
) -> Float[np.ndarray, "sequences lags"]:
    """Sum over features of abs(IG) by sequence and lag; NaN where a sequence does not reach."""
    rows = [
        a.tensors["x"].double().abs().sum(1).flip(0)[: max(len(a.tensors["x"]) - burn_in, 0)]
        for a in attributions
        if a.status != "failed"
    ]
    rows = [one for one in rows if len(one)]
    if not rows:
        raise InputError(
            f"no step is left of {len(attributions)} sequences after burn_in={burn_in}; pass "
            "longer sequences"
        )
    table = np.full((len(rows), max(map(len, rows))), np.nan)
    for line, one in zip(table, rows, strict=True):
        line[: len(one)] = one.numpy()
    return table


def _means(
    table: Float[np.ndarray, "sequences lags"], weights: Float[np.ndarray, "draws sequences"]
) -> Float[np.ndarray, "draws lags"]:
    """Weighted mean by lag over the sequences that reach it; NaN where none does."""
    seen = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return (weights @ np.where(seen, table, 0.0)) / (weights @ seen)


def _window(profile: Profile) -> tuple[int, int]:
    """First and last of the contiguous lags around the peak that are above the floor."""
    below = np.flatnonzero(profile <= FLOOR * profile.max())
    peak = int(profile.argmax())
    before, after = below[below < peak], below[below > peak]
    return (
        int(before[-1]) + 1 if len(before) else 0,
        int(after[0]) - 1 if len(after) else len(profile) - 1,
    )


def _slopes(
    profiles: Float[np.ndarray, "draws lags"],
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Minus the slope of ln a(k) by least squares, and its r2; lags without a value are skipped."""
    known: Bool[np.ndarray, "draws lags"] = profiles > 0
    log = np.log(np.where(known, profiles, 1.0))
    count = known.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        lag = np.arange(profiles.shape[1]) * known
        lag = (lag - lag.sum(1, keepdims=True) / count) * known
        log = (log - log.sum(1, keepdims=True) / count) * known
        slope = (lag * log).sum(1) / (lag**2).sum(1)
        left = ((log - slope[:, None] * lag) ** 2).sum(1)
        return -slope, 1 - left / (log**2).sum(1)


def _half_lives(rates: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
    """ln 2 / rate; infinite where nothing fades."""
    with np.errstate(divide="ignore"):
        return np.where(rates > 0, math.log(2) / rates, np.where(np.isnan(rates), np.nan, np.inf))


def _interval(
    table: Float[np.ndarray, "sequences lags"], bootstrap: int, seed: int
) -> tuple[float, float]:
    count = len(table)
    if count < 2 or not bootstrap or table.shape[1] < 2:
        return (math.nan, math.nan)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), bootstrap)
    found = _half_lives(_slopes(_means(table, drawn.astype(float)))[0])
    found = found[~np.isnan(found)]  # a draw of sequences of one step only has no slope
    if not len(found):
        return (math.nan, math.nan)
    # 'lower' keeps infinite half-lives out of an interpolation with finite ones.
    low, high = np.quantile(found, [0.025, 0.975], method="lower")
    return (float(low), float(high))


def _status(
    profile: Profile, window: tuple[int, int], half_life: float, crossing: float, r2: float
) -> DecayStatus:
    first, last = window
    lags, peak = last - first + 1, int(profile.argmax())
    top = profile[peak]
    if peak and profile[0] < top / 2:
        near = profile[(peak + 1) // 2 : peak + peak // 2 + 1].sum()
        return "echo" if near > profile.sum() / 2 else "delayed_peak"
    if last + 1 < len(profile) and profile[last] > 1e-3 * top:
        return "finite_window"
    if lags < FEWEST_LAGS:
        return "too_short"
    if lags * math.log(2) / half_life < 0.05:  # falls by less than 5 %
        return "no_decay"
    if half_life > lags:
        return "censored"
    straight = r2 >= 0.95 and abs(_bow(profile[first : last + 1])) <= 0.5
    agreed = half_life / 2 <= crossing <= half_life * 2
    return "exponential" if straight and agreed else "non_exponential"


def _bow(profile: Profile) -> float:
    """How far ln a(k) lies off its line at the ends, by a parabola."""
    lag = np.linspace(-1, 1, len(profile))
    return float(np.polyfit(lag, np.log(profile), 2)[0])


def _crossing(profile: Profile) -> float:
    """First lag where the falling profile is at most half of its start, log-linear in between."""
    falling = _isotonic(profile)
    low = np.flatnonzero(falling <= falling[0] / 2)
    if not len(low):
        return math.inf
    before, at = falling[low[0] - 1], falling[low[0]]
    if at == 0:
        return float(low[0])
    return float(low[0] - 1 + math.log(2 * before / falling[0]) / math.log(before / at))


def _isotonic(profile: Profile) -> Profile:
    """The nearest non-increasing sequence: pool adjacent violators (Barlow et al. 1972)."""
    means: list[float] = []
    sizes: list[int] = []
    for value in profile.tolist():
        means.append(value)
        sizes.append(1)
        while len(means) > 1 and means[-2] < means[-1]:
            mean, size = means.pop(), sizes.pop()
            means[-1] = (means[-1] * sizes[-1] + mean * size) / (sizes[-1] + size)
            sizes[-1] += size
    return np.repeat(means, sizes)


def _half_mass(profile: Profile) -> float:
    """Number of most recent steps with half of the sum, a geometric fall inside the last one."""
    total = profile.cumsum()
    step = int(np.searchsorted(total, total[-1] / 2))
    part = (total[-1] / 2 - (total[step] - profile[step])) / profile[step]
    ratio = profile[step + 1] / profile[step] if step + 1 < len(profile) else 1.0
    return step + (math.log1p(-part * (1 - ratio)) / math.log(ratio) if 0 < ratio < 1 else part)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
