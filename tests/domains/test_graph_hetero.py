"""Heterogeneous graphs: every type of node and edge is explained, whatever layers do with it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

pytest.importorskip("torch_geometric")

from torch_geometric.data import Batch, HeteroData
from torch_geometric.nn import (
    GATConv,
    GraphConv,
    HANConv,
    HeteroConv,
    HGTConv,
    SAGEConv,
    SimpleConv,
    to_hetero,
)

BOTH = ("x", "edges")
WIDTHS = {"user": 4, "film": 6}
RELATIONS = [("user", "rates", "film"), ("film", "rated_by", "user"), ("user", "follows", "user")]


def graph(seed: int = 0, users: int = 7, films: int = 5) -> HeteroData:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"user": users, "film": films}
    data = HeteroData()
    for name, size in sizes.items():
        data[name].x = torch.randn(size, WIDTHS[name], generator=generator, dtype=torch.float64)
    for count, relation in zip((15, 13, 11), RELATIONS, strict=True):
        ends = [torch.randint(sizes[end], (count,), generator=generator) for end in relation[::2]]
        data[relation].edge_index = torch.stack(ends)
    return data


class Hetero(nn.Module):
    """Two layers with a convolution for every relation, read out at the users."""

    def __init__(self, conv: Callable[[Any, int], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = HeteroConv({r: conv((WIDTHS[r[0]], WIDTHS[r[2]]), 8) for r in RELATIONS})
        self.second = HeteroConv({r: conv((8, 8), 3) for r in RELATIONS})
        self.double()

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Tensor:
        x_dict = {name: torch.tanh(x) for name, x in self.first(x_dict, edge_index_dict).items()}
        return self.second(x_dict, edge_index_dict)["user"]


class Once(nn.Module):
    """One layer that knows all types, read out at the users."""

    def __init__(self, conv: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = conv(WIDTHS, 8, (["user", "film"], RELATIONS), heads=2)
        self.head = nn.Linear(8, 3)
        self.double()

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Tensor:
        return self.head(torch.tanh(self.conv(x_dict, edge_index_dict)["user"]))


class Homogeneous(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = SAGEConv((-1, -1), 8), SAGEConv((-1, -1), 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x, edge_index)), edge_index)


def lifted() -> nn.Module:
    torch.manual_seed(0)
    data = graph()
    model = to_hetero(Homogeneous().double(), data.metadata())
    with torch.no_grad():
        model(data.x_dict, data.edge_index_dict)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "sage": lambda: Hetero(SAGEConv),
    "graph": lambda: Hetero(GraphConv),
    "gat": lambda: Hetero(lambda wide, out: GATConv(wide, out, add_self_loops=False)),
    "to_hetero": lifted,
    "han": lambda: Once(HANConv),
    "hgt": lambda: Once(HGTConv),
}


def explain(model: nn.Module, data: Any, **options: Any) -> Any:
    given = {"domain": "graphs", "level": "node", "index": ("user", 0), "target": 1, "tol": 1e-5}
    given["budget"] = 2048  # some attention has kinks
    return ig.attribute(model, data, **{**given, **options})


def with_masks(model: nn.Module, data: HeteroData, scale: float, messages: Any) -> float:
    """The output with the features scaled and every message multiplied by its mask, by hand."""
    from torch_geometric.nn import MessagePassing

    x = {name: scale * value for name, value in data.x_dict.items()}
    handles, queue = [], []
    for name, layer in model.named_modules():
        if not isinstance(layer, MessagePassing):
            continue
        own = [r for r in RELATIONS if "__".join(r) in name or "___".join(r) in name]

        def before(layer: Any, inputs: Any, own: Any = own) -> None:
            same = [r for r in own or RELATIONS if torch.equal(data[r].edge_index, inputs[0])]
            parts = [messages[r] for r in (same[:1] or RELATIONS)]
            queue.append(torch.cat(parts))

        def after(layer: Any, inputs: Any, out: Tensor) -> Tensor:
            mask = queue.pop()
            return out * mask.view(-1, *(1,) * (out.dim() - 1))

        handles.append(layer.register_propagate_forward_pre_hook(before))
        handles.append(layer.register_message_forward_hook(after))
    try:
        with torch.no_grad():
            out = model(x, data.edge_index_dict)
    finally:
        for handle in handles:
            handle.remove()
    out = out["user"] if isinstance(out, dict) else out
    return float(out[0, 1])


def by_differences(
    model: nn.Module, data: HeteroData, relation: Any, edge: int, count: int
) -> float:
    """The integral of dF/dm for one edge by many Gauss nodes and central differences."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    total = 0.0
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        ends = []
        for step in (1e-5, -1e-5):
            masks = {r: torch.full((data[r].num_edges,), t).double() for r in RELATIONS}
            masks[relation][edge] += step
            ends.append(with_masks(model, data, t, masks))
        total += weight * (ends[0] - ends[1]) / 2e-5
    return total


@pytest.mark.parametrize("name", MODELS)
def test_edges_of_every_relation_are_worth_their_integral(name: str) -> None:
    model, data = MODELS[name]().eval(), graph()
    result = explain(model, data, explain=BOTH)
    assert result.converged
    assert float(result.scores.sum()) == pytest.approx(result.delta, rel=1e-4)
    for relation in RELATIONS:
        found = result.tensors["__".join(relation) + ".edges"]
        edge = int(found.abs().argmax())
        count = 500 if name == "han" else 32  # its attention has kinks
        expected = by_differences(model, data, relation, edge, count)
        assert float(found[edge]) == pytest.approx(expected, rel=1e-3, abs=1e-7), relation


@pytest.mark.parametrize("name", MODELS)
def test_layers_of_every_relation_sum_to_shared_masks(name: str) -> None:
    model, data = MODELS[name]().eval(), graph()
    shared = explain(model, data, explain=BOTH)
    layers = explain(model, data, explain=BOTH, per_layer=True)
    for relation in RELATIONS:
        key = "__".join(relation) + ".edges"
        assert layers.tensors[key].shape == (
            1 if name in ("han", "hgt") else 2,
            data[relation].num_edges,
        )
        torch.testing.assert_close(
            layers.tensors[key].sum(0), shared.tensors[key], atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("name", MODELS)
def test_a_list_of_graphs_gives_what_each_gives_alone(name: str) -> None:
    model = MODELS[name]().eval()
    graphs = [graph(0), graph(1, users=9, films=3), graph(2, users=4, films=8)]
    fixed = {"explain": BOTH, "rule": "gauss-legendre", "steps": 9, "tol": 0.5}
    together = explain(model, graphs, **fixed)
    batch = explain(model, Batch.from_data_list(graphs), **fixed)
    for one, same, data in zip(together, batch, graphs, strict=True):
        alone = explain(model, data, **fixed)
        torch.testing.assert_close(one.scores, alone.scores, atol=1e-9, rtol=1e-6)
        torch.testing.assert_close(one.scores, same.scores, atol=0, rtol=0)


def test_models_with_attention_over_all_nodes_say_that_they_run_alone() -> None:
    assert "share a batch" in explain(MODELS["han"]().eval(), graph(), explain=BOTH).reason
    assert "share a batch" not in explain(MODELS["hgt"]().eval(), graph(), explain=BOTH).reason


def test_two_relations_with_equal_edges_are_told_apart_by_their_layers() -> None:
    data = graph()
    data["user", "likes", "film"].edge_index = data["user", "rates", "film"].edge_index.clone()
    pairs = [("user", "rates", "film"), ("user", "likes", "film")]

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = HeteroConv({r: SAGEConv((4, 6), 1) for r in pairs}).double()

        def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
            return self.conv(x_dict, edge_index_dict)

    torch.manual_seed(0)
    model = Two().eval()
    film = int(data[pairs[0]].edge_index[1, 0])
    result = explain(model, data, explain="edges", index=("film", film), target=0)
    with torch.no_grad():
        parts = {
            r: conv((data["user"].x, data["film"].x), data[r].edge_index)
            for r, conv in ((r, model.conv.convs[r]) for r in pairs)
        }
        silent = {
            r: conv((0 * data["user"].x, data["film"].x), data[r].edge_index)
            for r, conv in ((r, model.conv.convs[r]) for r in pairs)
        }
    for r in pairs:
        wanted = float(parts[r][film, 0] - silent[r][film, 0])
        assert float(result.tensors["__".join(r) + ".edges"].sum()) == pytest.approx(wanted)


def test_bipartite_links_are_scored_between_two_types() -> None:
    class Link(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SimpleConv(aggr="sum")

        def forward(self, x_dict: Any, edge_index_dict: Any, edge_label_index: Tensor) -> Tensor:
            film = self.conv((x_dict["user"], x_dict["film"]), edge_index_dict[RELATIONS[0]])
            user = x_dict["user"][edge_label_index[0]]
            return (user * film[edge_label_index[1]]).sum(1)

    data, pair = graph(), (("user", 2), ("film", 3))
    result = explain(Link(), data, level="edge", index=pair, target=None, explain="edges")
    sources, targets = data[RELATIONS[0]].edge_index
    arrives = (data["user"].x[2] * data["user"].x[sources]).sum(1) * (targets == 3)
    torch.testing.assert_close(result.tensors["user__rates__film.edges"], arrives)
    assert result.display["explained"].endswith("at user 2 and film 3")


def test_one_type_alone_is_explained_by_its_name() -> None:
    model, data = MODELS["sage"]().eval(), graph()
    result = explain(model, data, explain=("film.x", "user__follows__user.edges"))
    assert list(result.tensors) == ["film.x", "user__follows__user.edges"]
    assert result.units.labels[0] == "film 0"
    assert " follows " in result.units.labels[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 0}, r"\(type, number\), such as \('paper', 3\) \(got 0\)"),
        ({"index": ("actor", 0)}, "no nodes of type 'actor' .* there are user, film"),
        ({"index": ("user", 7)}, "0 to 6, the nodes of type 'user'"),
        ({"index": [("user", 0), ("film", 0)]}, "of one type .got film, user"),
        ({"explain": "edge_attr"}, "edge_attr"),
    ],
)
def test_bad_input_names_the_types(options: Any, message: str) -> None:
    with pytest.raises(ig.InputError, match=message):
        explain(MODELS["sage"](), graph(), **options)


def test_a_relation_out_of_range_is_named() -> None:
    data = graph()
    data["user", "rates", "film"].edge_index = torch.tensor([[0], [5]])
    with pytest.raises(ig.InputError, match=r"'rates'.* 0 to 4 in row 1 \(got \[0, 5\]"):
        explain(MODELS["sage"](), data)


def test_what_a_dict_does_not_hold_is_an_output_error() -> None:
    with pytest.raises(ig.OutputError, match="nothing for the nodes of type 'user'"):
        explain(HeteroConv({RELATIONS[0]: SAGEConv((4, 6), 2)}).double(), graph())
