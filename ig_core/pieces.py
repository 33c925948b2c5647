"""Pieces are what kinks cut a path into; inside a piece the model is smooth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.leaves import Bank, Leaves, Nodes, join, over, pick, rank, troubles, worst_first
from ig_core.looks import Looks, Middles, looked_at
from ig_core.quadrature import NOISE_ULPS, Found, Goal, Outcome, Process, Request, Space

ROUNDINGS = 8.0
"""What is compared may differ by this many times the noise of F."""


LARGER = 1e6
"""F may be rounded like numbers this many times larger than its integral; more is no rounding."""


class Pieces(Process):
    """An integration that starts with the middle of every piece; ``bent`` are paths it leaves."""

    open: Bool[Tensor, " paths"]
    bent: Bool[Tensor, " paths"]


class Linear(Pieces):
    """Pieces of a piecewise linear model: the gradient in the middle is the gradient everywhere.

    What is known of a path without further evaluations has to agree: F where two pieces meet, from
    either side, and F(x) - F(x'). Where it does not, the rounding of F is measured. A path on which
    that does not explain it is bent, and so is one of which a piece then shows several gradients.
    """

    def __init__(
        self, goal: Goal, space: Space, leg: Int[Tensor, " points"], t: Float[Tensor, " points"]
    ) -> None:
        inner = leg[1:] == leg[:-1]
        leg, width, middle = leg[:-1][inner], t.diff()[inner], ((t[1:] + t[:-1]) / 2)[inner]
        unknown = (torch.zeros_like(width) for _ in range(3))
        self.goal, self.space = goal, space
        self.asked: Request | None = Request(leg, middle)
        self.middles = Middles(leg, goal.owner[leg], middle, width, *unknown)
        self.open = torch.zeros(len(goal.delta), dtype=torch.bool)
        self.open[self.middles.path] = True
        self.bent = torch.zeros_like(self.open)
        self.total = space.zeros(len(goal.delta))
        self.looks: Looks | None = None
        self.noise = torch.zeros_like(goal.delta)  # that was measured

    def request(self) -> Request | None:
        return self.asked

    def receive(self, found: Found) -> None:
        if self.looks is not None:
            self.looks.receive(found)
            return
        middles, rows = self.middles, found.rows
        middles.value[rows], middles.slope[rows] = found.value, found.slope
        middles.size[rows] = found.vectors.abs().sum(1, dtype=torch.float64).cpu()
        path = middles.path[rows].to(self.total.device)
        width = middles.width[rows].to(self.total.device)
        self.total.index_add_(0, path, found.vectors.double() * width[:, None])

    def settle(self) -> Outcome:
        looks, none = self.looks, torch.zeros_like(self.open)
        if looks is not None and not looks.far:
            self.noise = looks.noise()
        error, misses = self._compared()
        if looks is None:
            done, again = self.open & ~misses, self.open & misses & self._may_be_rounding(error)
        elif looks.far:
            done, again = self.open & ~looks.bent(), none
        else:
            done, again = none, self.open & ~misses
        self.bent |= self.open & ~done & ~again
        self.open, self.asked = again, None
        if bool(again.any()):
            self.looks = Looks(self.goal, self.space, self.middles, again, far=looks is not None)
            self.asked = self.looks.asked
        return self._outcome(done.nonzero().view(-1), error)

    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        self.open[paths] = False

    def _compared(self) -> tuple[Float[Tensor, " paths"], Bool[Tensor, " paths"]]:
        """By how much F misses what the pieces promise, and where rounding does not explain it."""
        middles, paths = self.middles, torch.zeros_like(self.goal.delta)
        half = middles.slope * middles.width / 2
        jump = ((middles.value + half)[:-1] - (middles.value - half)[1:]).abs()
        # t and the point are rounded, and so is F where it is steep.
        size = ROUNDINGS * NOISE_ULPS * self.goal.epsilon * (middles.value.abs() + middles.size)
        rounding = torch.maximum(size, self.noise[middles.path])
        meets = middles.leg[1:] == middles.leg[:-1]
        path = middles.path[1:][meets]
        breaks = (jump > torch.maximum(rounding[:-1], rounding[1:]))[meets]
        jumps = paths.index_add(0, path, jump[meets])
        residual = (self.total.sum(1).cpu() - self.goal.delta).abs()
        floor = self.goal.noise + paths.index_add(0, middles.path, rounding * middles.width)
        broken = paths.index_add(0, path, breaks.double()) > 0
        return torch.maximum(jumps, residual), broken | (residual > floor + jumps)

    def _may_be_rounding(self, error: Float[Tensor, " paths"]) -> Bool[Tensor, " paths"]:
        """Whether looking can tell, and the budget has room for it."""
        count = torch.bincount(self.middles.path, minlength=len(self.open))
        most = LARGER * self.goal.epsilon * self.total.abs().sum(1).cpu()
        return (error <= most) & (looked_at(count) <= self.goal.budget)

    def _outcome(self, done: Int[Tensor, " done"], error: Float[Tensor, " paths"]) -> Outcome:
        integral = self.total[done.to(self.total.device)]
        norm, summed = self.total.abs().sum(1).cpu(), self.total.sum(1).cpu()
        near = (error <= self.goal.allowed(norm)) & self.goal.residual_passes(summed, norm)
        share = torch.where(norm > 0, error / norm, error)
        return Outcome(
            done,
            integral,
            error[done],
            integral.abs() * share[done].to(integral.device)[:, None],
            ["converged" if near[p] else "noise_floor" for p in done.tolist()],
        )


@dataclass(frozen=True, eq=False)
class _Table:
    """Pieces of curved paths, one row each.

    ``nodes`` are the points at 1/6, 1/2 and 5/6; where ``measured`` is false, all three are the
    middle one. ``known`` is F(b) - F(a), or NaN; ``size`` how large the gradient times the
    velocity is around there.
    """

    leg: Int[Tensor, " pieces"]
    path: Int[Tensor, " pieces"]
    start: Float[Tensor, " pieces"]
    width: Float[Tensor, " pieces"]
    known: Float[Tensor, " pieces"]
    size: Float[Tensor, " pieces"]
    nodes: Int[Tensor, "pieces 3"]
    measured: Bool[Tensor, " pieces"]


MIDDLE = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
MACLAURIN = torch.tensor([3.0, 2.0, 3.0], dtype=torch.float64) / 8
"""Weights of the points at 1/6, 1/2 and 5/6: exact for cubic polynomials."""


class Curved(Pieces):
    """Pieces on which the model is smooth, such as those of a ReLU network under a softmax.

    They are short, and on most of them the middle is enough: its error |h G(1/2) - I|_1 goes with
    h^3 |G|_1. By how much is measured, path by path, on the pieces where that is largest: with two
    more points, M (Maclaurin's rule) - h G(1/2) tells it, and M is far better. A piece that is
    still not good enough becomes three, which share its points.
    """

    heaviest: ClassVar[int] = 4
    """How many pieces of a path are measured at first because h^3 |G|_1 is largest there."""
    safety: ClassVar[float] = 3.0
    """How many times the largest measured error per h^3 |G|_1 is taken for the others."""
    sharpest: ClassVar[float] = 0.02
    """The error of M is at least this part of the difference that was measured."""
    quietest: ClassVar[float] = 0.1
    """The gradient may be as large as this part of its maximum wherever it was not looked for."""

    def __init__(
        self,
        goal: Goal,
        space: Space,
        leg: Int[Tensor, " points"],
        t: Float[Tensor, " points"],
        value: Float[Tensor, " points"],
    ) -> None:
        inner = leg[1:] == leg[:-1]
        leg, start, width = leg[:-1][inner], t[:-1][inner], t.diff()[inner]
        self.goal, self.bank = goal, Bank(space)
        self.ends = torch.stack([value[:-1][inner], value[1:][inner]], dim=1)
        self.open = torch.zeros(len(goal.delta), dtype=torch.bool)
        self.open[goal.owner[leg]] = True
        self.bent = torch.zeros_like(self.open)
        self.spent = torch.zeros(len(goal.delta), dtype=torch.long)
        self.space = space
        middle = torch.arange(len(leg))[:, None].expand(-1, 3)
        self.table = _Table(
            leg, goal.owner[leg], start, width, self.ends.diff(dim=1)[:, 0],
            torch.zeros_like(width), middle, torch.zeros_like(leg, dtype=torch.bool),
        )  # fmt: skip
        self.asked = Request(leg, start + width / 2)

    def request(self) -> Request | None:
        if not bool(self.open.any()):
            return None
        self.bank.expect(Nodes.at(self.asked.leg, self.asked.t))
        paths = self.goal.owner[self.asked.leg]
        self.spent += torch.bincount(paths, minlength=len(self.spent))
        return self.asked

    def receive(self, found: Found) -> None:
        self.bank.receive(found)

    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        self.open[paths] = False

    def settle(self) -> Outcome:
        self.bank.grow()
        goal, first = self.goal, not bool(self.table.measured.any())
        if first:
            self.table = replace(self.table, size=self._sizes())
        table = self.table
        total = self.space.zeros(len(goal.delta))
        rule = torch.where(table.measured[:, None], MACLAURIN, MIDDLE)
        rows = table.path.to(total.device)
        for part, mixed in self.bank.mixed(table.nodes, table.width[:, None] * rule):
            total.index_add_(0, rows[part], mixed)
        norm, summed = total.abs().sum(1).cpu(), total.sum(1).cpu()
        own, rough, doubt = self._errors(rule)
        error, raw = self._per_path(own), self._per_path(rough)
        allowed = goal.allowed(norm)
        passes = goal.residual_passes(summed, norm)
        near, floor = (raw <= allowed) & passes, (error <= allowed) & passes
        if first:
            chosen = self._heaviest()
        else:
            chosen = self._worst(own, error, allowed, self.open & ~floor)
        split = torch.zeros_like(self.open).index_fill(0, table.path[chosen], True)
        done = (self.open & ~split).nonzero().view(-1)
        outcome = Outcome(
            done,
            total[done.to(total.device)],
            torch.maximum(raw, (summed - goal.delta).abs())[done],
            self.bank.spread(table.path, table.nodes, doubt, done, self.space.zeros(len(done))),
            [
                "converged" if near[p] else "noise_floor" if floor[p] else "budget"
                for p in done.tolist()
            ],
            worst=troubles([self._leaves(own, doubt)], done, ~floor[done], self.bank, goal),
        )
        self.open[done] = False
        self._measure(chosen)
        return outcome

    def _per_path(self, values: Float[Tensor, " pieces"]) -> Float[Tensor, " paths"]:
        return torch.zeros_like(self.goal.delta).index_add(0, self.table.path, values)

    def _sizes(self) -> Float[Tensor, " pieces"]:
        """The largest gradient among two neighbours on either side, or a part of the maximum."""
        own, path = self.bank.nodes.norm[self.table.nodes[:, 1]], self.table.path
        largest = torch.zeros_like(self.goal.delta).scatter_reduce(0, path, own, "amax")
        size = torch.maximum(own, self.quietest * largest[path])
        for shift in (1, 2):
            same = path[shift:] == path[:-shift]
            size[shift:] = torch.maximum(size[shift:], own[:-shift] * same)
            size[:-shift] = torch.maximum(size[:-shift], own[shift:] * same)
        return size

    def _errors(self, rule: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Errors without and with what rounding explains, and the vectors they are norms of.

        On a path without a measured piece nothing is known: the error may be all of the value.
        """
        table, goal, nodes = self.table, self.goal, self.bank.nodes
        change = table.width[:, None] * (MACLAURIN - MIDDLE)
        far = torch.zeros_like(table.width)
        far[table.measured] = self.bank.norms(table.nodes[table.measured], change[table.measured])
        weight = table.width**3 * table.size
        rate = (far / weight)[table.measured].nan_to_num(nan=0.0, posinf=0.0)
        rates = torch.zeros_like(goal.delta)
        rates.scatter_reduce_(0, table.path[table.measured], rate, "amax")
        judged = torch.zeros_like(self.open).index_fill(0, table.path[table.measured], True)
        around = table.width * nodes.norm[table.nodes].amax(1)
        rounding = NOISE_ULPS * goal.epsilon * around
        sharper = (4 * far / around).nan_to_num(nan=0.0).clamp(self.sharpest, 1.0)
        slope = (nodes.slope[table.nodes] * rule).sum(1)
        missing = (table.known - table.width * slope).abs().nan_to_num(nan=0.0)
        beyond = (missing - 2 * goal.noise[table.path] - rounding).clamp(min=0)
        apart = torch.where(
            table.measured,
            (far - rounding).clamp(min=0) * sharper,
            torch.where(judged[table.path], self.safety * rates[table.path] * weight, around),
        )
        raw = torch.maximum(torch.where(table.measured, far * sharper, apart), missing)
        error = torch.maximum(apart, beyond)
        length = torch.where(table.measured, far, nodes.norm[table.nodes[:, 1]])
        share = torch.where(length > 0, error / length, 0.0)
        return error, raw, share[:, None] * torch.where(table.measured[:, None], change, MIDDLE)

    def _leaves(self, error: Float[Tensor, " pieces"], doubt: Float[Tensor, "pieces 3"]) -> Leaves:
        """The pieces as leaves, whose nodes are inside them."""
        table = self.table
        leaves = over(table.path, table.leg, table.nodes, self.bank.nodes.t)
        return replace(leaves, start=table.start, width=table.width, error=error, doubt=doubt)

    def _heaviest(self) -> Int[Tensor, " chosen"]:
        """What is measured first: the heaviest pieces, the widest, and where F bends most."""
        table, value = self.table, self.bank.nodes.value[self.table.nodes[:, 1]]
        path = table.path
        bend = (self.ends.sum(1) - 2 * value).abs()
        chosen = rank(path, table.width**3 * table.size) < self.heaviest
        chosen |= (rank(path, table.width) < 1) | (rank(path, bend) < 1)
        room = rank(path, table.width) < ((self.goal.budget - self.spent) // 2)[path]
        return (chosen & room & self.open[path]).nonzero().view(-1)

    def _worst(
        self,
        own: Float[Tensor, " pieces"],
        error: Float[Tensor, " paths"],
        allowed: Float[Tensor, " paths"],
        unfinished: Bool[Tensor, " paths"],
    ) -> Int[Tensor, " chosen"]:
        """The smallest set of worst pieces that leaves half of the allowed error to the others."""
        path = self.table.path
        order = worst_first(path, own)
        before = own[order].cumsum(0) - own[order]
        first = torch.searchsorted(path[order], path[order])
        left = torch.empty_like(own)
        left[order] = error[path[order]] - (before - before[first])
        cost = torch.where(self.table.measured, 6, 2)[order]
        used = torch.empty_like(order)
        used[order] = cost.cumsum(0) - (cost.cumsum(0) - cost)[first]
        wanted = (left > allowed[path] / 2) | (rank(path, own) == 0)
        room = used <= (self.goal.budget - self.spent)[path]
        return (wanted & room & unfinished[path]).nonzero().view(-1)

    def _measure(self, chosen: Int[Tensor, " chosen"]) -> None:
        """Two more points for pieces with one; pieces with three become three that get two each."""
        table = self.table
        thirds = pick(table, chosen[table.measured[chosen]].repeat_interleave(3))
        place = torch.arange(len(thirds.leg)) % 3
        width = thirds.width / 3
        thirds = replace(
            thirds,
            start=thirds.start + place * width,
            width=width,
            known=torch.full_like(width, torch.nan),
            nodes=thirds.nodes.gather(1, place[:, None]).expand(-1, 3),
        )
        fresh = join(pick(table, chosen[~table.measured[chosen]]), thirds)
        staying = self.open[table.path]
        staying[chosen] = False
        kept = pick(table, staying)
        used = torch.zeros(len(self.bank.nodes.t), dtype=torch.bool)
        used[kept.nodes] = True
        used[fresh.nodes] = True
        number = self.bank.keep(used)
        new = int(used.sum()) + torch.arange(2 * len(fresh.leg)).view(-1, 2)
        nodes = torch.stack([new[:, 0], number[fresh.nodes[:, 1]], new[:, 1]], dim=1)
        fresh = replace(fresh, nodes=nodes, measured=torch.ones_like(fresh.measured))
        self.table = join(replace(kept, nodes=number[kept.nodes]), fresh)
        sixths = fresh.start[:, None] + fresh.width[:, None] * torch.tensor([1.0, 5.0]).double() / 6
        self.asked = Request(fresh.leg.repeat_interleave(2), sixths.reshape(-1))
