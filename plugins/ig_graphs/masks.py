"""Masks on edges, inside one forward pass of a model.

In the game *message* what travels along an edge is multiplied by the mask of that edge: the
layer's coefficients (degree normalisation, attention) are those of the full graph at every mask,
and with mask 0 nothing arrives. In the game *existence* the coefficients are computed anew from the
masks, so that with mask 0 the graph has no such edge; see :mod:`ig_graphs.games`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core import ModelError
from ig_graphs import games
from ig_graphs.games import Game
from ig_graphs.known import ELSEWHERE, Alignment, Known
from ig_graphs.layers import Layers
from ig_graphs.reach import Depth
from ig_graphs.scored import Relation

Mask = Float[Tensor, " edges"] | Float[Tensor, "layers edges"]


@dataclass(frozen=True, eq=False)
class Trace:
    """What the layers of one pass did, in order: the relations along which each passed messages."""

    calls: list[tuple[Relation, ...]] = field(default_factory=list)

    def layers(self, relation: Relation) -> int:
        """How often messages were passed along a relation."""
        return sum(relation in call for call in self.calls)


@contextmanager
def masked_messages(
    layers: Layers,
    alignment: Alignment,
    masks: Mapping[Relation, Mask],
    game: Game,
    *,
    depth: Depth | None = None,
    trace: Trace | None = None,
) -> Iterator[None]:
    """Inside, every message passing layer works with the masks of its edges.

    A mask has a number per edge, or a row of them for every layer along the relation, in the order
    of their calls. A relation without a mask keeps its messages. A self-loop that a layer adds is
    masked where the graph has that self-loop, else it stays. ``depth`` measures how many layers
    there are in a row, ``trace`` is told of every call.

    Raises:
        ModelError: a layer's edges are not those of the graph, or no layer passed a message.
    """
    masking = _Masking(alignment, masks, game, layers, depth, trace or Trace())
    handles: list[Any] = []
    try:
        for layer in layers.names:
            handles += masking.hooked(layer)
        for module in layers.pooling:
            handles.append(module.register_forward_hook(masking.pooled, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
    masking.check()


class _Masking:
    """The hooks of one pass, and what they saw."""

    def __init__(
        self,
        alignment: Alignment,
        masks: Mapping[Relation, Mask],
        game: Game,
        layers: Layers,
        depth: Depth | None,
        trace: Trace,
    ) -> None:
        self.alignment = alignment
        self.masks = masks
        self.game = game
        self.layers = layers
        self.depth = depth
        self.trace = trace
        self.factors: dict[nn.Module, Tensor | None] = {}
        self.shared: dict[Known, Tensor | None] = {}  # the same for all layers with these edges
        self.reached: set[nn.Module] = set()
        self.turns: dict[Relation, int] = {}

    def hooked(self, layer: Any) -> list[Any]:
        """Hooks on one layer, which its handles remove."""
        handles = [
            layer.register_propagate_forward_pre_hook(self.propagates),
            layer.register_message_forward_hook(self.messages),
        ]
        way = self.layers.way(layer) if self.game == "existence" else "message"
        if way == "weight":
            handles.append(layer.register_forward_pre_hook(self.weighs, with_kwargs=True))
        elif way == "attention":
            handles.append(layer.register_edge_update_forward_hook(self.attends))
        return handles

    def propagates(self, layer: Any, inputs: tuple[Any, Any, Mapping[str, Any]]) -> None:
        seen, size, arguments = inputs
        known = self.alignment.of(layer, self.layers.names[layer], seen, size, arguments)
        if self.depth is not None:
            self.depth.before(layer, arguments)
        self.trace.calls.append(known.relations)
        inside = self.game == "existence" and self.layers.way(layer) != "message"
        self.factors[layer] = None if inside else self._factors(known)
        for relation in known.relations:
            self.turns[relation] = self.turns.get(relation, 0) + 1

    def messages(self, layer: Any, inputs: Any, messages: Any) -> Any:
        self.reached.add(layer)
        factors = self.factors[layer]
        if self.depth is not None:
            messages = messages * self.depth.one(layer, messages)
        return messages if factors is None else _times(layer, messages, factors)

    def weighs(self, layer: Any, args: Any, kwargs: Any) -> Any:
        """Hand a layer that normalises by degree the masks as weights of its edges."""
        bound = games.bound(layer, args, kwargs)
        seen = bound.arguments["edge_index"]
        known = self.alignment.of(layer, self.layers.names[layer], seen, None, {})
        mask = self._factors(known)
        if mask is not None:
            games.weigh(layer, bound, mask)
        return bound.args, bound.kwargs

    def attends(self, layer: Any, inputs: tuple[Any, Any, Any], attention: Tensor) -> Tensor:
        """Share the attention of a node among the edges that are there."""
        seen = inputs[0]
        known = self.alignment.of(layer, self.layers.names[layer], seen, None, {})
        mask = self._factors(known)
        return attention if mask is None else games.shared(layer, attention, mask, seen)

    def pooled(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Follow the edges through a pooling module."""
        before = kwargs["edge_index"] if "edge_index" in kwargs else args[1]
        self.alignment.pool(before, output[4], output[1])

    def check(self) -> None:
        """Whether every layer that could have passed messages did so where they are masked."""
        silent = [type(layer).__name__ for layer in self.factors if layer not in self.reached]
        if silent:
            raise ModelError(
                f"{silent[0]} aggregates without a message that could be masked (a fused kernel); "
                f"give it a plain edge_index, or {ELSEWHERE}"
            )
        hidden = [layer for layer in self.layers.compiled if layer not in self.reached]
        if hidden:
            kind = getattr(hidden[0], "original_name", type(hidden[0]).__name__)
            raise ModelError(
                f"no message of {kind} could be masked: it is compiled, and compiled layers "
                f"may leave out the masks; pass the model before torch.compile or torch.jit, or "
                f"{ELSEWHERE}"
            )
        if not self.reached:
            raise ModelError(
                f"no message of {len(self.layers.names)} message passing layers could be masked: "
                "edges can be explained in torch_geometric MessagePassing layers of an uncompiled "
                f"nn.Module; {ELSEWHERE}"
            )

    def _factors(self, known: Known) -> Tensor | None:
        """The masks of these edges, 1 for what is no edge; None where no mask applies."""
        if any(mask.dim() > 1 for mask in self.masks.values()):
            return self._gathered(known)
        if known not in self.shared:
            self.shared[known] = self._gathered(known)
        return self.shared[known]

    def _gathered(self, known: Known) -> Tensor | None:
        rows = {r: self._row(r) for r in known.relations if r in self.masks}
        if not rows:
            return None
        if len(self.alignment.own) == 1 and known is self.alignment.own[0]:
            return next(iter(rows.values()))
        some = next(iter(rows.values()))
        every = []
        for own in self.alignment.own:
            [relation] = own.relations
            every.append(rows.get(relation, some.new_ones(own.edge_index.size(1))))
        return torch.cat([*every, some.new_ones(1)]).index_select(0, known.places)

    def _row(self, relation: Relation) -> Tensor:
        mask = self.masks[relation]
        if mask.dim() == 1:
            return mask
        turn = self.turns.get(relation, 0)
        if not mask.size(1):  # which of several empty relations a layer receives is not known
            return mask[0]
        if turn >= len(mask):
            raise ModelError(
                f"the model passes messages more often than at its first call, {len(mask)} times; "
                "per_layer=False explains edges of such models"
            )
        return mask[turn]


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
