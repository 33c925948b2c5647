"""A Graph: one ``Data`` or ``HeteroData`` of the user's, checked, in one form for both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ig_core import Cat, InputError, Layout, Stack
from ig_graphs.scored import Kind, Relation, tensor_name

COUNT = "all nodes"
"""What the tensor that counts the nodes of a type is called; no identifier, so no model has it."""

WHOLE = ("", "")
"""The kind of what belongs to a graph as a whole."""


NODES, EDGES = 2**14, 2**16
"""Nodes and edges in one pass at most: many small graphs take less time in a few large passes."""

OF_EDGES = ("edges", "edge_attr", "edge_weight")
"""What edges of a graph without types mostly have: that they are there, features, a weight."""

_KNOWN = ("edge_index", "adj_t", "batch", "ptr")
"""What the graph itself and its place in a batch are made of."""


@dataclass(frozen=True, eq=False)
class Column:
    """One tensor of a graph, and how those of many graphs are put together."""

    kind: Any
    """Its node type or relation; :data:`WHOLE` for what belongs to the graph."""
    name: str
    value: Tensor
    layout: Layout

    @property
    def key(self) -> str:
        """What it is called in a batch."""
        return self.name if self.kind == WHOLE else tensor_name(self.kind, self.name)

    @property
    def counts_nodes(self) -> bool:
        """Whether its values are positions of nodes."""
        return isinstance(self.layout, Cat) and self.layout.into is not None


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes by type, edges by relation, and all other tensors that the data has.

    A homogeneous graph has the single node type ``""`` and the single relation ``("", "", "")``.
    """

    sizes: Mapping[str, int]
    edges: Mapping[Relation, Int[Tensor, "2 edges"]]
    columns: Sequence[Column]
    labels: Sequence[str]
    """What every node is called, node type after node type."""
    features: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What the node features are called, where that is known."""
    named: bool = False
    """Whether the user has given the labels."""
    weighted: bool = False
    """Whether an adjacency gave weights to the edges, which a model has to take."""
    edge_types: Sequence[str] = ()
    """What the types are called that ``edge_type`` counts, in a homogeneous graph."""
    smiles: str | None = None

    @property
    def hetero(self) -> bool:
        """Whether nodes have types."""
        return "" not in self.sizes

    @property
    def kinds(self) -> dict[str, Kind]:
        """The node type or relation of every tensor that can move, in the order of the graph."""
        order: list[Kind] = [*self.sizes, *self.edges]
        found: dict[str, Kind] = {tensor_name(r, "edges"): r for r in self.edges}
        found |= {c.key: c.kind for c in self.columns if c.kind in order}
        return dict(sorted(found.items(), key=lambda item: order.index(item[1])))

    def at(self, node_type: str, node: int) -> int:
        """The number of a node among those of all types."""
        before = 0
        for name, size in self.sizes.items():
            if name == node_type:
                break
            before += size
        return before + node

    def ends(self) -> list[list[int]]:
        """Both ends of every edge, relation after relation, in the numbers of all types."""
        if not self.hetero:
            own: list[list[int]] = self.edges["", "", ""].t().tolist()
            return own
        parts = [
            edge_index + torch.tensor([[self.at(source, 0)], [self.at(target, 0)]])
            for (source, _, target), edge_index in (
                (relation, found.cpu()) for relation, found in self.edges.items()
            )
        ]
        pairs: list[list[int]] = torch.cat(parts, dim=1).t().tolist() if parts else []
        return pairs

    def tensors(self) -> dict[str, Tensor]:
        """All that a pass needs of the graph: a row for every node, the edges, and the rest."""
        device = next(iter(self.edges.values())).device if self.edges else None
        found = {
            tensor_name(node_type, COUNT): torch.zeros(size, dtype=torch.bool, device=device)
            for node_type, size in self.sizes.items()
        }
        found |= {tensor_name(r, "edge_index"): ends for r, ends in self.edges.items()}
        return found | {column.key: column.value for column in self.columns}

    def layouts(self, *, alone: bool, per_layer: bool) -> dict[str, Layout]:
        """How these share a batch, and masks on edges; ``alone`` is for one graph at a time."""
        layouts: dict[str, Layout] = {
            tensor_name(t, COUNT): Cat(capacity=1 if alone else NODES) for t in self.sizes
        }
        for relation in self.edges:
            into = tensor_name(relation[0], COUNT), tensor_name(relation[2], COUNT)
            ends = Cat(dim=1, into=into, capacity=EDGES)
            layouts[tensor_name(relation, "edge_index")] = ends
            layouts[tensor_name(relation, "edges")] = Cat(dim=int(per_layer), capacity=EDGES)
        for column in self.columns:
            room = EDGES if column.kind in self.edges else NODES
            united = isinstance(column.layout, Cat)
            layouts[column.key] = replace(column.layout, capacity=room) if united else column.layout
        return layouts

    def display(self, most: int) -> dict[str, Any]:
        """What a result keeps of the graph for its views; no edges if there are more than that."""
        count = sum(edge_index.size(1) for edge_index in self.edges.values())
        types = next((c.value for c in self.columns if c.key == "edge_type" and c.kind), None)
        told: dict[str, Any] = {
            "nodes": list(self.labels),
            "node_types": [[node_type, size] for node_type, size in self.sizes.items()],
            "edges": self.ends() if count <= most else [],
            "relations": [[list(r), ends.size(1)] for r, ends in self.edges.items()],
        }
        if types is not None and types.dim() == 1 and not types.is_floating_point():
            numbers = types.tolist() if count <= most else []
            names = self.edge_types or [f"type {i}" for i in range(max(numbers, default=-1) + 1)]
            told |= {"edge_types": list(names), "edge_type": numbers}
        if self.features:
            told["features"] = {
                node_type: list(names) for node_type, names in self.features.items()
            }
        return told | ({} if self.smiles is None else {"smiles": self.smiles})


def read(data: Any) -> Graph:
    """A user's graph.

    Raises:
        InputError: it is none, or its features, edges or labels do not fit each other.
    """
    from torch_geometric.data import Batch, Data, HeteroData

    if isinstance(data, HeteroData) and not isinstance(data, Batch):
        return _heterogeneous(data)
    if not isinstance(data, Data) or isinstance(data, Batch):
        raise InputError(
            "a graph is a torch_geometric.data.Data or HeteroData, or a pair (data, index) "
            f"(got {type(data).__name__})"
        )
    return _homogeneous(data)


def _homogeneous(data: Any) -> Graph:
    x = data.x
    if x is not None and (not isinstance(x, Tensor) or x.dim() == 0):
        hint = "; two kinds of nodes make a HeteroData" if isinstance(x, (tuple, list)) else ""
        raise InputError(f"a graph needs node features x, one row per node (got {_told(x)}{hint})")
    size = len(x) if x is not None else data.num_nodes
    if not size:
        raise InputError(f"a graph needs node features x, one row per node (got {_told(x)})")
    edge_index, weight = _edges_of(data)
    relation = ("", "", "")
    edges = {relation: _checked_edges(edge_index, size, size, "")}
    columns = []
    for key in data.keys():  # noqa: SIM118 - iterating over data gives pairs
        value = data[key]
        if isinstance(value, Tensor) and value.layout == torch.strided and key not in _KNOWN:
            columns.append(_column(data, key, value, size, edges[relation].size(1)))
    if weight is not None and data.get("edge_weight") is None:
        columns.append(Column(relation, "edge_weight", weight, Cat()))
    labels = _labels(data, size, "data")
    types = _names(data, "edge_type_names")
    smiles = data.get("smiles")
    return Graph(
        {"": size},
        edges,
        columns,
        labels or [str(i) for i in range(size)],
        _features(data, ""),
        named=bool(labels),
        weighted=weight is not None,
        edge_types=types,
        smiles=smiles if isinstance(smiles, str) else None,
    )


def _heterogeneous(data: Any) -> Graph:
    sizes = {}
    for node_type in data.node_types:
        found = data[node_type].num_nodes
        if found is None:
            raise InputError(
                f"the number of {node_type!r} nodes is not known: give data[{node_type!r}].x, one "
                f"row per node, or data[{node_type!r}].num_nodes"
            )
        sizes[node_type] = int(found)
    if not sizes or not sum(sizes.values()):
        raise InputError("a heterogeneous graph needs node types with nodes (got none)")
    edges: dict[Relation, Tensor] = {}
    columns = []
    weighted = False
    for relation in data.edge_types:
        source, _, target = relation
        if missing := [end for end in (source, target) if end not in sizes]:
            raise InputError(f"the relation {relation} joins {missing[0]!r}, which has no nodes")
        store = data[relation]
        edge_index, weight = _edges_of(store)
        edges[relation] = _checked_edges(
            edge_index, sizes[source], sizes[target], f" of {relation}"
        )
        count = edges[relation].size(1)
        columns += [
            _plain(relation, key, value, count)
            for key, value in store.items()
            if isinstance(value, Tensor) and key not in (*_KNOWN, "edge_label_index", "edge_label")
        ]
        weighted |= weight is not None
        if weight is not None and "edge_weight" not in store:
            columns.append(Column(relation, "edge_weight", weight, Cat()))
    for node_type, size in sizes.items():
        columns += [
            _plain(node_type, key, value, size)
            for key, value in data[node_type].items()
            if isinstance(value, Tensor) and key not in _KNOWN
        ]
    columns += [
        Column(WHOLE, key, value if value.dim() else value.view(1), Cat())
        for key, value in data._global_store.items()
        if isinstance(value, Tensor)
    ]
    labels = [
        label
        for node_type, size in sizes.items()
        for label in _labels(data[node_type], size, f"data[{node_type!r}]")
        or [f"{node_type} {i}" for i in range(size)]
    ]
    features = {t: names for t in sizes for names in _features(data[t], t).values()}
    return Graph(sizes, edges, columns, labels, features, named=True, weighted=weighted)


def _edges_of(store: Any) -> tuple[Any, Tensor | None]:
    """The edge index of a store, made from an adjacency if need be, with the latter's weights."""
    from torch_geometric.utils import is_sparse, to_edge_index

    found = store.get("edge_index") if hasattr(store, "get") else None
    transposed = False
    if found is None:
        found, transposed = store.get("adj_t"), True
    if not is_sparse(found):
        return (None if transposed else found), None
    # What is sparse holds targets by sources, as adj_t does.
    ends, weight = to_edge_index(found)
    ones = weight is None or not weight.is_floating_point() or bool((weight == 1).all())
    return ends.flip(0).contiguous(), None if ones else weight


def _checked_edges(edge_index: Any, sources: int, targets: int, of: str) -> Int[Tensor, "2 edges"]:
    from torch_geometric import EdgeIndex

    if not isinstance(edge_index, Tensor):
        raise InputError(
            f"a graph needs edge_index{of} (got {type(edge_index).__name__}); without edges it is "
            "torch.empty(2, 0, dtype=torch.long)"
        )
    if edge_index.dtype != torch.long or edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise InputError(
            f"edge_index{of} must be torch.int64 of shape (2, edges) "
            f"(got {edge_index.dtype} of shape {tuple(edge_index.shape)})"
        )
    if edge_index.is_meta:
        raise InputError(f"edge_index{of} is on 'meta', without numbers")
    ends = edge_index.aminmax(dim=1) if edge_index.numel() else ()
    low, high = (end.tolist() for end in ends) if ends else ([0, 0], [-1, -1])
    for row, size in enumerate((sources, targets)):
        if low[row] >= 0 and high[row] < size:
            continue
        outside = ((edge_index[row] < 0) | (edge_index[row] >= size)).nonzero().view(-1)
        if len(outside):
            edge = int(outside[0])
            raise InputError(
                f"edge_index{of} must hold nodes from 0 to {size - 1} in row {row} "
                f"(got {edge_index[:, edge].tolist()} at edge {edge})"
            )
    # The metadata of an EdgeIndex (sorted, sizes) would not hold for a union of graphs.
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def _column(data: Any, key: str, value: Tensor, nodes: int, edges: int) -> Column:
    """A tensor of homogeneous data, batched by the rules of PyG."""
    value = value if value.dim() else value.view(1)
    dim, step = data.__cat_dim__(key, value), data.__inc__(key, value)
    if isinstance(step, Tensor) or step not in (0, nodes):
        raise InputError(
            f"{key!r} counts something else than nodes in a batch (its __inc__ is {step}); only "
            "positions of nodes can be shifted"
        )
    if dim is None:
        return Column(WHOLE, key, value, Stack())
    if key in OF_EDGES and len(value) != edges:
        raise InputError(
            f"{key!r} must have a row for each of the {edges} edges (got {tuple(value.shape)})"
        )
    layout = Cat(dim=dim, into=COUNT if step else None)
    kind: Any = WHOLE
    if step == 0 and dim == 0:
        node, edge = len(value) == nodes, len(value) == edges
        if edge and ("edge" in key or not node):
            kind = ("", "", "")
        elif node and not ("edge" in key and edge):
            kind = ""
    return Column(kind, key, value, layout)


def _plain(kind: Kind, key: str, value: Tensor, count: int) -> Column:
    """A tensor of one node type or relation: a row for each node or edge."""
    if value.layout == torch.strided and (value.dim() == 0 or len(value) != count):
        what = f"{kind!r} nodes" if isinstance(kind, str) else f"edges of {kind}"
        raise InputError(
            f"{key!r} must have a row for each of the {count} {what} "
            f"(got shape {tuple(value.shape)})"
        )
    return Column(kind, key, value, Cat())


def _names(store: Any, key: str) -> list[str]:
    """The names that are kept so, none by default."""
    found = store[key] if key in store else None  # noqa: SIM401 - stores have no such get
    found = found.tolist() if isinstance(found, Tensor) else found
    if isinstance(found, str) or not isinstance(found, (Iterable, type(None))):
        raise InputError(f"{key} must be a list of names (got {found!r:.60})")
    return [str(name) for name in found or ()]


def _labels(store: Any, size: int, named: str) -> list[str]:
    """The names of the nodes, if there are any."""
    labels = _names(store, "labels")
    if labels and len(labels) != size:
        raise InputError(f"{named}.labels must have one entry per node, {size} (got {len(labels)})")
    return labels


def _features(store: Any, node_type: str) -> dict[str, list[str]]:
    """The names of the node features, if there are any."""
    names = _names(store, "feature_names")
    x = store["x"] if "x" in store else None  # noqa: SIM401 - stores have no such get
    if names and (not isinstance(x, Tensor) or len(names) != x[0].numel()):
        wide = x[0].numel() if isinstance(x, Tensor) else "no"
        raise InputError(
            f"feature_names must have one entry per feature of x, {wide} (got {len(names)})"
        )
    return {node_type: names} if names else {}


def _told(x: Any) -> str:
    return str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__
