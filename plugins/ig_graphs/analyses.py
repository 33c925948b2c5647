"""Findings from attributions of graphs: the subgraph that counts, pairs of nodes, two games."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core import Analysis, Attribution, BaselineAgreement, InputError, Table, Units
from ig_graphs.scored import ScoredGraph, scored

Of = Literal["edges", "nodes"]

ARROW = "\N{RIGHTWARDS ARROW}"


@dataclass(frozen=True)
class Part:
    """One edge or node of a subgraph, by its number; ``share`` is its part of all magnitude."""

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
    def rows(self) -> list[Part]:
        """What is kept, the largest magnitude first."""
        total = float(self.scores.abs().sum())
        return [
            Part(
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

    Raises:
        InputError: ``of`` was not explained, a score is not finite, or ``k`` is no whole number
            from 0 to their count.
    """
    graph = scored(attribution)
    if of is not None and of not in get_args(Of):
        raise InputError(f"of must be 'edges' or 'nodes' (got {of!r})")
    of = of or ("nodes" if graph.edges is None else "edges")
    scores = _known(attribution, graph, of)
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

    Raises:
        InputError: no edges were explained, or a score is not finite.
    """
    graph = scored(attribution)
    scores = _known(attribution, graph, "edges")
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


@dataclass(frozen=True)
class Compared:
    """How far two results of one graph agree on its edges or nodes.

    ``signed`` and ``magnitude`` are Spearman's rank correlations (NaN where all scores of one are
    equal), ``overlap`` is the share of the k largest magnitudes that both have.
    """

    first: str
    second: str
    of: Of
    signed: float
    magnitude: float
    overlap: float


@dataclass(frozen=True)
class Ends:
    """What one result starts from: F(edgeless) and F(silenced), NaN where it does not tell them.

    Without edges the layers' coefficients are those of a graph without edges; silenced, those of
    the full graph, and nothing arrives. ``difference`` is the first minus the second.
    """

    name: str
    at_input: float
    at_baseline: float
    edgeless: float
    silenced: float

    @property
    def difference(self) -> float:
        """F(edgeless) - F(silenced)."""
        return self.edgeless - self.silenced


@dataclass(frozen=True, eq=False, kw_only=True)
class GameAgreement:
    """Results of one graph under several games, paths or parts to explain, two by two.

    Two are compared on what both explain, so that a result of nodes and one of edges have no row.
    """

    rows: Sequence[Compared]
    ends: Sequence[Ends]
    k: int

    def table(self) -> Table:
        """The rows as a table, which also writes itself as CSV."""
        columns = ["first", "second", "of", "rho signed", "rho of magnitudes", f"top {self.k}"]
        return Table(columns, [astuple(row) for row in self.rows])

    def values(self) -> Table:
        """What each result starts from, as a table."""
        columns = ["result", "F(input)", "F(baseline)", "F(edgeless)", "F(silenced)", "difference"]
        return Table(columns, [[*astuple(one), one.difference] for one in self.ends])

    def to_text(self) -> str:
        """Both tables as plain text."""
        return f"{self.table().to_text()}\n\n{self.values().to_text()}"

    def to_html(self) -> str:
        """Both tables as an HTML fragment, escaped."""
        return f"{self.table().to_html()}\n{self.values().to_html()}"


class AgreementOfGames(Analysis):
    """How far results of one graph agree under other games, paths or parts to explain."""

    name = "game-agreement"
    fits = ("graphs",)

    def find(self, attributions: Sequence[Attribution], **options: Any) -> GameAgreement:
        """The agreement; the options are ``names`` and ``k`` of :func:`agreement`."""
        return agreement(attributions, **options)


def agreement(
    attributions: Sequence[Attribution], *, names: Sequence[str] | None = None, k: int = 10
) -> GameAgreement:
    """Compare results of one graph under other games, paths or parts to explain.

    Args:
        attributions: of the same graph, explained node and output.
        names: one for each; by default the game, the path and what was explained.
        k: how many of the largest magnitudes are compared; all where there are fewer.

    Raises:
        InputError: fewer than two results, one that failed, or of another graph or output; or
            ``names`` or ``k`` do not fit.
    """
    if len(attributions) < 2:
        raise InputError(f"agreement compares at least two results (got {len(attributions)})")
    if names is not None and len(names) != len(attributions):
        raise InputError(
            f"expected {len(attributions)} names, one for each attribution (got {len(names)})"
        )
    if type(k) is not int or k < 1:
        raise InputError(f"k must be a whole number of at least 1 (got {k!r})")
    graphs = [scored(attribution) for attribution in attributions]
    for number in range(1, len(graphs)):
        if differs := _differs(attributions, graphs, number):
            raise InputError(
                f"attribution {number} is of {differs} than attribution 0: compare results of one "
                "graph, explained node and output"
            )
    told = _distinct([_name(a) for a in attributions] if names is None else names)
    rows = []
    parts: Sequence[Of] = get_args(Of)
    for of in parts:
        own = [
            (name, _known(attribution, graph, of))
            for name, attribution, graph in zip(told, attributions, graphs, strict=True)
            if (graph.edges if of == "edges" else graph.nodes) is not None
        ]
        rows += _compared(of, own, k)
    return GameAgreement(
        rows=rows, ends=[_ends(*one) for one in zip(told, attributions, strict=True)], k=k
    )


def _compared(
    of: Of, results: Sequence[tuple[str, Float[Tensor, " parts"]]], k: int
) -> list[Compared]:
    """Every two of the results on their nodes or edges."""
    if len(results) < 2 or not len(results[0][1]):
        return []
    signed = _correlations([scores for _, scores in results])
    magnitude = _correlations([scores.abs() for _, scores in results])
    most = min(k, len(results[0][1]))
    largest = [
        {*scores.abs().argsort(descending=True, stable=True)[:most].tolist()}
        for _, scores in results
    ]
    return [
        Compared(
            results[a][0],
            results[b][0],
            of,
            signed(a, b),
            magnitude(a, b),
            len(largest[a] & largest[b]) / most,
        )
        for a, b in combinations(range(len(results)), 2)
    ]


def _correlations(scores: Sequence[Float[Tensor, " parts"]]) -> Callable[[int, int], float]:
    """Spearman's rho of every two, as the core computes it for baselines."""
    units = Units(tuple(map(str, range(len(scores[0])))), {"scores": torch.arange(len(scores[0]))})
    plain = [
        Attribution(
            tensors={"scores": one}, units=units, at_input=0.0, at_baseline=0.0, residual=0.0
        )
        for one in scores
    ]
    found = BaselineAgreement().find(plain, names=[str(i) for i in range(len(plain))])
    return lambda a, b: float(found.rank_correlation[a, b])


def _known(attribution: Attribution, graph: ScoredGraph, of: Of) -> Float[Tensor, " parts"]:
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


def _differs(
    attributions: Sequence[Attribution], graphs: Sequence[ScoredGraph], number: int
) -> str:
    """In what a result cannot be compared with the first one; empty where it can."""
    first, other = graphs[0], graphs[number]
    if (
        list(first.labels) != list(other.labels)
        or not torch.equal(first.edge_index, other.edge_index)
        or not torch.equal(first.relation, other.relation)
        or not torch.equal(first.node_type, other.node_type)
    ):
        return "another graph"
    if list(first.marked) != list(other.marked):
        return "another explained node"
    told = [attributions[i].display.get("explained") for i in (0, number)]
    targets = [attributions[i].provenance.get("target") for i in (0, number)]
    return "" if told[0] == told[1] and targets[0] == targets[1] else "another output"


def _name(attribution: Attribution) -> str:
    display: Mapping[str, Any] = attribution.display
    explained = " + ".join(display.get("explain", ()))
    parts = [display.get("game"), attribution.provenance.get("path"), explained]
    return ", ".join(str(part) for part in parts if part)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where several are the same."""
    count, seen = Counter(names), Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} {seen[name]}" if count[name] > 1 else name)
    return found


def _ends(name: str, attribution: Attribution) -> Ends:
    facts = attribution.display.get("facts")
    facts = facts if isinstance(facts, dict) else {}
    silenced = _number(facts.get("F(silenced)"))
    display = attribution.display
    if math.isnan(silenced) and display.get("game") == "message":
        # Where the edges of all relations alone were explained, the baseline is silenced.
        masks = [name for name in attribution.tensors if name.rpartition(".")[2] == "edges"]
        alone = len(masks) == len(attribution.tensors) == len(display["relations"])
        silenced = attribution.at_baseline if alone else math.nan
    edgeless = _number(facts.get("F(edgeless)"))
    return Ends(name, attribution.at_input, attribution.at_baseline, edgeless, silenced)


def _number(told: Any) -> float:
    """A fact that begins with a number; NaN where it does not."""
    try:
        return float(str(told).split()[0])
    except (ValueError, IndexError):
        return math.nan


def _edge(graph: ScoredGraph, number: int) -> str:
    u, v = graph.edge_index[:, number].tolist()
    return f"{graph.labels[u]} {ARROW} {graph.labels[v]}"
