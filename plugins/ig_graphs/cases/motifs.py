"""Nodes of planted motifs: houses in a Barabasi-Albert graph, cycles and grids on a tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ig_core import BenchmarkCase, Loaded
from ig_graphs.cases.planting import (
    LAYERS,
    Fitted,
    Network,
    learn,
    network,
    parted,
    said,
    seeded,
    spread,
)
from ig_graphs.cases.training import Tested, trained
from ig_graphs.findings.truth import planted


@dataclass(frozen=True)
class Recipe:
    """A graph with planted motifs, and what is fitted to tell their nodes from the others.

    ``roles`` says whether the places in a motif are classes of their own; ``seed`` is that of the
    weights, the graph is always the same. Features are constant.
    A GCN with its layers concatenated, as in the article, tells houses and cycles; grids are told
    better where messages are summed.
    """

    name: str
    base: Callable[[], Any]
    motif: Callable[[], Any]
    motifs: int
    roles: bool = False
    network: Network = "gcn"
    seed: int = 0

    def draw(self) -> Any:
        """The graph."""
        from torch_geometric.datasets import ExplainerDataset

        with seeded():
            data = ExplainerDataset(self.base(), self.motif(), self.motifs)[0]
        data.x = torch.ones(data.num_nodes, 1)
        if not self.roles:
            data.y = (data.node_mask > 0).long()
        return data

    def fitted(self, folder: Path) -> Fitted:
        """The model, trained in ``folder`` the first time, and nodes of motifs that it tells."""
        data = self.draw()
        held, rest = parted(data.num_nodes)
        classes = int(data.y.max()) + 1

        def fit(model: nn.Module) -> Tested:
            learn(model, data, rest)
            return said(model, data)[held], data.y[held]

        def build() -> nn.Module:
            torch.manual_seed(self.seed)
            return network(self.network, 1, classes)

        file = folder / f"{self.name}-{self.network}-{self.seed}.safetensors"
        model, accuracy = trained(build, fit, file)
        told = said(model, data)
        known = ((data.node_mask > 0) & (told == data.y)).nonzero().view(-1)
        judged = spread(known.tolist())
        return Fitted(
            model,
            [(data, node) for node in judged],
            told[judged].tolist(),
            [planted(data, node, hops=LAYERS) for node in judged],
            accuracy,
            len(held),
        )

    def load(self, folder: Path) -> Loaded:
        """The benchmark case."""
        options = {"level": "node", "explain": ("edges",)}
        return self.fitted(folder).loaded(options, "nodes of motifs")


def _barabasi_albert() -> Any:
    from torch_geometric.datasets.graph_generator import BAGraph

    return BAGraph(num_nodes=300, num_edges=5)


def _tree() -> Any:
    from torch_geometric.datasets.graph_generator import TreeGraph

    return TreeGraph(depth=8, branch=2, undirected=True)


def _house() -> Any:
    from torch_geometric.datasets.motif_generator import HouseMotif

    return HouseMotif()


def _cycle() -> Any:
    from torch_geometric.datasets.motif_generator import CycleMotif

    return CycleMotif(6)


def _grid() -> Any:
    from torch_geometric.datasets.motif_generator import GridMotif

    return GridMotif()


BA_SHAPES = Recipe("ba-shapes", _barabasi_albert, _house, 80, roles=True)
TREE_CYCLES = Recipe("tree-cycles", _tree, _cycle, 60)
TREE_GRID = Recipe("tree-grid", _tree, _grid, 80, network="sums")

CASES = [
    BenchmarkCase(
        name=recipe.name,
        domain="graphs",
        load=recipe.load,
        requires=("torch_geometric", "networkx"),
        tags=("default",) if recipe is TREE_GRID else ("smoke",),
        licence="drawn by PyG (MIT)",
        source="Ying et al. (2019), arXiv:1903.03894",
    )
    for recipe in (BA_SHAPES, TREE_CYCLES, TREE_GRID)
]
