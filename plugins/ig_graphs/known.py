"""Known edges: the edges of the graph, found again in what a layer receives.

A layer may drop and append self-loops, take edges the other way round, treat one type of edge at a
time, or work on the graph that pooling left. Every message is led back to its edge by the two nodes
that it joins and by its order, never by a count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ig_core import ModelError
from ig_graphs.scored import Relation

ELSEWHERE = "explain='x' works for any model"


@dataclass(frozen=True, eq=False)
class Known:
    """Edges with their places among all edges of the pass; ``relations`` says which those are.

    ``sources`` and ``targets`` are the numbers of nodes that may be at their ends.
    """

    edge_index: Int[Tensor, "2 edges"]
    places: Int[Tensor, " edges"]
    sources: int
    targets: int
    relations: tuple[Relation, ...]

    @cached_property
    def straight(self) -> Int[Tensor, " edges"]:
        """All edges but self-loops."""
        return (self.edge_index[0] != self.edge_index[1]).nonzero().view(-1)

    @cached_property
    def square(self) -> bool:
        """Whether both ends are nodes of one kind, so that there can be self-loops."""
        return all(source == target for source, _, target in self.relations)

    @cached_property
    def order(self) -> tuple[Tensor, Tensor]:
        """The keys of the edges in order, and where each of them is."""
        return self.key(self.edge_index).sort(stable=True)

    def key(self, edge_index: Tensor) -> Int[Tensor, " edges"]:
        """One number for the two ends of an edge."""
        return edge_index[0] * max(self.sources, self.targets) + edge_index[1]

    def is_(self, seen: Tensor) -> bool:
        """Whether these are the same numbers in the same memory."""
        own = self.edge_index
        return seen is own or (
            seen.numel() > 0
            and seen.data_ptr() == own.data_ptr()
            and seen.shape == own.shape
            and seen.stride() == own.stride()
        )

    def equals(self, seen: Tensor) -> bool:
        """Whether these are the same edges in the same order."""
        return seen.shape == self.edge_index.shape and torch.equal(seen, self.edge_index)

    def found(self, seen: Int[Tensor, "2 messages"], added: int) -> Tensor | None:
        """The places of messages along these edges in any order; ``added`` for new self-loops.

        None if some are not among them. What is in the order of the edges is theirs, also where it
        leads the other way round: in an undirected graph that is no edge of its own.

        Raises:
            ModelError: an edge that occurs more than once, or the direction, cannot be told.
        """
        count = self.edge_index.size(1)
        plain = self.square and len(self.straight) == count
        if plain and torch.equal(seen[:, :count], self.edge_index):
            loops = seen[:, count:]
            if torch.equal(loops[0], loops[1]):  # as most layers append them
                return torch.cat([self.places, self.places.new_full((loops.size(1),), added)])
        begin, places = self._in_order(seen)
        rest = self._looked_up(seen[:, begin:], added)
        return None if rest is None else torch.cat([*places, rest])

    def _in_order(self, seen: Tensor) -> tuple[int, list[Tensor]]:
        """How many messages begin with the edges in their order, once or more, and their places."""
        count = self.edge_index.size(1)
        every = torch.arange(count, device=self.edge_index.device)
        runs = {count: every, len(self.straight): self.straight}.values()
        ways = [self.edge_index, self.edge_index.flip(0)][: 1 + self.square]
        tried = [(ends[:, kept], kept, ends) for kept in runs if len(kept) for ends in ways]
        begin, places = 0, []
        while begin < seen.size(1):
            ahead = seen[:, begin:]
            fitting = (one for one in tried if torch.equal(ahead[:, : len(one[1])], one[0]))
            found = next(fitting, None)
            if found is None:
                break
            _, kept, ends = found
            if not begin and ends is not self.edge_index:
                self._check_turned(seen[:, : len(kept)])
            places.append(self.places[kept])
            begin += len(kept)
        return begin, places

    def _check_turned(self, seen: Tensor) -> None:
        """Whether edges the other way round cannot be the edges themselves in another order."""
        key = self.key(seen)
        own = self.key(self.edge_index)
        ordered = bool((key[1:] >= key[:-1]).all())  # as coalesce and to_undirected leave them
        if ordered and bool(torch.isin(key, own).all()):
            raise ModelError(
                "a layer receives the edges either sorted by source or the other way round, which "
                "is the same for this graph: sort its edges by source before "
                "(torch_geometric.utils.sort_edge_index)"
            )

    def _looked_up(self, seen: Tensor, added: int) -> Tensor | None:
        own, order = self.order  # in a stable order, so that copies stay in theirs
        wanted = self.key(seen)
        first = torch.searchsorted(own, wanted)
        last = torch.searchsorted(own, wanted, right=True)
        copies = last - first
        loops = (seen[0] == seen[1]) & self.square
        if bool(((copies == 0) & ~loops).any()):
            return None
        several = (copies > 1) & ~loops  # of several self-loops a layer keeps the last one
        if bool(several.any()):
            pair = seen[:, several][:, 0].tolist()
            raise ModelError(
                f"a layer reorders or merges edges, and {pair} occurs more than once: "
                "torch_geometric.utils.coalesce makes the edges of the graph unique"
            )
        new = torch.full_like(wanted, added)
        places = torch.cat([self.places[order], new[:1]])
        return torch.where(copies > 0, places[last - 1], new)


class Alignment:
    """All that is known of the edges of one pass, and what became of them on the way."""

    def __init__(
        self,
        edges: Mapping[Relation, Int[Tensor, "2 edges"]],
        sizes: Mapping[str, int],
        *,
        owners: Int[Tensor, " nodes"] | None = None,
        edge_type: Int[Tensor, " edges"] | None = None,
    ) -> None:
        self.own: list[Known] = []
        begin = 0
        for relation, edge_index in edges.items():
            places = torch.arange(edge_index.size(1), device=edge_index.device) + begin
            begin += len(places)
            ends = sizes[relation[0]], sizes[relation[2]]
            self.own.append(Known(edge_index, places, *ends, (relation,)))
        self.count = begin
        self.pooled: list[Known] = []
        self._versions = [_version(known.edge_index) for known in self.own]
        self.owners = owners
        self.edge_type = edge_type
        self._last: tuple[Tensor, Known] | None = None
        self._turn: dict[nn.Module, int] = {}

    def of(
        self, layer: nn.Module, name: str, seen: Any, size: Any, arguments: Mapping[str, Any]
    ) -> Known:
        """The edge of every message of a layer; those of none have the place ``count``.

        Raises:
            ModelError: they cannot be found.
        """
        kind = type(layer).__name__
        if not isinstance(seen, Tensor) or seen.layout != torch.strided or seen.dim() != 2:
            raise ModelError(
                f"{kind} receives a sparse adjacency, along which single messages cannot be "
                f"masked; let the model pass edge_index, or explain='x'"
            )
        if self._versions != [_version(known.edge_index) for known in self.own]:
            raise ModelError(
                "the model writes into its edge_index, after which masks may belong to other "
                f"edges; let it work on edge_index.clone(), or {ELSEWHERE}"
            )
        every = [*self.pooled, *self.own]
        for known in every:
            if known.is_(seen):
                return known
        if self._last is not None and torch.equal(seen, self._last[0]):
            return self._last[1]
        found = self._search(layer, name, seen, size, arguments, every)
        if len(every) == 1 and self.edge_type is None:
            self._last = seen, found
        return found

    def pool(self, before: Any, perm: Tensor, after: Tensor) -> None:
        """Follow the edges through pooling that keeps the nodes ``perm``."""
        known = next(
            (k for k in [*self.pooled, *self.own] if k.is_(before) or k.equals(before)), None
        )
        if known is None:
            return
        new = torch.full((known.sources,), -1, dtype=torch.long, device=perm.device)
        new[perm] = torch.arange(len(perm), device=perm.device)
        ends = new[known.edge_index]
        kept = (ends >= 0).all(0)
        if torch.equal(ends[:, kept], after):
            size = len(perm)
            self.pooled.append(Known(after, known.places[kept], size, size, known.relations))

    def _search(
        self,
        layer: Any,
        name: str,
        seen: Tensor,
        size: Any,
        arguments: Mapping[str, Any],
        every: Sequence[Known],
    ) -> Known:
        hinted = [known for known in every if _called(name, known.relations)]
        several = hinted or every
        equal = [known for known in several if known.equals(seen)]
        if not equal:
            equal = [union] if (union := self._union(seen)) is not None else []
        if len({known.relations for known in equal}) > 1 and seen.size(1):
            raise ModelError(
                f"{type(layer).__name__} receives edges that are those of "
                f"{' and of '.join(str(k.relations[0]) for k in equal[:2])} alike; "
                f"explain other edges, or {ELSEWHERE}"
            )
        if equal:
            return equal[0]
        if self._reads_out(seen):
            outside = torch.full_like(seen[0], self.count)
            return Known(seen, outside, 0, 0, ())
        if (group := self._group(layer, seen)) is not None:
            return group
        return self._looked_up(layer, seen, size, arguments, several)

    def _looked_up(
        self,
        layer: Any,
        seen: Tensor,
        size: Any,
        arguments: Mapping[str, Any],
        several: Sequence[Known],
    ) -> Known:
        kind = type(layer).__name__
        count = _node_count(size, arguments, layer.node_dim)
        fitting = [known for known in several if count in (None, known.sources)]
        if not fitting:
            wanted = " or ".join(str(size) for size in sorted({k.sources for k in several}))
            raise ModelError(
                f"{kind} works on {count} nodes, the graph has {wanted}: after such pooling, "
                f"messages no longer belong to edges of the graph; {ELSEWHERE}"
            )
        found = [(k, places) for k in fitting if (places := k.found(seen, self.count)) is not None]
        if len(found) == 1 or (found and not seen.size(1)):
            known, places = found[0]
            return Known(seen, places, known.sources, known.targets, known.relations)
        if found:
            raise ModelError(
                f"{kind} receives edges that may be those of "
                f"{' or of '.join(str(k.relations[0]) for k, _ in found[:2])}; {ELSEWHERE}"
            )
        own = {tuple(pair) for known in fitting for pair in known.edge_index.t().tolist()}
        strange = [p for p in seen.t().tolist() if tuple(p) not in own and p[0] != p[1]]
        raise ModelError(
            f"{kind} passes a message along {(strange or seen.t().tolist())[0]}, which is no edge "
            f"of the graph; {ELSEWHERE}"
        )

    def _reads_out(self, seen: Tensor) -> bool:
        """Whether these lead from every node to its graph, as a read-out by attention does."""
        if self.owners is None or seen.size(1) != len(self.owners):
            return False
        each = torch.arange(len(self.owners), device=seen.device)
        return torch.equal(seen[0], each) and torch.equal(seen[1], self.owners)

    def _group(self, layer: nn.Module, seen: Tensor) -> Known | None:
        """The edges of one type, where a layer treats one type at a time and in order."""
        # Without edges nothing is masked, nor does it say which of the empty types it is.
        if self.edge_type is None or not 0 < seen.size(1) < len(self.edge_type):
            return None
        [known] = self.own
        turn = self._turn.get(layer, 0)
        for number in [*range(turn, int(self.edge_type.max()) + 1), *range(turn)]:
            chosen = (self.edge_type == number).nonzero().view(-1)
            if torch.equal(seen, known.edge_index[:, chosen]):
                self._turn[layer] = number + 1
                ends = known.sources, known.targets
                return Known(seen, known.places[chosen], *ends, known.relations)
        return None

    def _union(self, seen: Tensor) -> Known | None:
        """All relations one after another, each shifted by where its nodes begin."""
        if len(self.own) < 2 or seen.size(1) != self.count:
            return None
        parts = seen.split([known.edge_index.size(1) for known in self.own], dim=1)
        for part, known in zip(parts, self.own, strict=True):
            shift = part - known.edge_index
            if part.size(1) and not torch.equal(shift, shift[:, :1].expand_as(shift)):
                return None
        places = torch.arange(self.count, device=seen.device)
        relations = tuple(relation for known in self.own for relation in known.relations)
        return Known(seen, places, 0, 0, relations)


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to."""
    return 0 if tensor.is_inference() else tensor._version


def _called(name: str, relations: Sequence[Relation]) -> bool:
    """Whether a layer is named after a relation, as those of HeteroConv and to_hetero are."""
    if len(relations) != 1 or not any(relations[0]):
        return False
    own = "__".join(relations[0])
    plain = own.replace(" ", "_").replace("-", "_").replace(":", "_")
    inside = f"<{'___'.join(relations[0])}>".replace(".", "#")
    return any(part in (own, plain, inside) for part in name.split("."))


def _node_count(size: Any, arguments: Mapping[str, Any], node_dim: int) -> int | None:
    """How many nodes a layer works on: its size, or else that of its first tensor argument."""
    if size is not None and size[0] is not None:
        return int(size[0])
    for value in arguments.values():
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if isinstance(part, Tensor) and part.dim():
                return part.size(node_dim if -part.dim() <= node_dim < part.dim() else 0)
    return None
