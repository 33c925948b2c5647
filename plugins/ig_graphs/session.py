"""A Session: what is found out once about a model and a graph, and used for the rest of a call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core import IGError, InputError, ModelError, Selector
from ig_graphs.call import PAIR, Call, call_of
from ig_graphs.games import Game, refused
from ig_graphs.graph import Graph, read
from ig_graphs.layers import Layers, layers_of
from ig_graphs.model import GraphModel
from ig_graphs.place import Level, Place, place_of
from ig_graphs.reach import Part, chosen_edges, cut, neighbourhood, scaled
from ig_graphs.scored import Relation
from ig_graphs.whole import Wholes

SMALL = 100
"""Graphs of so many nodes are not cut: finding out what to leave out would take longer."""

VERIFIED = 4
"""So many parts of a graph are compared with the whole all along the path.

Those after them are compared at the input where that is for free: at level ``"node"`` the output of
the whole graph is known for all nodes. At level ``"edge"`` they are trusted.
"""

ALONG = (0.35, 0.01)
"""Where parts are compared besides the input: what is left out may count at other features only."""

SUBSETS = 2
"""So many random subsets of the edges are tried before edges are said to exist or not."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One graph at one place, as the model takes it: the whole of it or a part."""

    graph: Graph
    whole: Graph
    place: Place
    origin: Place
    """The place in the whole graph."""
    part: Part | None
    model: GraphModel


class Session:
    """The graphs of one call; a graph with several explained places is read once."""

    def __init__(
        self,
        model: Any,
        modules: Sequence[nn.Module],
        *,
        level: Level,
        game: Game,
        output: Selector,
        restrict: bool,
        moving: Collection[str],
    ) -> None:
        self.model = model
        self.modules = modules
        self.level = level
        self.game = game
        self.explained = output
        self.restrict = restrict
        self.moving = moving
        self.wholes = Wholes()
        self._opened: tuple[Any, Graph, Call] | None = None
        self._types: tuple[str, ...] | None = None
        self._calls: dict[object, Call] = {}
        self._everywhere: dict[float, Tensor] = {}
        self._survey: tuple[int, Mapping[Relation, int]] | None = None
        self._verified = 0
        self._exists: set[Place] = set()

    def see(self, data: Any, index: Any) -> Seen:
        """A graph of the user's at one place.

        Raises:
            InputError: it is no graph, or not one that the model can be given.
        """
        graph, call = self._open(data)
        if self.level == "edge" and not call.takes(PAIR):
            raise InputError(
                "level='edge' needs a model that takes edge_label_index, the pairs of nodes to "
                f"score (its forward takes {', '.join(call.roles)})"
            )
        place = place_of(self.level, index, graph)
        if self._types not in (None, place.types):
            types = sorted({*self._types, *place.types})
            raise InputError(
                f"the explained nodes of one call must be of one type (got {', '.join(types)}); "
                "make a call for each type"
            )
        self._types = place.types
        model = GraphModel(
            self.model,
            layers=self._layers,
            level=self.level,
            game=self.game,
            output=self.explained,
            call=call,
            graph=graph,
            node_types=place.types,
        )
        part = self._part(model, place)
        if part is None:
            return Seen(graph, graph, place, place, None, model)
        own, kept = part
        return Seen(own, graph, kept.inside(place), place, kept, model)

    def output(self, seen: Seen) -> Float[Tensor, " outputs"]:
        """What the model says of the whole graph at that place, as a flat tensor."""
        return self._at(seen.model, seen.origin)

    def layers(self, relation: Relation, seen: Seen) -> int:
        """How often messages are passed along a relation, at least once."""
        return max(1, self._surveyed(seen.model, seen.origin)[1].get(relation, 0))

    def check_existence(self, seen: Seen) -> None:
        """Whether masks of 0 and 1 give what the graph without those edges gives.

        Raises:
            InputError: they do not: the model has no answer to what an edge is worth.
        """
        # The output at one node is that of all nodes; that of one pair says nothing of others.
        model, place = seen.model, seen.origin
        known = place if self.level == "edge" else Place(())
        if known in self._exists:
            return
        graph, generator = model.graph, torch.Generator().manual_seed(0)
        for share in (*[0.5] * SUBSETS, 0.0):
            chosen = {
                r: torch.rand(ends.size(1), generator=generator) < share
                for r, ends in graph.edges.items()
            }
            less = chosen_edges(graph, chosen)
            masked = model.everywhere(graph, place, chosen)
            removed = model.everywhere(less, place)
            if not _close(masked, removed):
                raise refused([*self._layers.names])
        self._exists.add(known)

    def _open(self, data: Any) -> tuple[Graph, Call]:
        """The graph of some data, with the tensors that the model is given, and how it is."""
        if self._opened is None or self._opened[0] is not data:
            graph = read(data)
            call = self._called(graph)
            self._opened = data, replace(graph, columns=call.columns(graph)), call
            self._everywhere, self._verified, self._exists = {}, 0, set()
        return self._opened[1:]

    def _part(self, model: GraphModel, place: Place) -> tuple[Graph, Part] | None:
        """The part of the graph that a place depends on, if something can be left out."""
        graph = model.graph
        if not self.restrict or self.level == "graph" or sum(graph.sizes.values()) <= SMALL:
            return None
        try:
            depth = self._surveyed(model, place)[0]
        except ModelError:
            return None  # there are no messages to count
        part = neighbourhood(graph, place.seeds(), depth + 1, self._layers.flows_back)
        if sum(map(len, part.nodes.values())) == sum(graph.sizes.values()):
            return None
        own = cut(graph, part)
        if own is None or not self._same(model, place, own, part):
            return None
        return own, part

    @cached_property
    def _layers(self) -> Layers:
        return layers_of(self.modules)

    def _called(self, graph: Graph) -> Call:
        """How the model takes a graph, found out once for graphs that have the same."""
        has = graph.hetero, graph.weighted, frozenset(column.name for column in graph.columns)
        if has not in self._calls:
            self._calls[has] = call_of(self.model, graph)
        return self._calls[has]

    def _same(self, model: GraphModel, place: Place, own: Graph, part: Part) -> bool:
        """Whether a part gives what the whole graph gives."""
        trusted = self._verified >= VERIFIED
        if trusted and self.level != "node":
            return True
        inside = part.inside(place)
        for share in (1.0, *(() if trusted else ALONG)):
            try:
                found = model.everywhere(scaled(own, self.moving, share), inside)
                whole = self._at(model, place, share)
            except IGError:  # the model fails on a part, or there
                return False
            at = found[inside.numbers[0]] if self.level == "node" else found
            if not _close(at.reshape(-1), whole):
                return False
        self._verified += 1
        return True

    def _at(self, model: GraphModel, place: Place, share: float = 1.0) -> Tensor:
        """The output for the whole graph with this share of what moves."""
        if self.level == "node" and share in self._everywhere:
            return self._everywhere[share][place.numbers[0]].reshape(-1)
        found = model.everywhere(scaled(model.graph, self.moving, share), place)
        if self.level != "node":
            return found.reshape(-1)
        self._everywhere[share] = found
        return found[place.numbers[0]].reshape(-1)

    def _surveyed(self, model: GraphModel, place: Place) -> tuple[int, Mapping[Relation, int]]:
        if self._survey is None:
            depth, trace = model.surveyed(model.graph, place)
            self._survey = depth, {r: trace.layers(r) for r in model.graph.edges}
        return self._survey


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs agree but for rounding."""
    if one.shape != other.shape or not one.is_floating_point():
        return one.shape == other.shape and torch.equal(one, other)
    size = max(float(one.abs().max()), float(other.abs().max())) if one.numel() else 0.0
    return float((one - other).abs().max()) <= 1e3 * torch.finfo(one.dtype).eps * max(size, 1e-9)
