"""The adaptive rule: leaves of [0, 1] are refined where the error is, and every point is reused.

The rule is closed, so F is known exactly at the ends of every leaf, and the integral of dF/dt over
a leaf can be checked against F(b) - F(a). Models without kinks are integrated on panels of growing
order. Where a model has kinks, the paths on which it is piecewise linear (ReLU, max pooling) are
told from the others by their gradients, and integrated by finding their kinks.
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
from ig_core.leaves import (
    Bank,
    Leaves,
    Nodes,
    cut,
    join,
    over,
    pick,
    troubles,
    without,
    worst_first,
)
from ig_core.panels import PANELS, nested
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
from ig_core.shapes import MINUS, Bent, PiecewiseLinear, Shape, same_within
from ig_core.tails import Tail

NARROWEST = 1e-9
"""A leaf of this width is not split any more."""

HALF = 0.5
"""Leaves are refined until the others hold less than this part of the allowed error."""

SETTLED = 0.1
"""A leaf whose error is below this part of its share is added up, and its nodes are forgotten."""

FIRST = torch.tensor(
    [0, 1 / 8, 2 / 8, 3 / 8, 3 / 8 + 5e-4, 4 / 8, 5 / 8, 5 / 8 + 5e-4, 6 / 8, 7 / 8, 1],
    dtype=torch.float64,
)
"""Nodes of a leg that may have kinks: eight intervals and two close pairs."""

PROBED = [[3, 4], [6, 7]]
"""The close pairs: equal gradients at one of them mean that the model is piecewise linear."""

SMOOTH_FIRST = (nested(5) + 1) / 2
"""Nodes of a leg without kinks."""

BENT, LINEAR, TAIL = Bent(), PiecewiseLinear(), Tail()


@dataclass(frozen=True)
class Adaptive(Rule):
    """Leaves that are refined until the error estimate and the residual of the path both pass."""

    name: ClassVar[str] = "adaptive"
    looks: ClassVar[bool] = True
    pieces: int = 128
    """Up to so many pieces of a path between its kinks are each integrated, if they are found."""

    def begin(self, goal: Goal, space: Space) -> Process:
        if goal.structure.linear or goal.structure.traced:
            return ExactProcess(goal, space, min(goal.budget, self.pieces), _AdaptiveProcess)
        return _AdaptiveProcess(goal, space)


@dataclass(frozen=True, eq=False)
class _Verdict:
    """How every path stands."""

    residual: Float[Tensor, " paths"]
    error: Float[Tensor, " paths"]
    raw: Float[Tensor, " paths"]
    allowed: Float[Tensor, " paths"]
    sum_passes: Bool[Tensor, " paths"]
    best: dict[Shape, Leaves]

    @property
    def near(self) -> Bool[Tensor, " paths"]:
        return (self.raw <= self.allowed) & self.sum_passes

    @property
    def floor(self) -> Bool[Tensor, " paths"]:
        return (self.error <= self.allowed) & self.sum_passes


@dataclass(frozen=True, eq=False)
class _Choice:
    """Leaves of one shape that are to be cut, for nothing, and to be refined, with new nodes."""

    shape: Shape
    cut: Int[Tensor, " some"]
    refine: Int[Tensor, " others"]


class _AdaptiveProcess(Process):
    open_ends = True

    def __init__(self, goal: Goal, space: Space) -> None:
        # F in the middle of a path can be far larger than at its ends, and so can its rounding.
        self.goal = goal = replace(goal, noise=goal.noise.clone())
        self.bank = Bank(space)
        self.leaves: dict[Shape, Leaves] = {}
        self.fresh: dict[Shape, Leaves] = {}
        self.kin = 0
        paths, legs = len(goal.delta), len(goal.owner)
        self.open = torch.ones(paths, dtype=torch.bool)
        self.spent = torch.zeros(paths, dtype=torch.long)
        self.legs = torch.bincount(goal.owner, minlength=paths)
        self.endless = torch.zeros(legs, 2, dtype=torch.bool)
        self.total, self.settled_doubt = space.zeros(paths), space.zeros(paths)
        self.settled_error = torch.zeros(paths, dtype=torch.float64)
        self.settled_raw = torch.zeros(paths, dtype=torch.float64)
        first = SMOOTH_FIRST if goal.structure.smooth else FIRST
        self.wanted = Request(torch.arange(legs).repeat_interleave(len(first)), first.repeat(legs))

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
        if found.endless is not None:
            rows = found.rows[found.endless]
            self.endless[self.wanted.leg[rows], self.wanted.t[rows].long()] = True

    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        self.open[paths] = False

    def settle(self) -> Outcome:
        self.bank.grow()
        if not self.fresh:
            self._begin()
        self._forget()
        while True:
            verdict = self._judge()
            chosen = self._choose(verdict)
            if not any(len(choice.cut) for choice in chosen):
                break
            for choice in chosen:
                self._cut(choice)
        refined = torch.zeros_like(self.open)
        for choice in chosen:
            refined[self.leaves[choice.shape].path[choice.refine]] = True
        done = (self.open & ~refined).nonzero().view(-1)
        error = torch.maximum(torch.maximum(verdict.error, verdict.raw), verdict.residual)
        near, floor = verdict.near[done].tolist(), verdict.floor[done].tolist()
        unmet = ~verdict.floor[done]
        outcome = Outcome(
            done,
            self.total[done.to(self.total.device)],
            error[done],
            self._doubt(verdict, done),
            [_status(*passed) for passed in zip(near, floor, strict=True)],
            ((verdict.error <= verdict.allowed) & ~verdict.sum_passes)[done].tolist(),
            troubles(verdict.best.values(), done, unmet, self.bank, self.goal),
        )
        self.open[done] = False
        self._refine(verdict, chosen)
        return outcome

    # -- leaves ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Each path takes the shape that its own gradients at close points ask for."""
        bank, goal = self.bank, self.goal
        legs = torch.arange(len(goal.owner))
        grid = torch.arange(len(bank.nodes.t)).view(len(legs), -1)
        linear = torch.zeros_like(self.open)
        if not goal.structure.smooth:
            pairs = grid[:, PROBED].reshape(-1, 2)
            size = bank.nodes.norm[pairs].amax(1)
            equal = (size > 0) & (
                bank.norms(pairs, MINUS.expand(len(pairs), 2)) <= same_within(goal, size)
            )
            owner = goal.owner.repeat_interleave(len(PROBED))
            linear.index_put_((owner,), equal, accumulate=True)
        endless = self.endless.any(1)
        linear = linear[goal.owner] & ~endless
        self._add_first(LINEAR, grid[linear], *([i, i + 1] for i in range(len(FIRST) - 1)))
        if goal.structure.smooth:
            self._add_first(PANELS[5, True], grid[~endless], [0, 1, 2, 3, 4])
            closed, halves, tails = PANELS[3, False], ([0, 1, 2], [2, 3, 4]), ([0, 1, 2], [4, 3, 2])
        else:
            halves, tails = ([0, 1, 2, 3, 5], [5, 6, 8, 9, 10]), ([0, 1, 5], [10, 9, 5])
            self._add_first(BENT, grid[~linear & ~endless], *halves)
            closed = PANELS[5, False]
        for side in (0, 1):
            here = self.endless[:, side]
            self._add_first(closed, grid[endless & ~here], halves[side])
            self._add_first(TAIL, grid[here], tails[side])

    def _add_first(
        self, shape: Shape, grid: Int[Tensor, "legs first"], *columns: list[int]
    ) -> None:
        nodes = grid[:, torch.tensor(columns)].flatten(0, 1)
        kin = torch.arange(len(nodes)) // (2 if shape is BENT else 1)
        leg = self.bank.nodes.leg[nodes[:, 0]]
        self._add(shape, over(self.goal.owner[leg], leg, nodes, self.bank.nodes.t, kin))

    def _add(self, shape: Shape, leaves: Leaves) -> None:
        """Leaves that are to be measured."""
        if len(leaves.path):
            leaves = replace(leaves, kin=leaves.kin + self.kin)
            self.kin = int(leaves.kin.max()) + 1
            before = self.fresh.get(shape)
            self.fresh[shape] = leaves if before is None else join(before, leaves)

    def _forget(self) -> None:
        """Drop the leaves of paths that are done, and the nodes that no leaf has."""
        used = torch.zeros(len(self.bank.nodes.t), dtype=torch.bool)
        for table in (self.leaves, self.fresh):
            for shape in list(table):
                leaves = table[shape] = pick(table[shape], self.open[table[shape].path])
                used[leaves.nodes] = True
                if not len(leaves.path):
                    del table[shape]
        number = self.bank.keep(used)
        for table in (self.leaves, self.fresh):
            for shape, leaves in table.items():
                table[shape] = replace(leaves, nodes=number[leaves.nodes])

    def _judge(self) -> _Verdict:
        """Measure what is fresh, and add up what has changed."""
        for shape, leaves in self.fresh.items():
            measured = shape.measure(leaves, self.bank, self.goal)
            known = self.leaves.get(shape)
            self.leaves[shape] = measured if known is None else join(known, measured)
        self.fresh = {}
        best = {shape: leaves.settled() for shape, leaves in self.leaves.items()}
        error, raw = self.settled_error.clone(), self.settled_raw.clone()
        counted = torch.zeros_like(self.bank.counted)
        for shape, leaves in best.items():
            error += shape.together(leaves.path, leaves.error, len(error))
            raw += shape.together(leaves.path, leaves.raw, len(raw))
            counted.index_add_(0, leaves.nodes.reshape(-1), leaves.weights.reshape(-1))
        change, self.bank.counted = counted - self.bank.counted, counted
        changed = change.nonzero()
        path = self.goal.owner[self.bank.nodes.leg[changed[:, 0]]].to(self.total.device)
        for some, vectors in self.bank.mixed(changed, change[changed]):
            self.total.index_add_(0, path[some], vectors)
        norm, sums = self.total.abs().sum(1).cpu(), self.total.sum(1).cpu()
        return _Verdict(
            (sums - self.goal.delta).abs(),
            error,
            raw,
            self.goal.allowed(norm),
            self.goal.residual_passes(sums, norm),
            best,
        )

    # -- results --------------------------------------------------------------------------------

    def _doubt(self, verdict: _Verdict, done: Tensor) -> Float[Tensor, "done width"]:
        """Where the estimated error sits, element by element."""
        doubt = self.settled_doubt[done.to(self.settled_doubt.device)]
        for leaves in verdict.best.values():
            self.bank.spread(leaves.path, leaves.nodes, leaves.doubt, done, doubt)
        return doubt

    # -- refinement -----------------------------------------------------------------------------

    def _choose(self, verdict: _Verdict) -> list[_Choice]:
        """The smallest set of worst leaves that leaves little error to the others."""
        unfinished = self.open & ~verdict.floor
        allowed, error = verdict.allowed, verdict.error
        room = self.goal.budget - self.spent
        table = []
        for kind_of, (shape, leaves) in enumerate(verdict.best.items()):
            index = (unfinished[leaves.path] & (leaves.width > NARROWEST)).nonzero().view(-1)
            path = leaves.path[index]
            cost = torch.full_like(path, shape.cost)
            if shape.halved is not None:  # a cut costs nothing, and can always be paid
                cost[leaves.apart[index] | (cost > room[path])] = 0
            table.append((path, leaves.error[index], cost, torch.full_like(path, kind_of), index))
        if not table:
            return []
        columns = [torch.cat(column) for column in zip(*table, strict=True)]
        order = worst_first(columns[0], columns[1])
        path, own, cost, kind, index = (column[order] for column in columns)
        begin = torch.searchsorted(path, path)
        before = own.cumsum(0) - own
        before = before - before[begin]
        rank = torch.arange(len(index)) - begin
        # Where only the sum misses, no leaf stands out: the worst quarter is refined.
        quarter = torch.bincount(path, minlength=len(error))[path] / 4
        worst = torch.where(
            (error > allowed)[path],
            error[path] - before > HALF * allowed[path],
            rank < quarter,
        ) | (rank == 0)
        cost = cost * worst
        spent = cost.cumsum(0)
        worst &= spent - (spent - cost)[begin] <= room[path]
        return [
            _Choice(
                shape,
                index[worst & (kind == n) & (cost == 0)],
                index[worst & (kind == n) & (cost > 0)],
            )
            for n, shape in enumerate(verdict.best)
        ]

    def _cut(self, choice: _Choice) -> None:
        if len(choice.cut):
            leaves, halved = self.leaves[choice.shape], choice.shape.halved
            assert halved is not None
            self._add(halved, cut(pick(leaves, choice.cut), self.bank.nodes.t))
            self.leaves[choice.shape] = without(leaves, choice.cut)

    def _refine(self, verdict: _Verdict, chosen: Sequence[_Choice]) -> None:
        legs, points = [torch.zeros(0, dtype=torch.long)], [torch.zeros(0, dtype=torch.float64)]
        known = self.bank.nodes.t
        for choice in chosen:
            shape, leaves = choice.shape, self.leaves[choice.shape]
            parents = pick(leaves, choice.refine)
            gone = self._settle_leaves(verdict.best[shape], choice.refine, verdict.allowed)
            self.leaves[shape] = without(leaves, torch.cat([choice.refine, gone]))
            if not len(parents.path):
                continue
            t = shape.points(parents, self.bank)
            new = len(known) + torch.arange(t.numel()).view(t.shape)
            legs.append(parents.leg.repeat_interleave(t.shape[1]))
            points.append(t.reshape(-1))
            known = torch.cat([known, points[-1]])
            for other, refined in shape.refine(parents, new, known):
                self._add(other, refined)
        self.wanted = Request(torch.cat(legs), torch.cat(points))

    def _settle_leaves(
        self, leaves: Leaves, chosen: Tensor, allowed: Tensor
    ) -> Int[Tensor, " settled"]:
        """The leaves that can never matter again; what they count stays in the total.

        Their errors together stay below a tenth of what their path is allowed.
        """
        small = leaves.error <= SETTLED * (allowed / self.legs)[leaves.path] * leaves.width
        small &= self.open[leaves.path]
        small[chosen] = False
        _, group, count = torch.unique(leaves.kin, return_inverse=True, return_counts=True)
        ready = torch.zeros_like(count).index_add_(0, group, small.long())
        small &= (ready == count)[group]  # kin share their best rule
        index: Tensor = small.nonzero().view(-1)
        settled = pick(leaves, index)
        self.settled_error.index_add_(0, settled.path, settled.error)
        self.settled_raw.index_add_(0, settled.path, settled.raw)
        self.bank.counted.index_add_(0, settled.nodes.reshape(-1), -settled.weights.reshape(-1))
        rows = settled.path.to(self.total.device)
        for some, mixed in self.bank.mixed(settled.nodes, settled.doubt):
            self.settled_doubt.index_add_(0, rows[some], mixed.abs())
        return index


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
            raise InputError(
                f"rule='exact' takes one point of every piece (got steps={steps}); leave steps= out"
            )
        return Exact(_AdaptiveProcess)
    if name not in FIXED_RULES:
        raise UnknownNameError("rule", name, [*FIXED_RULES, Adaptive.name, Exact.name])
    if steps is None:
        raise InputError(f"rule={name!r} needs steps, e.g. steps=50")
    return FIXED_RULES[name](steps)
