"""NCI molecules: is there a benzene ring in them? The true atoms of every ring are known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ig_core import BenchmarkCase, Loaded, attribute
from ig_graphs.cases.training import Tested, auroc, one_thread, step, trained

ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P")
MOST_HYDROGENS, MOST_BONDS = 3, 4
FEATURES = len(ELEMENTS) + 1 + MOST_HYDROGENS + 1 + MOST_BONDS + 1
BENZENE = "c1ccccc1"
MOST_JUDGED = 20
"""Molecules with benzene whose atoms are compared with the truth."""


def benzene(folder: Path) -> Loaded:
    """Does this NCI molecule contain benzene? The true atoms of every ring are known."""
    molecules = _nci()
    order = torch.randperm(len(molecules), generator=torch.Generator().manual_seed(0)).tolist()
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]

    def fit(model: nn.Module) -> Tested:
        _learn(model, [molecules[i] for i in rest])
        tested = [molecules[i] for i in held]
        return (_logits(model, tested) > 0).long(), torch.tensor([int(d.y) for d in tested])

    model, accuracy = trained(_ring_finder, fit, folder / "benzene.safetensors")
    mid = [molecules[i] for i in held if 12 <= molecules[i].num_nodes <= 30]
    ringed, other = [d for d in mid if d.y > 0], [d for d in mid if d.y == 0]
    return Loaded(
        model,
        ringed[:5] + other[:5],
        options={"explain": ("x", "edges")},
        facts={
            "explained": "logit of: this molecule contains benzene",
            "test accuracy": f"{accuracy:.3f} on {len(held)}",
            "atom AUROC of IG": f"{_atom_auroc(model, ringed[:MOST_JUDGED]):.3f} on "
            f"{len(ringed[:MOST_JUDGED])} molecules with benzene",
        },
    )


CASE = BenchmarkCase(
    name="nci-benzene",
    domain="graphs",
    load=benzene,
    requires=("torch_geometric", "rdkit"),
    licence="molecules: NCI, public domain; distributed with rdkit (BSD-3-Clause)",
    source="first 5,000 molecules of the NCI open database, in the rdkit package",
    real=True,
)


def _atom_auroc(model: nn.Module, ringed: Sequence[Any]) -> float:
    """Mean over molecules with benzene: do its atoms score above the others?"""
    partly = [data for data in ringed if not bool(data.truth.all())]
    with one_thread():
        found = attribute(model, partly, domain="graphs")
    each = [auroc(a.scores, data.truth) for a, data in zip(found, partly, strict=True)]
    return sum(each) / len(each)


def _nci() -> list[Any]:
    """All molecules that rdkit can read, as graphs of atoms."""
    from rdkit import Chem, RDConfig, RDLogger

    pattern = Chem.MolFromSmarts(BENZENE)
    lines = (Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi").read_text().splitlines()
    RDLogger.DisableLog("rdApp.*")
    try:
        read = (Chem.MolFromSmiles(line.split()[0]) for line in lines if line.strip())
        return [_graph(molecule, pattern) for molecule in read if molecule is not None]
    finally:
        RDLogger.EnableLog("rdApp.*")


def _graph(molecule: Any, pattern: Any) -> Any:
    """Atoms by element, hydrogens and bonds; aromaticity is not told."""
    from torch_geometric.data import Data

    hot = torch.zeros(molecule.GetNumAtoms(), FEATURES)
    for i, atom in enumerate(molecule.GetAtoms()):
        symbol = atom.GetSymbol()
        hot[i, ELEMENTS.index(symbol) if symbol in ELEMENTS else len(ELEMENTS)] = 1
        place = len(ELEMENTS) + 1
        hot[i, place + min(atom.GetTotalNumHs(), MOST_HYDROGENS)] = 1
        hot[i, place + MOST_HYDROGENS + 1 + min(atom.GetDegree(), MOST_BONDS)] = 1
    ends = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()]
    both = torch.tensor(ends, dtype=torch.long).view(-1, 2).t()
    truth = torch.zeros(len(hot), dtype=torch.bool)
    truth[[atom for match in molecule.GetSubstructMatches(pattern) for atom in match]] = True
    return Data(
        x=hot,
        edge_index=torch.cat([both, both.flip(0)], dim=1),
        y=truth.any().float().view(1),
        truth=truth,
        labels=[f"{atom.GetSymbol()}{i}" for i, atom in enumerate(molecule.GetAtoms())],
    )


def _ring_finder() -> nn.Module:
    """Four layers of GraphConv with sums, so that silencing all messages leaves no edge."""
    from torch_geometric.nn import GraphConv, global_add_pool

    class RingFinder(nn.Module):
        def __init__(self, width: int = 64, layers: int = 4) -> None:
            super().__init__()
            widths = [FEATURES] + [width] * layers
            self.layers = nn.ModuleList(GraphConv(a, b) for a, b in pairwise(widths))
            self.head = nn.Linear(width, 1)

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x, edge_index).relu()
            return self.head(global_add_pool(x, batch)).squeeze(-1)

    return RingFinder()


def _learn(model: nn.Module, molecules: Sequence[Any], epochs: int = 10) -> None:
    from torch_geometric.loader import DataLoader

    batches = list(DataLoader(molecules, batch_size=64, shuffle=True))
    steps = epochs * len(batches)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for _ in range(epochs):
        for i in torch.randperm(len(batches)).tolist():
            logits = model(batches[i].x, batches[i].edge_index, batches[i].batch)
            step(optimizer, functional.binary_cross_entropy_with_logits(logits, batches[i].y))
            schedule.step()


@torch.no_grad()
def _logits(model: nn.Module, molecules: Sequence[Any]) -> Tensor:
    from torch_geometric.data import Batch

    batch = Batch.from_data_list(molecules)
    return model(batch.x, batch.edge_index, batch.batch)
