"""Agreement of results of one graph under other games, paths or parts to explain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Analysis, Attribution, BaselineAgreement, InputError, Table, Units
from ig_graphs.facts import edgeless
from ig_graphs.findings.subgraph import known_scores
from ig_graphs.scored import Of, ScoredGraph, scored


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
    """What one result starts from: F(edgeless) and F(silenced), NaN where they are not known.

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
        ends = ["F(input)", "F(baseline)", "F(edgeless)", "F(silenced)"]
        columns = ["result", *ends, "edgeless - silenced"]
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

    >>> both = ig.attribute(sums, star, level="node", index=0, explain=("x", "edges"))
    >>> [row] = agreement([edges, both], names=["edges alone", "with features"], k=2).rows
    >>> row.first, row.second, row.of, round(row.signed, 6), row.overlap
    ('edges alone', 'with features', 'edges', 1.0, 1.0)

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
            (name, known_scores(attribution, graph, of))
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
    # Where the edges of all relations alone were explained, the baseline is silenced.
    masks = [tensor for tensor in attribution.tensors if tensor.rpartition(".")[2] == "edges"]
    alone = len(masks) == len(attribution.tensors) == len(attribution.display["relations"])
    message = attribution.display.get("game") == "message"
    silenced = attribution.at_baseline if alone and message else math.nan
    told = math.nan if (found := edgeless(attribution)) is None else found
    return Ends(name, attribution.at_input, attribution.at_baseline, told, silenced)
