"""Graphs under PyG's own Explainer: every setting, and results as its explanations."""

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

pytest.importorskip("torch_geometric")

from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain import Explainer, Explanation, HeteroExplanation
from torch_geometric.explain.config import ThresholdConfig
from torch_geometric.explain.metric import characterization_score, fidelity, unfaithfulness
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    GATConv,
    GraphConv,
    GraphNorm,
    GraphSAGE,
    HeteroConv,
    SimpleConv,
    global_add_pool,
    global_mean_pool,
)

from ig_graphs import IGExplainer, explanation

MODES = [
    ("multiclass_classification", "raw"),
    ("multiclass_classification", "probs"),
    ("multiclass_classification", "log_probs"),
    ("binary_classification", "raw"),
    ("binary_classification", "probs"),
    ("regression", "raw"),
]
MASKS = [
    ("attributes", "object"),
    ("object", "object"),
    ("common_attributes", None),
    ("attributes", None),
    (None, "object"),
]
CLASSES = 3


class Net(nn.Module):
    """Sums of messages, so that silent edges are a graph without edges; for every level and mode.

    Its arguments have other names than PyG's.
    """

    def __init__(self, mode: str = MODES[0][0], returned: str = "raw", level: str = "node") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mode, self.returned, self.level = mode, returned, level
        self.first = GraphConv(3, 8)
        self.second = GraphConv(8, CLASSES if mode.startswith("multi") else 1)
        self.double()

    def forward(
        self,
        h: Tensor,
        links: Tensor,
        batch: Tensor | None = None,
        edge_label_index: Tensor | None = None,
    ) -> Tensor:
        h = self.second(torch.tanh(self.first(h, links)), links)
        if self.level == "graph":
            h = global_add_pool(h, batch)
        elif self.level == "edge":
            assert edge_label_index is not None
            h = h[edge_label_index[0]] * h[edge_label_index[1]]
        if self.returned == "probs":
            return h.sigmoid() if self.mode.startswith("binary") else h.softmax(-1)
        return h.log_softmax(-1) if self.returned == "log_probs" else h


def three_graphs() -> tuple[Tensor, Tensor, Tensor]:
    """Features, edges and batch vector of three graphs whose nodes are interleaved."""
    generator = torch.Generator().manual_seed(1)
    batch = torch.tensor([0, 1, 2, 0, 1, 0, 1, 0, 1])
    pairs = torch.randint(0, 9, (2, 60), generator=generator)
    pairs = pairs[:, batch[pairs[0]] == batch[pairs[1]]]
    return torch.randn(9, 3, generator=generator, dtype=torch.float64), pairs, batch


PAIRS = torch.tensor([[0, 1, 3, 6], [3, 4, 7, 1]])


def explainer(model: Any, kind: str = "model", /, **options: Any) -> Explainer:
    """Of a model, with options of Explainer, of its model_config and of IGExplainer."""
    own = {
        name: options.pop(name) for name in ("node_mask_type", "edge_mask_type") if name in options
    }
    config = {
        "mode": options.pop("mode", MODES[0][0]),
        "task_level": options.pop("level", "node"),
        "return_type": options.pop("returned", "raw"),
    }
    return Explainer(
        model,
        IGExplainer(**{"tol": 1e-6, **options}),
        explanation_type=kind,
        model_config=config,
        **{"node_mask_type": "attributes", "edge_mask_type": "object", **own},
    )


def total(found: Any) -> float:
    return sum(float(found[name].sum()) for name in ("node_mask", "edge_mask") if name in found)


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("nodes", "edges"), MASKS)
@pytest.mark.parametrize("level", ["node", "edge", "graph"])
@pytest.mark.parametrize(("mode", "returned"), MODES)
def test_masks_sum_to_what_the_output_does(
    mode: str, returned: str, level: str, nodes: Any, edges: Any
) -> None:
    """F at both ends is told by plain calls of the model: the baseline has no edges or no x."""
    model = Net(mode, returned, level)
    x, links, batch = three_graphs()
    more = {"edge_label_index": PAIRS} if level == "edge" else {"batch": batch}
    start = torch.zeros_like(x) if nodes else x, links[:, :0] if edges else links
    with torch.no_grad():
        before, after = model(*start, **more), model(x, links, **more)
    settings = {"node_mask_type": nodes, "edge_mask_type": edges, "level": level}
    told = after.argmin(-1) if mode.startswith("multi") else torch.zeros(len(after)).long()
    truth = after if mode == "regression" else told
    for index, target in ((None, None), (1, truth), (torch.tensor([2, 0]), None)):
        kind = "model" if target is None else "phenomenon"
        explains = explainer(model, kind, mode=mode, returned=returned, **settings)
        found = explains(x, links, index=index, target=target, **more)
        assert found.validate(raise_on_error=True)
        assert ("node_mask" in found, "edge_mask" in found) == (bool(nodes), bool(edges))
        rows = torch.arange(len(after)) if index is None else torch.as_tensor(index).view(-1)
        for name, output in (("f_input", after), ("f_baseline", before)):
            wanted = of_interest(output, found.target, rows, mode, returned)
            torch.testing.assert_close(found[name], wanted, atol=1e-9, rtol=1e-9)
        assert total(found) == pytest.approx(
            float((found.f_input - found.f_baseline).sum()), abs=1e-5
        )
        assert found.converged.all() and (found.evaluations > 0).all()
        assert not any(found[name].requires_grad for name in found.available_explanations)


def of_interest(output: Tensor, target: Tensor, rows: Tensor, mode: str, returned: str) -> Tensor:
    if mode == "regression":
        return output[rows, 0]
    if mode.startswith("multi"):
        return output[rows, target[rows]]
    p = output[rows, 0]
    other = 1 - p if returned == "probs" else -p
    return torch.where(target[rows] == 1, p, other)


def test_masks_of_nodes_and_of_features_are_sums_of_those_of_both() -> None:
    x, links, _ = three_graphs()
    found = {
        kind: explainer(Net(), node_mask_type=kind)(x, links, index=3).node_mask
        for kind in ("attributes", "object", "common_attributes")
    }
    torch.testing.assert_close(found["object"], found["attributes"].sum(1, keepdim=True))
    torch.testing.assert_close(found["common_attributes"], found["attributes"].sum(0, keepdim=True))


def test_the_masks_are_those_of_the_domain() -> None:
    x, links, _ = three_graphs()
    found = explainer(Net(), "phenomenon")(x, links, index=3, target=torch.full((9,), 2))
    options = {"explain": ("x", "edges"), "level": "node", "index": 3, "target": 2, "tol": 1e-6}
    own = ig.attribute(Net(), Data(x=x, edge_index=links), domain="graphs", **options)
    torch.testing.assert_close(found.node_mask, own.values["x"], atol=1e-9, rtol=0)
    torch.testing.assert_close(found.edge_mask, own.values["edges"], atol=1e-9, rtol=0)


def test_features_may_start_elsewhere_than_at_zero() -> None:
    """As one row for every node or as a row for each; also where nodes are left out otherwise."""
    generator = torch.Generator().manual_seed(0)
    nodes = torch.arange(300)
    path = torch.stack([nodes[:-1], nodes[1:]])
    x = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    row = torch.tensor([1.0, -1.0, 0.5])
    found = [
        explainer(Net(), baseline=start)(x, path, index=200)
        for start in (row, row.expand(300, 3).contiguous())
    ]
    with torch.no_grad():
        wanted = Net()(row.double().expand(300, 3), path[:, :0])[200, found[0].target[200]]
    for one in found:
        assert float(one.f_baseline) == pytest.approx(float(wanted), abs=1e-12)
        assert total(one) == pytest.approx(float(one.f_input - wanted), abs=1e-6)
    torch.testing.assert_close(found[0].node_mask, found[1].node_mask)


def test_what_there_is_without_edges_is_told() -> None:
    """Silent edges keep the degrees that GCN divides by, and so differ from none at all."""
    torch.manual_seed(0)
    x, links, _ = three_graphs()
    model = GCN(3, 8, 1, CLASSES).double()
    found = explainer(model, node_mask_type=None)(x, links, index=torch.tensor([3, 1]))
    with torch.no_grad():
        edgeless = model(x, links[:, :0])[[3, 1], found.target[[3, 1]]]
    torch.testing.assert_close(found.f_edgeless, edgeless, rtol=1e-4, atol=0)
    assert bool(((found.f_edgeless - found.f_baseline).abs() > 1e-2).all())
    assert "f_edgeless" not in explainer(model, edge_mask_type=None)(x, links, index=3)


@pytest.mark.parametrize("family", [GCN, GAT, GIN, GraphSAGE])
def test_models_of_pyg_are_explained(family: Any) -> None:
    """They have many arguments with defaults, and pass on what else they are given."""
    torch.manual_seed(0)
    x, links, _ = three_graphs()
    model = family(3, 8, 2, CLASSES).double().eval()
    found = explainer(model, tol=1e-4)(x, links, index=4)
    with torch.no_grad():
        assert float(found.f_input) == pytest.approx(float(model(x, links)[4].max()), abs=1e-12)
    assert found.converged.all()
    assert total(found) == pytest.approx(float(found.f_input - found.f_baseline), abs=1e-3)


def test_several_indices_have_the_sum_of_their_masks_and_their_own() -> None:
    x, links, _ = three_graphs()
    explains = explainer(Net())
    together = explains(x, links, index=torch.tensor([3, 0, 7]))
    for place, index in enumerate((3, 0, 7)):
        alone = explains(x, links, index=index)
        torch.testing.assert_close(together.node_masks[place], alone.node_mask)
        torch.testing.assert_close(together.edge_masks[place], alone.edge_mask)
        assert float(together.f_input[place]) == float(alone.f_input)
    torch.testing.assert_close(together.node_mask, together.node_masks.sum(0))
    mask = torch.zeros(9, dtype=torch.bool)
    mask[[0, 3, 7]] = True
    masked = explains(x, links, index=mask)
    torch.testing.assert_close(masked.edge_mask, together.edge_mask)
    last = explains(x, links, index=-1)
    torch.testing.assert_close(last.node_mask, explains(x, links, index=8).node_mask)


def test_a_target_of_zero_explains_the_other_class() -> None:
    x, links, _ = three_graphs()
    for returned in ("raw", "probs"):
        mode = "binary_classification"
        explains = explainer(Net(mode, returned), "phenomenon", mode=mode, returned=returned)
        zero, one = (
            explains(x, links, index=4, target=torch.full((9,), target)) for target in (0, 1)
        )
        torch.testing.assert_close(zero.node_mask, -one.node_mask)
        assert float(zero.f_input + one.f_input) == pytest.approx(float(returned == "probs"))


def test_magnitudes_are_those_of_the_signed_masks() -> None:
    x, links, _ = three_graphs()
    index = torch.tensor([3, 0])
    signed = explainer(Net())(x, links, index=index)
    plain = explainer(Net(), signed=False)(x, links, index=index)
    for name in ("node_mask", "edge_mask", "node_masks", "edge_masks"):
        assert bool((signed[name] < 0).any())
        assert torch.equal(plain[name], signed[name].abs())


@pytest.mark.parametrize("level", ["node", "edge", "graph"])
def test_graphs_of_a_batch_are_explained_as_if_alone(level: str) -> None:
    """A norm over each graph tells them apart; pairs and nodes are found in their own graph."""

    class Normed(Net):
        def __init__(self) -> None:
            super().__init__(level=level)
            self.norm = GraphNorm(3).double()

        def forward(
            self, h: Tensor, links: Tensor, batch: Any = None, edge_label_index: Any = None
        ) -> Tensor:
            h = self.norm(h, batch) + h
            return super().forward(h, links, batch, edge_label_index)

    x, links, batch = three_graphs()
    pairs = {"edge_label_index": PAIRS} if level == "edge" else {}
    explains = explainer(Normed(), level=level, rule="gauss-legendre", steps=16, tol=0.5)
    together = explains(x, links, batch=batch, **pairs)
    inside = (batch == 1).nonzero().view(-1)
    edges = (batch[links[0]] == 1).nonzero().view(-1)
    number = torch.full((9,), -1)
    number[inside] = torch.arange(len(inside))
    more = {"edge_label_index": number[PAIRS[:, [1, 3]]]} if level == "edge" else {}
    alone = explains(x[inside], number[links[:, edges]], **more)
    rows = {"node": inside, "edge": [1, 3], "graph": [1]}[level]
    own = together.node_masks[rows]
    torch.testing.assert_close(own[:, inside], alone.node_masks, atol=1e-9, rtol=1e-9)
    assert float(own.abs().sum()) == pytest.approx(float(own[:, inside].abs().sum()))
    masks = together.edge_masks[rows]
    torch.testing.assert_close(masks[:, edges], alone.edge_masks, atol=1e-9, rtol=1e-9)
    assert float(masks.abs().sum()) == pytest.approx(float(masks[:, edges].abs().sum()))


class Weighted(nn.Module):
    """Everything that an edge can have, and a factor that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SimpleConv(aggr="sum")

    def forward(
        self, x: Tensor, edge_index: Tensor, factor: Any, edge_weight: Tensor, edge_attr: Tensor
    ) -> Tensor:
        scale = 1.0 if factor is None else factor
        return scale * self.conv(x, edge_index, edge_weight * edge_attr[:, 0])


STAR = {
    "x": torch.tensor([[1.0], [2.0], [-4.0], [8.0]], dtype=torch.float64),
    "edge_index": torch.tensor([[1, 2, 0], [0, 0, 3]]),
    "edge_weight": torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64),
    "edge_attr": torch.tensor([[1.0, 9.0], [0.5, 9.0], [2.0, 9.0]], dtype=torch.float64),
}


def test_arguments_go_by_name_and_all_that_an_edge_has_can_move() -> None:
    """A product of four that move together is shared among them in equal parts."""
    explains = explainer(
        Weighted(), "phenomenon", mode="regression", also=("edge_weight", "edge_attr")
    )
    data = dict(STAR)
    data |= {"target": torch.zeros(4), "edge_attr": data.pop("edge_attr")}  # in another order
    found = explains(**data, factor=2.0, index=0)
    quarter = 2 * torch.tensor([2.0 * 3 * 1, -4.0 * 1 * 0.5, 0.0], dtype=torch.float64) / 4
    torch.testing.assert_close(found.edge_mask, quarter)
    torch.testing.assert_close(found.edge_weight_mask, quarter)
    torch.testing.assert_close(found.edge_attr_mask[:, 0], quarter)
    assert bool((found.edge_attr_mask[:, 1] == 0).all())
    torch.testing.assert_close(found.node_mask[[1, 2], 0], quarter[:2])
    assert float(found.f_input) == 2 * (2.0 * 3 - 4 * 0.5)
    one = explains(**data, factor=None, index=0)
    torch.testing.assert_close(one.edge_mask, quarter / 2)


# -- heterogeneous graphs -----------------------------------------------------------------------

PAPERS, AUTHORS = 4, 3
WRITES, CITES = ("author", "writes", "paper"), ("paper", "cites", "paper")


class HeteroNet(nn.Module):
    """Two relations, each with sums of messages."""

    def __init__(self, everything: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = HeteroConv({WRITES: GraphConv((2, 3), CLASSES), CITES: GraphConv(3, CLASSES)})
        self.everything = everything
        self.double()

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
        out = {name: torch.tanh(one) for name, one in self.conv(x_dict, edge_index_dict).items()}
        return out if self.everything else out["paper"]


@pytest.fixture(autouse=True)
def authors_hear_nothing() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There exist node types", UserWarning)
        warnings.filterwarnings("ignore", "Sparse", UserWarning)
        yield


def library() -> HeteroData:
    generator = torch.Generator().manual_seed(2)
    data = HeteroData()
    data["paper"].x = torch.randn(PAPERS, 3, generator=generator, dtype=torch.float64)
    data["author"].x = torch.randn(AUTHORS, 2, generator=generator, dtype=torch.float64)
    data[WRITES].edge_index = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 3]])
    data[CITES].edge_index = torch.tensor([[1, 2, 3], [0, 1, 1]])
    return data


@pytest.mark.parametrize(("nodes", "edges"), MASKS)
def test_a_heterogeneous_graph_has_masks_by_type(nodes: Any, edges: Any) -> None:
    model, data = HeteroNet(), library()
    x, links = data.x_dict, data.edge_index_dict
    explains = explainer(model, node_mask_type=nodes, edge_mask_type=edges)
    found = explains(x, links, index=torch.tensor([1, 3]))
    assert isinstance(found, HeteroExplanation) and found.validate(raise_on_error=True)
    start = {t: torch.zeros_like(one) if nodes else one for t, one in x.items()}
    off = {r: ends[:, :0] if edges else ends for r, ends in links.items()}
    with torch.no_grad():
        before, after = model(start, off), model(x, links)
    classes = after.argmax(-1)
    for place, row in enumerate((1, 3)):
        assert float(found.f_input[place]) == pytest.approx(float(after[row, classes[row]]))
        assert float(found.f_baseline[place]) == pytest.approx(float(before[row, classes[row]]))
    masks = [*found.collect("node_mask", True).values(), *found.collect("edge_mask", True).values()]
    assert len(masks) == 2 * bool(nodes) + 2 * bool(edges)
    wanted = float((found.f_input - found.f_baseline).sum())
    assert float(sum(mask.sum() for mask in masks)) == pytest.approx(wanted, abs=1e-6)
    if edges:
        assert found[WRITES].edge_mask[[0, 3]].tolist() == [
            0.0,
            pytest.approx(float(found[WRITES].edge_masks[1, 3])),
        ]


def test_a_model_that_gives_all_types_is_told_whose_output_is_explained() -> None:
    data, target = library(), torch.zeros(PAPERS).long()
    options = {"node_mask_type": "attributes", "edge_mask_type": "object"}
    plain = explainer(HeteroNet(), "phenomenon", **options)
    every = explainer(HeteroNet(everything=True), "phenomenon", node_type="paper", **options)
    one, other = (
        explains(data.x_dict, data.edge_index_dict, index=1, target=target)
        for explains in (plain, every)
    )
    torch.testing.assert_close(one["author"].node_mask, other["author"].node_mask)
    assert bool((one["author"].node_mask != 0).any())


def test_pairs_of_two_types_are_explained() -> None:
    class Scores(HeteroNet):
        def forward(self, x_dict: Any, edge_index_dict: Any, edge_label_index: Any) -> Any:  # type: ignore[override]
            papers = super().forward(x_dict, edge_index_dict)
            ends = x_dict["author"][edge_label_index[0]], papers[edge_label_index[1]]
            return ends[0].sum(-1) * ends[1].sum(-1)

    data, pairs = library(), torch.tensor([[0, 2], [1, 3]])
    options = {"mode": "regression", "level": "edge", "node_type": ("author", "paper")}
    given = data.x_dict, data.edge_index_dict
    found = explainer(Scores(), **options)(*given, edge_label_index=pairs)
    with torch.no_grad():
        torch.testing.assert_close(found.f_input, Scores()(*given, pairs))
    masks = [*found.node_mask_dict.values(), *found.edge_mask_dict.values()]
    assert float(sum(mask.sum() for mask in masks)) == pytest.approx(float(found.f_input.sum()))
    with pytest.raises(ig.InputError, match=r"node_type=\('user', 'item'\)"):
        explainer(Scores(), **{**options, "node_type": None})(*given, edge_label_index=pairs)


def test_heterogeneous_graphs_of_a_batch_are_explained_as_if_alone() -> None:
    class Means(HeteroNet):
        def forward(self, x_dict: Any, edge_index_dict: Any, batch_dict: Any = None) -> Any:  # type: ignore[override]
            papers = super().forward(x_dict, edge_index_dict)
            return global_mean_pool(papers, batch_dict["paper"] if batch_dict else None)

    one, other = library(), library()
    other["paper"].x = other["paper"].x.flip(0)
    batch = Batch.from_data_list([one, other])
    explains = explainer(Means(), level="graph", rule="gauss-legendre", steps=16, tol=0.5)
    found = explains(batch.x_dict, batch.edge_index_dict, batch_dict=batch.batch_dict)
    assert found.validate(raise_on_error=True)
    for number, data in enumerate((one, other)):
        alone = explains(data.x_dict, data.edge_index_dict)
        for kind, name in (("author", "node_mask"), (CITES, "edge_mask"), (WRITES, "edge_mask")):
            own = found[kind][f"{name}s"][number].chunk(2)
            torch.testing.assert_close(own[number], alone[kind][name], atol=1e-9, rtol=1e-9)
            assert bool((own[1 - number] == 0).all())


@pytest.mark.parametrize(("nodes", "edges"), MASKS)
def test_sparse_adjacencies_have_a_mask_per_entry(nodes: Any, edges: Any) -> None:
    """In the order of their rows, which are the targets; typed or not."""
    settings = {"node_mask_type": nodes, "edge_mask_type": edges}
    x, links, _ = three_graphs()
    links = links.unique(dim=1)
    data = library()
    sizes = {kind: len(one) for kind, one in data.x_dict.items()}

    def sparse(ends: Tensor, sources: int, targets: int) -> Tensor:
        ones = torch.ones(ends.size(1), dtype=torch.float64)
        return torch.sparse_coo_tensor(ends.flip(0), ones, (targets, sources)).to_sparse_csr()

    found = explainer(Net(), **settings)(x, sparse(links, 9, 9), index=3)
    dense = explainer(Net(), **settings)(x, links, index=3)
    typed = {r: sparse(e, sizes[r[0]], sizes[r[2]]) for r, e in data.edge_index_dict.items()}
    papers = explainer(HeteroNet(), **settings)
    hetero, wanted = (papers(data.x_dict, e, index=1) for e in (typed, data.edge_index_dict))
    assert found.validate_masks() and hetero.validate_masks()
    if nodes:
        torch.testing.assert_close(found.node_mask, dense.node_mask)
        torch.testing.assert_close(hetero["author"].node_mask, wanted["author"].node_mask)
    if edges:
        order = (links[1] * 9 + links[0]).argsort()
        torch.testing.assert_close(found.edge_mask, dense.edge_mask[order])
        ends = data[WRITES].edge_index
        order = (ends[1] * AUTHORS + ends[0]).argsort()
        torch.testing.assert_close(hetero[WRITES].edge_mask, wanted[WRITES].edge_mask[order])


def test_weights_of_typed_edges_move_if_asked() -> None:
    class Weights(HeteroNet):
        def forward(self, x_dict: Any, edge_index_dict: Any, edge_weight_dict: Any) -> Any:  # type: ignore[override]
            found = self.conv(x_dict, edge_index_dict, edge_weight_dict=edge_weight_dict)
            return torch.tanh(found["paper"])

    data = library()
    weights = {
        r: torch.linspace(0.5, 2, e.size(1)).double() for r, e in data.edge_index_dict.items()
    }
    explains = explainer(Weights(), also="edge_weight")
    found = explains(data.x_dict, data.edge_index_dict, edge_weight_dict=weights, index=1)
    for relation in (WRITES, CITES):  # a mask and a weight are factors of the same message
        torch.testing.assert_close(
            found[relation].edge_weight_mask, found[relation].edge_mask, atol=1e-6, rtol=0
        )
    names = ("node_mask", "edge_mask", "edge_weight_mask")
    sums = [float(one.sum()) for name in names for one in found.collect(name, True).values()]
    assert sum(sums) == pytest.approx(float(found.f_input - found.f_baseline), abs=1e-6)


# -- the model, and what cannot be explained ----------------------------------------------------


def test_the_model_is_left_as_it_was_found_also_when_it_raises(left_as_found: Any) -> None:
    class Failing(Net):
        def forward(self, h: Tensor, links: Tensor) -> Tensor:  # type: ignore[override]
            if torch.is_grad_enabled():
                raise ArithmeticError("no")
            return super().forward(h, links)

    x, links, _ = three_graphs()
    for model in (Net(), Failing()):
        model.second.weight_of_nothing = None
        with left_as_found(model):
            explains = explainer(model)
            if isinstance(model, Failing):
                with pytest.raises(ig.ForwardError, match="no"):
                    explains.algorithm(model.eval(), x, links, target=torch.zeros(9).long())
                model.train()
            else:
                explains(x, links, index=0)
        for layer in (model.first, model.second):
            assert layer.explain is None and layer._edge_mask is None
            assert not layer._message_forward_hooks and not layer._propagate_forward_pre_hooks


def test_an_algorithm_can_be_kept_in_a_file() -> None:
    found = pickle.loads(pickle.dumps(IGExplainer(tol=1e-3, signed=False)))
    assert type(found) is IGExplainer and found.options == {"tol": 1e-3} and not found.signed


def test_a_missed_tolerance_is_a_warning() -> None:
    x, links, _ = three_graphs()
    with pytest.warns(ig.NotConvergedWarning, match="1 of 1 examples missed tol=1e-09"):
        found = explainer(Net(), rule="gauss-legendre", steps=2, tol=1e-9)(10 * x, links, index=0)
    assert found.converged.tolist() == [False] and abs(float(found.residual)) > 1e-9


def test_a_path_in_two_legs_needs_masks_on_both(caplog: Any) -> None:
    x, links, _ = three_graphs()
    found = explainer(Net(), path="x-then-edges")(x, links, index=3)
    still = explainer(Net(), edge_mask_type=None)
    with torch.no_grad():
        corner = Net()(x, links[:, :0])[3, found.target[3]]
    assert float(found.node_mask.sum()) == pytest.approx(float(corner - found.f_baseline))
    assert still.algorithm.supports()
    with pytest.raises(ValueError, match="does not support"):
        explainer(Net(), path="x-then-edges", edge_mask_type=None)
    assert "expects masks on nodes and on edges (got 'x' only)" in caplog.text


def test_the_game_of_existence_is_played_under_the_explainer() -> None:
    x, links, _ = three_graphs()
    links = links[:, links[0] != links[1]].unique(dim=1)

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = GATConv(3, CLASSES).double()

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index)

    model = Attends()
    options = {"node_mask_type": None, "game": "existence"}
    found = explainer(model, **options)(x, links, index=3)
    with torch.no_grad():
        edgeless = model(x, links[:, :0])[3, found.target[3]]
    assert float(found.f_baseline) == pytest.approx(float(edgeless), abs=1e-12)
    assert float(found.edge_mask.sum()) == pytest.approx(float(found.f_input - edgeless), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, {"index": 9}, "0 to 8"),
        ({}, {"index": torch.tensor([])}, "0 to 8"),
        ({}, {"target": torch.zeros(3).long()}, "a class for each of the 9 rows"),
        ({}, {"target": torch.zeros(9)}, "a class for each of the 9 rows"),
        ({"mode": "regression"}, {}, r"one number per row \(got shape \(9, 3\)\)"),
        ({"level": "graph"}, {}, "an output row for each of 1 graphs"),
        ({"level": "edge"}, {}, "needs the argument edge_label_index"),
    ],
)
def test_what_does_not_fit_is_an_input_error(options: Any, given: Any, message: str) -> None:
    x, links, _ = three_graphs()
    target = given.pop("target", torch.zeros(9).long())
    with pytest.raises((ig.InputError, ig.OutputError), match=message):
        explainer(Net(), "phenomenon", **options)(x, links, target=target, **given)


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(ig.InputError, match="no option 'n_steps'; it has signed, also, game"):
        IGExplainer(n_steps=50)


def test_rows_that_depend_on_other_rows_are_refused() -> None:
    class Ranked(Net):
        def forward(self, h: Tensor, links: Tensor, edge_label_index: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(h, links, None, edge_label_index).softmax(0)

    x, links, _ = three_graphs()
    with pytest.raises(ig.ModelError, match="depends on other graphs or pairs of the call"):
        explainer(Ranked(level="edge"), level="edge")(x, links, edge_label_index=PAIRS)


def test_a_batch_must_hold_whole_graphs() -> None:
    x, links, batch = three_graphs()
    links = torch.cat([links, torch.tensor([[0], [1]])], dim=1)
    with pytest.raises(ig.InputError, match=r"edge \[0, 1\] leads from one graph to another"):
        explainer(Net(level="graph"), level="graph")(x, links, batch=batch)
    with pytest.raises(ig.InputError, match="'more' must be a tensor, a number, a string or None"):
        explainer(Net(), "phenomenon")(x, links, target=torch.zeros(9), more=[x])


def test_what_a_batch_cannot_be_taken_apart_into_is_named() -> None:
    x, links, batch = three_graphs()
    pairs = torch.tensor([[0], [1]])
    with pytest.raises(ig.InputError, match=r"the pair \[0, 1\] joins two graphs of the batch"):
        explainer(Net(level="edge"), level="edge")(x, links, batch=batch, edge_label_index=pairs)
    pairs = torch.tensor([[0], [9]])
    with pytest.raises(ig.InputError, match="there is no node 9 in the call"):
        explainer(Scoring(), "phenomenon", level="edge")(
            x, links, batch=batch, edge_label_index=pairs, target=torch.zeros(1).long()
        )
    with pytest.raises(ig.InputError, match="'hub_index' counts nodes of all graphs of the call"):
        explainer(Scoring())(x, links, batch=batch, hub_index=torch.tensor([0]))
    data = library()
    given = data.x_dict, data.edge_index_dict
    known = {"paper": torch.tensor([0, 0, 1, 1])}
    with pytest.raises(ig.InputError, match="batch says nothing of the nodes of type 'author'"):
        explainer(HeteroScoring())(*given, batch_dict=known)


class Scoring(Net):
    """Takes and ignores whatever it is given."""

    def forward(self, x: Tensor, edge_index: Tensor, **more: Any) -> Tensor:  # type: ignore[override]
        out = super().forward(x, edge_index)
        return out[:1] if "edge_label_index" in more else out


class HeteroScoring(HeteroNet):
    def forward(self, x_dict: Any, edge_index_dict: Any, **more: Any) -> Any:  # type: ignore[override]
        return super().forward(x_dict, edge_index_dict)


def test_classes_need_a_row_for_every_node_or_graph() -> None:
    class Flat(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, edge_index).sum(0)

    x, links, _ = three_graphs()
    with pytest.raises(ig.OutputError, match=r"has a row of classes for every .*shape \(3,\)"):
        explainer(Flat(), level="graph")(x, links)


def test_node_types_of_one_size_must_be_told_apart() -> None:
    data = library()
    data["author"].x = torch.randn(PAPERS, 2, dtype=torch.float64)
    given = data.x_dict, data.edge_index_dict
    with pytest.raises(ig.InputError, match=r"IGExplainer\(node_type='paper'\)"):
        explainer(HeteroNet())(*given, index=1)
    found = explainer(HeteroNet(), node_type="paper")(*given, index=1)
    assert found.converged.all()
    with pytest.raises(ig.InputError, match="each node of type 'venue'"):
        explainer(HeteroNet(), node_type="venue")(*given, index=1)


# -- results as explanations --------------------------------------------------------------------


def attributed(data: Any, model: Any = None, **options: Any) -> Any:
    both = {"explain": ("x", "edges"), "level": "node", "index": 3, "target": 1, "tol": 1e-6}
    return ig.attribute(model or Net(), data, domain="graphs", **{**both, **options})


def plain() -> Data:
    x, links, _ = three_graphs()
    return Data(x=x, edge_index=links, edge_note=torch.arange(links.size(1)), y=torch.tensor([5]))


def test_a_result_becomes_an_explanation() -> None:
    data = plain()
    result = attributed(data)
    found = explanation(result, data)
    assert isinstance(found, Explanation) and found.validate(raise_on_error=True)
    assert torch.equal(found.node_mask, result.values["x"])
    assert torch.equal(found.edge_mask, result.values["edges"])
    assert torch.equal(found.edge_note, data.edge_note) and torch.equal(found.y, data.y)
    assert sorted(found.available_explanations) == ["edge_mask", "node_mask"]
    assert (found.index.tolist(), found.target[found.index].tolist()) == ([3], [1])
    assert float(found.f_input) == result.at_input and float(found.residual) == result.residual
    assert found.explained == "output 1 at node 3"
    assert torch.equal(explanation(result, data, signed=False).edge_mask, found.edge_mask.abs())


def test_masks_of_planted_motifs_are_not_taken_for_what_was_explained() -> None:
    data = plain()
    data.node_mask, data.edge_mask = torch.ones(9), torch.ones(data.edge_index.size(1))
    assert "node_mask" not in explanation(attributed(data, explain="edges"), data)
    assert "edge_mask" not in explanation(attributed(data, explain="x"), data)


def test_a_restricted_result_is_an_explanation_of_the_whole_graph() -> None:
    nodes = 400
    path = torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)])
    x = torch.randn(nodes, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = Data(x=x, edge_index=path)
    result = attributed(data, index=300)
    found = explanation(result, data)
    assert found.validate(raise_on_error=True) and found.index.tolist() == [300]
    assert found.node_mask.abs().sum(1).nonzero().view(-1).tolist() == [298, 299, 300]
    assert found.edge_mask.nonzero().view(-1).tolist() == [298, 299]
    under = explainer(Net(), "phenomenon")(x, path, index=300, target=torch.ones(nodes).long())
    torch.testing.assert_close(under.node_mask, found.node_mask)


def test_masks_per_layer_are_kept_apart_and_summed() -> None:
    data = plain()
    found = explanation(attributed(data, per_layer=True), data)
    assert found.edge_mask_layers.shape == (2, data.num_edges)
    torch.testing.assert_close(found.edge_mask, attributed(data).values["edges"])
    assert found.validate(raise_on_error=True)


def test_pairs_and_graphs_become_explanations() -> None:
    data = plain()
    pair = explanation(attributed(data, Net(level="edge"), level="edge", index=(2, 5)), data)
    assert pair.edge_label_index.tolist() == [[2], [5]] and pair.target.tolist() == [1]
    whole = explanation(attributed(data, Net(level="graph"), level="graph", index=None), data)
    assert "index" not in whole and whole.target.tolist() == [1]


def test_a_heterogeneous_result_becomes_an_explanation() -> None:
    data = library()
    result = attributed(data, HeteroNet(), index=("paper", 1))
    found = explanation(result, data)
    assert isinstance(found, HeteroExplanation) and found.validate(raise_on_error=True)
    assert torch.equal(found["author"].node_mask, result.values["author.x"])
    assert torch.equal(found[CITES].edge_mask, result.values["paper__cites__paper.edges"])
    assert torch.equal(found["paper"].x, data["paper"].x) and found.index.tolist() == [1]
    kept = explanation(result, data, signed=False).get_explanation_subgraph()
    assert kept["author"].num_nodes == 2 and kept[WRITES].num_edges == 2


def test_a_sparse_adjacency_becomes_the_edges_that_the_mask_counts() -> None:
    data = plain()
    ends = data.edge_index.unique(dim=1)
    ones = torch.ones(ends.size(1), dtype=torch.float64)
    sparse = Data(
        x=data.x, adj_t=torch.sparse_coo_tensor(ends.flip(0), ones, (9, 9)).to_sparse_csr()
    )
    found = explanation(attributed(sparse), sparse)
    dense = attributed(Data(x=data.x, edge_index=found.edge_index))
    assert found.validate(raise_on_error=True)
    torch.testing.assert_close(found.edge_mask, dense.values["edges"])


def test_another_graph_or_another_domain_is_an_input_error() -> None:
    data = plain()
    other = Data(x=data.x, edge_index=data.edge_index[:, 1:])
    with pytest.raises(ig.InputError, match=r"rows of 'edges' \(got one with"):
        explanation(attributed(data), other)
    [tensor] = ig.attribute(lambda x: x.sum(1), torch.ones(1, 2))
    with pytest.raises(ig.InputError, match="one of domain 'tensor'"):
        explanation(tensor, data)


def test_pyg_cuts_thresholds_and_draws_what_matters(tmp_path: Any) -> None:
    data = plain()
    found = explanation(attributed(data), data, signed=False)
    sub = found.get_explanation_subgraph()
    assert sub.num_nodes == int((found.node_mask.sum(1) > 0).sum()) < 9
    top = found.threshold("topk", 2)
    assert int((top.edge_mask > 0).sum()) == int((top.node_mask > 0).sum()) == 2
    assert float(top.edge_mask.max()) == float(found.edge_mask.max())
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.visualize_feature_importance(str(tmp_path / "features.png"), ["a", "b", "c"])
    assert (tmp_path / "features.png").stat().st_size > 1000


# -- metrics of PyG -----------------------------------------------------------------------------


class Ballot(nn.Module):
    """Class 0 has 1.5 votes; class 1 has what arrives at the node."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SimpleConv(aggr="sum")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        arrived = self.conv(x, edge_index)
        return torch.cat([torch.full_like(arrived, 1.5), arrived], dim=1)


def votes(edges: Any, **options: Any) -> tuple[Explainer, Any]:
    """Node 0 hears 2, 1 and -1 from nodes 1, 2 and 3."""
    x = torch.tensor([[0.0], [2.0], [1.0], [-1.0]], dtype=torch.float64)
    explains = explainer(Ballot(), signed=False, edge_mask_type=edges, **options)
    return explains, (x, torch.tensor([[1, 2, 3], [0, 0, 0]]))


def test_fidelity_is_that_of_a_hand_computation() -> None:
    """With the strongest edge alone class 1 still wins, 2 to 1.5; without it it loses, 0 to 1.5."""
    explains, given = votes("object", node_mask_type=None)
    explains.threshold_config = ThresholdConfig("topk_hard", 1)
    found = explains(*given, index=0)
    assert found.target.tolist() == [1, 0, 0, 0] and found.edge_mask.tolist() == [1.0, 0.0, 0.0]
    assert fidelity(explains, found) == (1.0, 0.0)
    assert float(characterization_score(torch.tensor(1.0), torch.tensor(0.0))) == 1.0
    weakest = found.clone()
    weakest.edge_mask = torch.tensor([0.0, 0.0, 1.0])
    assert fidelity(explains, weakest) == (0.0, 1.0)


def test_unfaithfulness_is_that_of_a_hand_computation() -> None:
    """The output goes from (1.5, 2) to (1.5, 1) if only the second edge is left."""
    explains, given = votes("object", node_mask_type=None)
    found = explains(*given, index=0)
    torch.testing.assert_close(found.edge_mask, torch.tensor([2.0, 1.0, 1.0]).double())
    found.edge_mask = torch.tensor([0.0, 1.0, 0.0]).double()
    before = torch.tensor([[1.5, 2.0]]).double().softmax(-1)
    after = torch.tensor([[1.5, 1.0]]).double().softmax(-1)
    divergence = (after * (after / before).log()).sum()
    assert unfaithfulness(explains, found) == pytest.approx(float(1 - torch.exp(-divergence)))


def test_metrics_take_a_converted_result() -> None:
    explains, (x, links) = votes("object", node_mask_type=None)
    data = Data(x=x, edge_index=links)
    result = attributed(data, Ballot(), explain="edges", index=0, target=1)
    found = explanation(result, data, signed=False).threshold("topk_hard", 1)
    assert fidelity(explains, found) == (1.0, 0.0)
    assert unfaithfulness(explains, found) == pytest.approx(0.0, abs=0.05)
