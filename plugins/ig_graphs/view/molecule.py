"""A molecule as chemists draw it, its atoms and bonds on the colours of their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Attribution
from ig_graphs.scored import ScoredGraph
from ig_graphs.view.marks import BLUE, RED
from ig_graphs.view.scene import largest

SIZE = (620, 420)
"""Of the drawing, in pixels."""

WIDTH_OF_BONDS = 14
"""Of the colour behind a bond, in line widths."""

FAINTEST = 0.02
"""A share of the largest magnitude below which nothing is coloured."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecule of rdkit with a score for each atom and each bond, where they were explained."""

    molecule: Any
    atoms: Float[Tensor, " atoms"]
    bonds: Float[Tensor, " bonds"]
    marked: frozenset[int]

    @property
    def atom_limit(self) -> float:
        """The largest magnitude of an atom."""
        return largest(self.atoms.tolist())

    @property
    def bond_limit(self) -> float:
        """The largest magnitude of a bond."""
        return largest(self.bonds.tolist())

    def svg(self) -> str:
        """One ``svg`` element."""
        from rdkit.Chem.Draw import rdMolDraw2D

        drawn = self._drawn(rdMolDraw2D.MolDraw2DSVG(*SIZE))
        return drawn[drawn.index("<svg") :]

    def png(self) -> bytes:
        """The bytes of a PNG file."""
        from rdkit.Chem.Draw import rdMolDraw2D

        return self._drawn(rdMolDraw2D.MolDraw2DCairo(*(2 * side for side in SIZE)))

    def _drawn(self, drawer: Any) -> Any:
        from rdkit.Chem.Draw import rdMolDraw2D

        options = drawer.drawOptions()
        options.useBWAtomPalette()  # the colours of elements would be taken for signs
        options.highlightBondWidthMultiplier = WIDTH_OF_BONDS
        options.highlightRadius = 0.32
        atoms = _colours(self.atoms, self.atom_limit)
        bonds = _colours(self.bonds, self.bond_limit)
        rdMolDraw2D.PrepareAndDrawMolecule(
            drawer,
            self.molecule,
            highlightAtoms=list(atoms),
            highlightAtomColors=atoms,
            highlightBonds=list(bonds),
            highlightBondColors=bonds,
        )
        drawer.FinishDrawing()
        return drawer.GetDrawingText()


def molecule(attribution: Attribution, graph: ScoredGraph) -> Molecule | None:
    """The molecule of a result; None if it is of none, or if rdkit is not installed.

    The nodes are the atoms of ``display["smiles"]`` in their order, with all hydrogens or with
    those alone that are written; every edge is a bond, and both edges of a bond are summed.
    """
    smiles = attribution.display.get("smiles")
    if not isinstance(smiles, str):
        return None
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        return None
    form = Chem.SmilesParserParams()
    form.allowCXSMILES = False  # it may rename atoms
    with rdBase.BlockLogs():
        written = Chem.MolFromSmiles(smiles, form)
    if written is None or not len(graph.labels):
        return None
    for found in (written, Chem.AddHs(written)):
        bonds = _bonds(found, graph)
        if bonds is not None:
            break
    else:
        return None
    atoms = torch.zeros(len(graph.labels)) if graph.nodes is None else graph.nodes
    for node in graph.marked:
        found.GetAtomWithIdx(node).SetProp("atomNote", "explained")
    return Molecule(found, atoms, bonds, frozenset(graph.marked))


def _bonds(found: Any, graph: ScoredGraph) -> Tensor | None:
    """The sum of the edges of every bond, if the atoms are the nodes and the edges are bonds."""
    if found.GetNumAtoms() != len(graph.labels):
        return None
    numbers = []
    for u, v in graph.edge_index.t().tolist():
        bond = found.GetBondBetweenAtoms(u, v)
        if bond is None:
            return None
        numbers.append(bond.GetIdx())
    total = torch.zeros(found.GetNumBonds(), dtype=torch.float64)
    if graph.edges is not None:
        total.index_add_(0, torch.tensor(numbers, dtype=torch.long), graph.edges.double())
    return total


def _colours(scores: Tensor, limit: float) -> dict[int, tuple[float, float, float]]:
    """From white at 0 to red or blue at the largest magnitude."""
    found = {}
    for number, score in enumerate(scores.tolist()):
        share = abs(score) / limit if limit else 0.0
        if share >= FAINTEST:
            full = (RED if score > 0 else BLUE).removeprefix("#")
            parts = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
            red, green, blue = (1 - min(share, 1.0) * (1 - part) for part in parts)
            found[number] = (red, green, blue)
    return found
