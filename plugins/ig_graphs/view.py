"""A drawing of the graph: colour is the sign, strength is the magnitude."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ig_core import Attribution
from ig_graphs.scored import scored

MOST_EDGES = 100_000
"""Edges that a result remembers for its drawing; a larger graph is shown as bars only."""

MOST_NODES = 60
"""Nodes drawn: the explained ones, then those with the largest scores on and around them."""

RED, BLUE = "rgb(214,96,77)", "rgb(67,147,195)"
SIZE, MARGIN, RADIUS, WIDEST = 560, 40, 15, 9

Pair = tuple[int, int]


@dataclass(frozen=True)
class _Scene:
    """What is drawn of one graph."""

    labels: Sequence[str]
    nodes: Mapping[int, float]
    edges: Mapping[Pair, float]
    marked: Sequence[int]

    @property
    def limits(self) -> tuple[float, float]:
        """The largest magnitude of a node and of an edge."""
        return _largest(self.nodes.values()), _largest(self.edges.values())


def drawing(attribution: Attribution) -> str:
    """An inline SVG of the graph, or nothing if it is not known; edges both ways are one line."""
    display = attribution.display
    scene = _scene(attribution, display) if display.get("edges") else None
    if scene is None:
        return ""
    shown = f"{len(scene.nodes)} of {len(scene.labels)} nodes"
    return (
        '<figure style="margin:0"><svg role="img" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {SIZE} {SIZE}" style="width:{SIZE}px;background:#fff">'
        f"<title>{escape(f'graph, {shown}')}</title>"
        + "".join(_shapes(scene))
        + f"</svg><figcaption>{escape(_caption(scene, display, shown))}</figcaption></figure>"
    )


def _scene(attribution: Attribution, display: Mapping[str, Any]) -> _Scene:
    graph = scored(attribution)
    nodes = [0.0] * len(graph.labels) if graph.nodes is None else graph.nodes.tolist()
    found = [0.0] * graph.edge_index.size(1) if graph.edges is None else graph.edges.tolist()
    edges: dict[Pair, float] = {}
    for (u, v), score in zip(graph.edge_index.t().tolist(), found, strict=True):
        pair = (min(u, v), max(u, v))
        edges[pair] = edges.get(pair, 0.0) + score
    marked = display["index"]
    weight = [abs(score) for score in nodes]
    for (u, v), score in edges.items():
        weight[u] += abs(score)
        weight[v] += abs(score)
    order = sorted(range(len(graph.labels)), key=lambda i: (i not in marked, -weight[i]))
    kept = sorted(order[:MOST_NODES])
    return _Scene(
        graph.labels,
        {i: nodes[i] for i in kept},
        {pair: score for pair, score in edges.items() if set(pair) <= set(kept)},
        marked,
    )


def _shapes(scene: _Scene) -> Iterable[str]:
    places = _places(scene)
    most_node, most_edge = scene.limits
    for (u, v), score in sorted(scene.edges.items(), key=lambda item: abs(item[1])):
        share = abs(score) / most_edge if most_edge else 0.0
        (x, y), (to_x, to_y) = places[u], places[v]
        colour = "#bbb" if share < 0.02 else RED if score > 0 else BLUE
        dashes = ' stroke-dasharray="9 4"' if colour == BLUE else ""
        line = f"M{x:.1f} {y:.1f} L{to_x:.1f} {to_y:.1f}"
        if u == v:
            line = f"M{x:.1f} {y:.1f} c-34 -40 34 -40 0 0"
        yield (
            f'<path d="{line}" fill="none" stroke="{colour}" '
            f'stroke-width="{1 + (WIDEST - 1) * share:.2f}"{dashes}>'
            f"{_tip(f'{scene.labels[u]} - {scene.labels[v]}', score)}</path>"
        )
    for node, score in scene.nodes.items():
        share = abs(score) / most_node if most_node else 0.0
        x, y = places[node]
        ring = 'stroke="#000" stroke-width="3.5"' if node in scene.marked else 'stroke="#555"'
        yield (
            f'<g>{_tip(scene.labels[node], score)}<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" '
            f'fill="#fff"/><circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" '
            f'fill="{RED if score > 0 else BLUE}" fill-opacity="{share:.3f}" {ring}/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="12" '
            f'font-family="sans-serif" fill="#000">{escape(str(scene.labels[node])[:6])}</text></g>'
        )


def _places(scene: _Scene) -> dict[int, tuple[float, float]]:
    """Positions in the picture by a spring layout, the same at every call."""
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(scene.nodes)
    graph.add_edges_from(pair for pair in scene.edges if pair[0] != pair[1])
    apart = 2.0 / max(len(scene.nodes), 1) ** 0.5
    places = networkx.spring_layout(graph, k=apart, iterations=200, seed=0)
    low = [min((p[axis] for p in places.values()), default=0.0) for axis in (0, 1)]
    high = [max((p[axis] for p in places.values()), default=0.0) for axis in (0, 1)]
    room = SIZE - 2 * MARGIN

    def scaled(place: Any, axis: int) -> float:
        wide = high[axis] - low[axis]
        return MARGIN + room * ((place[axis] - low[axis]) / wide if wide else 0.5)

    return {node: (scaled(place, 0), scaled(place, 1)) for node, place in places.items()}


def _caption(scene: _Scene, display: Mapping[str, Any], shown: str) -> str:
    most_node, most_edge = scene.limits
    parts = [shown if len(scene.nodes) < len(scene.labels) else ""]
    if "x" in display["explain"]:
        parts.append(f"ground of a node: its score, up to \N{PLUS-MINUS SIGN}{most_node:.3g}")
    if "edges" in display["explain"]:
        parts.append(
            f"width of an edge: its score in both directions, up to "
            f"\N{PLUS-MINUS SIGN}{most_edge:.3g} (what travels along it is silenced; the layers' "
            "coefficients stay those of the full graph)"
        )
    parts.append("red raises the output, blue (dashed) lowers it")
    if scene.marked:
        parts.append("thick ring: what is explained")
    return "; ".join(filter(None, parts))


def _tip(label: str, score: float) -> str:
    return f"<title>{escape(f'{label}: {score:+.4g}')}</title>"


def _largest(scores: Iterable[float]) -> float:
    return max((abs(score) for score in scores if score == score), default=0.0)
