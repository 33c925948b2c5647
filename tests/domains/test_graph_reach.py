"""Reach: what an output cannot depend on is left out, and nothing else changes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

pytest.importorskip("torch_geometric")

from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    ChebConv,
    GATConv,
    GCNConv,
    HeteroConv,
    MeanSubtractionNorm,
    SAGEConv,
    SGConv,
    SimpleConv,
)

from ig_graphs.graph import read
from ig_graphs.reach import cut, neighbourhood

BOTH = ("x", "edges")


def graph(nodes: int = 300, edges: int = 500, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(nodes, (2, edges), generator=generator)
    x = torch.randn(nodes, 4, generator=generator, dtype=torch.float64)
    return Data(x=x, edge_index=pairs[:, pairs[0] != pairs[1]].unique(dim=1))


def line(nodes: int) -> Data:
    """0 -> 1 -> 2 -> ..."""
    ends = torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)])
    return Data(x=torch.ones(nodes, 4).double(), edge_index=ends)


def explain(model: Any, data: Any, **options: Any) -> Any:
    given = {"domain": "graphs", "level": "node", "index": 3, "target": 1, "tol": 1e-4}
    return ig.attribute(model, data, **{**given, "budget": 4096, **options})


def net(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().double().eval()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "gcn": lambda: GCN(4, 8, 2, 3),
    "gin": lambda: GIN(4, 8, 3, 3),
    "gat": lambda: GAT(4, 8, 2, 3, heads=2, v2=True),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("game", ["message", "existence"])
def test_the_part_gives_what_the_whole_graph_gives(name: str, game: str) -> None:
    model, data = net(MODELS[name]), graph()
    options = {"explain": BOTH, "game": game, "rule": "gauss-legendre", "steps": 8, "tol": 0.9}
    part = explain(model, data, **options)
    whole = explain(model, data, restrict=False, **options)
    assert len(part.display["nodes"]) < 100
    assert part.tensors["x"].shape == whole.tensors["x"].shape == (300, 4)
    assert list(part.units.labels) == list(whole.units.labels)
    torch.testing.assert_close(part.scores, whole.scores, atol=1e-12, rtol=1e-9)
    assert part.at_baseline == pytest.approx(whole.at_baseline, abs=1e-12)
    assert part.display["facts"] == whole.display["facts"]


def test_one_hop_less_would_be_wrong_where_degrees_count() -> None:
    """Why a graph is cut one hop further than its layers reach."""
    model, data = net(MODELS["gcn"]), graph(edges=900)
    whole = read(data)

    def output(hops: int) -> Tensor:
        part = neighbourhood(whole, {"": [3]}, hops)
        own = cut(whole, part)
        with torch.no_grad():
            found = model(own.tensors()["x"], own.tensors()["edge_index"])
        return found[int(torch.searchsorted(part.nodes[""], 3))]

    with torch.no_grad():
        wanted = model(data.x, data.edge_index)[3]
    torch.testing.assert_close(output(3), wanted)
    assert float((output(2) - wanted).abs().max()) > 1e-3


def test_outside_of_the_reach_everything_is_exactly_zero() -> None:
    model, data = net(MODELS["gin"]), graph()
    result = explain(model, data, explain=BOTH)
    inside = torch.zeros(300, dtype=torch.bool)
    inside[3] = True
    used = torch.zeros(data.num_edges, dtype=torch.bool)
    for _ in range(3):
        used |= inside[data.edge_index[1]]
        inside[data.edge_index[0, used]] = True
    assert not result.tensors["x"][~inside].any()
    assert not result.tensors["edges"][~used].any()
    assert result.tensors["edges"][used].any()


class Counted(nn.Module):
    """Counts the nodes of every pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.most = model, 0

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        self.most = max(self.most, len(x))
        return self.model(x, edge_index)


@pytest.mark.parametrize(
    ("conv", "depth"),
    [
        (lambda: nn.ModuleList([GCNConv(4, 4), GCNConv(4, 4)]), 2),
        (lambda: nn.ModuleList([SGConv(4, 4, K=3)]), 3),
        (lambda: nn.ModuleList([SimpleConv()]), 1),
    ],
    ids=["two layers", "three steps of one layer", "one"],
)
def test_layers_are_counted_in_a_row(conv: Any, depth: int) -> None:
    """On a line the part is the explained node, those before it, and one more."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = conv()

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x, edge_index)
            return x

    line = Data(
        x=torch.ones(150, 4).double(),
        edge_index=torch.stack([torch.arange(149), torch.arange(1, 150)]),
    )
    result = explain(net(Chain), line, index=100)
    assert result.display["nodes"] == [str(i) for i in range(100 - depth - 1, 101)]


def test_layers_side_by_side_are_one() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = SAGEConv(4, 3), GATConv(4, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.one(x, edge_index) + self.other(x, edge_index)

    line = Data(
        x=torch.ones(150, 4).double(),
        edge_index=torch.stack([torch.arange(149), torch.arange(1, 150)]),
    )
    assert explain(net(Both), line, index=100).display["nodes"] == ["98", "99", "100"]


def test_messages_that_flow_backwards_are_followed() -> None:
    class Back(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(4, 3, flow="target_to_source")

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index)

    model, data = net(Back), graph()
    part, whole = explain(model, data), explain(model, data, restrict=False)
    assert "part" in part.display
    torch.testing.assert_close(part.scores, whole.scores, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (SAGEConv(4, 3), MeanSubtractionNorm()),
        lambda: (ChebConv(4, 3, K=2), nn.Identity()),
    ],
    ids=["a norm over the graph", "degrees of receivers"],
)
def test_a_model_that_sees_further_is_given_the_whole_graph(make: Any) -> None:
    class Far(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = make()

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.norm(self.conv(x, edge_index))

    model, data = net(Far), graph(edges=900)
    result = explain(model, data, rule="gauss-legendre", steps=4, tol=0.9)
    whole = explain(model, data, rule="gauss-legendre", steps=4, tol=0.9, restrict=False)
    torch.testing.assert_close(result.scores, whole.scores, atol=1e-12, rtol=1e-9)
    assert "part" not in result.display


def test_several_places_of_a_large_graph_share_a_pass() -> None:
    model, data = Counted(net(MODELS["gcn"])), graph()
    results = explain(model, data, index=[3, 17, 250], explain=BOTH)
    for index, result in zip([3, 17, 250], results, strict=True):
        alone = explain(model, data, index=index, explain=BOTH)
        torch.testing.assert_close(result.scores, alone.scores, atol=1e-9, rtol=1e-3)
    assert len({id(result.units) for result in results}) == 1


def test_types_are_cut_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["user"].x = torch.randn(200, 4, generator=generator).double()
    data["film"].x = torch.randn(100, 6, generator=generator).double()
    rates, rated = ("user", "rates", "film"), ("film", "rated_by", "user")
    pairs = torch.stack([torch.randint(n, (260,), generator=generator) for n in (200, 100)])
    data[rates].edge_index, data[rated].edge_index = pairs, pairs.flip(0)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = HeteroConv({rates: SAGEConv((4, 6), 5), rated: SAGEConv((6, 4), 5)})
            self.second = HeteroConv({rates: SAGEConv((5, 5), 3), rated: SAGEConv((5, 5), 3)})

        def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
            x_dict = {k: torch.tanh(v) for k, v in self.first(x_dict, edge_index_dict).items()}
            return self.second(x_dict, edge_index_dict)

    model = net(Two)
    options = {"index": ("film", 7), "explain": BOTH}
    part, whole = explain(model, data, **options), explain(model, data, restrict=False, **options)
    assert "part" in part.display and "part" not in whole.display
    for name, value in whole.tensors.items():
        torch.testing.assert_close(part.tensors[name], value, atol=1e-9, rtol=1e-3)


def test_a_result_of_a_part_is_read_again_with_all_of_its_views(tmp_path: Any) -> None:
    result = explain(net(MODELS["gcn"]), graph(), explain=BOTH)
    found = ig.load(result.save(tmp_path / "one.safetensors"))
    torch.testing.assert_close(found.scores, result.scores)
    for by in ("part", "pair", "type", "feature"):
        assert float(found.by(by).scores.sum()) == pytest.approx(float(result.scores.sum()))
    assert found.by("pair").top(1)[0][1] == pytest.approx(result.by("pair").top(1)[0][1])
    assert "F(edgeless)" in found.to_html()


@pytest.mark.parametrize("explained", ["x", BOTH])
def test_a_baseline_for_the_whole_graph_fits_its_part(explained: Any) -> None:
    model, data = net(MODELS["gcn"]), graph()
    mean = data.x.mean(0).expand_as(data.x).clone()
    given: Any = mean if explained == "x" else {"x": mean}
    options = {"explain": explained, "baseline": given}
    part, whole = explain(model, data, **options), explain(model, data, restrict=False, **options)
    assert "part" in part.display and part.at_baseline == pytest.approx(whole.at_baseline)
    torch.testing.assert_close(part.scores, whole.scores, atol=1e-9, rtol=1e-3)
    with pytest.raises(ig.BaselineError, match="of shape"):
        explain(model, data, explain=explained, baseline={"x": mean[:7]})
