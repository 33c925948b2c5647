"""Agreement: how far attributions depend on the baseline, over many states."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ig_core import (
    Agreement,
    Attribution,
    BaselineAgreement,
    InputError,
    Table,
    page,
    plain_numbers,
)
from ig_rl import view
from ig_rl.findings.batch import quantity_of


@dataclass(frozen=True, eq=False, kw_only=True)
class StateAgreement:
    """How far the scores of state features agree under several baselines, state by state.

    ``each`` holds one :class:`ig_core.Agreement` for every state. ``magnitudes`` are the mean of
    abs(score) under each baseline: those that move little have scores that say little.
    """

    names: Sequence[str]
    features: Sequence[str]
    each: Sequence[Agreement]
    quantity: str
    agent: str = ""
    left_out: int = 0
    notes: Sequence[str] = ()

    @property
    def rank_correlation(self) -> Float[np.ndarray, "baselines baselines"]:
        """Mean over states of Spearman's rho; NaN where no state has one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a mean of nothing
            return np.nanmean(self._rhos, 0)

    @property
    def sign_agreement(self) -> Float[np.ndarray, "baselines baselines"]:
        """Mean over states of the share of features whose scores have the same sign."""
        return np.mean([one.sign_agreement for one in self.each], 0)

    @property
    def same_top(self) -> Float[np.ndarray, "baselines baselines"]:
        """Share of states whose strongest feature is the same."""
        top = np.array([np.abs(one.scores).argmax(1) for one in self.each])
        return (top[:, :, None] == top[:, None]).mean(0)

    @property
    def magnitudes(self) -> Float[np.ndarray, "baselines features"]:
        """Mean over states of abs(score) under each baseline."""
        return np.mean([np.abs(one.scores) for one in self.each], 0)

    def table(self) -> Table:
        """Every pair of baselines: mean and quartiles of rho, same sign and same top feature."""
        rho, sign, top = self.rank_correlation, self.sign_agreement, self.same_top
        rows: list[list[str | int | float]] = []
        for a, b in combinations(range(len(self.names)), 2):
            own = self._rhos[:, a, b]
            own = own[np.isfinite(own)]
            low, high = np.quantile(own, [0.25, 0.75]).tolist() if len(own) else [np.nan] * 2
            means = map(float, (rho[a, b], low, high, sign[a, b], top[a, b]))
            rows.append([f"{self.names[a]} / {self.names[b]}", *means])
        left = f", {self.left_out} left out that could not be explained" if self.left_out else ""
        notes = [
            f"{self.quantity} of {self.agent or 'the agent'}; {len(self.each)} states{left}",
            "Spearman's rho of the features' signed scores, mean and quartiles over states",
            *self.notes,
        ]
        quartiles = ["25 % below", "75 % below"]
        return Table(["baselines", "rho", *quartiles, "same sign", "same top feature"], rows, notes)

    def to_csv(self) -> str:
        """The table as comma-separated values, the numbers in full."""
        return self.table().to_csv()

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; NaN becomes None."""
        arrays = ("rank_correlation", "sign_agreement", "same_top", "magnitudes")
        return {
            "names": list(self.names),
            "features": list(self.features),
            "states": len(self.each),
            **{name: plain_numbers(getattr(self, name)) for name in arrays},
            "quantity": self.quantity,
            "agent": self.agent,
            "left_out": self.left_out,
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def plot(self) -> Any:
        """A matplotlib figure: rho of every two baselines, and how strong features are under each.

        Raises:
            MissingFrameworkError: matplotlib is not installed.
        """
        return view.agreement(self)

    def to_html(self, path: str | Path | None = None) -> str:
        """Plot and table as a self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        return page("Agreement of baselines", view.agreement_html(self), path=path)

    def __repr__(self) -> str:
        pairs = combinations(range(len(self.names)), 2)
        told = ", ".join(
            f"{self.names[a]} / {self.names[b]} {self.rank_correlation[a, b]:.2f}" for a, b in pairs
        )
        return f"StateAgreement({len(self.each)} states, Spearman: {told})"

    @property
    def _rhos(self) -> Float[np.ndarray, "states baselines baselines"]:
        return np.array([one.rank_correlation for one in self.each])


def agreement(
    found: Mapping[str, Sequence[Attribution]], *, notes: Sequence[str] = ()
) -> StateAgreement:
    """The agreement of baselines, from the attributions of the same states under each of them.

    Raises:
        InputError: fewer than two baselines, not the same states, or none that all could explain.
    """
    names = list(found)
    if len(names) < 2 or len({len(own) for own in found.values()}) != 1:
        counts = ", ".join(f"{name}: {len(own)}" for name, own in found.items())
        raise InputError(
            "agreement compares at least two baselines over the same states "
            f"(got {counts or 'none'})"
        )
    states = list(zip(*found.values(), strict=True))
    known = [own for own in states if _finite(own)]
    if not known:
        raise InputError("no state could be explained under all baselines")
    return StateAgreement(
        names=names,
        features=list(known[0][0].display["names"]),
        each=[BaselineAgreement().find(own, names=names) for own in known],
        quantity=quantity_of([own[0] for own in known]),
        agent=str(known[0][0].display["agent"]),
        left_out=len(states) - len(known),
        notes=list(notes),
    )


def named(baselines: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Baselines by what a table calls them.

    Raises:
        InputError: they are no list or mapping.
    """
    if isinstance(baselines, Mapping):
        return dict(baselines)
    if isinstance(baselines, str) or not isinstance(baselines, Iterable):
        raise InputError(f"baselines are a list of at least two (got {baselines!r:.80})")
    found: dict[str, Any] = {}
    for one in baselines:
        name = str(one) if isinstance(one, (str, int, float)) else getattr(one, "name", "given")
        count = sum(key.partition(" #")[0] == name for key in found)
        found[f"{name} #{count + 1}" if count else name] = one
    return found


def _finite(attributions: Sequence[Attribution]) -> bool:
    scores: Bool[np.ndarray, " all"] = np.concatenate(
        [np.isfinite(one.scores.numpy()) for one in attributions]
    )
    return bool(scores.all())
