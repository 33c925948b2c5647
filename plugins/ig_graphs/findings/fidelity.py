"""Fidelity: what the model says once the largest edges are gone, and of these alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import ig_core as ig
from ig_core import Attribution, Example, Game, InputError, Table
from ig_graphs.domain import GraphDomain
from ig_graphs.findings.subgraph import subgraph
from ig_graphs.scored import Of, tensor_name
from ig_graphs.view.chart import Curve, chart

MOST_STEPS = 16
"""Sizes of the subgraph that are looked at, besides the empty one."""

CONTROLS = 5
"""Random orders, whose mean is the control."""


@dataclass(frozen=True)
class FidelityPoint:
    """F without the k largest (``removed``) and with these alone (``alone``).

    ``sparsity`` is the share that is not among them. The last two are means of the same over
    random orders.
    """

    k: int
    sparsity: float
    removed: float
    alone: float
    random_removed: float
    random_alone: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Fidelity:
    """How fast F changes when edges (or nodes) are removed, the largest magnitude first.

    With S_k the k largest, fid+ = F(all) - F(all without S_k) and fid- = F(all) - F(S_k alone), in
    the unit of the explained number (Yuan et al. 2022, arXiv:2012.15445, on the number itself).
    Signed: what lowers the output is removed in its turn as well.
    """

    of: Of
    at_input: float
    rows: Sequence[FidelityPoint]

    @property
    def plus(self) -> Float[np.ndarray, " points"]:
        """fid+ of every row; a good order moves away from 0 with few edges removed."""
        return np.array([self.at_input - row.removed for row in self.rows])

    @property
    def minus(self) -> Float[np.ndarray, " points"]:
        """fid- of every row; a good order comes near to 0 with few edges alone."""
        return np.array([self.at_input - row.alone for row in self.rows])

    def table(self) -> Table:
        """The rows as a table, which also writes itself as CSV."""
        columns = ["k", "sparsity", "fid+", "fid-", "fid+ random", "fid- random"]
        full = self.at_input
        rows = [[*astuple(r)[:2], *(full - value for value in astuple(r)[2:])] for r in self.rows]
        note = f"{self.of} of largest magnitude first; random: mean of {CONTROLS} orders"
        return Table(columns, rows, [note])

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_svg(self) -> str:
        """Both curves against sparsity, the random orders in grey."""
        across = [row.sparsity for row in self.rows]
        random = [
            [self.at_input - row.random_removed for row in self.rows],
            [self.at_input - row.random_alone for row in self.rows],
        ]
        return chart(
            "fidelity against sparsity",
            [
                Curve("fid+: without the largest", across, self.plus.tolist()),
                Curve("fid\N{MINUS SIGN}: the largest alone", across, self.minus.tolist(), True),
                Curve("fid+ of random orders", across, random[0], control=True),
                Curve("fid\N{MINUS SIGN} of random orders", across, random[1], True, control=True),
            ],
            f"sparsity: share of the {self.of} not among the largest",
            "difference of F",
        )

    def to_html(self) -> str:
        """The chart and the table as an HTML fragment, escaped."""
        return f"<figure>{self.to_svg()}</figure>{self.table().to_html()}"


def fidelity(
    model: Any,
    data: Any,
    result: Attribution,
    *,
    target: Any = None,
    of: Of | None = None,
    seed: int = 0,
    **options: Any,
) -> Fidelity:
    """Remove the edges of a result one after another, the largest first, and ask the model.

    An edge is removed by its mask, as the game says, and a node by setting its features to zero;
    all else stays. The model is asked about 2 * 16 subgraphs of the result, and 5 times as many of
    random orders.

    >>> found = fidelity(sums, star, edges, level="node", index=0)
    >>> found.plus.tolist(), found.minus.tolist()  # of the edges 8, -4 and 2, in this order
    ([0.0, 8.0, 4.0, 6.0], [6.0, -2.0, 2.0, 0.0])

    Args:
        model: the explained model.
        data: the explained graph, one ``Data`` or ``HeteroData``.
        result: its attribution.
        target: what was explained.
        of: ``"edges"`` or ``"nodes"``; by default edges, where they were explained.
        seed: of the random orders.
        **options: of :class:`ig_graphs.GraphDomain`, as for the result: ``level``, ``index``, ...

    Raises:
        InputError: the result is of another graph, place or output, or failed.
    """
    for name in ("explain", "per_layer"):
        if name in options:
            raise InputError(f"fidelity takes no {name}=: it removes whole edges or nodes")
    found = subgraph(result, 0, of=of)
    found = subgraph(result, len(found.rest), of=of)
    order = torch.tensor(found.kept, dtype=torch.long)
    if not len(order):
        raise InputError(f"there are no {found.of} that could be removed")
    domain = GraphDomain(model, explain="edges" if found.of == "edges" else "x", **options)
    if domain.split(data) is not None:
        raise InputError("fidelity is of one graph and one index; call it for each of several")
    with domain.prepared():
        task = ig.prepare(domain, [data], target=target)
        [example] = task.examples
        _check(result, example)
        units = _units(example, found.of)
        game = Game(task, 0)
        # Closer together where few are removed, which is where orders differ.
        shares = np.linspace(0, 1, MOST_STEPS + 1) ** 2
        sizes = np.unique(np.ceil(shares * len(order)).astype(int))
        orders = [order, *_random(len(order), seed)]
        removed = torch.stack([_first(one, sizes) for one in orders])
        sets = torch.cat([removed, ~removed]).flatten(0, 1)
        by_unit = torch.zeros(len(sets), len(example.parts), dtype=torch.bool)
        by_unit[:, units] = sets
        values = game.value(by_unit).reshape(2, len(orders), len(sizes))
    without, alone = values
    return Fidelity(
        of=found.of,
        at_input=float(without[0, 0]),
        rows=[
            FidelityPoint(
                int(k),
                1 - int(k) / len(order),
                float(without[0, i]),
                float(alone[0, i]),
                float(without[1:, i].mean()),
                float(alone[1:, i].mean()),
            )
            for i, k in enumerate(sizes)
        ],
    )


def _check(result: Attribution, example: Example) -> None:
    """Refuse a result of something else than the example."""
    for what, name in (
        ("graph", "edges"), ("graph", "nodes"), ("place", "index"), ("output", "explained"),
    ):  # fmt: skip
        mine, theirs = result.display.get(name), example.display.get(name)
        if mine != theirs:
            raise InputError(
                f"the result is of another {what} (its {name}: {mine!s:.60}; given: "
                f"{theirs!s:.60}); pass the data, target, level and index that it was made with"
            )


def _units(example: Example, of: Of) -> Int[Tensor, " parts"]:
    """The unit of every edge or node, in the order of the result's graph."""
    display = example.display
    kinds = [tuple(kind) for kind, _ in display["relations"]]
    named = (
        [tensor_name(kind, "edges") for kind in kinds]
        if of == "edges"
        else [tensor_name(kind, "x") for kind, _ in display["node_types"]]
    )
    if missing := [name for name in named if name not in example.parts.index]:
        raise InputError(f"{missing[0]!r} cannot be removed: the graph has no such tensor")
    return torch.cat([example.parts.index[name] for name in named])


def _first(
    order: Int[Tensor, " parts"], sizes: Int[np.ndarray, " sizes"]
) -> Bool[Tensor, "sizes parts"]:
    """The first so many of an order, size by size."""
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    return rank[None, :] < torch.from_numpy(sizes)[:, None]


def _random(count: int, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randperm(count, generator=draw) for _ in range(CONTROLS)]
