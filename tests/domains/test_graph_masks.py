"""Masks on edges: every message is led back to its edge, whatever a layer made of the edges."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

pytest.importorskip("torch_geometric")

from torch_geometric import EdgeIndex
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, GraphConv, SimpleConv, TopKPooling

from ig_graphs.known import Alignment
from ig_graphs.layers import layers_of
from ig_graphs.masks import masked_messages

PLAIN = ("", "", "")
STAR = Data(
    x=torch.tensor([[1.0], [2.0], [-4.0], [8.0]], dtype=torch.float64),
    edge_index=torch.tensor([[1, 2, 0], [0, 0, 3]]),
)


def masked(modules: Any, edges: Tensor, mask: Tensor, nodes: int) -> AbstractContextManager[None]:
    alignment = Alignment({PLAIN: edges}, {"": nodes})
    return masked_messages(layers_of(modules), alignment, {PLAIN: mask}, "message")


def explain(model: Any, data: Any, **options: Any) -> Any:
    return ig.attribute(model, data, **{"domain": "graphs", "tol": 1e-6, "target": 1, **options})


def graph(nodes: int = 9, edges: int = 20, loops: bool = False) -> Data:
    """A random graph without duplicate edges."""
    generator = torch.Generator().manual_seed(0)
    key = torch.randperm(nodes * nodes, generator=generator)
    pairs = torch.stack([key // nodes, key % nodes])
    pairs = pairs if loops else pairs[:, pairs[0] != pairs[1]]
    x = torch.randn(nodes, 3, generator=generator, dtype=torch.float64)
    return Data(x=x, edge_index=pairs[:, :edges])


class Layers(nn.Module):
    """A layer that gets other edges than the model did."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change
        self.conv = SimpleConv(aggr="sum")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, self.change(edge_index))


def with_loops(edges: Tensor) -> Tensor:
    return torch.cat([edges, torch.arange(4).expand(2, 4)], dim=1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda edges: edges, 0.5 * 2 - 0.25 * 4 + 3 * 1),
        (lambda edges: edges.flip(1), 0.5 * 2 - 0.25 * 4 + 3 * 1),
        (lambda edges: edges[:, [2, 0]], 0.5 * 2 + 3 * 1),
        (lambda edges: with_loops(edges[:, :2]), 0.5 * 2 - 0.25 * 4 + 3 * 1),
        (with_loops, 0.5 * 2 - 0.25 * 4 + 3 * 1 + 3 * 1),
    ],
    ids=["same", "reordered", "dropped", "loops replaced", "loops doubled"],
)
def test_masks_follow_the_edges_that_a_layer_really_gets(
    change: Callable[[Tensor], Tensor], expected: float
) -> None:
    edges, mask = torch.tensor([[1, 2, 0], [0, 0, 0]]), torch.tensor([0.5, 0.25, 3.0]).double()
    model = Layers(change)
    with masked([model], edges, mask, 4):
        assert float(model(STAR.x, edges)[0]) == pytest.approx(expected)


def test_loops_that_only_the_layer_knows_are_never_masked() -> None:
    model, mask = Layers(with_loops), torch.zeros(3).double()
    with masked([model], STAR.edge_index, mask, 4):
        assert torch.equal(model(STAR.x, STAR.edge_index), STAR.x)


def test_edges_that_are_not_of_the_graph_are_refused() -> None:
    options = {"explain": "edges", "level": "node", "index": 0, "target": None}
    with pytest.raises(ig.ModelError, match=r"along \[2, 1\], which is no edge"):
        explain(Layers(lambda edges: (edges + 1) % 4), STAR, **options)
    twice = Data(x=STAR.x, edge_index=torch.tensor([[1, 1, 2], [0, 0, 0]]))
    with pytest.raises(ig.ModelError, match="coalesce"):
        explain(Layers(lambda edges: edges.flip(1)), twice, **options)


class Pooled(nn.Module):
    """Sums of what arrives among the nodes that pooling keeps."""

    def __init__(self, pool: type[nn.Module] = TopKPooling) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pool, self.conv = pool(1), SimpleConv(aggr="sum")
        self.double()

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        x, edge_index, *_, self.kept, _ = self.pool(x, edge_index, batch=batch)
        return self.conv(x, edge_index)


def test_masks_follow_the_edges_through_pooling() -> None:
    data = graph(nodes=8, edges=30)
    x, edges = data.x[:, :1], data.edge_index
    model = Pooled()
    whole = model(x, edges)
    inside = torch.isin(edges, model.kept).all(0)
    [dropped, *_] = inside.nonzero().view(-1).tolist()
    mask = torch.ones(30).double()
    mask[dropped] = 0.0
    with masked([model], edges, mask, 8):
        less = model(x, edges)
    places = {int(node): place for place, node in enumerate(model.kept)}
    source, target = (places[int(node)] for node in edges[:, dropped])
    pooled = model.pool(x, edges)[0]
    expected = whole.clone()
    expected[target] -= pooled[source]
    torch.testing.assert_close(less, expected)


def test_edges_of_a_coarser_graph_are_refused() -> None:
    class Coarse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SimpleConv(aggr="sum")

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            return self.conv(x[:4], torch.tensor([[0, 1], [1, 3]])).sum().view(1)

    with pytest.raises(ig.ModelError, match="pooling"):
        explain(Coarse(), graph(), explain="edges", target=None)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_models_whose_messages_cannot_be_masked_are_refused() -> None:
    def sparse(edges: Tensor) -> Tensor:
        ones = torch.ones(edges.size(1)).double()
        return torch.sparse_coo_tensor(edges, ones, (4, 4), check_invariants=True).t()

    class Alone(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return x

    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GraphConv(1, 1)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            by_end = edge_index[:, edge_index[1].argsort()].contiguous()
            return self.conv(x, EdgeIndex(by_end, sort_order="col", sparse_size=(len(x), len(x))))

    options = {"explain": "edges", "level": "node", "index": 0, "target": None}
    with pytest.raises(ig.ModelError, match="GraphConv aggregates without a message"):
        explain(Fused(), Data(x=STAR.x.float(), edge_index=STAR.edge_index), **options)
    with pytest.raises(ig.ModelError, match="sparse adjacency"):
        explain(Layers(sparse), STAR, rule="gauss-legendre", steps=2, **options)
    with pytest.raises(ig.ModelError, match="0 message passing layers"):
        explain(Alone(), STAR, **options)


def test_masks_of_one_are_the_model() -> None:
    torch.manual_seed(0)
    model, data = GCNConv(3, 2).double(), graph(loops=True)
    plain = model(data.x, data.edge_index)
    with masked([model], data.edge_index, torch.ones(20).double(), 9):
        found = model(data.x, data.edge_index)
    torch.testing.assert_close(found, plain, atol=0, rtol=0)
