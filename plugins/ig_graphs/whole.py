"""The whole of a graph, of which a part was explained: all the rest is exactly zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ig_core import Attribution, Example, Units
from ig_graphs.graph import Graph
from ig_graphs.scored import Kind, along, kept_of, kinds_of
from ig_graphs.units import units_of


class Wholes:
    """The graphs of a call of which parts are explained, by the units of the part."""

    def __init__(self) -> None:
        self._graphs: dict[Units, Graph] = {}
        self._units: dict[tuple[Graph, tuple[str, ...]], Units] = {}

    def remember(self, units: Units, graph: Graph) -> None:
        """Say which graph a part was cut from."""
        self._graphs[units] = graph

    def completed(self, result: Attribution) -> Attribution:
        """The result for all nodes and edges of its graph.

        What a view draws is still the part, whose nodes and edges the display lists.
        """
        graph = self._graphs.get(result.units)
        if graph is None:
            return result
        names = tuple(result.tensors)
        tensors, kept = _spread_out(result, graph)
        if (graph, names) not in self._units:
            self._units[graph, names] = units_of(graph, tensors)
        units = self._units[graph, names]
        place = torch.zeros(len(result.units), dtype=torch.long)
        for name, index in result.units.index.items():
            own = units.index[name]
            found = own.index_select(own.dim() - 1 if own.dim() == 2 else 0, kept[name])
            place[index.reshape(-1)] = found.reshape(-1)

        def widened(values: Tensor | None) -> Tensor | None:
            if values is None:
                return None
            return values.new_zeros(len(units)).index_copy(0, place, values)

        return replace(
            result,
            tensors=tensors,
            units=units,
            uncertainty=widened(result.uncertainty),
            spread=widened(result.spread),
            display={**result.display, "whole": True},
        )


def within(example: Example, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the whole graph where the example is a part of it; those of the part stay.

    One row is the start of every node or edge.
    """
    found = dict(given)
    for name, value in given.items():
        like = example.inputs[name]
        if isinstance(value, Tensor) and like.dim() > 1 and value.shape == like.shape[1:]:
            found[name] = value.expand_as(like).clone()
    if "part" not in example.display:
        return found
    part, kept = example.display["part"], kept_of(example.display)
    sizes = dict(zip(kept, [*part["sizes"], *part["counts"]], strict=True))
    for name, kind in kinds_of(example.display, given).items():
        value, dim = found[name], along(name, example.inputs[name])
        whole = isinstance(value, Tensor) and value.dim() > dim
        if whole and value.size(dim) == sizes[kind]:
            found[name] = value.index_select(dim, kept[kind].to(value.device))
    return found


def _spread_out(
    result: Attribution, graph: Graph
) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
    """The values in a graph of zeros, and which rows of it they are."""
    sizes: dict[Kind, int] = {**graph.sizes, **{r: e.size(1) for r, e in graph.edges.items()}}
    ids = kept_of(result.display)
    tensors, kept = {}, {}
    for name, value in result.tensors.items():
        kind = graph.kinds[name]
        kept[name] = ids[kind]
        dim = along(name, value)
        shape = [*value.shape]
        shape[dim] = sizes[kind]
        tensors[name] = value.new_zeros(shape).index_copy(dim, kept[name], value)
    return tensors, kept
