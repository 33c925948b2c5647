"""An Analysis turns many attributions into one finding; here the one that suits every domain."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float

from ig_core.attribution import Attribution
from ig_core.errors import InputError
from ig_core.report.table import Cell, Table


class Analysis(ABC):
    """Many attributions in, one finding out: the half-life of a memory, the top words of a class.

    A finding is a dataclass of the plugin's own; the benchmark and the views only pass it on.
    """

    name: ClassVar[str]
    fits: ClassVar[tuple[str, ...]] = ()
    """Domains that the analysis is limited to; empty for all."""

    @abstractmethod
    def find(self, attributions: Sequence[Attribution], **options: Any) -> Any:
        """The finding.

        Raises:
            InputError: there are too few attributions, or they cannot be compared.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class Agreement:
    """How far the scores of one input's units agree under several baselines.

    ``rank_correlation`` is Spearman's rho of each pair of baselines (ties share their mean rank;
    NaN where all scores of one are equal), ``sign_agreement`` the share of units whose scores
    have the same sign, ``spread`` the standard deviation of each unit's scores over the baselines.
    Scores are signed and not rescaled, though F(x) - F(x') differs by baseline.
    """

    names: Sequence[str]
    labels: Sequence[str]
    kind: str
    scores: Float[np.ndarray, "baselines units"]
    mean: Float[np.ndarray, " units"]
    spread: Float[np.ndarray, " units"]
    rank_correlation: Float[np.ndarray, "baselines baselines"]
    sign_agreement: Float[np.ndarray, "baselines baselines"]

    def disputed(self, k: int = 5) -> list[tuple[str, float, float]]:
        """The k units of largest spread: label, mean and spread."""
        return [
            (self.labels[i], float(self.mean[i]), float(self.spread[i])) for i in self._widest(k)
        ]

    def pairs(self) -> Table:
        """Every pair of baselines as a table."""
        rows: list[Sequence[Cell]] = [
            [
                f"{self.names[a]} / {self.names[b]}",
                float(self.rank_correlation[a, b]),
                float(self.sign_agreement[a, b]),
            ]
            for a, b in combinations(range(len(self.names)), 2)
        ]
        return Table(["baselines", "Spearman's rho", "same sign"], rows)

    def units(self, k: int = 5) -> Table:
        """The most disputed units as a table, with their score under each baseline."""
        rows: list[Sequence[Cell]] = [
            [*told, *self.scores[:, i].tolist()]
            for i, told in zip(self._widest(k), self.disputed(k), strict=True)
        ]
        return Table([f"most disputed {self.kind}s", "mean score", "spread", *self.names], rows)

    def to_text(self, k: int = 5) -> str:
        """The pairs and the k most disputed units as plain text."""
        return f"{self.pairs().to_text()}\n\n{self.units(k).to_text()}"

    def to_html(self, k: int = 5) -> str:
        """The same as an HTML fragment, escaped."""
        return f"{self.pairs().to_html()}\n{self.units(k).to_html()}"

    def _widest(self, k: int) -> list[int]:
        order: list[int] = np.argsort(-self.spread, kind="stable")[: max(k, 0)].tolist()
        return order


class BaselineAgreement(Analysis):
    """How far attributions of one input under several baselines agree, on units.

    >>> import torch
    >>> import ig_core as ig
    >>> def model(x):
    ...     return x[:, 0] * x[:, 1]
    >>> x = torch.tensor([[2.0, 3.0]])
    >>> found = [ig.attribute(model, x, baseline=value)[0] for value in (0.0, 1.0)]
    >>> BaselineAgreement().find(found, names=["zero", "one"]).disputed(1)[0][0]
    'x[0]'
    """

    name = "baseline-agreement"

    def find(
        self,
        attributions: Sequence[Attribution],
        *,
        names: Sequence[str] | None = None,
        **options: Any,
    ) -> Agreement:
        """The agreement; ``names`` are those of the baselines if the results do not tell them.

        Raises:
            InputError: fewer than two attributions, one that failed, or of different inputs,
                units or numbers; or another option.
        """
        if options:
            raise InputError(f"{self.name} has the option 'names' (got {sorted(options)})")
        if len(attributions) < 2:
            raise InputError(
                f"{self.name} compares at least two attributions of one input, each under another "
                f"baseline (got {len(attributions)})"
            )
        if names is not None and len(names) != len(attributions):
            raise InputError(
                f"expected {len(attributions)} names, one for each attribution (got {len(names)})"
            )
        _check_same(attributions)
        scores = torch.stack([a.scores for a in attributions]).numpy()
        if not np.isfinite(scores).all():
            failed = int(np.flatnonzero(~np.isfinite(scores).all(1))[0])
            told = attributions[failed].reason or "its scores are not finite"
            raise InputError(f"attribution {failed} cannot be compared: {told}")
        signs = np.sign(scores)
        return Agreement(
            names=_distinct(_names(attributions) if names is None else names),
            labels=attributions[0].units.labels,
            kind=attributions[0].units.kind,
            scores=scores,
            mean=scores.mean(0),
            spread=scores.std(0, ddof=1),
            rank_correlation=_correlation(np.stack([_ranks(one) for one in scores])),
            sign_agreement=(signs[:, None] == signs[None]).mean(-1),
        )


def _check_same(attributions: Sequence[Attribution]) -> None:
    """Refuse attributions of different inputs, units or numbers."""
    first = attributions[0]
    if not len(first.units):
        raise InputError("the attributions have no units that could be compared")
    for number, other in enumerate(attributions[1:], 1):
        if list(other.units.labels) != list(first.units.labels) or not _same_index(first, other):
            raise InputError(
                f"attribution {number} has other units than attribution 0: compare one input, "
                f"with by() in the same units (got {_told(other)} and {_told(first)})"
            )
        for what, one, two in (
            ("text or drawing", _of_input(first), _of_input(other)),
            ("target", first.provenance.get("target"), other.provenance.get("target")),
        ):
            if json.dumps(one, sort_keys=True) != json.dumps(two, sort_keys=True):
                raise InputError(
                    f"attribution {number} explains another input or number than attribution 0 "
                    f"(their {what} differ)"
                )


def _of_input(attribution: Attribution) -> dict[str, Any]:
    """What a result shows, but for what belongs to the start of its path or to its values."""
    return {n: v for n, v in attribution.display.items() if n not in ("start", "facts")}


def _same_index(one: Attribution, other: Attribution) -> bool:
    mine, theirs = one.units.index, other.units.index
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)


def _told(attribution: Attribution) -> str:
    units = attribution.units
    return f"{len(units)} {units.kind}s: {', '.join(units.labels[:3])!r:.60}"


def _names(attributions: Sequence[Attribution]) -> list[str]:
    given = [a.provenance.get("baseline", "given") for a in attributions]
    return [" + ".join(map(str, one)) if isinstance(one, list) else str(one) for one in given]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where several are the same."""
    count, seen = Counter(names), Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} {seen[name]}" if count[name] > 1 else name)
    return found


def _ranks(values: Float[np.ndarray, " units"]) -> Float[np.ndarray, " units"]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float[np.ndarray, " units"] = (count.cumsum() - (count + 1) / 2)[place]
    return ranks


def _correlation(rows: Float[np.ndarray, "rows units"]) -> Float[np.ndarray, "rows rows"]:
    """Pearson's correlation of every two rows; NaN where one does not vary."""
    centred = rows - rows.mean(1, keepdims=True)
    norm = np.sqrt((centred**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Float[np.ndarray, "rows rows"] = centred @ centred.T / np.outer(norm, norm)
    return found.clip(-1.0, 1.0)
