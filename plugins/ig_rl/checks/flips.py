"""Flips: how often the greedy action changes without the features that a ranking names first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ig_core import InputError, Table
from ig_rl.checks.interval import ALONE, Estimate, check_groups, estimate
from ig_rl.checks.judged import RANDOM, Judged, greedy, judged, pictured, replaced
from ig_rl.checks.watch import QUIET, Watch

ENDS = ("top", "bottom")
DRAWN = "visited states"
"""The second way of removing: values of visited states, drawn together."""

MOST_SETS = 256
"""Up to so many sets of k features the rate of random ones is their mean, not a sample's."""

SETS = 64
"""So many sets are drawn otherwise."""

PART = 0.05
"""Of the pixels of an image, one of which alone decides nothing."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Flips:
    """The share of states whose greedy action changes when k features get other values.

    ``changed[r, e, w, i]`` is 1 where the action of state i changes without the k features at end
    e (top or bottom) of ranking r, replaced in way w; a mean over draws where values or features
    are drawn. ``groups`` are the episodes of the states, if they are known: intervals then draw
    whole episodes.
    """

    rankings: Sequence[str]
    ways: Sequence[str]
    k: int
    changed: Float[np.ndarray, "rankings ends ways states"]
    groups: Sequence[int] | None = None

    def rate(self, ranking: str, end: str = "top", way: str | None = None) -> Estimate:
        """The share of states with its interval.

        Raises:
            InputError: there is no such ranking, end or way.
        """
        return estimate(self._states(ranking, end, way), groups=self.groups)

    def difference(
        self, one: str, other: str, end: str = "top", way: str | None = None
    ) -> Estimate:
        """How much higher the rate of one ranking is, with its paired interval.

        Raises:
            InputError: there is no such ranking, end or way.
        """
        gap = self._states(one, end, way) - self._states(other, end, way)
        return estimate(gap, groups=self.groups)

    @property
    def verdict(self) -> str:
        """Whether the features that the gap names first decide more often than random ones."""
        first = self.rankings[0]
        own, random = self.rate(first), self.rate(RANDOM)
        lead = self.difference(first, RANDOM)
        one, other = ("feature that", "a random one") if self.k == 1 else (
            f"{self.k} features that", f"{self.k} random ones",
        )  # fmt: skip
        named = f"The {one} the gap names first"
        if not math.isfinite(own.mean):
            return f"{named} cannot be judged: no state could be explained."
        if own.mean == random.mean == 0:
            never = f"never decide{'s' if self.k == 1 else ''}, nor do others"
            return f"{named} {never}: no action flips; a larger k= may tell."
        rates = f"in {100 * own.mean:.0f} % of states ({other} in {100 * random.mean:.0f} %)"
        decides = f"{named} decide{'s' if self.k == 1 else ''} {rates}"
        if not lead.known:
            return f"{decides}; {ALONE}."
        if lead.low > 0:
            return f"{decides}."
        if lead.high < 0:
            return f"{decides}: less often than chance."
        between = (
            f"95 % interval of the difference {100 * lead.low:+.0f} to {100 * lead.high:+.0f} %"
        )
        return f"{decides}: the two cannot be told apart ({between})."

    def table(self) -> Table:
        """The rates, and what the gap's are above every other ranking's."""
        rows: list[list[str | float]] = []
        for way, ranking, end in itertools.product(self.ways, self.rankings, ENDS):
            if ranking == RANDOM and end != "top":
                continue
            rate = self.rate(ranking, end, way)
            less = self.difference(self._alike(ranking), ranking, end, way)
            told = "any" if ranking == RANDOM else end
            numbers = [rate.mean, rate.low, rate.high, less.mean, less.low, less.high]
            rows.append([ranking, told, way, *numbers])
        first = self.rankings[0]
        columns = ["ranking", "end", "replaced by", "flips", "95 % low", "95 % high"]
        drawn = "states" if self.groups is None else "whole episodes"
        notes = [
            f"share of {self.changed.shape[-1]} states whose greedy action changes when {self.k} "
            f"of the features {'gets another value' if self.k == 1 else 'get other values'}",
            f"gap's lead: share of states that {first} (|{first}| for magnitudes) flips above the "
            "row's, state by state",
            f"95 % intervals by the bootstrap over {drawn}",
        ]
        return Table([*columns, "gap's lead", "95 % low", "95 % high"], rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """The rates and differences, as JSON values."""
        return {
            "k": self.k,
            "states": self.changed.shape[-1],
            "rates": [
                {
                    "ranking": ranking,
                    "end": end,
                    "replaced_by": way,
                    "rate": self.rate(ranking, end, way).to_dict(),
                    "gap_less": self.difference(self._alike(ranking), ranking, end, way).to_dict(),
                }
                for way, ranking, end in itertools.product(self.ways, self.rankings, ENDS)
            ],
        }

    def _alike(self, ranking: str) -> str:
        """The gap's own ranking, of magnitudes where the other one is."""
        first = self.rankings[0]
        return f"|{first}|" if ranking.startswith("|") else first

    def _states(self, ranking: str, end: str, way: str | None) -> Float[np.ndarray, " states"]:
        way = self.ways[0] if way is None else way
        for what, name, known in (
            ("ranking", ranking, self.rankings), ("end", end, ENDS), ("way", way, self.ways),
        ):  # fmt: skip
            if name not in known:
                raise InputError(f"no {what} {name!r} among {', '.join(known)}")
        place = self.rankings.index(ranking), ENDS.index(end), self.ways.index(way)
        found: Float[np.ndarray, " states"] = self.changed[place]
        return found


def flips(
    model: Any,
    states: Any,
    *,
    k: int | None = None,
    groups: Sequence[int] | None = None,
    **options: Any,
) -> Flips:
    """Whether the greedy action rests on the features that an attribution names first.

    A feature is removed by giving it the value of the baseline (by default the mean of visited
    states), and, as a second opinion, those of visited states that are drawn: either leaves the
    states that the agent knows, each in its own way. Rankings are those of :class:`Judged`, signed
    and as magnitudes, and random features: their exact expectation where there are few sets of k.

    >>> found = flips(model, states)
    >>> rates = found.to_dict()["rates"]  # of the top, then of the bottom feature; two ways
    >>> [rate["rate"]["mean"] for rate in rates if rate["ranking"] == "gap IG"]
    [0.0, 0.0, 0.5, 0.0]

    Args:
        states: the states to judge.
        k: so many features are replaced together; 1 by default, and 5 % of the units where the
            observation is an image.
        groups: the episode of every state; intervals then draw whole episodes.
        **options: of :func:`judged`, such as ``visited``.

    Raises:
        InputError: the agent's actions are not discrete, or it has fewer than k features.
    """
    return flips_of(judged(model, states, **options), k=k, groups=groups)


def flips_of(
    found: Judged,
    *,
    k: int | None = None,
    groups: Sequence[int] | None = None,
    watch: Watch = QUIET,
) -> Flips:
    """The flips of attributions that are there already."""
    count = len(found.names)
    if k is None:
        k = math.ceil(PART * count) if pictured(found.gap[0]) else 1
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= count:
        raise InputError(f"k features are replaced, 1 to {count} of this agent's (got {k!r})")
    check_groups(groups, len(found.gap))
    subsets = _subsets(count, k, found.task.seed)
    each = []
    with found.domain.prepared():
        for i in watch.each(range(len(found.gap)), "flips"):
            ends = [_ends(scores[i], k, found.task.seed) for scores in found.scores.values()]
            each.append(_changed(found, i, torch.stack([torch.stack(e) for e in ends]), subsets))
    return Flips(
        rankings=[*found.scores, RANDOM],
        ways=(found.replaced, DRAWN),
        k=k,
        changed=np.stack(each, -1),
        groups=groups,
    )


def _changed(
    found: Judged,
    number: int,
    ends: Bool[Tensor, "rankings 2 units"],
    subsets: Bool[Tensor, "subsets units"],
) -> Float[np.ndarray, "rankings ends ways"]:
    """The flips of one state; random features are the last ranking."""
    example, start = found.task.examples[number], found.task.starts[number][0]
    rankings = len(ends)
    wanted = torch.cat([ends.flatten(0, 1), subsets])
    sets, place = torch.unique(wanted, dim=0, return_inverse=True)
    points = replaced(example, sets, [start, *found.donors])
    moved = greedy(found.domain, example, points) != found.actions[number]
    moved = moved.reshape(len(sets), 1 + len(found.donors)).astype(float)
    both = np.stack([moved[:, 0], moved[:, 1:].mean(1)], 1)[place.numpy()]
    ranked = both[: 2 * rankings].reshape(rankings, 2, 2)
    failed = [not np.isfinite(scores[number]).all() for scores in found.scores.values()]
    ranked[failed] = math.nan
    random = np.broadcast_to(both[2 * rankings :].mean(0), (1, 2, 2))
    return np.concatenate([ranked, random])


def _ends(
    scores: Float[np.ndarray, " units"], k: int, seed: int
) -> tuple[Bool[Tensor, " units"], Bool[Tensor, " units"]]:
    """The k units of highest score, and those of lowest; ties are broken by a seeded shuffle."""
    order = ordered(scores, seed)
    top, bottom = torch.zeros(2, len(scores), dtype=torch.bool)
    top[order[:k]] = True
    bottom[order[-k:]] = True
    return top, bottom


def ordered(scores: Float[np.ndarray, " units"], seed: int) -> Tensor:
    """The units by falling score; ties are broken by a seeded shuffle."""
    shuffled = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
    return shuffled[torch.from_numpy(scores)[shuffled].argsort(descending=True, stable=True)]


def _subsets(count: int, k: int, seed: int) -> Bool[Tensor, "subsets units"]:
    """All sets of k units where they are few, or some that are drawn."""
    if math.comb(count, k) <= MOST_SETS:
        chosen = list(itertools.combinations(range(count), k))
    else:
        rng = np.random.default_rng(seed)
        chosen = [tuple(rng.choice(count, k, replace=False)) for _ in range(SETS)]
    sets = torch.zeros(len(chosen), count, dtype=torch.bool)
    sets[torch.arange(len(chosen))[:, None], torch.tensor(np.array(chosen))] = True
    return sets
