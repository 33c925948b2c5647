"""A Batch is many attributions of one agent as arrays: a row for each state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ig_core import Attribution, InputError


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """What attributions of the same features say, state by state.

    ``pairs`` are the actions that each state explains; ``pair`` those of all, empty where they
    differ.
    """

    scores: Float[np.ndarray, "states features"]
    values: Float[np.ndarray, "states features"]
    names: Sequence[str]
    outputs: Float[np.ndarray, " states"]
    base: Float[np.ndarray, " states"]
    residuals: Float[np.ndarray, " states"]
    statuses: Sequence[str]
    pairs: Sequence[tuple[int, ...]]
    explain: str
    quantity: str
    baseline: str
    agent: str
    image: Sequence[int]

    @property
    def pair(self) -> tuple[int, ...]:
        """The actions that all states explain."""
        return self.pairs[0] if len(set(self.pairs)) == 1 else ()

    @classmethod
    def of(cls, attributions: Sequence[Attribution]) -> Batch:
        """Attributions as arrays.

        Raises:
            InputError: there are none, or they are not of one agent, quantity and baseline.
        """
        if not attributions:
            raise InputError("there must be at least one attribution of an agent (got none)")
        first = attributions[0]
        for number, one in enumerate(attributions):
            _check(one, first, number)
        told = first.display
        return cls(
            scores=np.stack([one.scores.numpy() for one in attributions]),
            values=np.array([one.display["values"] for one in attributions], dtype=float),
            names=list(told["names"]),
            outputs=np.array([one.at_input for one in attributions]),
            base=np.array([one.at_baseline for one in attributions]),
            residuals=np.array([one.residual for one in attributions]),
            statuses=[one.status for one in attributions],
            pairs=[tuple(one.display["pair"]) for one in attributions],
            explain=str(told["explain"]),
            quantity=quantity_of(attributions),
            baseline=_baseline(first),
            agent=str(told["agent"]),
            image=_image(told.get("image")),
        )


def quantity_of(attributions: Sequence[Attribution]) -> str:
    """How the explained number of all states is written; in words where each has its own."""
    told = {str(one.display["quantity"]) for one in attributions}
    if len(told) == 1:
        return told.pop()
    return f"{attributions[0].display['explain']} of each state's own actions"


def _check(one: Attribution, first: Attribution, number: int) -> None:
    if one.provenance.get("domain") != "rl":
        raise InputError(
            f"attribution {number} is none of an agent "
            f"(expected domain 'rl', got {one.provenance.get('domain')!r})"
        )
    if len(one.scores) != len(one.display["names"]):
        raise InputError(
            f"attribution {number} has other units than the agent's features: take it as "
            "ig.attribute gave it, before by()"
        )
    for what in ("agent", "explain", "names"):
        if one.display[what] != first.display[what]:
            raise InputError(
                f"attribution {number} is of another {what} than attribution 0 "
                f"(got {one.display[what]!r:.60} and {first.display[what]!r:.60})"
            )
    if _baseline(one) != _baseline(first):
        raise InputError(
            f"attribution {number} has another baseline than attribution 0 (got "
            f"{_baseline(one)!r} and {_baseline(first)!r}): their scores cannot be put together"
        )


def _baseline(attribution: Attribution) -> str:
    given = attribution.provenance.get("baseline", "given")
    return " + ".join(map(str, given)) if isinstance(given, list) else str(given)


def _image(given: Any) -> Sequence[int]:
    return () if given is None else (int(given["frames"]), *map(int, given["shape"]))
