"""Crystals of rock salt's structure, and the energy that CHGNet predicts for them."""

from __future__ import annotations

import io
import re
from itertools import product
from math import ceil, pi
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import Archive, BenchmarkCase, Loaded, attribute, made_once
from ig_graphs.cases.training import one_thread

WHEEL = Archive(
    requirement="chgnet==0.4.2",
    file="chgnet-0.4.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="f60a3ed0dacc4657c511807eb1de44e12654e54d8f5a0cc483d1255564fb378a",
    content="weights of CHGNet",
)
CHECKPOINT = "chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"
FAR, NEAR = 6.0, 3.0
"""Angstroms: bonds are shorter than the first, and enclose angles if shorter than the second."""

WIDTH, RADIAL, ANGULAR = 64, 31, 31

ROCK_SALTS = {
    "NaCl": (5.69, (11, 17)),
    "LiF": (4.03, (3, 9)),
    "KBr": (6.60, (19, 35)),
    "MgO": (4.21, (12, 8)),
    "CaO": (4.81, (20, 8)),
    "TiC": (4.33, (22, 6)),
}
"""Edge of the cubic cell in angstroms, and the atomic numbers of what its name says."""


def rock_salts(folder: Path) -> Loaded:
    """What each bond of a crystal gives to its energy.

    A bond starts from one that is too long to count, so that the crystal starts as atoms far
    from each other. Atoms stay what they are: without any embedding the norms of the network
    are flat. The checkpoint is read as tensors only; the module here takes its weights.

    Raises:
        StorageError: the checkpoint is not in ``folder`` and could not be fetched.
    """
    tensors = load_file(made_once(folder / "chgnet-0.3.0.safetensors", convert))
    elements, reference = tensors.pop("elements"), tensors.pop("reference")
    model = CrystalPotential()
    model.load_state_dict(tensors)
    model.eval()
    crystals = [rock_salt(model, elements, name) for name in ROCK_SALTS]
    with torch.no_grad():
        interaction = [float(model(*arguments(crystal))) for crystal in crystals]
    alone = [float(reference[c.numbers - 1].mean()) for c in crystals]
    return Loaded(
        model,
        crystals,
        options={"explain": ("edge_attr",)},
        facts={
            "explained": "energy per atom in eV, without a constant of each element",
            "whole energy per atom": ", ".join(
                f"{name} {a + b:.3f} eV"
                for name, a, b in zip(ROCK_SALTS, interaction, alone, strict=True)
            ),
            **_shells(model, crystals),
        },
    )


CASE = BenchmarkCase(
    name="chgnet-rock-salts",
    domain="graphs",
    load=rock_salts,
    requires=("torch_geometric",),
    tags=("default",),
    licence="weights BSD-3-Clause (chgnet 0.4.2)",
    source="Deng et al. (2023), CHGNet, doi:10.1038/s42256-023-00716-3",
    real=True,
)

RENAMED = {
    "bond_basis_expansion.rbf_expansion_ag.frequencies": "far",
    "bond_basis_expansion.rbf_expansion_bg.frequencies": "near",
    "angle_basis_expansion.fourier_expansion.frequencies": "harmonics",
    "atom_embedding.embedding.weight": "elements",
    "composition_model.fc.weight": "reference",
    "atom_conv_layers": "atoms",
    "bond_conv_layers": "bonds",
    "angle_layers": "angles",
    "twoBody_atom.": "",
    "twoBody_bond.": "",
    "mlp_core.layers": "core",
    "mlp_gate.layers": "gate",
    "bn1": "core_norm",
    "bn2": "gate_norm",
    "mlp_out.layers.1": "out",
    "mlp.layers": "readout",
}
"""Parts of names in the checkpoint, and what they are here."""


def convert(partial: Path) -> None:
    """Keep the weights of the potential; nothing else of the checkpoint is built."""
    (checkpoint,) = WHEEL.members([CHECKPOINT], partial.parent)
    read = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
    kept = {}
    for name, value in read["model"]["state_dict"].items():
        for theirs, ours in RENAMED.items():
            name = name.replace(theirs, ours)
        kept[name] = value.view(-1) if name == "reference" else value
    save_file({n: v.contiguous() for n, v in kept.items() if "site_wise" not in n}, partial)


class Gated(nn.Module):
    """A perceptron times the share of it that another one lets through."""

    def __init__(self, inputs: int, *, hidden: bool) -> None:
        super().__init__()
        self.core, self.gate = (
            nn.Sequential(
                nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Identity(), nn.Linear(WIDTH, WIDTH)
            )
            if hidden
            else nn.Sequential(nn.Identity(), nn.Linear(inputs, WIDTH))
            for _ in range(2)
        )
        self.core_norm, self.gate_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        if hidden:
            self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, *parts: Tensor) -> Tensor:
        inputs = torch.cat(parts, dim=1)
        core = nn.functional.silu(self.core_norm(self.core(inputs)))
        return core * self.gate_norm(self.gate(inputs)).sigmoid()


class CrystalPotential(nn.Module):
    """Energy per atom from embeddings of atoms, bonds and angles between short bonds.

    ``edge_attr`` holds two expansions of a bond's length that vanish where it is cut off, and
    ``vector`` leads from its end to its begin.
    """

    def __init__(self) -> None:
        super().__init__()
        self.far, self.near = (nn.Parameter(torch.empty(RADIAL)) for _ in range(2))
        self.harmonics = nn.Parameter(torch.empty(ANGULAR // 2))
        self.bond_embedding, self.bond_weights_ag, self.bond_weights_bg, self.angle_embedding = (
            nn.Linear(inputs, WIDTH, bias=False) for inputs in (RADIAL, RADIAL, RADIAL, ANGULAR)
        )
        self.atoms = nn.ModuleList(Gated(3 * WIDTH, hidden=True) for _ in range(4))
        self.bonds = nn.ModuleList(Gated(4 * WIDTH, hidden=True) for _ in range(3))
        self.angles = nn.ModuleList(Gated(4 * WIDTH, hidden=False) for _ in range(3))
        self.readout_norm = nn.LayerNorm(WIDTH)
        self.readout = nn.Sequential(
            *(layer for _ in range(3) for layer in (nn.Linear(WIDTH, WIDTH), nn.SiLU())),
            nn.Identity(),
            nn.Linear(WIDTH, 1),
        )

    def forward(
        self,
        x: Float[Tensor, "atoms width"],
        edge_index: Int[Tensor, "2 edges"],
        edge_attr: Float[Tensor, "edges expansions"],
        vector: Float[Tensor, "edges 3"],
        batch: Int[Tensor, " atoms"],
    ) -> Float[Tensor, " crystals"]:
        from torch_geometric.nn import global_mean_pool

        sites = self.sites(x, edge_index, edge_attr, vector, batch)
        return global_mean_pool(sites.unsqueeze(1), batch).squeeze(1)

    def sites(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, vector: Tensor, batch: Tensor
    ) -> Float[Tensor, " atoms"]:
        """The energy of every atom."""
        begin, end = edge_index
        far, near = edge_attr.split(RADIAL, dim=1)
        bond, weight_far, weight_near = (
            layer(part)
            for layer, part in (
                (self.bond_embedding, far),
                (self.bond_weights_ag, far),
                (self.bond_weights_bg, near),
            )
        )
        back = reverse(begin, batch)
        one, other = pairs(begin, (vector.norm(dim=1) < NEAR).nonzero()[:, 0], len(x))
        angle = self.angle_embedding(self._harmonics(vector[one], vector[other]))
        for atoms, bonds, angles in zip(self.atoms, self.bonds, self.angles, strict=False):
            x = x + self._arrived(atoms, x, begin, end, bond, weight_far)
            message = bonds(bond[one], bond[other], angle, x[begin[one]])
            message = message * weight_near[one] * weight_near[other]
            each = torch.zeros_like(bond).index_add(0, one, message)
            bond = bond + bonds.out(each + each[back])
            angle = angle + angles(bond[one], bond[other], angle, x[begin[one]])
        x = x + self._arrived(self.atoms[-1], x, begin, end, bond, weight_far)
        return self.readout(self.readout_norm(x)).squeeze(1)

    def expanded(self, vector: Float[Tensor, "edges 3"]) -> Float[Tensor, "edges expansions"]:
        """Spherical Bessel functions of a bond's length, smoothly cut off."""
        length = vector.norm(dim=1, keepdim=True)
        return torch.cat(
            [
                (2 / cut) ** 0.5 * (waves * length / cut).sin() / length * _envelope(length / cut)
                for waves, cut in ((self.far, FAR), (self.near, NEAR))
            ],
            dim=1,
        )

    def _arrived(
        self, layer: Any, x: Tensor, begin: Tensor, end: Tensor, bond: Tensor, weight: Tensor
    ) -> Tensor:
        message = layer(x[begin], bond, x[end]) * weight
        return layer.out(torch.zeros_like(x).index_add(0, begin, message))

    def _harmonics(self, one: Tensor, other: Tensor) -> Float[Tensor, "angles functions"]:
        cosine = nn.functional.cosine_similarity(one, other, dim=1) * (1 - 1e-6)
        turns = torch.outer(cosine.acos(), self.harmonics)
        constant = torch.full_like(turns[:, :1], 0.5**0.5)
        return torch.cat([constant, turns.sin(), turns.cos()], dim=1) / pi**0.5


def _envelope(u: Tensor, p: int = 8) -> Tensor:
    """1 at 0, and 0 with two derivatives at 1 (Gasteiger et al. 2020, 2003.03123)."""
    a, b, c = (p + 1) * (p + 2) / 2, p * (p + 2), p * (p + 1) / 2
    return torch.where(u < 1, 1 - a * u**p + b * u ** (p + 1) - c * u ** (p + 2), 0.0)


def reverse(begin: Int[Tensor, " edges"], batch: Int[Tensor, " atoms"]) -> Int[Tensor, " edges"]:
    """The number of each edge's way back, where all bonds of a crystal lie there and then back."""
    owner = batch[begin]
    edges = owner.bincount()
    first = (edges.cumsum(0) - edges)[owner]
    local = torch.arange(len(begin), device=begin.device) - first
    return first + (local + edges[owner] // 2) % edges[owner]


def pairs(
    begin: Int[Tensor, " edges"], chosen: Int[Tensor, " some"], nodes: int
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """All ordered pairs of different edges among those chosen that begin at the same node."""
    at = begin[chosen]
    order, counts = at.argsort(), at.bincount(minlength=nodes)
    sizes = counts[at]
    one = torch.arange(len(at), device=at.device).repeat_interleave(sizes)
    rank = torch.arange(len(one), device=at.device) - (sizes.cumsum(0) - sizes)[one]
    other = order[(counts.cumsum(0) - counts)[at[one]] + rank]
    different = one != other
    return chosen[one[different]], chosen[other[different]]


def rock_salt(model: CrystalPotential, elements: Tensor, name: str) -> Any:
    """The primitive cell, with all bonds to atoms of this cell and the next ones."""
    from torch_geometric.data import Data

    edge, numbers = ROCK_SALTS[name]
    cell = edge / 2 * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    places = torch.tensor([[0.0, 0, 0], [edge / 2, edge / 2, edge / 2]])
    ends, vectors = neighbours(cell, places)
    with torch.no_grad():
        expanded = model.expanded(vectors)
    return Data(
        x=elements[torch.tensor(numbers) - 1],
        edge_index=ends,
        edge_attr=expanded,
        vector=vectors,
        numbers=torch.tensor(numbers),
        labels=_parts(name),
    )


def neighbours(
    cell: Float[Tensor, "3 3"], places: Float[Tensor, "atoms 3"]
) -> tuple[Int[Tensor, "2 edges"], Float[Tensor, "edges 3"]]:
    """All bonds there and then back, with the vector from the end of each to its begin."""
    heights = cell.det().abs() / torch.stack(
        [torch.linalg.cross(cell[i - 2], cell[i - 1]).norm() for i in range(3)]
    )
    reach = [ceil(FAR / float(height)) + 1 for height in heights]
    ends, vectors = [], []
    for image in product(*(range(-r, r + 1) for r in reach)):
        shift = torch.tensor(image, dtype=cell.dtype) @ cell
        for i, j in product(range(len(places)), repeat=2):
            vector = places[i] - places[j] - shift
            half = i < j or (i == j and image > (0, 0, 0))
            if half and vector.norm() < FAR:
                ends.append((i, j))
                vectors.append(vector)
    there, out = torch.tensor(ends).t(), torch.stack(vectors)
    return torch.cat([there, there.flip(0)], dim=1), torch.cat([out, -out])


def arguments(crystal: Any) -> tuple[Tensor, ...]:
    """What the model takes, for one crystal."""
    batch = torch.zeros(len(crystal.x), dtype=torch.long)
    return crystal.x, crystal.edge_index, crystal.edge_attr, crystal.vector, batch


def _shells(model: nn.Module, crystals: list[Any]) -> dict[str, str]:
    """What the nearest bonds get, all of them between unlike atoms, and the next, between like."""
    with one_thread():
        found = attribute(model, crystals, domain="graphs", explain=("edge_attr",))
    told: dict[str, list[str]] = {"unlike": [], "like": []}
    for crystal, attribution in zip(crystals, found, strict=True):
        length = crystal.vector.norm(dim=1)
        scores = attribution.tensors["edge_attr"].sum(1)
        for kind, ratio in (("unlike", 1.0), ("like", 2**0.5)):
            shell = (length / length.min() - ratio).abs() < 1e-3
            told[kind].append(f"{''.join(crystal.labels)} {float(scores[shell].sum()):+.2f}")
    return {
        "nearest bonds, of unlike atoms": ", ".join(told["unlike"]),
        "next bonds, of like atoms": ", ".join(told["like"]),
    }


def _parts(name: str) -> list[str]:
    """The two elements of a formula."""
    return re.findall("[A-Z][a-z]?", name)
