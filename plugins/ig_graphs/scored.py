"""The graph of a result: its nodes and edges under one numbering, with their scores.

Nodes of all types are numbered one type after another, and so are edges one relation after
another; a homogeneous graph has one node type, ``""``, and one relation, ``("", "", "")``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core import Attribution, InputError

Relation = tuple[str, str, str]
"""Source type, name and target type; the relation of a homogeneous graph is ``("", "", "")``."""

Kind = str | Relation
"""A node type or a relation."""

Of = Literal["edges", "nodes"]
"""What a finding is about."""


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

    Where only a part of a large graph can matter, it is that part.

    >>> graph = scored(edges)
    >>> graph.edge_index.tolist(), graph.edges.tolist(), graph.marked
    ([[1, 2, 3], [0, 0, 0]], [2.0, -4.0, 8.0], [0])

    Raises:
        InputError: it is of another domain, or its graph was too large to be kept with it.
    """
    check_graph(attribution)
    display = attribution.display
    node_types, relations = sizes_of(display), counts_of(display)
    counts = list(relations.values())
    if len(display["edges"]) != sum(counts):
        raise InputError(
            f"the result of a graph with {sum(counts)} edges does not keep them; its values are "
            "in attribution.tensors"
        )
    tensors = _own(attribution)
    sizes = list(node_types.values())
    kind = torch.repeat_interleave(
        torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long)
    )
    named = list(relations)
    if display.get("edge_type"):
        kind = torch.tensor(display["edge_type"])
        named = [("", str(name), "") for name in display["edge_types"]]
    return ScoredGraph(
        labels=display["nodes"],
        node_type=torch.repeat_interleave(
            torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long)
        ),
        node_types=list(node_types),
        edge_index=torch.tensor(display["edges"], dtype=torch.long).view(-1, 2).t(),
        relation=kind,
        relations=named,
        nodes=_summed(tensors, node_types),
        edges=_summed(tensors, relations),
        features={name: _rows(tensors[name, "x"]) for name in node_types if (name, "x") in tensors},
        feature_names=display.get("features", {}),
        marked=display["index"],
    )


def check_graph(attribution: Attribution) -> None:
    """Whether an attribution is one of the domain ``"graphs"``.

    Raises:
        InputError: it is not.
    """
    needed = {"nodes", "node_types", "edges", "relations", "of_edges"}
    if not needed <= attribution.display.keys():
        raise InputError(
            "expected the attribution of a graph (got one of domain "
            f"{attribution.provenance.get('domain')!r})"
        )


def by_layer(attribution: Attribution) -> Float[Tensor, "layers edges"] | None:
    """The scores of the edges that are drawn in every layer; None where layers share a mask.

    A relation that was not explained has the score 0, as a layer has that another type lacks.
    """
    relations = counts_of(attribution.display)
    found = {
        relation: value.double()
        for (relation, attribute), value in _own(attribution).items()
        if relation in relations and along(attribute, value) == 1
    }
    if not found:
        return None
    most = max(len(value) for value in found.values())
    parts = []
    for relation, count in relations.items():
        own = found.get(relation, torch.zeros(0, count, dtype=torch.float64))
        parts.append(torch.cat([own, own.new_zeros(most - len(own), count)]))
    return torch.cat(parts, dim=1)


def along(name: str, value: Tensor) -> int:
    """The dimension of a tensor that counts nodes or edges; masks per layer have it last."""
    return 1 if name.rpartition(".")[2] == "edges" and value.dim() == 2 else 0


def sizes_of(display: Mapping[str, Any]) -> dict[str, int]:
    """How many nodes of every type are drawn."""
    return {str(name): count for name, count in display["node_types"]}


def counts_of(display: Mapping[str, Any]) -> dict[Relation, int]:
    """How many edges of every relation are drawn."""
    found = {}
    for (source, name, target), count in display["relations"]:
        found[str(source), str(name), str(target)] = count
    return found


def kinds_of(display: Mapping[str, Any], names: Iterable[str]) -> dict[str, Kind]:
    """The node type or relation of every tensor that belongs to one."""
    found: dict[str, Kind] = {}
    for name in names:
        every: Iterable[Kind] = (
            counts_of(display) if name in display["of_edges"] else sizes_of(display)
        )
        attribute = name.rpartition(".")[2]
        found.update((name, kind) for kind in every if name == tensor_name(kind, attribute))
    return found


def kept_of(display: Mapping[str, Any]) -> dict[Kind, Int[Tensor, " kept"]]:
    """The nodes and edges of the whole graph that a part of it keeps."""
    part = display["part"]
    kinds: list[Kind] = [*sizes_of(display), *counts_of(display)]
    ids = [*part["nodes"], *part["edges"]]
    return {k: torch.tensor(i, dtype=torch.long) for k, i in zip(kinds, ids, strict=True)}


def located(attribution: Attribution) -> dict[str, tuple[Kind, str, Int[Tensor, " kept"]]]:
    """Of every tensor its node type or relation, its attribute, and the rows that are drawn."""
    display = attribution.display
    counts: dict[Kind, int] = {**sizes_of(display), **counts_of(display)}
    ids = kept_of(display) if display.get("whole") else {}
    kinds = kinds_of(display, attribution.tensors)
    return {
        name: (kind, name.rpartition(".")[2], ids.get(kind, torch.arange(count)))
        for kind, count in counts.items()
        for name in kinds
        if kinds[name] == kind
    }


def first_of(display: Mapping[str, Any]) -> dict[Kind, int]:
    """The number of the first node of every type, and of the first edge of every relation."""
    found: dict[Kind, int] = {}
    for group in (sizes_of(display), counts_of(display)):
        begin = 0
        for kind, count in group.items():
            found[kind] = begin
            begin += count
    return found


def _own(attribution: Attribution) -> dict[tuple[Kind, str], Tensor]:
    """The values by node type or relation and by attribute, of the part that is drawn."""
    return {
        (kind, attribute): (
            attribution.tensors[name].index_select(along(name, attribution.tensors[name]), rows)
            if attribution.display.get("whole")
            else attribution.tensors[name]
        )
        for name, (kind, attribute, rows) in located(attribution).items()
    }


def _rows(value: Float[Tensor, "items ..."]) -> Float[Tensor, "items numbers"]:
    """The numbers of each node or edge in a row, also where it has a single one."""
    return value.flatten(1) if value.dim() > 1 else value[:, None]


def _summed(
    tensors: Mapping[tuple[Kind, str], Tensor], kinds: Mapping[Any, int]
) -> Float[Tensor, " items"] | None:
    """The sum over all that was explained of each node or edge, type after type."""
    known = False
    parts = []
    for kind, count in kinds.items():
        total = torch.zeros(count, dtype=torch.float64)
        for (own, attribute), value in tensors.items():
            if own == kind:
                known = True
                layers = along(attribute, value) == 1
                wide = value.double() if layers else _rows(value).double()
                total = total + wide.sum(0 if layers else 1)
        parts.append(total)
    return torch.cat(parts) if known else None
