"""Decay: how attribution fades with the lag, and what to think of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ig_core import Table, page, plain_number, plain_numbers
from ig_sequences import view
from ig_sequences.decay.fits import Fit
from ig_sequences.decay.interval import FEWEST_SEQUENCES
from ig_sequences.decay.profile import Lags, Unit
from ig_sequences.decay.status import FEW_SEQUENCES, MEANING, DecayStatus
from ig_sequences.view import pages

NUMBERS = (
    "half_life", "crossing", "half_mass", "mean_lag", "peak_lag", "after_peak", "per_moved", "r2",
    "bow",
)  # fmt: skip
"""The measures that are one number each."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Decay:
    """How attribution fades with the lag, counted from each sequence's own end.

    ``profile[k]`` is a(k), the mean over ``count[k]`` sequences of the sum over features of
    abs(IG) at ``lags[k]``, which is in steps or, where times were given, in their unit. The
    half-life is in the same unit::

        half_life = ln 2 / -(slope of ln a(k) over the lags window[0] to window[1])

    It always means that, by least squares over the contiguous lags above 1e-8 of the maximum;
    where it describes the profile badly, ``status`` says so, and it is infinite where nothing
    fades. ``interval`` is its 95 % interval by bootstrap over sequences, NaN for one or two, and
    for eight or fewer it holds the truth less often than that. ``r2`` is that of the line, ``bow``
    how far ln a(k) lies above it at the ends.

    Beside it stand measures without a model: ``crossing``, the lag where a(k), made to fall by
    isotonic regression, is down to half (infinite if it never is); ``half_mass``, the width of the
    nearest steps that hold half of the attribution; ``mean_lag``; ``peak_lag``; ``after_peak``,
    the half-life by the slope from the peak on; and ``per_moved``, that of ``sensitivity`` over
    the same lags, which inputs that grow or shrink along time leave as it is. ``geometric`` and
    ``quartiles`` are of the same numbers as the mean, ``sensitivity`` is the mean of
    a(k) / abs(x - x') (NaN where x is x'), and ``jacobian`` that of the sum over features of
    abs(dF/dx) at x. ``fits`` are curves through the window.

    A model that reads both ways and explains a middle step has two sides: this is the past, and
    ``future`` the other. Crossing and half-mass count from the first lag of the side, which is
    then 1, because lag 0, the step itself, belongs to both.
    """

    half_life: float
    interval: tuple[float, float]
    status: DecayStatus
    lags: Lags
    unit: Unit
    profile: Lags
    count: Int[np.ndarray, " lags"]
    geometric: Lags
    quartiles: Float[np.ndarray, "2 lags"]
    sensitivity: Lags
    jacobian: Lags | None
    window: tuple[int, int]
    r2: float
    bow: float
    crossing: float
    half_mass: float
    mean_lag: float
    peak_lag: float
    after_peak: float
    per_moved: float = math.nan
    detail: str = ""
    fits: Mapping[str, Fit] = field(default_factory=dict)
    sequences: int
    left_out: int = 0
    future: Decay | None = None
    notes: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """What the status means for the half-life."""
        told = "; ".join(filter(None, (MEANING[self.status], self.detail)))
        if self.sequences == 1:
            told += "; one sequence has no interval, and its own ups and downs pass for the model's"
        elif self.sequences < FEWEST_SEQUENCES:
            told += f"; {self.sequences} sequences have no interval"
        elif self.sequences <= FEW_SEQUENCES:
            told += f"; {self.sequences} sequences make the interval too narrow"
        return told

    def summary(self) -> Table:
        """The measures, one a row."""
        interval = pages.interval(self)
        first, last = self.window
        rows: list[Sequence[str | float]] = [
            [
                "half-life",
                pages.beyond(self, self.half_life),
                f"{f'95 %: {interval}' if interval else 'no interval'}, {self.status}",
            ],
            ["window", float(self.lags[last]), f"last fitted lag, from {self.lags[first]:g} on"],
            ["crossing", self.crossing, "first lag at half of the start"],
            ["half-mass", self.half_mass, "width of the nearest steps with half of it"],
            ["mean lag", self.mean_lag, "in the mean over all attribution"],
            ["peak", self.peak_lag, "the lag that holds most"],
            [
                "after the peak",
                pages.beyond(self, self.after_peak),
                "half-life by the slope from there on",
            ],
            [
                "per moved",
                pages.beyond(self, self.per_moved),
                "half-life of a / |x - x'| by its slope",
            ],
        ]
        rows += [
            [
                fit.name,
                pages.beyond(self, fit.half_life),
                f"half-life; AICc {fit.aicc:.5g}, R2 {fit.r2:.4f}, bow {fit.bow:+.2g}",
            ]
            for fit in self.fits.values()
        ]
        return Table(["measure", self.unit, "what it is"], rows, [self.reason, *self.notes])

    def table(self) -> Table:
        """The profile, one lag a row; it also writes itself as CSV."""
        columns = {
            "lag": self.lags,
            "n": self.count,
            "mean": self.profile,
            "geometric mean": self.geometric,
            "first quartile": self.quartiles[0],
            "third quartile": self.quartiles[1],
            "per moved": self.sensitivity,
        }
        if self.jacobian is not None:
            columns["Jacobian"] = self.jacobian
        columns |= {fit.name: fit.at(self.lags) for fit in self.fits.values()}
        rows = list(zip(*(column.tolist() for column in columns.values()), strict=True))
        return Table(list(columns), rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; NaN and infinity become None."""
        return {
            **{name: plain_number(getattr(self, name)) for name in NUMBERS},
            "interval": plain_numbers(self.interval),
            "status": self.status,
            "reason": self.reason,
            "notes": list(self.notes),
            "unit": self.unit,
            "window": list(self.window),
            "lags": plain_numbers(self.lags),
            "profile": plain_numbers(self.profile),
            "count": self.count.tolist(),
            "geometric": plain_numbers(self.geometric),
            "quartiles": [plain_numbers(one) for one in self.quartiles],
            "sensitivity": plain_numbers(self.sensitivity),
            "jacobian": None if self.jacobian is None else plain_numbers(self.jacobian),
            "fits": {
                name: {
                    "parameters": {n: plain_number(value) for n, value in fit.parameters.items()},
                    "half_life": plain_number(fit.half_life),
                    "aicc": plain_number(fit.aicc),
                    "r2": plain_number(fit.r2),
                    "bow": plain_number(fit.bow),
                }
                for name, fit in self.fits.items()
            },
            "sequences": self.sequences,
            "left_out": self.left_out,
            "future": None if self.future is None else self.future.to_dict(),
        }

    def to_text(self) -> str:
        """The measures as plain text, of both sides where there are two."""
        told = self.summary().to_text()
        if self.future is None:
            return told
        return f"past\n{told}\n\nfuture\n{self.future.summary().to_text()}"

    def to_html(self, path: str | Path | None = None) -> str:
        """Plot and tables as a self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        return page("Attribution decay", view.decay_html(self), path=path)

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
