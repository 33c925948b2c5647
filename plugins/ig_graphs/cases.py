"""Benchmark cases: a karate club, and benzene rings in real molecules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ig_core import BenchmarkCase, Loaded, ModelError, attribute, made_once

ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P")
MOST_HYDROGENS, MOST_BONDS = 3, 4
FEATURES = len(ELEMENTS) + 1 + MOST_HYDROGENS + 1 + MOST_BONDS + 1
BENZENE = "c1ccccc1"
MOST_JUDGED = 20
"""Molecules with benzene whose atoms are compared with the truth."""

Tested = tuple[Int[Tensor, " tested"], Int[Tensor, " tested"]]
"""The classes that a model says and the true ones, of what it was not fitted to."""

LEAST_LIFT = 0.15
"""A model must beat the most frequent class by this much, or it is not worth explaining."""


def karate(folder: Path) -> Loaded:
    """Members of a karate club (Zachary 1977), told apart by a GCN from one label per group."""
    from torch_geometric.datasets import KarateClub
    from torch_geometric.nn import GCN

    data = KarateClub()[0]

    def fit(model: nn.Module) -> Tested:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4)
        for _ in range(200):
            logits = model(data.x, data.edge_index)[data.train_mask]
            _step(optimizer, functional.cross_entropy(logits, data.y[data.train_mask]))
        return _said(model, data)[~data.train_mask], data.y[~data.train_mask]

    model, accuracy = _trained(
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


def benzene(folder: Path) -> Loaded:
    """Does this NCI molecule contain benzene? The true atoms of every ring are known."""
    molecules = _nci()
    order = torch.randperm(len(molecules), generator=torch.Generator().manual_seed(0)).tolist()
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]

    def fit(model: nn.Module) -> Tested:
        _learn(model, [molecules[i] for i in rest])
        tested = [molecules[i] for i in held]
        return (_logits(model, tested) > 0).long(), torch.tensor([int(d.y) for d in tested])

    model, accuracy = _trained(_ring_finder, fit, folder / "benzene.safetensors")
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


CASES = [
    BenchmarkCase(
        name="karate-club",
        domain="graphs",
        load=karate,
        requires=("torch_geometric",),
        licence="data: published with the article, in PyG's code (MIT)",
        source="Zachary (1977), doi:10.1086/jar.33.4.3629752",
        real=True,
    ),
    BenchmarkCase(
        name="nci-benzene",
        domain="graphs",
        load=benzene,
        requires=("torch_geometric", "rdkit"),
        licence="molecules: NCI, public domain; distributed with rdkit (BSD-3-Clause)",
        source="first 5,000 molecules of the NCI open database, in the rdkit package",
        real=True,
    ),
]


def auroc(scores: Float[Tensor, " units"], truth: Bool[Tensor, " units"]) -> float:
    """The chance that a true unit scores higher than a false one; a tie counts half."""
    gap = scores[truth][:, None] - scores[~truth][None, :]
    return float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())


def _atom_auroc(model: nn.Module, ringed: Sequence[Any]) -> float:
    """Mean over molecules with benzene: do its atoms score above the others?"""
    partly = [data for data in ringed if not bool(data.truth.all())]
    with _one_thread():
        found = attribute(model, partly, domain="graphs")
    each = [auroc(a.scores, data.truth) for a, data in zip(found, partly, strict=True)]
    return sum(each) / len(each)


def _trained(
    build: Callable[[], nn.Module], fit: Callable[[nn.Module], Tested], path: Path
) -> tuple[nn.Module, float]:
    """The model, fitted once, and its accuracy on what it was not fitted to."""
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(0)
        model = build()
        made_once(path, lambda partial: _save(model, *fit(model), partial))
    with safe_open(path, framework="pt") as file:
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        accuracy = float(file.metadata()["accuracy"])
    return model.eval(), accuracy


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from more, and weights do not depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _save(
    model: nn.Module, said: Int[Tensor, " tested"], truth: Int[Tensor, " tested"], path: Path
) -> None:
    """Write the weights of a model that learned something.

    Raises:
        ModelError: it hardly beats the most frequent class.
    """
    accuracy = float((said == truth).double().mean())
    frequent = float(truth.bincount().max()) / len(truth)
    if accuracy < frequent + LEAST_LIFT:
        raise ModelError(
            f"the model learned nothing worth explaining: accuracy {accuracy:.3f}, the most "
            f"frequent class alone gives {frequent:.3f} (expected at least {LEAST_LIFT} more)"
        )
    save_file(model.state_dict(), path, metadata={"accuracy": f"{accuracy:.4f}"})


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def _said(model: nn.Module, data: Any) -> Int[Tensor, " nodes"]:
    return model(data.x, data.edge_index).argmax(1)


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
            _step(optimizer, functional.binary_cross_entropy_with_logits(logits, batches[i].y))
            schedule.step()


@torch.no_grad()
def _logits(model: nn.Module, molecules: Sequence[Any]) -> Tensor:
    from torch_geometric.data import Batch

    batch = Batch.from_data_list(molecules)
    return model(batch.x, batch.edge_index, batch.batch)
