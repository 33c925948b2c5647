"""Masks on messages: what travels along an edge is multiplied by the mask of that edge.

The game is *message*: the layer's coefficients (degree normalisation, attention) are those of the
full graph at every mask, and with mask 0 nothing arrives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import ModelError


@contextmanager
def masked_messages(
    modules: Sequence[nn.Module],
    edge_index: Int[Tensor, "2 edges"],
    mask: Float[Tensor, " edges"],
    nodes: int,
) -> Iterator[None]:
    """Inside, every message passing layer multiplies its messages by ``mask``.

    A self-loop that a layer adds is masked where the graph has that self-loop, else it stays.

    Raises:
        ModelError: a layer's edges are not those of the graph, or no layer passed a message.
    """
    from torch_geometric.nn import MessagePassing

    layers = {m for root in modules for m in root.modules() if isinstance(m, MessagePassing)}
    graph = _Graph(edge_index, nodes)
    factors = torch.cat([mask, mask.new_ones(1)])
    places: dict[nn.Module, Tensor] = {}
    reached: set[nn.Module] = set()

    def before(layer: Any, inputs: tuple[Any, Any, Mapping[str, Any]]) -> None:
        places[layer] = graph.places(layer, *inputs)

    def after(layer: Any, inputs: Any, messages: Any) -> Tensor:
        reached.add(layer)
        return _times(layer, messages, factors.index_select(0, places[layer]))

    handles = []
    try:
        for layer in layers:
            handles.append(layer.register_propagate_forward_pre_hook(before))
            handles.append(layer.register_message_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()
    if silent := [type(layer).__name__ for layer in places if layer not in reached]:
        raise ModelError(
            f"{silent[0]} aggregates without a message that could be masked (a fused kernel); "
            "give it a plain edge_index, or explain='x'"
        )
    if not reached:
        raise ModelError(
            f"no message of {len(layers)} message passing layers could be masked: edges can be "
            "explained in torch_geometric MessagePassing layers of an uncompiled nn.Module; "
            "explain='x' works for any model"
        )


class _Graph:
    """The edges of the packed graphs, found again in what a layer receives."""

    def __init__(self, edge_index: Int[Tensor, "2 edges"], nodes: int) -> None:
        self.edge_index = edge_index
        self.nodes = nodes
        self._last: tuple[Tensor, Tensor] | None = None

    def places(
        self, layer: nn.Module, seen: Any, size: Any, arguments: Mapping[str, Any]
    ) -> Int[Tensor, " messages"]:
        """The edge of every message, or the number of edges for a self-loop that was added."""
        if not isinstance(seen, Tensor) or seen.layout != torch.strided or seen.dim() != 2:
            raise ModelError(
                f"{type(layer).__name__} receives a sparse adjacency, along which single messages "
                "cannot be masked; let the model pass edge_index, or explain='x'"
            )
        if self._last is None or not torch.equal(seen, self._last[0]):
            self._last = seen, self._find(layer, seen, size, arguments)
        return self._last[1]

    def _find(self, layer: Any, seen: Tensor, size: Any, arguments: Mapping[str, Any]) -> Tensor:
        if torch.equal(seen, self.edge_index):
            return torch.arange(seen.size(1), device=seen.device)
        count = _node_count(size, arguments, layer.node_dim)
        if count not in (None, self.nodes):
            raise ModelError(
                f"{type(layer).__name__} works on {count} nodes, the graph has {self.nodes}: after "
                "pooling, messages no longer belong to edges of the graph; use explain='x'"
            )
        kept = self._straight
        if not torch.equal(seen[:, : len(kept)], self.edge_index[:, kept]):
            kept = kept[:0]
        return torch.cat([kept, self._look_up(layer, seen[:, len(kept) :])])

    @cached_property
    def _straight(self) -> Int[Tensor, " edges"]:
        """All edges but self-loops."""
        return (self.edge_index[0] != self.edge_index[1]).nonzero().view(-1)

    def _look_up(self, layer: nn.Module, seen: Int[Tensor, "2 messages"]) -> Tensor:
        """Edges by their two ends."""
        own, order = self._key(self.edge_index).sort()
        wanted = self._key(seen)
        first = torch.searchsorted(own, wanted)
        copies = torch.searchsorted(own, wanted, right=True) - first
        if bool((copies > 1).any()):
            pair = seen[:, copies > 1][:, 0].tolist()
            raise ModelError(
                f"{type(layer).__name__} reorders or merges edges, and {pair} occurs more than "
                "once: torch_geometric.utils.coalesce makes the edges of the graph unique"
            )
        unknown = (copies == 0) & (seen[0] != seen[1])
        if bool(unknown.any()):
            raise ModelError(
                f"{type(layer).__name__} passes a message along {seen[:, unknown][:, 0].tolist()}, "
                "which is no edge of the graph; use explain='x'"
            )
        added = torch.full_like(wanted, len(own))
        return torch.where(copies == 1, torch.cat([order, added[:1]])[first], added)

    def _key(self, edge_index: Tensor) -> Int[Tensor, " edges"]:
        return edge_index[0] * self.nodes + edge_index[1]


def _node_count(size: Any, arguments: Mapping[str, Any], node_dim: int) -> int | None:
    """How many nodes a layer works on: its size, or else that of its first tensor argument."""
    if size is not None and size[0] is not None:
        return int(size[0])
    for value in arguments.values():
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if isinstance(part, Tensor) and part.dim():
                return part.size(node_dim if -part.dim() <= node_dim < part.dim() else 0)
    return None


def _times(layer: Any, messages: Any, factor: Float[Tensor, " messages"]) -> Tensor:
    if not isinstance(messages, Tensor) or messages.size(layer.node_dim) != len(factor):
        got = tuple(messages.shape) if isinstance(messages, Tensor) else type(messages).__name__
        raise ModelError(
            f"{type(layer).__name__} must give one message per edge, {len(factor)} along dimension "
            f"{layer.node_dim} (got {got}); use explain='x'"
        )
    shape = [1] * messages.dim()
    shape[layer.node_dim] = -1
    return messages * factor.to(messages.dtype).view(shape)
