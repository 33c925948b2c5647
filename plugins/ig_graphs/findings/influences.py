"""Influences: which feature of which node counts, and along which relations it arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import torch

from ig_core import Attribution, InputError, Table
from ig_graphs.scored import ScoredGraph, scored

ITSELF, NO_WAY = "itself", "no path"


@dataclass(frozen=True)
class Influence:
    """One feature of one node, and the relations of the shortest paths to the explained node.

    ``hops`` is 0 for an explained node itself, and -1 where no path leads to it or nothing is
    explained in particular.
    """

    node: str
    node_type: str
    feature: str
    through: str
    hops: int
    score: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Influences:
    """The k features of nodes with the largest magnitude, the largest first.

    ``rest`` is the signed sum of all others, so that everything together is the sum over the
    node features.
    """

    rows: Sequence[Influence]
    rest: float
    explained: str

    def table(self) -> Table:
        """The rows as a table, which also writes itself as CSV."""
        columns = ["node", "type", "feature", "through", "hops", "score"]
        keep = [0, 2, 3, 4, 5] if not any(row.node_type for row in self.rows) else range(6)
        told = [astuple(row) for row in self.rows]
        notes = [f"all other features of nodes together: {self.rest:+.3g}"]
        return Table([columns[i] for i in keep], [[row[i] for i in keep] for row in told], notes)

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self) -> str:
        """The table as an HTML fragment, escaped."""
        return self.table().to_html()


def influences(attribution: Attribution, k: int = 15) -> Influences:
    """Which feature of which node counts most, and through which relations it arrives.

    A path follows the edges, from a node to the explained one; where several shortest paths take
    other relations, all are named.

    >>> print(influences(nodes, k=2).to_text())
    node  feature    through  hops  score
    d     feature 0  1 edge      1      8
    c     feature 0  1 edge      1     -4
    all other features of nodes together: +2

    Raises:
        InputError: no node features were explained, or ``k`` is no whole number of at least 1.
    """
    if type(k) is not int or k < 1:
        raise InputError(f"k must be a whole number of at least 1 (got {k!r})")
    graph = scored(attribution)
    if not graph.features:
        raise InputError("no node features were explained; attribute with explain=('x',)")
    first = {name: int((graph.node_type < i).sum()) for i, name in enumerate(graph.node_types)}
    entries = [
        (float(values[node, feature]), name, node + first[name], feature)
        for name, values in graph.features.items()
        for node, feature in _largest(values, k)
    ]
    entries = sorted(entries, key=lambda entry: -abs(entry[0]))[:k]
    routes = ways(graph, [node for _, _, node, _ in entries])
    total = sum(float(values.double().nansum()) for values in graph.features.values())
    return Influences(
        rows=[
            Influence(
                str(graph.labels[node]),
                name,
                graph.feature_name(name, feature),
                *routes[node],
                score,
            )
            for score, name, node, feature in entries
        ],
        rest=total - sum(score for score, *_ in entries),
        explained=str(attribution.display.get("explained", "the output")),
    )


def _largest(values: torch.Tensor, k: int) -> Sequence[tuple[int, int]]:
    """Rows and columns of the k largest magnitudes that are not 0."""
    size = values.double().abs().nan_to_num(nan=0.0).flatten()
    order = size.argsort(descending=True, stable=True)[:k].tolist()
    return [divmod(place, values.size(1)) for place in order if size[place] > 0]


def ways(graph: ScoredGraph, nodes: Sequence[int]) -> Mapping[int, tuple[str, int]]:
    """For each of these nodes the relations to the nearest explained node, and how far it is."""
    import networkx

    if not graph.marked:
        return dict.fromkeys(nodes, ("", -1))
    reverse = networkx.MultiDiGraph()
    reverse.add_nodes_from(range(len(graph.labels)))
    pairs = graph.edge_index.t().tolist()
    names = [graph.relations[number][1] for number in graph.relation.tolist()]
    reverse.add_edges_from((v, u, {"name": n}) for (u, v), n in zip(pairs, names, strict=True))
    # A node in front of all explained ones stands for them together.
    reverse.add_edges_from((-1, node, {"name": ""}) for node in graph.marked)
    away = networkx.single_source_shortest_path_length(reverse, -1)

    def told(node: int) -> tuple[str, int]:
        if node not in away:
            return NO_WAY, -1
        if away[node] == 1:
            return ITSELF, 0
        taken, front = [], {node}
        while away[next(iter(front))] > 1:
            nearer = [
                (ahead, found["name"])
                for one in front
                for ahead, _, found in reverse.in_edges(one, data=True)
                if away.get(ahead, len(away) + 2) == away[one] - 1
            ]
            taken.append(" / ".join(sorted({name for _, name in nearer})))
            front = {ahead for ahead, _ in nearer}
        named = any(taken)
        hops = len(taken)
        plain = f"{hops} edge{'s' * (hops > 1)}"
        return (" \N{RIGHTWARDS ARROW} ".join(taken) if named else plain), hops

    return {node: told(node) for node in nodes}
