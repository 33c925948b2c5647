"""The adaptive rule: leaves of [0, 1] are split where the error is, and every point is reused.

The rule is closed, so F is known exactly at the ends of every leaf, and the integral of dF/dt over
a leaf can be checked against F(b) - F(a). Paths on which the model is piecewise linear (ReLU, max
pooling) are told from smooth ones by their gradients, and integrated by finding their kinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.errors import InputError, UnknownNameError
from ig_core.exact import Exact, ExactProcess
from ig_core.leaves import WORKSPACE, Bank, Leaves, Nodes, join, pick
from ig_core.quadrature import (
    FIXED_RULES,
    NOISE_ULPS,
    Found,
    Goal,
    Outcome,
    Process,
    Request,
    Rule,
    Space,
    Status,
)
from ig_core.shapes import FIRST, MINUS, PROBED, PiecewiseLinear, Shape, Smooth, same_within

NARROWEST = 1e-9
"""A leaf of this width is not split any more."""

HALF = 0.5
"""Leaves are split until the others hold less than this part of the allowed error."""

SETTLED = 0.1
"""A leaf whose error is below this part of its share is added up, and its nodes are forgotten."""


@dataclass(frozen=True)
class Adaptive(Rule):
    """Leaves that are split until the error estimate and the residual of the path both pass."""

    name: ClassVar[str] = "adaptive"
    looks: ClassVar[bool] = True
    pieces: int = 128
    """Up to so many pieces of a path between its kinks are each integrated, if they are found."""

    def begin(self, goal: Goal, space: Space) -> Process:
        if goal.structure.linear or goal.structure.traced:
            return ExactProcess(goal, space, min(goal.budget, self.pieces), _AdaptiveProcess)
        return _AdaptiveProcess(goal, space)


@dataclass
class _Part:
    """The paths of one shape: their leaves, and those that are yet to be measured."""

    shape: Shape
    fresh: Leaves
    leaves: Leaves
    kin: int


class _AdaptiveProcess(Process):
    def __init__(self, goal: Goal, space: Space) -> None:
        # F in the middle of a path can be far larger than at its ends, and so can its rounding.
        self.goal = goal = replace(goal, noise=goal.noise.clone())
        self.space = space
        self.bank = Bank(space)
        self.parts: list[_Part] = []
        paths, legs = len(goal.delta), len(goal.owner)
        self.open = torch.ones(paths, dtype=torch.bool)
        self.spent = torch.zeros(paths, dtype=torch.long)
        self.legs = torch.bincount(goal.owner, minlength=paths)
        self.settled, self.settled_doubt = space.zeros(paths), space.zeros(paths)
        self.settled_error = torch.zeros(paths, dtype=torch.float64)
        self.settled_raw = torch.zeros(paths, dtype=torch.float64)
        self.wanted = Request(torch.arange(legs).repeat_interleave(len(FIRST)), FIRST.repeat(legs))

    def request(self) -> Request | None:
        if not bool(self.open.any()):
            return None
        self.bank.expect(Nodes.at(self.wanted.leg, self.wanted.t))
        paths = self.goal.owner[self.wanted.leg]
        self.spent.index_add_(0, paths, torch.ones_like(paths))
        return self.wanted

    def receive(self, found: Found) -> None:
        self.bank.receive(found)
        path = self.goal.owner[self.wanted.leg[found.rows]]
        rounding = NOISE_ULPS * self.goal.epsilon * found.value.abs()
        self.goal.noise.scatter_reduce_(0, path, rounding, "amax")

    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        self.open[paths] = False

    def settle(self) -> Outcome:
        self.bank.grow()
        if not self.parts:
            self.parts = self._begin()
        for part in self.parts:
            measured = part.shape.measure(part.fresh, self.bank, self.goal)
            part.leaves = join(part.leaves, measured)
        self._forget()
        best = [part.leaves.settled() for part in self.parts]
        total = self._total(best)
        norm = total.abs().sum(1).cpu()
        sum_passes = self.goal.residual_passes(total.sum(1).cpu(), norm)
        error = self.settled_error + sum(self._per_path(b.path, b.error) for b in best)
        raw = self.settled_raw + sum(self._per_path(b.path, b.raw) for b in best)
        allowed = self.goal.tol * torch.where(norm > 0, norm, torch.ones_like(norm))
        near, floor = (raw <= allowed) & sum_passes, (error <= allowed) & sum_passes

        unfinished = self.open & ~floor
        chosen = [
            self._choose(part, b, error, allowed, unfinished)
            for part, b in zip(self.parts, best, strict=True)
        ]
        split = torch.zeros_like(self.open)
        for b, index in zip(best, chosen, strict=True):
            split[b.path[index]] = True
        done = (self.open & ~split).nonzero().view(-1)
        residual = (total.sum(1).cpu() - self.goal.delta).abs()
        outcome = Outcome(
            done,
            total[done.to(total.device)],
            torch.maximum(torch.maximum(error, raw), residual)[done],
            self._doubt(best, done),
            [_status(bool(near[p]), bool(floor[p])) for p in done.tolist()],
        )
        self.open[done] = False
        self._split(best, chosen, allowed)
        return outcome

    def _begin(self) -> list[_Part]:
        """Each path takes the shape that its own gradients at close points ask for."""
        bank, goal = self.bank, self.goal
        legs = torch.arange(len(goal.owner))
        grid = torch.arange(len(bank.nodes.t)).view(len(legs), len(FIRST))
        pairs = grid[:, PROBED].reshape(-1, 2)
        size = bank.nodes.norm[pairs].amax(1)
        equal = (size > 0) & (
            bank.norms(pairs, MINUS.expand(len(pairs), 2)) <= same_within(goal, size)
        )
        linear = torch.zeros_like(self.open).index_put(
            (goal.owner.repeat_interleave(len(PROBED)),), equal, accumulate=True
        )
        parts = []
        for shape, members in ((Smooth(), ~linear), (PiecewiseLinear(), linear)):
            own = legs[members[goal.owner]]
            columns = grid[own][:, shape.first]
            leg = own.repeat_interleave(columns.shape[1])
            nodes = columns.flatten(0, 1)
            start, end = bank.nodes.t[nodes[:, 0]], bank.nodes.t[nodes[:, -1]]
            kin = torch.arange(len(leg)) // shape.kin
            fresh = Leaves.over(goal.owner[leg], leg, start, end - start, nodes, kin)
            parts.append(_Part(shape, fresh, pick(fresh, leg[:0]), len(leg)))
        return parts

    def _forget(self) -> None:
        """Drop the leaves of paths that are done, and the nodes that no leaf has."""
        used = torch.zeros(len(self.bank.nodes.t), dtype=torch.bool)
        for part in self.parts:
            part.leaves = pick(part.leaves, self.open[part.leaves.path])
            used[part.leaves.nodes] = True
        number = self.bank.keep(used)
        for part in self.parts:
            part.leaves = replace(part.leaves, nodes=number[part.leaves.nodes])

    def _total(self, best: Sequence[Leaves]) -> Float[Tensor, "paths width"]:
        """The integral of every path."""
        vectors = self.bank.vectors
        assert vectors is not None
        share = torch.zeros(len(vectors), dtype=torch.float64)
        for leaves in best:
            share.index_add_(0, leaves.nodes.reshape(-1), leaves.weights.reshape(-1))
        share = share.to(vectors.device)
        path = self.goal.owner[self.bank.nodes.leg].to(vectors.device)
        total = self.settled.clone()
        size = max(1, WORKSPACE // max(1, vectors.shape[1]))
        for begin in range(0, len(vectors), size):
            some = slice(begin, begin + size)
            total.index_add_(0, path[some], vectors[some].double() * share[some, None])
        return total

    def _per_path(self, path: Tensor, values: Tensor) -> Float[Tensor, " paths"]:
        return torch.zeros(len(self.goal.delta), dtype=torch.float64).index_add_(0, path, values)

    def _doubt(self, best: Sequence[Leaves], done: Tensor) -> Float[Tensor, "done width"]:
        """Where the estimated error sits, element by element."""
        row = torch.full((len(self.goal.delta),), -1)
        row[done] = torch.arange(len(done))
        doubt = self.settled_doubt[done.to(self.settled_doubt.device)]
        for leaves in best:
            index = (row[leaves.path] >= 0).nonzero().view(-1)
            own = row[leaves.path[index]].to(doubt.device)
            for some, mixed in self.bank.mixed(leaves.nodes[index], leaves.doubt[index]):
                doubt.index_add_(0, own[some], mixed.abs())
        return doubt

    def _choose(
        self,
        part: _Part,
        leaves: Leaves,
        error: Float[Tensor, " paths"],
        allowed: Float[Tensor, " paths"],
        unfinished: Bool[Tensor, " paths"],
    ) -> Int[Tensor, " chosen"]:
        """The smallest set of worst leaves that leaves little error to the others."""
        index = (unfinished[leaves.path] & (leaves.width > NARROWEST)).nonzero().view(-1)
        index = index[torch.argsort(leaves.error[index], descending=True, stable=True)]
        index = index[torch.argsort(leaves.path[index], stable=True)]
        path, own = leaves.path[index], leaves.error[index]
        begin = torch.searchsorted(path, path)
        before = own.cumsum(0) - own
        before = before - before[begin]
        rank = torch.arange(len(index)) - begin
        # Where only the sum misses, no leaf stands out: the worst quarter is split.
        quarter = torch.bincount(path, minlength=len(error))[path] / 4
        worst = torch.where(
            (error > allowed)[path],
            error[path] - before > HALF * allowed[path],
            rank < quarter,
        )
        room = (self.goal.budget - self.spent) // part.shape.cost
        return index[(worst | (rank == 0)) & (rank < room[path])]

    def _split(self, best: Sequence[Leaves], chosen: Sequence[Tensor], allowed: Tensor) -> None:
        legs, points = [], []
        first = len(self.bank.nodes.t)
        for part, leaves, index in zip(self.parts, best, chosen, strict=True):
            gone = self._settle_leaves(leaves, index, allowed)
            gone[index] = True
            parents = pick(part.leaves, index)
            t = part.shape.points(parents)
            new = first + torch.arange(t.numel()).view(t.shape)
            first += t.numel()
            legs.append(parents.leg.repeat_interleave(t.shape[1]))
            points.append(t.reshape(-1))
            part.fresh = part.shape.halves(parents, new, part.kin)
            part.kin += 2 * len(index)
            part.leaves = pick(part.leaves, ~gone)
        self.wanted = Request(torch.cat(legs), torch.cat(points))

    def _settle_leaves(
        self, leaves: Leaves, chosen: Tensor, allowed: Tensor
    ) -> Bool[Tensor, " leaves"]:
        """Add up the leaves that can never matter again; says which.

        Their errors together stay below a tenth of what their path is allowed.
        """
        small = leaves.error <= SETTLED * (allowed / self.legs)[leaves.path] * leaves.width
        small &= self.open[leaves.path]
        small[chosen] = False
        _, group, count = torch.unique(leaves.kin, return_inverse=True, return_counts=True)
        ready = torch.zeros_like(count).index_add_(0, group, small.long())
        small &= (ready == count)[group]  # two halves share their best rule
        index = small.nonzero().view(-1)
        path = leaves.path[index]
        self.settled_error.index_add_(0, path, leaves.error[index])
        self.settled_raw.index_add_(0, path, leaves.raw[index])
        rows = path.to(self.settled.device)
        for some, mixed in self.bank.mixed(leaves.nodes[index], leaves.weights[index]):
            self.settled.index_add_(0, rows[some], mixed)
        for some, mixed in self.bank.mixed(leaves.nodes[index], leaves.doubt[index]):
            self.settled_doubt.index_add_(0, rows[some], mixed.abs())
        return small


def _status(near: bool, floor: bool) -> Status:
    return "converged" if near else "noise_floor" if floor else "budget"


def rule_named(name: str, steps: int | None) -> Rule:
    """The rule of that name.

    Raises:
        UnknownNameError: there is none.
        InputError: a fixed rule without ``steps``, or the adaptive rule with them.
    """
    if name == Adaptive.name:
        if steps is not None:
            raise InputError(
                f"rule='adaptive' chooses its own steps (got steps={steps}); set tol and budget, "
                "or ask for rule='gauss-legendre'"
            )
        return Adaptive()
    if name == Exact.name:
        if steps is not None:
            raise InputError(f"rule='exact' takes a step per piece (got steps={steps})")
        return Exact(_AdaptiveProcess)
    if name not in FIXED_RULES:
        raise UnknownNameError("rule", name, [*FIXED_RULES, Adaptive.name, Exact.name])
    if steps is None:
        raise InputError(f"rule={name!r} needs steps, e.g. steps=50")
    return FIXED_RULES[name](steps)
