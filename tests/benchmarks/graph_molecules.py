"""What attributions of molecules find of the truth, by ranking, baseline and what is explained.

``python tests/benchmarks/graph_molecules.py`` prints it for all held-out molecules of the NCI.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ig_core as ig
from ig_graphs.cases import benzene, molecules, tpsa

LINE = "{:40} {:>8} {:>8} {:>8}"


def rings(folder: Path, held: list[Any]) -> None:
    """Atoms and bonds of benzene, by signed scores and by magnitude."""
    model: Any = benzene.benzene(folder).model
    graphs = [benzene.ringed_graph(*read) for read in held]
    judged = [data for data in graphs if data.ring_bonds.any() and not data.ring_atoms.all()]
    print(LINE.format(f"benzene: AUROC on {len(judged)} molecules", "atoms", "bonds", ""))
    networks = {"all": model} | {f"number {i}": one for i, one in enumerate(model.members)}
    for name, network in networks.items():
        found = benzene.rings_found(network, judged)
        signed = found.atoms, found.bonds
        size = found.atoms_size, found.bonds_size
        for ranking, values in (("signed", signed), ("by magnitude", size)):
            print(LINE.format(f"  {name}, {ranking}", *(f"{v:.3f}" for v in values), ""))


def areas(folder: Path, held: list[Any], rest: list[Any]) -> None:
    """Contributions to the polar surface, from an atom without features and from the mean atom."""
    model = tpsa.tpsa(folder).model
    graphs = [tpsa.polar_graph(*read) for read in held]
    mean = torch.cat([molecules.graph(*read).x for read in rest]).mean(0)

    def from_mean(example: ig.Example) -> dict[str, Tensor]:
        starts = {name: torch.zeros_like(value) for name, value in example.inputs.items()}
        return starts | {"x": mean.expand_as(example.inputs["x"])}

    print(LINE.format(f"area: correlation on {len(graphs)}", "pooled", "within", "AUROC"))
    baselines: dict[str, Callable[..., Any] | None] = {"zeros": None, "the mean atom": from_mean}
    for explain in (("x",), ("x", "edges")):
        for name, baseline in baselines.items():
            found = tpsa.areas_found(model, graphs, explain=explain, baseline=baseline)
            values = found.pooled, found.each, found.polar
            told = f"  {' and '.join(explain)} from {name}"
            print(LINE.format(told, *(f"{v:.3f}" for v in values)))


if __name__ == "__main__":
    warnings.simplefilter("ignore", ig.IGWarning)
    read = molecules.nci()
    held, rest = ([read[i] for i in part] for part in molecules.parted(len(read)))
    with tempfile.TemporaryDirectory() as scratch:
        rings(Path(scratch), held)
        areas(Path(scratch), held, rest)
