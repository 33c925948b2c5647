"""Call: how a graph model takes its graph, argument by argument and by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ig_core import InputError
from ig_graphs.graph import WHOLE, Column, Graph
from ig_graphs.scored import tensor_name

PAIR = "edge_label_index"
"""The argument that takes the pairs of nodes to score."""

OWN = ("edge_index", "batch", "batch_size", "num_graphs", "num_nodes", PAIR)
"""What a model is given that is no tensor of the data."""

ADJACENCY = ("adj_t", "adj")


@dataclass(frozen=True, eq=False)
class Call:
    """What every argument of a model's ``forward`` gets; ``whole`` names one that gets a batch.

    ``roles`` leads from the name of an argument to the attribute of the data that it takes.
    """

    hetero: bool
    roles: Mapping[str, str]
    known: frozenset[str]
    """The tensors of the data, given to the model or not."""
    whole: str = ""

    def columns(self, graph: Graph) -> Sequence[Column]:
        """The tensors of a graph that the model is given."""
        taken = set(self.roles.values())
        return [column for column in graph.columns if self.whole or column.name in taken]

    def takes(self, attribute: str) -> bool:
        """Whether the model is given this."""
        return bool(self.whole) or attribute in self.roles.values()

    def arguments(
        self,
        graph: Graph,
        tensors: Mapping[str, Tensor],
        owners: Mapping[str, Int[Tensor, " nodes"]],
        graphs: int,
    ) -> dict[str, Any]:
        """The keyword arguments for packed graphs, of which ``graph`` is an example."""
        if self.whole:
            return {self.whole: self._batch(graph, tensors, owners, graphs)}
        found = {}
        for name, attribute in self.roles.items():
            value = self._value(attribute, graph, tensors, owners, graphs)
            if value is not None:
                found[name] = value
        return found

    def _value(
        self,
        attribute: str,
        graph: Graph,
        tensors: Mapping[str, Tensor],
        owners: Mapping[str, Tensor],
        graphs: int,
    ) -> Any:
        if attribute in ("batch_size", "num_graphs"):
            return graphs
        if attribute == PAIR:
            return tensors.get(PAIR)
        if attribute == "num_nodes":
            counts = {node_type: len(owner) for node_type, owner in owners.items()}
            return counts if self.hetero else counts[""]
        if attribute == "batch":
            return dict(owners) if self.hetero else owners[""]
        if not self.hetero:
            return tensors.get(attribute)
        if attribute != "edge_index" and attribute in tensors:
            return tensors[attribute]
        kinds = (*graph.sizes, *graph.edges)
        known = {kind: tensor_name(kind, attribute) for kind in kinds}
        return {kind: tensors[key] for kind, key in known.items() if key in tensors} or None

    def _batch(
        self,
        graph: Graph,
        tensors: Mapping[str, Tensor],
        owners: Mapping[str, Tensor],
        graphs: int,
    ) -> Any:
        from torch_geometric.data import Batch, Data, HeteroData

        data: Any = Batch(_base_cls=HeteroData if self.hetero else Data)
        names = {column.key: column for column in graph.columns}
        for relation in graph.edges:
            store = data[relation] if self.hetero else data
            store.edge_index = tensors[tensor_name(relation, "edge_index")]
        for key, column in names.items():
            if key in tensors:
                store = data if not self.hetero or column.kind == WHOLE else data[column.kind]
                store[column.name] = tensors[key]
        for node_type, owner in owners.items():
            store = data[node_type] if self.hetero else data
            store.batch = owner
            store.num_nodes = len(owner)
            store.ptr = torch.searchsorted(owner, torch.arange(graphs + 1, device=owner.device))
        if PAIR in tensors:
            data[PAIR] = tensors[PAIR]
        data._num_graphs = graphs
        return data


def call_of(model: Any, graph: Graph) -> Call:
    """How this model takes graphs like this one.

    Raises:
        InputError: it has an argument that the data does not have, or takes no edges.
    """
    own = _parameters(model, graph.hetero)
    has = {column.name for column in graph.columns}
    needed = [p.name for p in own if p.default is p.empty]
    if len(needed) == 1 and own[0].name == needed[0] and not _attribute(needed[0], graph, has):
        return Call(graph.hetero, {}, frozenset(has), needed[0])
    roles = {p.name: found for p in own if (found := _attribute(p.name, graph, has))}
    # Only the first two arguments may be called something else than in the data.
    for place, attribute in enumerate(("x", "edge_index")):
        free = place < len(own) and own[place].name in needed and own[place].name not in roles
        if free and attribute not in roles.values() and (place or attribute in has):
            roles[own[place].name] = attribute
    names = ", ".join(p.name for p in own)
    if missing := [name for name in needed if name not in roles]:
        known = ", ".join(sorted(has | {"edge_index"}))
        raise InputError(
            f"the model needs {missing[0]!r}, a dense tensor, which the data does not have (its "
            f"forward takes {names}; the data has {known})"
        )
    if "edge_index" not in roles.values():
        raise InputError(
            "a graph model is called with x and edge_index, as model(x=..., edge_index=...); its "
            f"forward takes ({names}). Wrap it in an nn.Module whose forward takes them"
        )
    if graph.weighted and "edge_weight" not in roles.values():
        raise InputError(
            "the weights of the adjacency would be lost: the model takes no edge_weight (its "
            f"forward takes {names}), and a sparse adjacency is turned into edges, of which each "
            "has a mask. Give the model an argument edge_weight=None and hand it on to the layers"
        )
    return Call(graph.hetero, roles, frozenset(has))


def signature(model: Any) -> inspect.Signature:
    """What the arguments of a model are, also of one that was scripted or traced.

    Raises:
        InputError: that is not known.
    """
    forward: Any = model.forward if isinstance(model, nn.Module) else model
    if isinstance(model, torch.jit.ScriptModule):
        own = forward.schema.arguments[1:]
        return inspect.Signature(
            [
                inspect.Parameter(
                    argument.name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=argument.default_value
                    if argument.has_default_value()
                    else inspect.Parameter.empty,
                )
                for argument in own
            ]
        )
    try:
        return inspect.signature(forward)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the arguments of the model are not known ({error}): wrap it in an nn.Module whose "
            "forward takes (x, edge_index)"
        ) from error


def _parameters(model: Any, hetero: bool) -> Sequence[inspect.Parameter]:
    """What a model can be called with by keyword."""
    kinds = inspect.Parameter
    found = list(signature(model).parameters.values())
    own = [p for p in found if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    if own or kinds.VAR_KEYWORD not in {p.kind for p in found}:
        return own
    # Sequential takes anything and says elsewhere what that is; HeteroConv takes dicts by name.
    declared = getattr(getattr(model, "signature", None), "param_dict", None)
    names = declared or [f"{name}_dict" if hetero else name for name in ("x", "edge_index")]
    return [inspect.Parameter(name, kinds.POSITIONAL_OR_KEYWORD) for name in names]


def _attribute(name: str, graph: Graph, has: set[str]) -> str:
    """The attribute of the data that an argument of this name takes, or nothing."""
    base = name.removesuffix("_dict") if graph.hetero else name
    if base in ADJACENCY:
        return "edge_index"
    return base if base in OWN or base in has else ""
