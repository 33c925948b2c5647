"""Units of a graph: what its nodes and edges are called, and other groupings of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ig_core import Attribution, InputError, Units
from ig_graphs.graph import Graph
from ig_graphs.scored import Relation, ScoredGraph, along, first_of, located, scored

GROUPINGS = ("part", "pair", "type", "feature")


def units_of(graph: Graph, inputs: Mapping[str, Tensor]) -> Units:
    """Nodes, then edges: all that is explained of one of them is one unit."""
    kinds = graph.kinds
    labels: list[str] = []
    index: dict[str, Tensor] = {}
    for kind in (*graph.sizes, *graph.edges):
        own = [name for name in inputs if kinds.get(name) == kind]
        if own:
            named = _nodes(graph, kind) if isinstance(kind, str) else _edges(graph, kind)
            each = torch.arange(len(named)) + len(labels)
            labels += named
            for name in own:  # a mask per layer has the units of its edge in every row
                per_layer = along(name, inputs[name]) == 1
                index[name] = each.expand(inputs[name].shape).contiguous() if per_layer else each
    of = {isinstance(kinds.get(name), tuple) for name in index}
    kind = "part" if len(of) != 1 else "edge" if True in of else "node"
    return Units(labels, {name: index[name] for name in inputs if name in index}, kind)


def _nodes(graph: Graph, node_type: str) -> list[str]:
    begin = graph.at(node_type, 0)
    names = graph.labels[begin : begin + graph.sizes[node_type]]
    return list(names) if graph.named else [f"node {name}" for name in names]


def _edges(graph: Graph, relation: Relation) -> list[str]:
    source, name, target = relation
    begin, end = graph.at(source, 0), graph.at(target, 0)
    joined = f" {name} " if graph.hetero else "-"
    before = "" if graph.named else "edge "
    pairs = graph.edges[relation].t().tolist()
    return [f"{before}{graph.labels[u + begin]}{joined}{graph.labels[v + end]}" for u, v in pairs]


def regrouped(attribution: Attribution, by: object) -> Units:
    """Other units of a result; see :meth:`ig_graphs.GraphDomain.regroup`.

    Raises:
        InputError: there is no such grouping.
    """
    if by not in GROUPINGS:
        raise InputError(f"a graph has the units {', '.join(map(repr, GROUPINGS))} (got {by!r})")
    graph = scored(attribution)
    ends = graph.edge_index.t().tolist()
    nodes: list[Hashable] = list(range(len(graph.labels)))
    edges: list[Hashable] = [(u, v, i) for i, (u, v) in enumerate(ends)]
    if by == "pair":
        edges = [(min(pair), max(pair), -1) for pair in ends]
    elif by == "type":
        nodes = [graph.node_types[i] or "nodes" for i in graph.node_type.tolist()]
        edges = [graph.relation_name(i) or "edges" for i in range(len(ends))]
    return _Grouping(attribution, graph, feature=by == "feature").units(nodes, edges)


class _Grouping:
    """The units of a result, one after another, and the elements that belong to each."""

    def __init__(self, attribution: Attribution, graph: ScoredGraph, *, feature: bool) -> None:
        self.attribution = attribution
        self.graph = graph
        self.feature = feature
        self.numbers: dict[Hashable, int] = {}

    def units(self, nodes: Sequence[Hashable], edges: Sequence[Hashable]) -> Units:
        """Elements with equal keys are one unit; features of nodes have keys of their own."""
        old = self.attribution.units.index
        index = {
            name: torch.full(
                value.shape if self.feature or name not in old else old[name].shape, -1
            )
            for name, value in self.attribution.tensors.items()
        }
        begins = first_of(self.attribution.display)
        for name, (kind, attribute, rows) in located(self.attribution).items():
            of_nodes = isinstance(kind, str)
            begin = begins[kind]
            keys = (nodes if of_nodes else edges)[begin : begin + len(rows)]
            own, dim = index[name], along(name, index[name])
            if of_nodes and self.feature:
                wide = own[0].numel() if len(own) else 1
                each = [self._number((key, attribute, f)) for key in keys for f in range(wide)]
                found = torch.tensor(each, dtype=torch.long).view(len(rows), *own.shape[1:])
            else:
                found = torch.tensor([self._number(key) for key in keys], dtype=torch.long)
                shape = [1] * own.dim()
                shape[dim] = -1
                sizes = [*own.shape]
                sizes[dim] = len(rows)
                found = found.view(shape).expand(sizes)
            own.index_copy_(dim, rows, found)
        kind_of_units = "part" if len({type(key) for key in self.numbers}) > 1 else "group"
        return Units([self._label(key) for key in self.numbers], index, kind_of_units)

    def _number(self, key: Hashable) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    def _label(self, key: Any) -> str:
        if isinstance(key, str):
            return key
        if isinstance(key, int):
            return self._node(key)
        first, second, third = key
        if isinstance(second, str):
            node_type = self.graph.node_types[int(self.graph.node_type[first])]
            name = self.graph.feature_name(node_type, third)
            return f"{name if second == 'x' else f'{second} {third}'} of {self._node(first)}"
        labels, relation = self.graph.labels, self.graph.relation_name(third) if third >= 0 else ""
        return f"{labels[first]}{f' {relation} ' if relation else '-'}{labels[second]}"

    def _node(self, number: int) -> str:
        label = str(self.graph.labels[number])
        return f"node {label}" if label.isdecimal() else label
