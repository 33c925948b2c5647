"""Members of a karate club (Zachary 1977), told apart from one label per group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional

from ig_core import BenchmarkCase, Loaded
from ig_graphs.cases.training import Tested, step, trained


def karate(folder: Path) -> Loaded:
    """Members of a karate club (Zachary 1977), told apart by a GCN from one label per group."""
    from torch_geometric.datasets import KarateClub
    from torch_geometric.nn import GCN

    data = KarateClub()[0]

    def fit(model: nn.Module) -> Tested:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4)
        for _ in range(200):
            logits = model(data.x, data.edge_index)[data.train_mask]
            step(optimizer, functional.cross_entropy(logits, data.y[data.train_mask]))
        return _said(model, data)[~data.train_mask], data.y[~data.train_mask]

    model, accuracy = trained(
        lambda: GCN(data.num_features, 16, num_layers=2, out_channels=int(data.y.max()) + 1),
        fit,
        folder / "karate.safetensors",
    )
    members = list(range(0, data.num_nodes, 3))
    return Loaded(
        model,
        [(data, member) for member in members],
        targets=_said(model, data)[members].tolist(),
        options={"level": "node", "explain": ("x", "edges")},
        facts={
            "explained": "logit of the predicted group, of one member each",
            "test accuracy": f"{accuracy:.3f} on {int((~data.train_mask).sum())}",
        },
    )


CASE = BenchmarkCase(
    name="karate-club",
    domain="graphs",
    load=karate,
    requires=("torch_geometric",),
    licence="data: published with the article, in PyG's code (MIT)",
    source="Zachary (1977), doi:10.1086/jar.33.4.3629752",
    real=True,
)


@torch.no_grad()
def _said(model: nn.Module, data: Any) -> Int[Tensor, " nodes"]:
    return model(data.x, data.edge_index).argmax(1)
