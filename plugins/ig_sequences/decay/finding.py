"""find_decay(): attributions of sequences in, one decay out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ig_core import Attribution, InputError
from ig_sequences.decay import measures
from ig_sequences.decay.fits import fitted
from ig_sequences.decay.interval import FEWEST_DRAWS, interval
from ig_sequences.decay.notes import of_inputs, remarks, shown
from ig_sequences.decay.profile import (
    Lags,
    Profiles,
    Reduce,
    Row,
    attributed,
    common_lags,
    cut,
    gathered,
    intervals_of,
    moved,
    per_moved,
    units_of,
)
from ig_sequences.decay.result import Decay
from ig_sequences.decay.slope import FLOOR, half_life_of, half_lives, rates, window
from ig_sequences.decay.status import FEWEST_LAGS, Evidence, details, judged

MOST_DRAWS = 100_000
"""An interval needs no more."""

Normalise = Literal["input", "sequence"] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Side:
    """The past or the future of some sequences, on common lags."""

    amounts: Profiles
    sensitivity: Profiles
    moved: Profiles
    jacobian: Profiles | None
    future: bool

    @property
    def reach(self) -> float:
        """The largest mean attribution at a lag above 0."""
        older = self.amounts.mean()[self.amounts.lags > 0]
        return float(np.nanmax(older, initial=0.0))


def check_options(burn_in: Any, bootstrap: Any, reduce: Any, normalise: Any, seed: Any = 0) -> None:
    """Refuse options that mean nothing.

    Raises:
        InputError: one of them.
    """
    for name, given in (("burn_in", burn_in), ("bootstrap", bootstrap), ("seed", seed)):
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise InputError(f"{name} must be a whole number of at least 0 (got {given!r})")
    if bootstrap > MOST_DRAWS:
        raise InputError(f"bootstrap must be at most {MOST_DRAWS} resamples (got {bootstrap})")
    if reduce not in ("abs-sum", "abs-of-sum"):
        raise InputError(f"reduce must be 'abs-sum' or 'abs-of-sum' (got {reduce!r})")
    if normalise not in (None, "input", "sequence"):
        raise InputError(f"normalise must be 'input', 'sequence' or None (got {normalise!r})")


def find_decay(
    attributions: Sequence[Attribution],
    *,
    burn_in: int = 0,
    bootstrap: int = 1000,
    seed: int = 0,
    reduce: Reduce = "abs-sum",
    normalise: Normalise = None,
    gradients: Sequence[Attribution] | None = None,
    notes: Sequence[str] = (),
) -> Decay:
    """The decay in attributions of sequences; failed ones are left out.

    >>> import torch
    >>> import ig_core as ig
    >>> from ig_sequences.cases.closed_forms import LeakyIntegrator
    >>> x = torch.ones(2, 30, 1).double()
    >>> results = ig.attribute(LeakyIntegrator(0.5), x, domain="sequences")
    >>> find_decay(results, bootstrap=0).half_life
    1.0

    Args:
        attributions: of the domain ``"sequences"``.
        burn_in, bootstrap, seed, reduce, normalise: as for :func:`attribution_decay`.
        gradients: dF/dx at the same sequences, for ``Decay.jacobian``.
        notes: more to tell with the result.

    Raises:
        InputError: no step is left, or no step has any attribution.
    """
    check_options(burn_in, bootstrap, reduce, normalise, seed)
    if isinstance(attributions, Attribution):
        attributions = [attributions]
    if not len(attributions):
        raise InputError("a decay needs at least one sequence (got none)")
    for number, one in enumerate(attributions):
        if not isinstance(one, Attribution):
            raise InputError(
                f"a decay is found in a list of attributions (got {type(one).__name__})"
            )
        if one.tensors.keys() != {"x"} or one.tensors["x"].dim() != 2:
            shapes = {name: tuple(value.shape) for name, value in one.tensors.items()}
            raise InputError(
                f"attribution {number} is of no sequence (time, features): explain with "
                f"domain='sequences' (got values {shapes})"
            )
    kept = [number for number, a in enumerate(attributions) if a.status != "failed"]
    used = [attributions[number] for number in kept]
    slopes = None if gradients is None else [gradients[number] for number in kept]
    past = _side(used, slopes, burn_in, reduce, normalise, future=False)
    future = _side(used, slopes, burn_in, reduce, normalise, future=True)
    if past is None:
        raise InputError(
            f"no step is left of {len(attributions)} sequences after burn_in={burn_in}; pass "
            "longer sequences"
        )
    top = max(float(np.nanmax(past.amounts.mean(), initial=0.0)), future.reach if future else 0.0)
    if not top > 0:
        unknown = normalise == "input" and not any(np.isfinite(moved(a)).any() for a in used)
        raise InputError(
            "normalise='input' needs to know how far every step moved, which these results do not "
            "tell: explain the sequences again"
            if unknown
            else "no step has any attribution: the output does not depend on these sequences, or "
            "they equal the baseline" + _or_missed(used)
        )
    both = future is not None and future.reach > FLOOR * top
    told = [*notes, *remarks(attributions, used, both)]
    if bootstrap < FEWEST_DRAWS:
        told.append(
            f"bootstrap={bootstrap}: there is no interval, which takes {FEWEST_DRAWS} or more"
        )
    left_out = len(attributions) - len(used)
    missed = any(a.status in ("failed", "budget") for a in attributions)
    decay = _decay(past, bootstrap, seed, int(both and past.reach > FLOOR * top), used)
    decay = replace(decay, left_out=left_out, notes=(*told, *decay.notes))
    if future is not None and both:
        other = replace(_decay(future, bootstrap, seed, 0, used), left_out=left_out)
        decay = replace(decay, future=_missed(other) if missed else other)
    return _missed(decay) if missed else decay


def _missed(decay: Decay) -> Decay:
    return replace(decay, status="not_converged", detail="")


def _side(
    attributions: Sequence[Attribution],
    gradients: Sequence[Attribution] | None,
    burn_in: int,
    reduce: Reduce,
    normalise: Normalise,
    *,
    future: bool,
) -> Side | None:
    """One side of the sequences that have any of it; None where none has."""
    cuts = [cut(a, burn_in=burn_in, future=future) for a in attributions]
    chosen = [i for i, one in enumerate(cuts) if len(one.lags)]
    if not chosen:
        return None
    used = [attributions[i] for i in chosen]
    own = [cuts[i] for i in chosen]
    unit = units_of(used)
    common = common_lags([one.lags for one in own], unit)
    shifts = [one.of(moved(a)) for one, a in zip(own, used, strict=True)]

    def table(each: Sequence[Lags]) -> Profiles:
        rows = [Row(one.lags, values) for one, values in zip(own, each, strict=True)]
        return gathered(rows, common, unit)

    amounts = [one.of(attributed(a, reduce)) for one, a in zip(own, used, strict=True)]
    ratios = [per_moved(amount, shift) for amount, shift in zip(amounts, shifts, strict=True)]
    if normalise == "sequence":
        sums = [float(attributed(a, reduce).sum()) for a in used]
        amounts = [
            amount / (total or math.nan) for amount, total in zip(amounts, sums, strict=True)
        ]
    known = [] if gradients is None else [gradients[i] for i in chosen]
    distances = table(shifts)
    return Side(
        amounts=_moving(table(ratios if normalise == "input" else amounts), distances),
        sensitivity=table(ratios),
        moved=distances,
        jacobian=table([one.of(_gradient(a)) for one, a in zip(own, known, strict=True)])
        if known
        else None,
        future=future,
    )


def _moving(amounts: Profiles, shifts: Profiles) -> Profiles:
    """The same without the lags at which no sequence differs from its baseline.

    Their attribution is 0 by definition, which says nothing of the memory.
    """
    still = (~(shifts.values > 0) & shifts.seen).any(0) & ~(shifts.values > 0).any(0)
    return replace(amounts, values=np.where(still, np.nan, amounts.values))


def _gradient(attribution: Attribution) -> Lags:
    if attribution.status == "failed":
        return np.full(len(attribution.tensors["x"]), np.nan)
    return attributed(attribution, "abs-sum")


def _decay(
    side: Side, bootstrap: int, seed: int, begin: int, attributions: Sequence[Attribution]
) -> Decay:
    """Every measure of one side, whose first ``begin`` lags are shown but not measured."""
    amounts = side.amounts
    lags, whole = amounts.lags, amounts.mean()
    # A lag may have no value of any sequence, such as one at which nothing moved.
    known = begin + np.flatnonzero(amounts.count[begin:])
    own, mean, count = lags[known], whole[known], amounts.count[known]
    first, last = window(mean)
    usable = slice(first, last + 1)
    fits = fitted(own[usable], mean[usable]) if last + 1 - first >= FEWEST_LAGS else {}
    found, r2 = rates(own[usable], mean[None, usable])
    half_life = float(half_lives(found)[0])
    crossing = measures.crossing(own, mean, count)
    measured = Profiles(own, amounts.values[:, known])
    limits = interval(Profiles(own[usable], measured.values[:, usable]), bootstrap, seed)
    evidence = Evidence(
        profiles=measured,
        mean=mean,
        window=(first, last),
        span=float(own[last] - own[first]) + intervals_of(own[usable]),
        half_life=half_life,
        interval=limits,
        crossing=crossing,
        fits=fits,
    )
    status = judged(evidence)
    jacobian = side.jacobian
    sensitivity = side.sensitivity.mean()
    per_input = half_life_of(own[usable], sensitivity[known][usable])
    fall = _fall(own[usable], side.moved.mean()[known][usable])
    return Decay(
        half_life=half_life,
        interval=limits,
        status=status,
        detail=details(evidence, status),
        lags=lags,
        unit=units_of(attributions),
        profile=whole,
        count=amounts.count,
        geometric=amounts.geometric(),
        quartiles=amounts.quartiles(),
        sensitivity=sensitivity,
        jacobian=None if jacobian is None else jacobian.mean(),
        window=(int(known[first]), int(known[last])),
        r2=float(r2[0]),
        bow=fits["exponential"].bow if "exponential" in fits else math.nan,
        crossing=crossing,
        half_mass=measures.half_mass(own, mean),
        mean_lag=measures.mean_lag(own, mean),
        peak_lag=float(own[mean.argmax()]),
        after_peak=measures.after_peak(own, mean, (first, last), FEWEST_LAGS),
        per_moved=per_input,
        fits=fits,
        sequences=len(amounts.values),
        notes=(*of_inputs(half_life, limits, per_input, fall, side.future), *shown(evidence)),
    )


def _fall(lags: Lags, moved: Lags) -> float:
    """By how much abs(x - x') falls over these lags, by the slope of its logarithm."""
    with np.errstate(over="ignore"):
        return float(np.exp(rates(lags, moved[None])[0][0] * (lags[-1] - lags[0])))


def _or_missed(used: Sequence[Attribution]) -> str:
    missed = sum(a.status == "budget" for a in used)
    return f"; or {missed} missed their tolerance: raise budget or steps" if missed else ""
