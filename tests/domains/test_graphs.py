"""Graphs: what nodes and edges are worth, against closed forms, peers and permutations."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

pytest.importorskip("torch_geometric")

from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.nn import (
    GATv2Conv,
    GCNConv,
    GINConv,
    GraphConv,
    GraphNorm,
    LayerNorm,
    SGConv,
    SimpleConv,
    global_add_pool,
)

from ig_graphs.cases.karate import karate
from ig_graphs.cases.training import _save, auroc
from ig_graphs.domain import GraphDomain

BOTH = ("x", "edges")


class Net(nn.Module):
    """Two smooth layers, read out per node, per pair of nodes or per graph."""

    def __init__(self, level: str = "node", conv: Callable[..., nn.Module] = GCNConv) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.level = level
        self.first, self.second = conv(3, 8), conv(8, 4)
        self.double()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        edge_label_index: Tensor | None = None,
    ) -> Tensor:
        x = self.second(torch.tanh(self.first(x, edge_index)), edge_index)
        if self.level == "graph":
            return global_add_pool(torch.tanh(x), batch)
        if self.level == "edge":
            return x[edge_label_index[0]] * x[edge_label_index[1]]
        return x


def gin(wide: int, out: int) -> nn.Module:
    return GINConv(nn.Sequential(nn.Linear(wide, out), nn.Tanh(), nn.Linear(out, out)))


def gat(wide: int, out: int) -> nn.Module:
    return GATv2Conv(wide, out, negative_slope=1.0)  # smooth, so that steps converge fast


def graph(nodes: int = 9, edges: int = 20, seed: int = 0, loops: bool = False) -> Data:
    """A random graph without duplicate edges."""
    generator = torch.Generator().manual_seed(seed)
    key = torch.randperm(nodes * nodes, generator=generator)
    pairs = torch.stack([key // nodes, key % nodes])
    pairs = pairs if loops else pairs[:, pairs[0] != pairs[1]]
    x = torch.randn(nodes, 3, generator=generator, dtype=torch.float64)
    return Data(x=x, edge_index=pairs[:, :edges])


def chain(nodes: int) -> Tensor:
    """0 -> 1 -> 2 -> ..."""
    return torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)])


def explain(model: Any, data: Any, **options: Any) -> Any:
    return ig.attribute(model, data, **{"domain": "graphs", "tol": 1e-6, "target": 1, **options})


# -- values -------------------------------------------------------------------------------------


class Sums(nn.Module):
    """The sum of what arrives at a node."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SimpleConv(aggr="sum")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index)


STAR = Data(
    x=torch.tensor([[1.0], [2.0], [-4.0], [8.0]], dtype=torch.float64),
    edge_index=torch.tensor([[1, 2, 0], [0, 0, 3]]),
)


@pytest.mark.parametrize(
    ("explained", "expected"),
    [
        ("x", [0.0, 2.0, -4.0, 0.0]),
        ("edges", [2.0, -4.0, 0.0]),
        (BOTH, [0.0, 1.0, -2.0, 0.0, 1.0, -2.0, 0.0]),
    ],
)
def test_a_sum_of_messages_is_shared_between_its_senders_and_its_edges(
    explained: Any, expected: list[float]
) -> None:
    result = explain(Sums(), STAR, explain=explained, level="node", index=0, target=None)
    torch.testing.assert_close(result.scores, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("explained", ["x", "edges", BOTH])
@pytest.mark.parametrize(("level", "index"), [("node", 4), ("edge", (2, 5)), ("graph", None)])
@pytest.mark.parametrize("conv", [GCNConv, gat, gin], ids=["gcn", "gat", "gin"])
def test_values_sum_to_the_difference(level: str, index: Any, explained: Any, conv: Any) -> None:
    model, data = Net(level, conv), graph()
    result = explain(model, data, explain=explained, level=level, index=index)
    pair = None if level != "edge" else torch.tensor([[2], [5]])
    with torch.no_grad():
        output = model(data.x, data.edge_index, torch.zeros(9, dtype=torch.long), pair)
    at_input = output[4 if level == "node" else 0, 1]
    assert result.at_input == pytest.approx(float(at_input), abs=1e-12)
    assert abs(result.delta) > 1e-3
    assert abs(result.residual) <= 1e-6 * abs(result.delta)
    assert float(result.scores.sum()) == pytest.approx(result.delta, rel=1e-6)


def test_silence_is_a_graph_without_edges_where_messages_are_summed() -> None:
    model, data = Net("graph", GraphConv), graph()
    result = explain(model, data, explain="edges")
    none = torch.empty(2, 0, dtype=torch.long)
    with torch.no_grad():
        edgeless = model(data.x, none, torch.zeros(9, dtype=torch.long))[0, 1]
    assert result.at_baseline == pytest.approx(float(edgeless), abs=1e-12)


@pytest.mark.parametrize("index", [0, 4])
def test_values_are_those_of_captum_explainer(index: int) -> None:
    from torch_geometric.explain import CaptumExplainer, Explainer

    model, data = Net(), graph()
    explainer = Explainer(
        model,
        CaptumExplainer("IntegratedGradients", n_steps=50, method="gausslegendre"),
        explanation_type="phenomenon",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "node",
            "return_type": "raw",
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = explainer(data.x, data.edge_index, target=torch.ones(9).long(), index=index)
    ours = explain(
        model, data, explain=BOTH, level="node", index=index, rule="gauss-legendre", steps=50
    )
    for name, theirs in (("x", peer.node_mask), ("edges", peer.edge_mask)):
        torch.testing.assert_close(ours.values[name], theirs.detach().double(), atol=1e-6, rtol=0)


# -- what is explained --------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "index"), [("node", 4), ("edge", (2, 5)), ("graph", None)])
def test_without_a_target_the_margin_at_the_explained_place_is_explained(
    level: str, index: Any
) -> None:
    model, data = Net(level), graph()
    pair = None if level != "edge" else torch.tensor([[2], [5]])
    with torch.no_grad():
        outputs = model(data.x, data.edge_index, torch.zeros(9, dtype=torch.long), pair)
    output = outputs[4 if level == "node" else 0]
    (high, low), (first, second) = (part.tolist() for part in output.topk(2))
    options = {"explain": BOTH, "level": level, "index": index}
    result = explain(model, data, target=None, **options)
    assert result.at_input == pytest.approx(high - low, abs=1e-12)
    place = {"node": " at node 4", "edge": " at node 2 and node 5", "graph": ""}[level]
    told = f"output {first} (predicted) minus output {second}{place}"
    assert result.display["explained"] == told and told in result.to_text()
    one = explain(model, data, target=first, **options)
    other = explain(model, data, target=second, **options)
    assert one.display["explained"] == f"output {first}{place}"
    torch.testing.assert_close(result.scores, one.scores - other.scores, atol=1e-5, rtol=0)


def test_every_graph_of_a_batch_has_its_own_margin() -> None:
    model, graphs = Net("graph", gin), [graph(seed=seed) for seed in range(6)]
    found = explain(model, graphs, target=None)
    for one, data in zip(found, graphs, strict=True):
        with torch.no_grad():
            high, low = model(data.x, data.edge_index, torch.zeros(9).long())[0].topk(2).values
        assert one.at_input == pytest.approx(float(high - low), abs=1e-12)
    assert len({one.display["explained"] for one in found}) > 1


def test_a_single_output_is_explained_as_it_is() -> None:
    named = Data(x=STAR.x, edge_index=STAR.edge_index, labels=["C0", "N1", "O2", "C3"])
    result = explain(Sums(), named, level="node", index=0, target=None)
    assert (result.at_input, result.display["explained"]) == (-2.0, "the output at C0")
    result = explain(Sums(), STAR, level="node", index=0, target=lambda out: 2 * out[:, 0])
    assert (result.at_input, result.display["explained"]) == (-4.0, "<lambda> at node 0")


def test_a_model_that_raises_on_its_first_call_is_a_forward_error() -> None:
    class Failing(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
            raise ArithmeticError("no")

    with pytest.raises(ig.ForwardError, match="ArithmeticError on a graph of 9 nodes: no"):
        explain(Failing(), graph(), target=None)


# -- batches ------------------------------------------------------------------------------------


def test_a_batch_of_ragged_graphs_gives_what_each_gives_alone() -> None:
    model = Net("graph", gin).float()
    graphs = [graph(3 + seed % 11, 2 + seed % 7, seed) for seed in range(32)]
    for data in graphs:
        data.x = data.x.float()
    options = {"explain": BOTH, "rule": "gauss-legendre", "steps": 8, "tol": 0.5}
    together = explain(model, graphs, **options)
    collated = explain(model, Batch.from_data_list(graphs), **options)
    for data, one, other in zip(graphs, together, collated, strict=True):
        alone = explain(model, data, **options)
        for name in BOTH:
            torch.testing.assert_close(one.values[name], alone.values[name], atol=2e-5, rtol=2e-5)
            torch.testing.assert_close(one.values[name], other.values[name], atol=0, rtol=0)


class Normed(nn.Module):
    """A norm over the whole graph, told where graphs end or not."""

    def __init__(self, norm: nn.Module, told: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = GraphConv(3, 8), norm, GraphConv(8, 4)
        self.told = told
        self.double()

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        x = self.norm(torch.tanh(self.first(x, edge_index)), batch if self.told else None)
        return self.second(x, edge_index)


@pytest.mark.parametrize("norm", [LayerNorm, GraphNorm])
def test_a_batch_vector_keeps_graph_wide_norms_apart(norm: Any) -> None:
    model, graphs = Normed(norm(8), told=True), [graph(seed=1), graph(7, 12, seed=2)]
    options = {"level": "node", "index": 3, "rule": "gauss-legendre", "steps": 16, "tol": 0.5}
    for together, data in zip(explain(model, graphs, **options), graphs, strict=True):
        alone = by_the_book(model, data, 3, 16)
        torch.testing.assert_close(together.values, alone, atol=1e-9, rtol=1e-9)
        assert not together.reason


def test_rows_that_mix_are_run_one_by_one_and_the_result_says_so() -> None:
    model, graphs = Normed(LayerNorm(8), told=False), [graph(seed=1), graph(7, 12, seed=2)]
    options = {"level": "node", "index": 3, "rule": "gauss-legendre", "steps": 16, "tol": 0.5}
    for together, data in zip(explain(model, graphs, **options), graphs, strict=True):
        alone = by_the_book(model, data, 3, 16)
        torch.testing.assert_close(together.values, alone, atol=1e-9, rtol=1e-9)
        assert "alone" in together.reason


def by_the_book(model: nn.Module, data: Data, node: int, steps: int) -> Tensor:
    """IG of one node's features by the book, one step per pass."""
    from numpy.polynomial.legendre import leggauss

    total = torch.zeros_like(data.x)
    for place, weight in zip(*leggauss(steps), strict=True):
        x = (data.x * (1 + place) / 2).requires_grad_()
        output = model(x, data.edge_index, torch.zeros(len(x), dtype=torch.long))
        (slope,) = torch.autograd.grad(output[node, 1], x)
        total += slope * weight / 2
    return total * data.x


def test_a_graph_model_without_batch_vector_sees_one_graph_at_a_time() -> None:
    class Pooled(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, edge_index, torch.zeros(len(x), dtype=torch.long))

    graphs = [graph(seed=1), graph(7, 12, seed=2)]
    found = explain(Pooled("graph"), graphs, explain=BOTH)
    for one, other in zip(found, explain(Net("graph"), graphs, explain=BOTH), strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-9, rtol=1e-9)


def test_weights_and_attributes_of_edges_reach_a_batch_in_order() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SimpleConv(aggr="sum")

        def forward(
            self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, hub_index: Tensor, u: Tensor
        ) -> Tensor:
            arrived = self.conv(x * u[0, 0], edge_index, edge_weight)
            return arrived + 0 * arrived[hub_index].sum()

    graphs = [
        Data(
            x=torch.ones(n, 1).double(),
            edge_index=chain(n),
            edge_weight=torch.arange(1.0, n).double(),
            hub_index=torch.tensor([n - 1]),
            u=torch.ones(1, 1).double(),
        )
        for n in (3, 5)
    ]
    found = explain(
        Weighted(), graphs, explain="edges", level="node", index=[2, 4], target=None, tol=1e-3
    )
    assert [one.scores.tolist() for one in found] == [[0.0, 2.0], [0.0, 0.0, 0.0, 4.0]]
    domain = GraphDomain(Weighted(), level="node", index=0)
    domain.encode(graphs[0])
    assert domain.layouts["hub_index"] == ig.Cat(dim=-1, into="all nodes", capacity=2**14)
    assert domain.layouts["edge_weight"] == ig.Cat(dim=0, capacity=2**16)


def test_several_nodes_of_one_graph_are_several_examples() -> None:
    model, data = Net(), graph()
    several = explain(model, data, level="node", index=[0, 4])
    pairs = explain(model, [(data, 0), (data, 4)], level="node")
    for one, pair, index in zip(several, pairs, (0, 4), strict=True):
        alone = explain(model, data, level="node", index=index)
        torch.testing.assert_close(one.values, alone.values, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(one.values, pair.values, atol=0, rtol=0)


# -- symmetries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("conv", [GCNConv, gat, gin], ids=["gcn", "gat", "gin"])
def test_names_of_nodes_and_order_of_edges_do_not_matter(conv: Any, loops: bool) -> None:
    model, data = Net(conv=conv), graph(loops=loops)
    generator = torch.Generator().manual_seed(5)
    names, order = torch.randperm(9, generator=generator), torch.randperm(20, generator=generator)
    x = torch.empty_like(data.x)
    x[names] = data.x
    moved = Data(x=x, edge_index=names[data.edge_index][:, order])
    options = {"explain": BOTH, "level": "node", "rule": "gauss-legendre", "steps": 16, "tol": 0.5}
    before = explain(model, data, index=4, **options).values
    after = explain(model, moved, index=int(names[4]), **options).values
    torch.testing.assert_close(after["x"][names], before["x"], atol=1e-6, rtol=0)
    torch.testing.assert_close(after["edges"], before["edges"][order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("conv", [GCNConv, gat, gin], ids=["gcn", "gat", "gin"])
def test_what_cannot_reach_a_node_gets_exactly_zero(conv: Any, loops: bool) -> None:
    path = chain(8)
    if loops:  # As many loops as nodes, interleaved with the edges.
        own = torch.arange(8).expand(2, 8)
        path = torch.stack([own[:, :7], path], dim=2).reshape(2, 14)
        path = torch.cat([path, own[:, 7:]], dim=1)
    data = Data(x=torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), edge_index=path)
    data.x = data.x.double()
    result = explain(Net(conv=conv), data, explain=BOTH, level="node", index=5)
    reach = {3, 4, 5}  # two layers see two steps back
    for node, row in enumerate(result.values["x"]):
        assert bool((row == 0).all()) == (node not in reach)
    inside = [end in (4, 5) for _, end in path.t().tolist()]
    assert [bool(v != 0) for v in result.values["edges"]] == inside


def test_duplicate_edges_share_alike() -> None:
    data = Data(x=STAR.x, edge_index=torch.tensor([[1, 2, 1], [0, 0, 0]]))
    result = explain(Sums(), data, explain="edges", level="node", index=0, target=None)
    assert result.scores.tolist() == pytest.approx([2.0, -4.0, 2.0])
    data = graph()
    data.edge_index = torch.cat([data.edge_index, data.edge_index[:, :3]], dim=1)
    values = explain(Net(), data, explain="edges", level="node", index=4).values
    torch.testing.assert_close(values[:3], values[-3:], atol=1e-12, rtol=0)


def test_an_edge_index_with_metadata_is_a_plain_one() -> None:
    sized = Data(x=STAR.x, edge_index=EdgeIndex(STAR.edge_index, sparse_size=(4, 4)))
    options = {"explain": "edges", "level": "node", "index": 0, "target": None}
    assert explain(Sums(), sized, **options).scores.tolist() == pytest.approx([2.0, -4.0, 0.0])


def test_isolated_nodes_count_for_themselves_only() -> None:
    data = graph(9, 8)
    data.edge_index = data.edge_index[:, (data.edge_index != 8).all(0)]
    values = explain(Net(), data, level="node", index=8).values
    assert bool((values[:8] == 0).all()) and bool((values[8] != 0).all())


@pytest.mark.parametrize("conv", [GCNConv, gin], ids=["gcn", "gin"])
def test_a_graph_without_edges_owes_everything_to_its_nodes(conv: Any) -> None:
    data = Data(x=graph().x, edge_index=torch.empty(2, 0, dtype=torch.long))
    result = explain(Net("graph", conv), data, explain=BOTH)
    assert result.values["edges"].shape == (0,)
    assert float(result.values["x"].sum()) == pytest.approx(result.delta, rel=1e-6)
    edges = explain(Net("graph", conv), data, explain="edges")
    assert (edges.delta, len(edges.units)) == (0.0, 0)
    assert edges.to_text()


# -- the model is left as it was found ----------------------------------------------------------


@pytest.mark.parametrize("explained", ["x", BOTH])
@pytest.mark.parametrize("conv", [GCNConv, SGConv], ids=["gcn", "sg"])
def test_caches_do_not_leak_into_the_result_and_stay_as_they_were(
    conv: Any, explained: Any, left_as_found: Any
) -> None:
    plain, data = Net(conv=conv), graph()
    cached = Net(conv=lambda a, b: conv(a, b, cached=True))
    cached.load_state_dict(plain.state_dict())
    cached(data.x, data.edge_index)
    before = {m: dict(vars(m)) for m in (cached.first, cached.second)}
    options = {"explain": explained, "level": "node", "index": 4}
    with left_as_found(cached):
        result = explain(cached, data, **options)
        with pytest.raises(ig.TargetError):
            explain(cached, data, **{**options, "target": 9})
    torch.testing.assert_close(
        result.scores, explain(plain, data, **options).scores, atol=1e-9, rtol=1e-9
    )
    for module, state in before.items():
        assert module.cached is True
        for name in (name for name in state if name.startswith("_cached")):
            assert vars(module)[name] is state[name]


def test_mask_hooks_are_removed_also_when_the_model_raises() -> None:
    class Failing(Sums):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            super().forward(x, edge_index)
            raise ArithmeticError("no")

    model = Failing()
    with pytest.raises(ig.ForwardError, match="no"):
        explain(model, STAR, explain="edges", level="node", index=0, target=0)
    assert not model.conv._message_forward_hooks
    assert not model.conv._propagate_forward_pre_hooks


# -- bad input ----------------------------------------------------------------------------------

X = torch.ones(3, 3).double()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            Data(x=X, edge_index=torch.tensor([[0], [3]])),
            r"from 0 to 2 in row 1 \(got \[0, 3\] at edge 0",
        ),
        (Data(x=X, edge_index=torch.tensor([[0], [-1]])), "from 0 to 2"),
        (Data(x=X, edge_index=torch.tensor([[0.0], [1.0]])), "must be torch.int64"),
        (Data(x=X, edge_index=torch.tensor([[0, 1], [1, 2], [2, 0]])), r"shape \(2, edges\)"),
        (Data(x=X), "needs edge_index"),
        (Data(edge_index=chain(3), num_nodes=4), "the model needs 'x'"),
        (Data(x=X[:0], edge_index=torch.empty(2, 0).long()), "needs node features x"),
        (Data(x=X.long(), edge_index=chain(3)), "dtype torch.int64"),
        (Data(x=X, edge_index=chain(3), labels=["a"]), "one entry per node, 3"),
        (HeteroData(), "needs node types with nodes"),
        ("a graph", "got str"),
    ],
)
def test_a_bad_graph_is_an_input_error(data: Any, message: str) -> None:
    with pytest.raises(ig.InputError, match=message):
        explain(Net(), data, level="node", index=0)


def test_not_a_number_is_named() -> None:
    x = X.clone()
    x[1, 2] = torch.nan
    with pytest.raises(ig.NonFiniteError, match=r"'x' of example 0 is NaN or infinite at \[1, 2\]"):
        explain(Net(), Data(x=x, edge_index=chain(3)), level="node", index=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "node"}, "needs index, the number of a node"),
        ({"level": "node", "index": 3}, "0 to 2"),
        ({"level": "node", "index": (0, 1)}, "needs index, the number of a node"),
        ({"level": "node", "index": True}, "needs index, the number of a node"),
        ({"level": "edge", "index": 1}, "a pair of nodes"),
        ({"level": "edge", "index": (1, -1)}, "0 to 2"),
        ({"level": "graph", "index": 1}, "the whole graph"),
        ({"level": "nodes"}, "no level is called 'nodes'; did you mean 'node'"),
        ({"explain": ()}, "explain takes"),
        ({"explain": 3}, "explain takes"),
        ({"explain": ("x", "edge")}, "'edge'; did you mean 'edges'"),
        ({"hops": 3}, "hops"),
    ],
)
def test_a_bad_option_is_an_input_error(options: Any, message: str) -> None:
    with pytest.raises(ig.InputError, match=message):
        explain(Net(), Data(x=X, edge_index=chain(3)), **options)


def test_a_bad_index_list_is_an_input_error() -> None:
    with pytest.raises(ig.InputError, match="each of 2 graphs"):
        explain(Net(), [graph(), graph()], level="node", index=[1])


def test_a_model_that_cannot_be_called_is_an_input_error() -> None:
    class Features(nn.Module):
        def forward(self, x: Tensor, batch: Tensor) -> Tensor:
            return x

    class Demanding(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
            return x

    with pytest.raises(ig.InputError, match=r"its forward takes \(x, batch\)"):
        explain(Features(), graph())
    with pytest.raises(ig.InputError, match="needs 'edge_attr'"):
        explain(Demanding(), graph())
    with pytest.raises(ig.InputError, match="takes edge_label_index"):
        explain(Sums(), graph(), level="edge", index=(0, 1))


def test_positions_of_other_things_than_nodes_are_refused() -> None:
    class Counting(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor, ring_batch: Tensor) -> Tensor:
            return x

    data = graph()
    data.ring_batch = torch.tensor([0, 1, 2])
    with pytest.raises(ig.InputError, match=r"'ring_batch' .* __inc__ is 3"):
        explain(Counting(), data, level="node", index=0)


def test_an_output_of_another_level_is_an_output_error() -> None:
    with pytest.raises(ig.OutputError, match="an output row per node"):
        explain(Net("graph"), graph(), level="node", index=0)
    with pytest.raises(ig.OutputError, match="one output per row"):
        explain(Net("node"), graph(), level="graph")


# -- names and views ----------------------------------------------------------------------------


def test_the_domain_is_guessed_from_a_graph() -> None:
    model = Net()
    assert GraphDomain.accepts(model, graph())
    assert GraphDomain.accepts(model, [(graph(), 1)])
    assert not GraphDomain.accepts(model, [graph(), "text"])
    assert not GraphDomain.accepts(model, [])
    result = ig.attribute(model, graph(), level="node", index=1, target=0)
    assert result.provenance["domain"] == "graphs"


def test_units_are_nodes_then_edges() -> None:
    options = {"explain": BOTH, "level": "node", "index": 0, "target": None}
    labels = explain(Sums(), STAR, **options).units.labels
    assert list(labels[3:6]) == ["node 3", "edge 1-0", "edge 2-0"]
    named = Data(x=STAR.x, edge_index=STAR.edge_index, labels=["C0", "N1", "O2", "C3"])
    labels = explain(Sums(), named, **options).units.labels
    assert list(labels[3:6]) == ["C3", "N1-C0", "O2-C0"]


# -- cases --------------------------------------------------------------------------------------


def test_auroc_counts_pairs_in_order() -> None:
    truth = torch.tensor([True, False, True, False])
    assert auroc(torch.tensor([3.0, 1.0, 1.0, 0.0]), truth) == pytest.approx(3.5 / 4)


def test_a_model_that_learned_nothing_is_not_kept(tmp_path: Any) -> None:
    truth = torch.tensor([0, 1] * 50)
    with pytest.raises(ig.ModelError, match=r"accuracy 0.500, .* gives 0.500"):
        _save(Net(), torch.zeros(100).long(), truth, tmp_path / "weights")
    assert not list(tmp_path.iterdir())


@pytest.mark.real
def test_karate_club_is_trained_once(tmp_path: Any) -> None:
    drawn = torch.get_rng_state()
    first, second = karate(tmp_path), karate(tmp_path)
    assert torch.equal(drawn, torch.get_rng_state())
    assert first.facts == second.facts and first.facts["test accuracy"].endswith(" on 30")
    assert float(first.facts["test accuracy"].split()[0]) > 0.7
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    result = ig.attribute(
        first.model, first.inputs, domain="graphs", target=first.targets, **first.options
    )
    assert len(result) == 12 and all(one.converged for one in result)
