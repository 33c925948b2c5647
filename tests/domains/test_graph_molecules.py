"""Molecules: their true atoms and bonds, and what attributions of real models say of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ig_core as ig

pytest.importorskip("torch_geometric")
pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from ig_graphs.cases import benzene, molecules, tpsa, training

pytestmark = pytest.mark.real


def numbers(fact: str) -> list[float]:
    """The numbers in a fact of a case."""
    words = (word.strip(",") for word in fact.split())
    return [float(word) for word in words if word.replace(".", "", 1).isdigit()]


def weights(loaded: ig.Loaded) -> dict[str, Any]:
    return loaded.model.state_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@pytest.fixture(scope="module")
def rings(folder: Path) -> ig.Loaded:
    return benzene.benzene(folder)


@pytest.fixture(scope="module")
def areas(folder: Path) -> ig.Loaded:
    return tpsa.tpsa(folder)


# -- reading ------------------------------------------------------------------------------------


def test_nci_has_4991_readable_molecules_of_which_2936_have_benzene() -> None:
    read = molecules.nci()
    pattern = Chem.MolFromSmarts(benzene.BENZENE)
    assert len(read) == 4991
    assert sum(molecule.HasSubstructMatch(pattern) for _, molecule in read) == 2936


def test_edges_are_the_bonds_there_and_then_back() -> None:
    smiles, molecule = molecules.nci()[7]
    data = molecules.graph(smiles, molecule)
    again = Chem.MolFromSmiles(data.smiles)
    count = again.GetNumBonds()
    assert data.num_edges == 2 * count
    for k, bond in enumerate(again.GetBonds()):
        ends = [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]
        assert data.edge_index[:, k].tolist() == ends
        assert data.edge_index[:, count + k].tolist() == ends[::-1]
    assert data.labels == [f"{a.GetSymbol()}{a.GetIdx()}" for a in again.GetAtoms()]


def test_features_do_not_tell_aromaticity() -> None:
    """Pyridine with its bonds alternating, which rdkit then does not call aromatic."""
    molecule = Chem.MolFromSmiles("c1ccncc1")
    told = molecules.graph("c1ccncc1", molecule)
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    assert not any(atom.GetIsAromatic() for atom in molecule.GetAtoms())
    assert torch.equal(molecules.graph("", molecule).x, told.x)


def test_unknown_elements_and_many_bonds_share_a_place() -> None:
    data = molecules.graph("", Chem.MolFromSmiles("F[Se](F)(F)(F)(F)F"))
    assert data.x[1].nonzero().view(-1).tolist() == [9, 10, 18]


# -- truth --------------------------------------------------------------------------------------


def test_benzene_is_six_atoms_and_the_six_bonds_of_the_ring() -> None:
    smiles = "c1ccccc1-c1ccncc1"
    data = benzene.ringed_graph(smiles, Chem.MolFromSmiles(smiles))
    assert data.ring_atoms.nonzero().view(-1).tolist() == [0, 1, 2, 3, 4, 5]
    ends = data.edge_index[:, : len(data.ring_bonds)].t()[data.ring_bonds]
    assert {frozenset(pair) for pair in ends.tolist()} == {
        frozenset((i, (i + 1) % 6)) for i in range(6)
    }
    none = benzene.ringed_graph("C1CCCCC1", Chem.MolFromSmiles("C1CCCCC1"))
    assert not none.y and not none.ring_atoms.any() and not none.ring_bonds.any()


def test_naphthalene_has_two_benzene_rings_that_share_a_bond() -> None:
    data = benzene.ringed_graph("", Chem.MolFromSmiles("c1ccc2ccccc2c1"))
    assert data.ring_atoms.sum() == 10 and data.ring_bonds.sum() == 11


def test_contributions_sum_to_the_polar_surface_area() -> None:
    for smiles, molecule in molecules.nci()[::5]:
        data = tpsa.polar_graph(smiles, molecule)
        area = rdMolDescriptors.CalcTPSA(molecule)
        assert float(data.y) * tpsa.AREA == pytest.approx(area, rel=1e-5, abs=1e-5)
        assert float(data.contributions.sum()) == pytest.approx(float(data.y), rel=1e-6)


# -- gates --------------------------------------------------------------------------------------


def test_r_squared_is_one_for_the_truth_and_zero_for_its_mean() -> None:
    truth = torch.tensor([1.0, 2.0, 6.0])
    measure = training.R_SQUARED
    assert measure.of(truth, truth) == 1
    assert measure.of(torch.full((3,), 3.0), truth) == measure.trivial(truth) == 0
    assert measure.of(torch.tensor([1.0, 2.0, 3.0]), truth) == pytest.approx(1 - 9 / 14)


def test_a_regression_that_learned_nothing_is_not_kept(tmp_path: Path) -> None:
    truth = torch.arange(10.0)
    with pytest.raises(ig.ModelError, match=r"R\^2 0.000, the mean alone gives 0.000"):
        training.trained(
            molecules.network,
            lambda model: (truth.mean().expand(10), truth),
            tmp_path / "weights",
            training.R_SQUARED,
        )
    with pytest.raises(ig.ModelError, match=r"R\^2 nan"):
        training.trained(
            molecules.network,
            lambda model: (truth * torch.nan, truth),
            tmp_path / "weights",
            training.R_SQUARED,
        )
    assert not list(tmp_path.iterdir())


# -- what attributions say ----------------------------------------------------------------------


def test_attributions_find_the_atoms_and_bonds_of_benzene(rings: ig.Loaded) -> None:
    (accuracy, held) = numbers(rings.facts["test accuracy"])
    assert accuracy > 0.95 and held == 998
    assert numbers(rings.facts["atom AUROC of IG"])[0] >= 0.95
    assert numbers(rings.facts["bond AUROC of IG"])[0] >= 0.95
    found = ig.attribute(rings.model, list(rings.inputs), domain="graphs", **rings.options)
    assert {float(data.y) for data in rings.inputs} == {0.0, 1.0}
    for one, data in zip(found, rings.inputs, strict=True):
        assert one.converged and abs(one.residual) <= 1e-2 * abs(one.delta)
        assert (one.at_input > 0) == bool(data.y)


def test_attributions_of_atoms_are_their_polar_surface(areas: ig.Loaded) -> None:
    (explained, held) = numbers(areas.facts["test R^2"])
    assert explained > 0.95 and held == 998
    pooled, each = numbers(areas.facts["correlation of IG with the true contributions"])
    assert pooled >= 0.75 and each >= 0.75
    assert numbers(areas.facts["AUROC of polar atoms"])[0] >= 0.99
    found = ig.attribute(areas.model, list(areas.inputs), domain="graphs", **areas.options)
    for one, data in zip(found, areas.inputs, strict=True):
        assert one.converged and one.at_input == pytest.approx(float(data.y), abs=1)


@pytest.mark.parametrize("name", ["rings", "areas"])
def test_a_second_load_does_not_train_again(
    name: str, folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = request.getfixturevalue(name)
    module = {"rings": benzene, "areas": tpsa}[name]
    monkeypatch.setattr(module, "learn", None)
    drawn = torch.get_rng_state()
    second = module.CASE.load(folder)
    assert torch.equal(drawn, torch.get_rng_state())
    assert second.facts == first.facts
    for key, value in weights(first).items():
        assert torch.equal(weights(second)[key], value)
