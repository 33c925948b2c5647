"""Deletion: how fast a gap falls when features are removed in the order of a ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ig_core import Game, InputError, Table
from ig_rl.checks.flips import ordered
from ig_rl.checks.interval import ALONE, Estimate, check_groups, estimate
from ig_rl.checks.judged import Judged, judged, pictured
from ig_rl.checks.watch import QUIET, Watch

ORDERS = 32
"""Random orders whose mean curve a ranking is compared with."""

MOST_STEPS = 32
"""Steps of a curve at most; more features are removed in groups."""

FEW_ORDERS, FEW_STEPS = 8, 16
"""The same of images, whose every point is a pass through convolutions."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Deletion:
    """The gap of every state while its features are removed, those of highest score first.

    ``curves[r, i]`` are the values of the gap of state i in the order of ranking r, from none to
    all of its features removed; ``random[i]`` is the mean curve of random orders. ``areas[r, i]``
    is the area between the two, divided by the range of all curves of that state: positive where
    the ranking is better than chance. NaN where the curves are flat.
    """

    rankings: Sequence[str]
    parts: Float[np.ndarray, " steps"]
    curves: Float[np.ndarray, "rankings states steps"]
    random: Float[np.ndarray, "states steps"]
    areas: Float[np.ndarray, "rankings states"]
    groups: Sequence[int] | None = None
    orders: int = ORDERS

    def area(self, ranking: str) -> Estimate:
        """The mean area of a ranking, with its interval.

        Raises:
            InputError: there is no such ranking.
        """
        return estimate(self.areas[self._place(ranking)], groups=self.groups)

    def difference(self, one: str, other: str) -> Estimate:
        """How much larger the area of one ranking is, with its paired interval.

        Raises:
            InputError: there is no such ranking.
        """
        gap = self.areas[self._place(one)] - self.areas[self._place(other)]
        return estimate(gap, groups=self.groups)

    @property
    def verdict(self) -> str:
        """Whether the gap falls faster in the order of its scores than in random order."""
        area = self.area(self.rankings[0])
        told = f"area {area.mean:.2g}"
        if not math.isfinite(area.mean):
            return "The gap never changes when features are removed: nothing to compare."
        if not area.known:
            return f"Removing the gap's first features first: {told}; {ALONE}."
        told += f", 95 % interval {area.low:.2g} to {area.high:.2g}"
        if area.low > 0:
            return (
                "The gap falls faster when its first features are removed first than in random "
                f"order ({told})."
            )
        if area.high < 0:
            return (
                "The gap falls more slowly when its first features are removed first than in "
                f"random order ({told})."
            )
        return (
            "Removing the gap's first features first cannot be told apart from a random order "
            f"({told})."
        )

    def table(self) -> Table:
        """The areas, one ranking a row."""
        rows: list[list[str | float]] = []
        for name in self.rankings:
            area = self.area(name)
            rows.append([name, area.mean, area.low, area.high])
        notes = [
            f"area under the gap's curve in {self.orders} random orders less that in the "
            f"ranking's, divided by the range of the curves; mean of {self.areas.shape[1]} states",
            "0 is chance, higher is better; 95 % intervals by the bootstrap",
        ]
        return Table(["ranking", "deletion area", "95 % low", "95 % high"], rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """The areas, as JSON values."""
        areas = {name: self.area(name).to_dict() for name in self.rankings}
        return {"states": self.areas.shape[1], "areas": areas}

    def _place(self, ranking: str) -> int:
        if ranking not in self.rankings:
            raise InputError(f"no ranking {ranking!r} among {', '.join(self.rankings)}")
        return self.rankings.index(ranking)


def deletion(
    model: Any, states: Any, *, groups: Sequence[int] | None = None, **options: Any
) -> Deletion:
    """The area between the deletion curves of the gap and those of random orders.

    Features are set to the values of the baseline in the order of falling score (MoRF, Samek et
    al. 2017, arXiv:1509.06321); both actions of the gap stay those of the state.

    >>> found = deletion(model, states)
    >>> bool((found.areas[0] > 0).all())  # of the gap's own attribution
    True

    Args:
        states: the states to judge.
        groups: the episode of every state; intervals then draw whole episodes.
        **options: of :func:`judged`.

    Raises:
        InputError: the agent's actions are not discrete.
    """
    return deletion_of(judged(model, states, **options), groups=groups)


def deletion_of(
    found: Judged, *, groups: Sequence[int] | None = None, watch: Watch = QUIET
) -> Deletion:
    """The deletion of attributions that are there already."""
    check_groups(groups, len(found.gap))
    count = len(found.names)
    image = pictured(found.gap[0])
    most, many = (FEW_STEPS, FEW_ORDERS) if image else (MOST_STEPS, ORDERS)
    parts = np.linspace(0, count, min(count, most) + 1).round().astype(int)
    rng = np.random.default_rng(found.task.seed)
    chance = [torch.from_numpy(rng.permutation(count)) for _ in range(many)]
    curves, random = [], []
    with found.domain.prepared():
        for i in watch.each(range(len(found.gap)), "deletion"):
            orders = [ordered(scores[i], found.task.seed) for scores in found.scores.values()]
            values = _curves(Game(found.task, i), [*orders, *chance], parts)
            curves.append(values[: len(orders)])
            random.append(values[len(orders) :].mean(0))
    ranked, floor = np.stack(curves, 1), np.stack(random)
    ranked[_failed(found.scores)] = np.nan
    return Deletion(
        rankings=list(found.scores),
        parts=parts / max(count, 1),
        curves=ranked,
        random=floor,
        areas=_areas(ranked, floor),
        groups=groups,
        orders=many,
    )


def _curves(
    game: Game, orders: Sequence[Tensor], parts: np.ndarray
) -> Float[np.ndarray, "orders steps"]:
    """The values of one state, order by order; sets that several orders share count once."""
    wanted = torch.cat([_prefixes(order, parts) for order in orders])
    sets, place = torch.unique(wanted, dim=0, return_inverse=True)
    return game.value(sets)[place.numpy()].reshape(len(orders), len(parts))


def _prefixes(order: Tensor, parts: np.ndarray) -> Bool[Tensor, "steps units"]:
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    return rank[None, :] < torch.from_numpy(parts)[:, None]


def _areas(
    curves: Float[np.ndarray, "rankings states steps"], random: Float[np.ndarray, "states steps"]
) -> Float[np.ndarray, "rankings states"]:
    both = np.concatenate([curves, random[None]])
    reach = both.max((0, 2)) - both.min((0, 2))
    between = random - curves
    area = (between[..., 1:] + between[..., :-1]).mean(-1) / 2
    return area / np.where(reach > 0, reach, np.nan)


def _failed(
    scores: Mapping[str, Float[np.ndarray, "states units"]],
) -> Bool[np.ndarray, "rankings states"]:
    return np.stack([~np.isfinite(own).all(1) for own in scores.values()])
