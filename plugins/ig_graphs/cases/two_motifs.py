"""Graphs of two motifs: trees that are told apart by a planted house or a cycle of five."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional

from ig_core import BenchmarkCase, Loaded
from ig_graphs.cases.planting import Fitted, network, parted, seeded, spread
from ig_graphs.cases.training import Tested, step, trained
from ig_graphs.findings.truth import planted

OF_EACH = 200
"""Graphs with a house, and graphs with a cycle."""

EPOCHS = 100


def fitted(folder: Path) -> Fitted:
    """The model, trained in ``folder`` the first time, and graphs that it was not fitted to."""
    graphs = draw()
    held, rest = parted(len(graphs))
    tested = [graphs[i] for i in held.tolist()]
    truth = torch.tensor([int(data.y) for data in tested])

    def fit(model: nn.Module) -> Tested:
        _learn(model, [graphs[i] for i in rest.tolist()])
        return _said(model, tested), truth

    model, accuracy = trained(_pooled, fit, folder / "two-motifs.safetensors")
    told = _said(model, tested)
    judged = spread((told == truth).nonzero().view(-1).tolist())
    inputs = [tested[i] for i in judged]
    return Fitted(
        model,
        inputs,
        told[judged].tolist(),
        [planted(data) for data in inputs],
        accuracy,
        len(held),
    )


def two_motifs(folder: Path) -> Loaded:
    """Is a house planted in this graph, or a cycle of five?"""
    return fitted(folder).loaded({"explain": ("edges",)}, "graphs with one motif")


CASE = BenchmarkCase(
    name="two-motifs",
    domain="graphs",
    load=two_motifs,
    requires=("torch_geometric", "networkx"),
    tags=("default",),
    licence="drawn by PyG (MIT)",
    source="Luo et al. (2020), arXiv:2011.04573",
)


def draw() -> list[Any]:
    """Barabasi-Albert trees of 20 nodes with a house (class 0) or a cycle of five (class 1)."""
    from torch_geometric.datasets import ExplainerDataset
    from torch_geometric.datasets.graph_generator import BAGraph
    from torch_geometric.datasets.motif_generator import CycleMotif, HouseMotif

    drawn = []
    with seeded():
        for y, motif in enumerate((HouseMotif(), CycleMotif(5))):
            base = BAGraph(num_nodes=20, num_edges=1)
            for data in ExplainerDataset(base, motif, num_motifs=1, num_graphs=OF_EACH):
                data.x, data.y = torch.ones(data.num_nodes, 1), torch.tensor([y])
                drawn.append(data)
    return drawn


def _pooled() -> nn.Module:
    """Sums of messages, and the mean over the nodes."""
    from torch_geometric.nn import global_mean_pool

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nodes = network("sums", 1, 2)

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            return global_mean_pool(self.nodes(x, edge_index), batch)

    return Pooled()


def _learn(model: nn.Module, graphs: list[Any]) -> None:
    from torch_geometric.loader import DataLoader

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = list(DataLoader(graphs, batch_size=64, shuffle=True))
    for _ in range(EPOCHS):
        for batch in batches:
            logits = model(batch.x, batch.edge_index, batch.batch)
            step(optimizer, functional.cross_entropy(logits, batch.y))


@torch.no_grad()
def _said(model: nn.Module, graphs: list[Any]) -> Int[Tensor, " graphs"]:
    from torch_geometric.data import Batch

    batch = Batch.from_data_list(graphs)
    return model(batch.x, batch.edge_index, batch.batch).argmax(1)
