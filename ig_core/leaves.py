"""Leaves are the stretches of a path that a rule has not split, Nodes the points it knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.quadrature import Found, Goal, Space, Troubles

WORKSPACE = 2**22
"""Elements of a temporary tensor."""

WORST = 3
"""So many leaves are named of a path that did not converge."""

_Table = TypeVar("_Table")


@dataclass(frozen=True, eq=False)
class Nodes:
    """Evaluated points; ``norm`` is the L1 norm of the gradient times the velocity there."""

    leg: Int[Tensor, " nodes"]
    t: Float[Tensor, " nodes"]
    value: Float[Tensor, " nodes"]
    slope: Float[Tensor, " nodes"]
    norm: Float[Tensor, " nodes"]

    @classmethod
    def at(cls, leg: Int[Tensor, " nodes"], t: Float[Tensor, " nodes"]) -> Nodes:
        """Points that are still to be evaluated."""
        return cls(leg, t, *(torch.zeros_like(t) for _ in range(3)))


@dataclass(frozen=True, eq=False)
class Leaves:
    """Stretches of the paths that are not split.

    ``nodes`` are the points of a leaf, ``weights`` what they count in its integral, ``doubt`` what
    they count in the vector whose L1 norm is ``error``. ``error`` leaves out what rounding
    explains, ``raw`` does not. ``kin`` is the number shared by the two halves of one leaf;
    ``kin_weights`` and so on hold as long as both halves are there. ``distance`` is how far two
    rules were apart here or where this leaf was refined from, ``apart`` says that the leaf is to be
    cut at its middle node, and ``probe`` where it wants a new one.
    """

    path: Int[Tensor, " leaves"]
    leg: Int[Tensor, " leaves"]
    start: Float[Tensor, " leaves"]
    width: Float[Tensor, " leaves"]
    nodes: Int[Tensor, "leaves points"]
    kin: Int[Tensor, " leaves"]
    weights: Float[Tensor, "leaves points"]
    doubt: Float[Tensor, "leaves points"]
    error: Float[Tensor, " leaves"]
    raw: Float[Tensor, " leaves"]
    kin_weights: Float[Tensor, "leaves points"]
    kin_error: Float[Tensor, " leaves"]
    kin_raw: Float[Tensor, " leaves"]
    distance: Float[Tensor, " leaves"]
    apart: Bool[Tensor, " leaves"]
    probe: Float[Tensor, " leaves"]

    def settled(self) -> Leaves:
        """The leaves under their best rule: that of both halves together, while both are there."""
        _, group, count = torch.unique(self.kin, return_inverse=True, return_counts=True)
        both = count[group] == 2
        total = torch.zeros(len(count), dtype=torch.float64)
        alone = total.index_add(0, group, self.error)[group] / 2
        better = both & (self.kin_error < alone)
        shrink = torch.where(better & (self.error > 0), self.kin_error / self.error, 1.0)
        return replace(
            self,
            weights=torch.where(better[:, None], self.kin_weights, self.weights),
            error=torch.where(better, self.kin_error, self.error),
            raw=torch.where(better, self.kin_raw, self.raw),
            doubt=self.doubt * shrink.nan_to_num()[:, None],
        )


def pick(table: _Table, index: Tensor) -> _Table:
    """Some rows of a table."""
    columns = fields(table)  # type: ignore[arg-type]
    return type(table)(*(getattr(table, f.name)[index] for f in columns))


def join(first: _Table, second: _Table) -> _Table:
    """Two tables, one after the other."""
    columns = fields(first)  # type: ignore[arg-type]
    parts = ((getattr(first, f.name), getattr(second, f.name)) for f in columns)
    return type(first)(*(torch.cat(pair) for pair in parts))


def over(
    path: Int[Tensor, " leaves"],
    leg: Int[Tensor, " leaves"],
    nodes: Int[Tensor, "leaves points"],
    t: Float[Tensor, " nodes"],
    kin: Int[Tensor, " leaves"] | None = None,
) -> Leaves:
    """Leaves from the first of their nodes to the last, or back, that are still to be measured."""
    first, last = t[nodes[:, 0]], t[nodes[:, -1]]
    start, width = torch.minimum(first, last), (last - first).abs()
    per_leaf = torch.full_like(width, torch.inf)
    per_point = torch.zeros(nodes.shape, dtype=torch.float64)
    return Leaves(
        path, leg, start, width, nodes, torch.arange(len(leg)) if kin is None else kin,
        per_point, per_point, per_leaf, per_leaf, per_point, per_leaf, per_leaf,
        torch.zeros_like(width), torch.zeros_like(path, dtype=torch.bool),
        torch.full_like(width, 0.5),
    )  # fmt: skip


def without(leaves: Leaves, index: Int[Tensor, " gone"]) -> Leaves:
    """All but some of the leaves."""
    left = torch.ones(len(leaves.path), dtype=torch.bool)
    left[index] = False
    return pick(leaves, left)


def split(
    leaves: Leaves, nodes: Int[Tensor, "leaves two points"], t: Float[Tensor, " nodes"]
) -> Leaves:
    """Two new leaves in the place of each, one after the other."""
    path, leg = leaves.path.repeat_interleave(2), leaves.leg.repeat_interleave(2)
    return over(path, leg, nodes.flatten(0, 1), t)


def cut(leaves: Leaves, t: Float[Tensor, " nodes"]) -> Leaves:
    """The two halves of every leaf, which share its middle node."""
    half = leaves.nodes.shape[1] // 2
    return split(leaves, torch.stack([leaves.nodes[:, : half + 1], leaves.nodes[:, half:]], 1), t)


class Bank:
    """The nodes with their vectors."""

    def __init__(self, space: Space) -> None:
        self.space = space
        empty = torch.zeros(0, dtype=torch.float64)
        self.nodes = Nodes.at(torch.zeros(0, dtype=torch.long), empty)
        self.vectors: Tensor | None = None
        self.first = 0
        self.counted = empty
        """What every node counts in the sums that were made of them."""

    def expect(self, nodes: Nodes) -> None:
        """Make room for nodes that are about to be found."""
        self.first = len(self.nodes.t)
        self.nodes = join(self.nodes, nodes)
        self.counted = torch.cat([self.counted, torch.zeros_like(nodes.t)])

    def receive(self, found: Found) -> None:
        self.grow(found.vectors.dtype)
        assert self.vectors is not None
        index = self.first + found.rows
        self.nodes.value[index] = found.value
        self.nodes.slope[index] = found.slope
        self.nodes.norm[index] = found.vectors.abs().sum(1, dtype=torch.float64).cpu()
        self.vectors[index.to(self.vectors.device)] = found.vectors

    def grow(self, dtype: torch.dtype = torch.float64) -> None:
        """Room for the vectors of all expected nodes; zero for those that were not found."""
        if self.vectors is None:
            self.vectors = self.space.zeros(0, dtype)
        lacking = len(self.nodes.t) - len(self.vectors)
        if lacking:
            more = self.space.zeros(lacking, self.vectors.dtype)
            self.vectors = torch.cat([self.vectors, more])

    def keep(self, used: Bool[Tensor, " nodes"]) -> Int[Tensor, " nodes"]:
        """Forget all other nodes; gives the new number of every old one."""
        assert self.vectors is not None
        index = used.nonzero().view(-1)
        self.nodes, self.counted = pick(self.nodes, index), self.counted[index]
        self.vectors = self.vectors[index.to(self.vectors.device)]
        return used.cumsum(0) - 1

    def norms(
        self, nodes: Int[Tensor, "sets points"], weights: Float[Tensor, "sets points"]
    ) -> Float[Tensor, " sets"]:
        """L1 norms of weighted sums of vectors."""
        if not len(nodes):
            return torch.zeros(0, dtype=torch.float64)
        assert self.vectors is not None
        parts = self.mixed(nodes, weights, self.vectors.dtype)
        return torch.cat([v.abs().sum(1, dtype=torch.float64).cpu() for _, v in parts])

    def spread(
        self,
        path: Int[Tensor, " sets"],
        nodes: Int[Tensor, "sets points"],
        weights: Float[Tensor, "sets points"],
        done: Int[Tensor, " done"],
        into: Float[Tensor, "done width"],
    ) -> Float[Tensor, "done width"]:
        """``into`` with the magnitudes of weighted sums of vectors added for the paths ``done``."""
        mine = torch.isin(path, done).nonzero().view(-1)
        order = torch.argsort(done)
        row = order[torch.searchsorted(done[order], path[mine])].to(into.device)
        for some, mixed in self.mixed(nodes[mine], weights[mine]):
            into.index_add_(0, row[some], mixed.abs())
        return into

    def mixed(
        self,
        nodes: Int[Tensor, "sets points"],
        weights: Float[Tensor, "sets points"],
        dtype: torch.dtype = torch.float64,
    ) -> Iterator[tuple[slice, Float[Tensor, "part width"]]]:
        """Weighted sums of vectors, in parts that fit the workspace."""
        assert self.vectors is not None
        size = max(1, WORKSPACE // max(1, nodes.shape[1] * self.vectors.shape[1]))
        device = self.vectors.device
        for begin in range(0, len(nodes), size):
            part = slice(begin, begin + size)
            chosen = self.vectors[nodes[part].to(device)].to(dtype)
            yield part, torch.bmm(weights[part, None].to(chosen), chosen)[:, 0]


def worst_first(
    path: Int[Tensor, " leaves"], error: Float[Tensor, " leaves"]
) -> Int[Tensor, " leaves"]:
    """The order of leaves by path, and by falling error within each."""
    by_error: Tensor = torch.argsort(error, descending=True, stable=True)
    by_path: Tensor = torch.argsort(path[by_error], stable=True)
    return by_error[by_path]


def rank(path: Int[Tensor, " leaves"], error: Float[Tensor, " leaves"]) -> Int[Tensor, " leaves"]:
    """The place of every leaf among those of its path, from the largest error."""
    order = worst_first(path, error)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - torch.searchsorted(path[order], path[order])
    return place


def troubles(
    tables: Iterable[Leaves],
    done: Int[Tensor, " done"],
    unmet: Bool[Tensor, " done"],
    bank: Bank,
    goal: Goal,
) -> Troubles | None:
    """The worst leaves of the unmet among the paths that are done."""
    row = torch.full((len(goal.delta),), -1)
    row[done[unmet]] = unmet.nonzero().view(-1)
    own = [pick(leaves, row[leaves.path] >= 0) for leaves in tables] if bool(unmet.any()) else []
    if not own:
        return None
    path, errors = (torch.cat(x) for x in zip(*((o.path, o.error) for o in own), strict=True))
    named = (rank(path, errors) < WORST) & (errors > 0) & errors.isfinite()
    total = torch.zeros(len(row), dtype=torch.float64).index_add_(0, path, errors)
    first = torch.searchsorted(goal.owner, torch.arange(len(row)))
    several = torch.bincount(goal.owner, minlength=len(row)) > 1
    parts = []
    for table, chosen in zip(own, torch.split(named, [len(o.path) for o in own]), strict=True):
        leaves = pick(table, chosen)
        doubt = bank.space.zeros(len(leaves.path))
        for some, mixed in bank.mixed(leaves.nodes, leaves.doubt):
            doubt[some] = mixed.abs()
        parts.append(Troubles(
            row[leaves.path], (leaves.leg - first[leaves.path] + 1) * several[leaves.path],
            leaves.start, leaves.start + leaves.width, leaves.error / total[leaves.path], doubt,
        ))  # fmt: skip
    found = reduce(join, parts)
    return pick(found, worst_first(found.row, found.share))
