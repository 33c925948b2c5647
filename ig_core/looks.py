"""A second look at linear pieces of which F is not what their gradients promise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.leaves import Bank, Nodes, pick, worst_first
from ig_core.quadrature import Found, Goal, Request, Space
from ig_core.shapes import MINUS, same_within

PAIRS = 4
"""Pairs of points around the middles of the widest pieces, where the rounding of F is measured."""

CLOSE = 1 / 32
"""How far the first two are from their middle, in widths; closer ones may be rounded all alike."""

UNSTEADY = 5.0
"""F is known to this many times the largest difference that was measured."""

FAR = 8
"""Points all over the pieces of a path, where gradients are compared: two of each, or more."""

EDGE = 1 / 32
"""The outer ones are this part of a piece from its ends, since the places of kinks are rounded."""


@dataclass(frozen=True, eq=False)
class Middles:
    """Pieces, and what was found in the middle of each; ``size`` is the gradient's L1 norm."""

    leg: Int[Tensor, " pieces"]
    path: Int[Tensor, " pieces"]
    t: Float[Tensor, " pieces"]
    width: Float[Tensor, " pieces"]
    value: Float[Tensor, " pieces"]
    slope: Float[Tensor, " pieces"]
    size: Float[Tensor, " pieces"]


class Looks:
    """More points of the pieces of some paths: is it rounding that F misses by, or are there kinks?

    F may be a small difference of large numbers, and rounded as those are. Of three points close
    to each other (``far`` is false) the middle one misses the line of the others by that alone,
    whatever the gradient leaves out. All over the pieces gradients have to be the same: F says
    nothing of kinks that its rounding hides.
    """

    def __init__(
        self, goal: Goal, space: Space, middles: Middles, paths: Bool[Tensor, " paths"], far: bool
    ) -> None:
        self.goal, self.bank, self.far = goal, Bank(space), far
        own = pick(middles, paths[middles.path])
        count = torch.bincount(own.path, minlength=len(paths))
        if far:
            each = _far(count)[own.path]
            self.number = torch.arange(len(each)).repeat_interleave(each)
            place = torch.arange(len(self.number)) - (each.cumsum(0) - each)[self.number]
            away = (0.5 - EDGE) * (2 * place / (each - 1)[self.number] - 1)
        else:
            some, pair = paths.nonzero(), torch.arange(PAIRS)
            widest = torch.searchsorted(own.path, some) + pair % count[some]
            self.number = worst_first(own.path, own.width)[widest].view(-1).repeat_interleave(2)
            distance = CLOSE * (1 + 0.75 * pair)
            away = torch.stack([-distance, distance], 1).view(-1).repeat(len(some))
        self.piece = pick(own, self.number)
        self.away = away * self.piece.width
        self.asked = Request(self.piece.leg, self.piece.t + self.away)
        self.bank.expect(Nodes.at(self.asked.leg, self.asked.t))

    def receive(self, found: Found) -> None:
        """Take in some rows of what was asked."""
        self.bank.receive(found)

    def noise(self) -> Float[Tensor, " paths"]:
        """To what F is known on the paths that were looked at; zero on others."""
        value, slope = self.bank.nodes.value.view(-1, 2), self.bank.nodes.slope.view(-1, 2)
        missed = (value.sum(1) - 2 * self.piece.value[::2]).abs()
        bend = (self.away[::2] * slope.diff(dim=1)[:, 0]).abs()
        most = torch.zeros_like(self.goal.delta)
        path = self.piece.path[::2]
        return UNSTEADY * most.scatter_reduce(0, path, (missed - bend).clamp(min=0), "amax")

    def bent(self) -> Bool[Tensor, " paths"]:
        """Paths with a piece on which gradients differ."""
        after = (self.number[1:] == self.number[:-1]).nonzero() + 1
        pairs = torch.cat([after - 1, after], 1)
        apart = self.bank.norms(pairs, MINUS.expand(len(pairs), 2))
        size = self.bank.nodes.norm[pairs].amax(1)
        kinked = pairs[apart > same_within(self.goal, size), 0]
        bent = torch.zeros(len(self.goal.delta), dtype=torch.bool)
        return bent.index_fill(0, self.piece.path[kinked], True)


def looked_at(pieces: Int[Tensor, " paths"]) -> Int[Tensor, " paths"]:
    """How many points so many pieces of a path take that are looked at again."""
    return pieces + 2 * PAIRS + pieces * _far(pieces)


def _far(pieces: Int[Tensor, " paths"]) -> Int[Tensor, " paths"]:
    return (FAR / pieces).ceil().clamp(min=2, max=FAR).long()
