"""NCI molecules that contain a benzene ring or none, with the true atoms and bonds of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ig_core import BenchmarkCase, Loaded, attribute
from ig_graphs.cases.molecules import (
    NCI_LICENCE,
    NCI_SOURCE,
    graph,
    learn,
    nci,
    network,
    parted,
    predicted,
    ways,
)
from ig_graphs.cases.training import Tested, auroc, one_thread, trained

BENZENE = "c1ccccc1"
EPOCHS = 5
CUT = 0.05
"""The share of bonds that are cut in a second copy of each molecule that is learned from.

A network that has only seen whole molecules tells rings by how their atoms look from near;
one that has seen rings broken has to follow the ring.
"""

MOST_JUDGED = 100
"""Held-out molecules with benzene whose atoms and bonds are compared with the truth."""


def benzene(folder: Path) -> Loaded:
    """Does this NCI molecule contain benzene? The atoms and bonds of every ring are known."""
    read = nci()
    held, rest = parted(len(read))
    tested = [ringed_graph(*read[i]) for i in held]

    def fit(model: Any) -> Tested:
        whole = [ringed_graph(*read[i]) for i in rest]
        for member in model.members:
            copies = [copy for data in whole for copy in (cut(data, 0.0), cut(data, CUT))]
            learn(member, copies, functional.binary_cross_entropy_with_logits, EPOCHS)
        return (predicted(model, tested) > 0).long(), torch.cat([d.y for d in tested]).long()

    model, accuracy = trained(Committee, fit, folder / "ring-finder.safetensors")
    middle = [data for data in tested if 12 <= data.num_nodes <= 30]
    shown = [[d for d in middle if bool(d.y) == ring][:5] for ring in (True, False)]
    judged = [data for data in tested if data.ring_bonds.any() and not data.ring_atoms.all()]
    found = rings_found(model, judged[:MOST_JUDGED])
    return Loaded(
        model,
        shown[0] + shown[1],
        options={"explain": ("x", "edges")},
        facts={
            "explained": "logit of: this molecule contains benzene",
            "test accuracy": f"{accuracy:.3f} on {len(held)}",
            "atom AUROC of IG": f"{found.atoms:.3f} signed, {found.atoms_size:.3f} by magnitude",
            "bond AUROC of IG": f"{found.bonds:.3f} signed, {found.bonds_size:.3f} by magnitude",
            "AUROC of": f"{len(judged[:MOST_JUDGED])} held-out molecules with benzene, mean",
        },
    )


CASE = BenchmarkCase(
    name="nci-benzene",
    domain="graphs",
    load=benzene,
    requires=("torch_geometric", "rdkit"),
    licence=NCI_LICENCE,
    source=NCI_SOURCE,
    real=True,
)


def ringed_graph(smiles: str, molecule: Any) -> Any:
    """A molecule with the atoms and bonds of its benzene rings; ``y`` says if there are any."""
    from rdkit import Chem

    pattern = Chem.MolFromSmarts(BENZENE)
    atoms = torch.zeros(molecule.GetNumAtoms(), dtype=torch.bool)
    bonds = torch.zeros(molecule.GetNumBonds(), dtype=torch.bool)
    rings = []
    for match in molecule.GetSubstructMatches(pattern):
        ends = [(match[b.GetBeginAtomIdx()], match[b.GetEndAtomIdx()]) for b in pattern.GetBonds()]
        rings.append([molecule.GetBondBetweenAtoms(*pair).GetIdx() for pair in ends])
        atoms[list(match)], bonds[rings[-1]] = True, True
    y = atoms.any().float().view(1)
    return graph(smiles, molecule, y=y, ring_atoms=atoms, ring_bonds=bonds, rings=rings)


def cut(data: Any, share: float) -> Any:
    """A copy without some bonds, drawn at random, of which ``y`` says if a whole ring is left."""
    from torch_geometric.data import Data

    kept = torch.rand(len(data.ring_bonds)) >= share
    whole = any(bool(kept[ring].all()) for ring in data.rings)
    return Data(
        x=data.x, edge_index=data.edge_index[:, kept.repeat(2)], y=torch.tensor([float(whole)])
    )


class Committee(nn.Module):
    """The mean of networks that learned on their own: what only one of them relies on fades."""

    def __init__(self, members: int = 3) -> None:
        super().__init__()
        self.members = nn.ModuleList(ring_finder() for _ in range(members))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return torch.stack([member(x, edge_index, batch) for member in self.members]).mean(0)


def ring_finder() -> nn.Module:
    """Atoms give evidence for a ring or none, never against it; at first next to none."""
    model = network(evidence=functional.softplus)
    nn.init.constant_(model.head.bias, -3.0)
    nn.init.constant_(model.bias, -1.0)
    return model


@dataclass(frozen=True)
class RingsFound:
    """Mean AUROC over molecules: do the ring's atoms and bonds outrank the others?

    By signed scores (of a bond a_uv + a_vu) and by magnitude (|a_uv| + |a_vu|).
    """

    atoms: float
    bonds: float
    atoms_size: float
    bonds_size: float


def rings_found(model: nn.Module, ringed: Sequence[Any]) -> RingsFound:
    """What the attributions of a model that looks for rings say of where they are."""
    with one_thread():
        found = attribute(model, ringed, domain="graphs", explain=("x", "edges"))
    atoms = [a.tensors["x"].sum(1) for a in found]
    edges = [ways(a.tensors["edges"]) for a in found]

    def over(scores: Sequence[torch.Tensor], truth: str) -> float:
        return mean(auroc(s, d[truth]) for s, d in zip(scores, ringed, strict=True))

    return RingsFound(
        atoms=over(atoms, "ring_atoms"),
        bonds=over([e.sum(0) for e in edges], "ring_bonds"),
        atoms_size=over([a.abs() for a in atoms], "ring_atoms"),
        bonds_size=over([e.abs().sum(0) for e in edges], "ring_bonds"),
    )
