"""Reach: the part of a graph that the output at some nodes depends on, cut out and put back.

An output after L message passing layers depends on the features within L hops. The layers'
coefficients may depend on one hop more, as the degrees of the outermost senders do, so that a
graph is cut at L + 1 hops.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from ig_core import Stack
from ig_graphs.graph import WHOLE, Column, Graph
from ig_graphs.place import Place
from ig_graphs.scored import Relation


@dataclass(frozen=True, eq=False)
class Part:
    """Which nodes of every type, and which edges of every relation, are in a part of a graph."""

    nodes: Mapping[str, Int[Tensor, " kept"]]
    edges: Mapping[Relation, Int[Tensor, " kept"]]

    def of(self, column: Column) -> Tensor | None:
        """The rows of a tensor that are kept, or None for all."""
        return self.nodes.get(column.kind, self.edges.get(column.kind))

    def inside(self, place: Place) -> Place:
        """A place of the graph in the numbers of the part."""
        numbers = ((t, int(torch.searchsorted(self.nodes[t], node))) for t, node in place.nodes)
        return Place(tuple(numbers))

    def display(self, graph: Graph) -> dict[str, Any]:
        """What a result keeps of it, to be put back into the whole graph."""
        return {
            "sizes": list(graph.sizes.values()),
            "counts": [edge_index.size(1) for edge_index in graph.edges.values()],
            "nodes": [kept.tolist() for kept in self.nodes.values()],
            "edges": [kept.tolist() for kept in self.edges.values()],
        }


class Depth:
    """How many layers in a row pass messages on: a call is one deeper than those it builds on.

    Each call's messages are multiplied by a one that autograd follows, so that a later call shows
    whether it depends on them, whatever the values are.
    """

    def __init__(self) -> None:
        self.ones: list[tuple[Tensor, int]] = []
        self.deepest = 0
        self._now: dict[nn.Module, int] = {}

    def before(self, layer: nn.Module, arguments: Mapping[str, Any]) -> None:
        """Look at what a call is given."""
        given = [
            part
            for value in arguments.values()
            for part in (value if isinstance(value, (tuple, list)) else (value,))
            if isinstance(part, Tensor) and part.requires_grad
        ]
        depth = 0
        if given and self.ones:
            found = torch.autograd.grad(
                sum(part.sum() for part in given),
                [one for one, _ in self.ones],
                allow_unused=True,
                retain_graph=True,
            )
            pairs = zip(found, self.ones, strict=True)
            depth = max((d for g, (_, d) in pairs if g is not None), default=0)
        self._now[layer] = depth + 1
        self.deepest = max(self.deepest, depth + 1)

    def one(self, layer: nn.Module, like: Tensor) -> Tensor:
        """The one that the messages of this call are multiplied by."""
        one = like.new_ones(()).requires_grad_()
        self.ones.append((one, self._now[layer]))
        return one


def neighbourhood(
    graph: Graph, seeds: Mapping[str, Sequence[int]], hops: int, both: bool = False
) -> Part:
    """The nodes from which messages reach the seeds in so many hops, and the edges among them.

    ``both`` follows edges in both directions, for layers whose messages go from target to source.
    """
    inside = {
        node_type: torch.zeros(size, dtype=torch.bool) for node_type, size in graph.sizes.items()
    }
    for node_type, nodes in seeds.items():
        inside[node_type][list(nodes)] = True
    edges = {relation: edge_index.cpu() for relation, edge_index in graph.edges.items()}
    for _ in range(hops):
        reached = {node_type: known.clone() for node_type, known in inside.items()}
        for (source, _, target), (begin, end) in edges.items():
            reached[source][begin[inside[target][end]]] = True
            if both:
                reached[target][end[inside[source][begin]]] = True
        if all(torch.equal(reached[node_type], inside[node_type]) for node_type in inside):
            break
        inside = reached
    return Part(
        {node_type: known.nonzero().view(-1) for node_type, known in inside.items()},
        {
            (source, name, target): (inside[source][begin] & inside[target][end]).nonzero().view(-1)
            for (source, name, target), (begin, end) in edges.items()
        },
    )


def chosen_edges(graph: Graph, chosen: Mapping[Relation, Bool[Tensor, " edges"]]) -> Graph:
    """The graph with only these of its edges, and with all of its nodes."""
    kept = {r: one.nonzero().view(-1).to(graph.edges[r].device) for r, one in chosen.items()}
    columns = [
        replace(column, value=column.value[kept[column.kind]]) if column.kind in kept else column
        for column in graph.columns
    ]
    edges = {relation: ends[:, kept[relation]] for relation, ends in graph.edges.items()}
    return replace(graph, edges=edges, columns=columns)


def scaled(graph: Graph, names: Collection[str], share: float) -> Graph:
    """The graph with this share of its features of these names."""
    columns = [
        replace(column, value=column.value * share)
        if share != 1 and column.value.is_floating_point() and {column.name, column.key} & {*names}
        else column
        for column in graph.columns
    ]
    return replace(graph, columns=columns)


def cut(graph: Graph, part: Part) -> Graph | None:
    """The graph of a part; None where a tensor does not say which nodes or edges it belongs to."""
    if not all(map(_belongs, graph.columns)):
        return None
    edges = {}
    for relation, edge_index in graph.edges.items():
        place = {}
        for end in {relation[0], relation[2]}:
            own = torch.full((graph.sizes[end],), -1, dtype=torch.long)
            own[part.nodes[end]] = torch.arange(len(part.nodes[end]))
            place[end] = own.to(edge_index.device)
        kept = edge_index[:, part.edges[relation].to(edge_index.device)]
        edges[relation] = torch.stack([place[relation[0]][kept[0]], place[relation[2]][kept[1]]])
    columns = [
        column
        if (kept := part.of(column)) is None
        else replace(column, value=column.value[kept.to(column.value.device)])
        for column in graph.columns
    ]
    whole = [i for t, kept in part.nodes.items() for i in (kept + graph.at(t, 0)).tolist()]
    return replace(
        graph,
        sizes={node_type: len(kept) for node_type, kept in part.nodes.items()},
        edges=edges,
        columns=columns,
        labels=[graph.labels[i] for i in whole],
        smiles=None,
    )


def _belongs(column: Column) -> bool:
    """Whether a tensor belongs to nodes, to edges or to the graph as a whole."""
    alone = isinstance(column.layout, Stack) or len(column.value) == 1
    return not column.counts_nodes and (column.kind != WHOLE or alone)
