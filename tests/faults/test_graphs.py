"""Graphs that do not fit, and models that surprise: a named error or the right numbers."""

import warnings
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
    ClusterGCNConv,
    DirGNNConv,
    GATConv,
    GCNConv,
    GraphConv,
    RGCNConv,
    SAGEConv,
    global_add_pool,
)
from torch_geometric.utils import sort_edge_index, to_undirected

from ig_graphs.domain import GraphDomain

Edges = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """Two layers of sums, which get the edges as ``route`` hands them on."""

    def __init__(
        self, route: Edges = lambda edges: edges, conv: Callable[..., nn.Module] = GraphConv
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = conv(3, 8), conv(8, 2)
        self.route = route
        self.double()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        edges = self.route(edge_index)
        return self.second(torch.tanh(self.first(x, edges)), edges)


class Typed(nn.Module):
    """The same layer for typed edges twice in a row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = RGCNConv(3, 3, 4, aggr="sum").double()

    def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        return self.conv(torch.tanh(self.conv(x, edge_index, edge_type)), edge_index, edge_type)


def graph(nodes: int = 9, edges: int = 20, seed: int = 0) -> Data:
    """A random graph without duplicate edges and self-loops, in no order."""
    generator = torch.Generator().manual_seed(seed)
    key = torch.randperm(nodes * nodes, generator=generator)
    pairs = torch.stack([key // nodes, key % nodes])
    pairs = pairs[:, pairs[0] != pairs[1]][:, :edges]
    return Data(x=torch.randn(nodes, 3, generator=generator).double(), edge_index=pairs)


def undirected(data: Data) -> Data:
    """The graph with every edge in both directions, sorted by source as PyG leaves it."""
    return Data(x=data.x, edge_index=to_undirected(data.edge_index))


def explain(model: Any, data: Any, **options: Any) -> Any:
    return ig.attribute(
        model, data, **{"domain": "graphs", "tol": 1e-6, "target": 0, "level": "node", **options}
    )


def without(data: Data, edge: int) -> Data:
    """The graph less one edge and all that belongs to it."""
    kept = torch.arange(data.edge_index.size(1)) != edge
    less = Data(x=data.x, edge_index=data.edge_index[:, kept])
    if "edge_type" in data:
        less.edge_type = data.edge_type[kept]
    return less


def masked_and_removed(model: nn.Module, data: Data) -> tuple[Tensor, Tensor]:
    """Output 0 of node 0 with each edge masked in turn, and with it really removed."""
    domain = GraphDomain(model, explain="edges", level="node", index=0)
    count = data.edge_index.size(1)
    masks = 1 - torch.eye(count, dtype=torch.float64)
    with domain.prepared():
        task = ig.prepare(domain, [data], target=0)
        examples = [task.examples[0]] * count
        masked = task.values_of(examples, [{"edges": mask} for mask in masks])
    with torch.no_grad():
        removed = [model(**without(data, edge).to_dict())[0, 0] for edge in range(count)]
    return masked, torch.stack(removed)


# -- edges that a model turns round, doubles or writes to ---------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        Net(lambda edges: edges.flip(0)),
        Net(lambda edges: torch.cat([edges, edges.flip(0)], dim=1)),
        Net(lambda edges: edges[:, torch.arange(edges.size(1)).flip(0)]),
        Net(conv=lambda wide, out: DirGNNConv(GraphConv(wide, out))),
    ],
    ids=["turned", "both ways", "reordered", "DirGNNConv"],
)
@pytest.mark.parametrize("data", [graph(), undirected(graph())], ids=["directed", "undirected"])
def test_an_edge_that_is_turned_round_keeps_its_mask(model: nn.Module, data: Data) -> None:
    masked, removed = masked_and_removed(model, data)
    torch.testing.assert_close(masked, removed)
    assert float((removed - removed[0]).abs().max()) > 0.01


def test_edges_that_are_either_sorted_or_turned_round_are_refused() -> None:
    data = undirected(graph())
    data.edge_index = sort_edge_index(data.edge_index, sort_by_row=False)
    sorts = Net(sort_edge_index)
    with pytest.raises(ig.ForwardError, match="sort its edges by source before"):
        explain(sorts, data, index=0, explain="edges")
    data.edge_index = sort_edge_index(data.edge_index)
    torch.testing.assert_close(*masked_and_removed(sorts, data))


def test_a_model_that_writes_into_its_edges_is_refused() -> None:
    def reversed_in_place(edges: Tensor) -> Tensor:
        return edges.copy_(edges.flip(1))

    data = graph()
    before = data.edge_index.clone()
    with pytest.raises(ig.ForwardError, match=r"edge_index\.clone\(\)"):
        explain(Net(reversed_in_place), data, index=0, explain="edges")
    assert torch.equal(data.edge_index, before)


def test_a_model_that_writes_into_its_features_sees_copies() -> None:
    class Doubling(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return super().forward(x.mul_(2), edge_index)

    data = graph()
    double = Data(x=2 * data.x, edge_index=data.edge_index)
    found = explain(Doubling(), data, index=0, target=None)
    assert torch.equal(2 * data.x, double.x)
    torch.testing.assert_close(found.scores, explain(Net(), double, index=0, target=None).scores)


def test_two_types_with_equal_edges_are_told_apart_by_a_layer_that_is_called_twice() -> None:
    pairs = graph().edge_index[:, :6]
    types = torch.tensor([0] * 6 + [2] * 6)  # there is no edge of types 1 and 3
    data = Data(x=graph().x, edge_index=torch.cat([pairs, pairs], dim=1), edge_type=types)
    data.edge_index[1, [0, 6]] = 0
    torch.testing.assert_close(*masked_and_removed(Typed(), data))


# -- layers that masks do not reach -------------------------------------------------------------


@pytest.mark.unwatched
@pytest.mark.filterwarnings("ignore")
def test_a_scripted_layer_among_others_is_refused_by_name() -> None:
    model = Net()
    model.second = torch.jit.script(model.second)
    with pytest.raises(ig.ForwardError, match=r"no message of GraphConv .* torch\.jit"):
        explain(model, graph(), index=0, explain="edges")


@pytest.mark.unwatched
@pytest.mark.filterwarnings("ignore")
def test_a_traced_model_has_features_to_explain_but_no_edges() -> None:
    model, data = Net(), graph()
    traced = torch.jit.trace(model, (data.x, data.edge_index))
    found = explain(traced, data, index=0)
    torch.testing.assert_close(found.scores, explain(model, data, index=0).scores)
    with pytest.raises(ig.ForwardError, match=r"no message of GraphConv .* torch\.jit"):
        explain(traced, data, index=0, explain="edges")


# -- parts of a large graph, compared with the whole --------------------------------------------

LARGE = graph(300, 500)
FIXED = {"rule": "gauss-legendre", "steps": 8, "tol": 0.9}


@pytest.mark.filterwarnings("ignore::ig_core.NotConvergedWarning")
@pytest.mark.parametrize(
    "far",
    [
        lambda x: torch.relu(0.5 - x.abs().mean()),  # nothing at the input
        lambda x: torch.sigmoid(50 * x[-1].abs().sum()),  # saturated at the input
        lambda x: torch.tanh(x[-1].sum()),
    ],
    ids=["near the baseline", "saturated", "everywhere"],
)
def test_what_counts_only_away_from_the_input_is_not_cut_off(far: Callable[..., Tensor]) -> None:
    class Far(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return super().forward(x, edge_index) + far(x)

    found, whole = (explain(Far(), LARGE, index=5, restrict=r, **FIXED) for r in (True, False))
    assert "part" not in found.display
    torch.testing.assert_close(found.scores, whole.scores)


@pytest.mark.filterwarnings("ignore::ig_core.NotConvergedWarning")
def test_every_explained_node_is_compared_with_the_whole_graph() -> None:
    class Choosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            every = global_add_pool(x, batch)[batch]
            return self.net(x, edge_index) + (x[:, :1] > 0) * every[:, :2]

    ordered = LARGE.x[:, 0].argsort().tolist()
    index = [*ordered[:5], ordered[-1]]
    found, whole = (
        explain(Choosy(), LARGE, index=index, restrict=r, **FIXED) for r in (True, False)
    )
    assert ["part" in one.display for one in found] == [True] * 5 + [False]
    torch.testing.assert_close(found[-1].scores, whole[-1].scores)


def test_a_model_that_knows_its_nodes_is_given_all_of_them() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.own = nn.Parameter(torch.ones(300, 3).double())

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.net(x + self.own, edge_index)

    found, whole = (explain(Embedded(), LARGE, index=5, restrict=r) for r in (True, False))
    assert torch.equal(found.scores, whole.scores)


# -- the game existence -------------------------------------------------------------------------


def test_existence_is_asked_of_every_pair_of_nodes() -> None:
    class Means(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = SAGEConv(3, 4).double()

        def forward(self, x: Tensor, edge_index: Tensor, edge_label_index: Tensor) -> Tensor:
            x = self.conv(x, edge_index)
            return (x[edge_label_index[0]] * x[edge_label_index[1]]).sum(1)

    # Nodes 0 and 1 have a single neighbour, of which the mean is a sum; 5 has four.
    data = Data(x=graph().x, edge_index=torch.tensor([[0, 1, 2, 3, 4, 6], [1, 0, 5, 5, 5, 5]]))
    options = {"level": "edge", "game": "existence", "explain": "edges", "target": None}
    assert explain(Means(), data, index=(0, 1), **options).status == "converged"
    with pytest.raises(ig.InputError, match="aggregates by mean"):
        explain(Means(), data, index=[(0, 1), (5, 1)], **options)


def test_several_weighted_self_loops_of_a_node_do_not_say_which_exists() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(3, 2).double()

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
            return self.conv(x, edge_index, edge_weight)

    data = Data(
        x=graph().x,
        edge_index=torch.tensor([[0, 0, 1], [0, 0, 0]]),
        edge_weight=torch.tensor([0.5, 2.0, 1.0]).double(),
    )
    with pytest.raises(ig.ModelError, match="GCNConv keeps one of several self-loops"):
        explain(Weighted(), data, index=0, explain="edges", game="existence")


def test_the_reason_of_a_refusal_is_the_layer_s_own() -> None:
    options = {"index": 0, "explain": "edges", "game": "existence"}
    with pytest.raises(ig.InputError, match=r"ClusterGCNConv .has coefficients from its edges"):
        explain(Net(conv=ClusterGCNConv), graph(), **options)
    data = graph()
    data.edge_attr = torch.ones(20, 1).double()

    class Featured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GATConv(3, 2, edge_dim=1).double()

        def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
            return self.conv(x, edge_index, edge_attr)

    with pytest.raises(ig.InputError, match=r"GATConv .fills in the features of self-loops"):
        explain(Featured(), data, **options)


# -- input that does not fit --------------------------------------------------------------------


def test_edges_without_numbers_are_refused() -> None:
    data = Data(x=graph().x, edge_index=graph().edge_index.to("meta"))
    with pytest.raises(ig.InputError, match="edge_index is on 'meta', without numbers"):
        explain(Net(), data, index=0)


@pytest.mark.parametrize("index", [torch.tensor(3), torch.tensor([3]), np.int64(3)])
def test_integers_of_numpy_and_torch_are_nodes(index: Any) -> None:
    found, plain = (explain(Net(), graph(), index=i) for i in (index, 3))
    torch.testing.assert_close(found.scores, plain.scores)


@pytest.mark.parametrize(
    "index",
    [torch.tensor(True), np.True_, torch.tensor([1, 2]), np.array([0, 1]), range(2), "0", 1.0],
)  # fmt: skip
def test_what_is_no_node_is_refused_and_a_list_is_named(index: Any) -> None:
    with pytest.raises(ig.InputError, match=r"the number of a node .*; a list has one for each"):
        explain(Net(), graph(), index=index)


@pytest.mark.parametrize("key", ["labels", "feature_names", "edge_type_names"])
@pytest.mark.parametrize("names", [5, "abc"])
def test_names_are_a_list(key: str, names: Any) -> None:
    with pytest.raises(ig.InputError, match=f"{key} must be a list of names"):
        explain(Net(), Data(**graph().to_dict(), **{key: names}), index=0)


def test_numbers_in_a_tensor_are_names() -> None:
    data = graph()
    data.labels = torch.arange(9) + 100
    assert explain(Net(), data, index=0).units.labels[0] == "100"


def test_an_output_per_node_names_the_level_that_explains_it() -> None:
    with pytest.raises(ig.OutputError, match=r"a row per node.; level='node' with index"):
        explain(Net(), graph(), level="graph")


@pytest.mark.unwatched
def test_a_model_without_sizes_is_refused_before_it_is_called() -> None:
    model = Net(conv=lambda wide, out: GCNConv(-1, out))
    with pytest.raises(ig.InputError, match=r"'first\.lin\.weight' is not initialized"):
        explain(model, graph(), index=0)
    with torch.no_grad():
        model(graph().x, graph().edge_index)
    assert explain(model, graph(), index=0).status == "converged"


# -- models as they were found ------------------------------------------------------------------


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("game", ["message", "existence"])
def test_an_interrupted_call_leaves_hooks_and_caches_as_they_were(at: int, game: str) -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = GCNConv(3, 2, cached=True).double()
            self.calls = 0

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            found = self.conv(x, edge_index)
            self.calls += 1
            if self.calls == at:
                raise KeyboardInterrupt
            return found

    model, data = Interrupted(), graph()
    with torch.no_grad():
        model.conv(data.x, data.edge_index)
    mine = model.conv.register_message_forward_hook(lambda layer, inputs, messages: messages)
    before = {k: dict(v) if isinstance(v, dict) else v for k, v in vars(model.conv).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(KeyboardInterrupt):
            explain(model, data, index=0, target=None, explain=("x", "edges"), game=game, tol=1e-12)
    after = vars(model.conv)
    assert after.keys() == before.keys()
    assert all(
        dict(after[k]) == v if isinstance(v, dict) else after[k] is v for k, v in before.items()
    )
    assert mine.id in model.conv._message_forward_hooks
