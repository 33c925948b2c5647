"""What planted cases share: graphs of one seed, small networks, and how both are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional

from ig_core import Attribution, Loaded, attribute
from ig_graphs.cases.training import one_thread, step
from ig_graphs.findings.truth import Planted, motif_auroc

LAYERS, WIDTH, EPOCHS = 3, 20, 1000
"""Those of Ying et al. (2019), arXiv:1903.03894."""

MOST_JUDGED = 24
"""Nodes or graphs whose explanations are compared with the truth."""

MOST_SHOWN = 4
"""Of them, those that the benchmark explains."""

TOL = 0.1
"""Of what is judged; a smaller one moves no AUROC by more than 0.01."""

Network = Literal["gcn", "sums"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model that was fitted to planted graphs, and what to judge explanations by.

    ``said`` are the predicted classes of the inputs, which are the true ones; ``held`` counts
    what the accuracy was measured on.
    """

    model: nn.Module
    inputs: Sequence[Any]
    said: Sequence[int]
    truth: Sequence[Planted]
    accuracy: float
    held: int

    def explained(self, options: Mapping[str, Any]) -> list[Attribution]:
        """The attributions of all inputs."""
        with one_thread():
            return attribute(
                self.model, self.inputs, domain="graphs", target=self.said, tol=TOL, **options
            )

    def loaded(self, options: Mapping[str, Any], about: str) -> Loaded:
        """The case: some inputs, and how high the truth of all ranks."""
        found = self.explained(options)
        facts = {
            "explained": f"logit of the predicted class, of {about}",
            "test accuracy": f"{self.accuracy:.3f} on {self.held}",
        }
        for of, name in (("edges", "edges"), ("nodes", "x")):
            for by, told in (("magnitude", "by magnitude"), ("signed", "with the sign")):
                if name in options["explain"]:
                    judged = motif_auroc(found, self.truth, of=of, by=by)
                    facts[f"{of[:-1]} AUROC {told}"] = f"{judged.mean:.3f} on {judged.counted}"
        return Loaded(
            self.model,
            self.inputs[:MOST_SHOWN],
            targets=self.said[:MOST_SHOWN],
            options=options,
            facts=facts,
        )


@contextmanager
def seeded() -> Iterator[None]:
    """PyG's generators draw from the global ones of torch and numpy, which are restored."""
    before = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            np.random.seed(0)
            yield
    finally:
        np.random.set_state(before)


def network(kind: Network, features: int, classes: int) -> nn.Module:
    """Three layers of messages: a GCN that is read out of all of them, or sums (GraphConv)."""
    from torch_geometric.nn import GCN, GraphConv

    if kind == "gcn":
        return GCN(features, WIDTH, LAYERS, classes, jk="cat")

    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [features] + [WIDTH] * LAYERS
            self.layers = nn.ModuleList(GraphConv(a, b) for a, b in pairwise(widths))
            self.head = nn.Linear(WIDTH, classes)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x, edge_index).relu()
            return self.head(x)

    return Sums()


def learn(model: nn.Module, data: Any, nodes: Int[Tensor, " nodes"]) -> None:
    """Fit the classes of some nodes."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    for _ in range(EPOCHS):
        logits = model(data.x, data.edge_index)[nodes]
        step(optimizer, functional.cross_entropy(logits, data.y[nodes]))


@torch.no_grad()
def said(model: nn.Module, data: Any) -> Int[Tensor, " nodes"]:
    """The predicted class of every node."""
    return model(data.x, data.edge_index).argmax(1)


def parted(count: int) -> tuple[Int[Tensor, " held"], Int[Tensor, " rest"]]:
    """A fifth of so many numbers, held back, and the rest."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    return order[: count // 5], order[count // 5 :]


def spread(known: Sequence[int]) -> list[int]:
    """At most as many as are judged, evenly from first to last."""
    places = torch.linspace(0, len(known) - 1, min(MOST_JUDGED, len(known)))
    return [known[i] for i in places.round().long().tolist()]
