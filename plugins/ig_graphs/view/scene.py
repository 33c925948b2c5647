"""A Scene is what is drawn of one graph: which nodes, which lines, and what stands out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import InputError
from ig_graphs.scored import Relation, ScoredGraph

WHOLE, MOST_NODES = 40, 60
"""Graphs of so many nodes are drawn whole; of larger ones so many nodes at most, the explained
ones, then those with the largest scores on and around them."""

CONTEXT, HELD = 16, 0.95
"""Of larger graphs no more nodes than these are drawn once they hold this share of all scores."""

MOST_LINES = 400
"""Lines drawn, those of the largest magnitude."""

MOST_PARALLEL = 4
"""More edges than these between two nodes, of one relation, are drawn as one line."""

STANDS_OUT = 0.8
"""The share of all magnitude that the fewest nodes and lines hold that are not drawn pale."""

CANCELLED = 0.02
"""A sum below this share of the magnitudes that it is made of has no sign worth a colour."""


@dataclass(frozen=True)
class Line:
    """One line between two nodes: an edge, with the edge that leads back if there is one.

    ``score`` is the signed sum over its edges, ``size`` the sum of their magnitudes, ``place``
    numbers the lines between the same two nodes, which are ``beside`` each other.
    """

    source: int
    target: int
    relation: int
    edges: Sequence[int]
    score: float
    size: float
    forth: bool
    back: bool
    place: int = 0
    beside: int = 1


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn; ``nodes`` and ``lines`` by number, ``strong`` ones are not pale.

    ``relations`` are those that are drawn; the relation back (``rev_writes``) goes under the
    name of the relation forth.
    """

    graph: ScoredGraph
    nodes: Sequence[int]
    lines: Sequence[Line]
    strong_nodes: frozenset[int]
    strong_lines: frozenset[int]
    directed: bool
    left_out: int
    scale: float = 0.0
    """The magnitude of the widest line, if pictures beside each other share it."""

    @property
    def node_limit(self) -> float:
        """The largest magnitude of a node that is drawn."""
        scores = self.graph.nodes
        return 0.0 if scores is None else largest(scores[list(self.nodes)].tolist())

    @property
    def line_limit(self) -> float:
        """The magnitude of the widest line."""
        return self.scale or largest([line.size for line in self.lines])

    def sign(self, line: Line) -> int:
        """Whether a line raises the output (1), lowers it (-1), or neither (0)."""
        if not abs(line.score) > CANCELLED * line.size:
            return 0
        return 1 if line.score > 0 else -1


def scene(
    graph: ScoredGraph,
    *,
    hops: int | None = None,
    top: int | None = None,
    nodes: Sequence[int] | None = None,
    scale: float = 0.0,
) -> Scene:
    """What to draw of a graph.

    Args:
        graph: nodes and edges with their scores.
        hops: draw what is at most so many edges away from an explained node, whatever its score;
            without it the nodes with the largest scores on and around them are drawn, as many as
            hold 95 % of all.
        top: so many lines (nodes, where no edge was explained) stand out; the fewest that hold
            80 % of all magnitude if not given.
        nodes: draw these, as another picture does.
        scale: the magnitude of the widest line, as of another picture.

    Raises:
        InputError: ``hops`` or ``top`` is no whole number, or nothing is explained in particular.
    """
    for name, given, least in (("hops", hops, 0), ("top", top, 1)):
        if given is not None and (type(given) is not int or given < least):
            raise InputError(f"{name} must be a whole number of at least {least} (got {given!r})")
    if hops is not None and not graph.marked:
        raise InputError("hops= are counted from an explained node; this result is of a graph")
    kept = _kept(graph, hops) if nodes is None else nodes
    lines, directed = _lines(graph, kept)
    shown = sorted(lines, key=lambda line: -line.size)[:MOST_LINES]
    strong_lines = _fewest([line.size for line in shown], top)
    weights = _plain(graph.nodes) if graph.nodes is not None else torch.zeros(len(graph.labels))
    by_weight = sorted(kept, key=lambda node: -abs(float(weights[node])))
    of_nodes = top if graph.edges is None else None
    strong = {by_weight[i] for i in _fewest([abs(float(weights[n])) for n in by_weight], of_nodes)}
    strong |= {end for i in strong_lines for end in (shown[i].source, shown[i].target)}
    return Scene(
        graph=graph,
        nodes=kept,
        lines=shown,
        strong_nodes=frozenset(strong | set(graph.marked) if strong else kept),
        strong_lines=frozenset(strong_lines) or frozenset(range(len(shown))),
        directed=directed,
        left_out=len(lines) - len(shown),
        scale=scale,
    )


def largest(scores: Sequence[float]) -> float:
    """The largest magnitude of those that are numbers."""
    return max((abs(score) for score in scores if math.isfinite(score)), default=0.0)


def base_relations(relations: Sequence[Relation]) -> Sequence[int]:
    """For every relation the one that it leads back along (``rev_writes``: ``writes``), or itself.

    >>> base_relations([("a", "writes", "p"), ("p", "rev_writes", "a"), ("p", "cites", "p")])
    [0, 0, 2]
    """
    found = []
    for number, (source, name, target) in enumerate(relations):
        forth = (target, name.removeprefix("rev_"), source)
        leads_back = name.startswith("rev_") and forth in relations
        found.append(relations.index(forth) if leads_back else number)
    return found


def _kept(graph: ScoredGraph, hops: int | None) -> list[int]:
    """The nodes that are drawn, in the order of their numbers."""
    count = len(graph.labels)
    away = _distances(graph, hops)
    weight = torch.zeros(count, dtype=torch.float64)
    if graph.nodes is not None:
        weight += _plain(graph.nodes).abs()
    if graph.edges is not None:
        for ends in graph.edge_index:
            weight.index_add_(0, ends, _plain(graph.edges).abs())
    known = weight.tolist()
    order = sorted(range(count), key=lambda n: (away[n] > 0, -known[n], away[n], n))
    if hops is not None:
        return sorted([n for n in order if away[n] <= hops][:MOST_NODES])
    if count <= WHOLE:
        return sorted(order)
    held = torch.tensor([known[node] for node in order]).cumsum(0)
    enough = 1 + int((held < HELD * math.fsum(known)).sum())
    return sorted(order[: min(max(enough, CONTEXT), MOST_NODES)])


def _distances(graph: ScoredGraph, hops: int | None) -> Sequence[float]:
    """Edges between each node and the nearest explained one, whichever way they lead.

    No further than ``hops``, or than it takes to fill the picture.
    """
    away = torch.full((len(graph.labels),), math.inf)
    if not graph.marked:
        return away.tolist()
    away[list(graph.marked)] = 0.0
    source, target = graph.edge_index
    step = 0
    while int(away.isfinite().sum()) < MOST_NODES if hops is None else step < hops:
        step += 1
        nearer = away.clone()
        nearer.scatter_reduce_(0, target, away[source] + 1, "amin")
        nearer.scatter_reduce_(0, source, away[target] + 1, "amin")
        if torch.equal(nearer, away):
            break
        away = nearer
    return away.tolist()


def _lines(graph: ScoredGraph, kept: Sequence[int]) -> tuple[list[Line], bool]:
    """The lines between these nodes, and whether it matters which way they lead."""
    inside = torch.zeros(len(graph.labels), dtype=torch.bool)
    inside[list(kept)] = True
    numbers = inside[graph.edge_index].all(0).nonzero().flatten().tolist()
    base = base_relations(graph.relations)
    ways: dict[tuple[int, int, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for edge in numbers:
        u, v = graph.edge_index[:, edge].tolist()
        relation = int(graph.relation[edge])
        ways[min(u, v), max(u, v), base[relation]][0 if u <= v else 1].append(edge)
    lines: list[Line] = []
    for (u, v, relation), (forth, back) in ways.items():
        many = max(len(forth), len(back))
        groups = (
            [(forth[i : i + 1], back[i : i + 1]) for i in range(many)]
            if many <= MOST_PARALLEL
            else [(forth, back)]
        )
        lines += [_line(graph, u, v, relation, *group) for group in groups]
    lines = _beside(lines)
    return lines, any(line.forth != line.back for line in lines if line.source != line.target)


def _line(
    graph: ScoredGraph, u: int, v: int, relation: int, forth: Sequence[int], back: Sequence[int]
) -> Line:
    edges = [*forth, *back]
    scores = [0.0] if graph.edges is None else graph.edges[edges].tolist()
    size = math.fsum(abs(score) for score in scores if math.isfinite(score))
    return Line(u, v, relation, edges, sum(scores), size, bool(forth), bool(back))


def _beside(lines: Sequence[Line]) -> list[Line]:
    """The lines, each with its place among those between the same two nodes."""
    between: Mapping[tuple[int, int], list[Line]] = defaultdict(list)
    for line in lines:
        between[line.source, line.target].append(line)
    return [
        Line(**{**vars(line), "place": place, "beside": len(group)})
        for group in between.values()
        for place, line in enumerate(group)
    ]


def _fewest(sizes: Sequence[float], top: int | None) -> list[int]:
    """The first so many places that are not 0; of falling sizes those that hold most."""
    present = [i for i, size in enumerate(sizes) if size > 0]
    if top is not None:
        return present[:top]
    total, held = math.fsum(sizes[i] for i in present), 0.0
    found = []
    for i in present:
        if held >= STANDS_OUT * total:
            break
        held += sizes[i]
        found.append(i)
    return found


def _plain(scores: Float[Tensor, " any"]) -> Float[Tensor, " any"]:
    return scores.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
