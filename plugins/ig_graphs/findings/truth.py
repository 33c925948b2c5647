"""Planted truth: how high the units of a known motif rank among those that could matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core import Analysis, Attribution, InputError, Table, UnknownNameError
from ig_graphs.scored import Of

Ranking = Literal["magnitude", "signed"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Planted:
    """The truth of one explained graph or node: what is true, and among what it has to be found.

    ``nodes`` and ``edges`` are true where the motif is, ``near_nodes`` and ``near_edges`` where
    units are compared at all.
    """

    edge_index: Int[Tensor, "2 edges"]
    nodes: Bool[Tensor, " nodes"]
    edges: Bool[Tensor, " edges"]
    near_nodes: Bool[Tensor, " nodes"]
    near_edges: Bool[Tensor, " edges"]


def planted(data: Any, node: int | None = None, hops: int | None = None) -> Planted:
    """The truth of a graph of ``torch_geometric.datasets.ExplainerDataset``, or of one node in it.

    Of a whole graph all marked nodes and edges are true, and all units are compared. Of a node
    only the motif that it belongs to is true: the marked edges that are connected with it, and
    their ends; the edges of other motifs are false. Compared are the nodes from which it is
    reached in ``hops`` steps, one for each layer of messages, and the edges among them (as in
    Ying et al. 2019, arXiv:1903.03894); without ``hops`` all are.

    >>> star.edge_index.t().tolist(), star.edge_mask.tolist()
    ([[1, 0], [2, 0], [3, 0]], [0, 0, 1])
    >>> planted(star, node=0).nodes.tolist()
    [True, False, False, True]

    Args:
        data: a graph with ``edge_mask`` and ``node_mask``, positive where the motifs are.
        node: the explained node, for ``level="node"``.
        hops: the number of the model's layers.

    Raises:
        InputError: the graph has no masks, or ``hops`` is given without a node.
    """
    for name in ("edge_mask", "node_mask"):
        if not isinstance(data.get(name), Tensor):
            raise InputError(
                f"the truth of a graph is its node_mask and edge_mask, here without {name} (it "
                f"has {', '.join(sorted(data.keys()))}); make a Planted of other truths"
            )
    if node is None and hops is not None:
        raise InputError(f"hops={hops!r} are counted from a node; pass node= as well")
    edge_index, nodes, edges = data.edge_index, data.node_mask > 0, data.edge_mask > 0
    near_nodes, near_edges = torch.ones_like(nodes), torch.ones_like(edges)
    if node is not None:
        nodes = _connected(node, edge_index[:, edges], len(nodes))
        edges = edges & nodes[edge_index].all(0)
    if node is not None and hops is not None:
        from torch_geometric.utils import k_hop_subgraph

        inside, _, _, near_edges = k_hop_subgraph(node, hops, edge_index, num_nodes=len(nodes))
        near_nodes = torch.zeros_like(nodes).index_fill(0, inside, True)
    return Planted(
        edge_index=edge_index,
        nodes=nodes,
        edges=edges,
        near_nodes=near_nodes,
        near_edges=near_edges,
    )


def _connected(node: int, edge_index: Int[Tensor, "2 true"], count: int) -> Bool[Tensor, " nodes"]:
    """The nodes that are connected with one; none if no edge is its own."""
    import networkx

    graph = networkx.Graph(edge_index.t().tolist())
    own = networkx.node_connected_component(graph, node) if node in graph else ()
    found = torch.zeros(count, dtype=torch.bool, device=edge_index.device)
    found[list(own)] = True
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class MotifAuroc:
    """How well the scores of attributions rank the units of planted motifs above the others.

    ``values`` has the AUROC of each counted attribution by its number, ``skipped`` the reason why
    another was not counted, and ``mean`` the mean over the counted.
    """

    of: Of
    by: Ranking
    mean: float
    values: Mapping[int, float]
    skipped: Mapping[int, str]

    @property
    def counted(self) -> int:
        """Attributions whose truth could be compared."""
        return len(self.values)

    def table(self) -> Table:
        """Every counted attribution as a table, with the mean beneath."""
        ranked = {"magnitude": "by magnitude", "signed": "with their sign"}[self.by]
        notes = [f"mean of {self.counted}: {self.mean:.3f}, {self.of} ranked {ranked}"]
        notes += [f"not counted, number {i}: {reason}" for i, reason in self.skipped.items()]
        return Table(["number", "AUROC"], list(self.values.items()), notes)

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self) -> str:
        """The table as an HTML fragment, escaped."""
        return self.table().to_html()


class MotifAurocAnalysis(Analysis):
    """How well attributions find planted motifs: the options of :func:`motif_auroc`."""

    name = "motif-auroc"
    fits = ("graphs",)

    def find(
        self, attributions: Sequence[Attribution], *, truth: Sequence[Planted] = (), **options: Any
    ) -> MotifAuroc:
        """The AUROC of each attribution against the ``truth``, and their mean."""
        return motif_auroc(attributions, truth, **options)


def motif_auroc(
    attributions: Sequence[Attribution],
    truth: Sequence[Planted],
    *,
    of: Of = "edges",
    by: Ranking = "magnitude",
) -> MotifAuroc:
    """The chance that a unit of the motif scores higher than another unit, mean over attributions.

    An edge and the one back are one unit. By magnitude it counts |a_uv| + |a_vu|, with the sign
    a_uv + a_vu; a node counts the sum of its features. Units far from the explained node are not
    compared, see :func:`planted`.

    >>> motif_auroc([edges], [planted(star)]).mean  # 8 is the true one of 2, -4 and 8
    1.0

    Args:
        attributions: with the scores of ``of``.
        truth: of each attribution.
        of: rank ``"edges"`` or ``"nodes"``.
        by: rank by ``"magnitude"``, or ``"signed"``.

    Raises:
        InputError: nothing can be counted, or truth and attributions do not fit each other.
        UnknownNameError: there is no such ``of`` or ``by``.
    """
    for kind, name, known in (
        ("unit to rank", of, get_args(Of)),
        ("ranking", by, get_args(Ranking)),
    ):
        if name not in known:
            raise UnknownNameError(kind, str(name), known)
    if len(attributions) != len(truth):
        raise InputError(
            f"expected a truth for each of {len(attributions)} attributions, such as "
            f"ig_graphs.planted(data, node) (got {len(truth)})"
        )
    values: dict[int, float] = {}
    skipped: dict[int, str] = {}
    for number, (attribution, own) in enumerate(zip(attributions, truth, strict=True)):
        scores, true = _ranked(attribution, own, of, by)
        if not bool(scores.isfinite().all()):
            skipped[number] = attribution.reason or "its scores are not finite"
        elif not true.any() or true.all():
            skipped[number] = f"no {'true' if not true.any() else 'false'} {of} to compare"
        else:
            values[number] = auroc(scores, true)
    if not values:
        raise InputError(
            f"no attribution has both true and false {of} to compare: "
            + ("; ".join(f"number {i}: {told}" for i, told in skipped.items()) or "none is given")
        )
    return MotifAuroc(
        of=of, by=by, mean=math.fsum(values.values()) / len(values), values=values, skipped=skipped
    )


def _ranked(
    attribution: Attribution, truth: Planted, of: Of, by: Ranking
) -> tuple[Float[Tensor, " units"], Bool[Tensor, " units"]]:
    """The compared units: what ranks them, and which are true.

    Raises:
        InputError: the attribution has no scores of them, or not as many as the truth.
    """
    name = {"edges": "edges", "nodes": "x"}[of]
    near, true = (
        (truth.near_edges, truth.edges) if of == "edges" else (truth.near_nodes, truth.nodes)
    )
    if name not in attribution.tensors:
        raise InputError(
            f"the attribution has no scores of {of}; explain them with explain={name!r} "
            f"(got {', '.join(attribution.tensors)})"
        )
    values = attribution.tensors[name].double()
    if len(values) != len(true):
        raise InputError(
            f"the truth has {len(true)} {of}, the attribution {len(values)}: are they in the same "
            "order?"
        )
    if of == "nodes":
        scores = values.flatten(1).sum(1) if values.dim() > 1 else values
        return (scores.abs() if by == "magnitude" else scores)[near], true[near]
    ends = truth.edge_index[:, near].sort(dim=0).values
    pairs, pair = ends.unique(dim=1, return_inverse=True)
    worth = (values.abs() if by == "magnitude" else values)[near]
    scores = worth.new_zeros(pairs.size(1)).index_add(0, pair, worth)
    return scores, scores.new_zeros(len(scores)).index_add(0, pair, true[near].double()) > 0


def auroc(scores: Float[Tensor, " units"], truth: Bool[Tensor, " units"]) -> float:
    """The chance that a true unit scores higher than a false one; a tie counts half."""
    gap = scores[truth][:, None] - scores[~truth][None, :]
    return float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())
