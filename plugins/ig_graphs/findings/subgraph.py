"""Findings from one attribution of a graph: the subgraph that counts, and pairs of nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core import Attribution, InputError, Table
from ig_graphs.scored import Of, ScoredGraph, scored

ARROW = "\N{RIGHTWARDS ARROW}"


@dataclass(frozen=True)
class Kept:
    """One edge or node that is kept, by its number; ``share`` is its share of all magnitude."""

    number: int
    label: str
    relation: str
    score: float
    share: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Subgraph:
    """The k edges (or nodes) of largest magnitude, and all the others.

    Every edge is in exactly one of ``kept`` and ``rest``, whatever its sign; both hold numbers,
    ``kept`` from the largest magnitude down, ``rest`` in order. The two signed sums make up the
    sum of all. They count the edges of ``graph``, of which a large one holds only what can matter
    to the explained node; ``masks`` say what is kept of the user's graph, by the name of each
    relation or node type (``""`` where there is only one)::

        found = subgraph(result, 6)
        data.edge_index[:, found.masks[""]]
    """

    of: Of
    kept: Sequence[int]
    rest: Sequence[int]
    scores: Float[Tensor, " parts"]
    graph: ScoredGraph
    masks: Mapping[str, Bool[Tensor, " parts"]]

    @property
    def kept_score(self) -> float:
        """The signed sum of what is kept."""
        return float(self.scores[list(self.kept)].sum())

    @property
    def rest_score(self) -> float:
        """The signed sum of the others."""
        return float(self.scores[list(self.rest)].sum())

    @property
    def edge_index(self) -> Int[Tensor, "2 edges"]:
        """The kept edges, or those between kept nodes, in the numbers of the graph's nodes."""
        if self.of == "edges":
            return self.graph.edge_index[:, list(self.kept)]
        inside = torch.zeros(len(self.scores), dtype=torch.bool)
        inside[list(self.kept)] = True
        return self.graph.edge_index[:, inside[self.graph.edge_index].all(0)]

    @property
    def rows(self) -> list[Kept]:
        """What is kept, the largest magnitude first."""
        total = float(self.scores.abs().sum())
        return [
            Kept(
                number,
                _edge(self.graph, number) if self.of == "edges" else self.graph.labels[number],
                self.graph.relation_name(number)
                if self.of == "edges"
                else self.graph.node_types[int(self.graph.node_type[number])],
                float(self.scores[number]),
                abs(float(self.scores[number])) / total if total else 0.0,
            )
            for number in self.kept
        ]

    def table(self) -> Table:
        """The rows as a table, which also writes itself as CSV."""
        kind = "relation" if self.of == "edges" else "type"
        rows = [astuple(row)[1:] for row in self.rows]
        columns = [self.of[:-1], kind, "score", "share of all magnitude"]
        if not any(row[1] for row in rows):
            columns, rows = columns[:1] + columns[2:], [row[:1] + row[2:] for row in rows]
        sums = f"{self.kept_score:+.3g}; the other {len(self.rest)}: {self.rest_score:+.3g}"
        return Table(columns, rows, [f"these {len(self.kept)} {self.of} together: {sums}"])

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self) -> str:
        """The table as an HTML fragment, escaped."""
        return self.table().to_html()


def subgraph(attribution: Attribution, k: int, *, of: Of | None = None) -> Subgraph:
    """The k edges of largest magnitude and the complement; of nodes where no edge was explained.

    Of equal magnitudes the one of the lower number is taken first.

    >>> found = subgraph(edges, 2)
    >>> [(row.label, row.score) for row in found.rows], found.rest_score
    ([('d → a', 8.0), ('c → a', -4.0)], 2.0)

    Raises:
        InputError: ``of`` was not explained, a score is not finite, or ``k`` is no whole number
            from 0 to their count.
    """
    graph = scored(attribution)
    if of is not None and of not in get_args(Of):
        raise InputError(f"of must be 'edges' or 'nodes' (got {of!r})")
    of = of or ("nodes" if graph.edges is None else "edges")
    scores = known_scores(attribution, graph, of)
    if type(k) is not int or not 0 <= k <= len(scores):
        raise InputError(f"k must be a whole number from 0 to {len(scores)}, the {of} (got {k!r})")
    order = scores.abs().argsort(descending=True, stable=True).tolist()
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[order[:k]] = True
    return Subgraph(
        of=of,
        kept=order[:k],
        rest=sorted(order[k:]),
        scores=scores,
        graph=graph,
        masks=_masks(attribution.display, of, chosen),
    )


def _masks(
    display: Mapping[str, Any], of: Of, chosen: Bool[Tensor, " parts"]
) -> dict[str, Bool[Tensor, " parts"]]:
    """What is chosen of every relation or node type of the user's graph."""
    kinds = display["relations" if of == "edges" else "node_types"]
    names = ["__".join(kind) if any(kind) else "" for kind, _ in kinds]
    names = names if of == "edges" else [kind for kind, _ in kinds]
    found = dict(zip(names, chosen.split([count for _, count in kinds]), strict=True))
    if not (part := display.get("part")):
        return found
    sizes = part["counts" if of == "edges" else "sizes"]
    return {
        name: torch.zeros(size, dtype=torch.bool).index_copy(
            0, torch.tensor(kept, dtype=torch.long), found[name]
        )
        for name, size, kept in zip(names, sizes, part[of], strict=True)
    }


@dataclass(frozen=True)
class Pair:
    """Two nodes and the edges between them, either way.

    ``strength`` is the sum of their magnitudes, by which pairs are ranked, and ``score`` their
    signed sum.
    """

    first: int
    second: int
    labels: tuple[str, str]
    edges: int
    strength: float
    score: float


@dataclass(frozen=True, eq=False)
class Undirected:
    """Pairs of nodes that edges connect, the strongest first; their scores sum to the edges'."""

    rows: Sequence[Pair]

    def table(self) -> Table:
        """The rows as a table, which also writes itself as CSV."""
        columns = ["pair", "edges", "strength", "score"]
        rows = [
            (" \N{EN DASH} ".join(row.labels), row.edges, row.strength, row.score)
            for row in self.rows
        ]
        return Table(columns, rows)

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self) -> str:
        """The table as an HTML fragment, escaped."""
        return self.table().to_html()


def undirected(attribution: Attribution) -> Undirected:
    """The edges of a graph whose edges lead both ways, pair by pair.

    A pair u-v is ranked by abs(a_uv) + abs(a_vu), since the two may differ in sign, and holds
    a_uv + a_vu, so that the pairs sum to what the edges sum to. A self-loop is a pair of its own.

    >>> [(pair.labels, pair.strength, pair.score) for pair in undirected(edges).rows]
    [(('a', 'd'), 8.0, 8.0), (('a', 'c'), 4.0, -4.0), (('a', 'b'), 2.0, 2.0)]

    Raises:
        InputError: no edges were explained, or a score is not finite.
    """
    graph = scored(attribution)
    scores = known_scores(attribution, graph, "edges")
    found: dict[tuple[int, int], list[float]] = {}
    for (u, v), score in zip(graph.edge_index.t().tolist(), scores.tolist(), strict=True):
        found.setdefault((min(u, v), max(u, v)), []).append(score)
    pairs = [
        Pair(
            u,
            v,
            (str(graph.labels[u]), str(graph.labels[v])),
            len(own),
            math.fsum(map(abs, own)),
            math.fsum(own),
        )
        for (u, v), own in found.items()
    ]
    return Undirected(sorted(pairs, key=lambda pair: -pair.strength))


def known_scores(attribution: Attribution, graph: ScoredGraph, of: Of) -> Float[Tensor, " parts"]:
    """The scores of the edges or nodes, all of them finite."""
    scores = graph.edges if of == "edges" else graph.nodes
    if scores is None:
        got = ", ".join(attribution.display.get("explain", ()))
        raise InputError(f"the {of} of this result were not explained (explained: {got})")
    if not bool(scores.isfinite().all()):
        raise InputError(
            f"the result has scores that are not finite: {attribution.reason or attribution.status}"
        )
    return scores


def _edge(graph: ScoredGraph, number: int) -> str:
    u, v = graph.edge_index[:, number].tolist()
    return f"{graph.labels[u]} {ARROW} {graph.labels[v]}"
