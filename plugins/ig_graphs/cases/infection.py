"""Spread of an infection: the distance to the nearest infected node, and the path it came by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ig_core import BenchmarkCase, Loaded
from ig_graphs.cases.planting import (
    LAYERS,
    Fitted,
    learn,
    network,
    parted,
    said,
    seeded,
    spread,
)
from ig_graphs.cases.training import Tested, trained
from ig_graphs.findings.truth import planted

NODES, CHANCE, INFECTED = 1000, 0.003, 50


def fitted(folder: Path) -> Fitted:
    """The model, trained in ``folder`` the first time, and nodes whose distance it tells.

    Judged are nodes with one shortest path from the infected ones, because several would explain
    the distance equally well (Faber et al. 2021, doi:10.1145/3447548.3467283). True are its edges,
    and as a node the infected one where it begins.
    """
    from torch_geometric.datasets import InfectionDataset
    from torch_geometric.datasets.graph_generator import ERGraph

    with seeded():
        data = InfectionDataset(ERGraph(NODES, CHANCE), INFECTED, max_path_length=LAYERS)[0]
    held, rest = parted(data.num_nodes)
    classes = int(data.y.max()) + 1

    def fit(model: nn.Module) -> Tested:
        learn(model, data, rest)
        return said(model, data)[held], data.y[held]

    model, accuracy = trained(
        lambda: network("sums", data.num_features, classes), fit, folder / "infection.safetensors"
    )
    told, paths = said(model, data), single_paths(data)
    judged = spread([node for node in paths if told[node] == data.y[node]])
    truth = [planted(_marked(data, paths[node]), node, hops=LAYERS) for node in judged]
    return Fitted(
        model,
        [(data, node) for node in judged],
        told[judged].tolist(),
        [replace(known, nodes=known.nodes & (data.x[:, 1] > 0)) for known in truth],
        accuracy,
        len(held),
    )


def infection(folder: Path) -> Loaded:
    """How far is this node from the nearest infected one?"""
    options = {"level": "node", "explain": ("x", "edges")}
    return fitted(folder).loaded(options, "nodes with one shortest path from infected ones")


CASE = BenchmarkCase(
    name="infection",
    domain="graphs",
    load=infection,
    requires=("torch_geometric", "networkx"),
    tags=("default",),
    licence="drawn by PyG (MIT)",
    source="Baldassarre and Azizpour (2019), arXiv:1905.13686",
)


def single_paths(data: Any) -> Mapping[int, list[int]]:
    """The shortest path from the infected nodes to each other one that has just one, in hops."""
    import networkx

    graph = networkx.Graph(data.edge_index.t().tolist())
    infected = (data.x[:, 1] > 0).nonzero().view(-1).tolist()
    origin = data.num_nodes  # one step before every infected node
    graph.add_edges_from((origin, node) for node in infected)
    before = networkx.predecessor(graph, origin, cutoff=LAYERS + 1)
    paths = {origin: [origin]}
    for node, previous in before.items():  # nearest first
        if len(previous) == 1 and previous[0] in paths:
            paths[node] = [*paths[previous[0]], node]
    return {node: path[1:] for node, path in sorted(paths.items()) if len(path) > 2}


def _marked(data: Any, path: list[int]) -> Any:
    """The graph with the edges and the nodes of one path as its truth."""
    hop = torch.full((data.num_nodes,), -len(path) - 2)
    hop[path] = torch.arange(len(path))
    marked = data.clone()
    marked.edge_mask = (hop[data.edge_index].diff(dim=0).abs() == 1).view(-1).float()
    marked.edge_mask *= (hop[data.edge_index] >= 0).all(0)
    marked.node_mask = (hop >= 0).float()
    return marked
