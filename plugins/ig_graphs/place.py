"""Place: where in the output of a model, hence in a graph, the explained number is."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ig_core import Cat, InputError, Layout
from ig_graphs.call import PAIR
from ig_graphs.graph import COUNT, Graph
from ig_graphs.scored import tensor_name

NODE = "explained node"
"""No identifier, so that no argument of a model can have this name."""

Level = Literal["node", "edge", "graph"]

WANTED: Mapping[str, int] = {"graph": 0, "node": 1, "edge": 2}
"""How many nodes say where the output is."""


@dataclass(frozen=True)
class Place:
    """The explained node, or the pair of them, or none, each by its type and number."""

    nodes: tuple[tuple[str, int], ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The type of each node."""
        return tuple(node_type for node_type, _ in self.nodes)

    @property
    def numbers(self) -> list[int]:
        """The number of each node among those of its type."""
        return [number for _, number in self.nodes]

    def seeds(self) -> dict[str, list[int]]:
        """The nodes by type."""
        found: dict[str, list[int]] = {}
        for node_type, number in self.nodes:
            found.setdefault(node_type, []).append(number)
        return found

    def tensors(self, device: Any) -> dict[str, Tensor]:
        """The tensor that says where the output is."""
        where = torch.tensor(self.numbers, dtype=torch.long, device=device)
        named = {0: {}, 1: {NODE: where}, 2: {PAIR: where.view(-1, 1)}}
        return named[len(self.nodes)]

    def layouts(self) -> dict[str, Layout]:
        """How that shares a batch."""
        into = tuple(tensor_name(node_type, COUNT) for node_type in self.types)
        return {
            0: {},
            1: {NODE: Cat(into=into)},
            2: {PAIR: Cat(dim=1, into=into)},
        }[len(self.nodes)]

    def told(self, graph: Graph) -> str:
        """Where in the graph, in words."""
        labels = [graph.labels[graph.at(*node)] for node in self.nodes]
        names = labels if graph.named else [f"node {label}" for label in labels]
        return f" at {' and '.join(names)}" if names else ""


def place_of(level: Level, index: Any, graph: Graph) -> Place:
    """Where in this graph a user's index is.

    Raises:
        InputError: it is none for this level, or outside of the graph.
    """
    wanted = WANTED[level]
    if wanted == 0 and index is not None:
        raise InputError(f"level='graph' explains the whole graph (got index={index!r})")
    several = [] if index is None else index if wanted == 2 else [index]
    try:
        nodes = [_node(one, graph) for one in several]
    except TypeError:
        nodes = []
    if len(nodes) != wanted:
        kind = "(type, number), such as ('paper', 3)" if graph.hetero else "the number of a node"
        pair = "a pair (('user', 3), ('item', 5))" if graph.hetero else "a pair of nodes (u, v)"
        raise InputError(
            f"level={level!r} needs index, {pair if wanted == 2 else kind} (got {index!r}); "
            "a list has one for each of several results"
        )
    for node_type, number in nodes:
        if node_type not in graph.sizes:
            raise InputError(
                f"there are no nodes of type {node_type!r} in the graph (got {index!r}; there are "
                f"{', '.join(graph.sizes)})"
            )
        if not 0 <= number < graph.sizes[node_type]:
            of = f" of type {node_type!r}" if graph.hetero else ""
            raise InputError(
                f"index must lie in 0 to {graph.sizes[node_type] - 1}, the nodes{of} "
                f"(got {index!r})"
            )
    return Place(tuple(nodes))


def _node(given: Any, graph: Graph) -> tuple[str, int]:
    """The type and number of one node; TypeError where it is none."""
    if isinstance(given, bool) or (isinstance(given, Tensor) and given.dtype == torch.bool):
        raise TypeError
    if not graph.hetero:
        return "", operator.index(given)
    if isinstance(given, Sequence) and len(given) == 2 and isinstance(given[0], str):
        return given[0], operator.index(given[1])
    raise TypeError
