"""A Session: what is found out once about a model and a graph, and used for the rest of a call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import IGError, InputError, ModelError
from ig_graphs.call import PAIR, Call, call_of
from ig_graphs.games import refused
from ig_graphs.graph import Graph, read
from ig_graphs.layers import Layers, layers_of
from ig_graphs.model import GraphModel
from ig_graphs.place import Place, place_of
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
        self, options: Mapping[str, Any], *, restrict: bool, moving: Collection[str]
    ) -> None:
        self.options = dict(options)
        self._modules = self.options.pop("modules")
        self.restrict = restrict
        self.moving = moving
        self.model: GraphModel | None = None
        self.wholes = Wholes()
        self._data: Any = None
        self._graph: Graph | None = None
        self._call: Any = None
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
        if self._graph is None or self._data is not data:
            self._graph = read(data)
            self._call = self._called(self._graph)
            columns = self._call.columns(self._graph)
            self._graph = replace(self._graph, columns=columns)
            self._data, self._everywhere = data, {}
            self._verified, self._exists = 0, set()
        graph = self._graph
        level = self.options["level"]
        if level == "edge" and not self._call.takes(PAIR):
            raise InputError(
                "level='edge' needs a model that takes edge_label_index, the pairs of nodes to "
                f"score (its forward takes {', '.join(self._call.roles)})"
            )
        place = place_of(level, index, graph)
        if self.model is not None and self.model.node_types != place.types:
            types = sorted({*self.model.node_types, *place.types})
            raise InputError(
                f"the explained nodes of one call must be of one type (got {', '.join(types)}); "
                "make a call for each type"
            )
        self.model = GraphModel(
            **self.options,
            layers=self._layers,
            call=self._call,
            graph=graph,
            node_types=place.types,
        )
        part = self._part(place)
        if part is None:
            return Seen(graph, graph, place, place, None, self.model)
        own, kept = part
        return Seen(own, graph, kept.inside(place), place, kept, self.model)

    def output(self, seen: Seen) -> Float[Tensor, " outputs"]:
        """What the model says of the whole graph at that place, as a flat tensor."""
        return self._at(seen.origin)

    def layers(self, relation: Relation, place: Place) -> int:
        """How often messages are passed along a relation, at least once."""
        return max(1, self._surveyed(place)[1].get(relation, 0))

    def check_existence(self, place: Place) -> None:
        """Whether masks of 0 and 1 give what the graph without those edges gives.

        Raises:
            InputError: they do not: the model has no answer to what an edge is worth.
        """
        # The output at one node is that of all nodes; that of one pair says nothing of others.
        known = place if self.options["level"] == "edge" else Place(())
        if known in self._exists:
            return
        assert self.model is not None and self._graph is not None
        graph, generator = self._graph, torch.Generator().manual_seed(0)
        for share in (*[0.5] * SUBSETS, 0.0):
            chosen = {
                r: torch.rand(ends.size(1), generator=generator) < share
                for r, ends in graph.edges.items()
            }
            less = chosen_edges(graph, chosen)
            masked = self.model.everywhere(graph, place, chosen)
            removed = self.model.everywhere(less, place)
            if not _close(masked, removed):
                raise refused([*self._layers.names])
        self._exists.add(known)

    def _part(self, place: Place) -> tuple[Graph, Part] | None:
        """The part of the graph that a place depends on, if something can be left out."""
        graph, level = self._graph, self.options["level"]
        assert graph is not None and self.model is not None
        if not self.restrict or level == "graph" or sum(graph.sizes.values()) <= SMALL:
            return None
        try:
            depth = self._surveyed(place)[0]
        except ModelError:
            return None  # there are no messages to count
        part = neighbourhood(graph, place.seeds(), depth + 1, self._layers.flows_back)
        if sum(map(len, part.nodes.values())) == sum(graph.sizes.values()):
            return None
        own = cut(graph, part)
        if own is None or not self._same(place, own, part):
            return None
        return own, part

    @cached_property
    def _layers(self) -> Layers:
        return layers_of(self._modules)

    def _called(self, graph: Graph) -> Call:
        """How the model takes a graph, found out once for graphs that have the same."""
        has = graph.hetero, graph.weighted, frozenset(column.name for column in graph.columns)
        if has not in self._calls:
            self._calls[has] = call_of(self.options["model"], graph)
        return self._calls[has]

    def _same(self, place: Place, own: Graph, part: Part) -> bool:
        """Whether a part gives what the whole graph gives."""
        trusted = self._verified >= VERIFIED
        if trusted and self.options["level"] != "node":
            return True
        assert self.model is not None
        inside = part.inside(place)
        for share in (1.0, *(() if trusted else ALONG)):
            try:
                found = self.model.everywhere(scaled(own, self.moving, share), inside)
                whole = self._at(place, share)
            except IGError:  # the model fails on a part, or there
                return False
            at = found[inside.numbers[0]] if self.options["level"] == "node" else found
            if not _close(at.reshape(-1), whole):
                return False
        self._verified += 1
        return True

    def _at(self, place: Place, share: float = 1.0) -> Tensor:
        """The output for the whole graph with this share of what moves."""
        assert self.model is not None and self._graph is not None
        if self.options["level"] == "node" and share in self._everywhere:
            return self._everywhere[share][place.numbers[0]].reshape(-1)
        found = self.model.everywhere(scaled(self._graph, self.moving, share), place)
        if self.options["level"] != "node":
            return found.reshape(-1)
        self._everywhere[share] = found
        return found[place.numbers[0]].reshape(-1)

    def _surveyed(self, place: Place) -> tuple[int, Mapping[Relation, int]]:
        if self._survey is None:
            assert self.model is not None and self._graph is not None
            depth, trace = self.model.surveyed(self._graph, place)
            self._survey = depth, {r: trace.layers(r) for r in self._graph.edges}
        return self._survey


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs agree but for rounding."""
    if one.shape != other.shape or not one.is_floating_point():
        return one.shape == other.shape and torch.equal(one, other)
    size = max(float(one.abs().max()), float(other.abs().max())) if one.numel() else 0.0
    return float((one - other).abs().max()) <= 1e3 * torch.finfo(one.dtype).eps * max(size, 1e-9)
