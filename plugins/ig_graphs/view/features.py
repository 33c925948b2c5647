"""Signed bars: what each node feature does, at the explained node and over all nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ig_core import clean
from ig_graphs.scored import ScoredGraph
from ig_graphs.view.scene import largest

MOST_BARS = 15
"""Features drawn, those of the largest magnitude."""


@dataclass(frozen=True)
class Bar:
    """One feature with its signed sum; ``share`` is its place on the scale from -1 to 1."""

    label: str
    score: float
    share: float


@dataclass(frozen=True)
class Bars:
    """The features of some nodes, the largest first; ``more`` that are not 0 are not drawn."""

    title: str
    rows: Sequence[Bar]
    more: int


def feature_bars(graph: ScoredGraph) -> Sequence[Bars]:
    """The features at the explained node, and summed over all nodes of a type."""
    first = {name: int((graph.node_type < i).sum()) for i, name in enumerate(graph.node_types)}
    several = len(graph.node_types) > 1

    def named(node_type: str, number: int) -> str:
        feature = graph.feature_name(node_type, number)
        return clean(f"{node_type}: {feature}" if several else str(feature))

    found = []
    labels = " and ".join(clean(str(graph.labels[node])) for node in graph.marked)
    own, every = [], []
    for name, values in graph.features.items():
        local = [n - first[name] for n in graph.marked]
        local = [n for n in local if 0 <= n < len(values)]
        wide = values.double()
        every += [(named(name, i), s) for i, s in enumerate(wide.sum(0).tolist())]
        if local:
            own += [(named(name, i), s) for i, s in enumerate(wide[local].sum(0).tolist())]
    if any(score for _, score in own):
        found.append(_bars(f"Features of {labels}", own))
    if any(score for _, score in every):
        found.append(_bars("Features, summed over all nodes", every))
    return found


def _bars(title: str, named: Sequence[tuple[str, float]]) -> Bars:
    present = [(label, score) for label, score in named if score]
    size = [abs(score) if math.isfinite(score) else 0.0 for _, score in present]
    order = sorted(range(len(present)), key=lambda i: -size[i])[:MOST_BARS]
    limit = largest([score for _, score in present])
    rows = [Bar(*present[i], _share(present[i][1], limit)) for i in order]
    return Bars(title, rows, len(present) - len(rows))


def _share(score: float, limit: float) -> float:
    return score / limit if limit and math.isfinite(score) else 0.0
