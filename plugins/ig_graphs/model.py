"""A GraphModel: what a user's model says at the explained place of every graph of a pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core import ForwardError, IGError, OutputError, Selector, pick
from ig_graphs.call import Call
from ig_graphs.games import Game
from ig_graphs.graph import Graph
from ig_graphs.known import Alignment
from ig_graphs.layers import Layers
from ig_graphs.masks import Trace, masked_messages
from ig_graphs.place import NODE, Level, Place
from ig_graphs.reach import Depth
from ig_graphs.scored import Relation, tensor_name


@dataclass(frozen=True, eq=False)
class GraphModel:
    """A model, how it takes its graphs, and which part of its output is read.

    ``graph`` is an example of the graphs: it says which types of nodes and edges there are.
    """

    model: Any
    layers: Layers
    level: Level
    game: Game
    output: Selector
    call: Call
    graph: Graph
    node_types: tuple[str, ...]

    def __call__(
        self,
        tensors: Mapping[str, Tensor],
        owners: Mapping[str, Int[Tensor, " nodes"]],
        graphs: int,
    ) -> Float[Tensor, "graphs ..."]:
        """The output at the place of each of the packed graphs, with the masks in ``tensors``."""
        outputs = self._everywhere(tensors, owners, graphs)
        return outputs[tensors[NODE]] if self.level == "node" else outputs

    def everywhere(
        self,
        graph: Graph,
        place: Place,
        chosen: Mapping[Relation, Bool[Tensor, " edges"]] | None = None,
    ) -> Float[Tensor, "places ..."]:
        """The output for one graph; at level ``"node"`` for all of its nodes.

        ``chosen`` edges have the mask 1 and all others 0; without it there are no masks.
        """
        tensors = self._tensors(graph, place)
        for relation, own in (chosen or {}).items():
            wide = next((v.dtype for v in tensors.values() if v.is_floating_point()), None)
            ends = graph.edges[relation]
            tensors[tensor_name(relation, "edges")] = own.to(ends.device, wide or torch.float32)
        with torch.no_grad(), _named(graph):
            return self._everywhere(tensors, self._one(graph), 1)

    def surveyed(self, graph: Graph, place: Place) -> tuple[int, Trace]:
        """How many layers there are in a row, and along which relations each passes messages.

        Raises:
            ModelError: the messages of a layer cannot be followed.
        """
        depth, trace = Depth(), Trace()
        with torch.enable_grad(), _named(graph):
            self._everywhere(self._tensors(graph, place), self._one(graph), 1, depth, trace)
        return depth.deepest, trace

    def _tensors(self, graph: Graph, place: Place) -> dict[str, Tensor]:
        # Copies, because a model may work in place.
        tensors = {name: value.clone() for name, value in graph.tensors().items()}
        return tensors | place.tensors(next(iter(tensors.values())).device)

    def _one(self, graph: Graph) -> dict[str, Tensor]:
        device = next(iter(graph.tensors().values())).device
        return {
            t: torch.zeros(size, dtype=torch.long, device=device) for t, size in graph.sizes.items()
        }

    def _everywhere(
        self,
        tensors: Mapping[str, Tensor],
        owners: Mapping[str, Tensor],
        graphs: int,
        depth: Depth | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        masks = {
            relation: tensors[key]
            for relation in self.graph.edges
            if (key := tensor_name(relation, "edges")) in tensors
        }
        given = self.call.arguments(self.graph, tensors, owners, graphs)
        with ExitStack() as stack:
            if depth is not None or any(mask.numel() for mask in masks.values()):
                edges = {r: tensors[tensor_name(r, "edge_index")] for r in self.graph.edges}
                sizes = {node_type: len(owner) for node_type, owner in owners.items()}
                alignment = Alignment(
                    edges, sizes, owners=owners.get(""), edge_type=tensors.get("edge_type")
                )
                masked = masked_messages(
                    self.layers, alignment, masks, self.game, depth=depth, trace=trace
                )
                stack.enter_context(masked)
            outputs = self.model(**given)
        return self._rows(outputs, owners, graphs)

    def _rows(self, outputs: Any, owners: Mapping[str, Tensor], graphs: int) -> Tensor:
        """The tensor to explain; at level ``"node"`` it has a row for each node."""
        by_type = self.call.hetero and self.level == "node" and isinstance(outputs, Mapping)
        if self.output is None and by_type:
            [node_type] = self.node_types
            if node_type not in outputs:
                raise OutputError(
                    f"the model gives nothing for the nodes of type {node_type!r} (got "
                    f"{', '.join(map(repr, outputs))})"
                )
            outputs = outputs[node_type]
        found = pick(outputs, self.output)
        if self.level != "node":
            nodes = sum(map(len, owners.values()))
            if self.level == "graph" and found.dim() and graphs != len(found) == nodes:
                raise OutputError(
                    f"level='graph' needs one output per row, which is a graph: expected {graphs} "
                    f"(got shape {tuple(found.shape)}, a row per node); level='node' with index "
                    "explains a node"
                )
            return found
        count = len(owners[self.node_types[0]])
        if found.dim() == 0 or len(found) != count:
            raise OutputError(
                f"level='node' needs an output row per node: expected {count} for the "
                f"{graphs} graphs of this pass (got shape {tuple(found.shape)})"
            )
        return found


@contextmanager
def _named(graph: Graph) -> Iterator[None]:
    """What a model raises as an error of ours."""
    try:
        yield
    except IGError:
        raise
    except Exception as error:
        told = f"{type(error).__name__} on a graph of {sum(graph.sizes.values())} nodes: {error}"
        raise ForwardError(f"the model raised {told}") from error
