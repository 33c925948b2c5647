"""What the guide and the docstrings of graphs show runs as it stands there."""

import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("torch_geometric")

from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import (
    GCN,
    GATv2Conv,
    GINConv,
    HeteroConv,
    SAGEConv,
    SimpleConv,
    global_add_pool,
)

import ig_core as ig
import ig_graphs

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/graphs.md").read_text("utf-8"), re.DOTALL)
WRITES, CITES = ("author", "writes", "paper"), ("paper", "cites", "paper")


class Gin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = GINConv(nn.Linear(3, 8)), nn.Linear(8, 2)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.head(global_add_pool(torch.tanh(self.conv(x, edge_index)), batch))


class Links(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gcn = GCN(34, 8, 2, 4)

    def forward(self, x: Tensor, edge_index: Tensor, edge_label_index: Tensor) -> Tensor:
        x = self.gcn(x, edge_index)
        return (x[edge_label_index[0]] * x[edge_label_index[1]]).sum(1)


class Gat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = GATv2Conv(3, 8, edge_dim=2), nn.Linear(8, 2)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor) -> Tensor:
        return self.head(global_add_pool(torch.tanh(self.conv(x, edge_index, edge_attr)), batch))


class Hetero(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = HeteroConv({WRITES: SAGEConv((2, 3), 4), CITES: SAGEConv((3, 3), 4)})

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
        return self.conv(x_dict, edge_index_dict)


def small_models() -> dict[str, Any]:
    """One of each kind that the guide names, and a graph for each."""
    torch.manual_seed(0)

    def graph(nodes: int, **more: Any) -> Data:
        ends = torch.stack([torch.arange(nodes), torch.arange(nodes).roll(1)])
        return Data(x=torch.randn(nodes, 3), edge_index=torch.cat([ends, ends.flip(0)], 1), **more)

    library = HeteroData()
    library["author"].x, library["paper"].x = torch.randn(4, 2), torch.randn(6, 3)
    library[WRITES].edge_index = torch.tensor([[0, 1, 2, 3, 3], [4, 4, 1, 0, 2]])
    library[CITES].edge_index = torch.tensor([[0, 1, 2], [4, 4, 5]])
    return {
        "__name__": "guide",
        "molecules": [graph(5), graph(8)],
        "bonds": graph(6, edge_attr=torch.randn(12, 2)),
        "library": library,
        "gin": Gin().eval(),
        "links": Links().eval(),
        "gat": Gat().eval(),
        "hetero": Hetero().eval(),
    }


@pytest.mark.filterwarnings("ignore::ig_core.IGWarning")  # random models are hard to integrate
def test_the_guide_to_graphs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 7
    names = small_models()
    for block in BLOCKS:
        exec(compile(block, "docs/graphs.md", "exec"), names)
    assert (tmp_path / "club.svg").exists() and (tmp_path / "club.html").exists()
    assert names["absent"].at_baseline == pytest.approx(
        float(names["absent"].display["facts"]["F(edgeless)"]), rel=1e-4
    )
    assert names["same"].node_mask.shape == (34, 34)


FOUND = {
    "Fidelity", "GameAgreement", "Influences", "MotifAuroc", "Planted", "ScoredGraph", "Subgraph",
    "Undirected",
}  # fmt: skip
"""Results, which the examples of the functions that make them show."""


def star() -> dict[str, Any]:
    """A sum of messages at node a, from b, c and d with the features 2, -4 and 8."""
    data = Data(
        x=torch.tensor([[1.0], [2.0], [-4.0], [8.0]]),
        edge_index=torch.tensor([[1, 2, 3], [0, 0, 0]]),
        labels=list("abcd"),
        node_mask=torch.tensor([1, 0, 0, 1]),
        edge_mask=torch.tensor([0, 0, 1]),
    )
    sums = SimpleConv(aggr="sum")
    at = {"level": "node", "index": 0}
    nodes, edges = (ig.attribute(sums, data, explain=part, **at) for part in ("x", "edges"))
    return {"ig": ig, "sums": sums, "star": data, "nodes": nodes, "edges": edges}


@pytest.mark.parametrize("name", sorted({*ig_graphs.__all__} - FOUND))
def test_the_example_of_a_public_name_of_graphs_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {name: getattr(ig_graphs, name) for name in ig_graphs.__all__} | star()
    [example] = doctest.DocTestFinder(recurse=False).find(names[name], name, globs=names)
    assert example.examples
    told: list[str] = []
    doctest.DocTestRunner().run(example, out=told.append)
    assert not told, "".join(told)


def test_only_classes_of_results_have_no_example() -> None:
    assert all(inspect.isclass(getattr(ig_graphs, name)) for name in FOUND)
