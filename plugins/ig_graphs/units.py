"""Units of a graph: what its nodes and edges are called, and other groupings of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ig_core import Attribution, InputError, Units
from ig_graphs.graph import Graph
from ig_graphs.scored import Relation, along

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
    """Other units of a result; see :meth:`ig_graphs.GraphDomain.regroup`."""
    raise InputError(f"a graph has the units {', '.join(GROUPINGS)} (got {by!r})")
