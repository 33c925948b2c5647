"""Molecules: their true atoms and bonds, and what attributions of real models say of them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ig_core as ig

pytest.importorskip("torch_geometric")
pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import rdMolDescriptors
from torch_geometric.data import Batch

from ig_graphs.cases import admet, benzene, crystals, molecules, mutag, tpsa, training

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


def test_a_cut_bond_breaks_its_ring_and_no_other() -> None:
    biphenyl = "c1ccccc1-c1ccccc1"
    data = benzene.ringed_graph(biphenyl, Chem.MolFromSmiles(biphenyl))
    torch.manual_seed(0)
    for share in (0.0, 0.1, 0.3, 1.0):
        copy = benzene.cut(data, share)
        left = {frozenset(pair) for pair in copy.edge_index.t().tolist()}
        rings = [{frozenset((s + i, s + (i + 1) % 6)) for i in range(6)} for s in (0, 6)]
        assert bool(copy.y) == any(ring <= left for ring in rings)
        assert copy.num_edges == 2 * len(left)
    assert not left and bool(benzene.cut(data, 0.0).y)


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
    assert numbers(rings.facts["atom AUROC of IG"])[0] >= 0.98
    assert numbers(rings.facts["bond AUROC of IG"])[0] >= 0.97
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


# -- archives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("extract", [mutag.extract, admet.convert, crystals.convert])
def test_what_cannot_be_fetched_says_what_to_do(
    extract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip fails as without an index."""
    command = [sys.executable, "-c", "raise SystemExit('no index here')"]
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda asked, **told: run(command, **told))
    monkeypatch.setenv(admet.ALLOW, "1")
    with pytest.raises(ig.StorageError, match=r"no index here.*get .*\.whl .* put it into"):
        extract(tmp_path / "made.partial")
    assert not list(tmp_path.iterdir())


# -- mutagens -----------------------------------------------------------------------------------


def test_mutagens_have_many_fused_rings_and_atoms_that_fuse_them_say_so(folder: Path) -> None:
    loaded = mutag.mutag(folder)
    (accuracy, held) = numbers(loaded.facts["test accuracy"])
    assert accuracy >= 0.8 and held == mutag.HELD
    fuse, other = (
        float(loaded.facts[f"mean score of {name}"].split()[0])
        for name in ("atoms that fuse rings", "other atoms")
    )
    assert fuse > max(other, 0)
    graphs = mutag.compounds(mutag.load_file(folder / "mutag-compounds.safetensors"))
    assert len(graphs) == 188 and sum(float(data.y) for data in graphs) == 125
    assert sum(data.num_nodes for data in graphs) == 3371
    assert sum(data.num_edges for data in graphs) == 7442
    assert all(nitro(data) for data in graphs)
    found = ig.attribute(loaded.model, list(loaded.inputs), domain="graphs", **loaded.options)
    assert all(one.converged for one in found)


def nitro(data: Any) -> bool:
    """Is there a nitrogen with two oxygens that have no other neighbour?"""
    begin, end = data.edge_index
    ends = begin.bincount(minlength=data.num_nodes) == 1
    oxygen = torch.tensor([label.startswith("O") for label in data.labels]) & ends
    nitrogen = torch.tensor([label.startswith("N") for label in data.labels])
    return any(int(oxygen[end[begin == i]].sum()) == 2 for i in nitrogen.nonzero()[:, 0].tolist())


def test_atoms_of_two_rings_fuse_them() -> None:
    fluorene = "c1ccc2c(c1)Cc1ccccc1-2"
    molecule = Chem.MolFromSmiles(fluorene)
    fusing = mutag.fusing(molecules.graph(fluorene, molecule))
    rings = molecule.GetRingInfo()
    assert fusing == [rings.NumAtomRings(i) > 1 for i in range(13)] and sum(fusing) == 4


# -- toxicity -----------------------------------------------------------------------------------


def test_pickles_are_not_read_unless_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(subprocess, "run", None)
    for value in ("", "0"):
        monkeypatch.setenv(admet.ALLOW, value)
        with pytest.raises(ig.InputError, match=r"pickles, a format .* set IG_UNPICKLE=1"):
            admet.CASE.load(tmp_path)
    assert admet.CASE.tags == ("local",) and not list(tmp_path.iterdir())


LOGITS = {
    "c1ccccc1[N+](=O)[O-]": (0.56114805, 4.67706537, 3.17615986, 1.61849010),
    "CC(=O)Oc1ccccc1C(=O)O": (-2.71199179, 0.17392671, 1.74207783, -5.23382521),
    "C/C=C/C[C@H](N)C(=O)O": (-1.06107390, 1.46359813, 1.55061436, -4.83923531),
    "ICC#N": (0.53869259, 3.64483905, 2.29287505, -0.20976820),
    "C": (-0.14068297, 5.23728418, 2.81802154, 0.22175370),
}
"""What chemprop 2.3.1 says with the first checkpoint: the first four of 31 tasks."""


@pytest.fixture(scope="module")
def toxicity(folder: Path) -> ig.Loaded:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(admet.ALLOW, "1")
        return admet.mutagenicity(folder)


def test_the_port_says_what_chemprop_says(toxicity: ig.Loaded) -> None:
    batch = Batch.from_data_list([admet.featurised(smiles) for smiles in LOGITS])
    with torch.no_grad():
        said = toxicity.model.members[0](batch.x, batch.edge_index, batch.edge_attr, batch.batch)[
            :, :4
        ]
    torch.testing.assert_close(said, torch.tensor(list(LOGITS.values())), atol=1e-5, rtol=0)


def test_reverse_finds_every_edge_back() -> None:
    data = Batch.from_data_list([admet.featurised(s) for s in admet.MOLECULES.values()])
    back = admet.reverse(data.edge_index, data.num_nodes)
    assert torch.equal(data.edge_index[:, back], data.edge_index.flip(0))


def test_the_nitro_group_makes_nitrobenzene_a_suspect(toxicity: ig.Loaded) -> None:
    """In the first network nitrogen gets 3.288 with half of what its bonds get."""
    nitrobenzene, first = toxicity.inputs[0], toxicity.model.members[0]
    options = {"domain": "graphs", "target": admet.MUTAGENIC, **toxicity.options}
    found = ig.attribute(first, nitrobenzene, tol=1e-3, budget=4096, **options)
    atoms = found.tensors["x"].sum(1)
    halves = (found.tensors["edge_attr"].sum(1) / 2).repeat(2)
    shared = atoms.index_add(0, nitrobenzene.edge_index.flatten(), halves)
    assert float(shared[6]) == pytest.approx(3.288, abs=0.02) and int(shared.argmax()) == 6
    together = ig.attribute(toxicity.model, nitrobenzene, **options)
    assert int(together.tensors["x"].sum(1).argmax()) == 6
    assert nitrobenzene.labels[6] == "N6" and together.converged


def test_converted_weights_need_no_permission_again(toxicity: ig.Loaded, folder: Path) -> None:
    for key, value in weights(admet.mutagenicity(folder)).items():
        assert torch.equal(weights(toxicity)[key], value)


# -- crystals -----------------------------------------------------------------------------------

SITES = {
    "NaCl": (-3.667965, (-2.7540684, -4.5818615)),
    "LiF": (-5.047350, (-3.7974046, -6.2972946)),
    "MgO": (-6.310216, (-3.5369122, -9.0835200)),
}
"""Energy per atom and of each atom, as chgnet 0.4.2 gives them, in eV."""


@pytest.fixture(scope="module")
def salts(folder: Path) -> ig.Loaded:
    return crystals.rock_salts(folder)


def test_sites_of_a_crystal_are_those_of_chgnet_and_sum_to_its_energy(
    salts: ig.Loaded, folder: Path
) -> None:
    reference = crystals.load_file(folder / "chgnet-0.3.0.safetensors")["reference"]
    known = dict(zip(crystals.ROCK_SALTS, salts.inputs, strict=True))
    for name, (energy, sites) in SITES.items():
        crystal = known[name]
        alone = reference[crystal.numbers - 1]
        with torch.no_grad():
            each = salts.model.sites(*crystals.arguments(crystal))
            whole = float(salts.model(*crystals.arguments(crystal)))
        assert (each + alone).tolist() == pytest.approx(sites, abs=2e-5)
        assert whole == pytest.approx(float(each.mean()), abs=1e-6)
        assert whole + float(alone.mean()) == pytest.approx(energy, abs=2e-5)
        assert f"{name} {energy:.3f} eV" in salts.facts["whole energy per atom"]


def test_a_batch_of_crystals_has_the_energies_of_each(salts: ig.Loaded) -> None:
    batch = Batch.from_data_list(list(salts.inputs))
    with torch.no_grad():
        together = salts.model(
            batch.x, batch.edge_index, batch.edge_attr, batch.vector, batch.batch
        )
        each = [salts.model(*crystals.arguments(crystal)) for crystal in salts.inputs]
    torch.testing.assert_close(together, torch.cat(each), atol=1e-5, rtol=0)


def test_rock_salt_has_6_nearest_12_next_and_8_third_neighbours(salts: ig.Loaded) -> None:
    crystal = salts.inputs[0]
    length = crystal.vector.norm(dim=1)[crystal.edge_index[0] == 0]
    steps = (length / length.min()).square().round().int()
    assert [int((steps == i).sum()) for i in (1, 2, 3, 4)] == [6, 12, 8, 6]
    back = crystals.reverse(crystal.edge_index[0], torch.zeros(2, dtype=torch.long))
    assert torch.equal(crystal.edge_index[:, back], crystal.edge_index.flip(0))
    torch.testing.assert_close(crystal.vector[back], -crystal.vector)


def test_unlike_atoms_bind_rock_salt_and_like_ions_repel_each_other(salts: ig.Loaded) -> None:
    found = ig.attribute(salts.model, list(salts.inputs), domain="graphs", **salts.options)
    assert all(one.converged for one in found)
    scores = {
        kind: dict(pair.split() for pair in salts.facts[fact].split(", "))
        for kind, fact in (
            ("unlike", "nearest bonds, of unlike atoms"),
            ("like", "next bonds, of like atoms"),
        )
    }
    for name in crystals.ROCK_SALTS:
        assert float(scores["unlike"][name]) < -2
    for name in ("NaCl", "LiF", "KBr"):
        assert float(scores["like"][name]) > 0
