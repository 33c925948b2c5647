"""A Survey finds the kinks of paths, operation after operation."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.quadrature import Found, Goal, Kinked, Outcome, Process, Search, Space

CLOSEST = 16.0
"""Kinks that are closer together than this many roundings of t are taken to be one."""

SWEEPS = 16
"""How often an operation that chooses is searched; each time shows kinks behind the last ones."""


class Survey(Process):
    """Points of paths between which no operation that was searched has a kink.

    Where all operations before have been searched, what the next one is given is linear between
    neighbouring points. Paths of more than ``most`` pieces, and those that the engine could not
    search, are given up.
    """

    def __init__(self, goal: Goal, space: Space, most: int) -> None:
        self.goal, self.space, self.most = goal, space, most
        self.leg = torch.arange(len(goal.owner)).repeat_interleave(2)
        self.t = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(len(goal.owner))
        self.value = torch.full_like(self.t, torch.nan)
        self.given_up = torch.zeros(len(goal.delta), dtype=torch.bool)
        self.operation = self.sweep = 0
        self.found: list[Kinked] = []

    @property
    def finished(self) -> bool:
        """A last search, for operations that there are not, finds F at the points."""
        last = self.goal.structure.operations + (not self.goal.structure.linear)
        return self.operation >= last or not len(self.t)

    @property
    def points(self) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Leg, t and (NaN where it was not asked for) F of all points, in order of leg and t."""
        return self.leg, self.t, self.value

    def request(self) -> Search | None:
        if self.finished:
            return None
        self.value = torch.full_like(self.t, torch.nan)
        return Search(self.leg, self.t, self.operation)

    def meet(self, kinks: Kinked) -> None:
        self.value[kinks.points] = kinks.value
        self.found.append(kinks)

    def receive(self, found: Found) -> None:
        raise NotImplementedError("a survey asks for no gradients")

    def settle(self) -> Outcome:
        path = self.goal.owner[self.leg]
        unanswered = torch.zeros_like(self.given_up).index_fill(0, path[self.value.isnan()], True)
        self._add()
        path = self.goal.owner[self.leg]
        pieces = torch.bincount(path, minlength=len(unanswered)) - self._legs()
        self.given_up |= unanswered | (pieces > self.most)
        self._keep(~self.given_up)
        none = torch.zeros(0, dtype=torch.long)
        return Outcome(none, self.space.zeros(0), none.double(), None, [])

    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        failed = torch.zeros_like(self.given_up).index_fill(0, paths, True)
        self._keep(~failed)

    def _legs(self) -> Int[Tensor, " paths"]:
        return torch.bincount(self.goal.owner, minlength=len(self.given_up))

    def _add(self) -> None:
        """The kinks that were found, as new points in their order."""
        gap = CLOSEST * self.goal.epsilon
        after = torch.cat([kinks.after for kinks in self.found] or [self.leg[:0]])
        t = torch.cat([kinks.t for kinks in self.found] or [self.t[:0]])
        inside = (t > self.t[after] + gap) & (t < self.t[after + 1] - gap)
        again = bool(inside.any()) and any(kinks.choices for kinks in self.found)
        self.found = []
        self.sweep = self.sweep + 1 if again and self.sweep < SWEEPS else 0
        self.operation += self.sweep == 0
        if not bool(inside.any()):
            return
        leg = torch.cat([self.leg, self.leg[after[inside]]])
        t = torch.cat([self.t, t[inside]])
        order = torch.argsort(t, stable=True)
        order = order[torch.argsort(leg[order], stable=True)]
        self.leg, self.t = leg[order], t[order]
        self.value = torch.full_like(self.t, torch.nan)
        self._keep_points(
            torch.cat([self.t.new_ones(1) > 0, (self.leg.diff() > 0) | (self.t.diff() > gap)])
        )

    def _keep(self, paths: Bool[Tensor, " paths"]) -> None:
        self._keep_points(paths[self.goal.owner[self.leg]])

    def _keep_points(self, kept: Bool[Tensor, " points"]) -> None:
        self.leg, self.t, self.value = self.leg[kept], self.t[kept], self.value[kept]
