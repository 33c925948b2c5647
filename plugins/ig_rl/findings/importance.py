"""Importance: how strong every state feature is over many states, and for each action."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ig_core import InputError, Table, page, plain_number, plain_numbers
from ig_rl import view
from ig_rl.counts import counted
from ig_rl.observations.features import past

LEVEL = 0.95
"""Of the intervals."""

RESAMPLES = 1000

MOST_PIXELS = 10
"""Rows of single pixels in a table; the picture shows all of them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Strength:
    """How strong every feature is over ``count`` states.

    ``magnitude`` is the mean of abs(score), ``mean`` that of the signed score and ``share`` the
    part of a feature in the sum of all magnitudes. ``intervals`` hold for each of the three the
    lower and the upper end of its 95 % bootstrap interval over states, NaN for fewer than two.
    """

    count: int
    magnitude: Float[np.ndarray, " features"]
    mean: Float[np.ndarray, " features"]
    share: Float[np.ndarray, " features"]
    intervals: Mapping[str, Float[np.ndarray, "2 features"]]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; NaN becomes None."""
        return {
            "count": self.count,
            **{name: plain_numbers(getattr(self, name)) for name in MEASURES},
            "intervals": {name: plain_numbers(ends) for name, ends in self.intervals.items()},
        }


MEASURES = ("magnitude", "mean", "share")
"""What a :class:`Strength` says of each feature."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Importance:
    """How strong every state feature is: over all states, and by the action explained there.

    ``scores[s]`` are the attributions of ``names`` at state s, with the values of the features
    there. Where each state explains its own greedy action, a positive ``mean`` speaks for what the
    agent does, and ``per_action`` parts the states by it; otherwise the sign is that of
    ``quantity``. Intervals take states for independent. Those of one episode are not, so that the
    intervals are too narrow for few episodes.
    """

    names: Sequence[str]
    scores: Float[np.ndarray, "states features"]
    values: Float[np.ndarray, "states features"]
    overall: Strength
    per_action: Mapping[str, Strength]
    quantity: str
    baseline: str
    residual: float
    agent: str = ""
    left_out: int = 0
    image: Sequence[int] = ()
    """Of pixels as features: how many frames, rows and columns they are."""
    notes: Sequence[str] = ()

    def strongest(self, k: int = 10) -> list[int]:
        """The features of largest magnitude over all states, the first of them the largest."""
        return np.argsort(-self.overall.magnitude, kind="stable")[: max(k, 0)].tolist()

    @property
    def pixels(self) -> bool:
        """Whether the features are the pixels of an image, and nothing else."""
        return bool(self.image) and math.prod(self.image) == len(self.names)

    def maps(self, measure: str) -> Float[np.ndarray, "frames rows columns"]:
        """The pixels of one of :data:`MEASURES` over all states, the oldest frame first.

        Raises:
            InputError: the features are no pixels.
        """
        if not self.pixels:
            raise InputError("maps are of images (this importance is of features that are none)")
        found: Float[np.ndarray, "frames rows columns"] = getattr(self.overall, measure)
        return found.reshape(self.image)

    def table(self) -> Table:
        """One feature a row, the strongest first, with intervals over all states.

        Of an image the strongest pixels, and then the sum over all pixels of every frame.
        """
        rows: list[list[str | float]] = _rows(self.names, self.overall, self._told())
        notes = self._facts()
        if self.pixels:
            frames = self._frames(self.scores)
            whole = strength(self._frames(np.abs(self.scores)))
            summed = Strength(
                count=whole.count,
                magnitude=whole.magnitude,
                mean=frames.mean(0),
                share=whole.share,
                intervals=whole.intervals,
            )
            rows += _rows(self._frame_names(), summed, range(self.image[0]))
            notes += [
                f"the {len(self._told())} strongest of {len(self.names)} pixels, then the sums "
                "over all pixels of a frame"
            ]
        ends = ["95 % low", "95 % high"]
        columns = ["feature", "mean |score|", *ends, "mean score", "share", *ends]
        return Table(columns, rows, notes)

    def actions(self) -> Table:
        """One feature a row and one action a column: the mean score of states that choose it.

        Of an image the strongest pixels, and then the sum over all pixels of every frame.
        """
        every = self.per_action.values()
        rows: list[list[str | float]] = [
            [self.names[i], *(float(part.mean[i]) for part in every)] for i in self._told()
        ]
        if self.pixels:
            sums = [self._frames(part.mean[None])[0] for part in every]
            rows += [
                [name, *(float(own[f]) for own in sums)]
                for f, name in enumerate(self._frame_names())
            ]
        counts = ", ".join(f"{part.count} {name}" for name, part in self.per_action.items())
        return Table(
            ["mean score", *self.per_action], rows, [f"states: {counts}"] if counts else []
        )

    def to_csv(self) -> str:
        """One row for each feature, over all states and then for each action, numbers in full."""
        columns = ["action", "states", "feature"]
        columns += [n for m in MEASURES for n in (m, f"{m} 95 % low", f"{m} 95 % high")]
        rows: list[list[str | int | float]] = [
            [
                group,
                part.count,
                name,
                *(
                    float(number[i])
                    for m in MEASURES
                    for number in (getattr(part, m), *part.intervals[m])
                ),
            ]
            for group, part in {"all": self.overall, **self.per_action}.items()
            for i, name in enumerate(self.names)
        ]
        return Table(columns, rows).to_csv()

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; NaN becomes None."""
        return {
            "names": list(self.names),
            "scores": plain_numbers(self.scores),
            "values": plain_numbers(self.values),
            "overall": self.overall.to_dict(),
            "per_action": {name: part.to_dict() for name, part in self.per_action.items()},
            "quantity": self.quantity,
            "baseline": self.baseline,
            "agent": self.agent,
            "residual": plain_number(self.residual),
            "left_out": self.left_out,
            "image": list(self.image),
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """Both tables as plain text."""
        tables = [self.table()] + ([self.actions()] if self.per_action else [])
        return "\n\n".join(table.to_text() for table in tables)

    def to_html(self, path: str | Path | None = None) -> str:
        """Plot and tables as a self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        return page("Importance of state features", view.importance_html(self), path=path)

    def plot(self) -> Any:
        """A matplotlib figure: magnitudes with their intervals, and means for each action.

        Of an image two maps of every frame: of the mean magnitudes, and of the mean scores.

        Raises:
            MissingFrameworkError: matplotlib is not installed.
        """
        return view.importance(self)

    def __repr__(self) -> str:
        told = ", ".join(
            f"{self.names[i]} {100 * self.overall.share[i]:.0f} %" for i in self.strongest(3)
        )
        return f"Importance({self.quantity}, {self.overall.count} states: {told})"

    def _told(self) -> list[int]:
        """The features that have rows in tables."""
        return self.strongest(MOST_PIXELS if self.pixels else len(self.names))

    def _frames(
        self, scores: Float[np.ndarray, "states features"]
    ) -> Float[np.ndarray, "states frames"]:
        """The sum of every frame's pixels."""
        return scores.reshape(len(scores), self.image[0], -1).sum(2)

    def _frame_names(self) -> list[str]:
        frames = self.image[0]
        return [f"all pixels, {past(frames - 1 - f)}" for f in range(frames)]

    def _facts(self) -> list[str]:
        left = f", {self.left_out} left out that could not be explained" if self.left_out else ""
        return [
            f"{self.quantity} of {self.agent or 'the agent'}; {self.overall.count} states{left}",
            f"baseline: {self.baseline}; completeness: worst residual {self.residual:.1e}",
            "intervals: 95 %, bootstrap over states, which are taken for independent",
            *self.notes,
        ]


def _rows(names: Sequence[str], found: Strength, some: Sequence[int]) -> list[list[str | float]]:
    """Some features of a table, in this order."""
    (low, high), (least, most) = found.intervals["magnitude"], found.intervals["share"]
    return [
        [
            names[i],
            *map(float, (found.magnitude[i], low[i], high[i], found.mean[i])),
            *map(float, (found.share[i], least[i], most[i])),
        ]
        for i in some
    ]


def strength(
    scores: Float[np.ndarray, "states features"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Strength:
    """The strength of each feature, with percentile intervals of a bootstrap over states.

    >>> found = strength(np.array([[3.0, -1.0], [1.0, 1.0]]))
    >>> found.magnitude.tolist(), found.mean.tolist(), found.share.tolist()
    ([2.0, 1.0], [2.0, 0.0], [0.6666666666666666, 0.3333333333333333])

    Raises:
        InputError: there is no state, or no whole number of resamples.
    """
    counted("resamples", resamples)
    count, features = scores.shape
    if not count:
        raise InputError("importance needs at least one state that could be explained (got none)")
    sizes = np.abs(scores)
    measured = _measures(sizes.mean(0), scores.mean(0))
    if count < 2:
        intervals = {name: np.full((2, features), math.nan) for name in MEASURES}
    else:
        drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, resamples)
        means = drawn @ sizes / count, drawn @ scores / count
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        intervals = {n: np.quantile(own, ends, axis=0) for n, own in _measures(*means).items()}
    return Strength(count=count, **measured, intervals=intervals)


def by_action(
    scores: Float[np.ndarray, "states features"], actions: Sequence[str], **options: Any
) -> dict[str, Strength]:
    """The strength over the states of each action, those of most states first.

    >>> found = by_action(np.array([[3.0], [1.0], [2.0]]), ["left", "right", "left"])
    >>> {name: (part.count, part.mean.tolist()) for name, part in found.items()}
    {'left': (2, [2.5]), 'right': (1, [1.0])}
    """
    chosen = np.array(actions)
    counts = Counter(actions).most_common()
    return {str(name): strength(scores[chosen == name], **options) for name, _ in counts}


def _measures(
    magnitude: Float[np.ndarray, "*some features"], mean: Float[np.ndarray, "*some features"]
) -> dict[str, Float[np.ndarray, "*some features"]]:
    whole = magnitude.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"magnitude": magnitude, "mean": mean, "share": magnitude / whole}
