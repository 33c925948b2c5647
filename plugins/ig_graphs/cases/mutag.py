"""MUTAG holds 188 nitro compounds, most of which cause mutations in a bacterium."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ig_core import Archive, BenchmarkCase, Loaded, attribute, made_once
from ig_graphs.cases.molecules import learn, network, predicted
from ig_graphs.cases.training import Tested, one_thread, trained

WHEEL = Archive(
    requirement="grakel==0.1.11",
    file="grakel-0.1.11-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    sha256="f05f03c1ca23919bbb1e9d9132de4e1791e004cdd284a7e98d2897ac8495f0a7",
    content="compounds of MUTAG",
)
FILES = ("A", "graph_indicator", "graph_labels", "node_labels")
ELEMENTS = ("C", "N", "O", "F", "I", "Cl", "Br")
MOST_BONDS = 4
FEATURES = len(ELEMENTS) + MOST_BONDS + 1
EPOCHS, HELD = 50, 63


def mutag(folder: Path) -> Loaded:
    """Is this aromatic nitro compound a mutagen?

    All of them have a nitro group, so it is no truth to find. What is known is that compounds
    of three or more fused rings are more mutagenic (Debnath et al. 1991): the facts say what
    atoms that fuse rings get, beside the others.

    Raises:
        StorageError: the compounds are not in ``folder`` and could not be fetched.
    """
    graphs = compounds(load_file(made_once(folder / "mutag-compounds.safetensors", extract)))
    order = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(0)).tolist()
    held, rest = [graphs[i] for i in order[:HELD]], [graphs[i] for i in order[HELD:]]

    def fit(model: nn.Module) -> Tested:
        learn(model, rest, functional.binary_cross_entropy_with_logits, EPOCHS)
        return (predicted(model, held) > 0).long(), torch.cat([d.y for d in held]).long()

    model, accuracy = trained(
        lambda: network(FEATURES, width=32, layers=3), fit, folder / "mutag.safetensors"
    )
    return Loaded(
        model,
        held[:12],
        options={"explain": ("x", "edges")},
        facts={
            "explained": "logit of: this compound is a mutagen",
            "test accuracy": f"{accuracy:.3f} on {HELD}",
            **_fused(model, held),
        },
    )


CASE = BenchmarkCase(
    name="mutag",
    domain="graphs",
    load=mutag,
    requires=("torch_geometric",),
    tags=("default",),
    licence="compounds: published with the article, in the tests of grakel (BSD-3-Clause)",
    source="Debnath et al. (1991), doi:10.1021/jm00106a046, in grakel 0.1.11",
    real=True,
)


def extract(partial: Path) -> None:
    """Keep the numbers of the four text files; their package is not installed."""
    names = [f"grakel/tests/data/MUTAG/MUTAG_{name}.txt" for name in FILES]
    texts = WHEEL.members(names, partial.parent)
    rows = [[line.split(b",") for line in text.splitlines() if line.strip()] for text in texts]
    save_file(
        {
            name: torch.tensor([[int(number) for number in row] for row in table])
            for name, table in zip(FILES, rows, strict=True)
        },
        partial,
    )


def compounds(tables: dict[str, Int[Tensor, "rows columns"]]) -> list[Any]:
    """One graph per compound: atoms by element and bonds, each bond there and then back."""
    from torch_geometric.data import Data

    owner = tables["graph_indicator"][:, 0] - 1
    ends = tables["A"] - 1
    there = ends[ends[:, 0] < ends[:, 1]].t()
    graphs = []
    for number, label in enumerate(tables["graph_labels"][:, 0]):
        atoms = (owner == number).nonzero()[:, 0]
        elements = tables["node_labels"][atoms, 0]
        mine = there[:, owner[there[0]] == number] - atoms[0]
        bonds = mine.flatten().bincount(minlength=len(atoms)).clamp(max=MOST_BONDS)
        hot = [
            functional.one_hot(elements, len(ELEMENTS)),
            functional.one_hot(bonds, MOST_BONDS + 1),
        ]
        graphs.append(
            Data(
                x=torch.cat(hot, dim=1).float(),
                edge_index=torch.cat([mine, mine.flip(0)], dim=1),
                y=(label > 0).float().view(1),
                labels=[f"{ELEMENTS[element]}{i}" for i, element in enumerate(elements.tolist())],
            )
        )
    return graphs


def fusing(data: Any) -> list[bool]:
    """For each atom: does it lie in two rings or more?"""
    import networkx

    graph = networkx.Graph(data.edge_index.t().tolist())
    rings = networkx.minimum_cycle_basis(graph)
    return [sum(atom in ring for ring in rings) > 1 for atom in range(data.num_nodes)]


def _fused(model: nn.Module, held: Sequence[Any]) -> dict[str, str]:
    """What atoms get on average that lie in two rings, and all others."""
    with one_thread():
        found = attribute(model, held, domain="graphs", explain=("x", "edges"))
    scores = torch.cat([a.tensors["x"].sum(1) for a in found]).tolist()
    inside = [flag for data in held for flag in fusing(data)]
    each = {
        kind: [s for s, f in zip(scores, inside, strict=True) if f is kind]
        for kind in (True, False)
    }
    return {
        f"mean score of {name}": f"{mean(each[kind]):+.3f} ({len(each[kind])} of them)"
        for kind, name in ((True, "atoms that fuse rings"), (False, "other atoms"))
    }
