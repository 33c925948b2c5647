"""Molecules as graphs: atoms are nodes, and each bond is two edges, there and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ig_graphs.cases.training import step

ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P")
WIDTHS = (len(ELEMENTS) + 1, 4, 5)
"""One-hot: the element or another one, up to three hydrogens, up to four bonds."""

FEATURES = [
    *ELEMENTS,
    "another element",
    *("no hydrogen", "1 hydrogen", "2 hydrogens", "3 hydrogens"),
    *("no bond", "1 bond", "2 bonds", "3 bonds", "4 bonds"),
]
"""What these are called, in order."""

NCI_LICENCE = "molecules: NCI, public domain; distributed with rdkit (BSD-3-Clause)"
NCI_SOURCE = "first 5,000 molecules of the NCI open database, in the rdkit package"

BATCH = 64


def nci() -> list[tuple[str, Any]]:
    """The molecules of the NCI that rdkit can read, each with the SMILES it was read from."""
    from rdkit import Chem, RDConfig, rdBase

    lines = (Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi").read_text().splitlines()
    written = [line.split()[0] for line in lines if line.strip()]
    with rdBase.BlockLogs():
        read = [(smiles, Chem.MolFromSmiles(smiles)) for smiles in written]
    return [(smiles, molecule) for smiles, molecule in read if molecule is not None]


def parted(molecules: int) -> tuple[list[int], list[int]]:
    """A fifth of the molecules to hold out, by number, and the others to learn from."""
    order = torch.randperm(molecules, generator=torch.Generator().manual_seed(0)).tolist()
    return order[: molecules // 5], order[molecules // 5 :]


def graph(smiles: str, molecule: Any, **more: Any) -> Any:
    """Atoms by element, hydrogens and bonds, in rdkit's order; aromaticity is not told.

    Of B bonds, bond k is edge k from its begin to its end, and edge B + k back.
    """
    from torch_geometric.data import Data

    atoms = list(molecule.GetAtoms())
    kinds = torch.tensor(
        [(_element(a.GetSymbol()), a.GetTotalNumHs(), a.GetDegree()) for a in atoms]
    )
    hot = [
        functional.one_hot(kind.clamp(max=width - 1), width)
        for kind, width in zip(kinds.t(), WIDTHS, strict=True)
    ]
    return Data(
        x=torch.cat(hot, dim=1).float(),
        edge_index=both_ways(molecule),
        labels=[f"{atom.GetSymbol()}{atom.GetIdx()}" for atom in atoms],
        feature_names=FEATURES,
        smiles=smiles,
        **more,
    )


def both_ways(molecule: Any) -> Int[Tensor, "2 edges"]:
    """All bonds from their begin to their end, then all of them back."""
    ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    there = torch.tensor(ends, dtype=torch.long).view(-1, 2).t()
    return torch.cat([there, there.flip(0)], dim=1)


def ways(edges: Float[Tensor, " edges"]) -> Float[Tensor, "2 bonds"]:
    """The scores of each bond there and back: their sum is the bond's."""
    return edges.view(2, -1)


def network(
    features: int = sum(WIDTHS),
    *,
    width: int = 64,
    layers: int = 4,
    evidence: Callable[[Tensor], Tensor] | None = None,
) -> nn.Module:
    """Smooth layers of GraphConv, one number per atom, and their sum, which is a molecule's.

    Sums, so that silencing all messages leaves the graph without edges; GELU, because a path
    through it needs a tenth of the points that one through ReLU needs. ``evidence`` is what
    becomes of an atom's number before the sum.
    """
    from torch_geometric.nn import GraphConv, global_add_pool

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [features] + [width] * layers
            self.layers = nn.ModuleList(GraphConv(a, b) for a, b in pairwise(widths))
            self.head = nn.Linear(width, 1)
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            for layer in self.layers:
                x = functional.gelu(layer(x, edge_index))
            each = self.head(x) if evidence is None else evidence(self.head(x))
            return global_add_pool(each, batch).squeeze(-1) + self.bias

    return Network()


def learn(
    model: nn.Module,
    molecules: Sequence[Any],
    loss: Callable[[Tensor, Tensor], Tensor],
    epochs: int,
) -> None:
    """Fit what the model says to ``y``."""
    from torch_geometric.loader import DataLoader

    batches = list(DataLoader(molecules, batch_size=BATCH, shuffle=True))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, total_steps=epochs * len(batches)
    )
    for _ in range(epochs):
        for i in torch.randperm(len(batches)).tolist():
            said = model(batches[i].x, batches[i].edge_index, batches[i].batch)
            step(optimizer, loss(said, batches[i].y))
            schedule.step()


@torch.no_grad()
def predicted(model: nn.Module, molecules: Sequence[Any]) -> Tensor:
    """What the model says of each molecule."""
    from torch_geometric.data import Batch

    batch = Batch.from_data_list(molecules)
    return model(batch.x, batch.edge_index, batch.batch)


def _element(symbol: str) -> int:
    return ELEMENTS.index(symbol) if symbol in ELEMENTS else len(ELEMENTS)
