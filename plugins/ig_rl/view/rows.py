"""The rows that pictures of an episode have: features of their own, and the others together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

PALE = 0.98
"""Colours end at this quantile of all magnitudes, lest a few steps leave the others pale."""

MOST_ROWS = 16
"""Rows drawn at most; the features of smallest magnitude share the last one."""


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Scores of features by steps, whose sum is that of the attributions.

    ``values`` are NaN in the row of several features together, and where they are not known.
    """

    names: Sequence[str]
    scores: Float[np.ndarray, "rows steps"]
    values: Float[np.ndarray, "rows steps"]

    @property
    def limit(self) -> float:
        """The largest magnitude."""
        return float(np.abs(self._finite).max(initial=0.0)) or 1.0

    @property
    def colours_end(self) -> float:
        """The end of the colour scale, whose centre is zero; a few scores may lie beyond."""
        if not np.any(self._finite):
            return 1.0
        return float(np.quantile(np.abs(self._finite), PALE)) or self.limit

    @property
    def _finite(self) -> Float[np.ndarray, " scores"]:
        return self.scores[np.isfinite(self.scores)]

    def line(self, row: int) -> Float[np.ndarray, " steps"] | None:
        """A row's values, from 0 where they are smallest to 1; None where they are not known."""
        values = self.values[row]
        if not np.isfinite(values).all():
            return None
        low, high = values.min(), values.max()
        return np.full(values.shape, 0.5) if low == high else (values - low) / (high - low)


def feature_rows(
    names: Sequence[str],
    scores: Float[np.ndarray, "steps features"],
    values: Float[np.ndarray, "steps features"],
    most: int = MOST_ROWS,
) -> FeatureRows:
    """The features in the agent's order; of many the largest, and the sum of all others."""
    count = len(names)
    if count <= most:
        return FeatureRows(list(names), scores.T, values.T)
    sizes = np.nan_to_num(np.abs(scores)).sum(0)
    own = np.sort(np.argsort(-sizes, kind="stable")[: most - 1])
    others = np.setdiff1d(np.arange(count), own)
    return FeatureRows(
        [*(names[i] for i in own), f"{len(others)} others"],
        np.vstack([scores.T[own], scores.T[others].sum(0)]),
        np.vstack([values.T[own], np.full(len(values), np.nan)]),
    )
