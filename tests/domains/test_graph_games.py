"""Games of edges: what silence and absence are worth, layer by layer and leg by leg."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

pytest.importorskip("torch_geometric")

from torch_geometric.data import Data
from torch_geometric.nn import (
    APPNP,
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GraphConv,
    MaxAggregation,
    SAGEConv,
    SGConv,
    SimpleConv,
    TransformerConv,
)

BOTH = ("x", "edges")


class Net(nn.Module):
    """Two smooth layers, read out per node."""

    def __init__(self, conv: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = conv(3, 8), conv(8, 4)
        self.double()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x, edge_index)), edge_index)


def gin(wide: int, out: int) -> nn.Module:
    return GINConv(nn.Sequential(nn.Linear(wide, out), nn.Tanh(), nn.Linear(out, out)))


def gat(wide: int, out: int) -> nn.Module:
    return GATConv(wide, out, heads=2, concat=False, negative_slope=1.0)


def gatv2(wide: int, out: int) -> nn.Module:
    return GATv2Conv(wide, out, negative_slope=1.0)


def graph(loops: bool = True) -> Data:
    """A random graph without duplicate edges, with self-loops in between."""
    generator = torch.Generator().manual_seed(0)
    key = torch.randperm(81, generator=generator)
    pairs = torch.stack([key // 9, key % 9])
    pairs = pairs if loops else pairs[:, pairs[0] != pairs[1]]
    x = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    return Data(x=x, edge_index=pairs[:, :24])


def explain(model: Any, data: Any, **options: Any) -> Any:
    given = {"domain": "graphs", "level": "node", "index": 4, "target": 1, "tol": 1e-7}
    return ig.attribute(model, data, **{**given, **options})


def value(model: nn.Module, data: Data, edges: Tensor, scale: float = 1.0) -> float:
    with torch.no_grad():
        return float(model(scale * data.x, data.edge_index[:, edges])[4, 1])


# -- existence ----------------------------------------------------------------------------------

EXISTING: dict[str, Callable[[int, int], nn.Module]] = {
    "gcn": GCNConv,
    "gcn sums": lambda wide, out: GCNConv(wide, out, normalize=False),
    "sg": lambda wide, out: SGConv(wide, out, K=2),
    "gat": gat,
    "gatv2": gatv2,
    "gin": gin,
    "graph": GraphConv,
}


@pytest.mark.parametrize("loops", [False, True], ids=["", "loops"])
@pytest.mark.parametrize("name", EXISTING)
def test_without_masks_the_graph_has_no_edges(name: str, loops: bool) -> None:
    model, data = Net(EXISTING[name]), graph(loops)
    result = explain(model, data, explain="edges", game="existence")
    nothing = torch.zeros(24, dtype=torch.bool)
    assert result.at_baseline == pytest.approx(value(model, data, nothing), abs=1e-12)
    assert result.at_input == pytest.approx(value(model, data, ~nothing), abs=1e-12)
    assert result.display["facts"]["F(edgeless)"] == f"{result.at_baseline:.5g}"
    assert abs(result.residual) <= 1e-6 * abs(result.delta)


def test_the_existence_of_an_edge_to_one_node_has_a_closed_form() -> None:
    """GCN: a node of degree 1 + m gets m / sqrt((1 + m) (1 + 0)) of what is sent to it."""
    conv = GCNConv(1, 1, bias=False).double()
    nn.init.ones_(conv.lin.weight)
    data = Data(x=torch.tensor([[0.0], [3.0]]).double(), edge_index=torch.tensor([[1], [0]]))
    found = {
        game: explain(conv, data, explain="edges", game=game, index=0, target=None)
        for game in ("message", "existence")
    }
    assert found["existence"].scores.tolist() == pytest.approx([3 / 2**0.5])
    assert found["message"].scores.tolist() == pytest.approx([3 / 2**0.5])
    data.x[0] = 5.0  # its own features lose by the edge what the degree takes from them
    existing = explain(conv, data, explain="edges", game="existence", index=0, target=None)
    assert existing.scores.tolist() == pytest.approx([3 / 2**0.5 + 5 / 2 - 5])
    silent = explain(conv, data, explain="edges", index=0, target=None)
    assert silent.scores.tolist() == pytest.approx([3 / 2**0.5])
    assert silent.at_baseline == pytest.approx(2.5)
    assert silent.display["facts"]["F(edgeless)"] == "5"


def test_a_self_loop_that_the_layer_would_add_anyway_is_worth_nothing() -> None:
    for conv in (GCNConv, gat, gatv2):
        data = graph()
        result = explain(Net(conv), data, explain="edges", game="existence")
        loops = data.edge_index[0] == data.edge_index[1]
        assert int(loops.sum()) > 1
        assert not result.scores[loops].any() and result.scores[~loops].any()


@pytest.mark.parametrize("conv", [gin, GraphConv], ids=["gin", "graph"])
def test_both_games_are_one_where_messages_are_summed(conv: Any) -> None:
    one, other = (
        explain(Net(conv), graph(), explain=BOTH, game=game) for game in ("message", "existence")
    )
    torch.testing.assert_close(one.scores, other.scores, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("conv", "told"),
    [
        (SAGEConv, r"SAGEConv \(aggregates by mean\)"),
        (lambda a, b: SAGEConv(a, b, aggr="max"), r"SAGEConv \(aggregates by max\)"),
        (lambda a, b: GCNConv(a, b, add_self_loops=False), r"GCNConv \(normalises without"),
        (lambda a, b: GATConv(a, b, add_self_loops=False), r"GATConv \(normalises without"),
        (TransformerConv, r"\(TransformerConv\)"),
    ],
    ids=["mean", "max", "gcn", "gat", "transformer"],
)
def test_a_layer_that_cannot_say_what_an_edge_is_worth_is_refused(conv: Any, told: str) -> None:
    with pytest.raises(ig.InputError, match=told):
        explain(Net(conv), graph(), explain="edges", game="existence")
    result = explain(Net(conv), graph(), explain="edges", tol=1e-3, budget=4096)
    assert "F(edgeless)" in result.display["facts"]


def test_edge_features_that_fill_in_self_loops_are_refused() -> None:
    class Featured(nn.Module):
        def __init__(self, fill: Any) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = GATConv(3, 2, edge_dim=2, fill_value=fill, negative_slope=1.0).double()

        def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
            return self.conv(x, edge_index, edge_attr)

    data = graph()
    data.edge_attr = torch.randn(24, 2, generator=torch.Generator().manual_seed(1)).double()
    with pytest.raises(ig.InputError, match="fills in the features of self-loops"):
        explain(Featured("mean"), data, explain="edges", game="existence")
    model = Featured(0.5)
    result = explain(model, data, explain="edges", game="existence")
    none = torch.zeros(24, dtype=torch.bool)
    with torch.no_grad():
        alone = model(data.x, data.edge_index[:, none], data.edge_attr[none])[4, 1]
    assert result.at_baseline == pytest.approx(float(alone), abs=1e-12)


# -- layers -------------------------------------------------------------------------------------


def slopes_by_layer(model: Net, data: Data, t: float) -> Tensor:
    """dF/dm of every edge in each of the two layers, with all messages multiplied by hand."""
    masks = [torch.full((24,), t).double().requires_grad_() for _ in range(2)]
    handles = []
    for layer, mask in zip((model.first, model.second), masks, strict=True):

        def after(layer: Any, inputs: Any, out: Tensor, mask: Tensor = mask) -> Tensor:
            return out * mask.view(-1, 1)

        handles.append(layer.register_message_forward_hook(after))
    try:
        out = model(t * data.x, data.edge_index)[4, 1]
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(torch.autograd.grad(out, masks))


@pytest.mark.parametrize("conv", [gin, GraphConv, SAGEConv], ids=["gin", "graph", "sage"])
def test_every_layer_gets_its_part_of_an_edge(conv: Any) -> None:
    model, data = Net(conv).eval(), graph()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    result = explain(model, data, explain=BOTH, per_layer=True)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    expected = sum(
        w / 2 * slopes_by_layer(model, data, (t + 1) / 2)
        for t, w in zip(nodes, weights, strict=True)
    )
    assert result.tensors["edges"].shape == (2, 24)
    torch.testing.assert_close(result.tensors["edges"], expected, atol=1e-9, rtol=1e-6)
    shared = explain(model, data, explain=BOTH)
    torch.testing.assert_close(
        result.tensors["edges"].sum(0), shared.tensors["edges"], atol=1e-9, rtol=1e-6
    )
    torch.testing.assert_close(result.scores, shared.scores, atol=1e-9, rtol=1e-6)


def test_a_layer_that_is_called_twice_has_two_rows() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SimpleConv(aggr="sum")

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(self.conv(x, edge_index), edge_index)

    line = Data(x=torch.tensor([[2.0], [0.0], [0.0]]), edge_index=torch.tensor([[0, 1], [1, 2]]))
    result = explain(Twice(), line, explain="edges", per_layer=True, index=2, target=None)
    assert result.tensors["edges"].tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"game": "existence"}, "game='existence' is about edges"),
        ({"per_layer": True}, "per_layer"),
    ],
)
def test_an_option_for_edges_needs_edges(options: Any, told: str) -> None:
    with pytest.raises(ig.InputError, match=f"{told}.* pass explain='edges'"):
        explain(Net(gin), graph(), **options)


def test_existence_is_the_same_for_all_layers() -> None:
    with pytest.raises(ig.InputError, match="per_layer=True needs game='message'"):
        explain(Net(gin), graph(), explain="edges", per_layer=True, game="existence")


def test_steps_of_propagation_are_layers() -> None:
    result = explain(
        nn.Module.eval(APPNP(K=3, alpha=0.1)), graph(), explain="edges", per_layer=True
    )
    assert result.tensors["edges"].shape == (3, 24)


# -- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("conv", [GCNConv, gin, gat], ids=["gcn", "gin", "gat"])
@pytest.mark.parametrize("name", ["x-then-edges", "edges-then-x"])
def test_every_leg_is_complete_for_its_own_difference(name: str, conv: Any) -> None:
    model, data = Net(conv).eval(), graph(loops=False)
    result = explain(model, data, explain=BOTH, path=name)
    only = {
        "x": explain(model, data, explain="x"),
        "edges": explain(model, data, explain="edges"),
    }
    if name == "x-then-edges":  # the second leg starts with the features in place
        corner = only["edges"].at_baseline
        legs = {"x": corner - result.at_baseline, "edges": result.at_input - corner}
        torch.testing.assert_close(
            result.tensors["edges"], only["edges"].tensors["edges"], atol=1e-8, rtol=1e-6
        )
    else:
        corner = only["x"].at_baseline
        legs = {"edges": corner - result.at_baseline, "x": result.at_input - corner}
        torch.testing.assert_close(
            result.tensors["x"], only["x"].tensors["x"], atol=1e-8, rtol=1e-6
        )
    for part, difference in legs.items():
        assert float(result.tensors[part].sum()) == pytest.approx(difference, abs=1e-7), part
    told = "F(x, edges off)" if name == "x-then-edges" else "F(x', edges on)"
    assert result.display["facts"][told] == f"{corner:.5g}"
    assert result.provenance["path"] == name


def test_the_straight_path_has_another_answer() -> None:
    model, data = Net(gin).eval(), graph()
    joint, legs = (explain(model, data, explain=BOTH, path=p) for p in ("straight", "x-then-edges"))
    assert joint.delta == pytest.approx(legs.delta)
    assert float((joint.scores - legs.scores).abs().max()) > 0.01


def test_two_legs_need_features_and_edges() -> None:
    with pytest.raises(ig.InputError, match=r"explain=\('x', 'edges'\) \(got x\)"):
        explain(Net(gin), graph(), explain="x", path="x-then-edges")


def test_a_max_is_silenced_not_removed() -> None:
    """With messages of -1 and -3 silence lets a zero win, where absence would leave the other."""
    conv = SimpleConv(aggr=MaxAggregation())
    data = Data(
        x=torch.tensor([[0.0], [-1.0], [-3.0]]).double(), edge_index=torch.tensor([[1, 2], [0, 0]])
    )
    result = explain(conv, data, explain="edges", index=0, target=None)
    assert (result.at_input, result.at_baseline) == (-1.0, 0.0)
    assert result.scores.tolist() == pytest.approx([-1.0, 0.0])
