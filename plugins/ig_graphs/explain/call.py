"""A Called is a call of a model as PyG makes it, taken apart into its graphs and places."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ig_core import InputError
from ig_graphs.call import PAIR, signature
from ig_graphs.explain.explanation import Parts
from ig_graphs.scored import Kind, along

COUNTS = ("batch_size", "num_graphs", "num_nodes")
"""Arguments that count, which are others where other graphs are packed."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One graph of the call, and which nodes and edges of the call it has; all if nothing."""

    data: Any
    kept: Mapping[Kind, Int[Tensor, " kept"]]


@dataclass(frozen=True)
class Spot:
    """A row of the output: the graph that it belongs to, and where in it."""

    piece: int
    index: Any


class AsCalled(nn.Module):
    """A model that gets features and edges by position and all else by name, as PyG does it."""

    def __init__(self, model: Any, names: Sequence[str], plain: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model

        def forward(**given: Any) -> Any:
            x, edge_index = given.pop("x"), given.pop("edge_index")
            return model(x, edge_index, **given, **plain)

        own = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        forward.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        self.forward: Callable[..., Any] = forward


@dataclass(frozen=True, eq=False)
class Called:
    """``model(x, edge_index, **kwargs)``; ``plain`` arguments are no tensors of the graph."""

    model: Any
    x: Any
    edge_index: Any
    kwargs: Mapping[str, Any]
    plain: Mapping[str, Any]
    pairs: Int[Tensor, "2 pairs"] | None
    pieces: Sequence[Piece]

    @classmethod
    def of(cls, model: Any, x: Any, edge_index: Any, kwargs: Mapping[str, Any], level: str) -> Any:
        """The call with these arguments.

        Raises:
            InputError: an argument is neither a tensor nor a plain value, or edges lead from one
                graph of a batch to another.
        """
        hetero = isinstance(x, Mapping)
        plain, tensors, pairs = {}, {}, None
        for name, value in kwargs.items():
            if level == "edge" and name == PAIR:
                pairs = value
            elif _is_plain(value) and name not in COUNTS:
                plain[name] = value
            elif name.removesuffix("_dict") not in ("batch", *COUNTS):
                if not isinstance(value, (Tensor, Mapping) if hetero else Tensor):
                    raise InputError(
                        f"the argument {name!r} must be a tensor, a number, a string or None to "
                        f"share a batch (got {type(value).__name__})"
                    )
                tensors[name] = value
        data = _data(x, edge_index, tensors)
        batch = kwargs.get("batch_dict", kwargs.get("batch"))
        return cls(model, x, edge_index, kwargs, plain, pairs, _pieces(data, batch))

    @property
    def hetero(self) -> bool:
        """Whether nodes have types."""
        return isinstance(self.x, Mapping)

    def outputs(self, **more: Any) -> Any:
        """What the model gives."""
        return self.model(self.x, self.edge_index, **self.kwargs, **more)

    def wrapped(self, batch: str | None) -> AsCalled:
        """The model for the domain; ``batch`` is one more argument that it takes."""
        known = [name for name in self.kwargs if name not in self.plain]
        names = ["x", "edge_index", *known, *([] if batch is None else [batch])]
        return AsCalled(self.model, names, self.plain)

    def batch_argument(self) -> str | None:
        """The argument that says which graph a node is in, if the model has it and was not told."""
        takes = signature(self.model).parameters
        name = "batch_dict" if self.hetero else "batch"
        return name if name in takes and name not in self.kwargs else None

    def one_graph(self) -> Any:
        """That argument for a single graph."""
        if not self.hetero:
            return torch.zeros(len(self.x), dtype=torch.long, device=self.x.device)
        return {
            t: torch.zeros(len(x), dtype=torch.long, device=x.device) for t, x in self.x.items()
        }

    def spots(self, rows: Sequence[int], count: int, level: str, node_type: Any) -> list[Spot]:
        """Where these of ``count`` rows of the output are.

        Raises:
            InputError: the rows are not the graphs, nodes or pairs of the call.
        """
        if level == "graph":
            if count != len(self.pieces):
                raise InputError(
                    f"task_level='graph' needs an output row for each of {len(self.pieces)} graphs "
                    f"(got {count} rows); the argument batch= tells graphs apart"
                )
            return [Spot(row, None) for row in rows]
        if level == "node":
            return self._nodes(rows, self._type(count, node_type))
        return self._pairs(rows, count, node_type)

    def whole(self, values: Parts, piece: int) -> Parts:
        """The values of one graph among zeros for the others, where the features are."""
        kept = self.pieces[piece].kept
        device = next(iter(self.x.values())).device if self.hetero else self.x.device
        values = {key: value.to(device) for key, value in values.items()}
        if not kept:
            return values
        found = {}
        for (kind, attribute), value in values.items():
            size = sum(len(one.kept[kind]) for one in self.pieces)
            dim = along(attribute, value)
            shape = [*value.shape]
            shape[dim] = size
            found[kind, attribute] = value.new_zeros(shape).index_copy(dim, kept[kind], value)
        return found

    def _type(self, count: int, node_type: Any) -> str:
        """The type of the nodes that the rows are."""
        sizes = {t: len(x) for t, x in self.x.items()} if self.hetero else {"": len(self.x)}
        fitting = [t for t, size in sizes.items() if size == count and node_type in (None, t)]
        if len(fitting) == 1:
            return fitting[0]
        there = ", ".join(f"{size} {t!r}" if t else str(size) for t, size in sizes.items())
        if fitting:
            raise InputError(
                f"the output has {count} rows, and there are {there} nodes: IGExplainer("
                f"node_type={fitting[0]!r}) says whose these are"
            )
        of = "" if node_type is None else f" of type {node_type!r}"
        raise InputError(
            f"task_level='node' needs an output row for each node{of} (got {count} rows for "
            f"{there} nodes)"
        )

    def _nodes(self, rows: Sequence[int], node_type: str) -> list[Spot]:
        found = []
        for row in rows:
            piece, node = self._inside(node_type, row)
            found.append(Spot(piece, (node_type, node) if self.hetero else node))
        return found

    def _pairs(self, rows: Sequence[int], count: int, node_type: Any) -> list[Spot]:
        if self.pairs is None or count != self.pairs.size(1):
            got = "none" if self.pairs is None else f"{self.pairs.size(1)} pairs"
            raise InputError(
                f"task_level='edge' needs the argument {PAIR}, a pair of nodes for each of the "
                f"{count} rows of the output (got {got})"
            )
        types = (node_type, node_type) if not isinstance(node_type, tuple) else node_type
        if not self.hetero:
            types = ("", "")
        elif not all(isinstance(one, str) for one in types):
            raise InputError(
                "the types at both ends of the pairs are not known: IGExplainer(node_type=("
                f"'user', 'item')) names them (there are {', '.join(self.x)})"
            )
        found = []
        for row in rows:
            pair = self.pairs[:, row].tolist()
            ends = [self._inside(*end) for end in zip(types, pair, strict=True)]
            if ends[0][0] != ends[1][0]:
                raise InputError(f"the pair {pair} joins two graphs of the batch")
            named = tuple(
                (t, node) if self.hetero else node for t, (_, node) in zip(types, ends, strict=True)
            )
            found.append(Spot(ends[0][0], named))
        return found

    def _inside(self, node_type: str, node: int) -> tuple[int, int]:
        """The graph that a node is in, and its number there."""
        for number, piece in enumerate(self.pieces):
            if not piece.kept:
                return number, node
            at = (piece.kept[node_type] == node).nonzero()
            if len(at):
                return number, int(at)
        raise InputError(f"there is no node {node} in the call")


def _is_plain(value: Any) -> bool:
    """Whether a value is the same for all graphs."""
    scalar = isinstance(value, Tensor) and value.dim() == 0
    return value is None or scalar or isinstance(value, (bool, int, float, str))


def _data(x: Any, edge_index: Any, tensors: Mapping[str, Any]) -> Any:
    from torch_geometric.data import Data, HeteroData

    if not isinstance(x, Mapping):
        return Data(x=x, edge_index=edge_index, **tensors)
    data = HeteroData()
    several = {"x": x, "edge_index": edge_index, **tensors}
    for name, value in several.items():
        if not isinstance(value, Mapping):
            data[name] = value
            continue
        for kind, own in value.items():
            data[kind][name.removesuffix("_dict")] = own
    return data


def _pieces(data: Any, batch: Any) -> list[Piece]:
    """The graphs of a call."""
    hetero = isinstance(batch, Mapping)
    batches = dict(batch) if hetero else {"": batch}
    graphs = max((int(one.max()) + 1 for one in batches.values() if one is not None), default=1)
    if graphs <= 1:
        return [Piece(data, {})]
    relations = data.edge_types if hetero else [("", "", "")]
    if hetero and (missing := [t for t in data.node_types if t not in batches]):
        raise InputError(f"batch says nothing of the nodes of type {missing[0]!r}")
    owners: dict[Any, Tensor] = dict(batches)
    for relation in relations:
        ends = data[relation].edge_index if hetero else data.edge_index
        source, target = (batches[t][row] for t, row in zip(relation[::2], ends, strict=True))
        if not torch.equal(source, target):
            edge = int((source != target).nonzero()[0])
            raise InputError(f"edge {ends[:, edge].tolist()} leads from one graph to another")
        owners[relation] = source
    return [_piece(data, owners, number, graphs) for number in range(graphs)]


def _piece(data: Any, owners: Mapping[Any, Tensor], number: int, graphs: int) -> Piece:
    """One graph of several."""
    kept = {kind: (owner == number).nonzero().view(-1) for kind, owner in owners.items()}
    hetero = "" not in owners
    out = type(data)()
    for store in data.stores if hetero else [data._store]:
        kind = getattr(store, "_key", None) if hetero else None
        own = out if kind is None else out[kind]
        for name, value in store.items():
            if name == "edge_index":
                relation = kind or ("", "", "")
                ends = value[:, kept[relation]]
                of = (kept[t] for t in relation[::2])
                # Nodes are kept in their order, so that their numbers are places in it.
                rows = [torch.searchsorted(one, row) for one, row in zip(of, ends, strict=True)]
                own[name] = torch.stack(rows)
                continue
            of = kind if kind is not None else _owner(name, value, owners, graphs, hetero)
            if isinstance(of, (str, tuple)):
                own[name] = value[kept[of]]
            else:
                own[name] = value[number : number + 1] if of else value
    return Piece(out, kept)


def _owner(
    name: str, value: Tensor, owners: Mapping[Any, Tensor], graphs: int, hetero: bool
) -> Kind | bool:
    """What a tensor of the call has rows for: nodes, edges, graphs (True) or none (False)."""
    if "index" in name:
        raise InputError(
            f"{name!r} counts nodes of all graphs of the call; explain one graph at a time"
        )
    if not hetero:
        node, edge = (len(value) == len(owners[kind]) for kind in ("", ("", "", "")))
        if edge and ("edge" in name or not node):
            return ("", "", "")
        if node:
            return ""
    return len(value) == graphs
