"""What the edges do in each layer of the model, where every layer has a mask of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from ig_core import Attribution, clean, signed
from ig_graphs.scored import ScoredGraph, by_layer

NAMED = 3
"""Edges that are named of each layer."""

MOST_DRAWN = 6
"""Layers that are drawn; a table has them all."""


@dataclass(frozen=True, eq=False)
class Layer:
    """The edges of one layer: their scores, the sum of magnitudes, the sum, the largest."""

    graph: ScoredGraph
    size: float
    score: float
    largest: str


def layers(attribution: Attribution, graph: ScoredGraph) -> Sequence[Layer]:
    """One for each layer, the one next to the input first; none where layers share a mask."""
    scores = by_layer(attribution)
    return [] if scores is None else [_layer(graph, row) for row in scores]


def _layer(graph: ScoredGraph, scores: Float[Tensor, " edges"]) -> Layer:
    size = scores.abs().nan_to_num(nan=0.0)
    told = []
    for edge in size.argsort(descending=True, stable=True)[:NAMED].tolist():
        if size[edge] > 0:
            u, v = (clean(str(graph.labels[end])) for end in graph.edge_index[:, edge].tolist())
            told.append(f"{u} \N{RIGHTWARDS ARROW} {v} {signed(float(scores[edge]))}")
    return Layer(
        replace(graph, edges=scores, nodes=None),
        float(size.sum()),
        float(scores.sum()),
        ", ".join(told),
    )
