"""Calls: how a model takes its graph, by name, in whatever form the data has it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

pytest.importorskip("torch_geometric")

from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import (
    APPNP,
    GATv2Conv,
    GCNConv,
    RGCNConv,
    Sequential,
    SimpleConv,
    global_add_pool,
)

BOTH = ("x", "edges")


def graph(seed: int = 0, nodes: int = 6, **more: Any) -> Data:
    generator = torch.Generator().manual_seed(seed)
    key = torch.randperm(nodes * nodes, generator=generator)[:12]
    pairs = torch.stack([key // nodes, key % nodes])
    x = torch.randn(nodes, 3, generator=generator, dtype=torch.float64)
    return Data(x=x, edge_index=pairs[:, pairs[0] != pairs[1]], **more)


def explain(model: Any, data: Any, **options: Any) -> Any:
    given = {"domain": "graphs", "level": "node", "index": 2, "target": 0, "tol": 1e-6}
    return ig.attribute(model, data, **{**given, **options})


def conv(*args: Any, **options: Any) -> GCNConv:
    torch.manual_seed(0)
    return GCNConv(3, 2, *args, **options).double()


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return torch.tanh(self.conv(x, edge_index, edge_weight))


# -- forms of call ------------------------------------------------------------------------------


class Whole(nn.Module):
    """A model of the kind that takes one object."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, data: Any) -> Tensor:
        x = torch.tanh(self.conv(data.x, data.edge_index))
        return global_add_pool(x, data.batch, size=data.num_graphs)


class Renamed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, h: Tensor, ends: Tensor) -> Tensor:
        return torch.tanh(self.conv(h, ends))


def test_a_model_of_one_object_is_given_a_batch() -> None:
    graphs = [graph(0), graph(1, nodes=8)]
    options = {"level": "graph", "index": None, "explain": BOTH}
    together = explain(Whole(), graphs, **options)
    for one, data in zip(together, graphs, strict=True):
        wanted = sum(
            explain(Plain(), data, explain=BOTH, index=i).scores for i in range(len(data.x))
        )
        torch.testing.assert_close(one.scores, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        Renamed,
        lambda: Sequential("x, edge_index", [(conv(), "x, edge_index -> x"), torch.tanh]),
        lambda: lambda x, edge_index: torch.tanh(shared(x, edge_index)),
    ],
    ids=["other names", "sequential", "a function"],
)
def test_other_forms_of_call_give_the_same(model: Any) -> None:
    found = explain(model(), graph(), explain="x")
    torch.testing.assert_close(found.scores, explain(Plain(), graph(), explain="x").scores)


shared = conv()


def test_an_argument_without_data_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor, colour: Tensor) -> Tensor:
            return x

    with pytest.raises(ig.InputError, match=r"needs 'colour'.* the data has edge_index, x"):
        explain(Odd(), graph())


@pytest.mark.parametrize(
    "output", ["logits", lambda found: found["logits"]], ids=["a key", "a function"]
)
def test_a_part_of_a_dict_is_explained(output: Any) -> None:
    class Several(Plain):
        def forward(self, x: Tensor, edge_index: Tensor) -> Any:
            return {"logits": super().forward(x, edge_index), "loss": x.sum()}

    found = explain(Several(), graph(), output=output)
    torch.testing.assert_close(found.scores, explain(Plain(), graph()).scores)
    with pytest.raises(ig.OutputError, match="say which part to explain with output="):
        explain(Several(), graph())


# -- adjacencies --------------------------------------------------------------------------------


def adjacency(data: Data, values: Tensor, layout: Any) -> Tensor:
    size = (len(data.x), len(data.x))
    found = torch.sparse_coo_tensor(data.edge_index.flip(0), values, size).coalesce()
    return found.to_sparse_csr() if layout is torch.sparse_csr else found


class Adjacent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor, adj_t: Tensor) -> Tensor:
        return torch.tanh(self.conv(x, adj_t))


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr], ids=["coo", "csr"])
def test_a_sparse_adjacency_is_turned_into_edges(layout: Any) -> None:
    data = graph()
    sparse = Data(x=data.x, adj_t=adjacency(data, torch.ones(data.num_edges).double(), layout))
    found = explain(Adjacent(), sparse, explain=BOTH)
    wanted = explain(Plain(), data, explain=BOTH)
    assert found.at_input == pytest.approx(wanted.at_input)
    named = dict(zip(found.units.labels, found.scores.tolist(), strict=True))
    for label, score in zip(wanted.units.labels, wanted.scores.tolist(), strict=True):
        assert named[label] == pytest.approx(score), label


@pytest.mark.filterwarnings("ignore:Sparse")
def test_weights_of_an_adjacency_become_weights_of_edges_or_are_refused() -> None:
    data = graph()
    weights = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(0)).double()
    sparse = Data(x=data.x, adj_t=adjacency(data, weights, torch.sparse_coo))
    weighted = data.clone()
    weighted.edge_weight = weights
    found = explain(Plain(), sparse, explain="edge_weight")
    wanted = explain(Plain(), weighted, explain="edge_weight")
    assert found.at_input == pytest.approx(wanted.at_input)
    assert sorted(found.scores.tolist()) == pytest.approx(sorted(wanted.scores.tolist()))
    with pytest.raises(ig.InputError, match="weights of the adjacency"):
        explain(Adjacent(), sparse)


# -- what moves ---------------------------------------------------------------------------------


def test_weights_and_features_of_edges_are_explained() -> None:
    class Featured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = GATv2Conv(3, 2, edge_dim=2, negative_slope=1.0).double()

        def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
            return self.conv(x, edge_index, edge_attr)

    data = graph()
    data.edge_attr = torch.randn(
        data.num_edges, 2, generator=torch.Generator().manual_seed(1)
    ).double()
    result = explain(Featured(), data, explain=("x", "edges", "edge_attr"))
    assert list(result.tensors) == ["x", "edges", "edge_attr"]
    assert float(result.scores.sum()) == pytest.approx(result.delta, rel=1e-5)
    total = result.tensors["edges"] + result.tensors["edge_attr"].sum(1)
    torch.testing.assert_close(result.scores[6:], total.double())


def test_the_weights_of_edges_of_a_sum_have_a_closed_form() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SimpleConv(aggr="sum")

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
            return self.conv(x, edge_index, edge_weight)

    data = Data(
        x=torch.tensor([[0.0], [2.0], [5.0]]),
        edge_index=torch.tensor([[1, 2], [0, 0]]),
        edge_weight=torch.tensor([3.0, -1.0]),
    )
    options = {"index": 0, "target": None}
    alone = explain(Weighted(), data, explain="edge_weight", **options)
    assert alone.scores.tolist() == pytest.approx([6.0, -5.0])
    # m * w * x moves in three factors: each has a third of the product.
    every = explain(Weighted(), data, explain=("x", "edges", "edge_weight"), **options)
    assert every.tensors["edges"].tolist() == pytest.approx([2.0, -5 / 3])
    assert every.tensors["edge_weight"].tolist() == pytest.approx([2.0, -5 / 3])
    assert every.tensors["x"].view(-1).tolist() == pytest.approx([0.0, 2.0, -5 / 3])


def test_positions_of_nodes_can_move_as_well() -> None:
    def model(x: Tensor, edge_index: Tensor, pos: Tensor) -> Tensor:
        return (x.sum(1) * pos[:, 0]).view(-1, 1)

    data = graph(pos=torch.arange(12.0).view(6, 2).double())
    result = explain(model, data, explain=("x", "pos"))
    assert float(result.tensors["pos"][2, 0]) == pytest.approx(result.at_input / 2)
    assert float(result.scores[2]) == pytest.approx(result.at_input)


def test_what_the_model_is_not_given_cannot_be_explained() -> None:
    with pytest.raises(ig.InputError, match=r"not given 'edge_attr'.* takes x, edge_index"):
        explain(Plain(), graph(edge_attr=torch.ones(9, 1)), explain="edge_attr")
    with pytest.raises(ig.UnknownNameError, match="edge_atr"):
        explain(Plain(), graph(), explain="edge_atr")


def test_integers_are_told_how_to_move() -> None:
    data = graph()
    data.x = data.x.long()
    with pytest.raises(
        ig.InputError, match=r"dtype torch.int64.*data.x.float\(\).*explain='edges'"
    ):
        explain(Plain(), data)


def test_a_data_set_is_its_graphs() -> None:
    from torch_geometric.datasets import KarateClub

    club = KarateClub()
    torch.manual_seed(0)
    model = GCNConv(34, 2).eval()
    [found] = ig.attribute(model, club, level="node", index=4, target=0)
    wanted = ig.attribute(model, club[0], level="node", index=4, target=0)
    torch.testing.assert_close(found.scores, wanted.scores)


def test_one_row_is_where_all_nodes_start() -> None:
    data = graph()
    row = torch.tensor([0.5, -1.0, 2.0]).double()
    one = explain(Plain(), data, baseline=row)
    every = explain(Plain(), data, baseline=row.expand_as(data.x).clone())
    torch.testing.assert_close(one.scores, every.scores)


def test_types_of_edges_are_relations() -> None:
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = RGCNConv(3, 2, 3).double()

        def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
            return self.conv(x, edge_index, edge_type)

    pairs = torch.tensor([[1, 1, 3, 4], [0, 0, 0, 0]])  # twice the same pair, by two relations
    data = Data(
        x=graph().x,
        edge_index=pairs,
        edge_type=torch.tensor([0, 1, 1, 2]),
        edge_type_names=["likes", "knows", "pays"],
    )
    model = Typed()
    result = explain(model, data, explain="edges", index=0)
    weights = model.conv.weight.detach()
    x = data.x
    means = [x[1] @ weights[0], x[1] @ weights[1] / 2, x[3] @ weights[1] / 2, x[4] @ weights[2]]
    wanted = [float(mean[0]) for mean in means]
    assert result.scores.tolist() == pytest.approx(wanted)
    types = dict(result.by("type").top())
    assert types["knows"] == pytest.approx(wanted[1] + wanted[2])


# -- where a model hides its messages -----------------------------------------------------------


@pytest.mark.unwatched
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_gives_its_edges_or_says_why_not() -> None:
    model, data = Plain(), graph()
    wanted = explain(model, data, explain="edges")
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager")
        compiled(data.x, data.edge_index)
    try:
        found = explain(compiled, data, explain="edges")
    except ig.ModelError as error:
        assert "compile" in str(error)
    else:
        torch.testing.assert_close(found.scores, wanted.scores)


def test_isolated_nodes_depend_on_themselves_only() -> None:
    data = Data(x=graph().x, edge_index=torch.tensor([[0, 1], [1, 0]]))
    result = explain(APPNP(K=2, alpha=0.5), data, explain=BOTH, index=5)
    assert result.scores.nonzero().view(-1).tolist() == [5]
    assert result.display["facts"]["F(edgeless)"] == "0"


def test_a_batch_in_place_of_a_graph_with_an_index_is_refused() -> None:
    with pytest.raises(ig.InputError, match="Data or HeteroData"):
        explain(Plain(), [("graph", 2)])
    with pytest.raises(ig.InputError, match="node types with nodes"):
        explain(Plain(), HeteroData())
