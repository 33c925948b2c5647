"""The graph of a result: its nodes and edges under one numbering, with their scores.

Nodes of all types are numbered one type after another, and so are edges one relation after
another; a homogeneous graph has one node type, ``""``, and one relation, ``("", "", "")``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core import Attribution, InputError

Relation = tuple[str, str, str]
"""Source type, name and target type; the relation of a homogeneous graph is ``("", "", "")``."""

Kind = str | Relation
"""A node type or a relation."""

OF_EDGES = ("edges", "edge_attr", "edge_weight")
"""What of an edge can be explained: that it is there, its features, its weight."""


def tensor_name(kind: Kind, attribute: str) -> str:
    """What the tensor of one type is called in ``Attribution.tensors``.

    >>> tensor_name("", "x"), tensor_name("paper", "x")
    ('x', 'paper.x')
    >>> tensor_name(("author", "writes", "paper"), "edges")
    'author__writes__paper.edges'
    """
    name = kind if isinstance(kind, str) else "__".join(kind) if any(kind) else ""
    return f"{name}.{attribute}" if name else attribute


@dataclass(frozen=True, eq=False)
class ScoredGraph:
    """The nodes and edges of one result, with a score for each.

    ``nodes`` and ``edges`` are None where nothing of them was explained; a part of them that was
    not has the score 0. ``features`` are the values of the node features, by node type.
    ``marked`` are the explained nodes.
    """

    labels: Sequence[str]
    node_type: Int[Tensor, " nodes"]
    node_types: Sequence[str]
    edge_index: Int[Tensor, "2 edges"]
    relation: Int[Tensor, " edges"]
    relations: Sequence[Relation]
    nodes: Float[Tensor, " nodes"] | None
    edges: Float[Tensor, " edges"] | None
    features: Mapping[str, Float[Tensor, "nodes features"]]
    feature_names: Mapping[str, Sequence[str]]
    marked: Sequence[int]

    def feature_name(self, node_type: str, number: int) -> str:
        """What a feature of the nodes of one type is called."""
        names = self.feature_names.get(node_type, ())
        return names[number] if names else f"feature {number}"

    def relation_name(self, edge: int) -> str:
        """The name of an edge's relation, empty in a homogeneous graph."""
        return self.relations[int(self.relation[edge])][1]


def scored(attribution: Attribution) -> ScoredGraph:
    """The graph that an attribution of the domain ``"graphs"`` is about.

    Raises:
        InputError: it is of another domain, or its graph was too large to be kept with it.
    """
    display = attribution.display
    if not {"nodes", "node_types", "edges", "relations"} <= display.keys():
        raise InputError(
            "expected the attribution of a graph (got one of domain "
            f"{attribution.provenance.get('domain')!r})"
        )
    counts = [count for _, count in display["relations"]]
    if len(display["edges"]) != sum(counts):
        raise InputError(
            f"the result of a graph with {sum(counts)} edges does not keep them; its values are "
            "in attribution.tensors"
        )
    node_types = [name for name, _ in display["node_types"]]
    sizes = [count for _, count in display["node_types"]]
    relations = [_relation(parts) for parts, _ in display["relations"]]
    tensors = attribution.tensors
    return ScoredGraph(
        labels=display["nodes"],
        node_type=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        node_types=node_types,
        edge_index=torch.tensor(display["edges"], dtype=torch.long).view(-1, 2).t(),
        relation=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)),
        relations=relations,
        nodes=_summed(
            tensors,
            [(t, n, _of_nodes(tensors, t)) for t, n in zip(node_types, sizes, strict=True)],
        ),
        edges=_summed(tensors, [(r, n, OF_EDGES) for r, n in zip(relations, counts, strict=True)]),
        features={
            name: tensors[tensor_name(name, "x")].flatten(1)
            for name in node_types
            if tensor_name(name, "x") in tensors
        },
        feature_names=display.get("features", {}),
        marked=display["index"],
    )


def _of_nodes(tensors: Mapping[str, Tensor], node_type: str) -> Sequence[str]:
    """What was explained of the nodes of a type: all that is not of an edge."""
    own = [name.rpartition(".")[::2] for name in tensors]
    return [name for kind, name in own if kind == node_type and name not in OF_EDGES]


def _relation(parts: Sequence[Any]) -> Relation:
    source, name, target = parts
    return str(source), str(name), str(target)


def _summed(
    tensors: Mapping[str, Tensor], groups: Sequence[tuple[Kind, int, Sequence[str]]]
) -> Tensor | None:
    """The sum over all that was explained of each node or edge, type after type."""
    known = False
    parts = []
    for kind, count, attributes in groups:
        total = torch.zeros(count, dtype=torch.float64)
        for attribute in attributes:
            value = tensors.get(tensor_name(kind, attribute))
            if value is not None:
                known = True
                wide = value.double()
                layers = attribute == "edges" and wide.dim() == 2
                total = total + (wide.sum(0) if layers else wide.reshape(count, -1).sum(1))
        parts.append(total)
    return torch.cat(parts) if known else None
