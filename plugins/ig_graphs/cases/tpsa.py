"""NCI molecules: polar surface area, of which rdkit knows each atom's exact contribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float
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
)
from ig_graphs.cases.training import R_SQUARED, Tested, auroc, one_thread, trained

EPOCHS = 10
AREA = 20.0
"""Square angstroms that are one unit of what the network says: about those of a polar atom."""

MOST_JUDGED = 200
"""Held-out molecules whose atoms are compared with the truth."""


def tpsa(folder: Path) -> Loaded:
    """The topological polar surface area of NCI molecules, whose contributions are known.

    Explained are the atoms alone, because the truth gives the whole area to atoms. They start
    from no features at all: an atom of which nothing is known.
    """
    read = nci()
    held, rest = parted(len(read))
    tested = [polar_graph(*read[i]) for i in held]

    def fit(model: nn.Module) -> Tested:
        learn(model, [polar_graph(*read[i]) for i in rest], functional.smooth_l1_loss, EPOCHS)
        return predicted(model, tested), torch.cat([data.y for data in tested])

    model, explained = trained(network, fit, folder / "polar.safetensors", R_SQUARED)
    found = areas_found(model, tested[:MOST_JUDGED])
    return Loaded(
        model,
        [data for data in tested if 12 <= data.num_nodes <= 30][:10],
        options={"explain": ("x",)},
        facts={
            "explained": f"topological polar surface area, in units of {AREA:g} square angstroms",
            "test R^2": f"{explained:.3f} on {len(held)}",
            "correlation of IG with the true contributions": f"{found.pooled:.3f} over all atoms, "
            f"{found.each:.3f} within a molecule",
            "AUROC of polar atoms": f"{found.polar:.3f}",
            "compared on": f"{MOST_JUDGED} held-out molecules",
        },
    )


CASE = BenchmarkCase(
    name="nci-tpsa",
    domain="graphs",
    load=tpsa,
    requires=("torch_geometric", "rdkit"),
    licence=NCI_LICENCE,
    source=f"{NCI_SOURCE}; contributions: Ertl et al. (2000), doi:10.1021/jm000942e",
    real=True,
)


def polar_graph(smiles: str, molecule: Any) -> Any:
    """A molecule with the polar surface of each atom; ``y`` is all of it, both by ``AREA``."""
    from rdkit.Chem import rdMolDescriptors

    contributions = torch.tensor(rdMolDescriptors._CalcTPSAContribs(molecule)) / AREA
    y = contributions.sum().view(1)
    return graph(smiles, molecule, y=y, contributions=contributions)


@dataclass(frozen=True)
class AreasFound:
    """Pearson correlations of scores and contributions, and whether polar atoms score highest.

    ``pooled`` is over the atoms of all molecules; ``each`` and ``polar`` are means over the
    molecules in which atoms differ.
    """

    pooled: float
    each: float
    polar: float


def areas_found(model: nn.Module, molecules: Sequence[Any], **options: Any) -> AreasFound:
    """How the attributions of atoms agree with their true contributions to the area."""
    with one_thread():
        found = attribute(model, molecules, domain="graphs", **options)
    scores = [a.tensors["x"].sum(1) for a in found]
    pairs = [(s, d.contributions) for s, d in zip(scores, molecules, strict=True)]
    mixed = [(s, truth) for s, truth in pairs if (truth > 0).any() and not (truth > 0).all()]
    return AreasFound(
        pooled=correlation(*(torch.cat(parts) for parts in zip(*pairs, strict=True))),
        each=mean(correlation(s, truth) for s, truth in mixed),
        polar=mean(auroc(s, truth > 0) for s, truth in mixed),
    )


def correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Pearson's."""
    return float(torch.corrcoef(torch.stack([a, b]).double())[0, 1])
